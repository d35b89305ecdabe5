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

/* Returns what of it the run takes; the tables of an ordering of the labels, and of a choice of their inputs, are gone before validation is
 * set up. */
static size_t plan_eval(const hr_instances *in, const hr_model_spec *spec, int threads, size_t bytes[HR_MEM_KINDS])
{
    const hr_dataset *ds = in->dataset;
    const size_t order = hr_mul((size_t)ds->labels, spec->grouping_bytes ? 8 : 4) + hr_mul((size_t)ds->split[HR_SPLIT_TRAIN].rows, 4);
    size_t eval = 0, before = order;
    if (spec->head.sparse_x)
        before = hr_add(hr_mul((size_t)ds->labels, 4), hr_candidates_memory(ds, &spec->candidates, threads));
    before = before > order ? before : order;
    if (in->validation_rows > 0) {
        const int64_t wanted = hr_run_wanted(ds, in->validation_split, 10), b = spec->head.max_batch;
        const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
        eval = hr_head_topk_memory(threads, b, wanted);
        add(&eval, hr_eval_work_memory(b, wanted, dense ? 0 : in->max_features, dense ? ds->features : 0));
        add(&eval, hr_ranking_memory(ds));
    }
    add(&bytes[HR_MEM_EVAL], eval > before ? eval : before);
    return eval;
}

/* Tables of the checksums of a checkpoint, and the text of its manifest: some bytes for each MiB of tensors. */
static void plan_checkpoint(size_t bytes[HR_MEM_KINDS])
{
    const size_t content = hr_add(hr_add(bytes[HR_MEM_HEAD_WEIGHTS], bytes[HR_MEM_HEAD_STATE]),
                                  hr_add(bytes[HR_MEM_ENCODER_WEIGHTS], bytes[HR_MEM_ENCODER_STATE]));
    add(&bytes[HR_MEM_CHECKPOINT], hr_add((content >> 20) * 8, 128 << 10));
    add(&bytes[HR_MEM_OTHER], hr_add((content >> 20) * 16, 32 << 10));
}

/* Grouping the labels, before there are weights, may take more of their kind than they do; then nothing else of size is there but what
 * comes of it: an order of the labels, a table of groups. */
static size_t total_of(const hr_model_spec *spec, const size_t bytes[HR_MEM_KINDS], size_t eval)
{
    size_t sum = 0, head[HR_MEM_KINDS] = {0};
    for (int k = 0; k < HR_MEM_KINDS; k++)
        add(&sum, bytes[k]);
    if (spec->head.sparse_x) { /* inputs are chosen before there is a batch */
        const size_t choosing = sum - bytes[HR_MEM_BATCH], later = sum - bytes[HR_MEM_EVAL] + eval;
        sum = choosing > later ? choosing : later;
    }
    hr_head_memory(&spec->head, 1, head);
    const size_t before = spec->grouping_bytes > head[HR_MEM_HEAD_WEIGHTS] ? spec->grouping_bytes - head[HR_MEM_HEAD_WEIGHTS] : 0;
    const size_t tables = hr_mul((size_t)spec->head.labels, 2 * sizeof(uint32_t));
    const size_t grouping = hr_add(hr_add(spec->grouping_bytes, tables), bytes[HR_MEM_EVAL]);
    return sum - before > grouping ? sum - before : grouping;
}

hr_status hr_plan_make(hr_ctx *ctx, const hr_config *config, hr_plan *out)
{
    *out = (hr_plan){.process = hr_process_rss(), .machine = hr_machine_memory()};
    hr_dataset *ds = NULL;
    hr_instances in;
    hr_model_spec spec;
    size_t auxiliary[HR_MEM_KINDS] = {0};
    HR_TRY(hr_dataset_open(ctx, hr_config_text(config, "dataset"), &ds));
    hr_status st = hr_instances_make(config, ds, &in);
    if (st == HR_OK)
        st = hr_model_spec_make(config, ds, in.max_features, in.mean_positives, &spec);
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
        const size_t eval = plan_eval(&in, &spec, threads, out->bytes);
        add(&out->bytes[HR_MEM_DATASET], sizeof(hr_dataset));
        plan_checkpoint(out->bytes);
        add(&out->bytes[HR_MEM_OTHER], sizeof(hr_run));
        out->mapped = ds->mapped_bytes;
        out->total = total_of(&spec, out->bytes, eval);
        out->fits = hr_add(out->total, hr_add(out->mapped, out->process)) <= out->machine;
    }
    hr_dataset_close(ds);
    return st;
}
