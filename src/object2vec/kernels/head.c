/* Scores of pairs of single tokens: rows of two tables, and the head over them. */
#include "kernels.h"

enum { HADAMARD, CONCAT, ABS_DIFF };
enum { TANH, RELU, LINEAR };

/* What the comparators make of u and v, in their order, into out; returns where it ends. */
CLONES float *compare(const int64_t *comparators, int64_t n, const float *restrict u, const float *restrict v, int64_t dim,
                      float *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        if (comparators[i] == CONCAT) {
            memcpy(out, u, (size_t)dim * sizeof *out);
            memcpy(out + dim, v, (size_t)dim * sizeof *out);
            out += 2 * dim;
            continue;
        }
        for (int64_t k = 0; k < dim; k++)
            out[k] = comparators[i] == HADAMARD ? u[k] * v[k] : fabsf(u[k] - v[k]);
        out += dim;
    }
    return out;
}

enum { ROWS = 4 }; /* of a weight at a time: a sum alone waits for itself at each step */

/* Adds to y (outputs,) the products of x (n,) with as many rows of n, `width` apart. */
CLONES void multiply(const float *restrict rows, int64_t width, int64_t outputs, const float *restrict x, int64_t n,
                     float *restrict y)
{
    int64_t r = 0;
    for (; r + ROWS <= outputs; r += ROWS) {
        const float *a = rows + r * width, *b = a + width, *c = b + width, *d = c + width;
        float sum_a = 0, sum_b = 0, sum_c = 0, sum_d = 0;
#pragma omp simd reduction(+ : sum_a, sum_b, sum_c, sum_d)
        for (int64_t k = 0; k < n; k++) {
            sum_a += a[k] * x[k];
            sum_b += b[k] * x[k];
            sum_c += c[k] * x[k];
            sum_d += d[k] * x[k];
        }
        y[r] += sum_a;
        y[r + 1] += sum_b;
        y[r + 2] += sum_c;
        y[r + 3] += sum_d;
    }
    for (; r < outputs; r++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < n; k++)
            sum += rows[r * width + k] * x[k];
        y[r] += sum;
    }
}

static float activated(float x, int64_t activation)
{
    return activation == TANH ? tanhf(x) : activation == RELU && !(x > 0) ? 0 * x : x;
}

/* Tables of a model, (., dim) each, and the head over them. Layer l has weights[l] (widths[l + 1], widths[l]) and
 * biases[l], and all but the last are activated; widths[0] is what the comparators give, of which `concat` gives columns
 * from `joined`, -1 where it is not among them. What the first layer makes of a row there does not depend on the other
 * row, and is kept: that of token t of a side in parts[side] (slots[side], widths[1]), at t % slots[side], if
 * whose[side] (slots[side],) has t there. Token 0 is none. */
struct head {
    const float *tables[2];
    int64_t dim;
    const int64_t *comparators;
    int64_t n;
    const float *const *weights, *const *biases;
    const int64_t *widths;
    int64_t layers, activation, joined, slots[2];
    int32_t *whose[2];
    float *parts[2];
};

/* Adds to y (widths[1],) what the first layer makes of a row of table `side`. */
static void add_part(const struct head *head, int64_t side, int32_t token, float *restrict y)
{
    const int64_t slot = token % head->slots[side], outputs = head->widths[1];
    float *part = head->parts[side] + slot * outputs;
    if (head->whose[side][slot] != token) {
        memset(part, 0, (size_t)outputs * sizeof *part);
        multiply(head->weights[0] + head->joined + side * head->dim, head->widths[0], outputs,
                 head->tables[side] + token * head->dim, head->dim, part);
        head->whose[side][slot] = token;
    }
    for (int64_t r = 0; r < outputs; r++)
        y[r] += part[r];
}

/* The outputs of the head into out (pairs, widths[layers]): pair p is row tokens0[p] of one table with row tokens1[p] of
 * the other. hidden (2, pairs * the largest of widths) is scratch. Weights are read once for all pairs. */
void score_tokens(const struct head *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs, float *hidden,
                  float *out)
{
    const int64_t *widths = head->widths, dim = head->dim;
    int64_t widest = 0;
    for (int64_t l = 0; l < head->layers; l++)
        widest = widths[l] > widest ? widths[l] : widest;
    float *next = hidden + pairs * widest;
    for (int64_t p = 0; p < pairs; p++)
        compare(head->comparators, head->n, head->tables[0] + tokens0[p] * dim, head->tables[1] + tokens1[p] * dim, dim,
                hidden + p * widths[0]);
    for (int64_t l = 0; l < head->layers; l++) {
        const int64_t width = widths[l], outputs = widths[l + 1], last = l + 1 == head->layers;
        const int64_t before = l || head->joined < 0 ? width : head->joined; /* columns, and those after `concat`'s */
        const int64_t after = before < width ? before + 2 * dim : width;
        const float *from = l % 2 ? next : hidden;
        float *to = last ? out : l % 2 ? hidden : next;
        for (int64_t p = 0; p < pairs; p++) {
            memcpy(to + p * outputs, head->biases[l], (size_t)outputs * sizeof *to);
            if (before < width) {
                add_part(head, 0, tokens0[p], to + p * outputs);
                add_part(head, 1, tokens1[p], to + p * outputs);
            }
        }
        for (int64_t r = 0; r < outputs; r += ROWS)
            for (int64_t p = 0; p < pairs; p++) {
                const float *rows = head->weights[l] + r * width, *x = from + p * width;
                const int64_t count = outputs - r < ROWS ? outputs - r : ROWS;
                multiply(rows, width, count, x, before, to + p * outputs + r);
                multiply(rows + after, width, count, x + after, width - after, to + p * outputs + r);
            }
        for (int64_t i = 0; i < pairs * outputs && !last; i++)
            to[i] = activated(to[i], head->activation);
    }
}
