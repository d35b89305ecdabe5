/* A prepared data set: a folder of mapped .npy arrays and a manifest. docs/dataset_format.md is the truth.
 *
 * Reading never copies: every array below points into a mapping that lives until hr_dataset_close.
 * All ids in a data set are external label ids; the model has its own internal order. */
#ifndef HR_DATASET_DATASET_H
#define HR_DATASET_DATASET_H

#include "base/ctx.h"
#include "base/file.h"
#include "dataset/npy.h"

/* Compressed sparse rows. Row r has entries indptr[r] .. indptr[r+1]-1; indices ascend within a row, no duplicates. */
typedef struct hr_csr {
    int64_t rows, cols;
    const int64_t *indptr;   /* (rows + 1) */
    const uint32_t *indices; /* (nnz) */
    const float *values;     /* (nnz), or NULL: all are 1 */
} hr_csr;

static inline int64_t hr_csr_nnz(const hr_csr *m)
{
    return m->indptr ? m->indptr[m->rows] : 0;
}

/* Strings end to end: string i is bytes[offsets[i]] .. bytes[offsets[i+1]]-1, UTF-8, not NUL-terminated. */
typedef struct hr_strings {
    int64_t count;
    const uint64_t *offsets; /* (count + 1) */
    const char *bytes;
} hr_strings;

typedef struct hr_split_data {
    bool present;
    int64_t rows;
    hr_csr labels;      /* (rows, L) */
    hr_csr features;    /* (rows, F) TF-IDF or given values; indptr NULL when the set is dense */
    const float *dense; /* (rows, F) row-major; NULL when the set is sparse */
    hr_csr filter;      /* (rows, L) pairs that are removed from predictions; rows == 0: none */
} hr_split_data;

struct hr_dataset {
    hr_ctx *ctx;
    char path[HR_PATH_MAX];
    char name[128];
    char fingerprint[33];
    int64_t labels, features; /* L, F */
    double propensity_a, propensity_b;
    hr_split_data split[HR_SPLITS];
    hr_csr label_features;    /* (L, F) features of the label texts; rows == 0: none */
    hr_strings label_names;   /* count == L, or 0 */
    bool has_text_model;      /* the folder also holds a text model (tokenizer/text_features.h) */
    size_t mapped_bytes;      /* of all files mapped */
    int num_maps;
    hr_npy maps[48];
};

#endif
