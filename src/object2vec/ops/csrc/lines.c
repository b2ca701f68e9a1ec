/* JSON in its plain form to columns: the lines of a training file, and requests. */
#include "kernels.h"

/* The rest of what is being read. */
typedef struct {
    const uint8_t *at, *end;
} Cursor;

/* Newlines occur in documents only. */
static inline void skip_space(Cursor *cursor)
{
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\r' || *cursor->at == '\n'))
        cursor->at++;
}

/* Takes one character after spaces; returns 0 if it is another. */
static inline int take(Cursor *cursor, uint8_t wanted)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return 0;
    cursor->at++;
    return 1;
}

static inline int is_digit(const Cursor *cursor)
{
    return cursor->at < cursor->end && (uint8_t)(*cursor->at - '0') < 10;
}

/* Takes an integer of at most 9 digits without a sign; returns 0 for anything else. */
static inline int take_token(Cursor *cursor, int32_t *token)
{
    const uint8_t *from;
    int32_t value = 0;
    skip_space(cursor);
    for (from = cursor->at; is_digit(cursor) && cursor->at - from < 9; cursor->at++)
        value = value * 10 + (*cursor->at - '0');
    *token = value;
    return cursor->at > from && !(*from == '0' && cursor->at - from > 1) && !is_digit(cursor);
}

/* Takes a list of tokens, and keeps the first max_len in values; returns 0 for anything else. */
static int take_list(Cursor *cursor, int64_t max_len, int32_t *values, int64_t *kept, int64_t *given)
{
    int32_t token;
    *kept = *given = 0;
    if (!take(cursor, '['))
        return 0;
    if (take(cursor, ']'))
        return 1;
    do {
        if (!take_token(cursor, &token))
            return 0;
        if (*given < max_len)
            values[(*kept)++] = token;
        ++*given;
    } while (take(cursor, ','));
    return take(cursor, ']');
}

/* Takes a number whose float64 is exact: up to 15 digits, with or without a point. Returns 0 for anything else. */
static int take_number(Cursor *cursor, double *number)
{
    static const double power[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const uint8_t *from;
    int64_t value = 0, digits = 0, after = 0;
    int negative = take(cursor, '-');
    if (!negative)
        skip_space(cursor);
    for (from = cursor->at; is_digit(cursor) && digits < 16; cursor->at++, digits++)
        value = value * 10 + (*cursor->at - '0');
    if (!digits || (*from == '0' && digits > 1))
        return 0;
    if (cursor->at < cursor->end && *cursor->at == '.') {
        for (cursor->at++; is_digit(cursor) && digits < 16; cursor->at++, digits++, after++)
            value = value * 10 + (*cursor->at - '0');
        if (!after)
            return 0;
    }
    if (digits > 15 || (cursor->at < cursor->end && (*cursor->at == 'e' || *cursor->at == 'E')))
        return 0;
    *number = (negative ? -1.0 : 1.0) * ((double)value / power[after]);
    return 1;
}

/* Takes `"name":`; returns the index of the name, or -1. */
static int take_key(Cursor *cursor)
{
    static const char *const names[] = {"in0\"", "in1\"", "label\""};
    if (!take(cursor, '"'))
        return -1;
    for (int key = 0; key < 3; key++) {
        size_t length = strlen(names[key]);
        if ((size_t)(cursor->end - cursor->at) >= length && !memcmp(cursor->at, names[key], length)) {
            cursor->at += length;
            return take(cursor, ':') ? key : -1;
        }
    }
    return -1;
}

/* Takes a line's record: appends its tokens at next, and writes its label, kept lengths, and whether sides were
 * truncated. Returns 0 if the record is not plain. */
ALWAYS_INLINE int take_record(Cursor *cursor, const int64_t *max_len, int32_t *const *next, double *label,
                              int64_t *length, int64_t *over)
{
    int seen = 0;
    if (!take(cursor, '{'))
        return 0;
    do {
        int64_t kept, given;
        const int key = take_key(cursor);
        if (key < 0 || seen & 1 << key)
            return 0;
        seen |= 1 << key;
        if (key == 2) {
            if (!take_number(cursor, label))
                return 0;
            continue;
        }
        if (!take_list(cursor, max_len[key], next[key], &kept, &given))
            return 0;
        length[key] = kept;
        over[key] = given > kept;
    } while (take(cursor, ','));
    if (seen != 7 || !take(cursor, '}'))
        return 0;
    skip_space(cursor);
    return cursor->at == cursor->end;
}

KERNEL(int64_t, read_lines)(const uint8_t *bytes, int64_t size, const int64_t *max_len, int32_t *const *values,
                            int64_t *const *lengths, double *labels, int64_t *truncated, int64_t *lines,
                            int64_t *consumed)
{
    int32_t *next[2] = {values[0], values[1]};
    int64_t records = 0;
    const uint8_t *line = bytes, *end = bytes + size;
    for (*lines = 0; line < end; ++*lines) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
        Cursor cursor = {line, stop ? stop : end};
        skip_space(&cursor);
        if (cursor.at < cursor.end) {
            int64_t length[2], over[2];
            if (!take_record(&cursor, max_len, next, labels + records, length, over))
                break;
            for (int side = 0; side < 2; side++) {
                next[side] += length[side];
                lengths[side][records] = length[side];
                truncated[side] += over[side];
            }
            records++;
        }
        line = cursor.end + (stop != NULL);
    }
    *consumed = line - bytes;
    return records;
}

/* The columns of a request. Side s has n[s] sequences: their tokens, offsets, and instances (rows). */
typedef struct {
    int32_t *values[2];
    int64_t *offsets[2], *rows[2], n[2];
} RequestColumns;

/* Takes instance number `row`: in0, in1 or both once each, a label or none, and nothing else. Returns 0 for anything
 * else. */
static int take_instance(Cursor *cursor, int64_t row, RequestColumns *columns)
{
    int64_t kept, given;
    double label;
    int seen = 0, key;
    if (!take(cursor, '{'))
        return 0;
    do {
        if ((key = take_key(cursor)) < 0 || seen & 1 << key)
            return 0;
        if (key == 2) {
            if (!take_number(cursor, &label))
                return 0;
        } else {
            int64_t *n = columns->n + key, *offset = columns->offsets[key] + *n;
            if (!take_list(cursor, INT64_MAX, columns->values[key] + *offset, &kept, &given))
                return 0;
            offset[1] = *offset + kept;
            columns->rows[key][(*n)++] = row;
        }
        seen |= 1 << key;
    } while (take(cursor, ','));
    return seen & 3 && take(cursor, '}');
}

/* Takes the document of a request; returns the number of instances, or -1. */
static int64_t read_document(const uint8_t *bytes, int64_t size, RequestColumns *columns)
{
    static const char name[] = "instances\"";
    Cursor cursor = {bytes, bytes + size};
    int64_t row = 0;
    if (!take(&cursor, '{') || !take(&cursor, '"') || cursor.end - cursor.at < (int64_t)sizeof name ||
        memcmp(cursor.at, name, sizeof name - 1))
        return -1;
    cursor.at += sizeof name - 1;
    if (!take(&cursor, ':') || !take(&cursor, '['))
        return -1;
    if (!take(&cursor, ']')) {
        do {
            if (!take_instance(&cursor, row++, columns))
                return -1;
        } while (take(&cursor, ','));
        if (!take(&cursor, ']'))
            return -1;
    }
    if (!take(&cursor, '}'))
        return -1;
    skip_space(&cursor);
    return cursor.at == cursor.end ? row : -1;
}

/* Takes the lines of a request, and the line number of each instance; returns the number of instances, or -1. */
static int64_t read_rows(const uint8_t *bytes, int64_t size, RequestColumns *columns, int64_t *lines)
{
    const uint8_t *line = bytes, *end = bytes + size;
    int64_t row = 0;
    for (int64_t number = 1; line < end; number++) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
        Cursor cursor = {line, stop ? stop : end};
        skip_space(&cursor);
        if (cursor.at < cursor.end) {
            if (!take_instance(&cursor, row, columns))
                return -1;
            skip_space(&cursor);
            if (cursor.at != cursor.end)
                return -1;
            lines[row++] = number;
        }
        line = cursor.end + (stop != NULL);
    }
    return row;
}

KERNEL(int64_t, read_instances)(const uint8_t *bytes, int64_t size, int64_t document, int64_t *columns,
                                int64_t max_rows, int64_t max_tokens)
{
    int64_t *offsets = columns + 4, *lines = offsets + 4 * max_rows;
    int32_t *values = (int32_t *)(lines + max_rows);
    RequestColumns request = {{values, values + max_tokens},
                              {offsets, offsets + max_rows},
                              {offsets + 2 * max_rows, offsets + 3 * max_rows},
                              {0, 0}};
    offsets[0] = offsets[max_rows] = 0;
    const int64_t found = document ? read_document(bytes, size, &request) : read_rows(bytes, size, &request, lines);
    for (int side = 0; side < 2; side++) {
        columns[side] = request.n[side];
        columns[2 + side] = request.offsets[side][request.n[side]];
    }
    return found;
}
