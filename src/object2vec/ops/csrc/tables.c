/* Token embeddings. A table is (V, dim); n bags of ids lie in values[offsets[i]:offsets[i + 1]]. */
#include "kernels.h"

EXPORT_SIZE(Table)

ALONE void pool_one(const Table *table, const int64_t *values, int64_t n, float *restrict mean, float *restrict scale)
{
    float room[MOST_DIM];
    const int64_t dim = table->dim;
    int64_t tokens = 0;
    if (n == 1 && values[0]) {
        *scale = 1;
        memcpy(mean, row_of(table, values[0], room), (size_t)dim * sizeof *mean);
        return;
    }
    memset(mean, 0, (size_t)dim * sizeof *mean);
    for (int64_t j = 0; j < n; j++) {
        if (j + 2 < n)
            fetch_from(table, values[j + 2]);
        if (values[j] == 0)
            continue;
        const float *restrict row = row_of(table, values[j], room);
        tokens++;
        for (int64_t k = 0; k < dim; k++)
            mean[k] += row[k];
    }
    *scale = tokens ? 1.0f / (float)tokens : 0.0f;
    for (int64_t k = 0; k < dim; k++)
        mean[k] *= *scale;
}

/* The mean row of each bag into out (n, dim), and 1 / tokens into scale (n). Id 0 counts as no token. */
KERNEL(void, pool)(const Table *table, const int64_t *values, const int64_t *offsets, int64_t n, float *out, float *scale)
{
    const int64_t dim = table->dim;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < n; i++) {
        if (i + 4 < n && offsets[i + 4] < offsets[n]) /* where bags are of one token, none of them can do it */
            fetch_from(table, values[offsets[i + 4]]);
        pool_one(table, values + offsets[i], offsets[i + 1] - offsets[i], out + i * dim, scale + i);
    }
}

/* The ids other than 0 of n bags into out (as many as the ids), and which bag each is of into origin. Returns how many
 * there are. */
KERNEL(int64_t, spread)(const int64_t *values, const int64_t *offsets, int64_t n, int64_t *out, int64_t *origin)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = offsets[i]; j < offsets[i + 1]; j++)
            if (values[j]) {
                out[found] = values[j];
                origin[found++] = i;
            }
    return found;
}

/* Sorts n ids, with what each comes from: the different ids into rows (n), the origins of id rows[r] into
 * origins[starts[r]:starts[r + 1]], in the order of the ids. `lut` is scratch, V of -1, and is left so. Returns how
 * many different ids there are. */
KERNEL(int64_t, group)(const int64_t *values, const int64_t *origin, int64_t n, int32_t *lut, int64_t *rows, int64_t *starts,
              int64_t *origins)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        const int64_t id = values[j];
        if (lut[id] < 0) {
            lut[id] = (int32_t)found;
            rows[found++] = id;
            starts[found] = 0;
        }
        starts[lut[id] + 1]++;
    }
    starts[0] = 0;
    for (int64_t r = 0; r < found; r++)
        starts[r + 1] += starts[r];
    for (int64_t j = 0; j < n; j++)
        origins[starts[lut[values[j]]]++] = origin[j];
    memmove(starts + 1, starts, (size_t)found * sizeof *starts);
    starts[0] = 0;
    for (int64_t r = 0; r < found; r++)
        lut[rows[r]] = -1;
    return found;
}

/* What a step needs beside its rows; see step_rows. */
typedef struct {
    Move move;
    int64_t dim;
    const int64_t *origins;
    const float *scale, *gradient;
} Step;

ALONE void step_one(const Step *step, float *restrict w, float *restrict first, float *restrict second, int64_t from,
                     int64_t to)
{
    float slope[MOST_DIM];
    const int64_t dim = step->dim;
    memset(slope, 0, (size_t)dim * sizeof *slope);
    for (int64_t j = from; j < to; j++) {
        const float *restrict g = step->gradient + step->origins[j] * dim;
        const float s = step->scale[step->origins[j]];
        for (int64_t k = 0; k < dim; k++)
            slope[k] += s * g[k];
    }
    move_row(&step->move, dim, w, first, second, slope);
}

/* step_rows below, and all V - n other rows of the table move as if their gradient were zeros. `lut` is scratch, V of -1,
 * and is left so. */
KERNEL(void, step_table)(int64_t kind, float *table, float *first, float *second, int64_t dim, int64_t size, int32_t *lut,
                const int64_t *rows, int64_t n, const int64_t *starts, const int64_t *origins, const float *scale,
                const float *gradient, float rate, float decay, float c1, float c2)
{
    const Step step = {{kind, rate, decay, c1, c2}, dim, origins, scale, gradient};
    for (int64_t r = 0; r < n; r++)
        lut[rows[r]] = (int32_t)r;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < size; row++) {
        const int64_t at = row * dim, r = lut[row];
        step_one(&step, table + at, first + at, second + at, r < 0 ? 0 : starts[r], r < 0 ? 0 : starts[r + 1]);
    }
    for (int64_t r = 0; r < n; r++)
        lut[rows[r]] = -1;
}

/* One step of an optimizer on the rows that a batch touched, its gradient summed on the way.
 *
 * The gradient of table row rows[r] is the sum of scale[o] * gradient[o] over o in origins[starts[r]:starts[r + 1]];
 * gradient is (m, dim). first and second are the optimizer's state, (V, dim) each.
 * c1 and c2 are Adam's bias corrections, 1 - beta^step. */
KERNEL(void, step_rows)(int64_t kind, float *table, float *first, float *second, int64_t dim, const int64_t *rows, int64_t n,
               const int64_t *starts, const int64_t *origins, const float *scale, const float *gradient, float rate, float decay, float c1, float c2)
{
    const Step step = {{kind, rate, decay, c1, c2}, dim, origins, scale, gradient};
#pragma omp parallel for schedule(dynamic, 64)
    for (int64_t r = 0; r < n; r++) {
        const int64_t at = rows[r] * dim;
        if (r + 2 < n) {
            fetch_row(table + rows[r + 2] * dim, dim, 1);
            fetch_row(first + rows[r + 2] * dim, dim, 1);
            fetch_row(second + rows[r + 2] * dim, dim, 1);
        }
        step_one(&step, table + at, first + at, second + at, starts[r], starts[r + 1]);
    }
}
