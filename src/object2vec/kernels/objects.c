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
int64_t distinct(const int32_t *values, const int64_t *offsets, int64_t from, int64_t n, Slot *slots, int64_t mask,
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
void place_objects(const int32_t *values, const int64_t *offsets, const int32_t *first, int64_t found, Slot *slots,
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

/* Numbers the objects which[rows[j]] of n rows as they come: the first row of each into first (n), the number of each
 * row's into place (n). `lut` is scratch, one an object, all -1 before and after. Returns how many different ones there
 * are. */
int64_t number(const int64_t *rows, int64_t n, const int32_t *which, int32_t *lut, int64_t *first, int64_t *place)
{
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        const int32_t object = which[rows[j]];
        if (lut[object] < 0) {
            lut[object] = (int32_t)found;
            first[found++] = rows[j];
        }
        place[j] = lut[object];
    }
    for (int64_t r = 0; r < found; r++)
        lut[which[first[r]]] = -1;
    return found;
}

/* Copies the sequences that `index` (n) names to where out_offsets (n + 1) says, one behind the other. */
void take(const int32_t *values, const int64_t *offsets, const int64_t *index, int64_t n, const int64_t *out_offsets,
          int32_t *out)
{
    for (int64_t j = 0; j < n; j++)
        memcpy(out + out_offsets[j], values + offsets[index[j]],
               (size_t)(out_offsets[j + 1] - out_offsets[j]) * sizeof *out);
}

enum { MOST_AT_ONCE = 8 };

/* Which of n objects are among the `left` partners that begin at `partners`, ascending. The searches take their steps
 * together, so that they wait for memory together, and without a branch to guess: half of the guesses would be wrong. */
static void search(const int32_t *partners, int64_t left, const int32_t *objects, int64_t n, uint8_t *out)
{
    const int32_t *at[MOST_AT_ONCE];
    const int any = left > 0;
    for (int64_t i = 0; i < n; i++)
        at[i] = partners;
    for (; left > 1; left -= left / 2)
        for (int64_t i = 0; i < n; i++)
            at[i] += at[i][left / 2 - 1] < objects[i] ? left / 2 : 0;
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)(any && *at[i] == objects[i]);
}

/* Whether object which1[row1[j]] is among the partners of object which0[row0[j]], for each of n pairs of rows: the
 * partners of object o lie in partners[starts[o]:starts[o + 1]], ascending. */
void are_partners(const int64_t *row0, const int64_t *row1, int64_t n, const int32_t *which0, const int32_t *which1,
                  const int64_t *starts, const int32_t *partners, uint8_t *out)
{
#pragma omp parallel for schedule(static) if (n > 4096)
    for (int64_t from = 0; from < n; from += 1024) {
        const int64_t to = from + 1024 < n ? from + 1024 : n;
        for (int64_t j = from, count; j < to; j += count) { /* rows that follow one another often have one in0 */
            int32_t objects[MOST_AT_ONCE];
            for (count = 0; count < MOST_AT_ONCE && j + count < to && row0[j + count] == row0[j]; count++)
                objects[count] = which1[row1[j + count]];
            const int64_t start = starts[which0[row0[j]]];
            search(partners + start, starts[which0[row0[j]] + 1] - start, objects, count, out + j);
        }
    }
}
