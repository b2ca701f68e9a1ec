/* Maxima of columns over the rows of segments. */
#include "kernels.h"

NOINLINE void segment_max_one(const float *restrict x, int64_t dim, const int64_t *rows, int64_t n,
                              float *restrict maxima, int32_t *restrict argmax)
{
    for (int64_t k = 0; k < dim; k++) {
        maxima[k] = n ? x[rows[0] * dim + k] : 0.0f;
        argmax[k] = n ? (int32_t)rows[0] : -1;
    }
    for (int64_t j = 1; j < n; j++) {
        const float *restrict row = x + rows[j] * dim;
        const int32_t number = (int32_t)rows[j];
        for (int64_t k = 0; k < dim; k++) { /* no comparison with NaN is true, so a maximum of NaN stays */
            const int larger = (row[k] > maxima[k]) | (row[k] != row[k]);
            argmax[k] = larger ? number : argmax[k];
            maxima[k] = larger ? row[k] : maxima[k];
        }
    }
}

KERNEL(void, segment_max)(const float *x, int64_t dim, const int64_t *rows, const int64_t *starts, int64_t n,
                          float *maxima, int32_t *argmax)
{
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t s = 0; s < n; s++)
        segment_max_one(x, dim, rows + starts[s], starts[s + 1] - starts[s], maxima + s * dim, argmax + s * dim);
}
