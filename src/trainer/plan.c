/* The memory a run will take, before it takes it. Each line is the sum of the same functions that the objects book
 * their memory with, so that plan and run cannot drift apart unnoticed (tests/trainer/test_plan.c). */
#include "trainer/run.h"

#include "base/number.h"


/* "0.5,0.75" */
static hr_status read_milestones(const hr_config *config, hr_schedule *s)
{
    const char *text = hr_config_text(config, "train.milestones");
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, ",");
        double v, before = s->milestones ? s->milestone[s->milestones - 1] : 0;
        if (s->milestones == HR_MILESTONES_MAX || !hr_parse_number(at, n, &v) || v < before || v > 1)
            return hr_fail(hr_config_ctx(config), HR_ERR_CONFIG, "train.milestones: found '%s', expected at most %d ascending "
                           "shares in [0, 1] with commas between them, such as 0.5,0.75", text, HR_MILESTONES_MAX);
        s->milestone[s->milestones++] = v;
        at += n + (at[n] == ',');
    }
    return HR_OK;
}

hr_status hr_run_schedule(const hr_config *config, int64_t steps, hr_schedule *out)
{
    *out = (hr_schedule) {.type = (hr_schedule_type)hr_config_choice(config, "train.schedule"), .steps = steps,
                         .warmup = (int64_t)(hr_config_number(config, "train.warmup") * (double)steps),
                         .gamma = hr_config_number(config, "train.gamma")};
    return read_milestones(config, out);
}

void hr_run_hold_out(const hr_instances *in, hr_model_spec *spec)
{
    if (in->validation_split == HR_SPLIT_TRAIN)
        spec->candidates.held_rows = in->validation_rows;
    spec->candidates.holdout = in->holdout;
}

int64_t hr_run_wanted(const hr_dataset *ds, hr_split split, int top_k)
{
    int64_t most = 0;
    const hr_csr *f = &ds->split[split].filter;
    for (int64_t r = 0; r < f->rows; r++)
        most = f->indptr[r + 1] - f->indptr[r] > most ? f->indptr[r + 1] - f->indptr[r] : most;
    return top_k + most < ds->labels ? top_k + most : ds->labels;
}

static void add(size_t *to, size_t bytes)
{
    *to = hr_add(*to, bytes);
}

/* What is booked as evaluation at three times: while labels are ordered and grouped, before there is anything else; while the model is made
 * and the inputs of its labels are chosen; in the run. */
typedef struct eval_phases {
    size_t ordering, making, running;
} eval_phases;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static eval_phases plan_eval(const hr_instances *in, const hr_model_spec *spec, int threads)
{
    const hr_dataset *ds = in->dataset;
    const size_t table = hr_mul((size_t)ds->labels, sizeof(uint32_t));
    eval_phases e = {.making = table};
    e.ordering = hr_add(hr_mul(table, spec->grouping_bytes ? 2 : 1), hr_mul((size_t)ds->split[HR_SPLIT_TRAIN].rows, sizeof(uint32_t)));
    add(&e.ordering, spec->grouping_bytes);
    if (spec->head.sparse_x)
        add(&e.making, hr_candidates_memory(ds, &spec->candidates, threads));
    if (in->validation_rows > 0) {
        const int64_t wanted = hr_run_wanted(ds, in->validation_split, 10), b = spec->head.max_batch;
        const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
        e.running = hr_head_topk_memory(threads, b, wanted);
        add(&e.running, hr_eval_work_memory(b, wanted, dense ? 0 : in->max_features, dense ? ds->features : 0));
        add(&e.running, hr_ranking_memory(ds));
    }
    return e;
}

/* Tables of the checksums of a checkpoint, and the text of its manifest: some bytes for each MiB of tensors. */
static void plan_checkpoint(size_t bytes[HR_MEM_KINDS])
{
    const size_t content = hr_add(hr_add(bytes[HR_MEM_HEAD_WEIGHTS], bytes[HR_MEM_HEAD_STATE]),
                                  hr_add(bytes[HR_MEM_ENCODER_WEIGHTS], bytes[HR_MEM_ENCODER_STATE]));
    add(&bytes[HR_MEM_CHECKPOINT], hr_add((content >> 20) * 8, 128 << 10));
    add(&bytes[HR_MEM_OTHER], hr_add((content >> 20) * 16, 32 << 10));
}

/* The most at one time. While labels are ordered there is nothing else of size but what comes of it, an order and a table of groups; while
 * the model is made, no batch yet. */
static size_t total_of(const hr_model_spec *spec, const size_t bytes[HR_MEM_KINDS], eval_phases e)
{
    size_t sum = 0;
    for (int k = 0; k < HR_MEM_KINDS; k++)
        add(&sum, bytes[k]);
    sum -= bytes[HR_MEM_EVAL];
    const size_t ordering = hr_add(e.ordering, hr_mul((size_t)spec->head.labels, 2 * sizeof(uint32_t)));
    const size_t making = hr_add(sum - bytes[HR_MEM_BATCH], e.making);
    return larger(ordering, larger(making, hr_add(sum, e.running)));
}

hr_status hr_plan_make(hr_ctx *ctx, const hr_config *config, hr_plan *out)
{
    hr_device *device = NULL;
    *out = (hr_plan){.process = hr_process_rss(), .machine = hr_machine_memory()};
    hr_dataset *ds = NULL;
    hr_instances in;
    hr_model_spec spec;
    size_t auxiliary[HR_MEM_KINDS] = {0};
    HR_TRY(hr_dataset_open(ctx, hr_config_text(config, "dataset"), &ds));
    hr_status st = hr_instances_make(config, ds, &in);
    if (st == HR_OK)
        st = hr_device_open(ctx, hr_config_text(config, "device"), &device);
    if (st == HR_OK)
        st = hr_model_spec_make(config, ds, device, in.max_features, in.mean_positives, &spec);
    const int threads = hr_ctx_threads(ctx);
    if (st == HR_OK)
        st = hr_auxiliary_memory(config, &in, threads, &spec, auxiliary);
    if (st == HR_OK) {
        hr_run_hold_out(&in, &spec);
        hr_model_memory(&spec, threads, out->bytes);
        for (int k = 0; k < HR_MEM_KINDS; k++)
            add(&out->bytes[k], auxiliary[k]);
        add(&out->bytes[HR_MEM_HEAD_STATE], hr_mul((size_t)ds->labels, sizeof(uint32_t)));
        add(&out->bytes[HR_MEM_BATCH], hr_batch_memory(&in, spec.head.max_batch, hr_model_dx_width(&spec)));
        const eval_phases eval = plan_eval(&in, &spec, threads);
        add(&out->bytes[HR_MEM_EVAL], larger(eval.ordering, larger(eval.making, eval.running)));
        add(&out->bytes[HR_MEM_DATASET], sizeof(hr_dataset));
        plan_checkpoint(out->bytes);
        add(&out->bytes[HR_MEM_OTHER], sizeof(hr_run));
        out->mapped = ds->mapped_bytes;
        out->total = total_of(&spec, out->bytes, eval);
        out->device = device ? hr_add(hr_head_device_memory(&spec.head), hr_device_overhead(device)) : 0;
        out->device_machine = device ? device->ops->total(device) : 0;
        out->fits = hr_add(out->total, hr_add(out->mapped, out->process)) <= out->machine && out->device <= out->device_machine;
    }
    hr_device_close(device);
    hr_dataset_close(ds);
    return st;
}
