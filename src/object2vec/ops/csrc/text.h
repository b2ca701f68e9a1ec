/* What readers of text share: pieces of texts, and their hashes. */
#ifndef OBJECT2VEC_TEXT_H
#define OBJECT2VEC_TEXT_H

#include "kernels.h"

/* Returns the lower case of a character of a piece, 0 for any other. */
static inline uint8_t piece_character(int character)
{
    const int lower = character | 0x20;
    if (lower >= 'a' && lower <= 'z')
        return (uint8_t)(character < 0x80 ? lower : character);
    return (uint8_t)((character >= '0' && character <= '9') || character == '_' || character >= 0x80 ? character : 0);
}

/* Returns a hash of text that is followed by at least 7 bytes of any value. */
static inline uint64_t hash_text(const uint8_t *text, int64_t length)
{
    uint64_t hash = (uint64_t)length, eight;
    for (int64_t k = 0; k < length; k += 8) {
        memcpy(&eight, text + k, 8);
        if (length - k < 8)
            eight &= ((uint64_t)1 << 8 * (length - k)) - 1;
        hash = (hash ^ eight) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

#endif
