/* The maximum of each column over the rows of a segment. Rows lie in x (m, dim); segment s has the rows
 * rows[starts[s]:starts[s + 1]]. */
#include "kernels.h"

ALONE void maximum_one(const float *restrict x, int64_t dim, const int64_t *rows, int64_t n, float *restrict highest,
                        int32_t *restrict where)
{
    for (int64_t k = 0; k < dim; k++) {
        highest[k] = n ? x[rows[0] * dim + k] : 0.0f;
        where[k] = n ? (int32_t)rows[0] : -1;
    }
    for (int64_t j = 1; j < n; j++) {
        const float *restrict row = x + rows[j] * dim;
        const int32_t number = (int32_t)rows[j];
        for (int64_t k = 0; k < dim; k++) { /* no comparison with NaN is true, so a maximum of NaN stays */
            const int larger = (row[k] > highest[k]) | (row[k] != row[k]);
            where[k] = larger ? number : where[k];
            highest[k] = larger ? row[k] : highest[k];
        }
    }
}

/* The maxima of n segments into highest (n, dim), and the rows that have them into where (n, dim), the first of equals;
 * 0 and -1 for a segment without rows. The maximum of a column with a NaN is NaN. */
KERNEL(void, segment_maximum)(const float *x, int64_t dim, const int64_t *rows, const int64_t *starts, int64_t n,
                              float *highest, int32_t *where)
{
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t s = 0; s < n; s++)
        maximum_one(x, dim, rows + starts[s], starts[s + 1] - starts[s], highest + s * dim, where + s * dim);
}

/* The gradient of that: adds gradient (n, dim) to d_x (m, dim), where the maxima were. No row is in two segments. */
KERNEL(void, segment_maximum_backward)(const float *gradient, int64_t dim, const int32_t *where, int64_t n, float *d_x)
{
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < n; s++)
        for (int64_t k = 0; k < dim; k++)
            if (where[s * dim + k] >= 0)
                d_x[where[s * dim + k] * dim + k] += gradient[s * dim + k];
}
