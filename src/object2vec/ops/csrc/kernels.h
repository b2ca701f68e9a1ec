/* What all kernels share.
 *
 * Plain C over flat arrays: no Python, no torch, no allocation, and no state but the caller's. build_kernels.py compiles
 * them; __init__.py declares the signatures and checks arguments, and each kernel has an equal torch or numpy form in
 * Python. Threads are OpenMP's, those that torch itself uses on a CPU. */
#ifndef OBJECT2VEC_KERNELS_H
#define OBJECT2VEC_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Sources are compiled once for each level of processors, see build_kernels.py, and O2V_LEVEL names it. The exported
 * function `pool` is then o2v_avx2_pool. Functions that are shared by files have such names too, and stay hidden. */
#define O2V_JOIN(level, name) o2v_##level##_##name
#define O2V_EXPAND(level, name) O2V_JOIN(level, name)
#ifdef O2V_LEVEL
#define NAME(name) O2V_EXPAND(O2V_LEVEL, name)
#else
#define NAME(name) o2v_##name
#endif
#define EXPORT __attribute__((visibility("default")))
#define KERNEL(result, name) EXPORT result NAME(name)

/* Exports the size of a struct that kernels/__init__.py declares too. */
#define EXPORT_SIZE(type)                                                                                                \
    EXPORT int64_t NAME(sizeof_##type)(void);                                                                            \
    KERNEL(int64_t, sizeof_##type)(void) { return (int64_t)sizeof(type); }

/* A function of its own: within the region of a loop that threads share, compilers make no vector code of it. */
#define ALONE static __attribute__((noinline))

#define INLINED static inline __attribute__((always_inline))

/* Rows of a table lie far apart: memory is asked for them some turns ahead. */
#define fetch_row(row, dim, to_write)                                                                                    \
    for (int64_t k = 0; k < (dim); k += 64 / sizeof *(row))                                                              \
    __builtin_prefetch((row) + k, to_write)

/* e^x within 2 units in the last place, in a form that compilers make vector code of (Cephes' expf). */
INLINED float exponential(float x)
{
    union {
        float f;
        int32_t i;
    } power;
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    const float n = rintf(x * 1.44269504088896341f);
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    power.i = ((int32_t)n + 127) << 23;
    return (p * r * r + r + 1.0f) * power.f;
}

/* Floats side by side, anywhere in memory: what a compiler has no registers for it does in parts. */
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/* The sum of eight numbers. Compilers add up what a vector register holds one number after the other, as the order of
 * additions says; here it is halved. */
INLINED float halved(Eight eight)
{
    const Four four = ((const Four *)&eight)[0] + ((const Four *)&eight)[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* The sum of a[k] * b[k] over n numbers. */
INLINED float dot(const float *a, const float *b, int64_t n)
{
    Sixteen sums = {0};
    float rest = 0;
    int64_t k = 0;
    for (; k + 16 <= n; k += 16)
        sums += *(const Sixteen *)(a + k) * *(const Sixteen *)(b + k);
    for (; k < n; k++)
        rest += a[k] * b[k];
    return halved(((const Eight *)&sums)[0] + ((const Eight *)&sums)[1]) + rest;
}

/* Adds to y (rows, out) the products of x (rows, in) with w (out, in). In products.c. */
void NAME(add_products)(int64_t rows, int64_t in, int64_t out, const float *w, const float *x, float *y);

/* The same of a convolution: adds to y (rows, out) the products of x (rows + taps - 1, in) with w (taps, out, in), of row r
 * those of rows r to r + taps - 1 of x. */
void NAME(add_convolved)(int64_t rows, int64_t taps, int64_t in, int64_t out, const float *w, const float *x, float *y);

enum { MOST_DIM = 1000 }; /* of token_embedding_dim */

/* A table (., dim) of floats, or of IEEE 754 halves. */
typedef struct {
    const void *rows;
    int64_t dim, half;
} Table;

/* Asks for row `id`. */
static inline void fetch_from(const Table *table, int64_t id)
{
    const int64_t bytes = table->dim * (table->half ? 2 : 4);
    for (int64_t k = 0; k < bytes; k += 64)
        __builtin_prefetch((const char *)table->rows + id * bytes + k);
}

/* Row `id`: where it lies, or of a table of finite halves as floats in `room` (dim). */
INLINED const float *row_of(const Table *table, int64_t id, float *restrict room)
{
    union {
        uint32_t i;
        float f;
    } number;
    const uint16_t *restrict halves = (const uint16_t *)table->rows + id * table->dim;
    if (!table->half)
        return (const float *)table->rows + id * table->dim;
    for (int64_t k = 0; k < table->dim; k++) { /* what is left to do is the difference between the biases of exponents */
        number.i = (uint32_t)(halves[k] & 0x7fff) << 13;
        number.f *= 0x1p112f;
        number.i |= (uint32_t)(halves[k] & 0x8000) << 16;
        room[k] = number.f;
    }
    return room;
}

/* What makes a score of a pair u, v, in the order in which a caller says where each begins: u * v, u, v, |u - v|. */
enum { PRODUCT, LEFT, RIGHT, APART };

enum { SGD, ADAGRAD, ADAM };

/* A step of an optimizer: c1 and c2 are Adam's bias corrections, 1 - beta^step. */
typedef struct {
    int64_t kind;
    float rate, decay, c1, c2;
} Move;

/* Moves a row w (dim) and what is kept beside it against the gradient `slope`, which is scratch then. */
static inline void move_row(const Move *move, int64_t dim, float *restrict w, float *restrict first,
                            float *restrict second, float *restrict slope)
{
    const float rate = move->rate, decay = move->decay;
    if (decay != 0)
        for (int64_t k = 0; k < dim; k++)
            slope[k] += decay * w[k];
    if (move->kind == SGD) {
        for (int64_t k = 0; k < dim; k++)
            w[k] -= rate * slope[k];
    } else if (move->kind == ADAGRAD) {
        for (int64_t k = 0; k < dim; k++) {
            first[k] += slope[k] * slope[k];
            w[k] -= rate * slope[k] / (sqrtf(first[k]) + 1e-7f);
        }
    } else { /* a division and a root a number: they are what a step costs */
        const float by = rate / move->c1, root = 1 / sqrtf(move->c2);
        for (int64_t k = 0; k < dim; k++) {
            first[k] += 0.1f * (slope[k] - first[k]);
            second[k] = 0.999f * second[k] + 0.001f * (slope[k] * slope[k]);
            w[k] -= by * first[k] / (sqrtf(second[k]) * root + 1e-8f);
        }
    }
}

#endif
