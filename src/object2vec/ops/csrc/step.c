/* A whole step of training, where a network is two tables and an output layer, objects are single tokens, and each pair
 * has one number: matrix factorisation, or skip-gram. Rows are read and moved where they lie. */
#include "kernels.h"
#include <omp.h>

/* The number of a pair of rows u and v is  bias + sum over k of  h u v + l u + r v + d |u - v|;  terms that there are not
 * are NULL. */
typedef struct {
    int64_t dim;
    const float *h, *l, *r, *d;
    float bias;
    int64_t classes; /* 2: it is the logit of class 1 */
} Number;

/* What an optimizer moves, what it keeps beside it, and how many steps it took before. */
typedef struct {
    float *weight, *first, *second;
    int64_t steps;
} Moved;
EXPORT_SIZE(Moved)

/* P pairs over different tokens (n) of each side, none of them 0: pair p has number index[p] of them, and they are numbered
 * as they come, so that a number that was not there before is one above all that were. Of a step on them come the mean
 * loss, and how many pairs get their class. */
typedef struct {
    const int32_t *tokens[2];
    const int64_t *index[2];
    int64_t n[2];
    const float *labels;
    int64_t pairs;
    double loss;
    int64_t correct;
} PairBatch;
EXPORT_SIZE(PairBatch)

/* How steps are made, and scratch for the largest batch: slope (pairs), sums (parts, width + 1), slopes (n0 + n1, dim). */
typedef struct {
    int64_t kind;
    float rate, decay;
    int64_t classes, width, dim;
    const int64_t *at;
    int64_t parts;
    float *slope, *sums, *slopes;
} Way;
EXPORT_SIZE(Way)

/* A side of a batch: its tokens, rows of `table` (., dim), and the number of each pair's own. `slope` (n, dim) is for their
 * gradients. */
typedef struct {
    const float *table;
    const int32_t *tokens;
    const int64_t *index;
    float *slope;
} Side;

static inline const float *row_of_pair(const Side *side, int64_t pair, int64_t dim)
{
    return side->table + side->tokens[side->index[pair]] * dim;
}

/* One of `parts` parts of a batch: what it takes is that of every token whose number leaves `part` over. */
typedef struct {
    int64_t part, parts, pairs;
} Share;

static inline int is_own(const Share *share, int64_t token)
{
    return share->parts == 1 || (uint32_t)token % (uint32_t)share->parts == (uint32_t)share->part;
}

/* What the gradient of a token is so far: its slope, or zeros where it was not there before, as then it is `*next`, which
 * begins at the part. Without a branch: whether a token is new is hard to guess. */
static inline const float *slope_so_far(const float *slope, int64_t token, const Share *share, int64_t *next)
{
    static const float zeros[MOST_DIM];
    const int is_new = token == *next;
    *next += is_new ? share->parts : 0;
    return is_new ? zeros : slope;
}

/* What is summed up over the pairs of one part of a batch: the loss, how many get their class, the gradients of what
 * `Number` has. */
typedef struct {
    double loss, bias;
    int64_t correct;
    float *h, *l, *r, *d;
} Sums;

enum {
    TOGETHER = 64, /* pairs at a time: their rows stay in a core's first cache */
    AHEAD = 8      /* rows that memory is asked for */
};

/* The slopes of n pairs with the numbers x. Added to `total` are their losses, but for the logarithm of what `product` is
 * multiplied with, which one logarithm takes of many, and how many of them get their class. */
INLINED void slopes_of(const float *x, const float *labels, int64_t n, int64_t classes, float *slopes, Sums *total,
                       double *product)
{
    double losses = 0, factor = 1;
    int64_t correct = 0;
    if (classes == 1)
#pragma omp simd reduction(+ : losses)
        for (int64_t j = 0; j < n; j++) {
            const float by = x[j] - labels[j];
            slopes[j] = 2 * by;
            losses += by * by;
        }
    else
#pragma omp simd reduction(* : factor) reduction(+ : losses)
        for (int64_t j = 0; j < n; j++) {
            const float e = exponential(-fabsf(x[j]));
            slopes[j] = (x[j] < 0 ? e : 1) / (1 + e) - labels[j]; /* the probability of class 1 before */
            losses += (x[j] < 0 ? 0 : x[j]) - x[j] * labels[j];
            factor *= 1 + (double)e;
        }
    for (int64_t j = 0; j < n; j++)
        correct += (x[j] > 0) == (labels[j] > 0);
    *product *= factor;
    total->loss += losses;
    total->correct += correct;
    if (*product > 1e250) { /* no more than 2^TOGETHER is to come */
        total->loss += log(*product);
        *product = 1;
    }
}

/* The sums over n rows of by[j] * rows[j][k], into sums (dim). */
INLINED void add_up(const float *const *rows, const float *by, int64_t n, int64_t dim, float *restrict sums)
{
    int64_t k = 0;
    for (; k + 64 <= dim; k += 64) {
        Sixteen part[4] = {{0}};
        for (int64_t j = 0; j < n; j++)
            for (int i = 0; i < 4; i++)
                part[i] += by[j] * *(const Sixteen *)(rows[j] + k + 16 * i);
        for (int i = 0; i < 4; i++)
            *(Sixteen *)(sums + k + 16 * i) = part[i];
    }
    for (; k + 16 <= dim; k += 16) {
        Sixteen part = {0};
        for (int64_t j = 0; j < n; j++)
            part += by[j] * *(const Sixteen *)(rows[j] + k);
        *(Sixteen *)(sums + k) = part;
    }
    for (; k < dim; k++) {
        float part = 0;
        for (int64_t j = 0; j < n; j++)
            part += by[j] * rows[j][k];
        sums[k] = part;
    }
}

/* What a row v is multiplied with in a number, where it stands beside u. */
INLINED void factors_of_v(int64_t dim, const Number *number, const float *restrict u, float *restrict by_v)
{
    const float *restrict h = number->h, *restrict r = number->r;
    for (int64_t k = 0; k < dim; k++)
        by_v[k] = (h ? h[k] * u[k] : 0) + (r ? r[k] : 0);
}

/* Calls f for rows of `dim` numbers: for widths that many use with a constant, by which compilers unroll what is inside. */
#define for_width(dim, f, ...)                                                                                           \
    ((dim) == 32    ? f(32, __VA_ARGS__)                                                                                 \
     : (dim) == 64  ? f(64, __VA_ARGS__)                                                                                 \
     : (dim) == 128 ? f(128, __VA_ARGS__)                                                                                \
                    : f(dim, __VA_ARGS__))

/* Slopes of a share of the pairs, by the left side; the gradients of its tokens, the others are added to `total`. */
INLINED void learn_left_of(int64_t dim, const Number *number, const Side *left, const Side *right, const Share *share,
                           const float *labels, float *restrict slope, Sums *total)
{
    const int64_t pairs = share->pairs;
    const float *restrict h = number->h, *restrict l = number->l, *restrict d = number->d, *rows[TOGETHER];
    float by_v[MOST_DIM], sums[MOST_DIM], x[TOGETHER], wanted[TOGETHER], s[TOGETHER], base = 0;
    int64_t tokens[TOGETHER + 1], places[TOGETHER], next_new = share->part;
    double product = 1;
    for (int64_t p = 0; p < pairs;) {
        int64_t n = 0;
        for (; p < pairs && n < TOGETHER; p++) {
            const int64_t token = left->index[p];
            if (p + AHEAD < pairs)
                fetch_row(row_of_pair(right, p + AHEAD, dim), dim, 0);
            if (!is_own(share, token))
                continue;
            const float *restrict u = left->table + left->tokens[token] * dim, *restrict v = row_of_pair(right, p, dim);
            if (n == 0 || token != tokens[n - 1]) {
                factors_of_v(dim, number, u, by_v);
                base = number->bias + (l ? dot(l, u, dim) : 0);
            }
            float sum = base + dot(by_v, v, dim);
            if (d)
#pragma omp simd reduction(+ : sum)
                for (int64_t k = 0; k < dim; k++)
                    sum += d[k] * fabsf(u[k] - v[k]);
            x[n] = sum;
            rows[n] = v;
            tokens[n] = token;
            places[n] = p;
            wanted[n++] = labels[p];
        }
        slopes_of(x, wanted, n, number->classes, s, total, &product);
        for (int64_t j = 0; j < n; j++)
            slope[places[j]] = s[j] /= (float)pairs;
        tokens[n] = -1;
        for (int64_t j = 0, next; j < n; j = next) {
            const float *restrict u = left->table + left->tokens[tokens[j]] * dim;
            float *own = left->slope + tokens[j] * dim, slopes = 0;
            const float *so_far = slope_so_far(own, tokens[j], share, &next_new);
            for (next = j; tokens[next] == tokens[j]; next++)
                slopes += s[next];
            add_up(rows + j, s + j, next - j, dim, sums);
            for (int64_t k = 0; k < dim; k++)
                own[k] = so_far[k] + (h ? h[k] * sums[k] : 0);
            for (int64_t k = 0; h && k < dim; k++)
                total->h[k] += u[k] * sums[k];
            for (int64_t k = 0; l && k < dim; k++) {
                own[k] += l[k] * slopes;
                total->l[k] += u[k] * slopes;
                total->r[k] += sums[k];
            }
            for (int64_t i = j; d && i < next; i++)
                for (int64_t k = 0; k < dim; k++) {
                    const float off = u[k] - rows[i][k];
                    own[k] += s[i] * (off > 0 ? d[k] : off < 0 ? -d[k] : 0.0f);
                    total->d[k] += s[i] * fabsf(off);
                }
            total->bias += slopes;
        }
    }
    total->loss += log(product);
}

ALONE void learn_left(const Number *number, const Side *left, const Side *right, const Share *share, const float *labels,
                       float *slope, Sums *total)
{
    for_width(number->dim, learn_left_of, number, left, right, share, labels, slope, total);
}

/* The gradients of a share of the right tokens, from the slopes of all pairs. */
INLINED void learn_right_of(int64_t dim, const Number *number, const Side *left, const Side *right, const Share *share,
                            const float *restrict slope)
{
    const float *restrict d = number->d;
    float by_v[MOST_DIM];
    for (int64_t p = 0, before = -1, next_new = share->part; p < share->pairs; p++) {
        const int64_t token = right->index[p], partner = left->index[p];
        if (!is_own(share, token))
            continue;
        const float *restrict u = left->table + left->tokens[partner] * dim;
        if (partner != before)
            factors_of_v(dim, number, u, by_v);
        before = partner;
        float *own = right->slope + token * dim;
        const float *so_far = slope_so_far(own, token, share, &next_new);
        for (int64_t k = 0; k < dim; k++)
            own[k] = so_far[k] + slope[p] * by_v[k];
        if (!d)
            continue;
        const float *restrict v = right->table + right->tokens[token] * dim;
        for (int64_t k = 0; k < dim; k++) {
            const float off = v[k] - u[k];
            own[k] += slope[p] * (off > 0 ? d[k] : off < 0 ? -d[k] : 0.0f);
        }
    }
}

ALONE void learn_right(const Number *number, const Side *left, const Side *right, const Share *share, const float *slope)
{
    for_width(number->dim, learn_right_of, number, left, right, share, slope);
}

/* Moves tokens from:to of a side. */
INLINED void move_tokens_of(int64_t dim, const Side *side, const Moved *moved, const Move *move, int64_t from, int64_t to)
{
    float *const tables[] = {moved->weight, moved->first, moved->second};
    for (int64_t t = from; t < to; t++) {
        const int64_t at = side->tokens[t] * dim;
        for (int i = 0; t + AHEAD < to && i < 3 && tables[i]; i++)
            fetch_row(tables[i] + side->tokens[t + AHEAD] * dim, dim, 1);
        move_row(move, dim, tables[0] + at, tables[1] + at, tables[2] + at, side->slope + t * dim);
    }
}

ALONE void move_tokens(int64_t dim, const Side *side, const Moved *moved, const Move *move, int64_t from, int64_t to)
{
    for_width(dim, move_tokens_of, side, moved, move, from, to);
}

/* A step on what a batch touches. */
static void step_batch(const Way *way, const Moved *moved, int64_t before, PairBatch *batch)
{
    enum { WEIGHT = 2, BIAS };
    const int64_t classes = way->classes, width = way->width, dim = way->dim, parts = way->parts, *const at = way->at;
    const int64_t pairs = batch->pairs, *const n = batch->n;
    float between[4 * MOST_DIM], *const sums = way->sums;
    const float *const weight = moved[WEIGHT].weight, *const bias = moved[BIAS].weight, *term[4];
    for (int64_t k = 0; k < width; k++)
        between[k] = classes == 2 ? weight[width + k] - weight[k] : weight[k];
    for (int i = 0; i < 4; i++)
        term[i] = at[i] < 0 ? NULL : between + at[i];
    const Number number = {dim, term[PRODUCT], term[LEFT], term[RIGHT], term[APART],
                           classes == 2 ? bias[1] - bias[0] : *bias, classes};
    Move moves[4];
    for (int i = 0; i < 4; i++) {
        const double step = (double)(moved[i].steps + before + 1);
        moves[i] = (Move){way->kind, way->rate, i == BIAS ? 0 : way->decay, (float)(1 - pow(0.9, step)),
                          (float)(1 - pow(0.999, step))};
    }
    Side sides[2];
    for (int i = 0; i < 2; i++)
        sides[i] = (Side){moved[i].weight, batch->tokens[i], batch->index[i], way->slopes + (i ? n[0] * dim : 0)};
    const Side *const left = sides, *const right = sides + 1;
    memset(sums, 0, (size_t)(parts * (width + 1)) * sizeof *sums);
    double losses = 0;
    int64_t correct = 0;
    const int threads = omp_get_max_threads(); /* fewer than parts, while training adapts to the machine's load */
#pragma omp parallel num_threads(parts < threads ? (int)parts : threads) if (parts > 1 && threads > 1)
    {
#pragma omp for schedule(static) reduction(+ : losses, correct)
        for (int64_t part = 0; part < parts; part++) {
            const Share share = {part, parts, pairs};
            float *const own = sums + part * (width + 1), *d[4];
            for (int i = 0; i < 4; i++)
                d[i] = at[i] < 0 ? NULL : own + at[i];
            Sums total = {0, 0, 0, d[PRODUCT], d[LEFT], d[RIGHT], d[APART]};
            learn_left(&number, left, right, &share, batch->labels, way->slope, &total);
            own[width] = (float)total.bias;
            losses += total.loss;
            correct += total.correct;
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < parts; part++) {
            const Share share = {part, parts, pairs};
            learn_right(&number, left, right, &share, way->slope);
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < parts; part++)
            for (int i = 0; i < 2; i++)
                move_tokens(dim, &sides[i], &moved[i], &moves[i], n[i] * part / parts, n[i] * (part + 1) / parts);
    }
    float d_layer[2 * (4 * MOST_DIM + 1)], *const d_bias = d_layer + classes * width;
    for (int64_t k = 0; k <= width; k++) {
        float sum = 0;
        for (int64_t part = 0; part < parts; part++)
            sum += sums[part * (width + 1) + k];
        for (int64_t c = 0; c < classes; c++)
            *(k < width ? d_layer + c * width + k : d_bias + c) = c + 1 < classes ? -sum : sum;
    }
    for (int i = WEIGHT; i <= BIAS; i++)
        move_row(&moves[i], i == BIAS ? classes : classes * width, moved[i].weight, moved[i].first, moved[i].second,
                 i == BIAS ? d_bias : d_layer);
    batch->loss = losses / (double)pairs;
    batch->correct = correct;
}

/* A step of an optimizer for each of `count` batches, on what it touches: rows of two tables, and the output layer.
 *
 * moved are the tables of either side, the layer's weight (classes, width), whose terms begin at `at`, and its bias. A
 * layer of one class gives a number; of two classes only what is between them counts. */
KERNEL(void, step_pairs)(const Way *way, const Moved *moved, PairBatch *batches, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        step_batch(way, moved, i, &batches[i]);
}
