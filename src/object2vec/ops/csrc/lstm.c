/* The point-wise part of an LSTM step, and a layer over a few sequences; other products are torch's. Gates stand in
 * torch's order: i, f, g, o. */
#include "kernels.h"

INLINED float sigmoid(float x)
{
    return 1.0f / (1.0f + exponential(-x));
}

INLINED float hyperbolic(float x)
{
    return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f;
}

ALONE void forward_one(int64_t units, float *restrict i, const float *restrict b, float *restrict c, float *restrict h)
{
    float *restrict f = i + units, *restrict g = f + units, *restrict o = g + units;
    for (int64_t k = 0; k < units; k++) {
        i[k] = sigmoid(i[k]);
        f[k] = sigmoid(f[k]);
        g[k] = hyperbolic(g[k]);
        o[k] = sigmoid(o[k]);
        c[k] = i[k] * g[k] + (b ? f[k] * b[k] : 0.0f);
        h[k] = o[k] * hyperbolic(c[k]);
    }
}

/* gates (n, 4 * units) hold what goes into the gates, and then the gates themselves; before (going_on, units) is the cell
 * before the step, of the first rows, the others begin; cell and hidden (n, units) are what comes of it. */
KERNEL(void, lstm_forward)(int64_t n, int64_t going_on, int64_t units, float *gates, const float *before, float *cell,
                  float *hidden)
{
#pragma omp parallel for schedule(static) if (n * units > 8192)
    for (int64_t row = 0; row < n; row++)
        forward_one(units, gates + row * 4 * units, row < going_on ? before + row * units : 0, cell + row * units,
                    hidden + row * units);
}

/* A layer over rows that are ordered by step, one way: step t has those from starts[t] up to starts[t + 1], of which the
 * first are those of its neighbours. gates (n, 4 * units) hold what the inputs add, and then the gates; w (4 * units, units)
 * are the weights of hidden; cell and hidden (n, units) are what comes of it. */
KERNEL(void, lstm_run)(int64_t steps, const int64_t *starts, int64_t backward, int64_t units, float *gates, const float *w,
              float *cell, float *hidden)
{
    const float *cell_before = 0, *hidden_before = 0;
    int64_t before = 0;
    for (int64_t gone = 0; gone < steps; gone++) {
        const int64_t step = backward ? steps - 1 - gone : gone;
        const int64_t start = starts[step], rows = starts[step + 1] - start, going_on = before < rows ? before : rows;
        float *now = gates + start * 4 * units;
        NAME(add_products)(going_on, units, 4 * units, w, hidden_before, now);
        NAME(lstm_forward)(rows, going_on, units, now, cell_before, cell + start * units, hidden + start * units);
        cell_before = cell + start * units, hidden_before = hidden + start * units, before = rows;
    }
}

ALONE void backward_one(int64_t units, float *restrict i, const float *restrict b, const float *restrict c,
                         const float *restrict dh, float *restrict dc)
{
    float *restrict f = i + units, *restrict g = f + units, *restrict o = g + units;
    for (int64_t k = 0; k < units; k++) {
        const float squashed = hyperbolic(c[k]);
        const float down = dc[k] + dh[k] * o[k] * (1.0f - squashed * squashed);
        const float d_i = down * g[k], d_f = b ? down * b[k] : 0.0f, d_g = down * i[k], d_o = dh[k] * squashed;
        dc[k] = down * f[k];
        i[k] = d_i * i[k] * (1.0f - i[k]);
        f[k] = d_f * f[k] * (1.0f - f[k]);
        g[k] = d_g * (1.0f - g[k] * g[k]);
        o[k] = d_o * o[k] * (1.0f - o[k]);
    }
}

/* The gradient of that step. gates hold the gates, and then the gradient of what went into them; d_hidden is the
 * gradient of hidden; d_cell that of cell from later steps, and then that of before. */
KERNEL(void, lstm_backward)(int64_t n, int64_t going_on, int64_t units, float *gates, const float *before, const float *cell,
                   const float *d_hidden, float *d_cell)
{
#pragma omp parallel for schedule(static) if (n * units > 8192)
    for (int64_t row = 0; row < n; row++)
        backward_one(units, gates + row * 4 * units, row < going_on ? before + row * units : 0, cell + row * units,
                     d_hidden + row * units, d_cell + row * units);
}
