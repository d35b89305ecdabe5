/* Labels that occur in the same contexts, gathered in clusters of equal size, from training rows alone.
 *
 * Label l's vector is the normalised sum of the features of the training rows that carry it (each row of length 1), as in
 * AttentionXML (You et al., NeurIPS 2019) and LightXML (Jiang et al., AAAI 2021), projected to a small width. Balanced spherical
 * k-means then halves the labels again and again. What it is for: groups of labels that share an index row (HASTE, ICML 2026)
 * and the groups of an auxiliary head (Spartex, NeurIPS 2024).
 *
 * Rows a run holds out of the training split for validation are training rows here; dev and test rows are never read.
 * The result is a function of data set, labels and options: the same bits for any number of threads and any kernel level. */
#ifndef HR_MODEL_CLUSTER_H
#define HR_MODEL_CLUSTER_H

#include "dataset/dataset.h"

typedef enum hr_cluster_method {
    HR_CLUSTER_GIVEN,  /* consecutive labels of the list: with labels in order of frequency, clusters of like frequency */
    HR_CLUSTER_RANDOM, /* a random permutation */
    HR_CLUSTER_KMEANS  /* balanced spherical k-means on label vectors */
} hr_cluster_method;

enum { HR_CLUSTER_WIDTH_STEP = 16, HR_CLUSTER_WIDTH_MAX = 512, HR_CLUSTER_ITERATIONS_MAX = 1000 };

typedef struct hr_cluster_options {
    hr_cluster_method method; /* default: HR_CLUSTER_KMEANS */
    int64_t size;             /* labels of a cluster, the last one has the rest; default 32 */
    int64_t width;            /* of a label vector, a multiple of 16 up to 512; default 128. No more is used than the features need */
    size_t max_bytes;         /* k-means lowers the width in steps of 16 until its memory fits; 0, the default: no bound */
    int iterations;           /* most updates of the two centres of a bisection, 1 to 1000; default 8 */
    uint64_t seed;
} hr_cluster_options;

hr_cluster_options hr_cluster_options_default(void);

/* Orders `label` (count), distinct external ids, so that each run of `size` entries of `order` (count) is one cluster; the last
 * may be shorter. Within a k-means cluster labels keep the order they have in `label`. `order` must not overlap `label`.
 *
 * A label without positives gets the vector of its own features when the data set has features of label texts, else a random one.
 * Rows and label texts that are empty or not finite count as missing.
 *
 * HR_ERR_CONFIG: an option out of range; HR_ERR_USAGE: ids that repeat or are no labels; HR_ERR_DATA: no training rows;
 * HR_ERR_NOMEM: also when max_bytes is too small for a width of 16; HR_INTERRUPTED. On failure `order` is undefined. */
hr_status hr_cluster_labels(hr_ctx *ctx, const hr_dataset *ds, const hr_cluster_options *o, const uint32_t *label, int64_t count,
                            uint32_t *order);

/* Bytes (kind HR_MEM_EVAL) that hr_cluster_labels holds at its peak for `count` labels, whatever the number of threads. k-means:
 * 4 count width + max(4 L + 2 F + 4096 width, 8 count + 5144 for each 8192 labels, if there are more than 8192); else 4 L. */
size_t hr_cluster_memory(const hr_dataset *ds, const hr_cluster_options *o, int64_t count);

#endif
