/* CSV to the columns of a request. What Python's csv module reads in another way is left to it. */
#include "requests.h"

enum { MAX_FIELD_BYTES = 1 << 17 }; /* Python's limit is as many characters */

/* A field as it is written, and its content; `is_escaped` if that has doubled quotes. */
typedef struct {
    Cursor written, content;
    int is_escaped;
} Field;

/* Returns whether a line ends here with \n or \r\n, or the text ends. */
static inline int at_line_end(const Cursor *cursor)
{
    return cursor->at == cursor->end || *cursor->at == '\n' ||
           (*cursor->at == '\r' && cursor->end - cursor->at > 1 && cursor->at[1] == '\n');
}

static inline void take_line_end(Cursor *cursor)
{
    cursor->at += cursor->at < cursor->end && *cursor->at == '\r';
    cursor->at += cursor->at < cursor->end;
}

/* Takes the content of a field up to its closing quote, and counts line ends. Returns 0 for anything unusual. */
static int take_quoted(Cursor *cursor, Field *field, int64_t *line)
{
    field->content.at = ++cursor->at;
    for (; cursor->at < cursor->end; cursor->at++) {
        if (*cursor->at == '"') {
            if (cursor->end - cursor->at == 1 || cursor->at[1] != '"')
                break;
            field->is_escaped = 1;
            cursor->at++;
        } else if (*cursor->at == '\n') {
            ++*line;
        } else if (!*cursor->at || (*cursor->at == '\r' && !at_line_end(cursor))) {
            return 0;
        }
    }
    field->content.end = cursor->at;
    return take_text(cursor, "\"");
}

/* Takes a field, which ends before a comma or the end of its line. Returns 0 for anything unusual. */
static int take_field(Cursor *cursor, Field *field, int64_t *line)
{
    *field = (Field){*cursor, *cursor, 0};
    if (cursor->at < cursor->end && *cursor->at == '"') {
        if (!take_quoted(cursor, field, line))
            return 0;
    } else {
        while (cursor->at < cursor->end && *cursor->at != ',' && *cursor->at != '\n' && *cursor->at != '\r' &&
               *cursor->at)
            cursor->at++;
        field->content.end = cursor->at;
    }
    field->written.end = cursor->at;
    return cursor->at - field->written.at <= MAX_FIELD_BYTES &&
           (at_line_end(cursor) || *cursor->at == ',');
}

/* Adds the object of a side of row `row`. Its missing text is the fields that it has. */
static void add_object(RequestColumns *request, int side, int64_t row, const Field *fields, const int64_t *places)
{
    const ValueSide *const own = request->sides + side;
    int32_t *const start = next_tokens(request, side), *out = start;
    int is_known = 1;
    for (int64_t c = 0; is_known && c < own->count; c++)
        if (places[c] >= 0) {
            const Field *const field = fields + places[c];
            const Cursor text = field->content;
            is_known = !field->is_escaped && NAME(encode_text)(own->columns + c, text.at, text.end - text.at, &out);
        }
    add_raw_value(request, side, row, is_known ? out - start : -1);
    if (is_known)
        return;
    for (int64_t c = 0; c < own->count; c++)
        if (places[c] >= 0)
            add_text(request, side, fields[places[c]].written.at, fields[places[c]].written.end, ',');
    request->raw[side][-1] = '\n';
}

KERNEL(int64_t, read_csv)(const uint8_t *bytes, int64_t size, int64_t line, int64_t field_count,
                          const int64_t *places, const ValueSide *sides, int64_t *columns, int64_t max_rows,
                          int64_t max_tokens)
{
    RequestColumns request = open_columns(columns, max_rows, max_tokens, size, sides);
    Cursor cursor = {bytes, bytes + size};
    Field fields[2 * MAX_COLUMNS + 1];
    int64_t row = 0;
    for (; cursor.at < cursor.end; take_line_end(&cursor), line++) {
        if (at_line_end(&cursor))
            continue;
        int64_t found = 0;
        do {
            if (found == field_count || !take_field(&cursor, fields + found++, &line))
                return -1;
        } while (take_text(&cursor, ","));
        if (found != field_count)
            return -1;
        request.lines[row] = line;
        for (int side = 0; side < 2; side++)
            if (places[side * MAX_COLUMNS] != NO_SIDE)
                add_object(&request, side, row, fields, places + side * MAX_COLUMNS);
        row++;
    }
    close_columns(&request, columns);
    return row;
}
