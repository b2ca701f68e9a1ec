/* Unique sequences, and negative pairs. Sequences of the same tokens are one object. */
#include "kernels.h"

static uint64_t hash_of(const int32_t *tokens, int64_t length)
{
    uint64_t hash = (uint64_t)length;
    for (int64_t k = 0; k < length; k++) {
        hash = (hash ^ (uint32_t)tokens[k]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Inserts `found` objects, whose first sequences are first_index, into an empty hash table. */
static void insert_objects(const int32_t *values, const int64_t *offsets, const int32_t *first_index, int64_t found,
                           Slot *slots, int64_t mask)
{
    for (int64_t object = 0; object < found; object++) {
        const int64_t start = offsets[first_index[object]];
        const uint64_t hash = hash_of(values + start, offsets[first_index[object] + 1] - start);
        int64_t at = (int64_t)hash & mask;
        while (slots[at].object >= 0)
            at = (at + 1) & mask;
        slots[at] = (Slot){(int32_t)object, (uint32_t)(hash >> 32)};
    }
}

KERNEL(int64_t, unique_sequences)(const int32_t *values, const int64_t *offsets, int64_t from, int64_t n, Slot *slots,
                                  int64_t mask, int32_t *inverse, int32_t *first_index, int64_t *found)
{
    insert_objects(values, offsets, first_index, *found, slots, mask);
    for (int64_t i = from; i < n; i++) {
        const int32_t *tokens = values + offsets[i];
        const int64_t length = offsets[i + 1] - offsets[i];
        const uint64_t hash = hash_of(tokens, length);
        for (int64_t at = (int64_t)hash & mask;; at = (at + 1) & mask) {
            const Slot slot = slots[at];
            if (slot.object < 0) {
                if (8 * *found > 7 * mask)
                    return i;
                slots[at] = (Slot){inverse[i] = (int32_t)*found, (uint32_t)(hash >> 32)};
                first_index[(*found)++] = (int32_t)i;
                break;
            }
            if (slot.tag != (uint32_t)(hash >> 32))
                continue;
            const int64_t other = offsets[first_index[slot.object]];
            if (offsets[first_index[slot.object] + 1] - other == length &&
                !memcmp(values + other, tokens, (size_t)length * sizeof *tokens)) {
                inverse[i] = slot.object;
                break;
            }
        }
    }
    return n;
}

KERNEL(void, take_sequences)(const int32_t *values, const int64_t *starts, const int64_t *stops, const int64_t *taken,
                             int64_t n, int32_t *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = starts[i], to = taken[i]; j < stops[i]; j++)
            out[to++] = values[j];
}

/* Does what unique_rows does for one side; returns the number of unique objects. Without a branch: whether an object is
 * new is hard to predict. */
static int64_t unique_side(const int64_t *rows, int64_t n, const int32_t *objects, int32_t *lut, int64_t *first_index,
                           int64_t *inverse)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        int32_t *own = lut + (objects ? objects[rows[j]] : rows[j]);
        if (objects && j + 16 < n)
            __builtin_prefetch(objects + rows[j + 16]);
        const int is_new = *own < 0;
        const int32_t number = is_new ? (int32_t)found : *own;
        *own = number;
        inverse[j] = number;
        first_index[found] = rows[j];
        found += is_new;
    }
    for (int64_t r = 0; r < found; r++)
        lut[objects ? objects[first_index[r]] : first_index[r]] = -1;
    return found;
}

KERNEL(void, unique_rows)(const int64_t *rows0, const int64_t *rows1, int64_t n, const int32_t *objects0,
                          const int32_t *objects1, int32_t *lut0, int32_t *lut1, int64_t *first_index, int64_t *inverse,
                          int64_t *found)
{
#pragma omp parallel for schedule(static) if (n > 1024)
    for (int s = 0; s < 2; s++)
        found[s] = unique_side(s ? rows1 : rows0, n, s ? objects1 : objects0, s ? lut1 : lut0, first_index + s * n,
                               inverse + s * n);
}

/* Returns the index of the bit of a pair of objects; see mark_positives. */
static uint64_t bit_of(int32_t object0, int32_t object1, int64_t bits_per_object, int64_t count)
{
    if (bits_per_object)
        return (uint64_t)(object0 * bits_per_object + object1);
    const uint64_t key = ((uint64_t)(uint32_t)object0 << 32) | (uint32_t)object1;
    return (uint64_t)((unsigned __int128)((key ^ key >> 29) * 0x9e3779b97f4a7c15u) * (uint64_t)count >> 64);
}

KERNEL(void, mark_positives)(const int32_t *object0, const int32_t *object1, int64_t n, uint8_t *bits,
                             int64_t bits_per_object, int64_t count)
{
    for (int64_t j = 0; j < n; j++) {
        const uint64_t bit = bit_of(object0[j], object1[j], bits_per_object, count);
        bits[bit >> 3] |= (uint8_t)(1 << (bit & 7));
    }
}

/* Returns whether an object is among `count` ascending partners. Without a branch: half of the predictions would fail.
 */
static uint8_t contains(const int32_t *partners, int64_t count, int32_t object)
{
    for (; count > 1; count -= count / 2)
        partners += partners[count / 2 - 1] < object ? count / 2 : 0;
    return count && *partners == object;
}

/* Returns whether object1 is a partner of object0. Most pairs need no search: their bit is not set. */
static int are_partners(int32_t object0, int32_t object1, const int64_t *starts, const int32_t *partners,
                        const uint8_t *bits, int64_t bits_per_object, int64_t count)
{
    const uint64_t bit = bit_of(object0, object1, bits_per_object, count);
    const int marked = bits[bit >> 3] >> (bit & 7) & 1;
    if (bits_per_object || !marked)
        return marked;
    return contains(partners + starts[object0], starts[object0 + 1] - starts[object0], object1);
}

/* Returns the random number of a place: splitmix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", 2014. */
static uint64_t random_at(uint64_t seed, uint64_t place)
{
    uint64_t z = seed + (place + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

KERNEL(int64_t, draw_negatives)(const int64_t *rows, int64_t n, const uint8_t *positive, int64_t negatives,
                                uint64_t seed, int64_t rounds, const int64_t *sources, int64_t count,
                                const int32_t *objects0, const int32_t *objects1, const int64_t *starts,
                                const int32_t *partners, const uint8_t *bits, int64_t bits_per_object, int64_t size,
                                int64_t give_objects, int64_t *out)
{
    int64_t found = 0;
#pragma omp parallel for schedule(static) reduction(+ : found) if (n * negatives > 4096)
    for (int64_t i = 0; i < n; i++) {
        const int32_t object0 = objects0[rows[i]];
        int64_t *own = out + i * (1 + negatives);
        *own++ = give_objects ? objects1[rows[i]] : rows[i];
        for (int64_t k = 0; k < negatives; k++) {
            own[k] = -1;
            for (int64_t round = 0; positive[rows[i]] && round < rounds; round++) {
                const uint64_t number = random_at(seed, (uint64_t)((i * negatives + k) * rounds + round));
                const int64_t at = (int64_t)((unsigned __int128)number * (uint64_t)count >> 64);
                const int64_t row = sources ? sources[at] : at;
                if (are_partners(object0, objects1[row], starts, partners, bits, bits_per_object, size))
                    continue;
                own[k] = give_objects ? objects1[row] : row;
                found++;
                break;
            }
        }
    }
    return found;
}
