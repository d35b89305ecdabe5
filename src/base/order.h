/* The order of the data: a keyed permutation of [0, n) whose p-th element is computed in O(1), so that
 * a run resumes from (epoch, position) alone. Feistel network with cycle walking (Black & Rogaway 2002). */
#ifndef HR_BASE_ORDER_H
#define HR_BASE_ORDER_H

#include <stdint.h>

typedef struct hr_order {
    uint64_t seed, epoch;
    uint64_t n;       /* 1 to 2^32 */
    unsigned half;    /* bits of one Feistel half */
} hr_order;

hr_order hr_order_make(uint64_t seed, uint64_t epoch, uint64_t n);
/* Element at position p < n. */
uint64_t hr_order_at(const hr_order *order, uint64_t p);

#endif
