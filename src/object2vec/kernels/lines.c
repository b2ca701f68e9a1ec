/* JSON Lines in their plain form to columns; see read_lines. */
#include "kernels.h"

/* Where a line is being read. */
typedef struct {
    const uint8_t *at, *end;
} Text;

static inline void skip_space(Text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t' || *text->at == '\r'))
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
int64_t read_lines(const uint8_t *bytes, int64_t size, const int64_t *most, int32_t *const *values,
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
