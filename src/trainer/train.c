/* The training loop: batches, steps, validation, checkpoints. docs/architecture.md tells the story.
 *
 * One step: X = encoder(batch); the head turns X into dX and updates itself; the encoder goes backward and, at the last
 * micro-step, updates. The head is finished before the encoder's backward begins (ELMO's decoupled update). */
#include "trainer/run.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- setting up ---- */

static hr_status open_folder(hr_run *run)
{
    char path[HR_PATH_MAX];
    const char *folder = hr_config_text(run->config, "run");
    if (!*folder)
        return hr_fail(run->ctx, HR_ERR_CONFIG, "no run folder: give run=FOLDER");
    if (!*hr_config_text(run->config, "dataset"))
        return hr_fail(run->ctx, HR_ERR_CONFIG, "no data set: give dataset=FOLDER (made by `headroom prepare`)");
    HR_TRY(hr_path_format(run->ctx, run->folder, "%s", folder));
    HR_TRY(hr_path_format(run->ctx, path, "%s/ckpt", folder));
    HR_TRY(hr_dir_make(run->ctx, path));
    HR_TRY(hr_path_format(run->ctx, path, "%s/.lock", folder));
    return hr_file_lock(run->ctx, path, &run->lock);
}

static hr_status write_config(hr_run *run)
{
    char path[HR_PATH_MAX];
    hr_file file;
    HR_TRY(hr_path_format(run->ctx, path, "%s/config.yaml", run->folder));
    HR_TRY(hr_file_create(run->ctx, path, &file));
    hr_status st = hr_config_write(run->config, file.fd);
    hr_status closed = hr_file_close(&file);
    return st == HR_OK ? closed : st;
}

static hr_status open_validation(hr_run *run)
{
    const hr_dataset *ds = run->dataset;
    if (run->in.validation_rows == 0 && run->schedule.type == HR_PLATEAU)
        return hr_fail(run->ctx, HR_ERR_CONFIG, "train.schedule=plateau watches validation, and there is none; set "
                       "train.validation above 0");
    if (run->in.validation_rows == 0)
        return HR_OK;
    hr_eval_options o = hr_eval_options_default();
    o.split = run->in.validation_split;
    o.top_k = 10;
    const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
    HR_TRY(hr_ranking_create(run->ctx, ds, &o, &run->ranking));
    return hr_eval_work_create(run->model, hr_run_wanted(ds, o.split, o.top_k), dense ? 0 : run->in.max_features,
                               dense ? ds->features : 0, &run->eval);
}

static hr_status create_model(hr_run *run)
{
    hr_ctx *ctx = run->ctx;
    const hr_dataset *ds = run->dataset;
    const hr_csr *labels = &ds->split[HR_SPLIT_TRAIN].labels;
    uint32_t *frequency = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, ds->labels);
    if (!frequency)
        return HR_ERR_NOMEM;
    hr_label_frequency(labels->rows, labels->indptr, labels->indices, ds->labels, frequency);
    hr_status st = hr_model_create(ctx, &run->spec, ds, frequency, &run->model);
    hr_free(ctx, frequency);
    HR_TRY(st);
    run->internal = HR_ARRAY(ctx, HR_MEM_HEAD_STATE, uint32_t, ds->labels);
    if (!run->internal)
        return HR_ERR_NOMEM;
    for (int64_t l = 0; l < ds->labels; l++)
        run->internal[run->model->external[l]] = (uint32_t)l;
    return HR_OK;
}

static hr_status set_schedule(hr_run *run)
{
    const hr_config *c = run->config;
    const int64_t b = run->spec.head.max_batch, most = hr_config_int(c, "train.max_steps");
    run->steps_per_epoch = (run->in.count + b - 1) / b;
    run->total_steps = run->steps_per_epoch * hr_config_int(c, "train.epochs");
    if (most > 0 && most < run->total_steps)
        run->total_steps = most;
    run->head_lr = (float)hr_config_number(c, "head.lr");
    run->encoder_lr = (float)hr_config_number(c, "encoder.lr");
    run->layer_lr = (float)hr_config_number(c, "layer.lr");
    run->auxiliary = hr_auxiliary_make(c, run->total_steps);
    run->plateau = (hr_plateau){.gamma = hr_config_number(c, "train.gamma"), .patience = hr_config_int(c, "train.plateau_patience"),
                                .min_delta = hr_config_number(c, "train.plateau_min_delta"),
                                .min_factor = hr_config_number(c, "train.plateau_min_factor"), .watch.best = NAN};
    return hr_run_schedule(c, run->total_steps, &run->schedule);
}

/* Of a run that begins; one that goes on has them in its checkpoint. */
static hr_status group_labels(hr_run *run)
{
    bool begun = false;
    if (run->auxiliary.until > 0)
        HR_TRY(hr_run_has_checkpoint(run, &begun));
    return run->auxiliary.until > 0 && !begun ? hr_auxiliary_group(run->config, run->dataset, &run->spec, &run->auxiliary) : HR_OK;
}

static hr_status set_up(hr_run *run)
{
    hr_ctx *ctx = run->ctx;
    HR_TRY(open_folder(run));
    HR_TRY(hr_dataset_open(ctx, hr_config_text(run->config, "dataset"), &run->dataset));
    HR_TRY(hr_instances_make(run->config, run->dataset, &run->in));
    HR_TRY(hr_device_open(ctx, hr_config_text(run->config, "device"), &run->device));
    HR_TRY(hr_model_spec_make(run->config, run->dataset, run->device, run->in.max_features, run->in.mean_positives, &run->spec));
    hr_model_warn_unused(run->config);
    hr_run_hold_out(&run->in, &run->spec);
    HR_TRY(set_schedule(run));
    HR_TRY(group_labels(run)); /* before the weights */
    HR_TRY(create_model(run));
    if (run->auxiliary.group)
        HR_TRY(hr_auxiliary_create(run->config, &run->in, &run->spec, &run->auxiliary));
    HR_TRY(hr_batch_create(ctx, &run->in, run->spec.head.max_batch, hr_model_dx_width(&run->spec), &run->batch));
    HR_TRY(open_validation(run));
    bool found = false;
    HR_TRY(hr_run_resume(run, &found));
    if (found)
        hr_log(ctx, HR_LOG_INFO, "resuming %s at step %lld of %lld", run->folder, (long long)run->step,
               (long long)run->total_steps);
    else
        HR_TRY(write_config(run));
    return hr_run_log_open(run);
}

static void tear_down(hr_run *run)
{
    hr_ctx *ctx = run->ctx;
    hr_eval_work_destroy(ctx, &run->eval);
    hr_ranking_destroy(run->ranking);
    hr_batch_destroy(ctx, &run->batch);
    hr_auxiliary_release(ctx, &run->auxiliary);
    hr_model_destroy(run->model);
    hr_device_close(run->device);
    hr_free(ctx, run->internal);
    hr_dataset_close(run->dataset);
    (void)hr_file_close(&run->log);
    (void)hr_file_close(&run->lock);
    hr_free(ctx, run);
}

/* ---- a step ---- */

/* Factor of the peak rates at a step; under the plateau schedule it also depends on the validations so far. */
static double rate_factor(const hr_run *run, int64_t step)
{
    return hr_schedule_at(&run->schedule, step) * hr_plateau_factor(&run->plateau);
}

/* The heads on X: the labels', and beside it for a while the groups'. */
static hr_status step_heads(hr_run *run, double factor, double *loss)
{
    hr_auxiliary *aux = &run->auxiliary;
    const hr_batch *batch = &run->batch;
    const double share = hr_auxiliary_weight(aux, run->step);
    hr_task tasks[] = {{.head = run->model->head, .weight = (float)(1 - share), .lr = run->head_lr,
                        .num_positives = batch->num_positives, .positives = batch->positives},
                       {.head = aux->head, .weight = (float)share, .lr = aux->lr}};
    if (aux->head) {
        hr_auxiliary_targets(aux, batch, run->model->external);
        tasks[1].num_positives = aux->num_positives;
        tasks[1].positives = aux->positives;
    }
    return hr_tasks_step(tasks, aux->head ? 2 : 1, batch->rows, run->spec.head.dim, run->model->h, factor, (uint64_t)run->step, batch->dx,
                         aux->dx, loss);
}

/* After its last step the auxiliary head goes, with all it holds. */
static hr_status stop_auxiliary(hr_run *run)
{
    if (!run->auxiliary.head || run->step < run->auxiliary.until)
        return HR_OK;
    hr_auxiliary_release(run->ctx, &run->auxiliary);
    return hr_run_log(run, "{\"event\":\"aux_stop\",\"step\":%lld}", (long long)run->step);
}

/* A head over sparse X: there is no dX, and nothing before it to train. */
static hr_status step_sparse(hr_run *run, double factor, double *loss)
{
    const hr_head_batch batch = {.rows = run->batch.rows, .sparse = run->model->sparse, .num_positives = run->batch.num_positives,
                                 .positives = run->batch.positives};
    const double lr = hr_config_number(run->config, "head.lr") * factor;
    HR_TRY(hr_head_step(run->model->head, &batch, (float)lr, (uint64_t)run->step, NULL, loss));
    run->step++;
    return HR_OK;
}

static hr_status train_step(hr_run *run, double *loss)
{
    const int64_t b = run->spec.head.max_batch, accumulate = run->spec.encoder.accumulate;
    const int64_t epoch = run->step / run->steps_per_epoch, position = run->step % run->steps_per_epoch * b;
    const int64_t rows = run->in.count - position < b ? run->in.count - position : b;
    const double factor = rate_factor(run, run->step);
    hr_model *m = run->model;
    hr_batch *batch = &run->batch;

    hr_batch_fill(batch, &run->in, (uint64_t)epoch, position, rows, run->internal);
    const hr_encoder_batch features = hr_batch_features(batch);
    HR_TRY(hr_model_forward(m, &features, true, (uint64_t)run->step));
    if (m->is_sparse)
        return step_sparse(run, factor, loss);
    HR_TRY(step_heads(run, factor, loss));
    float *dx = batch->dx;
    if (m->layer) { /* it updates at every micro-step, as the head does; its X is done with, and makes room for dX */
        const hr_head_batch outputs = {.rows = rows, .x = m->x, .h = m->h, .dh = batch->dx};
        HR_TRY(hr_head_step(m->layer, &outputs, (float)(run->layer_lr * factor), (uint64_t)run->step, m->x, NULL));
        dx = m->x;
    }
    for (int64_t i = 0; accumulate > 1 && i < rows * m->dim; i++)
        dx[i] /= (float)accumulate;
    hr_encoder_backward(m->encoder, &features, (uint64_t)run->step, dx);
    run->step++;
    if (run->step % accumulate == 0 || run->step == run->total_steps) {
        run->updates++;
        hr_encoder_update(m->encoder, (float)(run->encoder_lr * factor), (uint64_t)run->updates);
    }
    return HR_OK;
}

/* Whether connections move after the step that has just been done. */
static bool rewiring_due(const hr_run *run)
{
    const int64_t every = hr_config_int(run->config, "head.rewire_every");
    const double until = hr_config_number(run->config, "head.rewire_until") * (double)run->total_steps;
    return run->spec.head.rewire && run->step % every == 0 && (double)run->step < until;
}

/* With the batch of that step still at hand. */
static hr_status rewire(hr_run *run)
{
    const hr_config *c = run->config;
    const double until = hr_config_number(c, "head.rewire_until") * (double)run->total_steps, pi = 3.141592653589793;
    const bool cosine = hr_config_choice(c, "head.prune_anneal") == 0;
    const bool below = hr_config_choice(c, "head.prune") == HR_PRUNE_THRESHOLD;
    const double share = cosine ? 0.5 * (1 + cos(pi * (double)run->step / until)) : 1;
    const hr_head_batch batch = {.rows = run->batch.rows, .x = run->model->h, .num_positives = run->batch.num_positives,
                                 .positives = run->batch.positives};
    const hr_rewire r = {.prune = (hr_prune)hr_config_choice(c, "head.prune"),
                         .grow = hr_config_choice(c, "head.rewire") == 2 ? HR_GROW_GRADIENT : HR_GROW_RANDOM,
                         .amount = (float)(hr_config_number(c, below ? "head.prune_below" : "head.prune_amount") * share),
                         .init = (float)(hr_config_number(c, "head.grow_init") / sqrt((double)hr_config_int(c, "head.fan_in"))),
                         .step = (uint64_t)run->step,
                         .batch = &batch};
    hr_rewire_counts n;
    HR_TRY(hr_head_rewire(run->model->head, &r, &n));
    return hr_run_log(run, "{\"event\":\"rewire\",\"step\":%lld,\"connections\":%lld,\"pruned\":%lld,\"grown\":%lld,"
                           "\"survived\":%lld,\"amount\":%s,\"mean_weight\":%s}",
                      (long long)run->step, (long long)n.connections, (long long)n.moved, (long long)n.moved,
                      (long long)(n.connections - n.moved), hr_number((double)r.amount, 6).text, hr_number(n.mean_weight, 6).text);
}

static hr_number_text epochs_done(const hr_run *run)
{
    return hr_number((double)run->step / (double)run->steps_per_epoch, 6);
}

/* Processor time of the process so far, all threads. */
static hr_number_text cpu_seconds(void)
{
    return hr_number((double)clock() / CLOCKS_PER_SEC, 6);
}

static hr_status log_step(hr_run *run, const double *loss)
{
    const double seconds = hr_clock() - run->started, factor = rate_factor(run, run->step - 1);
    const double share = run->spec.head.reduction == HR_MEAN_ALL ? 1 : (double)run->batch.rows; /* the loss is per instance */
    char text[48] = "", sparse[192] = "", aux[48] = "";
    const double aux_weight = hr_auxiliary_weight(&run->auxiliary, run->step - 1);
    if (loss)
        snprintf(text, sizeof text, ",\"loss\":%s", hr_number(*loss / share, 9).text);
    if (aux_weight > 0)
        snprintf(aux, sizeof aux, ",\"aux_weight\":%s", hr_number(aux_weight, 6).text);
    const hr_head_counts n = hr_head_last_counts(run->model->head);
    if (n.tiles > 0)
        snprintf(sparse, sizeof sparse, ",\"tau\":%s,\"density\":%s,\"touched_rows\":%s,\"dense_tiles\":%s",
                 hr_number((double)n.tau, 6).text, hr_number((double)n.entries / (double)n.cells, 6).text,
                 hr_number((double)n.touched / (double)n.rows, 6).text,
                 hr_number((double)n.dense_tiles / (double)n.tiles, 6).text);
    const double rows = (double)(run->step - run->started_step) * (double)run->spec.head.max_batch;
    hr_run_progress(run);
    return hr_run_log(run, "{\"event\":\"step\",\"step\":%lld,\"epoch\":%s%s,\"head_lr\":%s,\"encoder_lr\":%s,"
                           "\"seconds\":%s,\"cpu_seconds\":%s,\"rows_per_second\":%s,\"rss\":%zu%s%s}",
                      (long long)run->step, epochs_done(run).text, text, hr_number(run->head_lr * factor, 6).text,
                      hr_number(run->encoder_lr * factor, 6).text, hr_number(seconds, 9).text, cpu_seconds().text,
                      hr_number(rows / (seconds + 1e-9), 6).text, hr_process_rss(), aux, sparse);
}

/* ---- validation ---- */

static int64_t validation_row(void *arg, int64_t i)
{
    return hr_instances_validation_row(arg, i);
}

static double chosen_metric(const hr_config *config, const hr_metrics *m)
{
    switch (hr_config_choice(config, "train.metric")) {
    case 0: return m->precision[0];
    case 1: return m->precision[1];
    case 2: return m->precision[2];
    case 3: return m->ndcg[2];
    case 4: return m->psp[0];
    case 5: return m->psp[2];
    default: return m->recall[3];
    }
}

/* What follows from a validation beside the best model: lower rates, the end. */
static void judge(hr_run *run, double value)
{
    const int64_t patience = hr_config_int(run->config, "train.patience");
    hr_watch_gains(&run->patience, value, hr_config_number(run->config, "train.min_delta"));
    run->stopped_early = patience > 0 && run->patience.since >= patience;
    if (run->schedule.type == HR_PLATEAU && hr_plateau_watch(&run->plateau, value))
        hr_log(run->ctx, HR_LOG_INFO, "no gain for a while: learning rates come down to %g of their peak",
               hr_plateau_factor(&run->plateau));
}

static hr_status validate(hr_run *run)
{
    hr_metrics m;
    const hr_eval_rows rows = {.split = run->in.validation_split, .count = run->in.validation_rows, .row = validation_row,
                               .arg = &run->in};
    hr_ranking_reset(run->ranking);
    HR_TRY(hr_eval_run(run->model, run->dataset, &rows, &run->eval, run->ranking));
    HR_TRY(hr_ranking_finish(run->ranking, &m));
    const double value = chosen_metric(run->config, &m);
    const bool better = isnan(run->best_metric) || value > run->best_metric;
    if (better) {
        run->best_metric = value;
        run->best_step = run->step;
    }
    judge(run, value);
    hr_log(run->ctx, HR_LOG_INFO, "step %lld  validation P@1 %.2f  P@3 %.2f  P@5 %.2f  PSP@5 %.2f%s", (long long)run->step,
           100 * m.precision[0], 100 * m.precision[1], 100 * m.precision[2], 100 * m.psp[2], better ? "  best so far" : "");
    return hr_run_log(run, "{\"event\":\"validation\",\"step\":%lld,\"epoch\":%s,\"rows\":%lld,\"p@1\":%s,\"p@3\":%s,"
                           "\"p@5\":%s,\"ndcg@5\":%s,\"psp@1\":%s,\"psp@5\":%s,\"r@10\":%s,\"best\":%s,\"seconds\":%s,"
                           "\"cpu_seconds\":%s}",
                      (long long)run->step, epochs_done(run).text, (long long)m.rows, hr_number(m.precision[0], 6).text,
                      hr_number(m.precision[1], 6).text, hr_number(m.precision[2], 6).text, hr_number(m.ndcg[2], 6).text,
                      hr_number(m.psp[0], 6).text, hr_number(m.psp[2], 6).text, hr_number(m.recall[3], 6).text,
                      better ? "true" : "false", hr_number(hr_clock() - run->started, 9).text, cpu_seconds().text);
}

/* ---- the loop ---- */

/* Between two encoder updates everything there is to save is in the tensors; validation, checkpoints and interrupts
 * wait for that. */
static bool after_update(const hr_run *run)
{
    return run->step % run->spec.encoder.accumulate == 0 || run->step == run->total_steps;
}

/* Whether the steps since the last encoder update contain a multiple of `every` (0: never), or the last step of all. */
static bool due(const hr_run *run, int64_t every)
{
    const int64_t accumulate = run->spec.encoder.accumulate, rest = run->step % accumulate;
    const int64_t before = run->step - (rest ? rest : accumulate);
    return run->step == run->total_steps || (every > 0 && run->step / every > before / every);
}

/* What has to be done after a step: loss and progress, validation, checkpoint. */
static hr_status after_step(hr_run *run, const double *loss)
{
    const hr_config *c = run->config;
    const bool last = run->step == run->total_steps;
    if (loss || run->step % hr_config_int(c, "log.every") == 0 || last)
        HR_TRY(log_step(run, loss));
    HR_TRY(stop_auxiliary(run));
    if (!after_update(run))
        return HR_OK;
    if (run->ranking && due(run, run->steps_per_epoch * hr_config_int(c, "eval.every")))
        HR_TRY(validate(run));
    const int64_t every = hr_config_int(c, "checkpoint.every");
    if (due(run, every > 0 ? every : run->steps_per_epoch) || run->stopped_early || run->best_step == run->step)
        HR_TRY(hr_run_save(run));
    return HR_OK;
}

static hr_status stop_now(hr_run *run)
{
    HR_TRY(hr_run_save(run));
    return hr_fail(run->ctx, HR_INTERRUPTED, "interrupted at step %lld of %lld; everything is saved in %s: run the same command "
                   "again to go on", (long long)run->step, (long long)run->total_steps, run->folder);
}

static hr_status loop(hr_run *run)
{
    const int64_t loss_every = hr_config_int(run->config, "loss.every");
    run->started = hr_clock();
    run->started_step = run->step;
    while (run->step < run->total_steps && !run->stopped_early) {
        double loss = 0;
        const bool want_loss = loss_every > 0 && run->step % loss_every == 0;
        HR_TRY(train_step(run, want_loss ? &loss : NULL));
        if (rewiring_due(run))
            HR_TRY(rewire(run));
        HR_TRY(after_step(run, want_loss ? &loss : NULL));
        if (hr_ctx_interrupted(run->ctx) && after_update(run))
            return stop_now(run);
    }
    return HR_OK;
}

static void report_on(const hr_run *run, double seconds, bool finished, hr_train_report *report)
{
    report->steps = run->step;
    report->epochs = run->step / (run->steps_per_epoch ? run->steps_per_epoch : 1);
    report->seconds = seconds;
    report->best_metric = run->best_metric;
    report->best_step = run->best_step;
    report->finished = finished;
    hr_ctx_memory(run->ctx, &report->memory);
    report->device_peak = hr_device_peak(run->device);
}

hr_status hr_train_run(hr_ctx *ctx, const hr_config *config, hr_train_report *report)
{
    hr_train_report local;
    report = report ? report : &local;
    *report = (hr_train_report){.best_metric = NAN};
    hr_run *run = HR_NEW(ctx, HR_MEM_OTHER, hr_run);
    if (!run)
        return HR_ERR_NOMEM;
    run->ctx = ctx;
    run->config = config;
    run->best_metric = run->patience.best = NAN;
    run->best_step = run->saved_step = -1;
    run->lock.fd = run->log.fd = -1;
    const double begin = hr_clock();
    hr_status st = *hr_config_text(config, "dataset") ? hr_plan_make(ctx, config, &report->plan) : HR_OK;
    if (st == HR_OK)
        st = set_up(run);
    if (st == HR_OK)
        st = loop(run);
    const int64_t steps = run->step;
    if (st == HR_OK)
        st = hr_run_save(run);
    if (st == HR_OK)
        st = hr_run_export(run);
    if (st == HR_OK)
        hr_ctx_interrupt_clear(ctx);
    run->step = steps;
    report_on(run, hr_clock() - begin, st == HR_OK, report);
    tear_down(run);
    return st;
}
