/* Objects: n sequences of tokens lie in values[offsets[i]:offsets[i + 1]]; sequences of the same tokens are one object. */
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

/* A place of a hash table of objects. Most sequences that are not the same have another tag, and need not be looked at:
 * they may be far away, on disk. */
typedef struct {
    int32_t object; /* -1 where empty */
    uint32_t tag;
} Slot;

/* Goes on from sequence `from`: the number of each sequence's object into which (n), the first sequence that holds it
 * into first. `found` objects are known. slots is a hash table of them, mask + 1 (a power of two) long; returns where it
 * got to, n or the sequence for which the table, seven eighths full by then, has no more room. */
KERNEL(int64_t, distinct)(const int32_t *values, const int64_t *offsets, int64_t from, int64_t n, Slot *slots, int64_t mask,
                 int32_t *which, int32_t *first, int64_t *found)
{
    for (int64_t i = from; i < n; i++) {
        const int32_t *tokens = values + offsets[i];
        const int64_t length = offsets[i + 1] - offsets[i];
        const uint64_t hash = hash_of(tokens, length);
        for (int64_t at = (int64_t)hash & mask;; at = (at + 1) & mask) {
            const Slot slot = slots[at];
            if (slot.object < 0) {
                if (8 * *found > 7 * mask)
                    return i;
                slots[at] = (Slot){which[i] = (int32_t)*found, (uint32_t)(hash >> 32)};
                first[(*found)++] = (int32_t)i;
                break;
            }
            if (slot.tag != (uint32_t)(hash >> 32))
                continue;
            const int64_t other = offsets[first[slot.object]];
            if (offsets[first[slot.object] + 1] - other == length &&
                !memcmp(values + other, tokens, (size_t)length * sizeof *tokens)) {
                which[i] = slot.object;
                break;
            }
        }
    }
    return n;
}

/* Puts `found` objects, that stand in the sequences `first`, into an empty hash table. */
KERNEL(void, place_objects)(const int32_t *values, const int64_t *offsets, const int32_t *first, int64_t found, Slot *slots,
                   int64_t mask)
{
    for (int64_t object = 0; object < found; object++) {
        const int64_t start = offsets[first[object]];
        const uint64_t hash = hash_of(values + start, offsets[first[object] + 1] - start);
        int64_t at = (int64_t)hash & mask;
        while (slots[at].object >= 0)
            at = (at + 1) & mask;
        slots[at] = (Slot){(int32_t)object, (uint32_t)(hash >> 32)};
    }
}

/* Numbers the objects which[rows[j]] of n rows, or rows[j] where which is NULL, as they come: the first row of each into
 * first (n), the number of each row's into place (n). `lut` is scratch, one an object, all -1 before and after. Returns how
 * many different ones there are. Without a branch: whether an object is new is hard to guess. */
static int64_t number_side(const int64_t *rows, int64_t n, const int32_t *which, int32_t *lut, int64_t *first, int64_t *place)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        int32_t *own = lut + (which ? which[rows[j]] : rows[j]);
        if (which && j + 16 < n)
            __builtin_prefetch(which + rows[j + 16]);
        const int is_new = *own < 0;
        const int32_t number = is_new ? (int32_t)found : *own;
        *own = number;
        place[j] = number;
        first[found] = rows[j];
        found += is_new;
    }
    for (int64_t r = 0; r < found; r++)
        lut[which ? which[first[r]] : first[r]] = -1;
    return found;
}

/* The same for both sides of pairs of rows, into first and place (2, n); how many different ones there are of side s goes
 * into found[s]. */
KERNEL(void, number)(const int64_t *rows0, const int64_t *rows1, int64_t n, const int32_t *which0, const int32_t *which1, int32_t *lut0,
            int32_t *lut1, int64_t *first, int64_t *place, int64_t *found)
{
#pragma omp parallel for schedule(static) if (n > 1024)
    for (int s = 0; s < 2; s++)
        found[s] = number_side(s ? rows1 : rows0, n, s ? which1 : which0, s ? lut1 : lut0, first + s * n, place + s * n);
}

/* The same where rows are objects of one token each, those of tokens0 and tokens1: the tokens of the different ones of
 * side s into tokens + s * n. */
KERNEL(void, number_tokens)(const int64_t *rows0, const int64_t *rows1, int64_t n, const int32_t *tokens0, const int32_t *tokens1,
                   int32_t *lut0, int32_t *lut1, int64_t *first, int64_t *place, int64_t *found, int32_t *tokens)
{
    NAME(number)(rows0, rows1, n, NULL, NULL, lut0, lut1, first, place, found);
    for (int s = 0; s < 2; s++)
        for (int64_t r = 0; r < found[s]; r++)
            tokens[s * n + r] = (s ? tokens1 : tokens0)[first[s * n + r]];
}

/* Where the sequences that `index` (n) names are to begin, one behind the other, into out (n + 1). */
KERNEL(void, starts_of)(const int64_t *offsets, const int64_t *index, int64_t n, int64_t *out)
{
    out[0] = 0;
    for (int64_t j = 0; j < n; j++)
        out[j + 1] = out[j] + offsets[index[j] + 1] - offsets[index[j]];
}

/* Copies the sequences that `index` (n) names to where out_offsets (n + 1) says, one behind the other. Returns n, or the
 * number of the first one that is not within the `size` values. */
KERNEL(int64_t, take)(const int32_t *values, const int64_t *offsets, int64_t size, const int64_t *index, int64_t n,
                      const int64_t *out_offsets, int32_t *out)
{
    for (int64_t j = 0; j < n; j++) {
        const int64_t start = offsets[index[j]], length = out_offsets[j + 1] - out_offsets[j];
        if (start < 0 || length < 0 || start > size - length)
            return j;
        if (length == 1)
            out[out_offsets[j]] = values[start];
        else
            memcpy(out + out_offsets[j], values + start, (size_t)length * sizeof *out);
    }
    return n;
}

/* Which of `count` bits stands for a pair of objects: its own where there are `each` for every object0; else one by chance,
 * that others may have too. */
static uint64_t bit_of(int32_t object0, int32_t object1, int64_t each, int64_t count)
{
    if (each)
        return (uint64_t)(object0 * each + object1);
    const uint64_t key = ((uint64_t)(uint32_t)object0 << 32) | (uint32_t)object1;
    return (uint64_t)((unsigned __int128)((key ^ key >> 29) * 0x9e3779b97f4a7c15u) * (uint64_t)count >> 64);
}

/* Sets the bits of the pairs of objects object0[j] and object1[j], n of them. */
KERNEL(void, mark_pairs)(const int32_t *object0, const int32_t *object1, int64_t n, uint8_t *bits, int64_t each, int64_t count)
{
    for (int64_t j = 0; j < n; j++) {
        const uint64_t bit = bit_of(object0[j], object1[j], each, count);
        bits[bit >> 3] |= (uint8_t)(1 << (bit & 7));
    }
}

/* Whether an object is among the `left` partners that begin at `partners`, ascending. Without a branch: half of the
 * guesses would be wrong. */
static uint8_t search(const int32_t *partners, int64_t left, int32_t object)
{
    if (left == 0)
        return 0;
    for (; left > 1; left -= left / 2)
        partners += partners[left / 2 - 1] < object ? left / 2 : 0;
    return *partners == object;
}

/* Whether object1 is among the partners of object0, which lie in partners[starts[object0]:starts[object0 + 1]], ascending.
 * The bits of all such pairs were set by mark_pairs, so that few others need a search, or none. */
static int are_partners(int32_t object0, int32_t object1, const int64_t *starts, const int32_t *partners,
                        const uint8_t *bits, int64_t each, int64_t count)
{
    const uint64_t bit = bit_of(object0, object1, each, count);
    const int marked = bits[bit >> 3] >> (bit & 7) & 1;
    if (each || !marked)
        return marked;
    return search(partners + starts[object0], starts[object0 + 1] - starts[object0], object1);
}

/* The random number of a place: splitmix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
 * 2014. */
static uint64_t random_at(uint64_t seed, uint64_t place)
{
    uint64_t z = seed + (place + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Draws `rate` rows for each of n rows that is positive, any of `count` alike, or of sources (count) where that is not
 * NULL, until its object1 is no partner of the row's object0, `rounds` times at most. Into out (n, 1 + rate) go each row
 * and what was drawn for it, -1 for none; of each its object1, where give_objects is 1. Returns how many were drawn. */
KERNEL(int64_t, draw_negatives)(const int64_t *rows, int64_t n, const uint8_t *positive, int64_t rate, uint64_t seed, int64_t rounds,
                       const int64_t *sources, int64_t count, const int32_t *which0, const int32_t *which1,
                       const int64_t *starts, const int32_t *partners, const uint8_t *bits, int64_t each, int64_t size,
                       int64_t give_objects, int64_t *out)
{
    int64_t found = 0;
#pragma omp parallel for schedule(static) reduction(+ : found) if (n * rate > 4096)
    for (int64_t i = 0; i < n; i++) {
        const int32_t object0 = which0[rows[i]];
        int64_t *own = out + i * (1 + rate);
        *own++ = give_objects ? which1[rows[i]] : rows[i];
        for (int64_t k = 0; k < rate; k++) {
            own[k] = -1;
            for (int64_t round = 0; positive[rows[i]] && round < rounds; round++) {
                const uint64_t number = random_at(seed, (uint64_t)((i * rate + k) * rounds + round));
                const int64_t at = (int64_t)((unsigned __int128)number * (uint64_t)count >> 64);
                const int64_t row = sources ? sources[at] : at;
                if (are_partners(object0, which1[row], starts, partners, bits, each, size))
                    continue;
                own[k] = give_objects ? which1[row] : row;
                found++;
                break;
            }
        }
    }
    return found;
}

/* Puts n rows and what was drawn for each, drawn (n, 1 + rate), into columns: row0 has which0[rows[i]], or rows[i] where
 * that is NULL, and row1 what is drawn; the first of each row has its label, of `labels`, and the others 0. What is -1 is
 * left out. Returns how many there are. */
KERNEL(int64_t, beside)(const int64_t *rows, int64_t n, int64_t rate, const int32_t *which0, const float *labels, const int64_t *drawn,
               int64_t *row0, int64_t *row1, float *label)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t own = which0 ? which0[rows[i]] : rows[i];
        for (int64_t k = 0; k <= rate; k++, drawn++) {
            row0[found] = own;
            row1[found] = *drawn;
            label[found] = k ? 0 : labels[rows[i]];
            found += *drawn >= 0;
        }
    }
    return found;
}
