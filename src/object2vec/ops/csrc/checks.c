/* Checks of what kernels are given: where an array first holds what it must not, or -1. */
#include "kernels.h"

enum { BLOCK = 1024 }; /* of numbers that are checked without a branch */

#define FIND_OUTSIDE(type)                                                                                               \
    for (int64_t from = 0; from < n; from += BLOCK) {                                                                    \
        const int64_t to = from + BLOCK < n ? from + BLOCK : n;                                                          \
        int bad = 0;                                                                                                     \
        for (int64_t i = from; i < to; i++)                                                                              \
            bad |= (values[i] < (type)low) | (values[i] >= (type)high);                                                  \
        for (int64_t i = from; bad && i < to; i++)                                                                       \
            if (values[i] < low || values[i] >= high)                                                                    \
                return i;                                                                                                \
    }                                                                                                                    \
    return -1;

/* A value below `low`, or at or above `high`, which fit the type. */
KERNEL(int64_t, outside32)(const int32_t *values, int64_t n, int64_t low, int64_t high)
{
    FIND_OUTSIDE(int32_t)
}

KERNEL(int64_t, outside64)(const int64_t *values, int64_t n, int64_t low, int64_t high)
{
    FIND_OUTSIDE(int64_t)
}

/* An offset that is below the one before it or below 0, or above `limit`. */
KERNEL(int64_t, bad_offset)(const int64_t *offsets, int64_t n, int64_t limit)
{
    for (int64_t i = 0; i < n; i++)
        if (offsets[i] < (i ? offsets[i - 1] : 0) || offsets[i] > limit)
            return i;
    return -1;
}

/* A label that is no class. */
KERNEL(int64_t, bad_class)(const float *labels, int64_t n, int64_t classes)
{
    for (int64_t i = 0; i < n; i++)
        if (!(labels[i] > -1.0f && labels[i] < (float)classes)) /* as C truncates it */
            return i;
    return -1;
}
