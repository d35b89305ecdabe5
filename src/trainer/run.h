/* A training run: its parts, its counters, and what is kept in its folder. Private to src/trainer.
 *
 *   RUN/config.yaml   resolved configuration          RUN/ckpt/step-N/   checkpoints
 *   RUN/log.jsonl     one JSON object a line          RUN/model/         the best model, self-contained
 *   RUN/.lock         held while a process trains */
#ifndef HR_TRAINER_RUN_H
#define HR_TRAINER_RUN_H

#include "eval/eval_model.h"
#include "model/model.h"
#include "optim/plateau.h"
#include "optim/schedule.h"
#include "trainer/auxiliary.h"
#include "trainer/instances.h"
#include "trainer/tasks.h"

typedef struct hr_run {
    hr_ctx *ctx;
    const hr_config *config;
    hr_dataset *dataset;
    hr_device *device;       /* of the head; NULL: the processor */
    hr_instances in;
    hr_model_spec spec;
    hr_model *model;
    uint32_t *internal;      /* (L) internal row of each external label */
    hr_batch batch;
    hr_ranking *ranking;     /* validation; NULL: none */
    hr_eval_work eval;
    hr_schedule schedule;
    hr_auxiliary auxiliary;
    float head_lr, encoder_lr, layer_lr; /* peak */
    int64_t steps_per_epoch, total_steps;
    char folder[HR_PATH_MAX];
    hr_file lock, log;
    uint64_t log_bytes;
    /* counters: with the tensors, the complete state (docs/checkpoint_format.md) */
    int64_t step;            /* finished steps */
    int64_t updates;         /* finished encoder updates */
    double best_metric;      /* NaN: none yet */
    int64_t best_step;
    hr_watch patience;       /* train.patience */
    bool stopped_early;
    hr_plateau plateau;      /* train.schedule=plateau */
    int64_t saved_step;      /* newest checkpoint, -1: none */
    double started;          /* clock */
    int64_t started_step;
} hr_run;

/* ---- plan.c ---- */
/* HR_ERR_CONFIG when train.milestones is not a list of ascending shares. */
hr_status hr_run_schedule(const hr_config *config, int64_t steps, hr_schedule *out);
/* Rows held out for validation are none that inputs are chosen by. */
void hr_run_hold_out(const hr_instances *in, hr_model_spec *spec);
/* Number of candidates that validation asks for. */
int64_t hr_run_wanted(const hr_dataset *dataset, hr_split split, int top_k);

/* ---- save.c ---- */
hr_status hr_run_save(hr_run *run);
/* Whether there is a checkpoint, usable or not. */
hr_status hr_run_has_checkpoint(hr_run *run, bool *has);
/* Continues from the newest usable checkpoint, as the key `resume` allows; *found = false: there is none. */
hr_status hr_run_resume(hr_run *run, bool *found);
/* Writes RUN/model from the best checkpoint, or from the present state when that one is damaged. Changes the weights in memory: the last thing a run does. */
hr_status hr_run_export(hr_run *run);

/* ---- log.c ---- */
hr_status hr_run_log_open(hr_run *run);
hr_status hr_run_log(hr_run *run, const char *format, ...) HR_PRINTF(2, 3);
void hr_run_progress(hr_run *run);

#endif
