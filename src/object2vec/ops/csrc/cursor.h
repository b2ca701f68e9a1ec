/* Reading of text in parts. */
#ifndef OBJECT2VEC_CURSOR_H
#define OBJECT2VEC_CURSOR_H

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

/* Takes exactly this text, spaces not skipped. */
static inline int take_text(Cursor *cursor, const char *text)
{
    const size_t length = strlen(text);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length))
        return 0;
    cursor->at += length;
    return 1;
}

/* Takes a value of any JSON: it ends before a comma or a bracket that is not its own. Brackets and quotes are counted,
 * all else is not checked. Returns 0 for nothing, or if there is a newline or no end. */
static inline int take_any(Cursor *cursor)
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
    return cursor->at < cursor->end && cursor->at > from && *cursor->at != '\n';
}

#endif
