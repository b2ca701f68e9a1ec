/* Scores of pairs of single tokens by any head, without gradients. */
#include "kernels.h"

enum { HADAMARD, CONCAT, ABS_DIFF, COSINE };
enum { TANH, RELU, LINEAR };

/* Returns the cosine of u and v, 0 if one of them is zeros. */
static float cosine(const float *u, const float *v, int64_t dim)
{
    const float tiny = 1e-30f; /* TINY_SQUARE of scoring.py */
    const float squares[] = {dot(u, u, dim), dot(v, v, dim)};
    float scale = 1;
    for (int side = 0; side < 2; side++)
        scale *= squares[side] <= tiny ? 0 : 1 / sqrtf(squares[side]); /* NaN stays NaN */
    return dot(u, v, dim) * scale;
}

/* Writes the comparators of u and v to out, in order. */
NOINLINE void apply_comparators(const int64_t *comparators, int64_t n, const float *restrict u,
                                const float *restrict v, int64_t dim, float *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        if (comparators[i] == CONCAT) {
            memcpy(out, u, (size_t)dim * sizeof *out);
            memcpy(out + dim, v, (size_t)dim * sizeof *out);
            out += 2 * dim;
            continue;
        }
        if (comparators[i] == COSINE) {
            *out++ = cosine(u, v, dim);
            continue;
        }
        for (int64_t k = 0; k < dim; k++)
            out[k] = comparators[i] == HADAMARD ? u[k] * v[k] : fabsf(u[k] - v[k]);
        out += dim;
    }
}

enum { ROWS = 8 }; /* rows of a weight at a time, so that sums are loaded less often */

/* Adds to y (pairs, outputs) the products of x (pairs, n), with rows `width` apart, with weights (n, outputs). */
NOINLINE void add_matmul(const float *restrict weights, int64_t n, int64_t outputs, const float *restrict x,
                         int64_t width, int64_t pairs, float *restrict y)
{
    int64_t k = 0;
    for (; k + ROWS <= n; k += ROWS)
        for (int64_t p = 0; p < pairs; p++) {
            const float *a = x + p * width + k, *w = weights + k * outputs;
            float *sum = y + p * outputs;
            for (int64_t r = 0; r < outputs; r++)
                sum[r] +=
                    ((a[0] * w[r] + a[1] * w[r + outputs]) + (a[2] * w[r + 2 * outputs] + a[3] * w[r + 3 * outputs])) +
                    ((a[4] * w[r + 4 * outputs] + a[5] * w[r + 5 * outputs]) +
                     (a[6] * w[r + 6 * outputs] + a[7] * w[r + 7 * outputs]));
        }
    for (; k < n; k++)
        for (int64_t p = 0; p < pairs; p++)
            for (int64_t r = 0; r < outputs; r++)
                y[p * outputs + r] += x[p * width + k] * weights[k * outputs + r];
}

NOINLINE void activate(float *x, int64_t n, int64_t activation)
{
    if (activation == TANH)
        for (int64_t i = 0; i < n; i++)
            x[i] = fast_tanh(x[i]);
    if (activation == RELU)
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] > 0 ? x[i] : 0 * x[i];
}

/* Adds to y (widths[1]) the first layer's output for a row of table `side`, which it caches. */
static void add_concat_part(const ScoringHead *head, int64_t side, int32_t token, float *restrict y)
{
    const int64_t slot = token % head->cache_rows[side], outputs = head->widths[1];
    float *part = head->cached_parts[side] + slot * outputs;
    if (head->cached_tokens[side][slot] != token) {
        const Table *table = &head->tables[side];
        const int64_t dim = table->dim;
        float buffer[MAX_DIM];
        memset(part, 0, (size_t)outputs * sizeof *part);
        add_matmul(head->weights[0] + (head->concat_column + side * dim) * outputs, dim, outputs,
                   table_row(table, token, buffer), dim, 1, part);
        head->cached_tokens[side][slot] = token;
    }
    for (int64_t r = 0; r < outputs; r++)
        y[r] += part[r];
}

/* Replaces x (n) by its softmax. */
static void softmax(float *x, int64_t n)
{
    float highest = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        highest = x[i] > highest ? x[i] : highest;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - highest);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* Does what score_tokens does, for block_pairs pairs at most. Weights are read once for all of them. */
static void score_block(const ScoringHead *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs,
                        float *out)
{
    const int64_t *widths = head->widths, dim = head->tables[0].dim;
    float *hidden = head->scratch[0], *next = head->scratch[1];
    for (int64_t p = 0; p < pairs; p++) {
        float buffer[2][MAX_DIM];
        const float *u = table_row(&head->tables[0], tokens0[p], buffer[0]),
                    *v = table_row(&head->tables[1], tokens1[p], buffer[1]);
        apply_comparators(head->comparators, head->comparator_count, u, v, dim, hidden + p * widths[0]);
    }
    for (int64_t l = 0; l < head->layers; l++) {
        const int64_t width = widths[l], outputs = widths[l + 1], last = l + 1 == head->layers;
        const int64_t before =
            l || head->concat_column < 0 ? width : head->concat_column; /* columns before and after those of `concat` */
        const int64_t after = before < width ? before + 2 * dim : width;
        const float *from = l % 2 ? next : hidden;
        float *to = last ? out : l % 2 ? hidden : next;
        for (int64_t p = 0; p < pairs; p++) {
            memcpy(to + p * outputs, head->biases[l], (size_t)outputs * sizeof *to);
            for (int side = 0; before < width && side < 2; side++)
                add_concat_part(head, side, (side ? tokens1 : tokens0)[p], to + p * outputs);
        }
        add_matmul(head->weights[l], before, outputs, from, width, pairs, to);
        add_matmul(head->weights[l] + after * outputs, width - after, outputs, from + after, width, pairs, to);
        if (!last)
            activate(to, pairs * outputs, head->activation);
    }
    for (int64_t p = 0; p < pairs && head->softmax; p++)
        softmax(out + p * widths[head->layers], widths[head->layers]);
}

KERNEL(void, score_tokens)(const ScoringHead *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs,
                           float *out)
{
    for (int64_t p = 0; p < pairs; p += head->block_pairs) {
        const int64_t left = pairs - p;
        score_block(head, tokens0 + p, tokens1 + p, left < head->block_pairs ? left : head->block_pairs,
                    out + p * head->widths[head->layers]);
    }
}
