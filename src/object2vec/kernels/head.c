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

CLONES float product(const float *restrict a, const float *restrict b, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++)
        sum += a[k] * b[k];
    return sum;
}

static float activated(float x, int64_t activation)
{
    return activation == TANH ? tanhf(x) : activation == RELU && !(x > 0) ? 0 * x : x;
}

/* The outputs of the head into out (pairs, widths[layers]): pair p is row tokens0[p] of table0 with row tokens1[p] of
 * table1, both (., dim). Layer l has weights[l] (widths[l + 1], widths[l]) and biases[l], and all but the last are
 * activated; widths[0] is what the comparators give. hidden (2, pairs * the largest of widths) is scratch. A row of a weight
 * is read once for all pairs. */
void score_tokens(const float *table0, const float *table1, int64_t dim, const int32_t *tokens0, const int32_t *tokens1,
                  int64_t pairs, const int64_t *comparators, int64_t n, const float *const *weights,
                  const float *const *biases, const int64_t *widths, int64_t layers, int64_t activation, float *hidden,
                  float *out)
{
    int64_t widest = 0;
    for (int64_t l = 0; l < layers; l++)
        widest = widths[l] > widest ? widths[l] : widest;
    float *next = hidden + pairs * widest;
    for (int64_t p = 0; p < pairs; p++)
        compare(comparators, n, table0 + tokens0[p] * dim, table1 + tokens1[p] * dim, dim, hidden + p * widths[0]);
    for (int64_t l = 0; l < layers; l++) {
        float *from = l % 2 ? next : hidden, *to = l + 1 == layers ? out : l % 2 ? hidden : next;
        for (int64_t r = 0; r < widths[l + 1]; r++)
            for (int64_t p = 0; p < pairs; p++) {
                const float x = product(weights[l] + r * widths[l], from + p * widths[l], widths[l]) + biases[l][r];
                to[p * widths[l + 1] + r] = l + 1 < layers ? activated(x, activation) : x;
            }
    }
}
