/* What the parts of the search in lists share. */
#ifndef OBJECT2VEC_LISTS_H
#define OBJECT2VEC_LISTS_H

#include "kernels.h"

/* The best rows so far, `count` of them: a heap whose first has the lowest score. Of equal scores, that of the highest
 * row is the lowest. */
typedef struct {
    float *scores;
    int64_t *rows, count;
} Heap;

ALWAYS_INLINE int is_lower(float score, int64_t row, float other_score, int64_t other_row)
{
    return score < other_score || (score == other_score && row > other_row);
}

/* Puts a score and its row in place of those at `at`, which are lower than all below them, or removed. */
static inline void sift_down(const Heap *heap, int64_t at, float score, int64_t row)
{
    float *const scores = heap->scores;
    int64_t *const rows = heap->rows;
    for (int64_t child = 2 * at + 1; child < heap->count; child = 2 * at + 1) {
        if (child + 1 < heap->count && is_lower(scores[child + 1], rows[child + 1], scores[child], rows[child]))
            child++;
        if (!is_lower(scores[child], rows[child], score, row))
            break;
        scores[at] = scores[child];
        rows[at] = rows[child];
        at = child;
    }
    scores[at] = score;
    rows[at] = row;
}

/* Four codes of a query, and where the codes that they are multiplied with begin in a block. */
typedef struct {
    int8_t codes[4];
    int32_t offset;
} Quad;

/* A query in a search: its codes, `used` quads without those of zeros. */
typedef struct {
    Quad *quads;
    int64_t used;
    float scale;
    Heap heap;
    const int64_t *excluded;
    int64_t excluded_count;
} Query;

/* A query that probes a list. The score of a row is base + the query's scale * sum of the products of codes. */
typedef struct {
    int32_t query;
    float base;
} Visit;

/* Offers the rows of a list to the best of n queries. In lists.c. */
void NAME(scan_list)(const Lists *lists, int64_t list, const Query *queries, const Visit *visits, int64_t n,
                     const uint8_t *allowed);

#endif
