/* The arrays of a prepared data set while they are being written: CSR matrices and strings, row by row,
 * and the fingerprint over the finished files. */
#ifndef HR_DATASET_ARRAYS_H
#define HR_DATASET_ARRAYS_H

#include "dataset/npy.h"

/* Files PREFIX.indptr.npy, PREFIX.indices.npy and, with values, PREFIX.values.npy. */
typedef struct hr_csr_writer {
    hr_npy_writer indptr, indices, values;
    bool has_values;
    int64_t rows, nnz;
} hr_csr_writer;

hr_status hr_csr_begin(hr_ctx *ctx, const char *folder, const char *prefix, bool values, hr_csr_writer *out);
hr_status hr_csr_add(hr_csr_writer *writer, const uint32_t *indices, const float *values, int64_t count);
/* A zeroed writer is fine; also to be called after a failure. */
hr_status hr_csr_end(hr_csr_writer *writer);

/* Files PREFIX.bytes.npy and PREFIX.offsets.npy. */
typedef struct hr_strings_writer {
    hr_npy_writer bytes, offsets;
    uint64_t used;
} hr_strings_writer;

hr_status hr_strings_begin(hr_ctx *ctx, const char *folder, const char *prefix, hr_strings_writer *out);
hr_status hr_strings_add(hr_strings_writer *writer, const char *text, size_t length);
hr_status hr_strings_end(hr_strings_writer *writer);

/* XXH3, 128 bits, in hex: over the name and the bytes of each file that is there, in the order given. */
hr_status hr_fingerprint(hr_ctx *ctx, const char *folder, const char *const *files, char out[33]);

#endif
