/* Scans a list of vectors: products of the codes of its blocks with those of queries. */
#include "lists.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

/* Blocks whose sums are computed together, so that enough sums are independent; and bytes of codes that are read for
 * all queries before the next ones: they stay in a core's first cache. */
enum { TILE = 4, CHUNK_BYTES = 32768 };

/* Writes to sums (blocks, LIST_BLOCK) the products of codes of adjacent blocks with n quads, and returns a bit for each
 * block that has a sum above `least`. If no block has one, sums can be left as they are. */
typedef uint32_t BlockSums(const uint8_t *codes, int64_t block_bytes, const Quad *quads, int64_t n, int32_t least,
                           int32_t *sums);

ALWAYS_INLINE int32_t four_codes(const Quad *quad)
{
    int32_t four;
    memcpy(&four, quad->codes, sizeof four);
    return four;
}

#ifdef __AVX512BW__
#define BLOCK_SUMS(name, attributes, blocks, add)                                                                \
    attributes static uint32_t name(const uint8_t *codes, int64_t block_bytes, const Quad *quads, int64_t n,     \
                                    int32_t least, int32_t *sums)                                                \
    {                                                                                                            \
        __m512i sum[blocks][2];                                                                                  \
        for (int b = 0; b < (blocks); b++)                                                                       \
            sum[b][0] = sum[b][1] = _mm512_setzero_si512();                                                      \
        for (int64_t k = 0; k < n; k++) {                                                                        \
            const __m512i query = _mm512_set1_epi32(four_codes(quads + k));                                      \
            const uint8_t *at = codes + quads[k].offset;                                                         \
            for (int b = 0; b < (blocks); b++, at += block_bytes) {                                              \
                sum[b][0] = add(sum[b][0], _mm512_loadu_si512(at), query);                                       \
                sum[b][1] = add(sum[b][1], _mm512_loadu_si512(at + 64), query);                                  \
            }                                                                                                    \
        }                                                                                                        \
        const __m512i limit = _mm512_set1_epi32(least);                                                          \
        uint32_t above = 0;                                                                                      \
        for (int b = 0; b < (blocks); b++)                                                                       \
            above |= (uint32_t)((_mm512_cmpgt_epi32_mask(sum[b][0], limit) |                                     \
                                 _mm512_cmpgt_epi32_mask(sum[b][1], limit)) != 0) << b;                          \
        for (int b = 0; above && b < (blocks); b++) {                                                            \
            _mm512_storeu_si512(sums + 32 * b, sum[b][0]);                                                       \
            _mm512_storeu_si512(sums + 32 * b + 16, sum[b][1]);                                                  \
        }                                                                                                        \
        return above;                                                                                            \
    }

#define ADD_BY_PAIRS(sum, codes, query) \
    _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(codes, query), _mm512_set1_epi16(1)))
#define WITH_VNNI __attribute__((target("avx512vnni")))
#define ALL_BLOCK_SUMS(name, attributes, add)  \
    BLOCK_SUMS(name##1, attributes, 1, add)    \
    BLOCK_SUMS(name##2, attributes, 2, add)    \
    BLOCK_SUMS(name##3, attributes, 3, add)    \
    BLOCK_SUMS(name##4, attributes, TILE, add) \
    static BlockSums *const name[TILE] = {name##1, name##2, name##3, name##4};

ALL_BLOCK_SUMS(by_pairs, , ADD_BY_PAIRS)
ALL_BLOCK_SUMS(by_quads, WITH_VNNI, _mm512_dpbusd_epi32)

static BlockSums *const *block_sums(void)
{
    return __builtin_cpu_supports("avx512vnni") ? by_quads : by_pairs;
}
#else
static int sums_of_block(const uint8_t *codes, const Quad *quads, int64_t n, int32_t least, int32_t *restrict sums)
{
    int any = 0;
    memset(sums, 0, LIST_BLOCK * sizeof *sums);
    for (int64_t k = 0; k < n; k++) {
        const uint8_t *at = codes + quads[k].offset;
#ifdef __AVX2__
        const __m256i query = _mm256_set1_epi32(four_codes(quads + k)), ones = _mm256_set1_epi16(1);
        for (int i = 0; i < LIST_BLOCK; i += 8) {
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(at + 4 * i)), query);
            __m256i *sum = (__m256i *)(sums + i);
            _mm256_storeu_si256(sum, _mm256_add_epi32(_mm256_loadu_si256(sum), _mm256_madd_epi16(pairs, ones)));
        }
#else
        const int8_t *query = quads[k].codes;
        for (int i = 0; i < LIST_BLOCK; i++)
            sums[i] += at[4 * i] * query[0] + at[4 * i + 1] * query[1] + at[4 * i + 2] * query[2] +
                       at[4 * i + 3] * query[3];
#endif
    }
    for (int i = 0; i < LIST_BLOCK; i++)
        any |= sums[i] > least;
    return any;
}

ALWAYS_INLINE uint32_t sums_of(int blocks, const uint8_t *codes, int64_t block_bytes, const Quad *quads, int64_t n,
                               int32_t least, int32_t *sums)
{
    uint32_t above = 0;
    for (int b = 0; b < blocks; b++)
        above |= (uint32_t)sums_of_block(codes + b * block_bytes, quads, n, least, sums + b * LIST_BLOCK) << b;
    return above;
}

#define BLOCK_SUMS(blocks)                                                                                   \
    static uint32_t sums_of##blocks(const uint8_t *codes, int64_t block_bytes, const Quad *quads, int64_t n, \
                                    int32_t least, int32_t *sums)                                            \
    {                                                                                                        \
        return sums_of(blocks, codes, block_bytes, quads, n, least, sums);                                   \
    }
BLOCK_SUMS(1)
BLOCK_SUMS(2)
BLOCK_SUMS(3)
BLOCK_SUMS(4)
static BlockSums *const all_sums[TILE] = {sums_of1, sums_of2, sums_of3, sums_of4};

static BlockSums *const *block_sums(void)
{
    return all_sums;
}
#endif

/* Returns a sum that is too low for a score that is not below the lowest of a heap. */
ALWAYS_INLINE int32_t least_sum(const Query *query, float base)
{
    const float sum = (query->heap.scores[0] - base) / query->scale;
    return sum > -1e9f ? (int32_t)(sum < 1e9f ? sum : 1e9f) - 2 : INT32_MIN / 2;
}

static int is_excluded(const Query *query, int64_t row)
{
    int found = 0;
    for (int64_t i = 0; i < query->excluded_count; i++)
        found |= query->excluded[i] == row;
    return found;
}

/* Offers the rows of a block to the best of a query. Only sums above `least` can have a score that is not lower. */
NOINLINE int32_t offer_block(const Query *query, const int32_t *sums, int32_t least, float base, const int32_t *rows,
                             const uint8_t *allowed)
{
    const Heap *heap = &query->heap;
    for (int i = 0; i < LIST_BLOCK; i++) {
        const int32_t row = rows[i];
        const float score = base + query->scale * (float)sums[i];
        if (sums[i] > least && row >= 0 && is_lower(heap->scores[0], heap->rows[0], score, row) &&
            (!allowed || allowed[row]) && !is_excluded(query, row))
            sift_down(heap, 0, score, row);
    }
    return least_sum(query, base);
}

/* Offers the rows of the blocks from `start` to `end` - 1 to the best of a query. */
static void scan_blocks(const Lists *lists, int64_t start, int64_t end, const Query *query, float base,
                        const uint8_t *allowed, BlockSums *const *sums_of)
{
    const int64_t block_bytes = lists->quads * 4 * LIST_BLOCK;
    int32_t sums[TILE * LIST_BLOCK], least = least_sum(query, base);
    for (int64_t block = start; block < end; block += TILE) {
        const int64_t blocks = end - block < TILE ? end - block : TILE;
        uint32_t above = sums_of[blocks - 1](lists->codes + block * block_bytes, block_bytes, query->quads,
                                             query->used, least, sums);
        for (int64_t b = 0; above; b++, above >>= 1)
            if (above & 1)
                least = offer_block(query, sums + b * LIST_BLOCK, least, base, lists->rows + (block + b) * LIST_BLOCK,
                                    allowed);
    }
}

void NAME(scan_list)(const Lists *lists, int64_t list, const Query *queries, const Visit *visits, int64_t n,
                     const uint8_t *allowed)
{
    BlockSums *const *sums_of = block_sums();
    const int64_t last = lists->starts[list + 1], block_bytes = lists->quads * 4 * LIST_BLOCK;
    const int64_t chunk = block_bytes * TILE < CHUNK_BYTES ? CHUNK_BYTES / block_bytes / TILE * TILE : TILE;
    for (int64_t start = lists->starts[list]; start < last; start += chunk)
        for (int64_t i = 0; i < n; i++)
            scan_blocks(lists, start, start + chunk < last ? start + chunk : last, queries + visits[i].query,
                        visits[i].base, allowed, sums_of);
}
