/* Cross-entropy over classes. */
#include "kernels.h"

static int64_t best_of(const float *scores, int64_t classes)
{
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
        if (scores[c] > scores[best] || scores[c] != scores[c])
            best = c;
    return best;
}

KERNEL(void, cross_entropy)(const float *scores, const float *labels, int64_t pairs, int64_t classes, float *losses,
                            float *grad)
{
    const float part = 1 / (float)pairs;
#pragma omp parallel for schedule(static) if (pairs * classes > 4096)
    for (int64_t p = 0; p < pairs; p++) {
        const float *own = scores + p * classes;
        const int64_t best = best_of(own, classes), label = (int64_t)labels[p];
        float *to = grad + p * classes, sum = 0;
        for (int64_t c = 0; c < classes; c++)
            sum += to[c] = expf(own[c] - own[best]);
        losses[p] = logf(sum) + own[best] - own[label];
        for (int64_t c = 0; c < classes; c++)
            to[c] = part * (to[c] / sum - (c == label));
    }
}

KERNEL(int64_t, correct)(const float *scores, const float *labels, int64_t pairs, int64_t classes)
{
    int64_t found = 0;
    for (int64_t p = 0; p < pairs; p++)
        found += best_of(scores + p * classes, classes) == (int64_t)labels[p];
    return found;
}
