/* Products of a few rows with a matrix of weights, which is read once for all of them: libraries, which lay out what they
 * multiply first, are slower at it. */
#if defined(__clang__)
#pragma clang fp contract(fast) /* a product and its sum in one instruction */
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#ifdef __AVX512F__
#pragma GCC target("no-avx512f") /* code for wider registers is slower here */
#endif
#endif
#include "kernels.h"

/* Twelve sums, three of x and one of the weights fill the sixteen registers of AVX2. */
enum { WEIGHTS = 4, ROWS = 3, CHUNK = 64 }; /* rows of weights and of x at a time; of weights a thread, of x a convolution */

typedef int32_t Marks __attribute__((vector_size(32), aligned(4), may_alias));
static const int32_t MARKS[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};

/* Adds to y (rows, out) the products of so many rows with so many of w (weights, .), each of `taps` parts: part t of a row
 * is row t after it in x (., in), and that of a row of w is the same one of the matrix (out, in) that is t after it.
 * At least eight numbers lie in a row. */
INLINED void block(const int64_t rows, const int64_t weights, int64_t taps, int64_t in, int64_t out, const float *w,
                   const float *x, float *y)
{
    Eight sums[WEIGHTS][ROWS] = {{{0}}};
    const int64_t whole = in / 8 * 8;
    const Marks last = *(const Marks *)(MARKS + in % 8); /* of the last eight of a row, those that are not in `whole` */
    for (int64_t tap = 0; tap < taps; tap++, x += in, w += in * out) {
        for (int64_t k = 0; k < whole; k += 8)
            for (int64_t row = 0; row < rows; row++)
                for (int64_t j = 0; j < weights; j++)
                    sums[j][row] += *(const Eight *)(w + j * in + k) * *(const Eight *)(x + row * in + k);
        for (int64_t row = 0; row < rows && whole < in; row++)
            for (int64_t j = 0; j < weights; j++)
                sums[j][row] +=
                    *(const Eight *)(w + j * in + in - 8) * (Eight)(*(const Marks *)(x + row * in + in - 8) & last);
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < weights; j++)
            y[row * out + j] += halved(sums[j][row]);
}

/* The same for any number of rows, a few at a time. */
INLINED void column(int64_t rows, const int64_t weights, int64_t taps, int64_t in, int64_t out, const float *w,
                    const float *x, float *y)
{
    for (; rows >= ROWS; rows -= ROWS, x += ROWS * in, y += ROWS * out)
        block(ROWS, weights, taps, in, out, w, x, y);
    switch (rows) {
    case 2: block(2, weights, taps, in, out, w, x, y); break;
    case 1: block(1, weights, taps, in, out, w, x, y); break;
    }
}

/* The same for the rows of w from `first` up to `end`. */
ALONE void add_some(int64_t rows, int64_t taps, int64_t in, int64_t out, int64_t first, int64_t end, const float *w,
                     const float *x, float *y)
{
    if (in < 8) {
        for (int64_t row = 0; row < rows; row++)
            for (int64_t j = first; j < end; j++)
                for (int64_t k = 0; k < taps * in; k++)
                    y[row * out + j] += w[(k / in * out + j) * in + k % in] * x[row * in + k];
        return;
    }
    int64_t j = first;
    for (; j + WEIGHTS <= end; j += WEIGHTS)
        column(rows, WEIGHTS, taps, in, out, w + j * in, x, y + j);
    for (; j < end; j++)
        column(rows, 1, taps, in, out, w + j * in, x, y + j);
}

void NAME(add_products)(int64_t rows, int64_t in, int64_t out, const float *w, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (rows * in * out > 262144)
    for (int64_t first = 0; first < out; first += CHUNK)
        add_some(rows, 1, in, out, first, first + CHUNK < out ? first + CHUNK : out, w, x, y);
}

void NAME(add_convolved)(int64_t rows, int64_t taps, int64_t in, int64_t out, const float *w, const float *x, float *y)
{
    for (int64_t row = 0; row < rows; row += CHUNK)
        add_some(row + CHUNK < rows ? CHUNK : rows - row, taps, in, out, 0, out, w, x + row * in, y + row * out);
}

/* A linear layer: into y (rows, out) the bias (out) and the products of x (rows, in) with w (out, in). */
KERNEL(void, linear)(int64_t rows, int64_t in, int64_t out, const float *w, const float *bias, const float *x, float *y)
{
    for (int64_t row = 0; row < rows; row++)
        memcpy(y + row * out, bias, (size_t)out * sizeof *y);
    NAME(add_products)(rows, in, out, w, x, y);
}
