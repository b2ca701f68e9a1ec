/* The point-wise part of LSTM steps, and a layer over a few sequences. Other products are torch's. */
#include "kernels.h"

ALWAYS_INLINE float sigmoid(float x)
{
    return 1.0f / (1.0f + fast_exp(-x));
}

NOINLINE void forward_one(int64_t units, float *restrict i, const float *restrict b, float *restrict c,
                          float *restrict h)
{
    float *restrict f = i + units, *restrict g = f + units, *restrict o = g + units;
    for (int64_t k = 0; k < units; k++) {
        i[k] = sigmoid(i[k]);
        f[k] = sigmoid(f[k]);
        g[k] = fast_tanh(g[k]);
        o[k] = sigmoid(o[k]);
        c[k] = i[k] * g[k] + (b ? f[k] * b[k] : 0.0f);
        h[k] = o[k] * fast_tanh(c[k]);
    }
}

KERNEL(void, lstm_forward)(int64_t n, int64_t continuing, int64_t units, float *gates, const float *before, float *cell,
                           float *hidden)
{
#pragma omp parallel for schedule(static) if (n * units > 8192)
    for (int64_t row = 0; row < n; row++)
        forward_one(units, gates + row * 4 * units, row < continuing ? before + row * units : 0, cell + row * units,
                    hidden + row * units);
}

KERNEL(void, lstm_layer)(int64_t steps, const int64_t *starts, int64_t units, float *gates, const float *w, float *cell,
                         float *hidden)
{
    for (int64_t step = 0; step < steps; step++) {
        const int64_t start = starts[step], rows = starts[step + 1] - start, from = start * units;
        const int64_t before = step ? starts[step - 1] * units : 0;
        if (step)
            NAME(add_products)(rows, units, 4 * units, w, hidden + before, gates + 4 * from);
        NAME(lstm_forward)(rows, step ? rows : 0, units, gates + 4 * from, cell + before, cell + from, hidden + from);
    }
}

NOINLINE void backward_one(int64_t units, float *restrict i, const float *restrict b, const float *restrict c,
                           const float *restrict dh, float *restrict dc)
{
    float *restrict f = i + units, *restrict g = f + units, *restrict o = g + units;
    for (int64_t k = 0; k < units; k++) {
        const float tanh_cell = fast_tanh(c[k]);
        const float d_cell_total = dc[k] + dh[k] * o[k] * (1.0f - tanh_cell * tanh_cell);
        const float d_i = d_cell_total * g[k], d_f = b ? d_cell_total * b[k] : 0.0f, d_g = d_cell_total * i[k],
                    d_o = dh[k] * tanh_cell;
        dc[k] = d_cell_total * f[k];
        i[k] = d_i * i[k] * (1.0f - i[k]);
        f[k] = d_f * f[k] * (1.0f - f[k]);
        g[k] = d_g * (1.0f - g[k] * g[k]);
        o[k] = d_o * o[k] * (1.0f - o[k]);
    }
}

KERNEL(void, lstm_backward)(int64_t n, int64_t continuing, int64_t units, float *gates, const float *before,
                            const float *cell, const float *d_hidden, float *d_cell)
{
#pragma omp parallel for schedule(static) if (n * units > 8192)
    for (int64_t row = 0; row < n; row++)
        backward_one(units, gates + row * 4 * units, row < continuing ? before + row * units : 0, cell + row * units,
                     d_hidden + row * units, d_cell + row * units);
}
