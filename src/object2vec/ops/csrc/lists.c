/* Approximate search in lists of vectors: products of codes. See scan_lists in api.h. */
#include "kernels.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { GROUP = 4 }; /* queries for which a block of codes is read once */

/* A query's best rows so far: a heap of `count` with the lowest score first. */
typedef struct {
    float *scores;
    int64_t *rows, count;
} Heap;

static void replace_lowest(const Heap *heap, float score, int64_t row)
{
    int64_t at = 0;
    for (int64_t child = 1; child < heap->count; child = 2 * at + 1) {
        if (child + 1 < heap->count && heap->scores[child + 1] < heap->scores[child])
            child++;
        if (heap->scores[child] >= score)
            break;
        heap->scores[at] = heap->scores[child];
        heap->rows[at] = heap->rows[child];
        at = child;
    }
    heap->scores[at] = score;
    heap->rows[at] = row;
}

/* Writes to sums (n, LIST_BLOCK) the products of the codes of a block with n queries, (quads, 4) each. */
typedef void BlockSums(const uint8_t *codes, int64_t quads, const int8_t *const *queries, int32_t *sums);

/* The sums of one query, and of GROUP queries. */
typedef struct {
    BlockSums *one, *group;
} Sums;

ALWAYS_INLINE int32_t four_codes(const int8_t *query)
{
    int32_t four;
    memcpy(&four, query, sizeof four);
    return four;
}

#ifdef __AVX512BW__
#define BLOCK_SUMS(name, attributes, n, add)                                                      \
    attributes static void name(const uint8_t *codes, int64_t quads, const int8_t *const *queries, \
                                int32_t *sums)                                                    \
    {                                                                                             \
        __m512i sum[n][2];                                                                        \
        for (int g = 0; g < (n); g++)                                                             \
            sum[g][0] = sum[g][1] = _mm512_setzero_si512();                                       \
        for (int64_t k = 0; k < quads; k++, codes += 128) {                                       \
            const __m512i low = _mm512_loadu_si512(codes), high = _mm512_loadu_si512(codes + 64); \
            for (int g = 0; g < (n); g++) {                                                       \
                const __m512i query = _mm512_set1_epi32(four_codes(queries[g] + 4 * k));          \
                sum[g][0] = add(sum[g][0], low, query);                                           \
                sum[g][1] = add(sum[g][1], high, query);                                          \
            }                                                                                     \
        }                                                                                         \
        for (int g = 0; g < (n); g++) {                                                           \
            _mm512_storeu_si512(sums + 32 * g, sum[g][0]);                                        \
            _mm512_storeu_si512(sums + 32 * g + 16, sum[g][1]);                                   \
        }                                                                                         \
    }

#define ADD_BY_PAIRS(sum, codes, query) \
    _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(codes, query), _mm512_set1_epi16(1)))
#define WITH_VNNI __attribute__((target("avx512vnni")))

BLOCK_SUMS(one_by_pairs, , 1, ADD_BY_PAIRS)
BLOCK_SUMS(group_by_pairs, , GROUP, ADD_BY_PAIRS)
BLOCK_SUMS(one_by_quads, WITH_VNNI, 1, _mm512_dpbusd_epi32)
BLOCK_SUMS(group_by_quads, WITH_VNNI, GROUP, _mm512_dpbusd_epi32)

static Sums block_sums(void)
{
    return __builtin_cpu_supports("avx512vnni") ? (Sums){one_by_quads, group_by_quads}
                                                : (Sums){one_by_pairs, group_by_pairs};
}
#else
static void sums_of_one(const uint8_t *codes, int64_t quads, const int8_t *const *queries, int32_t *restrict sums)
{
    memset(sums, 0, LIST_BLOCK * sizeof *sums);
    for (int64_t k = 0; k < quads; k++, codes += 4 * LIST_BLOCK) {
#ifdef __AVX2__
        const __m256i query = _mm256_set1_epi32(four_codes(queries[0] + 4 * k)), ones = _mm256_set1_epi16(1);
        for (int i = 0; i < LIST_BLOCK; i += 8) {
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(codes + 4 * i)), query);
            __m256i *sum = (__m256i *)(sums + i);
            _mm256_storeu_si256(sum, _mm256_add_epi32(_mm256_loadu_si256(sum), _mm256_madd_epi16(pairs, ones)));
        }
#else
        const int8_t *query = queries[0] + 4 * k;
        for (int i = 0; i < LIST_BLOCK; i++)
            sums[i] += codes[4 * i] * query[0] + codes[4 * i + 1] * query[1] + codes[4 * i + 2] * query[2] +
                       codes[4 * i + 3] * query[3];
#endif
    }
}

static void sums_of_group(const uint8_t *codes, int64_t quads, const int8_t *const *queries, int32_t *sums)
{
    for (int g = 0; g < GROUP; g++)
        sums_of_one(codes, quads, queries + g, sums + g * LIST_BLOCK);
}

static Sums block_sums(void)
{
    return (Sums){sums_of_one, sums_of_group};
}
#endif

/* Returns a sum that is too low for a score above the lowest of a heap. */
static int32_t least_sum(const Heap *heap, float base, float scale)
{
    const float sum = (heap->scores[0] - base) / scale;
    return sum > -2e9f ? (int32_t)(sum < 2e9f ? sum : 2e9f) - 2 : INT32_MIN;
}

/* Offers the rows of a block to a heap. Only sums above `least` can have a score above the lowest. */
NOINLINE void offer_block(const Heap *heap, const int32_t *sums, int32_t *least, float base, float scale,
                          const int32_t *rows, const uint8_t *allowed)
{
    for (int i = 0; i < LIST_BLOCK; i++) {
        const float score = base + scale * (float)sums[i];
        if (sums[i] > *least && rows[i] >= 0 && score > heap->scores[0] && (!allowed || allowed[rows[i]]))
            replace_lowest(heap, score, rows[i]);
    }
    *least = least_sum(heap, base, scale);
}

ALWAYS_INLINE int any_above(const int32_t *sums, int32_t least)
{
    int any = 0;
    for (int i = 0; i < LIST_BLOCK; i++)
        any |= sums[i] > least;
    return any;
}

/* Scans a list for n queries, numbered by `query`, which probe it in place `place` of theirs. */
static void scan_list(const Lists *lists, const Probes *probes, int64_t list, const int32_t *visits, int64_t n,
                      Sums sums_of)
{
    const int64_t quads = lists->quads, count = probes->count;
    int32_t sums[GROUP * LIST_BLOCK], least[GROUP];
    for (int64_t from = 0; from < n; from += GROUP) {
        const int8_t *codes[GROUP];
        Heap heaps[GROUP];
        float base[GROUP], scale[GROUP];
        for (int g = 0; g < GROUP; g++) {
            const int64_t visit = visits[from + g < n ? from + g : n - 1], query = visit / probes->probed;
            codes[g] = probes->queries + query * quads * 4;
            heaps[g] = (Heap){probes->scores + query * count, probes->rows + query * count, count};
            base[g] = probes->bases[visit];
            scale[g] = probes->scales[query];
            least[g] = least_sum(&heaps[g], base[g], scale[g]);
        }
        const int used = n - from < GROUP ? (int)(n - from) : GROUP;
        BlockSums *const sum_block = used == 1 ? sums_of.one : sums_of.group;
        for (int64_t block = lists->starts[list]; block < lists->starts[list + 1]; block++) {
            sum_block(lists->codes + block * quads * 4 * LIST_BLOCK, quads, codes, sums);
            for (int g = 0; g < used; g++)
                if (any_above(sums + g * LIST_BLOCK, least[g]))
                    offer_block(&heaps[g], sums + g * LIST_BLOCK, &least[g], base[g], scale[g],
                                lists->rows + block * LIST_BLOCK, probes->allowed);
        }
    }
}

KERNEL(void, scan_lists)(const Lists *lists, const Probes *probes, int64_t n, int64_t shards, int32_t *visits,
                         int64_t *ends)
{
    const Sums sums_of = block_sums();
    const int64_t probed = probes->probed;
#pragma omp parallel for schedule(static) if (shards > 1)
    for (int64_t shard = 0; shard < shards; shard++) {
        const int64_t first = n * shard / shards * probed, last = n * (shard + 1) / shards * probed;
        int64_t *own = ends + shard * (lists->count + 1); /* sorts the shard's visits by list */
        memset(own, 0, (size_t)(lists->count + 1) * sizeof *own);
        for (int64_t visit = first; visit < last; visit++)
            own[probes->lists[visit] + 1]++;
        for (int64_t list = 0; list < lists->count; list++)
            own[list + 1] += own[list];
        for (int64_t visit = first; visit < last; visit++)
            visits[first + own[probes->lists[visit]]++] = (int32_t)visit;
        for (int64_t list = 0, start = 0; list < lists->count; start = own[list++])
            if (own[list] > start)
                scan_list(lists, probes, list, visits + first + start, own[list] - start, sums_of);
    }
}
