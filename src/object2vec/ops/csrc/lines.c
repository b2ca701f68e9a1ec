/* JSON in its plain form to columns: the lines of a training file, see read_lines, and requests, see read_instances. */
#include "kernels.h"

/* Where a line is being read. */
typedef struct {
    const uint8_t *at, *end;
} Text;

/* A line has no newline in it. */
static inline void skip_space(Text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t' || *text->at == '\r' || *text->at == '\n'))
        text->at++;
}

/* Takes one character, spaces before it skipped; 0 if it is another. */
static inline int take(Text *text, uint8_t wanted)
{
    skip_space(text);
    if (text->at == text->end || *text->at != wanted)
        return 0;
    text->at++;
    return 1;
}

static inline int digit(const Text *text)
{
    return text->at < text->end && (uint8_t)(*text->at - '0') < 10;
}

/* Takes an integer of at most 9 digits and no sign; 0 for anything else. */
static inline int take_token(Text *text, int32_t *token)
{
    const uint8_t *from;
    int32_t value = 0;
    skip_space(text);
    for (from = text->at; digit(text) && text->at - from < 9; text->at++)
        value = value * 10 + (*text->at - '0');
    *token = value;
    return text->at > from && !(*from == '0' && text->at - from > 1) && !digit(text);
}

/* Takes a list of tokens, the first `most` of which are kept in values; 0 for anything else. */
static int take_list(Text *text, int64_t most, int32_t *values, int64_t *kept, int64_t *given)
{
    int32_t token;
    *kept = *given = 0;
    if (!take(text, '['))
        return 0;
    if (take(text, ']'))
        return 1;
    do {
        if (!take_token(text, &token))
            return 0;
        if (*given < most)
            values[(*kept)++] = token;
        ++*given;
    } while (take(text, ','));
    return take(text, ']');
}

/* Takes a number whose float64 is exact: up to 15 digits, with a point or without. 0 for anything else. */
static int take_number(Text *text, double *number)
{
    static const double power[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const uint8_t *from;
    int64_t value = 0, digits = 0, after = 0;
    int negative = take(text, '-');
    if (!negative)
        skip_space(text);
    for (from = text->at; digit(text) && digits < 16; text->at++, digits++)
        value = value * 10 + (*text->at - '0');
    if (!digits || (*from == '0' && digits > 1))
        return 0;
    if (text->at < text->end && *text->at == '.') {
        for (text->at++; digit(text) && digits < 16; text->at++, digits++, after++)
            value = value * 10 + (*text->at - '0');
        if (!after)
            return 0;
    }
    if (digits > 15 || (text->at < text->end && (*text->at == 'e' || *text->at == 'E')))
        return 0;
    *number = (negative ? -1.0 : 1.0) * ((double)value / power[after]);
    return 1;
}

/* Takes `"name":`; which of the three names, or -1. */
static int take_key(Text *text)
{
    static const char *const names[] = {"in0\"", "in1\"", "label\""};
    if (!take(text, '"'))
        return -1;
    for (int key = 0; key < 3; key++) {
        size_t length = strlen(names[key]);
        if ((size_t)(text->end - text->at) >= length && !memcmp(text->at, names[key], length)) {
            text->at += length;
            return take(text, ':') ? key : -1;
        }
    }
    return -1;
}

/* Reads the records of text, whole lines only, into columns, until one that is not in the plain form: an object with
 * in0, in1 and label once each and nothing else, tokens of at most 9 digits, a label of at most 15.
 *
 * For record r: label into labels[r]; of side s the first most[s] tokens into values[s], where lengths[s][r] says how
 * many that were. cut[s] counts the records that had more. Blank lines hold no record; the number of lines read is
 * left in *lines. Returns the number of records; *consumed is where reading stopped, which is the end if all was plain. */
KERNEL(int64_t, read_lines)(const uint8_t *bytes, int64_t size, const int64_t *most, int32_t *const *values,
                   int64_t *const *lengths, double *labels, int64_t *cut, int64_t *lines, int64_t *consumed)
{
    int32_t *next[2] = {values[0], values[1]};
    int64_t records = 0, kept, given;
    const uint8_t *line = bytes, *end = bytes + size;
    for (*lines = 0; line < end; ++*lines) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
        Text text = {line, stop ? stop : end};
        int64_t length[2], over[2] = {0, 0};
        int seen = 0;
        skip_space(&text);
        if (text.at < text.end) {
            int plain = take(&text, '{');
            while (plain) {
                int key = take_key(&text);
                if (key < 0 || seen & 1 << key)
                    plain = 0;
                else if (key == 2)
                    plain = take_number(&text, labels + records);
                else if ((plain = take_list(&text, most[key], next[key], &kept, &given))) {
                    length[key] = kept;
                    over[key] = given > kept;
                }
                seen |= key < 0 ? 0 : 1 << key;
                if (!plain || !take(&text, ','))
                    break;
            }
            plain = plain && seen == 7 && take(&text, '}');
            skip_space(&text);
            if (!plain || text.at != text.end)
                break;
            for (int side = 0; side < 2; side++) {
                next[side] += length[side];
                lengths[side][records] = length[side];
                cut[side] += over[side];
            }
            records++;
        }
        line = text.end + (stop != NULL);
    }
    *consumed = line - bytes;
    return records;
}

/* The columns of a request: for side s the tokens of its n[s] sequences, where each begins and what instance has it. */
typedef struct {
    int32_t *values[2];
    int64_t *offsets[2], *rows[2], n[2];
} Sides;

/* Takes an instance, whose number is `row`: an object with in0, in1 or both once each, a label or none, and nothing
 * else. 0 for anything else. */
static int take_instance(Text *text, int64_t row, Sides *sides)
{
    int64_t kept, given;
    double label;
    int seen = 0, key;
    if (!take(text, '{'))
        return 0;
    do {
        if ((key = take_key(text)) < 0 || seen & 1 << key)
            return 0;
        if (key == 2) {
            if (!take_number(text, &label))
                return 0;
        } else {
            int64_t *n = sides->n + key, *offset = sides->offsets[key] + *n;
            if (!take_list(text, INT64_MAX, sides->values[key] + *offset, &kept, &given))
                return 0;
            offset[1] = *offset + kept;
            sides->rows[key][(*n)++] = row;
        }
        seen |= 1 << key;
    } while (take(text, ','));
    return seen & 3 && take(text, '}');
}

/* Takes the document of a request; how many instances it has, or -1. */
static int64_t read_document(const uint8_t *bytes, int64_t size, Sides *sides)
{
    static const char name[] = "instances\"";
    Text text = {bytes, bytes + size};
    int64_t row = 0;
    if (!take(&text, '{') || !take(&text, '"') || text.end - text.at < (int64_t)sizeof name ||
        memcmp(text.at, name, sizeof name - 1))
        return -1;
    text.at += sizeof name - 1;
    if (!take(&text, ':') || !take(&text, '['))
        return -1;
    if (!take(&text, ']')) {
        do {
            if (!take_instance(&text, row++, sides))
                return -1;
        } while (take(&text, ','));
        if (!take(&text, ']'))
            return -1;
    }
    if (!take(&text, '}'))
        return -1;
    skip_space(&text);
    return text.at == text.end ? row : -1;
}

/* Takes the lines of a request, and the number of each instance's; how many instances there are, or -1. */
static int64_t read_rows(const uint8_t *bytes, int64_t size, Sides *sides, int64_t *numbers)
{
    const uint8_t *line = bytes, *end = bytes + size;
    int64_t row = 0;
    for (int64_t number = 1; line < end; number++) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
        Text text = {line, stop ? stop : end};
        skip_space(&text);
        if (text.at < text.end) {
            if (!take_instance(&text, row, sides))
                return -1;
            skip_space(&text);
            if (text.at != text.end)
                return -1;
            numbers[row++] = number;
        }
        line = text.end + (stop != NULL);
    }
    return row;
}

/* Reads a request: lines of instances, or a document {"instances": […]}. `most` is over the number of instances, and
 * `tokens` is as many as a side has at most. Into `places` go: how many sequences each side has, and how many tokens;
 * then, `most` each, the offsets of both sides, whose each sequence is, of both, and for lines the number of the line of
 * each instance; then the values of both sides, int32 and `tokens` each. Returns how many instances there are, or -1
 * where anything is not in the plain form of take_instance. */
KERNEL(int64_t, read_instances)(const uint8_t *bytes, int64_t size, int64_t document, int64_t *places, int64_t most,
                       int64_t tokens)
{
    int64_t *columns = places + 4, *numbers = columns + 4 * most;
    int32_t *values = (int32_t *)(numbers + most);
    Sides sides = {{values, values + tokens}, {columns, columns + most}, {columns + 2 * most, columns + 3 * most}, {0, 0}};
    columns[0] = columns[most] = 0;
    const int64_t found = document ? read_document(bytes, size, &sides) : read_rows(bytes, size, &sides, numbers);
    for (int side = 0; side < 2; side++) {
        places[side] = sides.n[side];
        places[2 + side] = sides.offsets[side][sides.n[side]];
    }
    return found;
}
