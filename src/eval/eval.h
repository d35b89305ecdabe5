/* Evaluation of what is not a model of ours: saved predictions and baselines, on an open data set.
 * headroom.h has the same calls with the path of a data set. */
#ifndef HR_EVAL_EVAL_H
#define HR_EVAL_EVAL_H

#include "dataset/dataset.h"

/* `dataset` belongs to the same context. */
hr_status hr_eval_predictions(hr_ctx *ctx, const char *predictions, const hr_dataset *dataset,
                              const hr_eval_options *options, hr_metrics *out);
hr_status hr_baseline_popularity(hr_ctx *ctx, const hr_dataset *dataset, const hr_eval_options *options,
                                 hr_metrics *out);
hr_status hr_baseline_knn(hr_ctx *ctx, const hr_dataset *dataset, int neighbours,
                          const hr_eval_options *options, hr_metrics *out);

#endif
