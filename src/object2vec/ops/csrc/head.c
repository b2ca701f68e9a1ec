/* Scores of pairs of single tokens: rows of two tables, and the head over them. */
#include "kernels.h"

enum { HADAMARD, CONCAT, ABS_DIFF };
enum { TANH, RELU, LINEAR };

/* What the comparators make of u and v, in their order, into out; returns where it ends. */
ALONE float *compare(const int64_t *comparators, int64_t n, const float *restrict u, const float *restrict v, int64_t dim,
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

enum { ROWS = 8 }; /* of a weight at a time, so that sums are loaded and stored less often than weights */

/* Adds to y (pairs, outputs) the products of x (pairs, n), `width` apart, with weights (n, outputs), which are read once
 * and as they lie. */
ALONE void multiply(const float *restrict weights, int64_t n, int64_t outputs, const float *restrict x, int64_t width,
                     int64_t pairs, float *restrict y)
{
    int64_t k = 0;
    for (; k + ROWS <= n; k += ROWS)
        for (int64_t p = 0; p < pairs; p++) {
            const float *a = x + p * width + k, *w = weights + k * outputs;
            float *sum = y + p * outputs;
            for (int64_t r = 0; r < outputs; r++)
                sum[r] += ((a[0] * w[r] + a[1] * w[r + outputs]) + (a[2] * w[r + 2 * outputs] + a[3] * w[r + 3 * outputs])) +
                          ((a[4] * w[r + 4 * outputs] + a[5] * w[r + 5 * outputs]) +
                           (a[6] * w[r + 6 * outputs] + a[7] * w[r + 7 * outputs]));
        }
    for (; k < n; k++)
        for (int64_t p = 0; p < pairs; p++)
            for (int64_t r = 0; r < outputs; r++)
                y[p * outputs + r] += x[p * width + k] * weights[k * outputs + r];
}

/* tanh within 3e-7, a quotient of polynomials: what is a call for each number otherwise. Beyond LIMIT it is 1. */
static inline float tanh_of(float x)
{
    const float limit = 7.90531110763549805f;
    const float a = x > limit ? limit : x < -limit ? -limit : x, b = a * a; /* no number stays none */
    const float p = ((((((-2.76076847742355e-16f * b + 2.00018790482477e-13f) * b - 8.60467152213735e-11f) * b +
                        5.12229709037114e-08f) * b + 1.48572235717979e-05f) * b + 6.37261928875436e-04f) * b +
                     4.89352455891786e-03f) * a;
    const float q = ((1.19825839466702e-06f * b + 1.18534705686654e-04f) * b + 2.26843463243900e-03f) * b +
                    4.89352518554385e-03f;
    return p / q;
}

ALONE void activate(float *x, int64_t n, int64_t activation)
{
    if (activation == TANH)
        for (int64_t i = 0; i < n; i++)
            x[i] = tanh_of(x[i]);
    if (activation == RELU)
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] > 0 ? x[i] : 0 * x[i];
}

/* Tables of a model, as wide as one another, and the head over them. Layer l has weights[l] (widths[l], widths[l + 1]) and
 * biases[l], and all but the last are activated; widths[0] is what the comparators give, of which `concat` gives columns
 * from `joined`, -1 where it is not among them. What the first layer makes of a row there does not depend on the other
 * row, and is kept: that of token t of a side in parts[side] (slots[side], widths[1]), at t % slots[side], if
 * whose[side] (slots[side],) has t there. Token 0 is none. hidden is scratch: (2, `together` * the largest of widths). */
typedef struct {
    Table tables[2];
    const int64_t *comparators;
    int64_t n;
    const float *const *weights, *const *biases;
    const int64_t *widths;
    int64_t layers, activation, joined, slots[2];
    int32_t *whose[2];
    float *parts[2];
    int64_t softmax, together;
    float *hidden;
} Head;
EXPORT_SIZE(Head)

/* Adds to y (widths[1],) what the first layer makes of a row of table `side`. */
static void add_part(const Head *head, int64_t side, int32_t token, float *restrict y)
{
    const int64_t slot = token % head->slots[side], outputs = head->widths[1];
    float *part = head->parts[side] + slot * outputs;
    if (head->whose[side][slot] != token) {
        const Table *table = &head->tables[side];
        const int64_t dim = table->dim;
        float room[MOST_DIM];
        memset(part, 0, (size_t)outputs * sizeof *part);
        multiply(head->weights[0] + (head->joined + side * dim) * outputs, dim, outputs, row_of(table, token, room), dim, 1,
                 part);
        head->whose[side][slot] = token;
    }
    for (int64_t r = 0; r < outputs; r++)
        y[r] += part[r];
}

/* Makes probabilities of x (n,). */
static void to_probabilities(float *x, int64_t n)
{
    float highest = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        highest = x[i] > highest ? x[i] : highest;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - highest);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* As score_tokens, of `together` pairs at most. Weights are read once for all of them. */
static void score_together(const Head *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs,
                           float *out)
{
    const int64_t *widths = head->widths, dim = head->tables[0].dim;
    int64_t widest = 0;
    for (int64_t l = 0; l < head->layers; l++)
        widest = widths[l] > widest ? widths[l] : widest;
    float *hidden = head->hidden, *next = hidden + pairs * widest;
    for (int64_t p = 0; p < pairs; p++) {
        float room[2][MOST_DIM];
        const float *u = row_of(&head->tables[0], tokens0[p], room[0]), *v = row_of(&head->tables[1], tokens1[p], room[1]);
        compare(head->comparators, head->n, u, v, dim, hidden + p * widths[0]);
    }
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
        multiply(head->weights[l], before, outputs, from, width, pairs, to);
        multiply(head->weights[l] + after * outputs, width - after, outputs, from + after, width, pairs, to);
        if (!last)
            activate(to, pairs * outputs, head->activation);
    }
    for (int64_t p = 0; p < pairs && head->softmax; p++)
        to_probabilities(out + p * widths[head->layers], widths[head->layers]);
}

/* The scores of the head into out (pairs, widths[layers]): pair p is row tokens0[p] of one table with row tokens1[p] of
 * the other. One call at a time: it writes into what the head keeps. */
KERNEL(void, score_tokens)(const Head *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs, float *out)
{
    for (int64_t p = 0; p < pairs; p += head->together) {
        const int64_t left = pairs - p;
        score_together(head, tokens0 + p, tokens1 + p, left < head->together ? left : head->together,
                       out + p * head->widths[head->layers]);
    }
}
