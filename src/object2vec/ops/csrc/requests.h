/* The columns of a request while it is read; see read_instances in api.h. */
#ifndef OBJECT2VEC_REQUESTS_H
#define OBJECT2VEC_REQUESTS_H

#include "cursor.h"

/* Side s has n[s] sequences: their tokens, offsets, and instances (rows). raw_count[s] of them are raw values. Those that
 * are left to the caller are missing[s], and raw[s] is where the next of them goes; NULL without raw values. */
typedef struct {
    const ValueSide *sides;
    int32_t *values[2];
    int64_t *offsets[2], *rows[2], *lines, *missing[2], n[2], raw_count[2], missing_count[2];
    uint8_t *raw[2], *raw_start[2];
} RequestColumns;

enum { COUNTS = 12 }; /* the numbers before the columns */

/* Returns columns without sequences, at the addresses of api.h. */
static inline RequestColumns open_columns(int64_t *columns, int64_t max_rows, int64_t max_tokens, int64_t size,
                                          const ValueSide *sides)
{
    int64_t *const first = columns + COUNTS;
    int32_t *const values = (int32_t *)(first + 7 * max_rows);
    uint8_t *const raw = sides ? (uint8_t *)(values + 2 * max_tokens) : NULL;
    RequestColumns request = {.sides = sides, .lines = first + 6 * max_rows};
    for (int side = 0; side < 2; side++) {
        request.offsets[side] = first + side * max_rows;
        request.rows[side] = first + (2 + side) * max_rows;
        request.missing[side] = first + (4 + side) * max_rows;
        request.values[side] = values + side * max_tokens;
        request.raw[side] = request.raw_start[side] = sides ? raw + side * (size + 1) : NULL;
        request.offsets[side][0] = 0;
    }
    return request;
}

/* Writes the numbers before the columns. */
static inline void close_columns(const RequestColumns *request, int64_t *columns)
{
    for (int side = 0; side < 2; side++) {
        const int64_t tokens = request->offsets[side][request->n[side]];
        int64_t unknown = 0;
        if (request->raw_count[side] && request->sides[side].count) {
            const ValueSide own = request->sides[side];
            for (int64_t k = 0; k < tokens; k++)
                unknown += (uint32_t)(request->values[side][k] - own.columns->unknown_id) < (uint32_t)own.count;
        }
        columns[side] = request->n[side];
        columns[2 + side] = tokens;
        columns[4 + side] = request->raw_count[side];
        columns[6 + side] = request->missing_count[side];
        columns[8 + side] = request->raw[side] - request->raw_start[side];
        columns[10 + side] = unknown;
    }
}

/* In values.c. Appends the ids of a column's value, which is text, to *out. Returns 0 if it is unusual. */
int NAME(encode_text)(const ValueColumn *column, const uint8_t *text, int64_t length, int32_t **out);

/* In values.c. Takes a raw value in JSON, and writes its ids. Returns their number, or -1 if the value is unusual. */
int64_t NAME(encode_json)(const ValueSide *side, Cursor *cursor, int32_t *values);

/* Returns where the tokens of the next sequence go. */
static inline int32_t *next_tokens(const RequestColumns *request, int side)
{
    return request->values[side] + request->offsets[side][request->n[side]];
}

/* Adds a sequence of instance `row`, whose tokens are there already. */
static inline void add_sequence(RequestColumns *request, int side, int64_t row, int64_t tokens)
{
    int64_t *const n = request->n + side, *const offset = request->offsets[side] + *n;
    offset[1] = *offset + tokens;
    request->rows[side][(*n)++] = row;
}

/* Adds a raw value with that many tokens. With -1 it has none and is missing, and the caller adds its text. */
static inline void add_raw_value(RequestColumns *request, int side, int64_t row, int64_t tokens)
{
    request->raw_count[side]++;
    if (tokens < 0)
        request->missing[side][request->missing_count[side]++] = request->n[side];
    add_sequence(request, side, row, tokens < 0 ? 0 : tokens);
}

/* Adds text and a character after it to the text of missing values. */
static inline void add_text(RequestColumns *request, int side, const uint8_t *from, const uint8_t *to, uint8_t end)
{
    memcpy(request->raw[side], from, (size_t)(to - from));
    request->raw[side] += to - from;
    *request->raw[side]++ = end;
}

#endif
