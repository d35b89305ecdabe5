/* CRC-32C (Castagnoli, RFC 3720), the checksum of checkpoint blocks. */
#ifndef HR_BASE_CRC32C_H
#define HR_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `bytes` of data. */
uint32_t hr_crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
