/* The bytes of a file, unpacked: plain, gzip (many members too), xz or zstd, recognised by the first bytes.
 * A packed file that ends early is HR_ERR_DATA, never a short read. */
#ifndef HR_DATASET_UNPACK_H
#define HR_DATASET_UNPACK_H

#include "base/file.h"

typedef struct hr_unpack hr_unpack;

hr_status hr_unpack_open(hr_ctx *ctx, const char *path, hr_unpack **out);
/* Up to `bytes` unpacked bytes; *got = 0 only at the end. */
hr_status hr_unpack_read(hr_unpack *unpack, void *data, size_t bytes, size_t *got);
void hr_unpack_close(hr_unpack *unpack);

#endif
