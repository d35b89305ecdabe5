/* Fan-in over sparse X: the rows of the batch are lists of a few columns out of very many, such as the words of texts. A label's logits and
 * gradient need no more than the entries that its inputs have in the batch:
 *
 *   1. the batch by columns: for each column that occurs, its rows and values (hr_columns)
 *   2. label by label: which inputs occur; z over their lists, one chain of multiply-adds for each instance, in the order of the inputs
 *   3. the gradient of all instances; dW over the same lists, one chain for each weight, in the order of the batch; the update
 *
 * That is the exact step: an instance that has none of a label's inputs has the label's bias for a logit and no part in its dW. There is no dX,
 * so the label axis is cut more finely, and nothing is summed over it. Rows with no input in the batch are not even decoded, unless their
 * state moves by itself (momentum, Adam, eager decay). Bytes: the inputs of all labels are read once a step, codes read and written. */
#include "head/segment.h"

static int64_t tile_rows(const hr_segment_options *o, int64_t dim)
{
    (void)o, (void)dim;
    return 64;
}

/* ---- the batch by columns ---- */

static size_t bit_words(int64_t dim)
{
    return ((size_t)dim + 31) / 32;
}

static size_t room_bytes(int64_t entries)
{
    const size_t n = (size_t)entries, each = 2 * sizeof(uint32_t) + sizeof(uint16_t) + sizeof(float);
    return hr_add(hr_mul(n, each), 2 * sizeof(uint32_t));
}

size_t hr_columns_memory(int64_t dim, int64_t max_entries)
{
    return hr_add(hr_mul(bit_words(dim) + (size_t)dim, sizeof(uint32_t)), room_bytes(max_entries));
}

static void free_room(hr_ctx *ctx, hr_columns *c)
{
    hr_free(ctx, c->start);
    hr_free(ctx, c->column);
    hr_free(ctx, c->row);
    hr_free(ctx, c->value);
    c->start = c->column = NULL;
    c->row = NULL;
    c->value = NULL;
    c->room = -1;
}

static hr_status make_room(hr_ctx *ctx, int64_t entries, hr_columns *c)
{
    c->start = HR_ARRAY(ctx, HR_MEM_HEAD_SCRATCH, uint32_t, entries + 2);
    c->column = HR_ARRAY(ctx, HR_MEM_HEAD_SCRATCH, uint32_t, entries);
    c->row = HR_ARRAY(ctx, HR_MEM_HEAD_SCRATCH, uint16_t, entries);
    c->value = HR_ARRAY(ctx, HR_MEM_HEAD_SCRATCH, float, entries);
    c->x.start = c->start;
    c->x.row = c->row;
    c->x.value = c->value;
    c->room = entries;
    if (c->start && c->column && c->row && c->value)
        return HR_OK;
    free_room(ctx, c);
    return HR_ERR_NOMEM;
}

hr_status hr_columns_create(hr_ctx *ctx, int64_t dim, int64_t max_entries, hr_columns *c)
{
    *c = (hr_columns){0};
    c->present = HR_ARRAY0(ctx, HR_MEM_HEAD_SCRATCH, uint32_t, bit_words(dim));
    c->list = HR_ARRAY(ctx, HR_MEM_HEAD_SCRATCH, uint32_t, dim);
    c->x.columns = dim;
    c->x.present = c->present;
    c->x.list = c->list;
    return c->present && c->list ? make_room(ctx, max_entries, c) : HR_ERR_NOMEM;
}

void hr_columns_destroy(hr_ctx *ctx, hr_columns *c)
{
    free_room(ctx, c);
    hr_free(ctx, c->present);
    hr_free(ctx, c->list);
}

/* Takes the bits of the last batch back: as many as it had columns, not as there are. */
static void clear(hr_columns *c)
{
    for (int64_t i = 0; i < c->lists; i++)
        c->present[c->column[i] / 32] = 0;
    c->lists = 0;
}

static hr_status check(hr_ctx *ctx, const hr_columns *c, int64_t rows, const hr_sparse_rows *x)
{
    for (int64_t b = 0; b < rows; b++)
        for (int64_t i = x->indptr[b]; i < x->indptr[b + 1]; i++) {
            if (x->indices[i] >= c->x.columns)
                return hr_fail(ctx, HR_ERR_DATA, "head: row %lld of the batch has an entry in column %lld, expected below %lld", (long long)b,
                               (long long)x->indices[i], (long long)c->x.columns);
            if (!(fabsf(x->values[i]) < 0x1p60f))
                return hr_fail(ctx, HR_ERR_NUMERIC, "head: X[%lld][%lld] = %g, expected a finite number below 2^60; nothing was changed",
                               (long long)b, (long long)x->indices[i], (double)x->values[i]);
        }
    return HR_OK;
}

/* A scoring head grows to the largest batch it has seen, by halves at least. */
static hr_status grow(hr_ctx *ctx, hr_columns *c, int64_t entries)
{
    if (entries <= c->room)
        return HR_OK;
    if (entries > INT64_C(0xfffffffe))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld entries of sparse X in a batch, expected below 2^32", (long long)entries);
    const int64_t more = c->room + c->room / 2;
    free_room(ctx, c);
    return make_room(ctx, entries > more ? entries : more, c);
}

/* The lists that there are, and where each begins: at first start[i + 2] counts the entries of list i, then start[i + 1] is its begin. */
static void count_entries(hr_columns *c, int64_t rows, const hr_sparse_rows *x)
{
    c->start[0] = c->start[1] = 0;
    for (int64_t i = x->indptr[0]; i < x->indptr[rows]; i++) {
        const uint32_t column = x->indices[i], bit = UINT32_C(1) << column % 32;
        if (x->values[i] == 0)
            continue;
        if (!(c->present[column / 32] & bit)) {
            c->present[column / 32] |= bit;
            c->list[column] = (uint32_t)c->lists;
            c->column[c->lists++] = column;
            c->start[c->lists + 1] = 0;
        }
        c->start[c->list[column] + 2]++;
    }
    for (int64_t i = 0; i < c->lists; i++)
        c->start[i + 2] += c->start[i + 1];
}

hr_status hr_columns_fill(hr_ctx *ctx, hr_columns *c, int64_t rows, const hr_sparse_rows *x)
{
    HR_TRY(check(ctx, c, rows, x));
    clear(c);
    HR_TRY(grow(ctx, c, x->indptr[rows] - x->indptr[0]));
    count_entries(c, rows, x);
    for (int64_t b = 0; b < rows; b++)
        for (int64_t i = x->indptr[b]; i < x->indptr[b + 1]; i++) {
            if (x->values[i] == 0)
                continue;
            const uint32_t at = c->start[c->list[x->indices[i]] + 1]++; /* in the end: where the next list begins */
            c->row[at] = (uint16_t)b;
            c->value[at] = x->values[i];
        }
    return HR_OK;
}

/* ---- a label ---- */

/* The inputs of a row's group that have entries into the scratch; how many, -1: an input lies outside. */
static int64_t find_hits(const hr_segment *seg, const hrk_table *k, const hr_columns *c, int64_t row, hr_tile_scratch *s)
{
    const int wide = hr_input_bytes(seg->dim) == sizeof(uint32_t);
    return k->column_hits(seg->width, hr_fan_in_stored(seg, row / seg->group), wide, &c->x, s->hit, s->hit_list);
}

/* Logits of a row in code units into s->g (padded), 0 beyond the batch and without hits. */
static void logits(const hr_segment *seg, const hrk_table *k, const hr_columns *c, int64_t row, int64_t hits, int64_t padded,
                   hr_tile_scratch *s)
{
    const float scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    memset(s->g, 0, (size_t)padded * sizeof *s->g);
    if (hits == 0)
        return;
    k->decode(seg->width, hr_segment_row(seg, row), scale, seg->o.dtype, s->w);
    k->column_logits(hits, s->hit, s->hit_list, &c->x, s->w, s->g);
}

/* ---- the step ---- */

/* Rows that change though they have no part in the batch. */
static bool moves_alone(const hr_segment *seg, const hr_tile_step *s)
{
    return seg->momentum || s->eager;
}

/* The sum of the label's gradient over the batch, rows in order. */
static void update_bias(const hr_segment *seg, const hr_tile_step *s, const float *g)
{
    float sum = 0;
    for (int64_t b = 0; b < s->x->rows; b++)
        sum += g[b];
    hr_tile_update_bias(seg, s, 0, sum);
}

/* One label: `s` has its own positives, bias and place on the axis. */
static void step_label(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t hits, hr_tile_scratch *scratch)
{
    const bool moves = hits > 0 || moves_alone(seg, s);
    if (!moves && !s->bias && !s->loss)
        return;
    logits(seg, s->k, s->columns, row, hits, s->x->padded, scratch);
    if (s->loss)
        *s->loss += hr_tile_loss(s, 1, scratch->g, hr_rows_scale(seg));
    hr_tile_gradient(seg, s, 1, scratch);
    if (s->bias)
        update_bias(seg, s, scratch->g);
    if (!moves)
        return;
    memset(scratch->row, 0, (size_t)seg->width * sizeof *scratch->row);
    s->k->column_dw(hits, scratch->hit, scratch->hit_list, &s->columns->x, scratch->g, scratch->row);
    hr_rows_update(seg, s, row, scratch->row, scratch);
}

static void step(hr_segment *seg, const hr_tile_step *tile, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    hr_tile_step s = *tile; /* of one label */
    const uint64_t *end = tile->positives ? tile->positives + tile->num_positives : NULL;
    int64_t hits = 0;
    s.num_positives = 0;
    for (int64_t t = 0; t < rows; t++) {
        s.axis_row = tile->axis_row + t;
        s.bias = tile->bias ? tile->bias + t : NULL;
        s.bias_m = tile->bias_m ? tile->bias_m + t : NULL;
        s.bias_v = tile->bias_v ? tile->bias_v + t : NULL;
        s.positives += s.num_positives;
        for (s.num_positives = 0; s.positives + s.num_positives < end;)
            if ((int64_t)(s.positives[s.num_positives] >> 32) == s.axis_row)
                s.num_positives++;
            else
                break;
        if (t == 0 || (row + t) % seg->group == 0)
            hits = find_hits(seg, s.k, s.columns, row + t, scratch);
        step_label(seg, &s, row + t, hits, scratch);
    }
}

/* ---- the search ---- */

static bool scan(const hr_segment *seg, const hr_scan *a, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const hr_packed *x = a->x;
    const float zscale = hr_rows_scale(seg);
    int64_t hits = 0;
    for (int64_t r = 0; r < rows; r++) {
        if (r == 0 || (row + r) % seg->group == 0)
            hits = find_hits(seg, a->k, a->columns, row + r, s);
        if (hits < 0)
            return false;
        logits(seg, a->k, a->columns, row + r, hits, x->padded, s);
        const float bias = a->bias ? a->bias[r] : a->bias_scalar;
        const hrk_reach_args exact = {.zscale = zscale, .bias = bias};
        for (int64_t p = 0; p < x->padded; p += HRK_BP) {
            const uint32_t queries = x->rows - p < HRK_BP ? (UINT32_C(1) << (x->rows - p)) - 1 : UINT32_MAX;
            for (uint32_t left = a->k->reach(s->g + p, exact, x->x_error + p, x->x_size + p, a->limit + p) & queries; left; left &= left - 1) {
                const int64_t query = p + __builtin_ctz(left);
                const float z = fmaf(zscale, s->g[query], bias);
                if (z >= a->limit[query])
                    a->found(a->arg, r, query, z);
            }
        }
    }
    return true;
}

const hr_family hr_family_sparse_x = {.name = "fan_in over sparse X", .tile_rows = tile_rows, .step = step, .scan = scan};
