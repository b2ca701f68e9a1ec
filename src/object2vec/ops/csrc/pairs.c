/* Scores of pairs: pair p is object left[p] of u (., dim) with object right[p] of v (., dim), and its score of class c is
 *     bias[c] + sum over k of  h u v + l u + r v + d |u - v|
 * where h, l, r and d stand in row c of weight (classes, width) from the columns at[PRODUCT] to at[APART] on; a column
 * below 0 says that there is none. */
#include "kernels.h"

typedef struct {
    const float *weight;
    int64_t classes, dim, width;
    const int64_t *at;
} Output;

#define of_term(weights, output, c, term)                                                                               \
    ((output)->at[term] < 0 ? NULL : (weights) + (c) * (output)->width + (output)->at[term])

ALONE void score_one(const Output *output, const float *restrict u, const float *restrict v,
                      const float *restrict bias, float *restrict out)
{
    const int64_t dim = output->dim;
    for (int64_t c = 0; c < output->classes; c++) {
        const float *restrict h = of_term(output->weight, output, c, PRODUCT);
        const float *restrict l = of_term(output->weight, output, c, LEFT);
        const float *restrict r = of_term(output->weight, output, c, RIGHT);
        const float *restrict d = of_term(output->weight, output, c, APART);
        float sum = 0;
        if (h)
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < dim; k++)
                sum += h[k] * u[k] * v[k];
        if (l)
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < dim; k++)
                sum += l[k] * u[k] + r[k] * v[k];
        if (d)
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < dim; k++)
                sum += d[k] * fabsf(u[k] - v[k]);
        out[c] = bias[c] + sum;
    }
}

KERNEL(void, score_pairs)(const float *u, const float *v, const int64_t *left, const int64_t *right, int64_t pairs,
                 const float *weight, int64_t classes, int64_t dim, int64_t width, const int64_t *at, const float *bias,
                 float *out)
{
    const Output output = {weight, classes, dim, width, at};
#pragma omp parallel for schedule(static) if (pairs > 64)
    for (int64_t p = 0; p < pairs; p++)
        score_one(&output, u + left[p] * dim, v + right[p] * dim, bias, out + p * classes);
}

/* What one object u gets from its n pairs, added to d_u and, if it is the left one of them, to d_weight. All that is
 * linear in its partners v goes by their sum, weighted with the slopes; sums (dim) is scratch. */
ALONE void gradient_one(const Output *output, int left, const float *restrict u, const float *others,
                         const int64_t *partner, const int64_t *places, int64_t n, const float *slope,
                         float *restrict sums, float *restrict d_u, float *restrict d_weight)
{
    const int64_t dim = output->dim;
    for (int64_t c = 0; c < output->classes; c++) {
        const float *restrict h = of_term(output->weight, output, c, PRODUCT);
        const float *restrict own = of_term(output->weight, output, c, left ? LEFT : RIGHT);
        const float *restrict d = of_term(output->weight, output, c, APART);
        float *restrict d_h = left ? of_term(d_weight, output, c, PRODUCT) : NULL;
        float *restrict d_l = left ? of_term(d_weight, output, c, LEFT) : NULL;
        float *restrict d_r = left ? of_term(d_weight, output, c, RIGHT) : NULL;
        float *restrict d_d = left ? of_term(d_weight, output, c, APART) : NULL;
        float total = 0;
        memset(sums, 0, (size_t)dim * sizeof *sums);
        for (int64_t j = 0; j < n; j++) {
            const float *restrict v = others + partner[places[j]] * dim;
            const float s = slope[places[j] * output->classes + c];
            total += s;
            for (int64_t k = 0; k < dim; k++)
                sums[k] += s * v[k];
            if (!d)
                continue;
            for (int64_t k = 0; k < dim; k++) {
                const float by = u[k] - v[k];
                d_u[k] += s * (by > 0 ? d[k] : by < 0 ? -d[k] : 0.0f);
            }
            for (int64_t k = 0; d_d && k < dim; k++)
                d_d[k] += s * fabsf(u[k] - v[k]);
        }
        for (int64_t k = 0; h && k < dim; k++)
            d_u[k] += h[k] * sums[k];
        for (int64_t k = 0; own && k < dim; k++)
            d_u[k] += own[k] * total;
        for (int64_t k = 0; d_h && k < dim; k++)
            d_h[k] += u[k] * sums[k];
        for (int64_t k = 0; d_l && k < dim; k++) {
            d_l[k] += u[k] * total;
            d_r[k] += sums[k];
        }
    }
}

/* Sorts pairs by the object that each has of a side, mine (pairs): those of object r, of n, become
 * places[starts[r]:starts[r + 1]], ascending. starts is (n + 1). */
static void by_object(const int64_t *mine, int64_t pairs, int64_t n, int64_t *starts, int64_t *places)
{
    memset(starts, 0, (size_t)(n + 1) * sizeof *starts);
    for (int64_t p = 0; p < pairs; p++)
        starts[mine[p]]++;
    for (int64_t r = 0, at = 0; r <= n; r++) {
        at += starts[r];
        starts[r] = at; /* where those of r end */
    }
    for (int64_t p = pairs - 1; p >= 0; p--)
        places[--starts[mine[p]]] = p;
}

/* The gradients of the n objects u of one side into d_u (n, dim), and if it is the left one that of weight, in `parts`
 * sums d_weight (parts, classes, width), both zeros before. Pair p has object mine[p] of u, and partner[p] of the other
 * side's `others`; slope (pairs, classes) is the gradient of the scores. sums (parts, dim), starts (n + 1) and places
 * (pairs) are scratch. */
KERNEL(void, score_pairs_backward)(int64_t left, const float *u, int64_t n, const float *others, const int64_t *mine,
                          const int64_t *partner, int64_t pairs, const float *slope, const float *weight,
                          int64_t classes, int64_t dim, int64_t width, const int64_t *at, int64_t parts, float *sums,
                          int64_t *starts, int64_t *places, float *d_u, float *d_weight)
{
    const Output output = {weight, classes, dim, width, at};
    by_object(mine, pairs, n, starts, places);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++)
        for (int64_t r = n * part / parts; r < n * (part + 1) / parts; r++)
            gradient_one(&output, left != 0, u + r * dim, others, partner, places + starts[r], starts[r + 1] - starts[r],
                         slope, sums + part * dim, d_u + r * dim, d_weight + part * classes * width);
}
