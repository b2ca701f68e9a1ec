/* A whole step of training, where a network is two tables and an output layer, objects are single tokens, and each pair
 * has one number: matrix factorisation, or skip-gram. Rows are read and moved where they lie. */
#include "kernels.h"

/* The number of a pair of rows u and v is  bias + sum over k of  h u v + l u + r v + d |u - v|;  terms that there are not
 * are NULL. */
typedef struct {
    int64_t dim;
    const float *h, *l, *r, *d;
    float bias;
    int64_t classes; /* 2: it is the logit of class 1 */
} Number;

/* What an optimizer moves, what it keeps beside it, and Adam's bias corrections, 1 - beta^step. */
typedef struct {
    float *weight, *first, *second, c1, c2;
} Moved;

/* A side of a batch: n different tokens, rows of `table` (., dim) with the optimizer's state, and for each pair which of
 * them is its own. The pairs of token r are places[starts[r]:starts[r + 1]], and row[p] is the row of pair p. */
typedef struct {
    float *table, *first, *second;
    const int32_t *tokens;
    int64_t n;
    const int64_t *index;
    int64_t *starts, *places;
    const float **row;
} Side;

/* `places` is scratch (n + 1 + 2 pairs). */
static Side side_of(const Moved *moved, const int32_t *tokens, int64_t n, const int64_t *index, int64_t pairs, int64_t *places)
{
    int64_t *const own = places + n + 1;
    const float **const row = (const float **)(own + pairs);
    return (Side){moved->weight, moved->first, moved->second, tokens, n, index, places, own, row};
}

static void lay_out(const Side *side, int64_t pairs, int64_t dim)
{
    by_object(side->index, pairs, side->n, side->starts, side->places);
    for (int64_t p = 0; p < pairs; p++)
        side->row[p] = side->table + side->tokens[side->index[p]] * dim;
}

/* The first of the tokens of a side whose pairs are those of `part` and later, of `parts` parts with as many pairs. */
static int64_t begin_of(const Side *side, int64_t part, int64_t parts)
{
    const int64_t before = side->starts[side->n] * part / parts;
    int64_t low = 0, high = side->n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (side->starts[middle] < before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What is summed up over the pairs of one part of a batch: the loss, how many get their class, the gradients of what
 * `Number` has. */
typedef struct {
    double loss, bias;
    int64_t correct;
    float *h, *l, *r, *d;
} Sums;

enum { LANES = 16 }; /* pairs at a time */

/* The slopes of LANES pairs with the numbers x. Added to `total` are the losses of the first n, but for the logarithm of
 * what `product` is multiplied with, which one logarithm takes of many, and how many of them get their class. */
static inline __attribute__((always_inline)) void slopes_of(const float *x, const float *labels, int64_t n, int64_t classes,
                                                            float *slopes, Sums *total, double *product)
{
    float e[LANES], losses[LANES];
    if (classes == 1) {
        for (int64_t j = 0; j < LANES; j++) {
            const float by = x[j] - labels[j];
            slopes[j] = 2 * by;
            losses[j] = by * by;
        }
    } else {
        for (int64_t j = 0; j < LANES; j++) {
            e[j] = exponential(-fabsf(x[j]));
            slopes[j] = (x[j] < 0 ? e[j] : 1) / (1 + e[j]) - labels[j]; /* the probability of class 1 before */
            losses[j] = (x[j] < 0 ? 0 : x[j]) - x[j] * labels[j];
        }
        for (int64_t j = 0; j < n; j++)
            *product *= 1 + (double)e[j];
        if (*product > 1e290) {
            total->loss += log(*product);
            *product = 1;
        }
    }
    for (int64_t j = 0; j < n; j++) {
        total->loss += losses[j];
        total->correct += (x[j] > 0) == (labels[j] > 0);
    }
}

/* Slopes of the pairs of left tokens from:to; the gradients of these tokens into d_u (n, dim), the others are added to
 * `total`. */
CLONES void learn_left(const Number *number, const Side *left, const Side *right, int64_t from, int64_t to,
                       const float *labels, float part, float *restrict slope, float *d_u, Sums *total)
{
    const int64_t dim = number->dim, classes = number->classes;
    const float *restrict h = number->h, *restrict l = number->l, *restrict r = number->r, *restrict d = number->d;
    float by_v[MOST_DIM], sums[MOST_DIM];
    double product = 1;
    for (int64_t t = from; t < to; t++) {
        const float *restrict u = left->table + left->tokens[t] * dim;
        float *restrict own = d_u + t * dim;
        const int64_t *places = left->places + left->starts[t], n = left->starts[t + 1] - left->starts[t];
        float base = number->bias, slopes = 0;
        for (int64_t k = 0; k < dim; k++) { /* all that is linear in v, at once */
            by_v[k] = (h ? h[k] * u[k] : 0) + (r ? r[k] : 0);
            sums[k] = own[k] = 0;
        }
        if (l)
            base += dot(l, u, dim);
        for (int64_t i = 0; i < n; i += LANES, places += LANES) {
            const int64_t some = n - i < LANES ? n - i : LANES;
            float x[LANES] = {0}, wanted[LANES] = {0}, s[LANES];
            for (int64_t j = 0; j < some; j++) {
                const float *restrict v = right->row[places[j]];
                float sum = base;
                if (i + j + 4 < n)
                    fetch_row(right->row[places[j + 4]], dim, 0);
                sum += dot(by_v, v, dim);
                if (d)
#pragma omp simd reduction(+ : sum)
                    for (int64_t k = 0; k < dim; k++)
                        sum += d[k] * fabsf(u[k] - v[k]);
                x[j] = sum;
                wanted[j] = labels[places[j]];
            }
            slopes_of(x, wanted, some, classes, s, total, &product);
            for (int64_t j = 0; j < some; j++) {
                const float *restrict v = right->row[places[j]], by = part * s[j];
                slope[places[j]] = by;
                slopes += by;
                for (int64_t k = 0; k < dim; k++)
                    sums[k] += by * v[k];
                for (int64_t k = 0; d && k < dim; k++) {
                    const float off = u[k] - v[k];
                    own[k] += by * (off > 0 ? d[k] : off < 0 ? -d[k] : 0.0f);
                    total->d[k] += by * fabsf(off);
                }
            }
        }
        for (int64_t k = 0; h && k < dim; k++) {
            own[k] += h[k] * sums[k];
            total->h[k] += u[k] * sums[k];
        }
        for (int64_t k = 0; l && k < dim; k++) {
            own[k] += l[k] * slopes;
            total->l[k] += u[k] * slopes;
            total->r[k] += sums[k];
        }
        total->bias += slopes;
    }
    total->loss += log(product);
}

/* Asks for a row, and what the optimizer keeps beside it. */
#define fetch_rows(side, token, dim)                                                                                     \
    do {                                                                                                                 \
        fetch_row((side)->table + (token) * (dim), dim, 1);                                                              \
        fetch_row((side)->first + (token) * (dim), dim, 1);                                                              \
        fetch_row((side)->second + (token) * (dim), dim, 1);                                                             \
    } while (0)

/* Moves right tokens from:to, whose slopes are there; left ones are where they were. */
CLONES void learn_right(const Number *number, const Side *left, const Side *right, int64_t from, int64_t to,
                        const float *slope, const Move *move)
{
    const int64_t dim = number->dim;
    const float *restrict h = number->h, *restrict r = number->r, *restrict d = number->d;
    float sums[MOST_DIM], own[MOST_DIM];
    for (int64_t t = from; t < to; t++) {
        const int64_t at = right->tokens[t] * dim;
        const float *restrict v = right->table + at;
        const int64_t *places = right->places + right->starts[t], last = right->starts[t + 1] - right->starts[t] - 1;
        float slopes = slope[places[last]];
        if (t + 4 < to)
            fetch_rows(right, right->tokens[t + 4], dim);
        for (int64_t j = 0; j < last; j++) {
            const float *restrict u = left->row[places[j]], s = slope[places[j]];
            slopes += s;
            for (int64_t k = 0; k < dim; k++)
                sums[k] = (j ? sums[k] : 0) + s * u[k];
        }
        const float *restrict u = left->row[places[last]], s = slope[places[last]];
        for (int64_t k = 0; k < dim; k++)
            own[k] = (h ? h[k] * ((last ? sums[k] : 0) + s * u[k]) : 0) + (r ? r[k] * slopes : 0);
        for (int64_t j = 0; d && j <= last; j++) {
            const float *restrict u = left->row[places[j]], s = slope[places[j]];
            for (int64_t k = 0; k < dim; k++) {
                const float by = v[k] - u[k];
                own[k] += s * (by > 0 ? d[k] : by < 0 ? -d[k] : 0.0f);
            }
        }
        move_row(move, dim, right->table + at, right->first + at, right->second + at, own);
    }
}

/* Moves left tokens from:to against their gradients d_u (n, dim). */
CLONES void move_left(const Side *left, int64_t from, int64_t to, int64_t dim, float *d_u, const Move *move)
{
    for (int64_t t = from; t < to; t++) {
        const int64_t at = left->tokens[t] * dim;
        if (t + 2 < to)
            fetch_rows(left, left->tokens[t + 2], dim);
        move_row(move, dim, left->table + at, left->first + at, left->second + at, d_u + t * dim);
    }
}

/* A step of an optimizer on what a batch of pairs touches: rows of two tables, and the output layer.
 *
 * moved are the tables of either side, the layer's weight (classes, width), whose terms begin at `at`, and its bias. A
 * layer of one class gives a number; of two classes only what is between them counts. Of the different tokens (n) of each
 * side, none of them 0, pair p has number index[p]. Into found go the mean loss and how many pairs get their class, if
 * there are two. slope (pairs), sums (parts, width + 1), d_u (n0, dim) and places (n0 + n1 + 2 + 4 pairs) are scratch. */
void step_pairs(int64_t kind, float rate, float decay, const Moved *moved, const int32_t *tokens0, int64_t n0,
                const int64_t *index0, const int32_t *tokens1, int64_t n1, const int64_t *index1, const float *labels,
                int64_t pairs, int64_t classes, int64_t width, int64_t dim, const int64_t *at, int64_t parts, float *slope,
                float *sums, float *d_u, int64_t *places, double *found)
{
    enum { WEIGHT = 2, BIAS };
    float between[4 * MOST_DIM];
    const float *const weight = moved[WEIGHT].weight, *const bias = moved[BIAS].weight, *term[4];
    for (int64_t k = 0; k < width; k++)
        between[k] = classes == 2 ? weight[width + k] - weight[k] : weight[k];
    for (int i = 0; i < 4; i++)
        term[i] = at[i] < 0 ? NULL : between + at[i];
    const Number number = {dim, term[PRODUCT], term[LEFT], term[RIGHT], term[APART],
                           classes == 2 ? bias[1] - bias[0] : *bias, classes};
    Move moves[4];
    for (int i = 0; i < 4; i++)
        moves[i] = (Move){kind, rate, i == BIAS ? 0 : decay, moved[i].c1, moved[i].c2};
    int64_t *const places1 = places + n0 + 1 + 2 * pairs;
    const Side sides[2] = {side_of(&moved[0], tokens0, n0, index0, pairs, places),
                           side_of(&moved[1], tokens1, n1, index1, pairs, places1)};
    const Side *left = sides, *right = sides + 1;
    memset(sums, 0, (size_t)(parts * (width + 1)) * sizeof *sums);
    double losses = 0;
    int64_t correct = 0;
#pragma omp parallel num_threads((int)parts) if (parts > 1)
    {
#pragma omp for schedule(static)
        for (int s = 0; s < 2; s++)
            lay_out(&sides[s], pairs, dim);
#pragma omp for schedule(static) reduction(+ : losses, correct)
        for (int64_t part = 0; part < parts; part++) {
            float *const own = sums + part * (width + 1), *d[4];
            for (int i = 0; i < 4; i++)
                d[i] = at[i] < 0 ? NULL : own + at[i];
            Sums total = {0, 0, 0, d[PRODUCT], d[LEFT], d[RIGHT], d[APART]};
            learn_left(&number, left, right, begin_of(left, part, parts), begin_of(left, part + 1, parts), labels,
                       1 / (float)pairs, slope, d_u, &total);
            own[width] = (float)total.bias;
            losses += total.loss;
            correct += total.correct;
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < parts; part++)
            learn_right(&number, left, right, begin_of(right, part, parts), begin_of(right, part + 1, parts), slope,
                        &moves[1]);
#pragma omp for schedule(static)
        for (int64_t part = 0; part < parts; part++)
            move_left(left, left->n * part / parts, left->n * (part + 1) / parts, dim, d_u, &moves[0]);
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
    found[0] = losses / (double)pairs;
    found[1] = (double)correct;
}
