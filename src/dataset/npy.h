/* NumPy .npy files, versions 1.0 and 2.0, little-endian, C order, one or two dimensions; mapped for reading.
 * The reader trusts nothing: the header is a closed grammar of at most 10,000 bytes and the product of the shape
 * must equal the bytes that follow. Written files start their data at a multiple of 64 bytes. */
#ifndef HR_DATASET_NPY_H
#define HR_DATASET_NPY_H

#include "base/file.h"

typedef enum hr_npy_type {
    HR_NPY_U8,  /* |u1 */
    HR_NPY_I32, /* <i4 */
    HR_NPY_U32, /* <u4 */
    HR_NPY_I64, /* <i8 */
    HR_NPY_U64, /* <u8 */
    HR_NPY_F32  /* <f4 */
} hr_npy_type;

typedef struct hr_npy {
    hr_map map;
    hr_npy_type type;
    int dims;          /* 1 or 2 */
    int64_t shape[2];  /* shape[1] = 1 when dims == 1 */
    const void *data;
} hr_npy;

/* HR_ERR_DATA with what was found and expected when the file is not of `type` and `dims`. */
hr_status hr_npy_open(hr_ctx *ctx, const char *path, hr_npy_type type, int dims, hr_npy *out);
void hr_npy_close(hr_npy *npy);

/* Writes in pieces, so that no array has to be whole in memory: begin, any number of writes, end.
 * The number of rows is patched into the header by end; the file is synced and closed there. */
typedef struct hr_npy_writer {
    hr_file file;
    hr_npy_type type;
    int dims;
    int64_t cols, written; /* elements written so far */
    size_t used;
    uint8_t *buffer;       /* HR_MEM_DATASET */
} hr_npy_writer;

hr_status hr_npy_begin(hr_ctx *ctx, const char *path, hr_npy_type type, int dims, int64_t cols, hr_npy_writer *out);
hr_status hr_npy_write(hr_npy_writer *writer, const void *elements, int64_t count);
/* Also to be called after a failure (it then only releases). */
hr_status hr_npy_end(hr_npy_writer *writer);

#endif
