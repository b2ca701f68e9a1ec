/* Products of a few rows with a weight matrix, which is read once for all rows. BLAS libraries pack their operands
 * first, and are slower at it. */
#if defined(__clang__)
#pragma clang fp contract(fast) /* fused multiply-add */
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#ifdef __AVX512F__
#pragma GCC target("no-avx512f") /* wider registers are slower here */
#endif
#endif
#include "kernels.h"

/* Rows of weights and of x at a time: twelve sums, three rows of x and one of weights fill AVX2's sixteen registers.
 * CHUNK is rows of weights for a thread, and rows of x in a convolution. */
enum { WEIGHTS = 4, ROWS = 3, CHUNK = 64 };

typedef int32_t Mask __attribute__((vector_size(32), aligned(4), may_alias));
static const int32_t MASKS[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};

/* Adds to y (rows, out) the products of `rows` rows with `weights` rows of w. Each product has `taps` parts: part t
 * takes row r + t of x (., in) and matrix t of w (taps, out, in). `in` is at least 8. */
ALWAYS_INLINE void add_block(const int64_t rows, const int64_t weights, int64_t taps, int64_t in, int64_t out,
                             const float *w, const float *x, float *y)
{
    Eight sums[WEIGHTS][ROWS] = {{{0}}};
    const int64_t whole = in / 8 * 8;
    const Mask last = *(const Mask *)(MASKS + in % 8); /* selects, of the last eight of a row, those after `whole` */
    for (int64_t tap = 0; tap < taps; tap++, x += in, w += in * out) {
        for (int64_t k = 0; k < whole; k += 8)
            for (int64_t row = 0; row < rows; row++)
                for (int64_t j = 0; j < weights; j++)
                    sums[j][row] += *(const Eight *)(w + j * in + k) * *(const Eight *)(x + row * in + k);
        for (int64_t row = 0; row < rows && whole < in; row++)
            for (int64_t j = 0; j < weights; j++)
                sums[j][row] +=
                    *(const Eight *)(w + j * in + in - 8) * (Eight)(*(const Mask *)(x + row * in + in - 8) & last);
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < weights; j++)
            y[row * out + j] += horizontal_sum(sums[j][row]);
}

/* Does the same for any number of rows, a few at a time. */
ALWAYS_INLINE void add_column(int64_t rows, const int64_t weights, int64_t taps, int64_t in, int64_t out,
                              const float *w, const float *x, float *y)
{
    for (; rows >= ROWS; rows -= ROWS, x += ROWS * in, y += ROWS * out)
        add_block(ROWS, weights, taps, in, out, w, x, y);
    switch (rows) {
    case 2: add_block(2, weights, taps, in, out, w, x, y); break;
    case 1: add_block(1, weights, taps, in, out, w, x, y); break;
    }
}

/* Does the same for the rows of w from `first` to `end` - 1. */
NOINLINE void add_range(int64_t rows, int64_t taps, int64_t in, int64_t out, int64_t first, int64_t end, const float *w,
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
        add_column(rows, WEIGHTS, taps, in, out, w + j * in, x, y + j);
    for (; j < end; j++)
        add_column(rows, 1, taps, in, out, w + j * in, x, y + j);
}

void NAME(add_products)(int64_t rows, int64_t in, int64_t out, const float *w, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (rows * in * out > 262144)
    for (int64_t first = 0; first < out; first += CHUNK)
        add_range(rows, 1, in, out, first, first + CHUNK < out ? first + CHUNK : out, w, x, y);
}

void NAME(add_convolved)(int64_t rows, int64_t taps, int64_t in, int64_t out, const float *w, const float *x, float *y)
{
    for (int64_t row = 0; row < rows; row += CHUNK)
        add_range(row + CHUNK < rows ? CHUNK : rows - row, taps, in, out, 0, out, w, x + row * in, y + row * out);
}
