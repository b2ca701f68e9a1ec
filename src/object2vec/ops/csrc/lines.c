/* JSON in its plain form to columns: the lines of a training file, and requests. */
#include "requests.h"

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

enum { LABEL = 2, WEIGHT = 3 }; /* the keys after in0 and in1 */

/* Takes `"name":`; returns the number of the key, or -1. */
static inline int take_key(Cursor *cursor)
{
    static const char *const names[] = {"in0\"", "in1\"", "label\"", "weight\""};
    if (!take(cursor, '"'))
        return -1;
    int key = 0;
    while (key <= WEIGHT && !take_text(cursor, names[key]))
        key++;
    return key <= WEIGHT && take(cursor, ':') ? key : -1;
}

/* The keys of a record, as bits; the number of tokens of each side, and its text if it is no list; the label and the weight. */
typedef struct {
    int keys;
    int64_t tokens[2];
    Cursor raw[2];
    double label, weight;
} Record;

/* Takes a record of any keys, each once, and writes the first max_len[s] tokens of side s to values[s]. Returns 0 for
 * anything else, and without `sides` where a side is no list. A raw value that is unusual has -1 tokens. */
ALWAYS_INLINE int take_record(Cursor *cursor, const int64_t *max_len, int32_t *const *values, const ValueSide *sides,
                              Record *record)
{
    record->keys = 0;
    record->raw[0].at = record->raw[1].at = NULL;
    if (!take(cursor, '{'))
        return 0;
    do {
        const int key = take_key(cursor);
        if (key < 0 || record->keys & 1 << key)
            return 0;
        record->keys |= 1 << key;
        int taken;
        if (key >= LABEL) {
            taken = take_number(cursor, key == LABEL ? &record->label : &record->weight);
        } else if (sides && !at_end(cursor) && *cursor->at != '[') {
            const uint8_t *const from = cursor->at;
            if (*from == 'n') /* null */
                return 0;
            record->tokens[key] = NAME(encode_json)(sides + key, cursor, values[key]);
            taken = record->tokens[key] >= 0 || take_any(cursor);
            record->raw[key] = (Cursor){from, cursor->at};
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

KERNEL(int64_t, read_lines)(const uint8_t *bytes, int64_t size, int64_t sides, const int64_t *max_len, int32_t *const *values,
                            int64_t *const *lengths, double *labels, double *weights, int64_t *weighted,
                            int64_t *truncated, int64_t *lines, int64_t *consumed)
{
    int32_t *next[2] = {values[0], values[1]};
    int64_t records = 0;
    const int keys = 1 << LABEL | (sides == 2 ? 3 : 1);
    const uint8_t *text = bytes, *end = bytes + size;
    for (*lines = *consumed = *weighted = 0; text < end; ++*lines, *consumed = text - bytes) {
        Cursor line = next_line(&text, end);
        if (at_end(&line))
            continue;
        Record record;
        if (!take_record(&line, max_len, next, NULL, &record) || (record.keys & 7) != keys || !at_end(&line))
            break;
        for (int side = 0; side < sides; side++) {
            const int over = record.tokens[side] > max_len[side];
            lengths[side][records] = over ? max_len[side] : record.tokens[side];
            next[side] += lengths[side][records];
            truncated[side] += over;
        }
        const int has_weight = record.keys >> WEIGHT;
        *weighted += has_weight;
        weights[records] = has_weight ? record.weight : 1;
        labels[records++] = record.label;
    }
    return records;
}

/* Takes instance number `row`, which has in0, in1 or both. Returns 0 for anything else. */
static int take_instance(Cursor *cursor, int64_t row, RequestColumns *columns)
{
    static const int64_t max_len[] = {INT64_MAX, INT64_MAX};
    int32_t *next[2];
    Record record;
    for (int side = 0; side < 2; side++)
        next[side] = next_tokens(columns, side);
    if (!take_record(cursor, max_len, next, columns->sides, &record) || !(record.keys & 3))
        return 0;
    for (int side = 0; side < 2; side++)
        if (record.keys & 1 << side) {
            const Cursor raw = record.raw[side];
            if (!raw.at) {
                add_sequence(columns, side, row, record.tokens[side]);
                continue;
            }
            add_raw_value(columns, side, row, record.tokens[side]);
            if (record.tokens[side] < 0)
                add_text(columns, side, raw.at, raw.end, '\n');
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
static int64_t read_rows(const uint8_t *bytes, int64_t size, RequestColumns *columns)
{
    const uint8_t *text = bytes, *end = bytes + size;
    int64_t row = 0;
    for (int64_t number = 1; text < end; number++) {
        Cursor line = next_line(&text, end);
        if (at_end(&line))
            continue;
        if (!take_instance(&line, row, columns) || !at_end(&line))
            return -1;
        columns->lines[row++] = number;
    }
    return row;
}

KERNEL(int64_t, read_instances)(const uint8_t *bytes, int64_t size, int64_t document, const ValueSide *NULLABLE sides,
                                int64_t *columns, int64_t max_rows, int64_t max_tokens)
{
    RequestColumns request = open_columns(columns, max_rows, max_tokens, size, sides);
    const int64_t found = document ? read_document(bytes, size, &request) : read_rows(bytes, size, &request);
    close_columns(&request, columns);
    return found;
}
