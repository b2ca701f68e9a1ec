/* Raw values to token ids. Unusual values are left to the caller: numbers with a point, escapes, characters that could
 * be spaces, words in other forms than those of the vocabulary. */
#include "requests.h"
#include "text.h"

enum { MAX_VALUE = 256 }; /* bytes of a token or a word; longer ones are left to the caller */

/* Returns the id of text that is followed by 7 bytes of any value; -1 if it is not known. */
static int32_t find_id(const ValueColumn *column, const uint8_t *text, int64_t length)
{
    const uint64_t hash = hash_text(text, length);
    for (int64_t at = (int64_t)hash & column->mask;; at = (at + 1) & column->mask) {
        const Slot slot = column->slots[at];
        if (slot.object < 0)
            return -1;
        const int64_t *const start = column->starts + slot.object;
        if (slot.tag == (uint32_t)(hash >> 32) && start[1] - start[0] == length &&
            !memcmp(column->pieces + start[0], text, (size_t)length))
            return column->ids[slot.object];
    }
}

/* Appends the id of a token that is not empty. */
static int add_token(const ValueColumn *column, const uint8_t *text, int64_t length, int32_t **out)
{
    uint8_t padded[MAX_VALUE + 8];
    if (length > MAX_VALUE)
        return 0;
    memcpy(padded, text, (size_t)length);
    const int32_t id = find_id(column, padded, length);
    *(*out)++ = id < 0 ? column->unknown_id : id;
    return 1;
}

/* Appends the ids of the words of a text. */
static int add_words(const ValueColumn *column, const uint8_t *text, int64_t length, int32_t **out)
{
    uint8_t word[MAX_VALUE + 8], character, any;
    for (int64_t k = 0; k < length;) {
        int64_t size = 0;
        for (any = 0; k < length && (character = piece_character(text[k++])); any |= character) {
            if (size == MAX_VALUE)
                return 0;
            word[size++] = character;
        }
        if (!size)
            continue;
        const int32_t id = find_id(column, word, size);
        if (id < 0 && any >= 0x80)
            return 0;
        *(*out)++ = id < 0 ? column->unknown_id : id;
    }
    return 1;
}

static inline int is_space(uint8_t character)
{
    return character == ' ' || (character >= '\t' && character <= '\r') || (character >= 0x1c && character <= 0x1f);
}

/* Returns whether there are two bytes with which a space of Unicode begins. */
static int has_other_space(const uint8_t *text, int64_t length)
{
    static const char *const starts[] = {"\xc2\x85", "\xc2\xa0", "\xe1\x9a", "\xe2\x80", "\xe2\x81", "\xe3\x80"};
    for (int64_t k = 0; k + 1 < length; k++)
        for (int s = 0; text[k] >= 0x80 && s < 6; s++)
            if (!memcmp(text + k, starts[s], 2))
                return 1;
    return 0;
}

/* Appends the ids of the parts of a text between separators, without spaces around them. */
static int add_parts(const ValueColumn *column, const uint8_t *text, int64_t length, int32_t **out)
{
    const int64_t step = column->separator_size;
    if (!step)
        return 0;
    for (const uint8_t *const end = text + length; text <= end;) {
        const uint8_t *stop = text;
        while (stop + step <= end && memcmp(stop, column->separator, (size_t)step))
            stop++;
        const uint8_t *const next = stop + step;
        if (next > end)
            stop = end;
        while (text < stop && is_space(*text))
            text++;
        while (text < stop && is_space(stop[-1]))
            stop--;
        if (text < stop && (has_other_space(text, stop - text) || !add_token(column, text, stop - text, out)))
            return 0;
        text = next;
    }
    return 1;
}

int NAME(encode_text)(const ValueColumn *column, const uint8_t *text, int64_t length, int32_t **out)
{
    if (column->kind == OTHER_COLUMN)
        return 0;
    if (!length)
        return 1;
    return (column->kind == LIST_COLUMN ? add_parts : column->kind == TEXT_COLUMN ? add_words : add_token)(
        column, text, length, out);
}

/* Takes a string without escapes, an integer or null, as text; that of null is empty. Returns 0 for anything else. */
static int take_scalar(Cursor *cursor, Cursor *text)
{
    skip_space(cursor);
    *text = *cursor;
    if (take_text(cursor, "null")) {
        text->end = text->at;
        return 1;
    }
    if (take_text(cursor, "\"")) {
        text->at++;
        for (; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++)
            if (*cursor->at == '\\' || *cursor->at < ' ')
                return 0;
        text->end = cursor->at;
        return take_text(cursor, "\"");
    }
    const int negative = take_text(cursor, "-");
    const uint8_t *const from = cursor->at;
    while (is_digit(cursor))
        cursor->at++;
    text->end = cursor->at;
    if (cursor->at < cursor->end && (*cursor->at == '.' || *cursor->at == 'e' || *cursor->at == 'E'))
        return 0;
    /* Others read -0 as 0, and integers of more than 64 bits as numbers with a point. */
    return cursor->at > from && cursor->at - from <= 18 && (*from != '0' || (cursor->at - from == 1 && !negative));
}

/* Takes a column's value, and appends its ids. */
static int add_json(const ValueColumn *column, Cursor *cursor, int32_t **out)
{
    Cursor text;
    if (!take(cursor, '[')) {
        const int is_string = !at_end(cursor) && *cursor->at == '"';
        return take_scalar(cursor, &text) && (column->kind != LIST_COLUMN || is_string || text.at == text.end) &&
               NAME(encode_text)(column, text.at, text.end - text.at, out);
    }
    if (column->kind != LIST_COLUMN)
        return 0;
    if (take(cursor, ']'))
        return 1;
    do {
        if (!take_scalar(cursor, &text) || (text.at < text.end && !add_token(column, text.at, text.end - text.at, out)))
            return 0;
    } while (take(cursor, ','));
    return take(cursor, ']');
}

/* Takes `"name":`; returns the number of the column, tried first at `next`, or -1. */
static int64_t take_name(Cursor *cursor, const ValueSide *side, int64_t next)
{
    Cursor name;
    if (at_end(cursor) || *cursor->at != '"' || !take_scalar(cursor, &name) || !take(cursor, ':'))
        return -1;
    for (int64_t k = 0; k < side->count; k++) {
        const int64_t c = (next + k) % side->count;
        const ValueColumn *const column = side->columns + c;
        if (column->name_size == name.end - name.at && !memcmp(column->name, name.at, (size_t)column->name_size))
            return c;
    }
    return -1;
}

/* Appends the ids of an object after its brace. Columns in another order than the side's are read once more. */
static int add_object(const ValueSide *side, Cursor *cursor, int32_t **out)
{
    int32_t *const start = *out;
    Cursor found[MAX_COLUMNS];
    int64_t c = -1, last = -1;
    int is_ordered = 1;
    for (int64_t k = 0; k < side->count; k++)
        found[k].at = NULL;
    if (take(cursor, '}'))
        return 1;
    do {
        c = take_name(cursor, side, c + 1);
        if (c < 0 || found[c].at)
            return 0;
        found[c] = *cursor;
        is_ordered &= c > last;
        last = c;
        if (!(is_ordered ? add_json(side->columns + c, cursor, out) : take_any(cursor)))
            return 0;
    } while (take(cursor, ','));
    if (!is_ordered)
        *out = start;
    for (int64_t k = 0; !is_ordered && k < side->count; k++)
        if (found[k].at && (!add_json(side->columns + k, found + k, out) || at_end(found + k) ||
                            (*found[k].at != ',' && *found[k].at != '}')))
            return 0;
    return take(cursor, '}');
}

int64_t NAME(encode_json)(const ValueSide *side, Cursor *cursor, int32_t *values)
{
    const Cursor start = *cursor;
    int32_t *out = values;
    if (side->count && (take(cursor, '{') ? add_object(side, cursor, &out)
                                          : side->count == 1 && add_json(side->columns, cursor, &out)))
        return out - values;
    *cursor = start;
    return -1;
}
