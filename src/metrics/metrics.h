/* Ranking metrics of extreme classification, as pyxclib computes them (docs/metrics.md), streamed row by row:
 * memory is O(L + k), never O(N). Jain et al., KDD 2016 for propensities. */
#ifndef HR_METRICS_METRICS_H
#define HR_METRICS_METRICS_H

#include "base/ctx.h"

typedef struct hr_meter hr_meter;

typedef struct hr_meter_options {
    int64_t labels;           /* L */
    int64_t train_rows;       /* N of the un-augmented training set */
    const uint32_t *frequency; /* (L) training frequency of each label; borrowed until destroy */
    const uint8_t *counted;   /* (L) 1: the label takes part; NULL: all. Borrowed until destroy */
    double propensity_a, propensity_b;
    int top_k;                /* 1 to 100: length of the rankings that will be given */
} hr_meter_options;

size_t hr_meter_memory(const hr_meter_options *options);
hr_status hr_meter_create(hr_ctx *ctx, const hr_meter_options *options, hr_meter **out);
void hr_meter_destroy(hr_meter *meter);
void hr_meter_reset(hr_meter *meter);
/* One instance: `ranked` (n <= top_k ids, best first, without filtered and uncounted ones, no duplicates) and its true labels
 * (ascending, uncounted ones are skipped). Rows without positives count as zero. Does not allocate. */
void hr_meter_add(hr_meter *meter, const uint32_t *ranked, int n, const uint32_t *truth, int64_t num_truth);
void hr_meter_read(const hr_meter *meter, hr_metrics *out);

/* frequency[l] = number of rows of `indptr, indices` with label l. */
void hr_label_frequency(int64_t rows, const int64_t *indptr, const uint32_t *indices, int64_t labels, uint32_t *frequency);

#endif
