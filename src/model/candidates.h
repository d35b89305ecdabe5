/* The inputs of labels over sparse features: of the features that occur in a label's training rows, those that have most to do with it.
 *
 * With S the sum of a feature's size over the label's n rows (each of length 1), m its mean over all training rows and q the sum of its squares
 * over them, a feature scores
 *   sum         S
 *   covariance  S - n m, which is, but for the sign, the gradient of the feature's weight at zero with every label at its own mean
 *   balanced    (S - n m) / q^(1/4), halfway from the covariance to the correlation, (S - n m) / q^(1/2)
 * and of equal ones the first is better. Balanced ranks labels no worse than covariance, and its rarer features cost a step a third less; the
 * correlation is cheaper still, and worse (docs/results.md). A label with too few features gets random others. Labels that share their inputs are one label with
 * the rows of all of them.
 *
 * Only training rows are read, and not those that are held out for validation. The result is a function of data set and options: the same
 * for any number of threads and any kernel level. */
#ifndef HR_MODEL_CANDIDATES_H
#define HR_MODEL_CANDIDATES_H

#include "base/order.h"
#include "dataset/dataset.h"
#include "head/head.h"

typedef enum hr_candidate_score { HR_CANDIDATES_BALANCED, HR_CANDIDATES_COVARIANCE, HR_CANDIDATES_SUM } hr_candidate_score;

typedef struct hr_candidate_options {
    hr_candidate_score score;
    int64_t width, group;  /* inputs; consecutive labels that share them, 0 or 1: none do */
    bool unit_rows;        /* rows count with length 1; else as they are */
    bool label_texts;      /* the features of its text are one more row of a label */
    uint64_t seed;
    unsigned tensor;       /* of the head's weights: the random ones are drawn by stream 7, step 0 */
    int64_t held_rows;     /* rows holdout(0), holdout(1), ... are left out, so many */
    hr_order holdout;
} hr_candidate_options;

/* Sets the inputs of all labels of a head over sparse X. external (L): the label of each internal row; frequency (L) by label: its training
 * rows. HR_ERR_DATA: a feature that is not finite; HR_ERR_NOMEM; HR_INTERRUPTED. */
hr_status hr_candidates_choose(hr_ctx *ctx, const hr_dataset *ds, const hr_candidate_options *o, const uint32_t *external,
                               const uint32_t *frequency, hr_head *head);

/* Bytes (kind HR_MEM_EVAL) that hr_candidates_choose holds at its peak; no less than half a byte for each pair of row and label. */
size_t hr_candidates_memory(const hr_dataset *ds, const hr_candidate_options *o, int threads);

#endif
