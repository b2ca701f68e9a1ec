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

static void lay_out(Side *side, int64_t pairs, int64_t dim)
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

/* The slope of a pair with the number x; its loss is what is returned, and the logarithm of what `product` is multiplied
 * with, which one logarithm takes of many. */
static inline float slope_of(float x, float label, int64_t classes, float *slope, double *product)
{
    if (classes == 1) {
        *slope = 2 * (x - label);
        return (x - label) * (x - label);
    }
    const float e = expf(-fabsf(x)), p = (x < 0 ? e : 1) / (1 + e); /* of class 1 */
    *slope = p - label;
    *product *= 1 + e;
    return (x < 0 ? 0 : x) - x * label;
}

/* Slopes of the pairs of left tokens from:to; the gradients of these tokens into d_u (n, dim), the others are added to
 * `total`. */
CLONES void learn_left(const Number *number, const Side *left, const Side *right, int64_t from, int64_t to,
                       const float *labels, float part, float *restrict slope, float *d_u, Sums *total)
{
    const int64_t dim = number->dim, classes = number->classes;
    const float *restrict h = number->h, *restrict l = number->l, *restrict r = number->r, *restrict d = number->d;
    float by_v[MOST_DIM], sums[MOST_DIM];
    for (int64_t t = from; t < to; t++) {
        const float *restrict u = left->table + left->tokens[t] * dim;
        float *restrict own = d_u + t * dim;
        const int64_t *places = left->places + left->starts[t], n = left->starts[t + 1] - left->starts[t];
        float base = number->bias, slopes = 0;
        for (int64_t k = 0; k < dim; k++) { /* all that is linear in v, at once */
            by_v[k] = (h ? h[k] * u[k] : 0) + (r ? r[k] : 0);
            sums[k] = own[k] = 0;
        }
        for (int64_t k = 0; l && k < dim; k++)
            base += l[k] * u[k];
        for (int64_t j = 0; j < n; j++) {
            const float *restrict v = right->row[places[j]];
            float sum = base;
            if (j + 4 < n)
                fetch_row(right->row[places[j + 4]], dim, 0);
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < dim; k++)
                sum += by_v[k] * v[k];
            if (d)
#pragma omp simd reduction(+ : sum)
                for (int64_t k = 0; k < dim; k++)
                    sum += d[k] * fabsf(u[k] - v[k]);
            slope[places[j]] = sum; /* for now */
        }
        double product = 1;
        for (int64_t j = 0; j < n; j++) {
            const int64_t p = places[j];
            total->correct += (slope[p] > 0) == (labels[p] > 0);
            total->loss += slope_of(slope[p], labels[p], classes, slope + p, &product);
            slope[p] *= part;
            slopes += slope[p];
            if (product > 1e300 || j + 1 == n) {
                total->loss += log(product);
                product = 1;
            }
        }
        for (int64_t j = 0; j < n; j++) {
            const float *restrict v = right->row[places[j]], s = slope[places[j]];
            for (int64_t k = 0; k < dim; k++)
                sums[k] += s * v[k];
            for (int64_t k = 0; d && k < dim; k++) {
                const float by = u[k] - v[k];
                own[k] += s * (by > 0 ? d[k] : by < 0 ? -d[k] : 0.0f);
                total->d[k] += s * fabsf(by);
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
        float slopes = 0;
        if (t + 2 < to)
            fetch_rows(right, right->tokens[t + 2], dim);
        for (int64_t j = right->starts[t]; j < right->starts[t + 1]; j++) {
            const float *restrict u = left->row[right->places[j]], s = slope[right->places[j]];
            slopes += s;
            if (j == right->starts[t])
                for (int64_t k = 0; k < dim; k++)
                    sums[k] = s * u[k];
            else
                for (int64_t k = 0; k < dim; k++)
                    sums[k] += s * u[k];
        }
        for (int64_t k = 0; k < dim; k++)
            own[k] = (h ? h[k] * sums[k] : 0) + (r ? r[k] * slopes : 0);
        for (int64_t j = right->starts[t]; d && j < right->starts[t + 1]; j++) {
            const float *restrict u = left->row[right->places[j]], s = slope[right->places[j]];
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
 * moved, firsts and seconds are the tables of either side, the layer's weight (classes, width), whose terms begin at `at`,
 * and its bias, and what the optimizer keeps beside each; corrections are Adam's c1 and c2 of each. A layer of one class
 * gives a number; of two classes only what is between them counts. Of the different tokens (n[s]) in tokens[s], none of
 * them 0, pair p has number index[s][p]. The mean loss goes into loss; returns how many pairs get their class, if there are
 * two. slope (pairs), sums (parts, width + 1), zeros before, d_u (n[0], dim) and places (n[0] + n[1] + 2 + 4 pairs) are
 * scratch. */
int64_t step_pairs(float *const *moved, float *const *firsts, float *const *seconds, const float *corrections,
                const int32_t *const *tokens, const int64_t *n, const int64_t *const *index, const float *labels,
                int64_t pairs, int64_t classes, int64_t dim, int64_t width, const int64_t *at, int64_t kind, float rate,
                float decay, int64_t parts, float *loss, float *slope, float *sums, float *d_u, int64_t *places)
{
    enum { WEIGHT = 2, BIAS };
    float between[4 * MOST_DIM];
    const float *const weight = moved[WEIGHT], *const bias = moved[BIAS], *term[4];
    for (int64_t k = 0; k < width; k++)
        between[k] = classes == 2 ? weight[width + k] - weight[k] : weight[k];
    for (int i = 0; i < 4; i++)
        term[i] = at[i] < 0 ? NULL : between + at[i];
    const Number number = {dim, term[PRODUCT], term[LEFT], term[RIGHT], term[APART],
                           classes == 2 ? bias[1] - bias[0] : *bias, classes};
    Side sides[2];
    Move moves[4];
    for (int i = 0; i < 4; i++)
        moves[i] = (Move){kind, rate, i == BIAS ? 0 : decay, corrections[2 * i], corrections[2 * i + 1]};
    for (int s = 0; s < 2; s++) {
        int64_t *const starts = places, *const own = starts + n[s] + 1, *const row = own + pairs;
        places = row + pairs;
        sides[s] = (Side){moved[s], firsts[s], seconds[s], tokens[s], n[s], index[s], starts, own, (const float **)row};
    }
    const Side *left = sides, *right = sides + 1;
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
    move_row(&moves[WEIGHT], classes * width, moved[WEIGHT], firsts[WEIGHT], seconds[WEIGHT], d_layer);
    move_row(&moves[BIAS], classes, moved[BIAS], firsts[BIAS], seconds[BIAS], d_bias);
    *loss = (float)(losses / (double)pairs);
    return correct;
}
