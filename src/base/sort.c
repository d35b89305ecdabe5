/* Least significant digit first, 11 bits at a time, as many passes as the largest key needs. */
#include "base/sort.h"

#include <string.h>

enum { DIGIT = 11, BUCKETS = 1 << DIGIT };

void hr_sort_high(uint64_t *keys, uint64_t *scratch, int64_t n, uint32_t most)
{
    uint64_t *from = keys, *to = scratch;
    for (unsigned shift = 0; shift < 32 && (most >> shift) > 0; shift += DIGIT) {
        int64_t start[BUCKETS + 1] = {0};
        for (int64_t i = 0; i < n; i++)
            start[(from[i] >> 32 >> shift & (BUCKETS - 1)) + 1]++;
        for (int i = 0; i < BUCKETS; i++)
            start[i + 1] += start[i];
        for (int64_t i = 0; i < n; i++)
            to[start[from[i] >> 32 >> shift & (BUCKETS - 1)]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != keys)
        memcpy(keys, from, (size_t)n * sizeof *keys);
}
