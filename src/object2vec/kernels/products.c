/* Products of a few rows with a matrix of weights, which is read once: for so few of them libraries, which lay out what they
 * multiply, are slower than memory. */
#include "kernels.h"

enum { WEIGHTS = 4, ROWS = 4, CHUNK = 64 }; /* rows of weights and of x at a time; rows of weights of a thread */

/* Adds to y (rows, .) the products of so many rows of x (rows, in) with so many of w (weights, in). */
static inline __attribute__((always_inline)) void block(const int64_t rows, const int64_t weights, int64_t in,
                                                        int64_t out, const float *w, const float *x, float *y)
{
    Sixteen sums[WEIGHTS][ROWS] = {{{0}}};
    int64_t k = 0;
    for (; k + 16 <= in; k += 16)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t j = 0; j < weights; j++)
                sums[j][row] += *(const Sixteen *)(w + j * in + k) * *(const Sixteen *)(x + row * in + k);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < weights; j++) {
            float rest = 0;
            for (int64_t last = k; last < in; last++)
                rest += w[j * in + last] * x[row * in + last];
            y[row * out + j] += halved(sums[j][row]) + rest;
        }
}

/* The same for any number of rows, a few at a time. */
static inline __attribute__((always_inline)) void column(int64_t rows, const int64_t weights, int64_t in, int64_t out,
                                                         const float *w, const float *x, float *y)
{
    for (; rows >= ROWS; rows -= ROWS, x += ROWS * in, y += ROWS * out)
        block(ROWS, weights, in, out, w, x, y);
    switch (rows) {
    case 3: block(3, weights, in, out, w, x, y); break;
    case 2: block(2, weights, in, out, w, x, y); break;
    case 1: block(1, weights, in, out, w, x, y); break;
    }
}

/* The same for the rows of w from `first` up to `end`. */
CLONES void add_some(int64_t rows, int64_t in, int64_t out, int64_t first, int64_t end, const float *w, const float *x,
                     float *y)
{
    int64_t j = first;
    for (; j + WEIGHTS <= end; j += WEIGHTS)
        column(rows, WEIGHTS, in, out, w + j * in, x, y + j);
    for (; j < end; j++)
        column(rows, 1, in, out, w + j * in, x, y + j);
}

void add_products(int64_t rows, int64_t in, int64_t out, const float *w, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (rows * in * out > 262144)
    for (int64_t first = 0; first < out; first += CHUNK)
        add_some(rows, in, out, first, first + CHUNK < out ? first + CHUNK : out, w, x, y);
}

/* A linear layer: into y (rows, out) the bias (out) and the products of x (rows, in) with w (out, in). */
void linear(int64_t rows, int64_t in, int64_t out, const float *w, const float *bias, const float *x, float *y)
{
    for (int64_t row = 0; row < rows; row++)
        memcpy(y + row * out, bias, (size_t)out * sizeof *y);
    add_products(rows, in, out, w, x, y);
}
