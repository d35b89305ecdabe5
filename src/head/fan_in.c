/* The fan-in family: a label has the same small number of inputs, its own (Schultheis & Babbar, ECML PKDD 2023) or those of its group
 * (HASTE, ICML 2026). Inputs are distinct and ascending.
 *
 * With inputs of its own: logits label by label; backward column by column, over the tile's weights sorted by column, so that a column of X
 * and of dX is in registers while the labels that read it pass. Shared: the group's columns are gathered once, and what follows are dense
 * products of group x width. dX is kept by columns, (instances / BP, dim, BP), and joins the block's partial at its end. */
#include "head/segment.h"

enum { OWN_TILE = 384, SHARED_TILE = 64, DIGIT = 1024 };

static int64_t tile_rows(const hr_segment_options *o, int64_t dim)
{
    int64_t t = OWN_TILE;
    const int64_t width = o->family == HR_FAMILY_FAN_IN ? o->fan_in : dim < HR_FAN_IN_MAX ? dim : HR_FAN_IN_MAX;
    while (t > 12 && t * width > 32768)
        t /= 2;
    return o->family == HR_FAMILY_FAN_IN && o->group > 1 ? SHARED_TILE : t;
}

/* ---- inputs ---- */

static int64_t shard_of(const hr_segment *seg, int64_t group)
{
    return group * seg->group / seg->shard_rows;
}

static void *stored_inputs(const hr_segment *seg, int64_t group)
{
    const int64_t shard = shard_of(seg, group), first = shard * seg->shard_rows / seg->group;
    const int64_t place = seg->starts ? hr_row_place(seg, group) : (group - first) * seg->width;
    return (uint8_t *)seg->inputs[shard] + (size_t)place * hr_input_bytes(seg->dim);
}

const void *hr_fan_in_stored(const hr_segment *seg, int64_t group)
{
    return stored_inputs(seg, group);
}

uint32_t hr_fan_in_read(const hr_segment *seg, int64_t group, uint32_t *out)
{
    const void *from = stored_inputs(seg, group);
    const int64_t width = hr_row_width(seg, group);
    uint32_t most = 0;
    if (hr_input_bytes(seg->dim) == sizeof(uint32_t)) {
        memcpy(out, from, (size_t)width * sizeof *out);
    } else {
        for (int64_t k = 0; k < width; k++)
            out[k] = ((const uint16_t *)from)[k];
    }
    for (int64_t k = 0; k < width; k++)
        most = out[k] > most ? out[k] : most;
    return most;
}

/* Those of a tile's groups; false: one lies outside the slice. */
static bool tile_inputs(const hr_segment *seg, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    uint32_t most = 0, *to = scratch->inputs;
    for (int64_t r = 0; r < rows; r += seg->group) {
        const uint32_t own = hr_fan_in_read(seg, (row + r) / seg->group, to);
        most = own > most ? own : most;
        scratch->input_at[r / seg->group] = to - scratch->inputs;
        to += hr_row_width(seg, row + r);
    }
    scratch->input_at[(rows + seg->group - 1) / seg->group] = to - scratch->inputs;
    return most < seg->dim;
}

void hr_fan_in_store(const hr_segment *seg, int64_t group, const uint32_t *inputs)
{
    void *to = stored_inputs(seg, group);
    for (int64_t k = 0, width = hr_row_width(seg, group); k < width; k++) {
        if (hr_input_bytes(seg->dim) == sizeof(uint32_t))
            ((uint32_t *)to)[k] = inputs[k];
        else
            ((uint16_t *)to)[k] = (uint16_t)inputs[k];
    }
}

/* A uniform choice of `width` of dim columns, by Floyd's algorithm (Bentley & Floyd, CACM 1987): draw j is one of the first
 * dim - width + j + 1 columns, or the last of these if it was drawn before. */
static void draw_inputs(hr_rng rng, uint32_t row, int64_t dim, int64_t width, uint32_t *inputs)
{
    enum { WORDS = HR_WIDTH_MAX / 64 };
    uint64_t drawn[WORDS];
    memset(drawn, 0, (size_t)((dim + 63) / 64) * sizeof *drawn);
    for (int64_t j = 0; j < width; j++) {
        uint32_t w[4];
        hr_rng_block(rng, row, (uint32_t)j, w);
        const uint64_t last = (uint64_t)(dim - width + j), at = ((uint64_t)w[0] * (last + 1)) >> 32;
        const uint64_t chosen = drawn[at / 64] >> at % 64 & 1 ? last : at;
        drawn[chosen / 64] |= UINT64_C(1) << chosen % 64;
    }
    for (int64_t word = 0; word < (dim + 63) / 64; word++)
        for (uint64_t left = drawn[word]; left; left &= left - 1)
            *inputs++ = (uint32_t)(word * 64 + __builtin_ctzll(left));
}

/* Each connection falls into a row of its own drawing; from one that is full on to the next. Stream 7 at the number of an impossible
 * step, counted by connections. */
void hr_fan_in_start(hr_segment *seg, uint64_t seed)
{
    const hr_rng rng = hr_rng_make(seed, UINT32_MAX, seg->tensor, HR_STREAM_REWIRE);
    const int64_t rows = seg->o.rows;
    uint32_t *count = seg->starts + 1; /* at first how many, then where the next row begins */
    for (int64_t i = 0; i < seg->o.connections; i++) {
        uint32_t w[4];
        hr_rng_block(rng, (uint32_t)(i >> 20), (uint32_t)(i & 0xfffff), w);
        int64_t row = (int64_t)((uint64_t)w[0] * (uint64_t)rows >> 32);
        while (count[row] == seg->width)
            row = (row + 1) % rows;
        count[row]++;
    }
    for (int64_t r = 0; r < rows; r++)
        seg->starts[r + 1] += seg->starts[r];
}

void hr_fan_in_init(hr_segment *seg, uint64_t seed, int64_t row, int64_t rows)
{
    const hr_rng rng = hr_rng_make(seed, 0, seg->tensor, HR_STREAM_REWIRE);
    uint32_t inputs[HR_FAN_IN_MAX];
    for (int64_t r = row; r < row + rows; r++) {
        if (r % seg->group)
            continue;
        draw_inputs(rng, (uint32_t)(seg->first_row + r), seg->dim, hr_row_width(seg, r), inputs);
        hr_fan_in_store(seg, r / seg->group, inputs);
    }
}

bool hr_fan_in_valid(const hr_segment *seg)
{
    uint32_t inputs[HR_FAN_IN_MAX];
    bool valid = !seg->starts || (seg->starts[0] == 0 && seg->starts[seg->o.rows] == seg->o.connections);
    for (int64_t r = 0; r < seg->o.rows && valid && seg->starts; r++)
        valid = seg->starts[r] <= seg->starts[r + 1] && hr_row_width(seg, r) <= seg->width;
    for (int64_t r = 0; r < seg->o.rows && valid; r += seg->group) {
        valid = hr_fan_in_read(seg, r / seg->group, inputs) < seg->dim;
        for (int64_t k = 1; k < hr_row_width(seg, r); k++)
            valid = valid && inputs[k - 1] < inputs[k];
    }
    return valid;
}

/* ---- logits ---- */

/* Labels [r, r + n) of the tile as left operand: rows, sums over their inputs. */
static hrk_left weights(const hr_tile_scratch *s, int64_t rows, int64_t r)
{
    return (hrk_left){.a = s->w + r * HRK_DP, .row = HRK_DP, .step = 1, .kb = HRK_DP, .block = rows * HRK_DP};
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows of one width go to a kernel together; unstructured ones, each of its own, one by one. */
static void own_logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const int64_t some = seg->starts ? 1 : rows;
    for (int64_t p = 0; p < x->padded / HRK_BP; p++)
        for (int64_t r = 0; r < rows; r += some)
            k->fan_logits(some, hr_row_width(seg, row + r), s->inputs + s->input_at[r], weights(s, rows, r), x->xt + p * x->xt_step,
                          s->g + (p * rows + r) * HRK_BP);
}

/* The columns of a tile's groups, for one product after the other. */
static void gather_groups(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t rows, hr_tile_scratch *s)
{
    const int64_t panels = x->padded / HRK_BP;
    for (int64_t group = 0; group * seg->group < rows; group++)
        for (int64_t p = 0; p < panels; p++)
            k->gather(seg->width, s->inputs + group * seg->width, x->xt + p * x->xt_step,
                      s->xg + (group * panels + p) * seg->width * HRK_BP);
}

static bool logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const int64_t panels = x->padded / HRK_BP;
    if (!tile_inputs(seg, row, rows, s))
        return false;
    if (seg->group == 1) {
        own_logits(seg, k, x, row, rows, s);
        return true;
    }
    gather_groups(seg, k, x, rows, s);
    for (int64_t r = 0; r < rows; r += seg->group)
        for (int64_t p = 0; p < panels; p++)
            k->gemm_panel_bp(smaller(rows - r, seg->group), seg->width, weights(s, rows, r),
                             s->xg + (r / seg->group * panels + p) * seg->width * HRK_BP, s->g + (p * rows + r) * HRK_BP, HRK_BP, 1.0f, 0);
    return true;
}

/* Of IP instances from panel p on. */
static void own_int8_logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, int64_t p,
                            hr_tile_scratch *s)
{
    const int64_t some = seg->starts ? 1 : rows, padded = (seg->width + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t r = 0; r < rows; r += some)
        k->fan_i8(some, hr_row_width(seg, row + r), s->inputs + s->input_at[r],
                  (hrk_fan_i8_args){.w = s->wq + r * padded, .w_sum = s->w_sum + r, .w_scale = s->w_scale + r, .pitch = HRK_IP,
                                    .xc = x->xc + p / 2 * x->xc_step, .x_scale = x->x_scale + p * HRK_BP, .step = rows * HRK_BP,
                                    .c = s->g + (p * rows + r) * HRK_BP, .panels = x->padded / HRK_BP - p > 1 ? 2 : 1});
}

static void shared_int8_logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t rows, int64_t p, hr_tile_scratch *s)
{
    const int64_t padded = (seg->width + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t r = 0; r < rows; r += seg->group) {
        k->gather_i8(seg->width, s->inputs + r / seg->group * seg->width, x->xc + p / 2 * x->xc_step, HRK_IP, s->xgq);
        for (int64_t i = p; i < smaller(p + 2, x->padded / HRK_BP); i++)
            k->gemm_i8(smaller(rows - r, seg->group), (seg->width + 3) / 4, s->wq + r * padded, padded, s->w_sum + r, s->w_scale + r,
                       s->xgq + (i - p) * padded * HRK_BP, x->x_scale + i * HRK_BP, s->g + (i * rows + r) * HRK_BP, s->xgq, 0);
    }
}

static bool int8_logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    if (!tile_inputs(seg, row, rows, s))
        return false;
    for (int64_t p = 0; p < x->padded / HRK_BP; p += HRK_IP / HRK_BP) {
        if (seg->group == 1)
            own_int8_logits(seg, k, x, row, rows, p, s);
        else
            shared_int8_logits(seg, k, x, rows, p, s);
    }
    return true;
}

static bool dot(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, int64_t query, float *out)
{
    uint32_t inputs[HR_FAN_IN_MAX];
    float xg[HR_FAN_IN_MAX];
    const float *from = x->x + query * x->x_step;
    for (int64_t r = row, next; r < row + rows; r = next) {
        next = smaller(row + rows, (r / seg->group + 1) * seg->group);
        if (hr_fan_in_read(seg, r / seg->group, inputs) >= seg->dim)
            return false;
        const int64_t width = hr_row_width(seg, r);
        for (int64_t i = 0; i < width; i++)
            xg[i] = from[inputs[i]];
        k->dot(next - r, width, hr_segment_row(seg, r), seg->pitch, seg->o.dtype.id == HR_I8R ? hr_segment_scale(seg, r) : NULL,
               seg->o.dtype, xg, out + (r - row));
    }
    return true;
}

/* ---- backward ---- */

/* One pass of a counting sort by a digit of the column; stable. */
static void sort_digit(int64_t n, const hrk_link *from, hrk_link *to, int shift)
{
    int32_t start[DIGIT + 1] = {0};
    for (int64_t i = 0; i < n; i++)
        start[(from[i].column >> shift) % DIGIT + 1]++;
    for (int i = 0; i < DIGIT; i++)
        start[i + 1] += start[i];
    for (int64_t i = 0; i < n; i++)
        to[start[(from[i].column >> shift) % DIGIT]++] = from[i];
}

/* The tile's weights by column, those of a column in the order of the labels. */
static const hrk_link *sort_links(const hr_segment *seg, int64_t rows, float scale, hr_tile_scratch *s)
{
    const int64_t n = s->input_at[rows];
    hrk_link *l = s->links;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t k = 0; k < s->input_at[t + 1] - s->input_at[t]; k++) {
            const int64_t slot = (k / HRK_DP * rows + t) * HRK_DP + k % HRK_DP;
            *l++ = (hrk_link){.column = s->inputs[s->input_at[t] + k], .row = (uint32_t)t, .slot = (uint32_t)slot, .w = scale * s->w[slot]};
        }
    sort_digit(n, s->links, s->sorted, 0);
    if (seg->dim <= DIGIT)
        return s->sorted;
    sort_digit(n, s->sorted, s->links, 10);
    return s->links;
}

static void own_backward(const hr_segment *seg, const hr_tile_step *step, int64_t rows, hr_tile_scratch *s)
{
    const hr_packed *x = step->x;
    const int64_t panels = x->padded / HRK_BP, dx_step = seg->dim * HRK_BP;
    const hrk_link *links = sort_links(seg, rows, hr_rows_scale(seg), s);
    for (int64_t first = 0; first < s->input_at[rows]; first += HR_LINKS) /* so many that their chains stay in the cache */
        for (int64_t p = 0; p < panels; p += HRK_FAN_PANELS) {
            const int64_t n = smaller(panels - p, HRK_FAN_PANELS);
            step->k->fan_backward(smaller(s->input_at[rows] - first, HR_LINKS), links + first,
                                  (hrk_fan_args){.g = s->g + p * rows * HRK_BP, .x = x->xt + p * x->xt_step, .dx = s->dxt + p * dx_step,
                                                 .chains = s->chains, .dw = s->dw, .panels = n, .g_step = rows * HRK_BP,
                                                 .x_step = x->xt_step, .dx_step = dx_step, .first = p == 0, .last = p + n == panels});
        }
}

/* dX of a group's columns, 64 of them at a time: the sum over its labels, then into their places. */
static void shared_dx(const hr_segment *seg, const hr_tile_step *step, int64_t rows, int64_t r, hr_tile_scratch *s)
{
    float into[HRK_DP * HRK_BP] __attribute__((aligned(64)));
    const int64_t n = smaller(rows - r, seg->group), panels = step->x->padded / HRK_BP;
    const uint32_t *inputs = s->inputs + r / seg->group * seg->width;
    const float scale = hr_rows_scale(seg);
    for (int64_t q = 0; q < seg->width; q += HRK_DP) {
        const int64_t m = smaller(seg->width - q, HRK_DP);
        const hrk_left left = {.a = s->w + (q / HRK_DP * rows + r) * HRK_DP, .row = 1, .step = HRK_DP, .kb = n, .block = 0};
        for (int64_t p = 0; p < panels; p++) {
            step->k->gemm_panel_bp(m, n, left, s->g + (p * rows + r) * HRK_BP, into, HRK_BP, scale, 0);
            step->k->scatter(m, inputs + q, into, s->dxt + p * seg->dim * HRK_BP);
        }
    }
}

static void shared_dw(const hr_segment *seg, const hr_tile_step *step, int64_t rows, int64_t r, hr_tile_scratch *s)
{
    const int64_t n = smaller(rows - r, seg->group), panels = step->x->padded / HRK_BP;
    const float *xg = s->xg + r / seg->group * panels * seg->width * HRK_BP;
    for (int64_t q = 0; q < seg->width; q += HRK_DP)
        step->k->dots(n, smaller(seg->width - q, HRK_DP), panels, s->g + r * HRK_BP, rows * HRK_BP, xg + q * HRK_BP,
                      seg->width * HRK_BP, s->dw + (q / HRK_DP * rows + r) * HRK_DP, HRK_DP);
}

/* G beyond the batch is whatever the padding's logits gave; X is zero there, so only dX could see it, in instances that are not read. */
static void backward(const hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const bool fresh = step->sparse || step->dh; /* no logits() came before, that would have left inputs and their columns in the scratch */
    s->dxt_used = true;
    if (fresh) {
        const bool valid = tile_inputs(seg, row, rows, s);
        (void)valid; /* checked after every load */
    }
    if (seg->group == 1) {
        own_backward(seg, step, rows, s);
        return;
    }
    if (fresh)
        gather_groups(seg, step->k, step->x, rows, s);
    for (int64_t r = 0; r < rows; r += seg->group) {
        shared_dx(seg, step, rows, r, s);
        shared_dw(seg, step, rows, r, s);
    }
}

static const float *dw_of(const hr_segment *seg, const hr_tile_step *step, int64_t rows, int64_t q, int64_t r, int64_t n,
                          hr_tile_scratch *scratch, float *into)
{
    (void)seg, (void)step, (void)n, (void)into;
    return scratch->dw + (q * rows + r) * HRK_DP;
}

/* Columns to rows, added to the block's partial; zeros stay behind. */
static void settle(const hr_segment *seg, const hr_tile_step *step, hr_tile_scratch *s)
{
    const hr_packed *x = step->x;
    if (!s->dxt_used)
        return;
    s->dxt_used = false;
    for (int64_t b0 = 0; b0 < x->rows; b0 += HRK_BP) {
        float *from = s->dxt + b0 * seg->dim;
        const int64_t n = smaller(x->rows - b0, HRK_BP);
        for (int64_t d0 = 0; d0 < seg->dim; d0 += HRK_DP) {
            float *to = step->dx + d0 * x->rows + b0 * HRK_DP;
            step->k->add_transposed(n, smaller(seg->dim - d0, HRK_DP), from + d0 * HRK_BP, to);
        }
        memset(from, 0, (size_t)(seg->dim * HRK_BP) * sizeof *from);
    }
}

/* ---- lists ---- */

static void lists_begin(const hr_deferred *d, hr_tile_scratch *scratch)
{
    const hr_segment *seg = d->seg;
    hr_backlog *b = &scratch->backlog;
    const float scale = hr_rows_scale(seg);
    for (int64_t m = d->first; m < d->last; m++) {
        const int64_t row = b->label[m];
        float *sw = b->sw + m * seg->width;
        const int64_t width = hr_row_width(seg, row);
        d->step.k->decode(width, hr_segment_row(seg, row), seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f,
                          seg->o.dtype, sw);
        for (int64_t k = 0; k < width; k++)
            sw[k] *= scale;
        b->input[m] = hr_row_place(seg, row / seg->group);
        b->at[m] = 0;
    }
    memset(b->dw + d->first * seg->width, 0, (size_t)((d->last - d->first) * seg->width) * sizeof(float));
}

static void lists_panels(const hr_deferred *d, int64_t first, int64_t end, hr_tile_scratch *scratch)
{
    (void)first;
    const hr_segment *seg = d->seg;
    const hr_backlog *b = &scratch->backlog;
    const int64_t some = seg->starts ? 1 : d->last - d->first; /* rows of one width */
    for (int64_t m = d->first; m < d->last; m += some) {
        const hrk_lists l = hr_lists_of(b, m, some);
        d->step.k->fan_lists(&l, hr_row_width(seg, b->label[m]),
                             (hrk_fan_lists_args){.inputs = seg->inputs[0], .wide = hr_input_bytes(seg->dim) == sizeof(uint32_t),
                                                  .input = b->input + m, .at = b->at + m, .sw = b->sw + m * seg->width,
                                                  .dw = b->dw + m * seg->width, .x = d->step.x->xp, .dx = d->to,
                                                  .step = d->step.x->rows * HRK_DP, .end = (uint32_t)(end * HRK_DP)});
    }
}

static void lists_end(const hr_deferred *d, hr_tile_scratch *scratch)
{
    enum { STRIP = 32 };
    uint16_t draws[STRIP * HRK_DP] __attribute__((aligned(64)));
    const hr_tile_step *s = &d->step;
    hr_segment *seg = d->seg;
    hr_backlog *b = &scratch->backlog;
    const hrk_sgd_args args = hr_rows_sgd_args(seg, s);
    const bool dithered = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32;
    for (int64_t m = d->first; m < d->last && hr_rows_whole(seg); m++)
        hr_rows_update(seg, s, b->label[m], b->dw + m * seg->width, scratch);
    for (int64_t m = d->first; m < d->last && !hr_rows_whole(seg); m += STRIP) {
        const int64_t n = smaller(d->last - m, STRIP);
        for (int64_t k = 0; k < seg->width; k += HRK_DP) {
            if (dithered)
                s->k->draws_panel(s->rng, (uint32_t)seg->first_row, n, b->label + m, k, draws);
            for (int64_t i = 0; i < n; i++)
                s->k->sgd(smaller(seg->width - k, HRK_DP), hr_segment_row(seg, b->label[m + i]) + (size_t)k * args.dtype.bytes,
                          b->dw + (m + i) * seg->width + k, draws + i * HRK_DP, args);
        }
    }
}

const hr_family hr_family_fan_in = {
    .name = "fan_in",
    .tile_rows = tile_rows,
    .logits = logits,
    .int8_logits = int8_logits,
    .dx = backward,
    .dw = dw_of,
    .settle = settle,
    .lists_begin = lists_begin,
    .lists_panels = lists_panels,
    .lists_end = lists_end,
    .dot = dot,
};
