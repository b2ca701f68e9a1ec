/* Every struct and function that the library exports. Python reads structs and signatures from this file when it loads
 * the library, and compares the sizes of structs.
 *
 * All functions are plain C over flat, contiguous arrays. They allocate nothing and keep no state. Python checks
 * dtypes, layouts, shapes and the ranges of integers before each call; C cannot. Shapes are in parentheses. An array is
 * read unless its pointer is not const. A pointer is never NULL unless it is marked NULLABLE.
 *
 * Common shapes: n sequences, sequence i has values[offsets[i]:offsets[i + 1]]; V rows of a table; `dim` numbers a row,
 * MAX_DIM at most. */
#ifndef OBJECT2VEC_API_H
#define OBJECT2VEC_API_H

#include <stdint.h>

/* The sources are compiled once for each processor level, which O2V_LEVEL names (see build.py). The exported function
 * `mean_pool` is then o2v_avx2_mean_pool. Hidden functions that files share have such names too. */
#define O2V_JOIN(level, name) o2v_##level##_##name
#define O2V_EXPAND(level, name) O2V_JOIN(level, name)
#ifdef O2V_LEVEL
#define NAME(name) O2V_EXPAND(O2V_LEVEL, name)
#else
#define NAME(name) o2v_##name
#endif
#define EXPORT __attribute__((visibility("default")))
#define KERNEL(result, name) EXPORT result NAME(name)
#define NULLABLE

/* ---- build.c: compiled once, for any processor ---- */

/* A hash of the sources and flags. */
EXPORT const char *o2v_build_id(void);

/* The level that this processor and its operating system can run: avx512, avx2 or baseline. */
EXPORT const char *o2v_level(void);

/* 1 if compiled with OpenMP, else 0. */
EXPORT int64_t o2v_has_threads(void);

/* ---- checks.c: the first index where an array breaks a rule, or -1 ---- */

/* A value of values (n) below `low`, or `high` and above. Both bounds fit the type. */
KERNEL(int64_t, find_out_of_range32)(const int32_t *values, int64_t n, int64_t low, int64_t high);
KERNEL(int64_t, find_out_of_range64)(const int64_t *values, int64_t n, int64_t low, int64_t high);

/* An offset of offsets (n) that is negative, less than the one before it, or greater than `limit`. */
KERNEL(int64_t, find_bad_offset)(const int64_t *offsets, int64_t n, int64_t limit);

/* ---- tables.c: embeddings ---- */

enum { MAX_DIM = 1000 }; /* the greatest token_embedding_dim */

/* A table (V, dim): float32, or IEEE 754 half precision without NaN and infinity. */
typedef struct {
    const void *rows;
    int64_t dim, is_half;
} Table;

/* Writes the mean row of each bag of ids to out (n, dim), and 1 / tokens to scale (n). Id 0 is no token; a bag without
 * tokens gives zeros. values (offsets[n]) are from 0 to V - 1. */
KERNEL(void, mean_pool)(const Table *table, const int64_t *values, const int64_t *offsets, int64_t n, float *out,
                        float *scale);

/* Groups n ids by value: unique ids to rows (n), in order of first occurrence; the origins of id rows[r] to
 * origins[starts[r]:starts[r + 1]], in the order of the ids. origins is (n), starts (n + 1). lut (V) is scratch: all -1
 * before and after. Returns the number of unique ids. */
KERNEL(int64_t, group_by_id)(const int64_t *values, const int64_t *origin, int64_t n, int32_t *lut, int64_t *rows,
                             int64_t *starts, int64_t *origins);

/* Makes one optimizer step on n unique rows of table (V, dim).
 *
 * The gradient of row rows[r] is the sum of scale[o] * grad[o] over o in origins[starts[r]:starts[r + 1]]; grad is
 * (m, dim), scale (m). kind is SGD, ADAGRAD or ADAM of kernels.h. state1 and state2 (V, dim) are Adam's first and
 * second moments; Adagrad uses state1 for the sum of squares. A caller passes the table in place of a state that is
 * unused. `step` is the number of the step, counted from 1.
 *
 * If lut is not NULL, all other rows make the same step with a gradient of 0. `size` is V. lut (V) is scratch: all -1
 * before and after. */
KERNEL(void, update_rows)(int64_t kind, float *table, float *state1, float *state2, int64_t dim, int64_t size,
                          int32_t *NULLABLE lut, const int64_t *rows, int64_t n, const int64_t *starts,
                          const int64_t *origins, const float *scale, const float *grad, float learning_rate,
                          float weight_decay, int64_t step);

/* ---- pairs.c: scores of pairs by a linear layer over comparators ---- */

/* Writes the scores of pairs to out (pairs, classes). Pair p has row left[p] of u (., dim) and row right[p] of v (.,
 * dim). The score of class c is bias[c] + sum over k of  h[k] u[k] v[k] + l[k] u[k] + r[k] v[k] + d[k] |u[k] - v[k]|
 * where h, l, r and d begin in row c of weight (classes, width) at the columns term_columns (4). A negative column
 * means that the term is missing; l and r are both there or both missing. */
KERNEL(void, score_pairs)(const float *u, const float *v, const int64_t *left, const int64_t *right, int64_t pairs,
                          const float *weight, int64_t classes, int64_t dim, int64_t width, const int64_t *term_columns,
                          const float *bias, float *out);

/* Adds the gradient of u (n, dim), one side of the pairs, to d_u (n, dim). If that side is the left one, also adds the
 * gradient of weight to d_weight (shards, classes, width), in `shards` partial sums. Both are zeros before.
 *
 * Pair p has row object_index[p] of u, and row partner_index[p] of `partners`, the other side. grad (pairs, classes) is
 * the gradient of the scores. sums (shards, dim), starts (n + 1) and order (pairs) are scratch. */
KERNEL(void, score_pairs_backward)(int64_t is_left, const float *u, int64_t n, const float *partners,
                                   const int64_t *object_index, const int64_t *partner_index, int64_t pairs,
                                   const float *grad, const float *weight, int64_t classes, int64_t dim, int64_t width,
                                   const int64_t *term_columns, int64_t shards, float *sums, int64_t *starts,
                                   int64_t *order, float *d_u, float *d_weight);

/* ---- head.c: scores of pairs of single tokens, without gradients ---- */

/* Two tables of the same dim, and the layers over them. Layer l has weights[l] (widths[l], widths[l + 1]) and biases[l]
 * (widths[l + 1]). All but the last are followed by the activation. widths[0] is the comparators' output.
 *
 * `concat` fills the columns from concat_column on; -1 if it is not a comparator. The first layer's output for the row
 * of one token does not depend on the other token, so it is cached: that of token t of a side is cached_parts[side][t %
 * cache_rows[side]] if cached_tokens[side] has t at that index. Token 0 is never scored. `scratch` is (2, block_pairs,
 * the greatest of widths[:layers]). */
typedef struct {
    Table tables[2];
    const int64_t *comparators;
    int64_t comparator_count;
    const float *const *weights, *const *biases;
    const int64_t *widths;
    int64_t layers, activation, concat_column, cache_rows[2];
    int32_t *cached_tokens[2];
    float *cached_parts[2];
    int64_t softmax, block_pairs;
    float *scratch[2];
} ScoringHead;

/* Writes the scores, or probabilities, of pairs of tokens0 and tokens1 (pairs) to out (pairs, widths[layers]). It
 * writes to the head's cache and scratch, so one thread at a time may call it. */
KERNEL(void, score_tokens)(const ScoringHead *head, const int32_t *tokens0, const int32_t *tokens1, int64_t pairs,
                           float *out);

/* ---- step.c: whole training steps on pairs of single tokens ---- */

/* A parameter, its optimizer state as in update_rows, and the steps it took before. Adagrad has no state2, SGD none. */
typedef struct {
    float *weight, *NULLABLE state1, *NULLABLE state2;
    int64_t steps;
} ParameterState;

/* A batch of pairs. tokens[side] (n[side]) are unique and not 0. Pair p has token tokens[side][index[side][p]]. index
 * is numbered by first occurrence: each entry is at most one more than the greatest before it. The step writes the mean
 * loss and the number of correct pairs. */
typedef struct {
    const int32_t *tokens[2];
    const int64_t *index[2];
    int64_t n[2];
    const float *labels;
    int64_t pairs;
    float learning_rate;
    double loss;
    int64_t correct;
} PairBatch;

/* Settings of all steps, and scratch for the largest batch. The layer has weight (classes, width) and terms at
 * term_columns (4), as in score_pairs; classes is 1 for a score, 2 for a logit. Scratch: score_grads (pairs),
 * shard_sums (shards, width + 1), row_grads (n[0] + n[1], dim). */
typedef struct {
    int64_t kind;
    float weight_decay;
    int64_t classes, width, dim;
    const int64_t *term_columns;
    int64_t shards;
    float *score_grads, *shard_sums, *row_grads;
} StepConfig;

/* Makes one optimizer step for each of `count` batches, on the rows they use and on the output layer. parameters (4)
 * are the tables of both sides, the layer's weight (classes, width) and its bias (classes). */
KERNEL(void, step_pairs)(const StepConfig *config, const ParameterState *parameters, PairBatch *batches, int64_t count);

/* ---- lstm.c: gates are in torch's order, i, f, g, o ---- */

/* Makes one LSTM step of n sequences. gates (n, 4 * units) hold the pre-activations, and then the gates. before
 * (continuing, units) is the cell state of the first sequences; the others start with zeros. Writes cell and hidden
 * (n, units). */
KERNEL(void, lstm_forward)(int64_t n, int64_t continuing, int64_t units, float *gates, const float *before, float *cell,
                           float *hidden);

/* Makes the backward pass of that step. gates hold the gates, and then the gradient of the pre-activations. d_hidden
 * (n, units) is the gradient of hidden. d_cell (n, units) holds the gradient of cell from later steps, and then that of
 * before. */
KERNEL(void, lstm_backward)(int64_t n, int64_t continuing, int64_t units, float *gates, const float *before,
                            const float *cell, const float *d_hidden, float *d_cell);

/* Runs one LSTM layer. Rows are ordered by step: step t has rows starts[t] to starts[t + 1] - 1, and
 * its first rows continue those of the step before. starts is (steps + 1). gates (rows, 4 * units) hold the products of
 * the inputs plus biases, and then the gates. w is (4 * units, units). Writes cell and hidden (rows, units). */
KERNEL(void, lstm_layer)(int64_t steps, const int64_t *starts, int64_t units, float *gates, const float *w, float *cell,
                         float *hidden);

/* ---- convolution.c ---- */

/* Encodes n sequences of ids with stacked convolutions, each followed by ReLU: writes the maxima over time of all
 * levels, side by side, to encodings (n, dim). values are from 0 to V - 1; id 0 is a token.
 *
 * Level l has weights[l] (taps, widths[l + 1], widths[l]) and biases[l] (widths[l + 1]); widths is (levels + 1), and
 * widths[0] is the table's dim, and `widest` the greatest width. line and next are scratch: (offsets[n] + n * (taps -
 * 1), widest) each. */
KERNEL(void, hcnn_forward)(const Table *table, const int64_t *values, const int64_t *offsets, int64_t n, int64_t taps,
                           int64_t levels, const float *const *weights, const float *const *biases,
                           const int64_t *widths, int64_t widest, float *line, float *next, int64_t dim,
                           float *encodings);

/* ---- segments.c ---- */

/* Writes the maximum of each column of x (m, dim) over the rows of n segments to maxima (n, dim), and the row that has
 * it to argmax (n, dim), the first of equal ones. Segment s has rows[starts[s]:starts[s + 1]]; without rows it has 0
 * and -1. A column with a NaN has NaN. */
KERNEL(void, segment_max)(const float *x, int64_t dim, const int64_t *rows, const int64_t *starts, int64_t n,
                          float *maxima, int32_t *argmax);

/* ---- dropout.c ---- */

/* Writes x * scale to out (n), or 0 where a random number of (seed, index) is less than threshold = p * 2^32. */
KERNEL(void, dropout)(const float *x, float *out, int64_t n, uint64_t seed, uint32_t threshold, float scale);

/* ---- objects.c: unique sequences, and negative pairs ---- */

/* A bucket of a hash table of objects; `object` is -1 if it is empty. Sequences that differ mostly have different tags,
 * so that their tokens, which may be on disk, are not compared. */
typedef struct {
    int32_t object;
    uint32_t tag;
} Slot;

/* Numbers the unique ones of n sequences, from sequence `from` on: writes the object of each sequence to inverse (n),
 * and the first sequence of each object to first_index (n). *found is the number of objects so far. slots (mask + 1, a
 * power of two) is their hash table, empty before. Returns n, or the sequence at which it was seven eighths full. */
KERNEL(int64_t, unique_sequences)(const int32_t *values, const int64_t *offsets, int64_t from, int64_t n, Slot *slots,
                                  int64_t mask, int32_t *inverse, int32_t *first_index, int64_t *found);

/* Copies values[starts[i]:stops[i]] to out[taken[i]:taken[i + 1]], for each i less than n. taken is (n + 1). */
KERNEL(void, take_sequences)(const int32_t *values, const int64_t *starts, const int64_t *stops, const int64_t *taken,
                             int64_t n, int32_t *out);

/* Numbers the unique objects of n rows of both sides, in order of first occurrence. The object of row rows0[j] is
 * objects0[rows0[j]], or rows0[j] if objects0 is NULL; the same for side 1. Writes the first row of each unique object
 * to first_index (2, n), the number of each row's object to inverse (2, n), and the number of unique ones to found (2).
 * lut0 and lut1 are scratch, one entry an object: all -1 before and after. */
KERNEL(void, unique_rows)(const int64_t *rows0, const int64_t *rows1, int64_t n, const int32_t *NULLABLE objects0,
                          const int32_t *NULLABLE objects1, int32_t *lut0, int32_t *lut1, int64_t *first_index,
                          int64_t *inverse, int64_t *found);

/* Sets the bits of n pairs of objects in a bit set of `count` bits. With bits_per_object > 0 each pair has its own bit,
 * object0 * bits_per_object + object1. With 0 a hash chooses it, and pairs may share one. */
KERNEL(void, mark_positives)(const int32_t *object0, const int32_t *object1, int64_t n, uint8_t *bits,
                             int64_t bits_per_object, int64_t count);

/* Draws `negatives` rows for each of n rows that is positive, until their object1 is not a partner of the row's
 * object0, `rounds` times at most. A row is drawn uniformly from `count` rows, or from sources (count). The partners of
 * object o are partners[starts[o]:starts[o + 1]], ascending, and bits (size bits) are marked by mark_positives.
 *
 * Writes each row and its draws to out (n, 1 + negatives), -1 for a failed one; the objects of side 1 instead of rows
 * if give_objects. Returns the number of draws that succeeded. The result depends on the seed and the place alone. */
KERNEL(int64_t, draw_negatives)(const int64_t *rows, int64_t n, const uint8_t *positive, int64_t negatives,
                                uint64_t seed, int64_t rounds, const int64_t *NULLABLE sources, int64_t count,
                                const int32_t *objects0, const int32_t *objects1, const int64_t *starts,
                                const int32_t *partners, const uint8_t *bits, int64_t bits_per_object, int64_t size,
                                int64_t give_objects, int64_t *out);

/* ---- values.c: raw values to token ids ---- */

enum { MAX_COLUMNS = 64 }; /* of a side */
enum { TOKEN_COLUMN, LIST_COLUMN, TEXT_COLUMN, OTHER_COLUMN }; /* no value of another column can be read here */

/* A column of raw values: its name, its kind, and the separator of a list in text, or nothing. Known value v is
 * pieces[starts[v]:starts[v + 1]] and has the id ids[v]; slots (mask + 1) is their hash table, as in number_pieces. */
typedef struct {
    const uint8_t *name, *separator;
    int64_t name_size, separator_size, kind, mask;
    const Slot *slots;
    const uint8_t *pieces;
    const int64_t *starts;
    const int32_t *ids;
    int32_t unknown_id;
} ValueColumn;

/* The columns of a side, MAX_COLUMNS at most; they have consecutive unknown_ids. */
typedef struct {
    const ValueColumn *columns;
    int64_t count;
} ValueSide;

/* ---- lines.c: JSON in a plain form ---- */

/* Reads whole lines of bytes (size) up to the first that is not plain. A plain record is an object with a label, in0,
 * in1 if there are two `sides`, once each, perhaps a weight, and nothing else. A token has at most 9 digits, another
 * number at most 15.
 *
 * Writes of record r: its label to labels[r], its weight or 1 to weights[r]; the first max_len[s] tokens of side s to
 * values[s], their number to lengths[s][r]. truncated[s] counts records that had more, *weighted those with a weight.
 * Blank lines are no records. Writes the number of lines read to *lines, and where reading stopped to *consumed; that is
 * `size` if all lines were plain. Returns the number of records. Room: values[s] (size / 2 + 1); labels, weights and
 * lengths[s] as many as the shortest records fit. */
KERNEL(int64_t, read_lines)(const uint8_t *bytes, int64_t size, int64_t sides, const int64_t *max_len,
                            int32_t *const *values, int64_t *const *lengths, double *labels, double *weights,
                            int64_t *weighted, int64_t *truncated, int64_t *lines, int64_t *consumed);

/* Reads a request of lines of instances, or a document {"instances": [...]}. An instance is as a record, but one side
 * may be missing, and so may the label.
 *
 * With `sides` (2), a side may be another value than a list: a raw value, whose ids are found by its columns. The bytes
 * are then UTF-8. A raw value that the kernel cannot read is an empty sequence and missing; its bytes and a newline are
 * written as text. Such bytes need not be JSON. They have no comma and no closing bracket that is not their own.
 *
 * max_rows is greater than the number of instances, and max_tokens is the most tokens a side can have. Writes to
 * columns, for each side: its number of sequences, of tokens, of raw values, of missing ones, of bytes of their text, and
 * of unknown ids (12). Then max_rows each: the offsets of both sides, the instance of each sequence of both sides, the
 * missing sequences of both sides, the line number of each instance. Then the values of both sides, max_tokens int32
 * each. With `sides` then the text of missing values of both sides, size + 1 bytes each. Returns the number of
 * instances, or -1 if the request is not plain. */
KERNEL(int64_t, read_instances)(const uint8_t *bytes, int64_t size, int64_t document, const ValueSide *NULLABLE sides,
                                int64_t *columns, int64_t max_rows, int64_t max_tokens);

/* ---- csv.c ---- */

enum { NO_SIDE = -2 }; /* the place of the first column of a side that a request does not have */

/* Reads a request in CSV, UTF-8, whose first line has the number `line`. Column c of side s is the field
 * places[s * MAX_COLUMNS + c] of a row, or is missing if that is -1. Each row must have `field_count` fields, up to
 * 2 * MAX_COLUMNS + 1. Blank lines are no rows. The rest is as in read_instances; the text of a missing value is its fields in
 * the order of the columns. */
KERNEL(int64_t, read_csv)(const uint8_t *bytes, int64_t size, int64_t line, int64_t field_count,
                          const int64_t *places, const ValueSide *sides, int64_t *columns, int64_t max_rows,
                          int64_t max_tokens);

/* ---- text.c: text to numbered words, and pairs to text ---- */

/* Numbers the pieces of n texts, text[offsets[i]:offsets[i + 1]]. If is_split, pieces are runs of letters, digits,
 * underscores and bytes from 0x80 on, in lower case; otherwise each text that is not empty is a piece. Writes the number
 * of pieces of each text to lengths (n), and the number of each piece to codes.
 *
 * slots (mask + 1, a power of two) is the hash table of the unique pieces; an empty one is -1. Piece p has
 * pieces[starts[p]:starts[p + 1]], and `found` of them were there before. Returns how many there are now, or -1 if the
 * table is too small. Room: codes (bytes / 2 + n + 1), pieces (starts[found] + bytes + 8), starts (mask / 2 + 2). */
KERNEL(int64_t, number_pieces)(const uint8_t *text, const int64_t *offsets, int64_t n, int64_t is_split, Slot *slots,
                               int64_t mask, int64_t found, int64_t *lengths, int32_t *codes, uint8_t *pieces,
                               int64_t *starts);

/* Writes a line {"in0":[1,2],"in1":[3],"label":1} for each of n pairs. Pair i has the label text
 * labels[label_offsets[label_codes[i]]:label_offsets[label_codes[i] + 1]]. Returns the number of bytes. Room: 29 bytes
 * a pair, 11 a token, and the labels. */
KERNEL(int64_t, write_lines)(const int32_t *values0, const int64_t *offsets0, const int32_t *values1,
                             const int64_t *offsets1, int64_t n, const int32_t *label_codes, const uint8_t *labels,
                             const int64_t *label_offsets, uint8_t *out);

/* ---- search.c and lists.c: approximate search in lists of vectors ---- */

enum { LIST_BLOCK = 32 }; /* rows of a block */

/* Vectors as codes from 0 to 127, in lists. List l, of `count`, has the blocks starts[l] to starts[l + 1] - 1. Codes are
 * (blocks, quads, LIST_BLOCK, 4): four dimensions of each row of a block are adjacent. rows (blocks, LIST_BLOCK) are the
 * numbers of the vectors, -1 for none.
 *
 * centroids (count + 2, dim) has a centroid for each list, then the difference of code 0 from it, and of one step. */
typedef struct {
    const uint8_t *codes;
    const int32_t *rows;
    const int64_t *starts;
    const float *centroids;
    int64_t count, quads, dim;
} Lists;

/* Vectors, rows (N, dim), with their norms (N). The score of a query is the product; if metric is 0, divided by the
 * norm; if it is 2, plus query[dim] times the squared norm. */
typedef struct {
    const float *rows, *norms;
    int64_t dim, metric;
} Vectors;

/* Queries (n, query_dim), query_dim at most the lists' dim, and how many lists each probes, probed (n). rows and scores
 * (n, count) get the best of each query, the best first; -1 and -inf where fewer are found. `candidates`, at least
 * `count`, are ranked by their scores.
 *
 * If allowed (N) is not NULL, rows with 0 are not found; nor are, for query q, excluded[excluded_starts[q]] to
 * excluded[excluded_starts[q + 1] - 1]. */
typedef struct {
    const float *queries;
    const int64_t *probed, *excluded_starts, *excluded;
    const uint8_t *NULLABLE allowed;
    float *scores;
    int64_t *rows;
    int64_t query_dim, candidates, count;
} Search;

/* The bytes of scratch, for n queries that probe `visits` lists in all. */
KERNEL(int64_t, search_room)(const Lists *lists, int64_t n, int64_t visits, int64_t candidates);

/* Searches for n queries in `shards` parts. scratch (shards, room) has the room of each, aligned to 64 bytes. The result
 * of a query does not depend on other queries. */
KERNEL(void, search_lists)(const Lists *lists, const Vectors *vectors, const Search *search, int64_t n, int64_t shards,
                           int64_t room, uint8_t *scratch);

/* Writes the scores of queries left[p] with rows right[p] to out (pairs). */
KERNEL(void, score_rows)(const Vectors *vectors, const float *queries, int64_t query_dim, const int64_t *left,
                         const int64_t *right, int64_t pairs, float *out);

#endif
