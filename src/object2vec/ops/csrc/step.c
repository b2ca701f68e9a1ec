/* Whole training steps of a network of two tables and a linear layer, where objects are single tokens: matrix
 * factorization, or skip-gram. Rows are read and updated in place. */
#include "kernels.h"
#include <omp.h>

enum { LEFT_TABLE, RIGHT_TABLE, WEIGHT, BIAS }; /* the parameters of a step */

/* The score of a pair of rows u and v is  bias + sum over k of  h u v + l u + r v + d |u - v|. A missing term is NULL.
 */
typedef struct {
    int64_t dim;
    const float *terms[4]; /* h, l, r, d */
    float bias;
    int64_t classes; /* 2: the score is the logit of class 1 */
} PairScorer;

/* One side of a batch: its tokens, rows of table (., dim), and the gradients of these rows, grad (n, dim). */
typedef struct {
    const float *table;
    const int32_t *tokens;
    const int64_t *index;
    float *grad;
} SideBatch;

static inline const float *row_of_pair(const SideBatch *side, int64_t pair, int64_t dim)
{
    return side->table + side->tokens[side->index[pair]] * dim;
}

/* One of `shards` shards of a batch. It owns the tokens whose number modulo `shards` is `shard`. */
typedef struct {
    int64_t shard, shards, pairs;
} ThreadShard;

static inline int is_own_token(const ThreadShard *thread_shard, int64_t token)
{
    return thread_shard->shards == 1 ||
           (uint32_t)token % (uint32_t)thread_shard->shards == (uint32_t)thread_shard->shard;
}

/* Returns the gradient of a token so far, or zeros at its first occurrence, when its number is *next. Without a branch:
 * whether a token is new is hard to predict. */
static inline const float *grad_so_far(const float *grad, int64_t token, const ThreadShard *thread_shard, int64_t *next)
{
    static const float zeros[MAX_DIM];
    const int is_new = token == *next;
    *next += is_new ? thread_shard->shards : 0;
    return is_new ? zeros : grad;
}

/* Sums over the pairs of a shard: the loss, the correct pairs, and the gradients of PairScorer. */
typedef struct {
    double loss, bias;
    int64_t correct;
    float *terms[4];
} ShardSums;

/* Pairs at a time, whose rows fit a core's first-level cache; and rows to prefetch. */
enum { BLOCK_PAIRS = 64, PREFETCH_ROWS = 8 };

/* Writes the gradients of n scores x. Adds the losses to `total`, apart from the logarithm of *product: one logarithm
 * serves many pairs. Adds the count of correct pairs. */
ALWAYS_INLINE void score_gradients(const float *x, const float *labels, int64_t n, int64_t classes, float *score_grads,
                                   ShardSums *total, double *product)
{
    double losses = 0, factor = 1;
    int64_t correct = 0;
    if (classes == 1)
#pragma omp simd reduction(+ : losses)
        for (int64_t j = 0; j < n; j++) {
            const float error = x[j] - labels[j];
            score_grads[j] = 2 * error;
            losses += error * error;
        }
    else
#pragma omp simd reduction(* : factor) reduction(+ : losses)
        for (int64_t j = 0; j < n; j++) {
            const float e = fast_exp(-fabsf(x[j]));
            score_grads[j] = (x[j] < 0 ? e : 1) / (1 + e) - labels[j]; /* probability of class 1, less the label */
            losses += (x[j] < 0 ? 0 : x[j]) - x[j] * labels[j];
            factor *= 1 + (double)e;
        }
    for (int64_t j = 0; j < n; j++)
        correct += (x[j] > 0) == (labels[j] > 0);
    *product *= factor;
    total->loss += losses;
    total->correct += correct;
    if (*product > 1e250) { /* at most 2^BLOCK_PAIRS follows */
        total->loss += log(*product);
        *product = 1;
    }
}

/* Writes to sums (dim) the sums over n rows of by[j] * rows[j][k]. */
ALWAYS_INLINE void weighted_row_sum(const float *const *rows, const float *by, int64_t n, int64_t dim,
                                    float *restrict sums)
{
    int64_t k = 0;
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

/* Writes to by_v (dim) the factors of a row v in the score of a pair u, v. */
ALWAYS_INLINE void right_factors(int64_t dim, const PairScorer *scorer, const float *restrict u, float *restrict by_v)
{
    const float *restrict h = scorer->terms[TERM_PRODUCT], *restrict r = scorer->terms[TERM_RIGHT];
    for (int64_t k = 0; k < dim; k++)
        by_v[k] = (h ? h[k] * u[k] : 0) + (r ? r[k] : 0);
}

/* Calls f with rows of `dim` numbers. Common widths are constants, so that compilers unroll the loops. */
#define WITH_CONSTANT_DIM(dim, f, ...)    \
    ((dim) == 32    ? f(32, __VA_ARGS__)  \
     : (dim) == 64  ? f(64, __VA_ARGS__)  \
     : (dim) == 128 ? f(128, __VA_ARGS__) \
                    : f(dim, __VA_ARGS__))

/* Pairs of one shard, in their order. tokens ends with -1. */
typedef struct {
    int64_t n, tokens[BLOCK_PAIRS + 1], pairs[BLOCK_PAIRS];
    const float *rows[BLOCK_PAIRS];
    float scores[BLOCK_PAIRS], labels[BLOCK_PAIRS], grads[BLOCK_PAIRS];
} Block;

/* Adds the gradients of the left tokens of a block, and of the layer. */
ALWAYS_INLINE void backward_block(int64_t dim, const PairScorer *scorer, const SideBatch *left,
                                  const ThreadShard *thread_shard, const Block *block, int64_t *next_new,
                                  ShardSums *total)
{
    const float *restrict h = scorer->terms[TERM_PRODUCT], *restrict l = scorer->terms[TERM_LEFT];
    const float *restrict d = scorer->terms[TERM_ABS_DIFF], *const s = block->grads;
    const float *const *rows = block->rows;
    const int64_t *tokens = block->tokens;
    float sums[MAX_DIM];
    for (int64_t j = 0, next; j < block->n; j = next) {
        const float *restrict u = left->table + left->tokens[tokens[j]] * dim;
        float *own = left->grad + tokens[j] * dim, score_grads = 0;
        const float *so_far = grad_so_far(own, tokens[j], thread_shard, next_new);
        for (next = j; tokens[next] == tokens[j]; next++)
            score_grads += s[next];
        weighted_row_sum(rows + j, s + j, next - j, dim, sums);
        for (int64_t k = 0; k < dim; k++)
            own[k] = so_far[k] + (h ? h[k] * sums[k] : 0);
        for (int64_t k = 0; h && k < dim; k++)
            total->terms[TERM_PRODUCT][k] += u[k] * sums[k];
        for (int64_t k = 0; l && k < dim; k++) {
            own[k] += l[k] * score_grads;
            total->terms[TERM_LEFT][k] += u[k] * score_grads;
            total->terms[TERM_RIGHT][k] += sums[k];
        }
        for (int64_t i = j; d && i < next; i++)
            for (int64_t k = 0; k < dim; k++) {
                const float off = u[k] - rows[i][k];
                own[k] += s[i] * (off > 0 ? d[k] : off < 0 ? -d[k] : 0.0f);
                total->terms[TERM_ABS_DIFF][k] += s[i] * fabsf(off);
            }
        total->bias += score_grads;
    }
}

/* Scores the pairs of a shard of the left side. Adds the gradients of its tokens; adds the other sums to `total`. */
ALWAYS_INLINE void backward_left_of(int64_t dim, const PairScorer *scorer, const SideBatch *left,
                                    const SideBatch *right, const ThreadShard *thread_shard, const float *labels,
                                    float *restrict score_grad, ShardSums *total)
{
    const int64_t pairs = thread_shard->pairs;
    const float *restrict l = scorer->terms[TERM_LEFT], *restrict d = scorer->terms[TERM_ABS_DIFF];
    float by_v[MAX_DIM], base = 0;
    int64_t next_new = thread_shard->shard;
    Block block;
    double product = 1;
    for (int64_t p = 0; p < pairs;) {
        block.n = 0;
        for (; p < pairs && block.n < BLOCK_PAIRS; p++) {
            const int64_t token = left->index[p];
            if (p + PREFETCH_ROWS < pairs)
                prefetch_row(row_of_pair(right, p + PREFETCH_ROWS, dim), dim, 0);
            if (!is_own_token(thread_shard, token))
                continue;
            const float *restrict u = left->table + left->tokens[token] * dim, *restrict v = row_of_pair(right, p, dim);
            if (block.n == 0 || token != block.tokens[block.n - 1]) {
                right_factors(dim, scorer, u, by_v);
                base = scorer->bias + (l ? dot(l, u, dim) : 0);
            }
            float sum = base + dot(by_v, v, dim);
            if (d)
#pragma omp simd reduction(+ : sum)
                for (int64_t k = 0; k < dim; k++)
                    sum += d[k] * fabsf(u[k] - v[k]);
            block.scores[block.n] = sum;
            block.rows[block.n] = v;
            block.tokens[block.n] = token;
            block.pairs[block.n] = p;
            block.labels[block.n++] = labels[p];
        }
        block.tokens[block.n] = -1;
        score_gradients(block.scores, block.labels, block.n, scorer->classes, block.grads, total, &product);
        for (int64_t j = 0; j < block.n; j++)
            score_grad[block.pairs[j]] = block.grads[j] /= (float)pairs;
        backward_block(dim, scorer, left, thread_shard, &block, &next_new, total);
    }
    total->loss += log(product);
}

NOINLINE void backward_left(const PairScorer *scorer, const SideBatch *left, const SideBatch *right,
                            const ThreadShard *thread_shard, const float *labels, float *score_grad, ShardSums *total)
{
    WITH_CONSTANT_DIM(scorer->dim, backward_left_of, scorer, left, right, thread_shard, labels, score_grad, total);
}

/* Adds the gradients of a shard of the right tokens, given the gradients of all scores. */
ALWAYS_INLINE void backward_right_of(int64_t dim, const PairScorer *scorer, const SideBatch *left,
                                     const SideBatch *right, const ThreadShard *thread_shard,
                                     const float *restrict score_grad)
{
    const float *restrict d = scorer->terms[TERM_ABS_DIFF];
    float by_v[MAX_DIM];
    for (int64_t p = 0, before = -1, next_new = thread_shard->shard; p < thread_shard->pairs; p++) {
        const int64_t token = right->index[p], partner = left->index[p];
        if (!is_own_token(thread_shard, token))
            continue;
        const float *restrict u = left->table + left->tokens[partner] * dim;
        if (partner != before)
            right_factors(dim, scorer, u, by_v);
        before = partner;
        float *own = right->grad + token * dim;
        const float *so_far = grad_so_far(own, token, thread_shard, &next_new);
        for (int64_t k = 0; k < dim; k++)
            own[k] = so_far[k] + score_grad[p] * by_v[k];
        if (!d)
            continue;
        const float *restrict v = right->table + right->tokens[token] * dim;
        for (int64_t k = 0; k < dim; k++) {
            const float off = v[k] - u[k];
            own[k] += score_grad[p] * (off > 0 ? d[k] : off < 0 ? -d[k] : 0.0f);
        }
    }
}

NOINLINE void backward_right(const PairScorer *scorer, const SideBatch *left, const SideBatch *right,
                             const ThreadShard *thread_shard, const float *score_grad)
{
    WITH_CONSTANT_DIM(scorer->dim, backward_right_of, scorer, left, right, thread_shard, score_grad);
}

/* Updates the tokens from `from` to `to` - 1 of a side. */
ALWAYS_INLINE void update_tokens_of(int64_t dim, const SideBatch *side, const ParameterState *parameters,
                                    const OptimizerStep *update, int64_t from, int64_t to)
{
    float *const tables[] = {parameters->weight, parameters->state1, parameters->state2};
    for (int64_t t = from; t < to; t++) {
        const int64_t at = side->tokens[t] * dim;
        for (int i = 0; t + PREFETCH_ROWS < to && i < 3 && tables[i]; i++)
            prefetch_row(tables[i] + side->tokens[t + PREFETCH_ROWS] * dim, dim, 1);
        update_row(update, dim, tables[0] + at, tables[1] + at, tables[2] + at, side->grad + t * dim);
    }
}

NOINLINE void update_tokens(int64_t dim, const SideBatch *side, const ParameterState *parameters,
                            const OptimizerStep *update, int64_t from, int64_t to)
{
    WITH_CONSTANT_DIM(dim, update_tokens_of, side, parameters, update, from, to);
}

/* Updates the layer's weight and bias with the sum of the shards' gradients. */
static void update_layer(const StepConfig *config, const ParameterState *parameters, const OptimizerStep *updates)
{
    const int64_t classes = config->classes, width = config->width;
    float d_layer[2 * (4 * MAX_DIM + 1)], *const d_bias = d_layer + classes * width;
    for (int64_t k = 0; k <= width; k++) {
        float sum = 0;
        for (int64_t shard = 0; shard < config->shards; shard++)
            sum += config->shard_sums[shard * (width + 1) + k];
        for (int64_t c = 0; c < classes; c++)
            *(k < width ? d_layer + c * width + k : d_bias + c) = c + 1 < classes ? -sum : sum;
    }
    for (int i = WEIGHT; i <= BIAS; i++)
        update_row(&updates[i], i == BIAS ? classes : classes * width, parameters[i].weight, parameters[i].state1,
                   parameters[i].state2, i == BIAS ? d_bias : d_layer);
}

/* Scores the pairs of a batch and updates the rows they use. Writes the layer's gradients to shard_sums, and the
 * batch's loss and count of correct pairs. */
static void step_tables(const StepConfig *config, const ParameterState *parameters, const OptimizerStep *updates,
                        const PairScorer *scorer, PairBatch *batch)
{
    const int64_t width = config->width, dim = config->dim, shards = config->shards, pairs = batch->pairs;
    const int64_t *const n = batch->n, *const term_columns = config->term_columns;
    SideBatch sides[2];
    for (int i = 0; i < 2; i++)
        sides[i] = (SideBatch){parameters[i].weight, batch->tokens[i], batch->index[i],
                               config->row_grads + (i ? n[0] * dim : 0)};
    memset(config->shard_sums, 0, (size_t)(shards * (width + 1)) * sizeof *config->shard_sums);
    double losses = 0;
    int64_t correct = 0;
    const int threads = omp_get_max_threads(); /* fewer than shards while training adapts to the machine's load */
#pragma omp parallel num_threads(shards < threads ? (int)shards : threads) if (shards > 1 && threads > 1)
    {
#pragma omp for schedule(static) reduction(+ : losses, correct)
        for (int64_t shard = 0; shard < shards; shard++) {
            const ThreadShard thread_shard = {shard, shards, pairs};
            float *const own = config->shard_sums + shard * (width + 1);
            ShardSums total = {0};
            for (int i = 0; i < 4; i++)
                total.terms[i] = term_columns[i] < 0 ? NULL : own + term_columns[i];
            backward_left(scorer, sides, sides + 1, &thread_shard, batch->labels, config->score_grads, &total);
            own[width] = (float)total.bias;
            losses += total.loss;
            correct += total.correct;
        }
#pragma omp for schedule(static)
        for (int64_t shard = 0; shard < shards; shard++) {
            const ThreadShard thread_shard = {shard, shards, pairs};
            backward_right(scorer, sides, sides + 1, &thread_shard, config->score_grads);
        }
#pragma omp for schedule(static)
        for (int64_t shard = 0; shard < shards; shard++)
            for (int i = 0; i < 2; i++)
                update_tokens(dim, &sides[i], &parameters[i], &updates[i], n[i] * shard / shards,
                              n[i] * (shard + 1) / shards);
    }
    batch->loss = losses / (double)pairs;
    batch->correct = correct;
}

/* Makes a step on a batch, after `before` others of this call. Of a layer of two classes only the difference counts. */
static void step_batch(const StepConfig *config, const ParameterState *parameters, int64_t before, PairBatch *batch)
{
    const int64_t classes = config->classes, width = config->width, *const term_columns = config->term_columns;
    float weights[4 * MAX_DIM];
    const float *const weight = parameters[WEIGHT].weight, *const bias = parameters[BIAS].weight;
    for (int64_t k = 0; k < width; k++)
        weights[k] = classes == 2 ? weight[width + k] - weight[k] : weight[k];
    PairScorer scorer = {.dim = config->dim, .bias = classes == 2 ? bias[1] - bias[0] : *bias, .classes = classes};
    for (int i = 0; i < 4; i++)
        scorer.terms[i] = term_columns[i] < 0 ? NULL : weights + term_columns[i];
    OptimizerStep updates[BIAS + 1];
    for (int i = 0; i <= BIAS; i++) /* the bias has no decay */
        updates[i] = optimizer_step(config->kind, batch->learning_rate, i == BIAS ? 0 : config->weight_decay,
                                    parameters[i].steps + before + 1);
    step_tables(config, parameters, updates, &scorer, batch);
    update_layer(config, parameters, updates);
}

KERNEL(void, step_pairs)(const StepConfig *config, const ParameterState *parameters, PairBatch *batches, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        step_batch(config, parameters, i, &batches[i]);
}
