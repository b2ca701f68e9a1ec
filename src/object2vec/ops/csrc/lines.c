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

static inline int at_end(Cursor *cursor)
{
    skip_space(cursor);
    return cursor->at == cursor->end;
}

/* Takes one character after spaces; returns 0 if it is another. */
static inline int take(Cursor *cursor, uint8_t wanted)
{
    if (at_end(cursor) || *cursor->at != wanted)
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

/* Takes a list of tokens, and writes the first max_len to values; returns 0 for anything else. */
static int take_list(Cursor *cursor, int64_t max_len, int32_t *values, int64_t *tokens)
{
    int32_t token;
    *tokens = 0;
    if (!take(cursor, '['))
        return 0;
    if (take(cursor, ']'))
        return 1;
    do {
        if (!take_token(cursor, &token))
            return 0;
        if (*tokens < max_len)
            values[*tokens] = token;
        ++*tokens;
    } while (take(cursor, ','));
    return take(cursor, ']');
}

/* Takes a number whose float64 is exact: up to 15 digits, with or without a point. Returns 0 for anything else. */
static int take_number(Cursor *cursor, double *number)
{
    const uint8_t *from;
    int64_t value = 0, digits = 0;
    double divisor = 1; /* a power of ten, exact up to 1e22 */
    int negative = take(cursor, '-');
    if (!negative)
        skip_space(cursor);
    for (from = cursor->at; is_digit(cursor) && digits < 16; cursor->at++, digits++)
        value = value * 10 + (*cursor->at - '0');
    if (!digits || (*from == '0' && digits > 1))
        return 0;
    if (cursor->at < cursor->end && *cursor->at == '.') {
        for (cursor->at++; is_digit(cursor) && digits < 16; cursor->at++, digits++, divisor *= 10)
            value = value * 10 + (*cursor->at - '0');
        if (divisor == 1)
            return 0;
    }
    if (digits > 15 || (cursor->at < cursor->end && (*cursor->at == 'e' || *cursor->at == 'E')))
        return 0;
    *number = (negative ? -1.0 : 1.0) * ((double)value / divisor);
    return 1;
}

/* Takes exactly this text, spaces not skipped. */
static inline int take_text(Cursor *cursor, const char *text)
{
    const size_t length = strlen(text);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length))
        return 0;
    cursor->at += length;
    return 1;
}

enum { LABEL = 2 }; /* the key after in0 and in1 */

/* Takes `"name":`; returns the number of the key, or -1. */
static inline int take_key(Cursor *cursor)
{
    static const char *const names[] = {"in0\"", "in1\"", "label\""};
    if (!take(cursor, '"'))
        return -1;
    int key = 0;
    while (key <= LABEL && !take_text(cursor, names[key]))
        key++;
    return key <= LABEL && take(cursor, ':') ? key : -1;
}

/* Copies the bytes of a value of any JSON and a newline to *out. The value ends before a comma or a bracket that is not
 * its own: brackets and quotes are counted, all else is left to the caller. Returns 0 for null and for nothing, or if
 * there is a newline or no end. */
static int take_raw(Cursor *cursor, uint8_t **out)
{
    const uint8_t *const from = cursor->at;
    int64_t depth = 0;
    int in_string = 0;
    for (; cursor->at < cursor->end && *cursor->at != '\n'; cursor->at++) {
        const uint8_t byte = *cursor->at;
        if (byte == '\\')
            cursor->at++;
        else if (byte == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (byte == '{' || byte == '[')
            depth++;
        else if (!depth && (byte == ',' || byte == '}' || byte == ']'))
            break;
        else if (byte == '}' || byte == ']')
            depth--;
    }
    if (cursor->at >= cursor->end || cursor->at == from || *cursor->at == '\n' || *from == 'n')
        return 0;
    const size_t size = (size_t)(cursor->at - from);
    memcpy(*out, from, size);
    (*out)[size] = '\n';
    *out += size + 1;
    return 1;
}

/* The keys of a record, as bits; the number of tokens of each side; and the label. */
typedef struct {
    int keys;
    int64_t tokens[2];
    double label;
} Record;

/* Takes a record of any keys, each once. Writes the first max_len[s] tokens of side s to values[s], or what is no list to
 * raw[s]. Returns 0 for anything else, and without `raw` where a side is no list. */
ALWAYS_INLINE int take_record(Cursor *cursor, const int64_t *max_len, int32_t *const *values, uint8_t **raw,
                              Record *record)
{
    record->keys = 0;
    if (!take(cursor, '{'))
        return 0;
    do {
        const int key = take_key(cursor);
        if (key < 0 || record->keys & 1 << key)
            return 0;
        record->keys |= 1 << key;
        int taken;
        if (key == LABEL) {
            taken = take_number(cursor, &record->label);
        } else if (raw && !at_end(cursor) && *cursor->at != '[') {
            record->tokens[key] = 0;
            taken = take_raw(cursor, raw + key);
        } else {
            taken = take_list(cursor, max_len[key], values[key], record->tokens + key);
        }
        if (!taken)
            return 0;
    } while (take(cursor, ','));
    return take(cursor, '}');
}

/* Returns the line at *text, and moves *text to the next one. */
static inline Cursor next_line(const uint8_t **text, const uint8_t *end)
{
    const uint8_t *const stop = memchr(*text, '\n', (size_t)(end - *text));
    const Cursor line = {*text, stop ? stop : end};
    *text = line.end + (stop != NULL);
    return line;
}

KERNEL(int64_t, read_lines)(const uint8_t *bytes, int64_t size, const int64_t *max_len, int32_t *const *values,
                            int64_t *const *lengths, double *labels, int64_t *truncated, int64_t *lines,
                            int64_t *consumed)
{
    int32_t *next[2] = {values[0], values[1]};
    int64_t records = 0;
    const uint8_t *text = bytes, *end = bytes + size;
    for (*lines = *consumed = 0; text < end; ++*lines, *consumed = text - bytes) {
        Cursor line = next_line(&text, end);
        if (at_end(&line))
            continue;
        Record record;
        if (!take_record(&line, max_len, next, NULL, &record) || record.keys != 7 || !at_end(&line))
            break;
        for (int side = 0; side < 2; side++) {
            const int over = record.tokens[side] > max_len[side];
            lengths[side][records] = over ? max_len[side] : record.tokens[side];
            next[side] += lengths[side][records];
            truncated[side] += over;
        }
        labels[records++] = record.label;
    }
    return records;
}

/* The columns of a request. Side s has n[s] sequences: their tokens, offsets, and instances (rows). `raw` is where the
 * next raw value of each side goes, or NULL. */
typedef struct {
    int32_t *values[2];
    int64_t *offsets[2], *rows[2], n[2];
    uint8_t *raw[2];
} RequestColumns;

/* Takes instance number `row`, which has in0, in1 or both. Returns 0 for anything else. */
static int take_instance(Cursor *cursor, int64_t row, RequestColumns *columns)
{
    static const int64_t max_len[] = {INT64_MAX, INT64_MAX};
    int32_t *next[2];
    Record record;
    for (int side = 0; side < 2; side++)
        next[side] = columns->values[side] + columns->offsets[side][columns->n[side]];
    if (!take_record(cursor, max_len, next, columns->raw[0] ? columns->raw : NULL, &record) || !(record.keys & 3))
        return 0;
    for (int side = 0; side < 2; side++)
        if (record.keys & 1 << side) {
            int64_t *n = columns->n + side, *offset = columns->offsets[side] + *n;
            offset[1] = *offset + record.tokens[side];
            columns->rows[side][(*n)++] = row;
        }
    return 1;
}

/* Takes the document of a request; returns the number of instances, or -1. */
static int64_t read_document(const uint8_t *bytes, int64_t size, RequestColumns *columns)
{
    Cursor cursor = {bytes, bytes + size};
    int64_t row = 0;
    if (!take(&cursor, '{') || !take(&cursor, '"') || !take_text(&cursor, "instances\"") || !take(&cursor, ':') ||
        !take(&cursor, '['))
        return -1;
    if (!take(&cursor, ']')) {
        do {
            if (!take_instance(&cursor, row++, columns))
                return -1;
        } while (take(&cursor, ','));
        if (!take(&cursor, ']'))
            return -1;
    }
    return take(&cursor, '}') && at_end(&cursor) ? row : -1;
}

/* Takes the lines of a request, and the line number of each instance; returns the number of instances, or -1. */
static int64_t read_rows(const uint8_t *bytes, int64_t size, RequestColumns *columns, int64_t *lines)
{
    const uint8_t *text = bytes, *end = bytes + size;
    int64_t row = 0;
    for (int64_t number = 1; text < end; number++) {
        Cursor line = next_line(&text, end);
        if (at_end(&line))
            continue;
        if (!take_instance(&line, row, columns) || !at_end(&line))
            return -1;
        lines[row++] = number;
    }
    return row;
}

KERNEL(int64_t, read_instances)(const uint8_t *bytes, int64_t size, int64_t document, int64_t *columns,
                                int64_t max_rows, int64_t max_tokens, uint8_t *NULLABLE raw)
{
    int64_t *offsets = columns + 6, *lines = offsets + 4 * max_rows;
    int32_t *values = (int32_t *)(lines + max_rows);
    RequestColumns request = {{values, values + max_tokens},
                              {offsets, offsets + max_rows},
                              {offsets + 2 * max_rows, offsets + 3 * max_rows},
                              {0, 0},
                              {raw, raw ? raw + size : NULL}};
    offsets[0] = offsets[max_rows] = 0;
    const int64_t found = document ? read_document(bytes, size, &request) : read_rows(bytes, size, &request, lines);
    for (int side = 0; side < 2; side++) {
        columns[side] = request.n[side];
        columns[2 + side] = request.offsets[side][request.n[side]];
        columns[4 + side] = raw ? request.raw[side] - (raw + side * size) : 0;
    }
    return found;
}
