/* One training step of the head: blocks in parallel, dX summed by a fixed binary tree over the blocks.
 *
 * A task runs a group of blocks and sums their partials, a subtree, while they are in its cache. A chunk of groups runs between
 * two barriers; its partials are summed by their subtree, and the sums of chunks are carried upwards like bits of a counter.
 * The shape of the tree depends on V alone; thread count, group and chunk never change a bit (docs/numerics.md section 5). */
#include "head/internal.h"

typedef struct step_work {
    hr_head *head;
    const hr_head_batch *batch;
    float lr;
    uint64_t step;
    bool want_loss;
    int64_t first_group; /* of the chunk */
    float gscale;
    float new_alpha[HR_SEGMENTS_MAX];
    hr_adam_law adam[HR_SEGMENTS_MAX];
    int64_t chunk;       /* its number */
} step_work;

/* Index of the first positive of axis row `row` or later. */
static int64_t first_positive(const hr_head_batch *batch, int64_t row)
{
    int64_t lo = 0, hi = batch->num_positives;
    while (lo < hi) {
        const int64_t mid = (lo + hi) / 2;
        if ((int64_t)(batch->positives[mid] >> 32) < row)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int64_t block_end(const hr_head *head, int64_t block)
{
    const int64_t end = (block + 1) * head->block_rows;
    return end < head->o.labels ? end : head->o.labels;
}

hr_tile_step hr_head_tile_step(hr_head *head, const hr_head_batch *batch, int segment, int64_t at, int64_t rows, float gscale)
{
    const int64_t p0 = first_positive(batch, at), p1 = first_positive(batch, at + rows);
    return (hr_tile_step){
        .k = &head->k,
        .x = &head->view[segment],
        .columns = &head->columns,
        .positives = batch->positives ? batch->positives + p0 : NULL,
        .num_positives = p1 - p0,
        .axis_row = at,
        .loss_type = head->o.loss,
        .gscale = gscale,
        .bias_scalar = head->o.bias == HR_BIAS_NONE ? 0.0f : head->o.bias_value,
        .bias = head->bias ? head->bias + at : NULL,
        .bias_m = head->bias_moments ? head->bias_moments + at : NULL,
        .bias_v = head->bias_moments ? head->bias_moments + head->o.labels + at : NULL,
        .low_precision = head->o.arith == HR_ARITH_ELMO,
    };
}

/* `dx`: the partial of the block, NULL for sparse X. */
static void run_block(const step_work *work, int64_t block, float *dx, hr_tile_scratch *scratch)
{
    hr_head *head = work->head;
    const hr_head_options *o = &head->o;
    const int64_t end = block_end(head, block);
    head->block_loss[block] = 0;
    for (int64_t at = block * head->block_rows; at < end;) {
        const hr_tile t = hr_head_tile_at(head, at, end);
        hr_segment *seg = &head->segment[t.segment];
        hr_tile_step s = hr_head_tile_step(head, work->batch, t.segment, at, t.rows, work->gscale);
        s.eager = o->eager_decay;
        s.lr = work->lr;
        s.weight_decay = o->weight_decay;
        s.new_alpha = work->new_alpha[t.segment];
        s.adam = work->adam[t.segment];
        s.rng = hr_rng_make(o->seed, work->step, seg->tensor, HR_STREAM_ROUND);
        s.sparse_rng = hr_rng_make(o->seed, work->step, seg->tensor, HR_STREAM_SPARSE);
        s.refine_rng = hr_rng_make(o->seed, work->step, seg->tensor, HR_STREAM_REFINE);
        s.rescale_rng = hr_rng_make(o->seed, work->step, seg->tensor, HR_STREAM_RESCALE);
        s.momentum_rng = hr_rng_make(o->seed, work->step, seg->tensor + 1, HR_STREAM_STATE);
        s.second_rng = hr_rng_make(o->seed, work->step, seg->tensor + 64, HR_STREAM_STATE);
        s.sparse = o->gradient == HR_GRADIENT_SPARSE;
        s.exact_lists = head->exact_lists;
        s.tau = head->tau;
        s.counts = &head->block_counts[block];
        s.dx = dx ? dx + seg->first_column * head->packed.rows : NULL;
        s.loss = work->want_loss ? &head->block_loss[block] : NULL;
        s.h = work->batch->h;
        s.dh = o->loss == HR_LOSS_GIVEN ? work->batch->dh : NULL;
        s.units = o->labels;
        s.relu = o->relu;
        hr_tile_step_run(seg, &s, t.row, t.rows, scratch);
        at += t.rows;
        if (seg->family->settle && (at == end || t.row + t.rows == seg->o.rows))
            seg->family->settle(seg, &s, scratch);
    }
}

/* The blocks of a group, their partials summed like a binary counter: after block i, each trailing one bit of i joins two subtrees. */
static void run_group(void *arg, int64_t task, int worker)
{
    const step_work *work = arg;
    hr_head *head = work->head;
    hr_tile_scratch scratch = hr_head_scratch(head, worker);
    float *stack[HR_TREE_LEVELS];
    stack[0] = head->partials + task * head->partial_size;
    for (int j = 0; j < head->group_levels; j++)
        stack[j + 1] = head->local + (worker * head->group_levels + j) * head->partial_size;
    hr_defer(&scratch, &head->k, HR_DEFER_ZERO, stack[0], NULL);
    for (int64_t i = 0; i < head->group_blocks; i++) {
        int top = __builtin_popcountll((uint64_t)i);
        run_block(work, (work->first_group + task) * head->group_blocks + i, stack[top], &scratch);
        for (int64_t bits = i; bits & 1; bits >>= 1, top--)
            hr_defer(&scratch, &head->k, HR_DEFER_DRAIN, stack[top - 1], stack[top]);
    }
    hr_backlog_flush(&scratch, &head->k);
}

/* to[i] += from[i]; `to` is always the sum of the lower blocks. */
static void add(const hr_head *head, float *to, const float *from, int64_t n)
{
    head->k.axpy(n, 1.0f, from, to);
}

enum { STRIP = 4096 };

/* Of a partial; less than partial_size for a batch below max_batch. */
static int64_t used_size(const hr_head *head)
{
    return head->packed.dim_padded * head->packed.rows;
}

/* One strip of all partials: the subtree of the chunk is summed into its first partial, which is then carried into the
 * stack. Level j of the stack holds a finished subtree of 2^j chunks, as bit j of a counter would. */
static void sum_strip(void *arg, int64_t task, int worker)
{
    (void)worker;
    const step_work *work = arg;
    const hr_head *head = work->head;
    const int64_t begin = task * STRIP, size = head->partial_size, left = used_size(head) - begin, n = left < STRIP ? left : STRIP;
    float *first = head->partials + begin, *top = first;
    for (int64_t stride = 1; stride < head->chunk_groups; stride *= 2)
        for (int64_t i = 0; i + stride < head->chunk_groups; i += 2 * stride)
            add(head, first + i * size, first + (i + stride) * size, n);
    int level = 0;
    for (; work->chunk >> level & 1; level++) {
        float *lower = head->stack + level * size + begin;
        add(head, lower, top, n);
        top = lower;
    }
    memcpy(head->stack + level * size + begin, top, (size_t)n * sizeof(float));
}

/* Panels of the total back to rows. */
static void unpack_dx(const hr_head *head, const float *total, float *dx)
{
    const hr_packed *p = &head->packed;
    for (int64_t q = 0; q < p->dim; q += HRK_DP) {
        const int64_t n = p->dim - q < HRK_DP ? p->dim - q : HRK_DP;
        for (int64_t b = 0; b < p->rows; b++)
            memcpy(dx + b * p->dim + q, total + (q / HRK_DP * p->rows + b) * HRK_DP, (size_t)n * sizeof(float));
    }
}

/* All blocks, chunk by chunk, and their dX. */
static void run_chunks(step_work *work, float *dx)
{
    hr_head *head = work->head;
    const int64_t chunks = head->blocks / head->group_blocks / head->chunk_groups;
    for (int64_t c = 0; c < chunks; c++) {
        work->chunk = c;
        work->first_group = c * head->chunk_groups;
        hr_parallel_for(head->ctx, head->chunk_groups, run_group, work);
        hr_parallel_for(head->ctx, (used_size(head) + STRIP - 1) / STRIP, sum_strip, work);
    }
    int level = 0;
    while (chunks >> (level + 1))
        level++;
    unpack_dx(head, head->stack + level * head->partial_size, dx);
}

/* Sparse X: a block has no dX to sum. */
static void run_sparse_block(void *arg, int64_t block, int worker)
{
    const step_work *work = arg;
    hr_tile_scratch scratch = hr_head_scratch(work->head, worker);
    run_block(work, block, NULL, &scratch);
}

typedef struct forward_work {
    hr_head *head;
    float *h;
} forward_work;

static void forward_block(void *arg, int64_t block, int worker)
{
    const forward_work *work = arg;
    hr_head *head = work->head;
    hr_tile_scratch scratch = hr_head_scratch(head, worker);
    const int64_t end = block_end(head, block);
    hr_tile_step s = {.k = &head->k, .bias_scalar = head->o.bias == HR_BIAS_NONE ? 0.0f : head->o.bias_value, .units = head->o.labels,
                      .relu = head->o.relu};
    for (int64_t at = block * head->block_rows; at < end;) {
        const hr_tile t = hr_head_tile_at(head, at, end);
        s.x = &head->view[t.segment];
        s.axis_row = at;
        s.bias = head->bias ? head->bias + at : NULL;
        hr_tile_outputs(&head->segment[t.segment], &s, t.row, t.rows, work->h, &scratch);
        at += t.rows;
    }
}

hr_status hr_head_forward(hr_head *head, int64_t rows, const float *x, float *h)
{
    forward_work work = {.head = head, .h = h};
    hr_head_pack(head, rows, x, HR_PACK_FORWARD);
    hr_parallel_for(head->ctx, head->blocks, forward_block, &work);
    return HR_OK;
}

static hr_status check_input(hr_head *head, const hr_head_batch *batch, float lr)
{
    if (!isfinite(lr))
        return hr_fail(head->ctx, HR_ERR_NUMERIC, "head: the learning rate is not finite; nothing was changed");
    const int64_t n = head->o.sparse_x ? 0 : batch->rows * head->o.dim; /* sparse X is checked when it is packed */
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(batch->x[i]) < 0x1p60f))
            return hr_fail(head->ctx, HR_ERR_NUMERIC,
                           "head: X[%lld][%lld] = %g, expected a finite number below 2^60; nothing was changed. "
                           "The encoder has diverged: lower encoder.lr or head.lr, or raise train.warmup",
                           (long long)(i / head->o.dim), (long long)(i % head->o.dim), (double)batch->x[i]);
    return HR_OK;
}

/* When the decay factor has fallen below 1/2 the codes are halved and the factor doubled. */
static void halve_block(void *arg, int64_t task, int worker)
{
    (void)worker;
    const step_work *work = arg;
    hr_head *head = work->head;
    const int64_t end = block_end(head, task);
    for (int64_t at = task * head->block_rows; at < end;) {
        const hr_tile t = hr_head_tile_at(head, at, end);
        hr_segment *seg = &head->segment[t.segment];
        if (seg->alpha < 0.5f)
            hr_rows_halve(seg, hr_rng_make(head->o.seed, work->step, seg->tensor, HR_STREAM_ROUND), t.row, t.rows);
        at += t.rows;
    }
}

static hr_status settle_alpha(step_work *work)
{
    hr_head *head = work->head;
    bool any = false;
    for (int i = 0; i < head->o.num_segments; i++) {
        head->segment[i].alpha = work->new_alpha[i];
        any = any || head->segment[i].alpha < 0.5f;
    }
    if (any && !head->far)
        hr_parallel_for(head->ctx, head->blocks, halve_block, work);
    for (int i = 0; i < head->o.num_segments; i++) {
        if (head->segment[i].alpha >= 0.5f)
            continue;
        if (head->far)
            HR_TRY(hr_far_halve(head, i, work->step));
        head->segment[i].alpha *= 2.0f;
    }
    return HR_OK;
}

double hr_head_loss_factor(const hr_head_options *o, const hr_head_batch *batch)
{
    const double weight = batch->weight != 0 ? batch->weight : 1.0;
    switch (o->reduction) {
    case HR_MEAN_LABELS: return weight / (double)o->labels;
    case HR_MEAN_ALL: return weight / ((double)o->labels * (double)batch->rows);
    default: return weight;
    }
}

/* How much of |x|^2 a label sees: all, or of columns drawn at random its share, for which twice the mean is allowed; four times where
 * connections move, since they gather at the columns that carry more. */
static float seen(const hr_head_options *o, const hr_segment *seg)
{
    const float share = (o->rewire ? 4.0f : 2.0f) * (float)seg->width / (float)o->dim;
    return seg->o.family == HR_FAMILY_FAN_IN && share < 1 ? share : 1;
}

/* The threshold of the sparse gradient. What matters is how far one kept entry moves its own logit, lr tau |x|^2: at most KAPPA
 * at the peak rate, whatever the present rate is (contracts.md 6). */
static float choose_tau(const hr_head *head, const hr_head_batch *batch, float gscale)
{
    static const float KAPPA = 0.1f, MOST = 0.05f;
    float tau = head->o.tau, rate = 0, norm2 = 0;
    for (int i = 0; i < head->o.num_segments; i++)
        rate = fmaxf(rate, head->o.lr_peak * head->o.segment[i].lr_scale * gscale * seen(&head->o, &head->segment[i]));
    for (int64_t b = 0; tau < 0 && b < batch->rows; b++) {
        float sum = 0;
        for (int64_t d = 0; d < head->o.dim; d++)
            sum = fmaf(batch->x[b * head->o.dim + d], batch->x[b * head->o.dim + d], sum);
        norm2 = fmaxf(norm2, sum);
    }
    if (tau < 0)
        tau = KAPPA < MOST * rate * norm2 ? KAPPA / (rate * norm2) : MOST;
    return tau < 0x1p-40f ? 0 : tau; /* what the kernels take (kernels.h) */
}

hr_head_counts hr_head_last_counts(const hr_head *head)
{
    hr_head_counts sum = {.tau = head->tau};
    for (int64_t v = 0; v < head->blocks && !head->far; v++) {
        const hr_head_counts *c = &head->block_counts[v];
        sum.entries += c->entries;
        sum.cells += c->cells;
        sum.touched += c->touched;
        sum.rows += c->rows;
        sum.dense_tiles += c->dense_tiles;
        sum.tiles += c->tiles;
    }
    return sum;
}

hr_status hr_head_step(hr_head *head, const hr_head_batch *batch, float lr, uint64_t step, float *dx, double *loss)
{
    HR_TRY(check_input(head, batch, lr));
    step_work work = {.head = head, .batch = batch, .lr = lr, .step = step, .want_loss = loss != NULL,
                      .gscale = (float)hr_head_loss_factor(&head->o, batch)};
    for (int i = 0; i < head->o.num_segments; i++) {
        const double t = (double)step + 1;
        const hr_segment_options *s = &head->o.segment[i];
        work.adam[i] = (hr_adam_law){.beta1 = s->beta1, .beta2 = s->beta2, .eps = s->eps, .rate = (float)(1 / (1 - pow(s->beta1, t))),
                                     .scale = (float)(1 / sqrt(1 - pow(s->beta2, t)))};
        const float decay = lr * head->o.segment[i].lr_scale * head->o.weight_decay;
        if (!(decay < 0.5f))
            return hr_fail(head->ctx, HR_ERR_NUMERIC, "head: learning rate times weight decay is %g, expected below 0.5",
                           (double)decay);
        work.new_alpha[i] = head->segment[i].alpha * (head->o.eager_decay ? 1.0f : 1.0f - decay);
        if (!(fabsf(ldexpf(lr * head->o.segment[i].lr_scale, head->o.segment[i].scale_log2) / work.new_alpha[i]) < 0x1p60f))
            return hr_fail(head->ctx, HR_ERR_NUMERIC, "head: learning rate %g times 2^%d is too large; nothing was changed. "
                           "Lower head.lr", (double)lr, head->o.segment[i].scale_log2);
    }
    if (head->far) {
        HR_TRY(hr_far_check(head, batch));
        HR_TRY(hr_far_step(head, batch, lr, work.new_alpha, work.adam, step, dx, loss));
        return settle_alpha(&work);
    }
    const bool sparse = head->o.gradient == HR_GRADIENT_SPARSE, forward = head->packed.xt || head->packed.xt16;
    if (head->o.sparse_x)
        HR_TRY(hr_head_pack_sparse(head, batch->rows, &batch->sparse));
    else
        hr_head_pack(head, batch->rows, batch->x, HR_PACK_BACKWARD | (sparse ? HR_PACK_INT8 : 0) | (forward ? HR_PACK_FORWARD : 0));
    head->tau = sparse ? choose_tau(head, batch, work.gscale) : 0;
    memset(head->block_counts, 0, (size_t)head->blocks * sizeof *head->block_counts);
    if (head->o.sparse_x)
        hr_parallel_for(head->ctx, head->blocks, run_sparse_block, &work);
    else
        run_chunks(&work, dx);
    HR_TRY(settle_alpha(&work));
    if (loss) {
        *loss = 0;
        for (int64_t v = 0; v < head->blocks; v++)
            *loss += head->block_loss[v];
        *loss *= hr_head_loss_factor(&head->o, batch);
    }
    return HR_OK;
}
