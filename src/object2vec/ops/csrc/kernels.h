/* What the kernels share. Threads are OpenMP's, the same that torch uses on a CPU. */
#ifndef OBJECT2VEC_KERNELS_H
#define OBJECT2VEC_KERNELS_H

#include <math.h>
#include <string.h>

#include "api.h"

/* Vector loops in a function of their own: inside an OpenMP loop compilers do not vectorize them. */
#define NOINLINE static __attribute__((noinline))

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Prefetches a row: rows of a table are far apart in memory. */
#define prefetch_row(row, dim, to_write)                    \
    for (int64_t k = 0; k < (dim); k += 64 / sizeof *(row)) \
    __builtin_prefetch((row) + k, to_write)

/* Returns e^x within 2 units in the last place, in a form that compilers vectorize (Cephes' expf). */
ALWAYS_INLINE float fast_exp(float x)
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

/* Returns tanh within 3e-7. */
ALWAYS_INLINE float fast_tanh(float x)
{
    return 2.0f / (1.0f + fast_exp(-2.0f * x)) - 1.0f;
}

/* Vectors at any address. A compiler splits those that are wider than its registers. */
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/* Returns the sum of eight numbers by halves; compilers would add one number after the other. */
ALWAYS_INLINE float horizontal_sum(Eight eight)
{
    const Four four = ((const Four *)&eight)[0] + ((const Four *)&eight)[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* Returns the sum of a[k] * b[k] over n numbers. */
ALWAYS_INLINE float dot(const float *a, const float *b, int64_t n)
{
    Sixteen sums = {0};
    float rest = 0;
    int64_t k = 0;
    for (; k + 16 <= n; k += 16)
        sums += *(const Sixteen *)(a + k) * *(const Sixteen *)(b + k);
    for (; k < n; k++)
        rest += a[k] * b[k];
    return horizontal_sum(((const Eight *)&sums)[0] + ((const Eight *)&sums)[1]) + rest;
}

/* Adds to y (rows, out) the products of x (rows, in) with w (out, in). In products.c. */
void NAME(add_products)(int64_t rows, int64_t in, int64_t out, const float *w, const float *x, float *y);

/* Adds to y (rows, out) a convolution: the products of rows r to r + taps - 1 of x (rows + taps - 1, in) with w
 * (taps, out, in). */
void NAME(add_convolved)(int64_t rows, int64_t taps, int64_t in, int64_t out, const float *w, const float *x, float *y);

/* Prefetches row `id`. */
static inline void prefetch_table_row(const Table *table, int64_t id)
{
    const int64_t bytes = table->dim * (table->is_half ? 2 : 4);
    for (int64_t k = 0; k < bytes; k += 64)
        __builtin_prefetch((const char *)table->rows + id * bytes + k);
}

/* Returns row `id`: its address, or a copy as floats in buffer (dim) if the table is in half precision. Halves are
 * finite. */
ALWAYS_INLINE const float *table_row(const Table *table, int64_t id, float *restrict buffer)
{
    union {
        uint32_t i;
        float f;
    } number;
    const uint16_t *restrict halves = (const uint16_t *)table->rows + id * table->dim;
    if (!table->is_half)
        return (const float *)table->rows + id * table->dim;
    for (int64_t k = 0; k < table->dim; k++) { /* fixes the difference between the exponents' biases */
        number.i = (uint32_t)(halves[k] & 0x7fff) << 13;
        number.f *= 0x1p112f;
        number.i |= (uint32_t)(halves[k] & 0x8000) << 16;
        buffer[k] = number.f;
    }
    return buffer;
}

/* The terms of a score of a pair u, v, in the order of term_columns: u * v, u, v, |u - v|. */
enum { TERM_PRODUCT, TERM_LEFT, TERM_RIGHT, TERM_ABS_DIFF };

enum { SGD, ADAGRAD, ADAM };

/* Settings of an optimizer step. c1 and c2 are Adam's bias corrections, 1 - beta^step. */
typedef struct {
    int64_t kind;
    float learning_rate, weight_decay, c1, c2;
} OptimizerStep;

/* Returns the settings of step number `step`, counted from 1. */
static inline OptimizerStep optimizer_step(int64_t kind, float learning_rate, float weight_decay, int64_t step)
{
    return (OptimizerStep){kind, learning_rate, weight_decay, (float)(1 - pow(0.9, (double)step)),
                           (float)(1 - pow(0.999, (double)step))};
}

/* Makes an optimizer step on a row w (dim) with its states; grad is scratch afterwards. */
static inline void update_row(const OptimizerStep *step, int64_t dim, float *restrict w, float *restrict state1,
                              float *restrict state2, float *restrict grad)
{
    const float learning_rate = step->learning_rate, weight_decay = step->weight_decay;
    if (weight_decay != 0)
        for (int64_t k = 0; k < dim; k++)
            grad[k] += weight_decay * w[k];
    if (step->kind == SGD) {
        for (int64_t k = 0; k < dim; k++)
            w[k] -= learning_rate * grad[k];
    } else if (step->kind == ADAGRAD) {
        for (int64_t k = 0; k < dim; k++) {
            state1[k] += grad[k] * grad[k];
            w[k] -= learning_rate * grad[k] / (sqrtf(state1[k]) + 1e-7f);
        }
    } else { /* one division and one root a number: they dominate the cost */
        const float by = learning_rate / step->c1, root = 1 / sqrtf(step->c2);
        for (int64_t k = 0; k < dim; k++) {
            state1[k] += 0.1f * (grad[k] - state1[k]);
            state2[k] = 0.999f * state2[k] + 0.001f * (grad[k] * grad[k]);
            w[k] -= by * state1[k] / (sqrtf(state2[k]) * root + 1e-8f);
        }
    }
}

#endif
