/* The life of a head: options, memory, creation, state. Training is in step.c, scoring in topk.c. */
#include "dtype/pairs.h"
#include "head/internal.h"

#include <stdio.h>

static const int64_t MOST_ENTRIES = UINT32_MAX - 1; /* of sparse X in a batch */

static int64_t pad(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* V: the largest power of two <= min(256, L / 1024) for which a block has 16 D weights or more, at least 1. (Each block's partial of dX, D
 * numbers an instance, is cleared and added: with few weights a label that would take longer than the products.) Sparse X has no dX: <= min(256,
 * L / 64) is enough. */
int64_t hr_head_count_blocks(const hr_head_options *o, int64_t *block_rows)
{
    int64_t v = 1, weights = 0;
    while (o->sparse_x && v < 256 && 2 * v <= o->labels / 64)
        v *= 2;
    for (int i = 0; i < o->num_segments; i++)
        weights += o->segment[i].family == HR_FAMILY_UNSTRUCTURED ? o->segment[i].connections
                   : o->segment[i].rows * (o->segment[i].family == HR_FAMILY_FAN_IN ? o->segment[i].fan_in : o->dim);
    while (!o->sparse_x && v < 256 && 2 * v <= o->labels / 1024 && 2 * v * 16 * o->dim <= weights)
        v *= 2;
    *block_rows = pad((o->labels + v - 1) / v, 64);
    return v;
}

int64_t hr_block_connections(const hr_head_options *o, const hr_segment_options *s)
{
    int64_t block_rows;
    (void)hr_head_count_blocks(o, &block_rows);
    const double share = block_rows < s->rows ? (double)block_rows / (double)s->rows : 1, mean = share * (double)s->connections;
    const double most = mean + 10 * sqrt(mean) + 64;
    return most < (double)s->connections ? (int64_t)most : s->connections;
}

const hr_family *hr_family_of(const hr_head_options *o, const hr_segment_options *s)
{
    static const hr_family *const all[] = {[HR_FAMILY_DENSE] = &hr_family_dense, [HR_FAMILY_FAN_IN] = &hr_family_fan_in,
                                            [HR_FAMILY_UNSTRUCTURED] = &hr_family_fan_in};
    return o->sparse_x ? &hr_family_sparse_x : all[s->family];
}

/* Blocks between two barriers, and how many of them one task runs, one after the other, so that their partials are summed while they
 * are in its cache; both powers of two. */
static int64_t choose_chunk(const hr_head_options *o, int threads, int64_t blocks, int64_t block_rows, size_t partial, int64_t *group)
{
    enum { MOST = 256 << 20 }; /* bytes of partials */
    int64_t wanted = o->chunk > 0 ? o->chunk / block_rows : 32 * (int64_t)threads, n = 1;
    while (2 * n <= wanted && 2 * n <= blocks)
        n *= 2;
    *group = 1;
    while (*group < 4 && n / (2 * *group) >= 8 * (int64_t)threads)
        *group *= 2;
    while (n / *group > threads && (size_t)(n / *group) * partial > MOST)
        n /= 2;
    return n;
}

static int levels_of(int64_t chunks)
{
    int levels = 1;
    while (chunks > 1) {
        levels++;
        chunks /= 2;
    }
    return levels;
}

/* Whether a segment has inputs to keep. */
static bool has_inputs(const hr_head_options *o)
{
    bool has = false;
    for (int i = 0; i < o->num_segments; i++)
        has = has || o->segment[i].family != HR_FAMILY_DENSE;
    return has;
}

static bool uses_adam(const hr_head_options *o)
{
    bool uses = false;
    for (int i = 0; i < o->num_segments; i++)
        uses = uses || o->segment[i].optimizer == HR_HEAD_ADAM;
    return uses;
}

/* The sizes of everything that is allocated, used by the plan and by create alike. */
typedef struct head_sizes {
    int64_t blocks, block_rows, chunk_groups, group, partial;
    int levels, group_levels;
    size_t columns; /* sparse X */
    size_t local, xt, xp, xt16, xp16, xq, xc, scales, scratch, partials, stack, loss, counts, rewire, bias, moments;
} head_sizes;

/* Of sparse X there are its columns, and no dX. */
static head_sizes measure_sparse(const hr_head_options *o)
{
    hr_tile_scratch layout;
    head_sizes s = {.chunk_groups = 1, .group = 1, .columns = hr_columns_memory(o->dim, o->max_entries)};
    s.blocks = hr_head_count_blocks(o, &s.block_rows);
    s.scales = (size_t)pad(o->max_batch, HRK_BP) * 3 * sizeof(float);
    s.scratch = hr_round_up(hr_tile_scratch_make(NULL, o, &layout), 4096);
    if (o->training) {
        s.loss = (size_t)s.blocks * sizeof(double);
        s.counts = (size_t)s.blocks * sizeof(hr_head_counts);
        s.bias = o->bias == HR_BIAS_PER_LABEL ? (size_t)o->labels * sizeof(float) : 0;
        s.moments = uses_adam(o) ? 2 * s.bias : 0;
    }
    return s;
}

static head_sizes measure(const hr_head_options *o, int threads)
{
    if (o->sparse_x)
        return measure_sparse(o);
    const int64_t b = pad(o->max_batch, HRK_BP), d = pad(o->dim, HRK_DP);
    head_sizes s = {.partial = d * o->max_batch};
    s.blocks = hr_head_count_blocks(o, &s.block_rows);
    const int64_t chunk = choose_chunk(o, threads, s.blocks, s.block_rows, (size_t)s.partial * sizeof(float), &s.group);
    s.chunk_groups = chunk / s.group;
    s.levels = levels_of(s.blocks / chunk);
    s.group_levels = levels_of(s.group) - 1;
    const bool pairs = o->training && o->arith == HR_ARITH_BF16, dense = o->training && o->gradient == HR_GRADIENT_DENSE;
    const bool logits = dense || (o->training && has_inputs(o));
    s.xt = o->arith == HR_ARITH_ELMO || o->loss == HR_LOSS_GIVEN || (logits && !pairs) ? (size_t)(b * o->dim) * sizeof(float) : 0;
    s.xt16 = pairs && logits ? (size_t)(b * d / 2) * sizeof(uint32_t) : 0;
    s.xp16 = pairs ? (size_t)(b / 2 * d) * sizeof(uint32_t) : 0;
    s.xq = (size_t)(b * pad(o->dim, HRK_QP));
    s.scales = (size_t)b * 3 * sizeof(float);
    s.xc = has_inputs(o) ? (size_t)(o->dim * pad(o->max_batch, HRK_IP)) : 0;
    hr_tile_scratch layout;
    s.scratch = hr_round_up(hr_tile_scratch_make(NULL, o, &layout), 4096);
    if (o->training) {
        s.xp = !pairs || !logits ? (size_t)(d * o->max_batch) * sizeof(float) : 0; /* the sparse gradient's lists want f32 */
        s.partials = (size_t)(s.chunk_groups * s.partial) * sizeof(float);
        s.local = (size_t)(threads * s.group_levels * s.partial) * sizeof(float);
        s.stack = (size_t)(s.levels * s.partial) * sizeof(float);
        s.loss = (size_t)s.blocks * sizeof(double);
        s.counts = (size_t)s.blocks * sizeof(hr_head_counts);
        s.rewire = o->rewire ? (size_t)s.blocks * sizeof(hr_rewire_part) : 0;
        s.bias = o->bias == HR_BIAS_PER_LABEL ? (size_t)o->labels * sizeof(float) : 0;
        s.moments = uses_adam(o) ? 2 * s.bias : 0;
    }
    return s;
}

void hr_head_memory(const hr_head_options *o, int threads, size_t bytes[HR_MEM_KINDS])
{
    head_sizes s = measure(o, threads);
    for (int i = 0; o->training && i < o->num_segments; i++) {
        const hr_segment seg = hr_segment_make(o, i);
        bytes[HR_MEM_HEAD_WEIGHTS] = hr_add(bytes[HR_MEM_HEAD_WEIGHTS], hr_rows_weight_bytes(&seg));
        bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], hr_rows_state_bytes(&seg));
    }
    bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], s.bias + s.moments);
    size_t scratch = s.xt + s.xp + s.xt16 + s.xp16 + s.xq + s.xc + s.scales + s.partials +
                     s.columns + s.local + s.stack + s.loss + s.counts + s.rewire + (size_t)threads * s.scratch + sizeof(hr_head);
    bytes[HR_MEM_HEAD_SCRATCH] = hr_add(bytes[HR_MEM_HEAD_SCRATCH], scratch);
}

const char *hr_head_not_sparse(const hr_head_options *o)
{
    for (int i = 0; i < o->num_segments; i++) {
        if (o->segment[i].kahan || o->segment[i].momentum > 0)
            return o->segment[i].kahan ? "head.kahan_top" : "head.momentum";
        if (o->segment[i].optimizer != HR_HEAD_SGD)
            return "head.optimizer=adam";
    }
    if (o->loss == HR_LOSS_GIVEN)
        return "a hidden layer";
    if (o->sparse_x)
        return "sparse X";
    if (o->loss != HR_LOSS_BCE)
        return "loss.type=squared_hinge";
    if (o->arith == HR_ARITH_ELMO)
        return "head.arith=elmo";
    return o->eager_decay ? "head.decay=eager" : NULL;
}

static hr_status check_sparse(hr_ctx *ctx, const hr_head_options *o)
{
    const char *what = hr_head_not_sparse(o);
    if (what)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: the sparse gradient is not defined with %s; set head.gradient=dense", what);
    if (!(o->tau < 1))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: tau is %g, expected below 1 (below 0: chosen)", (double)o->tau);
    return HR_OK;
}

/* Which columns a segment reads, and how many inputs of them; `first_row` on the axis. */
static hr_status check_inputs(hr_ctx *ctx, const hr_head_options *o, int i, int64_t first_row)
{
    const hr_segment_options *s = &o->segment[i];
    const int64_t dim = s->columns > 0 ? s->columns : o->dim - s->first_column;
    if (o->sparse_x && (s->family != HR_FAMILY_FAN_IN || s->first_column != 0 || (s->columns != 0 && s->columns != o->dim)))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X, labels have a fan-in of all columns; set head.family=fan_in, "
                       "head.dense_ratio=0 and no head.slice");
    if (s->first_column < 0 || s->first_column % 64 || dim < 1 || s->first_column + dim > o->dim)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d reads columns [%lld, %lld) of %lld; expected a slice that begins at a "
                       "multiple of 64", i, (long long)s->first_column, (long long)(s->first_column + dim), (long long)o->dim);
    if (s->family == HR_FAMILY_DENSE)
        return HR_OK;
    if (o->arith != HR_ARITH_F32)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: labels with some of the inputs compute in f32; set head.arith=f32");
    const int64_t most = s->rows * (dim < HR_FAN_IN_MAX ? dim : HR_FAN_IN_MAX);
    if (s->family == HR_FAMILY_UNSTRUCTURED && (s->connections < 1 || s->connections > most || s->connections > UINT32_MAX))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld unstructured connections over a width of %lld, expected 1 to %lld, and below 2^32",
                       (long long)s->connections, (long long)dim, (long long)most);
    if (s->family == HR_FAMILY_UNSTRUCTURED)
        return HR_OK;
    if (s->fan_in < 1 || s->fan_in > dim || s->fan_in > HR_FAN_IN_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: fan-in of %lld, expected 1 to the width before the head, %lld, and at most %d", (long long)s->fan_in,
                       (long long)dim, HR_FAN_IN_MAX);
    if (s->group > 1 && s->group != 16 && s->group != 32 && s->group != 64)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: groups of %lld labels, expected 1, 16, 32 or 64", (long long)s->group);
    if (s->group > 1 && first_row % s->group)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d begins at label %lld, expected a multiple of its group, %lld", i,
                       (long long)first_row, (long long)s->group);
    return HR_OK;
}

/* What does not go with sparse X. */
static hr_status check_sparse_x(hr_ctx *ctx, const hr_head_options *o)
{
    if (o->dim > INT64_C(1) << 31)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld columns of sparse X, expected at most 2^31", (long long)o->dim);
    if (o->max_entries < 0 || o->max_entries > MOST_ENTRIES)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld entries of sparse X in a batch, expected below 2^32; lower train.batch",
                       (long long)o->max_entries);
    if (o->gradient == HR_GRADIENT_SPARSE)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X the exact gradient costs no more than X's entries; set head.gradient=dense");
    if (o->rewire)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X, inputs drawn at random would hardly ever be of use; set head.rewire=none");
    if (o->loss == HR_LOSS_GIVEN)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: a hidden layer needs X that is not sparse");
    return HR_OK;
}

hr_status hr_head_check(hr_ctx *ctx, const hr_head_options *o)
{
    int64_t rows = 0;
    if (o->labels < 1 || o->labels >= INT64_C(1) << 32)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld labels, expected 1 to 2^32 - 1", (long long)o->labels);
    if (o->dim < 1 || (o->dim > HR_WIDTH_MAX && !o->sparse_x))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: width %lld, expected 1 to 131072", (long long)o->dim);
    if (o->sparse_x)
        HR_TRY(check_sparse_x(ctx, o));
    if (o->max_batch < 1 || o->max_batch > 65536)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: batch of %lld, expected 1 to 65536", (long long)o->max_batch);
    if (o->num_segments < 1 || o->num_segments > HR_SEGMENTS_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %d segments, expected 1 to %d", o->num_segments, HR_SEGMENTS_MAX);
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        rows += s->rows;
        if (s->rows < 1)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d has %lld rows, expected at least 1", i, (long long)s->rows);
        HR_TRY(check_inputs(ctx, o, i, rows - s->rows));
        if (s->kahan && s->dtype.id == HR_I8R)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: Kahan compensation is not defined for i8r (its scale moves); "
                                               "set head.kahan_top=0 or another head.dtype");
        if (s->optimizer == HR_HEAD_ADAM && s->state_dtype.id != HR_F32 && s->state_dtype.id != HR_BF16)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: Adam's second moment spans more than 8 bits hold; set the state's type to f32 or "
                                               "bf16");
        if (s->optimizer == HR_HEAD_ADAM && s->momentum > 0)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: momentum is SGD's; Adam has its own first moment");
        if (s->rounding == HR_ROUND_ELMO && s->dtype.id == HR_I8R)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: rounding stochastic-elmo is defined for floats; head.dtype is i8r");
    }
    if (o->gradient == HR_GRADIENT_SPARSE)
        HR_TRY(check_sparse(ctx, o));
    if (rows != o->labels)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segments have %lld rows, labels are %lld", (long long)rows,
                       (long long)o->labels);
    return HR_OK;
}

/* Sparse X: the first columns, until there are better ones. */
static void first_inputs(const hr_segment *seg, int64_t row, int64_t rows)
{
    uint32_t inputs[HR_FAN_IN_MAX];
    for (int64_t k = 0; k < seg->width; k++)
        inputs[k] = (uint32_t)k;
    for (int64_t r = row; r < row + rows; r++)
        if (r % seg->group == 0)
            hr_fan_in_store(seg, r / seg->group, inputs);
}

static void init_block(void *arg, int64_t task, int worker)
{
    (void)worker;
    hr_head *head = arg;
    const int64_t begin = task * head->block_rows;
    const int64_t end = begin + head->block_rows < head->o.labels ? begin + head->block_rows : head->o.labels;
    for (int64_t at = begin; at < end;) {
        hr_tile t = hr_head_tile_at(head, at, end);
        hr_segment *seg = &head->segment[t.segment];
        if (seg->o.init > 0 || seg->o.dtype.id == HR_I8R)
            hr_rows_init(seg, head->o.seed, t.row, t.rows);
        if (head->o.sparse_x)
            first_inputs(seg, t.row, t.rows);
        else if (seg->o.family != HR_FAMILY_DENSE)
            hr_fan_in_init(seg, head->o.seed, t.row, t.rows);
        at += t.rows;
    }
}

static hr_status create_segments(hr_head *head)
{
    for (int i = 0; i < head->o.num_segments; i++) {
        hr_segment *seg = &head->segment[i];
        *seg = hr_segment_make(&head->o, i);
        if (head->o.training)
            HR_TRY(hr_rows_create(head->ctx, seg));
        if (head->o.training && seg->starts)
            hr_fan_in_start(seg, head->o.seed);
    }
    return HR_OK;
}

/* Zeroed bytes into *out, NULL for none; false: no memory. */
static bool take(hr_ctx *ctx, size_t bytes, void *out)
{
    void *p = bytes ? hr_calloc(ctx, HR_MEM_HEAD_SCRATCH, 1, bytes) : NULL;
    memcpy(out, &p, sizeof p);
    return p || !bytes;
}

static hr_status create_scratch(hr_head *head, const head_sizes *s)
{
    hr_ctx *ctx = head->ctx;
    hr_packed *x = &head->packed;
    if (!take(ctx, s->scratch * (size_t)hr_ctx_threads(ctx), &head->scratch) || !take(ctx, s->xt, &x->xt) ||
        !take(ctx, s->xp, &x->xp) || !take(ctx, s->xt16, &x->xt16) || !take(ctx, s->xp16, &x->xp16) ||
        !take(ctx, s->xq, &x->xq) || !take(ctx, s->xc, &x->xc) || !take(ctx, s->scales, &x->x_scale) || !take(ctx, s->partials, &head->partials) ||
        !take(ctx, s->local, &head->local) || !take(ctx, s->stack, &head->stack) || !take(ctx, s->loss, &head->block_loss) ||
        !take(ctx, s->counts, &head->block_counts) || !take(ctx, s->rewire, &head->rewire_part))
        return HR_ERR_NOMEM;
    if (head->o.sparse_x)
        HR_TRY(hr_columns_create(ctx, head->o.dim, head->o.max_entries, &head->columns));
    const int64_t padded = pad(head->o.max_batch, HRK_BP);
    x->x_error = x->x_scale + padded;
    x->x_size = x->x_error + padded;
    if (s->bias) {
        head->owns_bias = true;
        head->bias = hr_alloc(ctx, HR_MEM_HEAD_STATE, s->bias);
        if (!head->bias || (s->moments && !(head->bias_moments = hr_calloc(ctx, HR_MEM_HEAD_STATE, 1, s->moments))))
            return HR_ERR_NOMEM;
        for (int64_t l = 0; l < head->o.labels; l++)
            head->bias[l] = head->o.bias_value;
    }
    return HR_OK;
}

/* Whether a tile of few non-zero entries may take the way of the lists: plain SGD in f32. */
static bool lists_of_hinge(const hr_head_options *o)
{
    bool plain = o->training && o->loss == HR_LOSS_SQUARED_HINGE && o->arith == HR_ARITH_F32 && !o->eager_decay;
    for (int i = 0; i < o->num_segments; i++)
        plain = plain && !o->segment[i].kahan && !(o->segment[i].momentum > 0) && o->segment[i].optimizer == HR_HEAD_SGD;
    return plain;
}

hr_status hr_head_create(hr_ctx *ctx, const hr_head_options *options, hr_head **out)
{
    *out = NULL;
    HR_TRY(hr_head_check(ctx, options));
    const head_sizes s = measure(options, hr_ctx_threads(ctx));
    hr_head *head = HR_NEW(ctx, HR_MEM_HEAD_SCRATCH, hr_head);
    if (!head)
        return HR_ERR_NOMEM;
    head->ctx = ctx;
    head->o = *options;
    head->k = hrk_table_make((int)hr_ctx_isa_level(ctx));
    head->blocks = s.blocks;
    head->block_rows = s.block_rows;
    head->chunk_groups = s.chunk_groups;
    head->group_blocks = s.group;
    head->group_levels = s.group_levels;
    head->partial_size = s.partial;
    head->scratch_bytes = s.scratch;
    hr_status st = create_segments(head);
    if (st == HR_OK)
        st = create_scratch(head, &s);
    if (st != HR_OK) {
        hr_head_destroy(head);
        return st;
    }
    head->exact_lists = lists_of_hinge(options);
    if (options->training)
        hr_parallel_for(ctx, head->blocks, init_block, head);
    *out = head;
    return HR_OK;
}

void hr_head_destroy(hr_head *head)
{
    if (!head)
        return;
    hr_ctx *ctx = head->ctx;
    for (int i = 0; head->o.training && i < head->o.num_segments; i++)
        hr_rows_destroy(ctx, &head->segment[i]);
    if (head->owns_bias)
        hr_free(ctx, head->bias);
    hr_free(ctx, head->bias_moments);
    hr_free(ctx, head->scratch);
    hr_free(ctx, head->packed.xt);
    hr_free(ctx, head->packed.xp);
    hr_free(ctx, head->packed.xt16);
    hr_free(ctx, head->packed.xp16);
    hr_free(ctx, head->partials);
    hr_free(ctx, head->local);
    hr_free(ctx, head->stack);
    hr_free(ctx, head->block_loss);
    hr_free(ctx, head->block_counts);
    hr_free(ctx, head->rewire_part);
    hr_free(ctx, head->packed.xq);
    hr_free(ctx, head->packed.xc);
    hr_free(ctx, head->packed.x_scale);
    hr_columns_destroy(ctx, &head->columns);
    hr_free(ctx, head);
}

int64_t hr_head_blocks(const hr_head *head)
{
    return head->blocks;
}

int64_t hr_head_block_rows(const hr_head *head)
{
    return head->block_rows;
}

const hr_head_options *hr_head_get_options(const hr_head *head)
{
    return &head->o;
}

/* ---- tiles and packing ---- */

hr_tile hr_head_tile_at(const hr_head *head, int64_t at, int64_t end)
{
    int i = 0;
    while (at >= head->segment[i].first_row + head->segment[i].o.rows)
        i++;
    const hr_segment *seg = &head->segment[i];
    hr_tile t = {.segment = i, .axis_row = at, .row = at - seg->first_row, .rows = seg->family->tile_rows(&seg->o, seg->dim)};
    if (t.rows > end - at)
        t.rows = end - at;
    if (t.rows > seg->o.rows - t.row)
        t.rows = seg->o.rows - t.row;
    return t;
}

hr_tile_scratch hr_head_scratch(hr_head *head, int worker)
{
    hr_tile_scratch s;
    (void)hr_tile_scratch_make(head->scratch + (size_t)worker * head->scratch_bytes, &head->o, &s);
    s.whole = &head->packed;
    return s;
}

/* With head.arith=elmo the forward product sees X in e4m3 and dW sees it in bf16, as published. */
static float forward_x(const hr_head *head, float v)
{
    return head->o.arith == HR_ARITH_ELMO ? hr_round_nearest(v, HR_GRID_E4M3) : v;
}

static void pack_forward(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t b = 0; b < p->padded; b++) {
        float *out = p->xt + b / HRK_BP * p->dim * HRK_BP + b % HRK_BP;
        for (int64_t d = 0; d < p->dim; d++)
            out[d * HRK_BP] = b < p->rows ? forward_x(head, x[b * p->dim + d]) : 0.0f;
    }
}

/* One scale for each instance; four columns of an instance lie together (kernels.h). */
static void pack_int8(const hr_head *head, const float *x, int8_t *row)
{
    const hr_packed *p = &head->packed;
    const hr_dtype f32 = {.id = HR_F32, .bytes = sizeof(float)};
    memset(row, 0, (size_t)p->dim_q);
    for (int64_t b = 0; b < p->padded; b++) {
        const hrk_quantized r = b < p->rows ? head->k.quantize(p->dim, x + b * p->dim, 0, f32, false, row) : (hrk_quantized){0};
        p->x_scale[b] = r.scale;
        uint8_t *out = p->xq + b / HRK_BP * p->dim_q * HRK_BP + b % HRK_BP * 4;
        for (int64_t d = 0; d < p->dim_q; d += 4)
            for (int64_t i = 0; i < 4; i++)
                out[d * HRK_BP + i] = (uint8_t)(b < p->rows ? row[d + i] + 128 : 128);
        for (int64_t d = 0; p->xc && d < p->dim; d++)
            p->xc[b / HRK_IP * p->dim * HRK_IP + d * HRK_IP + hrk_byte_place(b % HRK_IP)] = (uint8_t)(b < p->rows ? row[d] + 128 : 128);
    }
}

/* How far int8 scores of an instance may be from its scores, for a w of length 1: |x - x8|, and all roundings, in units of 2^-24 of
 * |w| max(|x|, |x8|): D / 16 in each of 16 chains and 5 in their sum and factor, 3 in the int8 score, 6 in the values and their scale, 3 in
 * `reach`; 32 are allowed for. */
static void pack_errors(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t b = 0; b < p->padded; b++) {
        double error = 0, size = 0, size8 = 0;
        for (int64_t d = 0; b < p->rows && d < p->dim; d++) {
            const double v = (double)x[b * p->dim + d];
            const int q = p->xq[(b / HRK_BP * p->dim_q + d / 4 * 4) * HRK_BP + b % HRK_BP * 4 + d % 4] - 128;
            const double v8 = (double)p->x_scale[b] * q;
            error += (v - v8) * (v - v8);
            size += v * v;
            size8 += v8 * v8;
        }
        const double rounding = ((double)p->dim / 16 + 32) * 0x1p-24 * sqrt(size > size8 ? size : size8);
        p->x_error[b] = (float)((sqrt(error) + rounding) * (1 + 0x1p-20));
        p->x_size[b] = (float)(sqrt(size8) * (1 + 0x1p-20));
    }
}

static void pack_backward(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t q = 0; q < p->dim_padded; q += HRK_DP) {
        const int64_t n = p->dim - q < HRK_DP ? p->dim - q : HRK_DP;
        for (int64_t b = 0; b < p->rows; b++) {
            float *out = p->xp + (q / HRK_DP * p->rows + b) * HRK_DP;
            memset(out, 0, HRK_DP * sizeof(float));
            memcpy(out, x + b * p->dim + q, (size_t)n * sizeof(float));
            for (int64_t i = 0; head->o.arith == HR_ARITH_ELMO && i < n; i++)
                out[i] = hr_round_nearest(out[i], HR_GRID_BF16);
        }
    }
}

/* X as pairs of columns and of instances; zero beyond D and B. */
static void pack_pairs(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    const int64_t columns = p->dim_padded / 2;
    for (int64_t b = 0; p->xt16 && b < p->padded; b++) {
        uint32_t *out = p->xt16 + b / HRK_BP * columns * HRK_BP + b % HRK_BP;
        const float *v = x + b * p->dim;
        for (int64_t i = 0; i < columns; i++) {
            const uint32_t lo = b < p->rows && 2 * i < p->dim ? hr_bf16_operand(v[2 * i]) : 0;
            const uint32_t hi = b < p->rows && 2 * i + 1 < p->dim ? hr_bf16_operand(v[2 * i + 1]) : 0;
            out[i * HRK_BP] = lo | hi << 16;
        }
    }
    for (int64_t q = 0; q < p->dim_padded; q += HRK_DP) {
        const int64_t n = p->dim - q < HRK_DP ? p->dim - q : HRK_DP;
        uint32_t *out = p->xp16 + q / HRK_DP * (p->padded / 2) * HRK_DP;
        memset(out, 0, (size_t)(p->padded / 2 * HRK_DP) * sizeof *out);
        for (int64_t b = 0; b < p->rows; b += 2)
            head->k.pair(n, x + b * p->dim + q, b + 1 < p->rows ? x + (b + 1) * p->dim + q : NULL, out + b / 2 * HRK_DP);
    }
}

/* The columns of a segment, which begin at a multiple of every panel's width. */
static hr_packed view_of(const hr_packed *p, const hr_segment *seg)
{
    hr_packed v = *p;
    const int64_t first = seg->first_column;
    v.dim = seg->dim;
    v.dim_padded = pad(v.dim, HRK_DP);
    v.dim_q = pad(v.dim, HRK_QP);
    v.xt = p->xt ? p->xt + first * HRK_BP : NULL;
    v.xp = p->xp ? p->xp + first * p->rows : NULL;
    v.xt16 = p->xt16 ? p->xt16 + first / 2 * HRK_BP : NULL;
    v.xp16 = p->xp16 ? p->xp16 + first * (p->padded / 2) : NULL;
    v.xq = p->xq + first * HRK_BP;
    v.xc = p->xc ? p->xc + first * HRK_IP : NULL;
    v.x = p->x ? p->x + first : NULL;
    return v;
}

void hr_head_pack(hr_head *head, int64_t rows, const float *x, unsigned what)
{
    hr_packed *p = &head->packed;
    p->rows = rows;
    p->padded = pad(rows, HRK_BP);
    p->dim = head->o.dim;
    p->dim_padded = pad(p->dim, HRK_DP);
    p->dim_q = pad(p->dim, HRK_QP);
    p->xt_step = p->dim * HRK_BP;
    p->xt16_step = p->dim_padded / 2 * HRK_BP;
    p->xq_step = p->dim_q * HRK_BP;
    p->xc_step = p->dim * HRK_IP;
    p->x_step = p->dim;
    if (what & HR_PACK_FORWARD && !p->xt16)
        pack_forward(head, x);
    if (what & HR_PACK_INT8)
        pack_int8(head, x, hr_head_scratch(head, 0).wq);
    if (what & HR_PACK_BACKWARD && p->xp)
        pack_backward(head, x);
    if (what & HR_PACK_BACKWARD && p->xp16)
        pack_pairs(head, x);
    if (what & HR_PACK_SCORES) {
        p->x = x;
        for (int64_t i = 0; head->o.arith == HR_ARITH_ELMO && i < rows * p->dim; i++) {
            p->xt[i] = forward_x(head, x[i]);
            p->x = p->xt;
        }
        pack_int8(head, p->x, hr_head_scratch(head, 0).wq);
        pack_errors(head, p->x);
    }
    for (int i = 0; i < head->o.num_segments; i++)
        head->view[i] = view_of(p, &head->segment[i]);
}

hr_status hr_head_pack_sparse(hr_head *head, int64_t rows, const hr_sparse_rows *x)
{
    head->packed.rows = rows;
    head->packed.padded = pad(rows, HRK_BP);
    for (int i = 0; i < head->o.num_segments; i++)
        head->view[i] = head->packed;
    return hr_columns_fill(head->ctx, &head->columns, rows, x);
}

/* ---- state ---- */

void hr_head_set_inputs(hr_head *head, int64_t row, const uint32_t *inputs)
{
    const hr_tile t = hr_head_tile_at(head, row, head->o.labels);
    const hr_segment *seg = &head->segment[t.segment];
    hr_fan_in_store(seg, t.row / seg->group, inputs);
}

void hr_head_tensors(hr_head *head, hr_tensor_list *list)
{
    const char *name = head->o.name ? head->o.name : "head";
    const int first = list->count;
    for (int i = 0; i < head->o.num_segments; i++)
        hr_rows_tensors(&head->segment[i], name, i, list);
    float *const biases[] = {head->bias, head->bias_moments, head->bias_moments ? head->bias_moments + head->o.labels : NULL};
    static const char *const parts[] = {"", ".m", ".v"};
    for (int i = 0; i < 3; i++) {
        if (!biases[i])
            continue;
        hr_tensor *t = &list->item[list->count++];
        *t = (hr_tensor){.type = HR_T_F32, .rows = head->o.labels, .cols = 1, .data = biases[i], .state = i > 0};
        snprintf(t->name, sizeof t->name, "%s.bias%s", name, parts[i]);
    }
    for (int i = first; i < list->count && head->o.loss == HR_LOSS_GIVEN; i++)
        list->item[i].shard_group = 0; /* units are no labels */
}

void hr_head_attach(hr_head *head, int segment, int64_t shard_rows, int num_shards, const void *const *codes,
                    const float *const *scales, const void *const *inputs)
{
    hr_segment *seg = &head->segment[segment];
    seg->shard_rows = shard_rows;
    seg->num_shards = num_shards;
    for (int i = 0; i < num_shards; i++) {
        seg->codes[i] = (uint8_t *)(uintptr_t)codes[i]; /* scoring only reads */
        seg->scales[i] = scales ? (float *)(uintptr_t)scales[i] : NULL;
        seg->inputs[i] = inputs ? (void *)(uintptr_t)inputs[i] : NULL;
    }
}

hr_segment_shape hr_head_segment_shape(const hr_head *head, int segment)
{
    const hr_segment *seg = &head->segment[segment];
    const bool fixed = seg->o.family == HR_FAMILY_FAN_IN;
    return (hr_segment_shape){.pitch = seg->pitch, .fan_in = fixed ? seg->width : 0, .group = seg->group,
                              .input_bytes = seg->o.family == HR_FAMILY_DENSE ? 0 : (int64_t)hr_input_bytes(seg->dim)};
}

/* Whether each block has as few connections as rewiring has room for. */
static bool blocks_valid(const hr_head *head, const hr_segment *seg)
{
    bool valid = true;
    for (int64_t v = 0; v < head->blocks && head->o.rewire && seg->starts; v++) {
        int64_t begin = v * head->block_rows - seg->first_row, end = begin + head->block_rows;
        begin = begin < 0 ? 0 : begin > seg->o.rows ? seg->o.rows : begin;
        end = end < begin ? begin : end > seg->o.rows ? seg->o.rows : end;
        valid = valid && (int64_t)(seg->starts[end] - seg->starts[begin]) <= hr_block_connections(&head->o, &seg->o);
    }
    return valid;
}

bool hr_head_inputs_valid(const hr_head *head)
{
    bool valid = true;
    for (int i = 0; i < head->o.num_segments && valid; i++)
        valid = head->segment[i].o.family == HR_FAMILY_DENSE || !head->segment[i].inputs[0] ||
                (hr_fan_in_valid(&head->segment[i]) && blocks_valid(head, &head->segment[i]));
    return valid;
}

void hr_head_attach_starts(hr_head *head, int segment, const uint32_t *starts)
{
    head->segment[segment].starts = (uint32_t *)(uintptr_t)starts;
}

void hr_head_attach_bias(hr_head *head, const float *bias)
{
    head->bias = (float *)(uintptr_t)bias;
}

float hr_head_alpha(const hr_head *head, int segment)
{
    return head->segment[segment].alpha;
}

void hr_head_set_alpha(hr_head *head, int segment, float alpha)
{
    head->segment[segment].alpha = alpha;
}
