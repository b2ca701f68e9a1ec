/* Scores of pairs straight from the encodings of their objects, for networks without a feed-forward layer: nothing of
 * the size of pairs by encoding is made.
 *
 * Pair p is object left[p] of u (n0, dim) with object right[p] of v (n1, dim). The score of class c is
 *     bias[c] + sum over k of  h u v + l u + r v + d |u - v|
 * where weight (classes, 4, dim) holds h, l, r and d. */
#include "kernels.h"

CLONES void score_one(const float *restrict u, const float *restrict v, const float *restrict weight, int64_t classes,
                      int64_t dim, const float *restrict bias, float *restrict out)
{
    enum { LANES = 16 }; /* sums side by side, so that compilers make vector code without reordering a sum */
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict h = weight + c * 4 * dim, *restrict l = h + dim, *restrict r = l + dim, *restrict d = r + dim;
        float sums[LANES] = {0}, sum = bias[c];
        int64_t k = 0;
        for (; k + LANES <= dim; k += LANES)
            for (int64_t i = 0; i < LANES; i++)
                sums[i] += (h[k + i] * v[k + i] + l[k + i]) * u[k + i] + r[k + i] * v[k + i] +
                           d[k + i] * fabsf(u[k + i] - v[k + i]);
        for (; k < dim; k++)
            sum += (h[k] * v[k] + l[k]) * u[k] + r[k] * v[k] + d[k] * fabsf(u[k] - v[k]);
        for (int64_t i = 0; i < LANES; i++)
            sum += sums[i];
        out[c] = sum;
    }
}

void score_pairs(const float *u, const float *v, const int64_t *left, const int64_t *right, int64_t pairs,
                 const float *weight, const float *bias, int64_t classes, int64_t dim, float *out)
{
#pragma omp parallel for schedule(static) if (pairs > 64)
    for (int64_t p = 0; p < pairs; p++)
        score_one(u + left[p] * dim, v + right[p] * dim, weight, classes, dim, bias, out + p * classes);
}

/* Adds to d_u what one pair gives it. */
CLONES void gradient_one(const float *restrict u, const float *restrict v, const float *restrict weight,
                         const float *restrict slope, int64_t classes, int64_t dim, int64_t linear,
                         float *restrict d_u)
{
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict h = weight + c * 4 * dim, *restrict l = h + linear * dim, *restrict d = h + 3 * dim;
        const float s = slope[c];
        for (int64_t k = 0; k < dim; k++) {
            const float apart = u[k] - v[k];
            d_u[k] += s * (h[k] * v[k] + l[k] + (apart > 0 ? d[k] : apart < 0 ? -d[k] : 0.0f));
        }
    }
}

CLONES void weight_one(const float *restrict u, const float *restrict v, const float *restrict slope, int64_t classes,
                       int64_t dim, float *restrict d_weight)
{
    for (int64_t c = 0; c < classes; c++) {
        float *restrict h = d_weight + c * 4 * dim, *restrict l = h + dim, *restrict r = l + dim, *restrict d = r + dim;
        const float s = slope[c];
        for (int64_t k = 0; k < dim; k++) {
            h[k] += s * u[k] * v[k];
            l[k] += s * u[k];
            r[k] += s * v[k];
            d[k] += s * fabsf(u[k] - v[k]);
        }
    }
}

/* The gradient of the objects of one side, d_u, zeros before: object rows[r] of u is in the pairs
 * places[starts[r]:starts[r + 1]], and its partner in pair p is partner[p] of v. linear is 1 for the left side and 2 for the right one. slope (pairs, classes) is
 * the gradient of the scores. */
void score_pairs_backward(const float *u, const float *v, const int64_t *rows, int64_t n, const int64_t *starts,
                          const int64_t *places, const int64_t *partner, const float *slope, const float *weight,
                          int64_t classes, int64_t dim, int64_t linear, float *d_u)
{
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = starts[r]; j < starts[r + 1]; j++)
            gradient_one(u + rows[r] * dim, v + partner[places[j]] * dim, weight, slope + places[j] * classes, classes,
                         dim, linear, d_u + rows[r] * dim);
}

/* The gradient of weight from `parts` runs of pairs, each into its own d_weight (parts, classes, 4, dim), zeros before. */
void score_pairs_weight(const float *u, const float *v, const int64_t *left, const int64_t *right, int64_t pairs,
                        const float *slope, int64_t classes, int64_t dim, int64_t parts, float *d_weight)
{
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++)
        for (int64_t p = pairs * part / parts; p < pairs * (part + 1) / parts; p++)
            weight_one(u + left[p] * dim, v + right[p] * dim, slope + p * classes, classes, dim,
                       d_weight + part * classes * 4 * dim);
}
