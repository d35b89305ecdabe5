/* Groups of labels for the auxiliary head: clusters of labels that occur in the same contexts (model/cluster.h), `aux.group` to each; or
 * those of a file, `aux.groups`.
 *
 * The file has one group a line, external label ids with blanks or commas between them; blank lines are skipped, and a label stands in one
 * group at most. A label in no group gives no auxiliary target: an instance that has no others is a negative of every group. */
#ifndef HR_TRAINER_GROUPS_H
#define HR_TRAINER_GROUPS_H

#include "config/config.h"
#include "dataset/dataset.h"

#define HR_NO_GROUP UINT32_MAX

/* How many there will be: at least 1, at most L. Reads the file. */
hr_status hr_groups_count(const hr_config *config, const hr_dataset *dataset, int64_t *groups);
/* Bytes (kind HR_MEM_HEAD_WEIGHTS) that clustering takes when it shall take no more than `most`; 0 for a file. */
size_t hr_groups_memory(const hr_config *config, const hr_dataset *dataset, size_t most);
/* Group of each label, by external id (L); *group belongs to the caller (HR_MEM_HEAD_STATE). While it clusters there are two tables
 * of that size, of kind HR_MEM_EVAL. HR_ERR_DATA names file, line and column. */
hr_status hr_groups_make(const hr_config *config, const hr_dataset *dataset, size_t most, uint32_t **group, int64_t *groups);

#endif
