/* Dropout with a hash of seed and index as random numbers. */
#include "kernels.h"

NOINLINE void dropout_part(const float *restrict x, float *restrict out, int64_t from, int64_t to, uint64_t seed,
                           uint32_t threshold, float scale)
{
    const uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    for (int64_t i = from; i < to; i++) {
        uint32_t h = (uint32_t)i * 0x9e3779b1u ^ low;
        h = (h ^ h >> 16) * 0x7feb352du;
        h = (h ^ h >> 15) * 0x846ca68bu;
        h = ((h ^ h >> 16) + high) * 0x9e3779b1u;
        h = (h ^ h >> 15) * 0x2c1b3c6du;
        h ^= h >> 16;
        out[i] = h < threshold ? 0.0f : x[i] * scale;
    }
}

KERNEL(void, dropout)(const float *x, float *out, int64_t n, uint64_t seed, uint32_t threshold, float scale)
{
    const int64_t part = 1 << 15;
#pragma omp parallel for schedule(static) if (n > part)
    for (int64_t from = 0; from < n; from += part)
        dropout_part(x, out, from, from + part < n ? from + part : n, seed, threshold, scale);
}
