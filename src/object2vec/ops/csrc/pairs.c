/* Scores of pairs by a linear layer over comparators, and their gradients. See score_pairs in api.h for the terms. */
#include "kernels.h"

typedef struct {
    const float *weight;
    int64_t classes, dim, width;
    const int64_t *term_columns;
} LinearHead;

#define term_weights(weights, head, c, term) \
    ((head)->term_columns[term] < 0 ? NULL : (weights) + (c) * (head)->width + (head)->term_columns[term])

NOINLINE void score_pair(const LinearHead *head, const float *restrict u, const float *restrict v,
                         const float *restrict bias, float *restrict out)
{
    const int64_t dim = head->dim;
    for (int64_t c = 0; c < head->classes; c++) {
        const float *restrict h = term_weights(head->weight, head, c, TERM_PRODUCT);
        const float *restrict l = term_weights(head->weight, head, c, TERM_LEFT);
        const float *restrict r = term_weights(head->weight, head, c, TERM_RIGHT);
        const float *restrict d = term_weights(head->weight, head, c, TERM_ABS_DIFF);
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
                          const float *weight, int64_t classes, int64_t dim, int64_t width, const int64_t *term_columns,
                          const float *bias, float *out)
{
    const LinearHead head = {weight, classes, dim, width, term_columns};
#pragma omp parallel for schedule(static) if (pairs > 64)
    for (int64_t p = 0; p < pairs; p++)
        score_pair(&head, u + left[p] * dim, v + right[p] * dim, bias, out + p * classes);
}

/* Adds the gradient of one row u of its n pairs to d_u, and to d_weight if u is on the left side. Everything that is
 * linear in the partners v uses their sum, weighted with the gradients of the scores. sums (dim) is scratch. */
NOINLINE void backward_object(const LinearHead *head, int left, const float *restrict u, const float *partners,
                              const int64_t *partner_index, const int64_t *order, int64_t n, const float *grad,
                              float *restrict sums, float *restrict d_u, float *restrict d_weight)
{
    const int64_t dim = head->dim;
    for (int64_t c = 0; c < head->classes; c++) {
        const float *restrict h = term_weights(head->weight, head, c, TERM_PRODUCT);
        const float *restrict own = term_weights(head->weight, head, c, left ? TERM_LEFT : TERM_RIGHT);
        const float *restrict d = term_weights(head->weight, head, c, TERM_ABS_DIFF);
        float *restrict d_h = left ? term_weights(d_weight, head, c, TERM_PRODUCT) : NULL;
        float *restrict d_l = left ? term_weights(d_weight, head, c, TERM_LEFT) : NULL;
        float *restrict d_r = left ? term_weights(d_weight, head, c, TERM_RIGHT) : NULL;
        float *restrict d_d = left ? term_weights(d_weight, head, c, TERM_ABS_DIFF) : NULL;
        float total = 0;
        memset(sums, 0, (size_t)dim * sizeof *sums);
        for (int64_t j = 0; j < n; j++) {
            const float *restrict v = partners + partner_index[order[j]] * dim;
            const float s = grad[order[j] * head->classes + c];
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

/* Sorts pairs by the object of one side, object_index (pairs): those of object r, of n, become
 * order[starts[r]:starts[r + 1]], ascending. starts is (n + 1). */
static void sort_by_object(const int64_t *object_index, int64_t pairs, int64_t n, int64_t *starts, int64_t *order)
{
    memset(starts, 0, (size_t)(n + 1) * sizeof *starts);
    for (int64_t p = 0; p < pairs; p++)
        starts[object_index[p]]++;
    for (int64_t r = 1; r <= n; r++)
        starts[r] += starts[r - 1]; /* the end of r's pairs */
    for (int64_t p = pairs - 1; p >= 0; p--)
        order[--starts[object_index[p]]] = p;
}

KERNEL(void, score_pairs_backward)(int64_t is_left, const float *u, int64_t n, const float *partners,
                                   const int64_t *object_index, const int64_t *partner_index, int64_t pairs,
                                   const float *grad, const float *weight, int64_t classes, int64_t dim, int64_t width,
                                   const int64_t *term_columns, int64_t shards, float *sums, int64_t *starts,
                                   int64_t *order, float *d_u, float *d_weight)
{
    const LinearHead head = {weight, classes, dim, width, term_columns};
    sort_by_object(object_index, pairs, n, starts, order);
#pragma omp parallel for schedule(static)
    for (int64_t shard = 0; shard < shards; shard++)
        for (int64_t r = n * shard / shards; r < n * (shard + 1) / shards; r++)
            backward_object(&head, is_left != 0, u + r * dim, partners, partner_index, order + starts[r],
                            starts[r + 1] - starts[r], grad, sums + shard * dim, d_u + r * dim,
                            d_weight + shard * classes * width);
}
