/* A named view of numbers, for those who save and load them. It never owns. */
#ifndef HR_DTYPE_TENSOR_H
#define HR_DTYPE_TENSOR_H

#include "dtype/dtype.h"
#include "headroom.h"

/* Element types of the safetensors format. */
typedef enum hr_tensor_type { HR_T_F32, HR_T_BF16, HR_T_F16, HR_T_F8_E4M3, HR_T_F8_E5M2, HR_T_I8, HR_T_U8, HR_T_U32, HR_T_U16 } hr_tensor_type;

enum { HR_TENSOR_NAME_MAX = 64, HR_TENSORS_MAX = 48 };

/* Moves rows of an array that is not in this process's memory. Rows here are as long as the tensor's; padding of theirs is left alone. */
typedef struct hr_tensor_far {
    hr_status (*get)(void *owner, int part, int64_t row, int64_t rows, size_t row_bytes, void *to);
    hr_status (*put)(void *owner, int part, int64_t row, int64_t rows, size_t row_bytes, const void *from);
} hr_tensor_far;

typedef struct hr_tensor {
    char name[HR_TENSOR_NAME_MAX];
    hr_tensor_type type;
    int64_t rows, cols; /* row-major, no gaps */
    void *data;         /* NULL: */
    const hr_tensor_far *far; /* it is elsewhere, as part `part` of `owner` */
    void *owner;
    int part;
    int64_t shard_group; /* labels of the internal axis that a row belongs to: it is cut into shards by label block; 0: one piece */
    bool state;         /* optimizer state: not part of a model for prediction */
} hr_tensor;

typedef struct hr_tensor_list {
    int count;
    hr_tensor item[HR_TENSORS_MAX];
} hr_tensor_list;

/* Rows of numbers of which most are zero: those of row b are [indptr[b], indptr[b + 1]) of indices and values, columns distinct. */
typedef struct hr_sparse_rows {
    const int64_t *indptr; /* (rows + 1) */
    const uint32_t *indices;
    const float *values;
} hr_sparse_rows;

static inline size_t hr_tensor_element_bytes(hr_tensor_type type)
{
    switch (type) {
    case HR_T_F32:
    case HR_T_U32: return 4;
    case HR_T_BF16:
    case HR_T_F16:
    case HR_T_U16: return 2;
    default: return 1;
    }
}

/* The type under which codes of a storage type are kept in a file. */
static inline hr_tensor_type hr_tensor_type_of(hr_dtype dtype)
{
    switch (dtype.id) {
    case HR_F32: return HR_T_F32;
    case HR_BF16: return HR_T_BF16;
    case HR_F16: return HR_T_F16;
    case HR_E4M3: return HR_T_F8_E4M3;
    case HR_E5M2: return HR_T_F8_E5M2;
    case HR_I8R: return HR_T_I8;
    default: return HR_T_U8;
    }
}

#endif
