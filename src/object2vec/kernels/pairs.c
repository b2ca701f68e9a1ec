/* Scores of pairs: pair p is object left[p] of u (., dim) with object right[p] of v (., dim), and its score of class c is
 *     bias[c] + sum over k of  h u v + l u + r v + d |u - v|
 * where weight (classes, 4, dim) holds h, l, r and d. linear says whether any l or r is not 0, apart whether any d is. */
#include "kernels.h"

typedef struct {
    const float *weight;
    int64_t classes, dim, linear, apart;
} Output;

CLONES void score_one(const Output *output, const float *restrict u, const float *restrict v,
                      const float *restrict bias, float *restrict out)
{
    enum { LANES = 16 }; /* sums side by side, so that compilers make vector code without reordering a sum */
    const int64_t dim = output->dim, whole = dim - dim % LANES;
    for (int64_t c = 0; c < output->classes; c++) {
        const float *restrict h = output->weight + c * 4 * dim;
        const float *restrict l = h + dim, *restrict r = l + dim, *restrict d = r + dim;
        float sums[LANES] = {0}, sum = bias[c];
#define SUM(term)                                                                                                       \
    for (int64_t at = 0; at < whole; at += LANES)                                                                       \
        for (int64_t i = 0, k = at; i < LANES; i++, k++)                                                                \
            sums[i] += term;                                                                                            \
    for (int64_t k = whole; k < dim; k++)                                                                               \
    sum += term
        SUM(h[k] * u[k] * v[k]);
        if (output->linear) {
            SUM(l[k] * u[k] + r[k] * v[k]);
        }
        if (output->apart) {
            SUM(d[k] * fabsf(u[k] - v[k]));
        }
#undef SUM
        for (int64_t i = 0; i < LANES; i++)
            sum += sums[i];
        out[c] = sum;
    }
}

void score_pairs(const float *u, const float *v, const int64_t *left, const int64_t *right, int64_t pairs,
                 const float *weight, int64_t classes, int64_t dim, int64_t linear, int64_t apart, const float *bias,
                 float *out)
{
    const Output output = {weight, classes, dim, linear, apart};
#pragma omp parallel for schedule(static) if (pairs > 64)
    for (int64_t p = 0; p < pairs; p++)
        score_one(&output, u + left[p] * dim, v + right[p] * dim, bias, out + p * classes);
}

/* What one object u gets from its n pairs, added to d_u and d_weight; left tells which side of a pair it is. All that is
 * linear in its partners v goes by their sum, weighted with the slopes; sums (dim) is scratch. */
CLONES void gradient_one(const Output *output, int left, const float *restrict u, const float *others,
                         const int64_t *partner, const int64_t *places, int64_t n, const float *slope,
                         float *restrict sums, float *restrict d_u, float *restrict d_weight)
{
    const int64_t dim = output->dim;
    for (int64_t c = 0; c < output->classes; c++) {
        const float *restrict h = output->weight + c * 4 * dim;
        const float *restrict own = h + (left ? 1 : 2) * dim, *restrict d = h + 3 * dim;
        float *restrict d_h = d_weight + c * 4 * dim, *restrict d_l = d_h + dim;
        float *restrict d_r = d_l + dim, *restrict d_d = d_r + dim;
        float total = 0;
        memset(sums, 0, (size_t)dim * sizeof *sums);
        for (int64_t j = 0; j < n; j++) {
            const float *restrict v = others + partner[places[j]] * dim;
            const float s = slope[places[j] * output->classes + c];
            total += s;
            for (int64_t k = 0; k < dim; k++)
                sums[k] += s * v[k];
            if (!output->apart)
                continue;
            for (int64_t k = 0; k < dim; k++) {
                const float by = u[k] - v[k];
                d_u[k] += s * (by > 0 ? d[k] : by < 0 ? -d[k] : 0.0f);
            }
            for (int64_t k = 0; left && k < dim; k++)
                d_d[k] += s * fabsf(u[k] - v[k]);
        }
        for (int64_t k = 0; k < dim; k++)
            d_u[k] += h[k] * sums[k];
        for (int64_t k = 0; output->linear && k < dim; k++)
            d_u[k] += own[k] * total;
        for (int64_t k = 0; left && k < dim; k++)
            d_h[k] += u[k] * sums[k];
        for (int64_t k = 0; left && output->linear && k < dim; k++) {
            d_l[k] += u[k] * total;
            d_r[k] += sums[k];
        }
    }
}

/* The gradients of the objects of one side, d_u, zeros before, and if it is the left one of weight, in `parts` sums
 * d_weight (parts, classes, 4, dim), zeros before: object rows[r] of u is in the pairs places[starts[r]:starts[r + 1]],
 * and its partner in pair p is partner[p] of v. slope (pairs, classes) is the gradient of the scores; sums (parts, dim) is
 * scratch. */
void score_pairs_backward(int64_t left, const float *u, const float *v, const int64_t *rows, int64_t n,
                          const int64_t *starts, const int64_t *places, const int64_t *partner, const float *slope,
                          const float *weight, int64_t classes, int64_t dim, int64_t linear, int64_t apart,
                          int64_t parts, float *sums, float *d_u, float *d_weight)
{
    const Output output = {weight, classes, dim, linear, apart};
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++)
        for (int64_t r = n * part / parts; r < n * (part + 1) / parts; r++)
            gradient_one(&output, left != 0, u + rows[r] * dim, v, partner, places + starts[r], starts[r + 1] - starts[r],
                         slope, sums + part * dim, d_u + rows[r] * dim, d_weight + part * classes * 4 * dim);
}
