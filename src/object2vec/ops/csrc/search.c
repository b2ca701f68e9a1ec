/* Approximate search: the lists nearest to a query, their best rows by codes, and the scores of these. See search_lists
 * in api.h. */
#include "lists.h"

/* Queries whose products with all centroids are computed together. */
enum { PRODUCTS = 32, COSINE = 0, DOT_AND_SQUARE = 2 };

ALWAYS_INLINE float row_score(const Vectors *vectors, const float *query, int64_t row)
{
    const float product = dot(query, vectors->rows + row * vectors->dim, vectors->dim), norm = vectors->norms[row];
    if (vectors->metric == COSINE)
        return product / (norm > 1e-30f ? norm : 1e-30f);
    return vectors->metric == DOT_AND_SQUARE ? product + query[vectors->dim] * (norm * norm) : product;
}

KERNEL(void, score_rows)(const Vectors *vectors, const float *queries, int64_t query_dim, const int64_t *left,
                         const int64_t *right, int64_t pairs, float *out)
{
    const int64_t dim = vectors->dim;
#pragma omp parallel for schedule(static) if (pairs > 4096)
    for (int64_t p = 0; p < pairs; p++) {
        if (p + 8 < pairs)
            prefetch_row(vectors->rows + right[p + 8] * dim, dim, 0);
        out[p] = row_score(vectors, queries + left[p] * query_dim, right[p]);
    }
}

/* The scratch of a shard of n queries that probe `visits` lists in all. */
typedef struct {
    float *units, *products, *bases;
    int32_t *chosen;
    Visit *visits;
    int64_t *ends;
    Quad *quads;
    Query *queries;
    float *scores;
    int64_t *rows;
    char *end;
} Room;

static void *take(char **end, int64_t count, size_t size)
{
    char *start = *end;
    *end += (count * (int64_t)size + 63) / 64 * 64;
    return start;
}

static Room room_at(char *end, const Lists *lists, int64_t n, int64_t visits, int64_t candidates)
{
    const int64_t rows = n < PRODUCTS ? n : PRODUCTS;
    Room room;
    room.units = take(&end, rows * lists->dim, sizeof *room.units);
    room.products = take(&end, (rows + 1) * lists->count, sizeof *room.products);
    room.bases = take(&end, visits, sizeof *room.bases);
    room.chosen = take(&end, visits, sizeof *room.chosen);
    room.visits = take(&end, visits, sizeof *room.visits);
    room.ends = take(&end, lists->count + 1, sizeof *room.ends);
    room.quads = take(&end, n * lists->quads, sizeof *room.quads);
    room.queries = take(&end, n, sizeof *room.queries);
    room.scores = take(&end, n * candidates, sizeof *room.scores);
    room.rows = take(&end, n * candidates, sizeof *room.rows);
    room.end = end;
    return room;
}

KERNEL(int64_t, search_room)(const Lists *lists, int64_t n, int64_t visits, int64_t candidates)
{
    return room_at(NULL, lists, n, visits, candidates).end - (char *)NULL;
}

/* Returns the count-th highest of n numbers, count >= 1, which it reorders. */
static float select_highest(float *x, int64_t n, int64_t count)
{
    int64_t low = 0, high = n - 1, wanted = count - 1;
    while (low < high) {
        const float pivot = x[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i <= j) {
                const float swapped = x[i];
                x[i++] = x[j];
                x[j--] = swapped;
            }
        }
        if (wanted <= j)
            high = j;
        else if (wanted >= i)
            low = i;
        else
            break;
    }
    return x[wanted];
}

/* Writes the lists with the highest products (n) to chosen (count), ascending, and their products to bases. */
static void choose_lists(const float *products, int64_t n, int64_t count, float *scratch, int32_t *chosen, float *bases)
{
    memcpy(scratch, products, (size_t)n * sizeof *scratch);
    const float least = select_highest(scratch, n, count);
    int64_t equal = count, found = 0;
    for (int64_t i = 0; i < n; i++)
        equal -= products[i] > least;
    for (int64_t i = 0; i < n && found < count; i++)
        if (products[i] > least || (products[i] == least && equal-- > 0)) {
            chosen[found] = (int32_t)i;
            bases[found++] = products[i];
        }
}

/* Writes the codes of a unit (dim) to `query`, and returns the product of the unit with the vector of codes 0. */
static float encode(const Lists *lists, const float *unit, Query *query)
{
    const int64_t dim = lists->dim;
    const float *low = lists->centroids + lists->count * dim, *steps = low + dim;
    float largest = 0;
    for (int64_t k = 0; k < dim; k++)
        largest = fmaxf(largest, fabsf(unit[k] * steps[k]));
    query->scale = fmaxf(largest / 127, 1e-30f);
    query->used = 0;
    for (int64_t quad = 0; quad < lists->quads; quad++) {
        Quad own = {{0}, (int32_t)(quad * 4 * LIST_BLOCK)};
        for (int64_t i = 0, k = 4 * quad; i < 4 && k < dim; i++, k++)
            own.codes[i] = (int8_t)rintf(unit[k] * steps[k] / query->scale);
        if (own.codes[0] | own.codes[1] | own.codes[2] | own.codes[3])
            query->quads[query->used++] = own;
    }
    return dot(unit, low, dim);
}

/* Prepares the queries of a shard, and sorts their visits by list. The visits of list l then end before ends[l]. */
static void prepare(const Lists *lists, const Search *search, int64_t first, int64_t n, Room *room)
{
    const int64_t dim = lists->dim, own_dim = search->query_dim;
    float *units = room->units, *products = room->products;
    int64_t visits = 0;
    memset(room->ends, 0, (size_t)(lists->count + 1) * sizeof *room->ends);
    for (int64_t q = 0; q < n; q++) {
        const int64_t place = q % PRODUCTS, given = first + q;
        if (!place) {
            const int64_t rows = n - q < PRODUCTS ? n - q : PRODUCTS;
            memset(units, 0, (size_t)(rows * dim) * sizeof *units);
            memset(products, 0, (size_t)(rows * lists->count) * sizeof *products);
            for (int64_t row = 0; row < rows; row++)
                memcpy(units + row * dim, search->queries + (given + row) * own_dim, (size_t)own_dim * sizeof *units);
            NAME(add_products)(rows, dim, lists->count, lists->centroids, units, products);
        }
        Query *query = room->queries + q;
        const int64_t probed = search->probed[given], candidates = search->candidates;
        query->quads = room->quads + q * lists->quads;
        query->heap = (Heap){room->scores + q * candidates, room->rows + q * candidates, candidates};
        query->excluded = search->excluded + search->excluded_starts[given];
        query->excluded_count = search->excluded_starts[given + 1] - search->excluded_starts[given];
        for (int64_t i = 0; i < candidates; i++) {
            query->heap.scores[i] = -INFINITY;
            query->heap.rows[i] = -1;
        }
        const float low = encode(lists, units + place * dim, query);
        int32_t *chosen = room->chosen + visits;
        float *bases = room->bases + visits;
        choose_lists(products + place * lists->count, lists->count, probed, products + (n < PRODUCTS ? n : PRODUCTS) * lists->count, chosen,
                     bases);
        for (int64_t i = 0; i < probed; i++) {
            bases[i] += low;
            room->ends[chosen[i] + 1]++;
        }
        visits += probed;
    }
    for (int64_t list = 0; list < lists->count; list++)
        room->ends[list + 1] += room->ends[list];
    for (int64_t q = 0, visit = 0; q < n; q++)
        for (int64_t i = 0; i < search->probed[first + q]; i++, visit++)
            room->visits[room->ends[room->chosen[visit]]++] = (Visit){(int32_t)q, room->bases[visit]};
}

/* Writes the best `count` of a query's candidates by their scores, the best first. */
static void rank(const Vectors *vectors, const float *query, const Heap *candidates, int64_t count, int64_t *rows,
                 float *scores)
{
    Heap heap = *candidates;
    for (int64_t i = 0; i < heap.count; i++)
        if (heap.rows[i] >= 0)
            prefetch_row(vectors->rows + heap.rows[i] * vectors->dim, vectors->dim, 0);
    for (int64_t i = 0; i < heap.count; i++)
        if (heap.rows[i] >= 0)
            heap.scores[i] = row_score(vectors, query, heap.rows[i]);
    for (int64_t i = heap.count / 2; i-- > 0;)
        sift_down(&heap, i, heap.scores[i], heap.rows[i]);
    while (heap.count > 0) { /* removes the lowest */
        const float score = heap.scores[0];
        const int64_t row = heap.rows[0], last = --heap.count;
        if (last < count) {
            scores[last] = score;
            rows[last] = row;
        }
        sift_down(&heap, 0, heap.scores[last], heap.rows[last]);
    }
}

KERNEL(void, search_lists)(const Lists *lists, const Vectors *vectors, const Search *search, int64_t n, int64_t shards,
                           int64_t room, uint8_t *scratch)
{
#pragma omp parallel for schedule(static) if (shards > 1)
    for (int64_t shard = 0; shard < shards; shard++) {
        const int64_t first = n * shard / shards, own = n * (shard + 1) / shards - first;
        int64_t visits = 0;
        for (int64_t q = first; q < first + own; q++)
            visits += search->probed[q];
        Room own_room = room_at((char *)scratch + shard * room, lists, own, visits, search->candidates);
        prepare(lists, search, first, own, &own_room);
        for (int64_t list = 0, start = 0; list < lists->count; start = own_room.ends[list++])
            if (own_room.ends[list] > start)
                NAME(scan_list)(lists, list, own_room.queries, own_room.visits + start, own_room.ends[list] - start,
                                search->allowed);
        for (int64_t q = 0; q < own; q++)
            rank(vectors, search->queries + (first + q) * search->query_dim, &own_room.queries[q].heap, search->count,
                 search->rows + (first + q) * search->count, search->scores + (first + q) * search->count);
    }
}
