/* The life of a head: memory, creation, state. Its options are checked in check.c; training is in step.c, scoring in topk.c. */
#include "head/internal.h"

#include <stdio.h>

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
    *block_rows = hr_pad((o->labels + v - 1) / v, 64);
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
    s.scales = (size_t)hr_pad(o->max_batch, HRK_BP) * 3 * sizeof(float);
    s.scratch = hr_round_up(hr_tile_scratch_make(NULL, o, &layout), 4096);
    if (o->training) {
        s.loss = (size_t)s.blocks * sizeof(double);
        s.counts = (size_t)s.blocks * sizeof(hr_head_counts);
        s.bias = o->bias == HR_BIAS_PER_LABEL ? (size_t)o->labels * sizeof(float) : 0;
        s.moments = uses_adam(o) ? 2 * s.bias : 0;
    }
    return s;
}

/* On a device there is all of it. */
static head_sizes measure_far(const hr_head_options *o)
{
    head_sizes s = {.chunk_groups = 1, .group = 1};
    s.blocks = hr_head_count_blocks(o, &s.block_rows);
    return s;
}

static head_sizes measure(const hr_head_options *o, int threads)
{
    if (o->device)
        return measure_far(o);
    if (o->sparse_x)
        return measure_sparse(o);
    const int64_t b = hr_pad(o->max_batch, HRK_BP), d = hr_pad(o->dim, HRK_DP);
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
    s.xq = (size_t)(b * hr_pad(o->dim, HRK_QP));
    s.scales = (size_t)b * 3 * sizeof(float);
    s.xc = has_inputs(o) ? (size_t)(o->dim * hr_pad(o->max_batch, HRK_IP)) : 0;
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
    for (int i = 0; o->training && !o->device && i < o->num_segments; i++) {
        const hr_segment seg = hr_segment_make(o, i);
        bytes[HR_MEM_HEAD_WEIGHTS] = hr_add(bytes[HR_MEM_HEAD_WEIGHTS], hr_rows_weight_bytes(&seg));
        bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], hr_rows_state_bytes(&seg));
    }
    bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], s.bias + s.moments);
    size_t scratch = s.xt + s.xp + s.xt16 + s.xp16 + s.xq + s.xc + s.scales + s.partials +
                     s.columns + s.local + s.stack + s.loss + s.counts + s.rewire + (size_t)threads * s.scratch + sizeof(hr_head);
    bytes[HR_MEM_HEAD_SCRATCH] = hr_add(bytes[HR_MEM_HEAD_SCRATCH], scratch);
}

size_t hr_head_device_memory(const hr_head_options *o)
{
    return o->device ? o->device->ops->head_memory(o, 4 * o->max_batch) : 0;
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
        if (head->o.training && !head->o.device)
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
    const int64_t padded = hr_pad(head->o.max_batch, HRK_BP);
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
        st = options->device ? hr_far_create(head) : create_scratch(head, &s);
    if (st != HR_OK) {
        hr_head_destroy(head);
        return st;
    }
    head->exact_lists = lists_of_hinge(options);
    if (options->training && !options->device)
        hr_parallel_for(ctx, head->blocks, init_block, head);
    *out = head;
    return HR_OK;
}

void hr_head_destroy(hr_head *head)
{
    if (!head)
        return;
    hr_ctx *ctx = head->ctx;
    hr_far_destroy(head);
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

/* ---- state ---- */

void hr_head_set_inputs(hr_head *head, int64_t row, const uint32_t *inputs)
{
    const hr_tile t = hr_head_tile_at(head, row, head->o.labels);
    const hr_segment *seg = &head->segment[t.segment];
    hr_fan_in_store(seg, t.row / seg->group, inputs);
}

static void add_rows(hr_head *head, const char *name, int segment, hr_tensor_list *list)
{
    const int first = list->count;
    hr_rows_tensors(&head->segment[segment], name, segment, head->far != NULL, list);
    for (int i = first; i < list->count && head->far; i++)
        hr_far_tensor(head, segment, (hr_device_array)list->item[i].part, &list->item[i]);
}

void hr_head_tensors(hr_head *head, hr_tensor_list *list)
{
    const char *name = head->o.name ? head->o.name : "head";
    const int first = list->count;
    for (int i = 0; i < head->o.num_segments; i++)
        add_rows(head, name, i, list);
    float *const biases[] = {head->bias, head->bias_moments, head->bias_moments ? head->bias_moments + head->o.labels : NULL};
    const bool far_bias = head->far && head->o.bias == HR_BIAS_PER_LABEL, far_moments = far_bias && uses_adam(&head->o);
    static const char *const parts[] = {"", ".m", ".v"};
    for (int i = 0; i < 3; i++) {
        if (!biases[i] && !(i == 0 ? far_bias : far_moments))
            continue;
        hr_tensor *t = &list->item[list->count++];
        *t = (hr_tensor){.type = HR_T_F32, .rows = head->o.labels, .cols = 1, .data = biases[i], .state = i > 0};
        snprintf(t->name, sizeof t->name, "%s.bias%s", name, parts[i]);
        if (head->far)
            hr_far_tensor(head, 0, (hr_device_array)(HR_DEVICE_BIAS + i), t);
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
