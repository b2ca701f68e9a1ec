/* The hierarchical CNN over sequences of tokens, for inference. In training, convolutions are torch's products. */
#include "kernels.h"

/* A convolution with weights (taps, out, in) and bias (out), followed by ReLU. */
typedef struct {
    int64_t taps, in, out;
    const float *weights, *bias;
} Level;

NOINLINE void gather_one(const Table *table, const int64_t *ids, int64_t n, float *line)
{
    const int64_t dim = table->dim;
    for (int64_t j = 0; j < n; j++, line += dim) {
        if (j + 4 < n)
            prefetch_table_row(table, ids[j + 4]);
        const float *row = table_row(table, ids[j], line);
        if (row != line)
            memcpy(line, row, (size_t)dim * sizeof *line);
    }
}

/* Applies ReLU to n rows of y. Writes the maximum of each column to highest (dim): 0 without rows, NaN if one is NaN.
 */
NOINLINE void relu_maximum(int64_t n, int64_t dim, float *restrict y, float *restrict highest)
{
    for (int64_t k = 0; k < dim; k++)
        highest[k] = 0;
    for (int64_t j = 0; j < n; j++, y += dim)
        for (int64_t k = 0; k < dim; k++) {
            y[k] = y[k] < 0 ? 0 : y[k];
            const float larger = highest[k] >= y[k] ? highest[k] : y[k]; /* NaN if y is */
            highest[k] = highest[k] == highest[k] ? larger : highest[k]; /* a maximum of NaN stays */
        }
}

/* Applies a level to n rows of x, which has zeros on both ends, and writes those of y. */
static void convolve_one(const Level *level, int64_t n, const float *x, float *y, float *highest)
{
    const int64_t before = (level->taps - 1) / 2, behind = level->taps / 2, out = level->out;
    float *inner = y + before * out;
    memset(y, 0, (size_t)(before * out) * sizeof *y);
    memset(inner + n * out, 0, (size_t)(behind * out) * sizeof *y);
    for (int64_t j = 0; j < n; j++)
        memcpy(inner + j * out, level->bias, (size_t)out * sizeof *y);
    NAME(add_convolved)(n, level->taps, level->in, out, level->weights, x, inner);
    relu_maximum(n, out, inner, highest);
}

KERNEL(void, hcnn_forward)(const Table *table, const int64_t *values, const int64_t *offsets, int64_t n, int64_t taps,
                           int64_t levels, const float *const *weights, const float *const *biases,
                           const int64_t *widths, int64_t widest, float *line, float *next, int64_t dim,
                           float *encodings)
{
    const int64_t before = (taps - 1) / 2, behind = taps / 2;
    int64_t done = 0;
    for (int64_t number = 0; number < levels; number++) { /* so a core's cache keeps a level's weights */
        const Level level = {taps, widths[number], widths[number + 1], weights[number], biases[number]};
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++) {
            const int64_t tokens = offsets[i + 1] - offsets[i], place = (offsets[i] + i * (taps - 1)) * widest;
            float *x = line + place;
            if (number == 0) {
                memset(x, 0, (size_t)(before * level.in) * sizeof *x);
                gather_one(table, values + offsets[i], tokens, x + before * level.in);
                memset(x + (before + tokens) * level.in, 0, (size_t)(behind * level.in) * sizeof *x);
            }
            convolve_one(&level, tokens, x, next + place, encodings + i * dim + done);
        }
        float *const other = line;
        line = next, next = other, done += level.out;
    }
}
