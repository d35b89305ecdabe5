/* Stable radix sort of 64-bit keys by their high 32 bits. */
#ifndef HR_BASE_SORT_H
#define HR_BASE_SORT_H

#include <stdint.h>

/* Sorts n keys by (key >> 32), keeping the order of equals; `most` is the largest (key >> 32). Scratch: n keys. */
void hr_sort_high(uint64_t *keys, uint64_t *scratch, int64_t n, uint32_t most);

#endif
