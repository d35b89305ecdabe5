/* Feistel permutation with cycle walking; the round function is Philox stream 5 (c0 = half, c1 = round,
 * step = epoch). Six rounds on the smallest even-width domain that holds n, which is less than 4n: fewer than 4 walks on average. */
#include "base/order.h"

#include "base/rng.h"

enum { ROUNDS = 6 };

hr_order hr_order_make(uint64_t seed, uint64_t epoch, uint64_t n)
{
    unsigned bits = 2;
    while (bits < 62 && (UINT64_C(1) << bits) < n)
        bits++;
    return (hr_order){.seed = seed, .epoch = epoch, .n = n, .half = (bits + 1) / 2};
}

static uint64_t permute(const hr_order *order, uint64_t v)
{
    const uint64_t mask = (UINT64_C(1) << order->half) - 1;
    hr_rng rng = hr_rng_make(order->seed, order->epoch, 0, HR_STREAM_ORDER);
    uint64_t left = v >> order->half, right = v & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t w[4];
        hr_rng_block(rng, (uint32_t)right, round, w);
        uint64_t next = left ^ (w[0] & mask);
        left = right;
        right = next;
    }
    return left << order->half | right;
}

uint64_t hr_order_at(const hr_order *order, uint64_t p)
{
    uint64_t v = p;
    do
        v = permute(order, v);
    while (v >= order->n);
    return v;
}
