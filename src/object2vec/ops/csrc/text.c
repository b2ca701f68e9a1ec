/* Text to numbered words, and pairs to text. Only `prepare` uses them. */
#include "text.h"

typedef struct {
    const uint8_t *text;
    int64_t length;
    uint64_t hash;
} Piece;

typedef struct {
    Slot *slots;
    int64_t mask, found;
    uint8_t *pieces;
    int64_t *starts;
} PieceTable;

enum { BLOCK = 64 }; /* pieces at a time: they are prefetched, since most of the table is not in a cache */

/* Writes the numbers of n pieces, which follow the table's in memory. Returns 0 if the table is too small. */
static int number_block(PieceTable *table, const Piece *block, int64_t n, int32_t *codes)
{
    for (int64_t j = 0; j < n; j++) {
        const int32_t object = table->slots[(int64_t)block[j].hash & table->mask].object;
        codes[j] = object < 0 ? 0 : object;
    }
    for (int64_t j = 0; j < n; j++)
        __builtin_prefetch(table->starts + codes[j]);
    for (int64_t j = 0; j < n; j++)
        __builtin_prefetch(table->pieces + table->starts[codes[j]]);
    for (int64_t j = 0; j < n; j++) {
        const Piece piece = block[j];
        for (int64_t at = (int64_t)piece.hash & table->mask;; at = (at + 1) & table->mask) {
            const Slot slot = table->slots[at];
            if (slot.object < 0) {
                if (2 * table->found >= table->mask)
                    return 0;
                uint8_t *const end = table->pieces + table->starts[table->found];
                memmove(end, piece.text, (size_t)piece.length);
                table->slots[at] = (Slot){codes[j] = (int32_t)table->found, (uint32_t)(piece.hash >> 32)};
                table->starts[++table->found] = end + piece.length - table->pieces;
                break;
            }
            const int64_t *const start = table->starts + slot.object;
            if (slot.tag == (uint32_t)(piece.hash >> 32) && start[1] - start[0] == piece.length &&
                !memcmp(table->pieces + start[0], piece.text, (size_t)piece.length)) {
                codes[j] = slot.object;
                break;
            }
        }
    }
    return 1;
}

KERNEL(int64_t, number_pieces)(const uint8_t *text, const int64_t *offsets, int64_t n, int64_t is_split, Slot *slots,
                               int64_t mask, int64_t found, int64_t *lengths, int32_t *codes, uint8_t *pieces,
                               int64_t *starts)
{
    PieceTable table = {slots, mask, found, pieces, starts};
    Piece block[BLOCK];
    uint8_t characters[256], *end = pieces + starts[found];
    int64_t size = 0;
    for (int c = 0; c < 256; c++)
        characters[c] = piece_character(c);
    for (int64_t i = 0; i < n; i++) {
        lengths[i] = 0;
        for (int64_t k = offsets[i]; k < offsets[i + 1];) {
            uint8_t *const piece = end;
            if (is_split)
                while (k < offsets[i + 1] && (*end = characters[text[k++]]))
                    end++;
            else
                while (k < offsets[i + 1])
                    *end++ = text[k++];
            if (end == piece)
                continue;
            lengths[i]++;
            block[size] = (Piece){piece, end - piece, hash_text(piece, end - piece)};
            __builtin_prefetch(slots + ((int64_t)block[size].hash & mask));
            if (++size < BLOCK)
                continue;
            if (!number_block(&table, block, size, codes))
                return -1;
            codes += size;
            size = 0;
            end = pieces + starts[table.found];
        }
    }
    return number_block(&table, block, size, codes) ? table.found : -1;
}

/* Writes text (length), and returns its end. */
static inline uint8_t *write_text(uint8_t *out, const void *text, int64_t length)
{
    memcpy(out, text, (size_t)length);
    return out + length;
}

/* Writes a list of numbers that are not negative, and returns its end. */
static uint8_t *write_list(uint8_t *out, const int32_t *values, int64_t n)
{
    uint8_t digits[10];
    *out++ = '[';
    for (int64_t j = 0; j < n; j++) {
        uint32_t value = (uint32_t)values[j];
        int from = 10;
        do
            digits[--from] = (uint8_t)('0' + value % 10);
        while (value /= 10);
        if (j)
            *out++ = ',';
        out = write_text(out, digits + from, 10 - from);
    }
    *out++ = ']';
    return out;
}

KERNEL(int64_t, write_lines)(const int32_t *values0, const int64_t *offsets0, const int32_t *values1,
                             const int64_t *offsets1, int64_t n, const int32_t *label_codes, const uint8_t *labels,
                             const int64_t *label_offsets, uint8_t *out)
{
    uint8_t *const start = out;
    for (int64_t i = 0; i < n; i++) {
        const int32_t label = label_codes[i];
        out = write_text(out, "{\"in0\":", 7);
        out = write_list(out, values0 + offsets0[i], offsets0[i + 1] - offsets0[i]);
        out = write_text(out, ",\"in1\":", 7);
        out = write_list(out, values1 + offsets1[i], offsets1[i + 1] - offsets1[i]);
        out = write_text(out, ",\"label\":", 9);
        out = write_text(out, labels + label_offsets[label], label_offsets[label + 1] - label_offsets[label]);
        out = write_text(out, "}\n", 2);
    }
    return out - start;
}
