/* Mean embeddings, and optimizer steps on rows of a table. */
#include "kernels.h"

NOINLINE void mean_pool_one(const Table *table, const int64_t *values, int64_t n, float *restrict mean,
                            float *restrict scale)
{
    float buffer[MAX_DIM];
    const int64_t dim = table->dim;
    int64_t tokens = 0;
    if (n == 1 && values[0]) {
        *scale = 1;
        memcpy(mean, table_row(table, values[0], buffer), (size_t)dim * sizeof *mean);
        return;
    }
    memset(mean, 0, (size_t)dim * sizeof *mean);
    for (int64_t j = 0; j < n; j++) {
        if (j + 2 < n)
            prefetch_table_row(table, values[j + 2]);
        if (values[j] == 0)
            continue;
        const float *restrict row = table_row(table, values[j], buffer);
        tokens++;
        for (int64_t k = 0; k < dim; k++)
            mean[k] += row[k];
    }
    *scale = tokens ? 1.0f / (float)tokens : 0.0f;
    for (int64_t k = 0; k < dim; k++)
        mean[k] *= *scale;
}

KERNEL(void, mean_pool)(const Table *table, const int64_t *values, const int64_t *offsets, int64_t n, float *out,
                        float *scale)
{
    const int64_t dim = table->dim;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < n; i++) {
        if (i + 4 < n && offsets[i + 4] < offsets[n]) /* bags of one token cannot prefetch within the bag */
            prefetch_table_row(table, values[offsets[i + 4]]);
        mean_pool_one(table, values + offsets[i], offsets[i + 1] - offsets[i], out + i * dim, scale + i);
    }
}

KERNEL(int64_t, group_by_id)(const int64_t *values, const int64_t *origin, int64_t n, int32_t *lut, int64_t *rows,
                             int64_t *starts, int64_t *origins)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        const int64_t id = values[j];
        if (lut[id] < 0) {
            lut[id] = (int32_t)found;
            rows[found] = id;
            starts[found++] = 0;
        }
        starts[lut[id]]++;
    }
    for (int64_t r = 1; r < found; r++)
        starts[r] += starts[r - 1]; /* the end of r's origins */
    starts[found] = n;
    for (int64_t j = n - 1; j >= 0; j--)
        origins[--starts[lut[values[j]]]] = origin[j];
    for (int64_t r = 0; r < found; r++)
        lut[rows[r]] = -1;
    return found;
}

/* A step of update_rows. */
typedef struct {
    OptimizerStep optimizer;
    const int64_t *origins;
    const float *scale, *grad;
} RowUpdate;

/* Steps n numbers. Their gradient is the sum over origins `from` to `to` - 1; without origins it is 0. */
NOINLINE void update_one(const RowUpdate *update, int64_t n, float *restrict w, float *restrict state1,
                         float *restrict state2, int64_t from, int64_t to)
{
    float grad[MAX_DIM];
    memset(grad, 0, (size_t)n * sizeof *grad);
    for (int64_t j = from; j < to; j++) {
        const float *restrict g = update->grad + update->origins[j] * n;
        const float s = update->scale[update->origins[j]];
        for (int64_t k = 0; k < n; k++)
            grad[k] += s * g[k];
    }
    update_row(&update->optimizer, n, w, state1, state2, grad);
}

KERNEL(void, update_rows)(int64_t kind, float *table, float *state1, float *state2, int64_t dim, int64_t size,
                          int32_t *lut, const int64_t *rows, int64_t n, const int64_t *starts, const int64_t *origins,
                          const float *scale, const float *grad, float learning_rate, float weight_decay,
                          int64_t step)
{
    const RowUpdate update = {optimizer_step(kind, learning_rate, weight_decay, step), origins, scale, grad};
#pragma omp parallel for schedule(dynamic, 64)
    for (int64_t r = 0; r < n; r++) {
        const int64_t at = rows[r] * dim;
        if (r + 2 < n) {
            prefetch_row(table + rows[r + 2] * dim, dim, 1);
            prefetch_row(state1 + rows[r + 2] * dim, dim, 1);
            prefetch_row(state2 + rows[r + 2] * dim, dim, 1);
        }
        update_one(&update, dim, table + at, state1 + at, state2 + at, starts[r], starts[r + 1]);
    }
    if (!lut)
        return;
    const int64_t block = MAX_DIM / dim;
    for (int64_t r = 0; r < n; r++)
        lut[rows[r]] = 0;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < size; first += block) {
        const int64_t last = first + block < size ? first + block : size;
        for (int64_t row = first, next; row < last; row = next) {
            next = row + 1;
            if (lut[row] == 0)
                continue;
            while (next < last && lut[next] < 0) /* other rows are stepped as one */
                next++;
            update_one(&update, (next - row) * dim, table + row * dim, state1 + row * dim, state2 + row * dim, 0, 0);
        }
    }
    for (int64_t r = 0; r < n; r++)
        lut[rows[r]] = -1;
}
