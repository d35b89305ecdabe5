/* Checkpoints of a run: saving, retention, resuming, and the model that is left at the end. */
#include "trainer/run.h"

#include "backend/backend.h"
#include "tokenizer/text_features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXTRA_MAX = 16, KEPT_MAX = 4096 };

static hr_status step_folder(hr_run *run, int64_t step, char path[HR_PATH_MAX])
{
    return hr_path_format(run->ctx, path, "%s/ckpt/step-%09lld", run->folder, (long long)step);
}

/* ---- saving ---- */

static void state_meta(const hr_run *run, hr_meta *meta)
{
    hr_meta_set(meta, "version", "%s", hr_version());
    hr_meta_set(meta, "data.name", "%.100s", run->dataset->name);
    hr_meta_set(meta, "data.fingerprint", "%s", run->dataset->fingerprint);
    hr_meta_set(meta, "config.hash", "%016llx", (unsigned long long)hr_config_hash(run->config));
    hr_meta_set(meta, "isa", "%s", hr_ctx_isa(run->ctx));
    char blas[96];
    hr_meta_set(meta, "blas", "%s", hr_backend_blas(blas));
    hr_meta_set(meta, "step", "%lld", (long long)run->step);
    hr_meta_set(meta, "epoch", "%lld", (long long)(run->step / run->steps_per_epoch));
    hr_meta_set(meta, "position", "%lld", (long long)(run->step % run->steps_per_epoch * run->spec.head.max_batch));
    hr_meta_set(meta, "updates", "%lld", (long long)run->updates);
    hr_meta_set_number(meta, "best.metric", run->best_metric);
    hr_meta_set(meta, "best.step", "%lld", (long long)run->best_step);
    hr_meta_set_number(meta, "patience.best", run->patience.best);
    hr_meta_set(meta, "patience.since", "%lld", (long long)run->patience.since);
    hr_meta_set_number(meta, "plateau.best", run->plateau.watch.best);
    hr_meta_set(meta, "plateau.since", "%lld", (long long)run->plateau.watch.since);
    hr_meta_set(meta, "plateau.cuts", "%lld", (long long)run->plateau.cuts);
    hr_meta_set(meta, "stopped_early", "%d", run->stopped_early);
    hr_meta_set(meta, "log.bytes", "%llu", (unsigned long long)run->log_bytes);
}

typedef struct step_list {
    int64_t step[KEPT_MAX];
    int count;
} step_list;

/* Collects "step-NNN" in ascending order; anything else in the folder is left alone. */
static hr_status collect_step(void *arg, const char *name)
{
    step_list *list = arg;
    char *end;
    if (strncmp(name, "step-", 5) != 0)
        return HR_OK;
    const long long step = strtoll(name + 5, &end, 10);
    if (end == name + 5 || *end || step < 0 || list->count == KEPT_MAX)
        return HR_OK;
    int at = list->count++;
    for (; at > 0 && list->step[at - 1] > step; at--)
        list->step[at] = list->step[at - 1];
    list->step[at] = step;
    return HR_OK;
}

static hr_status list_steps(hr_run *run, step_list *list)
{
    char path[HR_PATH_MAX];
    list->count = 0;
    HR_TRY(hr_path_format(run->ctx, path, "%s/ckpt", run->folder));
    return hr_path_is_dir(path) ? hr_dir_each(run->ctx, path, collect_step, list) : HR_OK;
}

static hr_status remove_step(hr_run *run, int64_t step)
{
    char path[HR_PATH_MAX];
    HR_TRY(step_folder(run, step, path));
    if (step > run->step)
        hr_log(run->ctx, HR_LOG_WARNING, "%s: removed; it was damaged, and the run went on from an older checkpoint", path);
    return hr_dir_remove(run->ctx, path);
}

/* Removes all but the newest ones and the best one. Those of later steps than the present one were passed over by
 * load_newest: they go too, and do not count. */
static hr_status prune(hr_run *run)
{
    step_list *list = HR_NEW(run->ctx, HR_MEM_CHECKPOINT, step_list);
    if (!list)
        return HR_ERR_NOMEM;
    hr_status st = list_steps(run, list);
    const int64_t keep = hr_config_int(run->config, "checkpoint.keep");
    int good = list->count;
    while (good > 0 && list->step[good - 1] > run->step)
        good--;
    for (int i = 0; st == HR_OK && i < list->count; i++)
        if (i >= good || (i < good - keep && list->step[i] != run->best_step))
            st = remove_step(run, list->step[i]);
    hr_free(run->ctx, list);
    return st;
}

hr_status hr_run_save(hr_run *run)
{
    char path[HR_PATH_MAX];
    hr_tensor_list list = {0};
    hr_meta meta = {0};
    if (run->saved_step == run->step)
        return HR_OK;
    hr_model_tensors(run->model, &list);
    hr_auxiliary_tensors(&run->auxiliary, &list);
    hr_model_meta(run->model, &meta);
    hr_auxiliary_meta(&run->auxiliary, &meta);
    state_meta(run, &meta);
    const hr_checkpoint_content content = {.kind = "run", .tensors = &list, .with_state = true,
                                           .shard_rows = hr_model_shard_rows(run->model), .meta = &meta};
    HR_TRY(step_folder(run, run->step, path));
    HR_TRY(hr_checkpoint_write(run->ctx, path, &content));
    run->saved_step = run->step;
    return prune(run);
}

/* ---- resuming ---- */

static hr_status check_same_run(hr_run *run, const hr_checkpoint *ck, const char *path)
{
    char hash[17];
    const char *text;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hr_config_hash(run->config));
    HR_TRY(hr_checkpoint_text(ck, "config.hash", &text));
    if (strcmp(text, hash) != 0)
        return hr_fail(run->ctx, HR_ERR_CONFIG, "%s was made under another configuration (see %s/config.yaml); use another run "
                       "folder, or the same configuration", path, run->folder);
    HR_TRY(hr_checkpoint_text(ck, "data.fingerprint", &text));
    if (strcmp(text, run->dataset->fingerprint) != 0)
        return hr_fail(run->ctx, HR_ERR_CONFIG, "%s was trained on data with fingerprint %s, %s has %s; use another run folder, "
                       "or the same data", path, text, run->dataset->path, run->dataset->fingerprint);
    HR_TRY(hr_checkpoint_text(ck, "isa", &text));
    if (strcmp(text, hr_ctx_isa(run->ctx)) != 0)
        hr_log(run->ctx, HR_LOG_WARNING, "resuming with kernels %s what was trained with %s: the encoder's last bits may differ",
               hr_ctx_isa(run->ctx), text);
    char blas[96];
    text = hr_meta_get(hr_checkpoint_meta(ck), "blas");
    if (text && strcmp(text, hr_backend_blas(blas)) != 0)
        hr_log(run->ctx, HR_LOG_WARNING, "resuming with %s what was trained with %s: the encoder's last bits may differ", blas, text);
    return HR_OK;
}

static hr_status read_state(hr_run *run, hr_checkpoint *ck)
{
    int64_t early, log_bytes;
    HR_TRY(hr_checkpoint_int(ck, "step", 0, INT64_C(1) << 48, &run->step));
    HR_TRY(hr_checkpoint_int(ck, "updates", 0, INT64_C(1) << 48, &run->updates));
    HR_TRY(hr_checkpoint_number(ck, "best.metric", &run->best_metric));
    HR_TRY(hr_checkpoint_int(ck, "best.step", -1, INT64_C(1) << 48, &run->best_step));
    HR_TRY(hr_checkpoint_number(ck, "patience.best", &run->patience.best));
    HR_TRY(hr_checkpoint_int(ck, "patience.since", 0, INT64_C(1) << 48, &run->patience.since));
    HR_TRY(hr_checkpoint_number(ck, "plateau.best", &run->plateau.watch.best));
    HR_TRY(hr_checkpoint_int(ck, "plateau.since", 0, INT64_C(1) << 48, &run->plateau.watch.since));
    HR_TRY(hr_checkpoint_int(ck, "plateau.cuts", 0, INT64_C(1) << 48, &run->plateau.cuts));
    HR_TRY(hr_checkpoint_int(ck, "stopped_early", 0, 1, &early));
    HR_TRY(hr_checkpoint_int(ck, "log.bytes", 0, INT64_MAX, &log_bytes));
    run->stopped_early = early != 0;
    run->log_bytes = (uint64_t)log_bytes;
    return hr_model_load(run->model, ck);
}

/* To train on; or for the model alone, verified as a whole first. */
static hr_status load_step(hr_run *run, int64_t step, bool model_alone)
{
    char path[HR_PATH_MAX];
    hr_checkpoint *ck = NULL;
    HR_TRY(step_folder(run, step, path));
    HR_TRY(hr_checkpoint_open(run->ctx, path, model_alone, &ck));
    hr_status st = check_same_run(run, ck, path);
    if (st == HR_OK)
        st = read_state(run, ck);
    if (st == HR_OK && !model_alone)
        st = hr_auxiliary_load(run->config, &run->in, &run->spec, ck, run->step, &run->auxiliary);
    hr_checkpoint_close(ck);
    return st;
}

/* A file that is wrong, cut or gone. */
static bool damaged(hr_status st)
{
    return st == HR_ERR_DATA || st == HR_ERR_NOINPUT;
}

/* From the newest checkpoint on; unless `strict`, a damaged one is passed over with a warning. */
static hr_status load_newest(hr_run *run, const step_list *list, bool strict)
{
    for (int i = list->count - 1; i >= 0; i--) {
        hr_status st = load_step(run, list->step[i], false);
        if (st == HR_OK)
            run->saved_step = list->step[i];
        if (!damaged(st) || strict || i == 0)
            return st;
        hr_log(run->ctx, HR_LOG_WARNING, "%s; going back to the checkpoint before it", hr_ctx_message(run->ctx));
    }
    return HR_OK;
}

/* Folders that a killed process did not finish. */
static hr_status remove_unfinished(void *arg, const char *name)
{
    hr_run *run = arg;
    char path[HR_PATH_MAX];
    const size_t n = strlen(name);
    if (strncmp(name, "step-", 5) != 0 || n < 4 || strcmp(name + n - 4, ".tmp") != 0)
        return HR_OK;
    HR_TRY(hr_path_format(run->ctx, path, "%s/ckpt/%s", run->folder, name));
    return hr_dir_remove(run->ctx, path);
}

static hr_status resume_from(hr_run *run, const step_list *list, bool *found)
{
    const char *how = hr_config_text(run->config, "resume");
    char path[HR_PATH_MAX];
    if (strcmp(how, "never") == 0 && list->count > 0)
        return hr_fail(run->ctx, HR_ERR_CANTCREATE, "%s holds a run that has come to step %lld; use another run folder, or "
                       "resume=auto to continue it", run->folder, (long long)list->step[list->count - 1]);
    if (strcmp(how, "strict") == 0 && list->count == 0)
        return hr_fail(run->ctx, HR_ERR_NOINPUT, "%s: resume=strict, but there is no checkpoint to resume from", run->folder);
    HR_TRY(hr_path_format(run->ctx, path, "%s/ckpt", run->folder));
    HR_TRY(hr_dir_each(run->ctx, path, remove_unfinished, run));
    HR_TRY(load_newest(run, list, strcmp(how, "strict") == 0));
    *found = list->count > 0;
    return HR_OK;
}

hr_status hr_run_has_checkpoint(hr_run *run, bool *has)
{
    step_list *list = HR_NEW(run->ctx, HR_MEM_CHECKPOINT, step_list);
    if (!list)
        return HR_ERR_NOMEM;
    const hr_status st = list_steps(run, list);
    *has = list->count > 0;
    hr_free(run->ctx, list);
    return st;
}

hr_status hr_run_resume(hr_run *run, bool *found)
{
    *found = false;
    step_list *list = HR_NEW(run->ctx, HR_MEM_CHECKPOINT, step_list);
    if (!list)
        return HR_ERR_NOMEM;
    hr_status st = list_steps(run, list);
    if (st == HR_OK)
        st = resume_from(run, list, found);
    hr_free(run->ctx, list);
    return st;
}

/* ---- the model ---- */

static hr_status add_extra(hr_run *run, const char *folder, const char *name, char paths[][HR_PATH_MAX],
                           hr_checkpoint_extra *extra, int *count)
{
    HR_TRY(hr_path_format(run->ctx, paths[*count], "%s/%s", folder, name));
    if (hr_path_exists(paths[*count])) {
        extra[*count] = (hr_checkpoint_extra){.from = paths[*count], .name = name};
        ++*count;
    }
    return HR_OK;
}

/* A half-loaded model would be worse than the present one. */
static hr_status load_best(hr_run *run)
{
    if (run->best_step < 0 || run->best_step == run->step)
        return HR_OK;
    hr_status st = load_step(run, run->best_step, true);
    if (!damaged(st))
        return st;
    hr_log(run->ctx, HR_LOG_WARNING, "%s; the model is made of the last step instead of the best one", hr_ctx_message(run->ctx));
    return HR_OK;
}

hr_status hr_run_export(hr_run *run)
{
    char path[HR_PATH_MAX], extra_path[EXTRA_MAX][HR_PATH_MAX];
    hr_checkpoint_extra extra[EXTRA_MAX];
    hr_tensor_list list = {0};
    hr_meta meta = {0};
    int count = 0;
    HR_TRY(load_best(run));
    for (const char *const *name = hr_text_model_files(); *name; name++)
        HR_TRY(add_extra(run, run->dataset->path, *name, extra_path, extra, &count));
    HR_TRY(add_extra(run, run->dataset->path, "label.names.bytes.npy", extra_path, extra, &count));
    HR_TRY(add_extra(run, run->dataset->path, "label.names.offsets.npy", extra_path, extra, &count));
    HR_TRY(add_extra(run, run->folder, "config.yaml", extra_path, extra, &count));
    hr_model_tensors(run->model, &list);
    hr_model_meta(run->model, &meta);
    state_meta(run, &meta);
    const hr_checkpoint_content content = {.kind = "model", .tensors = &list, .with_state = false,
                                           .shard_rows = hr_model_shard_rows(run->model), .meta = &meta, .extra = extra,
                                           .num_extra = count};
    HR_TRY(hr_path_format(run->ctx, path, "%s/model", run->folder));
    return hr_checkpoint_write(run->ctx, path, &content);
}
