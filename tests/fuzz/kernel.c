/* Fuzzes read_lines, read_instances and read_csv with the address and undefined-behavior sanitizers: `kernel SECONDS FILE…`.
 *
 * Inputs are changed at random. Those that take a new branch, or one more often, are kept and changed again. Buffers are
 * as large as the caller's, to the byte. The sanitizers end the process at a fault, and print its line. */
#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_BYTES = 1 << 12, MAX_INPUTS = 1 << 12, BRANCHES = 1 << 12 };
typedef struct {
    uint8_t *bytes;
    size_t size;
} Input;

static Input inputs[MAX_INPUTS];
static size_t count;
static uint32_t reached[BRANCHES], hits[BRANCHES]; /* of each branch: how often inputs took it, a bit a power of two */
static uintptr_t before;

/* Called by the compiler's instrumentation at each branch. */
__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    hits[(here ^ before << 5) % BRANCHES]++;
    before = here;
}

/* Whether the last call took a branch as no input before, or more often. */
static int is_new(void)
{
    int found = 0;
    for (size_t branch = 0; branch < BRANCHES; branch++) {
        uint32_t bit = hits[branch] ? 1u << (31 - __builtin_clz(hits[branch])) : 0;
        found |= (reached[branch] & bit) != bit;
        reached[branch] |= bit;
    }
    return found;
}

static uint64_t draw(uint64_t below)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return below ? state % below : 0;
}

static void keep(const uint8_t *bytes, size_t size)
{
    size_t place = count < MAX_INPUTS ? count++ : draw(MAX_INPUTS);
    inputs[place].bytes = memcpy(realloc(inputs[place].bytes, size + 1), bytes, size);
    inputs[place].size = size;
}

/* Puts a part of one input, or what stands in lines, into another at a random place, once or often. */
static size_t change(uint8_t *bytes, size_t size)
{
    static const char *const words[] = {"{\"instances\":[", "{\"in0\":[", "],\"in1\":[", "],\"label\":", ",\"weight\":", "}", "\n", "\r", " ", ",", "-", ".",
                                        "0", "1,", "999999999", "2147483648", "123456789012345", "1e30", "[", "]", "\"", "\\"};
    const Input *other = inputs + draw(count);
    size_t at = draw(size + 1), from = draw(other->size + 1), length = draw(other->size - from + 1), gone, times;
    const uint8_t *part = other->bytes + from;
    if (draw(2)) {
        part = (const uint8_t *)words[draw(sizeof words / sizeof *words)];
        length = strlen((const char *)part);
    } else if (draw(2) && size) {
        bytes[draw(size)] = (uint8_t)draw(256);
        return size;
    }
    gone = draw(2) ? 0 : draw(size - at + 1);
    times = draw(4) ? 1 : draw(100);
    if (size - gone + times * length > MAX_BYTES)
        return size;
    memmove(bytes + at + times * length, bytes + at + gone, size - at - gone);
    for (size_t time = 0; time < times; time++)
        memcpy(bytes + at + time * length, part, length);
    return size - gone + times * length;
}

/* One call, with buffers as ops/jsonl.py makes them. */
static void call(const uint8_t *bytes, size_t size)
{
    const int64_t sides = 1 + (int64_t)draw(2);
    size_t rows = size / strlen(sides == 2 ? "{\"in0\":[],\"in1\":[],\"label\":1}" : "{\"in0\":[],\"label\":1}") + 1;
    const int64_t most[2] = {(int64_t)draw(draw(2) ? 6 : MAX_BYTES), (int64_t)draw(draw(2) ? 6 : MAX_BYTES)};
    int32_t *const values[2] = {malloc((size / 2 + 1) * 4), malloc((size / 2 + 1) * 4)};
    int64_t *const lengths[2] = {malloc(rows * 8), sides == 2 ? malloc(rows * 8) : calloc(rows, 8)};
    int64_t cut[2] = {0, 0}, weighted = 0, lines, consumed, found;
    double *labels = malloc(rows * 8), *weights = malloc(rows * 8);
    uint8_t *text = memcpy(malloc(size), bytes, size);
    found = o2v_read_lines(text, (int64_t)size, sides, most, values, lengths, labels, weights, &weighted, cut, &lines, &consumed);
    if (found < 0 || (size_t)found > rows || weighted < 0 || weighted > found || consumed < 0 || (size_t)consumed > size || lines < found)
        abort();
    for (int side = 0; side < 2; side++)
        for (int64_t r = 0; r < found; r++)
            if (lengths[side][r] < 0 || lengths[side][r] > most[side])
                abort();
    free(values[0]), free(values[1]), free(lengths[0]), free(lengths[1]), free(labels), free(weights), free(text);
}

static int64_t occurrences(const uint8_t *bytes, size_t size, uint8_t of)
{
    int64_t found = 0;
    for (size_t i = 0; i < size; i++)
        found += bytes[i] == of;
    return found;
}

enum { VALUES = 6, SLOTS = 16 };

/* A side with a column of each kind, which has the same values. */
static const ValueSide *sides(void)
{
    static const char values[] = "1astheété";
    static const int64_t starts[VALUES + 1] = {0, 1, 2, 4, 6, 8, 11};
    static int64_t found[SLOTS], lengths[VALUES];
    static uint8_t pieces[64];
    static int32_t ids[VALUES], codes[64];
    static Slot slots[SLOTS];
    static ValueColumn columns[4];
    static ValueSide both[2] = {{columns, 4}, {columns + 2, 1}};
    static const char *const names[] = {"in0", "g", "in1", "x"};
    if (columns->mask)
        return both;
    memset(slots, 255, sizeof slots);
    if (o2v_number_pieces((const uint8_t *)values, starts, VALUES, 0, slots, SLOTS - 1, 0, lengths, codes, pieces, found) < 1)
        abort();
    for (int c = 0; c < 4; c++)
        columns[c] = (ValueColumn){(const uint8_t *)names[c], (const uint8_t *)"|", (int64_t)strlen(names[c]), 1, c, SLOTS - 1,
                                   slots, pieces, found, ids, 2 + c};
    return both;
}

/* Checks the columns of a request. */
static void check_request(const int64_t *places, int64_t found, size_t size, int64_t most, int64_t tokens, int has_raw)
{
    const int64_t *columns = places + 12;
    for (int side = 0; found >= 0 && side < 2; side++) {
        const int64_t sequences = places[side], *offsets = columns + side * most, *rows = offsets + 2 * most;
        if (sequences > found || found >= most || offsets[0] || offsets[sequences] > tokens ||
            offsets[sequences] != places[2 + side] || places[4 + side] > sequences || places[6 + side] > places[4 + side] ||
            places[8 + side] > (int64_t)size + 1 || (!has_raw && places[4 + side]))
            abort();
        for (int64_t r = 0; r < sequences; r++)
            if (offsets[r] > offsets[r + 1] || rows[r] >= found)
                abort();
    }
}

/* One call for a request, as above. */
static void call_for_request(const uint8_t *bytes, size_t size, int64_t document)
{
    const int has_raw = (int)draw(2);
    const int64_t most = occurrences(bytes, size, '{') + 2;
    const int64_t tokens = has_raw ? (int64_t)size / 2 + most + 1 : occurrences(bytes, size, ',') + 2 * most;
    int64_t *places = malloc((size_t)(12 + 7 * most + tokens) * 8 + (has_raw ? 2 * (size + 1) : 0));
    uint8_t *text = memcpy(malloc(size), bytes, size);
    int64_t found = o2v_read_instances(text, (int64_t)size, document, has_raw ? sides() : NULL, places, most, tokens);
    check_request(places, found, size, most, tokens, has_raw);
    free(places), free(text);
}

/* One call for CSV, as above: the columns of both sides in some order. */
static void call_for_csv(const uint8_t *bytes, size_t size)
{
    const int64_t most = occurrences(bytes, size, '\n') + 3, tokens = (int64_t)size / 2 + most + 1;
    const int64_t count = 1 + (int64_t)draw(4);
    int64_t fields[2 * MAX_COLUMNS], *places = malloc((size_t)(12 + 7 * most + tokens) * 8 + 2 * (size + 1));
    uint8_t *text = memcpy(malloc(size), bytes, size);
    for (int place = 0; place < 2 * MAX_COLUMNS; place++)
        fields[place] = place < 4 || place == MAX_COLUMNS ? (int64_t)(place + (int64_t)draw(2)) % count : -1;
    for (int place = 1; place < 4; place++) /* a side has each field once */
        for (int other = 0; other < place; other++)
            if (fields[other] == fields[place])
                fields[place] = -1;
    if (!draw(4))
        fields[MAX_COLUMNS] = NO_SIDE;
    check_request(places, o2v_read_csv(text, (int64_t)size, 1, count, fields, sides(), places, most, tokens), size, most,
                  tokens, 1);
    free(places), free(text);
}

int main(int argc, char **argv)
{
    static uint8_t bytes[MAX_BYTES];
    long calls = 0;
    time_t end = time(NULL) + atoi(argv[1]);
    keep((const uint8_t *)"", 0);
    for (int file = 2; file < argc; file++) {
        FILE *stream = fopen(argv[file], "rb");
        if (!stream)
            return 1;
        keep(bytes, fread(bytes, 1, MAX_BYTES, stream));
        fclose(stream);
    }
    for (; calls % 1024 || time(NULL) < end; calls++) {
        const Input *input = inputs + draw(count);
        size_t size = input->size;
        memcpy(bytes, input->bytes, size);
        for (uint64_t changes = draw(6) + 1; changes; changes--)
            size = change(bytes, size);
        memset(hits, 0, sizeof hits);
        call(bytes, size);
        call_for_request(bytes, size, 0);
        call_for_request(bytes, size, 1);
        call_for_csv(bytes, size);
        if (is_new())
            keep(bytes, size);
    }
    printf("kernel: %ld inputs, %zu kept\n", calls, count);
    return 0;
}
