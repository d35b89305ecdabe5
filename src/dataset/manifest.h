/* manifest.json of a prepared data set: what the folder holds. Written last, so a folder with one is
 * complete. */
#ifndef HR_DATASET_MANIFEST_H
#define HR_DATASET_MANIFEST_H

#include "base/file.h"

#define HR_MANIFEST_VERSION 1

typedef struct hr_manifest {
    char name[128];
    char source[128]; /* last part of the input's path */
    char format[16];  /* of the input */
    char fingerprint[33];
    int64_t labels, features;
    bool dense, text_model, label_features, label_names;
    double propensity_a, propensity_b;
    bool present[HR_SPLITS];
    int64_t rows[HR_SPLITS], label_pairs[HR_SPLITS], feature_pairs[HR_SPLITS], filter_pairs[HR_SPLITS];
} hr_manifest;

hr_status hr_manifest_write(hr_ctx *ctx, const char *folder, const hr_manifest *manifest);
hr_status hr_manifest_read(hr_ctx *ctx, const char *folder, hr_manifest *out);
/* True when the folder holds a manifest of ours, of any version. */
bool hr_manifest_exists(hr_ctx *ctx, const char *folder);

#endif
