/* The auxiliary task (Spartex, NeurIPS 2024): beside the labels' head a dense one over groups of labels learns from the same X. An instance's
 * targets are the groups of its labels. The loss is (1 - a_t) main + a_t auxiliary; a_t falls as a cosine from aux.weight to 0 until
 * step `until`, and there the head goes with everything it holds. It serves training alone: no validation, no model ever sees it. */
#ifndef HR_TRAINER_AUXILIARY_H
#define HR_TRAINER_AUXILIARY_H

#include "model/model.h"
#include "trainer/groups.h"
#include "trainer/instances.h"

typedef struct hr_auxiliary {
    double weight;        /* a_0 */
    float lr;             /* peak */
    int64_t until;        /* steps it takes part in; 0: there is none */
    /* held while it runs */
    hr_head *head;
    int64_t labels, groups;
    uint32_t *group;      /* (L) of each label, by external id; HR_NO_GROUP: none */
    uint64_t *positives;  /* (B times most labels of an instance) group << 32 | batch row, ascending, distinct */
    int64_t num_positives;
    float *dx;            /* (B, D) for hr_tasks_step */
} hr_auxiliary;

/* Reads aux.weight, aux.until and aux.lr; of a run of so many steps. */
hr_auxiliary hr_auxiliary_make(const hr_config *config, int64_t steps);
/* a_t of step t = 0, 1, ...; 0 from `until` on, above 0 before. */
double hr_auxiliary_weight(const hr_auxiliary *aux, int64_t step);
/* Adds what create and group will book, if the configuration has an auxiliary head; spec->grouping_bytes grows to what grouping takes. */
hr_status hr_auxiliary_memory(const hr_config *config, const hr_instances *in, int threads, hr_model_spec *spec,
                              size_t bytes[HR_MEM_KINDS]);

/* The groups; before there are weights, for it may need their memory. */
hr_status hr_auxiliary_group(const hr_config *config, const hr_dataset *dataset, const hr_model_spec *spec, hr_auxiliary *aux);
/* Head and scratch, for the groups there are. */
hr_status hr_auxiliary_create(const hr_config *config, const hr_instances *in, const hr_model_spec *spec, hr_auxiliary *aux);
/* Frees what is held; twice is fine. */
void hr_auxiliary_release(hr_ctx *ctx, hr_auxiliary *aux);

/* Targets of a batch; uses the batch's scratch. `external` (L): label of each internal row. */
void hr_auxiliary_targets(hr_auxiliary *aux, const hr_batch *batch, const uint32_t *external);

/* State of a checkpoint; nothing when the head is gone. */
void hr_auxiliary_tensors(const hr_auxiliary *aux, hr_tensor_list *list);
void hr_auxiliary_meta(const hr_auxiliary *aux, hr_meta *meta);
/* Groups and head as they were after `step` steps; none from `until` on. What was held before is released. */
hr_status hr_auxiliary_load(const hr_config *config, const hr_instances *in, const hr_model_spec *spec, hr_checkpoint *ck, int64_t step,
                            hr_auxiliary *aux);

#endif
