/* Checks of arguments: see api.h. Blocks without a branch are fast. */
#include "kernels.h"

enum { BLOCK = 1024 }; /* numbers checked at a time */

#define FIND_OUT_OF_RANGE(type)                                         \
    for (int64_t from = 0; from < n; from += BLOCK) {                   \
        const int64_t to = from + BLOCK < n ? from + BLOCK : n;         \
        int bad = 0;                                                    \
        for (int64_t i = from; i < to; i++)                             \
            bad |= (values[i] < (type)low) | (values[i] >= (type)high); \
        for (int64_t i = from; bad && i < to; i++)                      \
            if (values[i] < low || values[i] >= high)                   \
                return i;                                               \
    }                                                                   \
    return -1;

KERNEL(int64_t, find_out_of_range32)(const int32_t *values, int64_t n, int64_t low,
                                     int64_t high){FIND_OUT_OF_RANGE(int32_t)}

KERNEL(int64_t, find_out_of_range64)(const int64_t *values, int64_t n, int64_t low,
                                     int64_t high){FIND_OUT_OF_RANGE(int64_t)}

KERNEL(int64_t, find_bad_offset)(const int64_t *offsets, int64_t n, int64_t limit)
{
    for (int64_t i = 0; i < n; i++)
        if (offsets[i] < (i ? offsets[i - 1] : 0) || offsets[i] > limit)
            return i;
    return -1;
}
