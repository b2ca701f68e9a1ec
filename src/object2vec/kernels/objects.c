/* Objects: n sequences of tokens lie in values[offsets[i]:offsets[i + 1]]; sequences of the same tokens are one object. */
#include "kernels.h"

/* The number of each sequence's object into which (n), the first sequence that holds it into first (n). slots is
 * scratch, mask + 1 (a power of two, more than n) of -1. Returns how many objects there are. */
int64_t distinct(const int32_t *values, const int64_t *offsets, int64_t n, int64_t *slots, int64_t mask, int64_t *which,
                 int64_t *first)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t *tokens = values + offsets[i];
        const int64_t length = offsets[i + 1] - offsets[i];
        uint64_t hash = (uint64_t)length;
        for (int64_t k = 0; k < length; k++) {
            hash = (hash ^ (uint32_t)tokens[k]) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 32;
        }
        for (int64_t slot = (int64_t)hash & mask;; slot = (slot + 1) & mask) {
            const int64_t object = slots[slot];
            if (object < 0) {
                slots[slot] = which[i] = found;
                first[found++] = i;
                break;
            }
            const int64_t other = offsets[first[object]];
            if (offsets[first[object] + 1] - other == length &&
                !memcmp(values + other, tokens, (size_t)length * sizeof *tokens)) {
                which[i] = object;
                break;
            }
        }
    }
    return found;
}

/* Numbers the n ids in values as they come: the different ones into used (n), the number of each value's into place (n).
 * `lut` is scratch, one an id, all -1 before and after. Returns how many different ids there are. */
int64_t number(const int64_t *values, int64_t n, int32_t *lut, int64_t *used, int64_t *place)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        if (lut[values[j]] < 0) {
            lut[values[j]] = (int32_t)found;
            used[found++] = values[j];
        }
        place[j] = lut[values[j]];
    }
    for (int64_t r = 0; r < found; r++)
        lut[used[r]] = -1;
    return found;
}
