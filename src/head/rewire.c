/* Connections that move: the weakest of a segment, or of each label, give way to columns that the label does not read yet.
 *
 * A slot is one input of a label, or of a group that shares its inputs. The weakest share of all slots is found by a radix selection on
 * 48-bit keys, 12 bits at a time: the size of the weight as f32, then a draw of stream 7, so that of many equal ones, as low precision
 * has them, any may go. No array of keys is made. */
#include "head/internal.h"

enum { DIGIT_BITS = 12, KEY_BITS = 48, DRAW_COLUMN = 1 << 20 }; /* from this column on, draws choose columns and values */

typedef struct rewire_work {
    hr_head *head;
    const hr_rewire *r;
    int segment;
    uint64_t prefix, limit; /* keys that begin with prefix are counted; those below limit go */
    int shift;
    float gscale;
} rewire_work;

static hr_rng rng_of(const rewire_work *w, const hr_segment *seg)
{
    return hr_rng_make(w->head->o.seed, w->r->step + 1, seg->tensor, HR_STREAM_REWIRE); /* step 0 drew the first inputs */
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Keys of a group's slots: the mean of |w| over its rows, in code units, above a draw. */
static double group_keys(const rewire_work *w, const hr_segment *seg, int64_t row, hr_rewire_slots *s)
{
    const int64_t rows = smaller(seg->group, seg->o.rows - row);
    double sum = 0;
    const int64_t width = hr_row_width(seg, row);
    memset(s->size, 0, (size_t)width * sizeof *s->size);
    for (int64_t r = row; r < row + rows; r++) {
        w->head->k.decode(width, hr_segment_row(seg, r), seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, r) : 1.0f, seg->o.dtype,
                          s->value);
        for (int64_t k = 0; k < width; k++)
            s->size[k] += fabsf(s->value[k]);
    }
    w->head->k.draws(rng_of(w, seg), (uint32_t)(seg->first_row + row), width, s->draw);
    for (int64_t k = 0; k < width; k++) {
        uint32_t bits;
        s->size[k] /= (float)rows;
        sum += s->size[k];
        memcpy(&bits, &s->size[k], sizeof bits);
        s->key[k] = (uint64_t)bits << 16 | s->draw[k];
    }
    return sum;
}

typedef void group_fn(const rewire_work *w, hr_segment *seg, int64_t row, hr_tile_scratch *scratch);

/* The groups of the segment that begin in a block. */
static void each_group(const rewire_work *w, int64_t block, hr_tile_scratch *scratch, group_fn *run)
{
    hr_segment *seg = &w->head->segment[w->segment];
    const int64_t first = block * w->head->block_rows - seg->first_row, end = smaller(first + w->head->block_rows, seg->o.rows);
    for (int64_t row = first > 0 ? first : 0; row < end; row += seg->group)
        run(w, seg, row, scratch);
}

/* ---- the weakest of a segment ---- */

static void count_group(const rewire_work *w, hr_segment *seg, int64_t row, hr_tile_scratch *scratch)
{
    const uint64_t *key = scratch->slots->key;
    (void)group_keys(w, seg, row, scratch->slots);
    for (int64_t k = 0, width = hr_row_width(seg, row); k < width; k++)
        if (key[k] >> w->shift >> DIGIT_BITS == w->prefix)
            scratch->histogram[key[k] >> w->shift & (HR_REWIRE_BINS - 1)]++;
}

static void count_block(void *arg, int64_t block, int worker)
{
    const rewire_work *w = arg;
    hr_tile_scratch scratch = hr_head_scratch(w->head, worker);
    each_group(w, block, &scratch, count_group);
}

/* The largest key below which lie at most `wanted` slots; fewer only if several have that key. */
static uint64_t select_limit(rewire_work *w, int64_t wanted)
{
    hr_head *head = w->head;
    const int threads = hr_ctx_threads(head->ctx);
    w->prefix = 0;
    for (w->shift = KEY_BITS - DIGIT_BITS; w->shift >= 0; w->shift -= DIGIT_BITS) {
        for (int t = 0; t < threads; t++)
            memset(hr_head_scratch(head, t).histogram, 0, HR_REWIRE_BINS * sizeof(int64_t));
        hr_parallel_for(head->ctx, head->blocks, count_block, w);
        uint64_t bin = 0;
        for (; bin + 1 < HR_REWIRE_BINS; bin++) {
            int64_t count = 0;
            for (int t = 0; t < threads; t++)
                count += hr_head_scratch(head, t).histogram[bin];
            if (count > wanted)
                break;
            wanted -= count;
        }
        w->prefix = w->prefix << DIGIT_BITS | bin;
    }
    return w->prefix;
}

/* ---- what goes ---- */

/* The weakest (or strongest) of the slots that are marked (or not). */
static int64_t extreme(int64_t width, const uint64_t *key, const bool *marks, bool marked, bool strongest)
{
    int64_t found = -1;
    for (int64_t k = 0; k < width; k++)
        if (marks[k] == marked && (found < 0 || (strongest ? key[k] > key[found] : key[k] < key[found])))
            found = k;
    return found;
}

/* The slots of a group that go, as marks; how many, at most `most`. */
static int64_t mark_pruned(const rewire_work *w, int64_t width, const uint64_t *key, int64_t most, bool *gone)
{
    const bool per_label = w->r->prune == HR_PRUNE_PER_LABEL;
    const int64_t own = smaller((int64_t)((double)w->r->amount * (double)width), most);
    int64_t count = 0;
    for (int64_t k = 0; k < width; k++) {
        gone[k] = !per_label && key[k] < w->limit;
        count += gone[k];
    }
    for (; per_label && count < own; count++)
        gone[extreme(width, key, gone, false, false)] = true;
    for (; count > most; count--)
        gone[extreme(width, key, gone, true, true)] = false;
    return count;
}

/* ---- what comes ---- */

/* The columns that a group does not read, as bits. */
static void free_columns(int64_t dim, const uint32_t *inputs, int64_t width, uint64_t *bits)
{
    memset(bits, 0xff, (size_t)((dim + 63) / 64) * sizeof *bits);
    if (dim % 64)
        bits[dim / 64] = (UINT64_C(1) << dim % 64) - 1;
    for (int64_t k = 0; k < width; k++)
        bits[inputs[k] / 64] &= ~(UINT64_C(1) << inputs[k] % 64);
}

/* The column of the n-th bit that is set. */
static uint32_t nth_column(const uint64_t *bits, int64_t n)
{
    int64_t word = 0;
    for (int64_t have; (have = __builtin_popcountll(bits[word])) <= n; word++)
        n -= have;
    uint64_t left = bits[word];
    for (; n > 0; n--)
        left &= left - 1;
    return (uint32_t)(word * 64 + __builtin_ctzll(left));
}

/* `count` of the free columns, uniformly: one after the other, of those that are left. */
static void grow_random(hr_rng rng, uint32_t row, int64_t candidates, int64_t count, uint64_t *bits, uint32_t *grown)
{
    for (int64_t i = 0; i < count; i++, candidates--) {
        uint32_t word[4];
        hr_rng_block(rng, row, (uint32_t)(DRAW_COLUMN + i), word);
        grown[i] = nth_column(bits, (int64_t)((uint64_t)word[0] * (uint64_t)candidates >> 32));
        bits[grown[i] / 64] &= ~(UINT64_C(1) << grown[i] % 64);
    }
}

/* Those of the largest gradient, of equal ones the first: a list of the best so far, best first. */
static void grow_gradient(int64_t dim, const float *size, int64_t count, const uint64_t *bits, uint32_t *grown)
{
    int64_t have = 0;
    for (uint32_t column = 0; column < (uint32_t)dim; column++) {
        if (!(bits[column / 64] >> column % 64 & 1) || (have == count && !(size[column] > size[grown[count - 1]])))
            continue;
        int64_t at = have < count ? have++ : count - 1;
        for (; at > 0 && size[column] > size[grown[at - 1]]; at--)
            grown[at] = grown[at - 1];
        grown[at] = column;
    }
}

/* ---- the move ---- */

/* The elements of a row in their new places; `from[k]` is where the one at k was, -1: new; `old` has room for a row. */
static void move_row(int64_t width, size_t bytes, const int32_t *from, uint8_t *old, uint8_t *row)
{
    memcpy(old, row, (size_t)width * bytes);
    for (int64_t k = 0; k < width; k++) {
        if (from[k] < 0)
            memset(row + (size_t)k * bytes, 0, bytes);
        else
            memcpy(row + (size_t)k * bytes, old + (size_t)from[k] * bytes, bytes);
    }
}

/* The value of a new weight, on the grid of its type. */
static void init_new(const rewire_work *w, const hr_segment *seg, int64_t row, int64_t k)
{
    const float unit = w->r->init / hr_rows_scale(seg), scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    const uint16_t draw = hr_rng_draw16(rng_of(w, seg), (uint32_t)(seg->first_row + row), (uint32_t)(2 * DRAW_COLUMN + k));
    const float u = ((float)draw - 32767.5f) * 0x1p-15f * unit, most = 127.0f * scale;
    const float v = seg->o.dtype.id != HR_I8R ? hr_dtype_round(seg->o.dtype, HR_ROUND_NEAREST, u, 0) : u < -most ? -most : u > most ? most : u;
    hr_dtype_store(seg->o.dtype, hr_segment_row(seg, row), k, v, scale);
}

static void sort_columns(int64_t count, uint32_t *column) /* few: insertion */
{
    for (int64_t i = 1; i < count; i++)
        for (int64_t j = i; j > 0 && column[j - 1] > column[j]; j--) {
            const uint32_t swap = column[j];
            column[j] = column[j - 1];
            column[j - 1] = swap;
        }
}

static void move_group(const rewire_work *w, hr_segment *seg, int64_t row, int64_t count, hr_rewire_slots *s)
{
    sort_columns(count, s->grown);
    for (int64_t k = 0, old = 0, next = 0; k < seg->width; k++) {
        while (old < seg->width && s->gone[old])
            old++;
        const bool is_new = next < count && (old == seg->width || s->grown[next] < s->inputs[old]);
        s->fresh[k] = is_new ? s->grown[next++] : s->inputs[old];
        s->from[k] = is_new ? -1 : (int32_t)old++;
    }
    hr_fan_in_store(seg, row / seg->group, s->fresh);
    for (int64_t r = row; r < smaller(row + seg->group, seg->o.rows); r++) {
        const size_t at = (size_t)r * (size_t)seg->width, state = seg->o.state_dtype.bytes;
        move_row(seg->width, seg->o.dtype.bytes, s->from, s->old, hr_segment_row(seg, r));
        if (seg->comp)
            move_row(seg->width, sizeof *seg->comp, s->from, s->old, (uint8_t *)(seg->comp + at));
        if (seg->momentum)
            move_row(seg->width, state, s->from, s->old, (uint8_t *)seg->momentum + at * state);
        if (seg->second)
            move_row(seg->width, state, s->from, s->old, (uint8_t *)seg->second + at * state);
        for (int64_t k = 0; k < seg->width && w->r->init > 0; k++)
            if (s->from[k] < 0)
                init_new(w, seg, r, k);
    }
}

/* One group; `gradient` (dim): sizes of its gradient, or NULL. */
static void rewire_group(const rewire_work *w, hr_segment *seg, int64_t row, const float *gradient, hr_tile_scratch *scratch,
                         hr_rewire_part *part)
{
    hr_rewire_slots *s = scratch->slots;
    const int64_t candidates = seg->dim - seg->width;
    part->weight += group_keys(w, seg, row, s) * hr_rows_scale(seg);
    part->slots += seg->width;
    const int64_t count = mark_pruned(w, seg->width, s->key, candidates, s->gone);
    if (count == 0)
        return;
    part->moved += count;
    (void)hr_fan_in_read(seg, row / seg->group, s->inputs);
    free_columns(seg->dim, s->inputs, seg->width, scratch->unread);
    if (gradient)
        grow_gradient(seg->dim, gradient, count, scratch->unread, s->grown);
    else
        grow_random(rng_of(w, seg), (uint32_t)(seg->first_row + row), candidates, count, scratch->unread, s->grown);
    move_group(w, seg, row, count, s);
}

/* ---- unstructured ---- */

/* Which connections of a block's rows go; how many. */
static int64_t mark_block(const rewire_work *w, const hr_segment *seg, int64_t row, int64_t end, hr_tile_scratch *s, hr_rewire_part *part)
{
    int64_t count = 0;
    for (int64_t r = row; r < end; r++) {
        const int64_t width = hr_row_width(seg, r);
        part->weight += group_keys(w, seg, r, s->slots) * hr_rows_scale(seg);
        count += mark_pruned(w, width, s->slots->key, width, s->gone + (seg->starts[r] - seg->starts[row]));
    }
    part->slots += seg->starts[end] - seg->starts[row];
    part->moved += count;
    return count;
}

/* How many connections each row will have: those that stay, and its share of the new ones, each falling into a row of its own drawing. */
static void count_rows(const rewire_work *w, const hr_segment *seg, int64_t row, int64_t end, int64_t fresh, hr_tile_scratch *s)
{
    const uint32_t first = seg->starts[row];
    for (int64_t r = row; r < end; r++) {
        s->new_count[r - row] = 0;
        for (uint32_t i = seg->starts[r]; i < seg->starts[r + 1]; i++)
            s->new_count[r - row] += !s->gone[i - first];
    }
    for (int64_t i = 0; i < fresh; i++) {
        uint32_t word[4];
        hr_rng_block(rng_of(w, seg), (uint32_t)(seg->first_row + row), (uint32_t)(3 * DRAW_COLUMN + i), word);
        int64_t r = (int64_t)((uint64_t)word[0] * (uint64_t)(end - row) >> 32);
        while (s->new_count[r] == seg->width)
            r = (r + 1) % (end - row);
        s->new_count[r]++;
    }
}

/* The inputs of a row's new connections, merged with those that stay, and where each was in the block, -1: new. */
static void merge_row(const rewire_work *w, const hr_segment *seg, int64_t row, int64_t r, uint32_t at, hr_tile_scratch *s)
{
    uint64_t *bits = s->unread;
    uint32_t *inputs = s->slots->inputs, *grown = s->slots->grown;
    const int64_t width = hr_row_width(seg, r), base = seg->starts[r] - seg->starts[row], count = s->new_count[r - row];
    int64_t kept = 0;
    (void)hr_fan_in_read(seg, r, inputs);
    for (int64_t k = 0; k < width; k++)
        kept += !s->gone[base + k];
    free_columns(seg->dim, inputs, width, bits);
    int64_t candidates = seg->dim - width;
    for (int64_t k = 0; k < width && count - kept > candidates; k++) /* too few others: it may grow what it has lost */
        if (s->gone[base + k]) {
            bits[inputs[k] / 64] |= UINT64_C(1) << inputs[k] % 64;
            candidates++;
        }
    grow_random(rng_of(w, seg), (uint32_t)(seg->first_row + r), candidates, count - kept, bits, grown);
    sort_columns(count - kept, grown);
    for (int64_t k = 0, old = 0, next = 0; k < count; k++) {
        while (old < width && s->gone[base + old])
            old++;
        const bool is_new = next < count - kept && (old == width || grown[next] < inputs[old]);
        s->new_from[at + k] = is_new ? -1 : base + old;
        s->new_input[at + k] = is_new ? grown[next++] : inputs[old++];
    }
}

/* An array of the block's connections in its new order. */
static void move_block(int64_t n, size_t bytes, uint8_t *data, hr_tile_scratch *s)
{
    memcpy(s->old, data, (size_t)n * bytes);
    for (int64_t i = 0; i < n; i++) {
        if (s->new_from[i] < 0)
            memset(data + (size_t)i * bytes, 0, bytes);
        else
            memcpy(data + (size_t)i * bytes, (uint8_t *)s->old + (size_t)s->new_from[i] * bytes, bytes);
    }
}

static void rewire_rows(const rewire_work *w, hr_segment *seg, int64_t row, int64_t end, hr_tile_scratch *s, hr_rewire_part *part)
{
    const int64_t fresh = mark_block(w, seg, row, end, s, part), first = seg->starts[row], n = seg->starts[end] - first;
    const size_t state = seg->o.state_dtype.bytes;
    uint32_t at = 0;
    count_rows(w, seg, row, end, fresh, s);
    for (int64_t r = row; r < end; r++) {
        merge_row(w, seg, row, r, at, s);
        at += s->new_count[r - row];
    }
    move_block(n, seg->o.dtype.bytes, seg->codes[0] + (size_t)first * seg->o.dtype.bytes, s);
    if (seg->comp)
        move_block(n, sizeof *seg->comp, (uint8_t *)(seg->comp + first), s);
    if (seg->momentum)
        move_block(n, state, (uint8_t *)seg->momentum + (size_t)first * state, s);
    if (seg->second)
        move_block(n, state, (uint8_t *)seg->second + (size_t)first * state, s);
    at = s->new_count[0];
    for (int64_t r = row + 1; r < end; r++) { /* the first row begins where it did, and the block before reads that */
        seg->starts[r] = (uint32_t)first + at;
        at += s->new_count[r - row];
    }
    for (int64_t r = row; r < end; r++) {
        const uint32_t place = seg->starts[r] - (uint32_t)first;
        hr_fan_in_store(seg, r, s->new_input + place);
        for (int64_t k = 0; k < hr_row_width(seg, r) && w->r->init > 0; k++)
            if (s->new_from[place + k] < 0)
                init_new(w, seg, r, k);
    }
}

/* ---- the gradient at all columns ---- */

/* Sizes of the gradient of rows [r, r + n) of a tile at all columns: |dW|, of shared inputs summed over the group, into scratch->grow. */
static void gradient_sizes(const hr_segment *seg, const hr_tile_step *s, int64_t rows, int64_t r, int64_t n, hr_tile_scratch *scratch)
{
    const hr_packed *x = s->x;
    float dw[HR_GROW_ROWS * HRK_DP];
    const int64_t pitch = x->dim_padded;
    memset(scratch->grow, 0, (size_t)((seg->group > 1 ? 1 : n) * pitch) * sizeof(float));
    for (int64_t q = 0; q < pitch / HRK_DP; q++)
        for (int64_t i = 0; i < n; i += HR_GROW_ROWS) {
            const int64_t m = smaller(n - i, HR_GROW_ROWS);
            const hrk_left left = {.a = scratch->g + (r + i) * HRK_BP, .row = HRK_BP, .step = 1, .kb = HRK_BP, .block = rows * HRK_BP};
            s->k->gemm_panel_dp(m, x->rows, left, x->xp + q * x->rows * HRK_DP, dw, HRK_DP, 1.0f, 0);
            for (int64_t j = 0; j < m; j++) {
                float *size = scratch->grow + (seg->group > 1 ? 0 : i + j) * pitch + q * HRK_DP;
                for (int64_t d = 0; d < HRK_DP; d++)
                    size[d] += fabsf(dw[j * HRK_DP + d]);
            }
        }
}

/* A tile with the batch's gradient: what the step computes up to G, then all columns of a few labels, or of a group, at a time. */
static void rewire_tile(const rewire_work *w, hr_segment *seg, hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch,
                        hr_rewire_part *part)
{
    hr_tile_decode(seg, s->k, row, rows, scratch);
    seg->family->logits(seg, s->k, s->x, row, rows, scratch);
    hr_tile_gradient(seg, s, rows, scratch);
    const int64_t step = seg->group > 1 ? seg->group : HR_GROW_ROWS;
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = smaller(rows - r, step);
        gradient_sizes(seg, s, rows, r, n, scratch);
        for (int64_t i = 0; i < n; i += seg->group)
            rewire_group(w, seg, row + r + i, scratch->grow + (seg->group > 1 ? 0 : i) * s->x->dim_padded, scratch, part);
    }
}

static void rewire_block(void *arg, int64_t block, int worker)
{
    const rewire_work *w = arg;
    hr_head *head = w->head;
    hr_segment *seg = &head->segment[w->segment];
    hr_tile_scratch scratch = hr_head_scratch(head, worker);
    hr_rewire_part *part = &head->rewire_part[block];
    const int64_t first = block * head->block_rows - seg->first_row, end = smaller(first + head->block_rows, seg->o.rows);
    if (seg->starts && end > (first > 0 ? first : 0)) {
        rewire_rows(w, seg, first > 0 ? first : 0, end, &scratch, part);
        return;
    }
    if (w->r->grow == HR_GROW_RANDOM) {
        for (int64_t row = first > 0 ? first : 0; row < end; row += seg->group)
            rewire_group(w, seg, row, NULL, &scratch, part);
        return;
    }
    hr_tile_step s;
    for (int64_t row = first > 0 ? first : 0, rows; row < end; row += rows) {
        rows = smaller(end - row, seg->family->tile_rows(&seg->o, seg->dim));
        s = hr_head_tile_step(head, w->r->batch, w->segment, seg->first_row + row, rows, w->gscale);
        rewire_tile(w, seg, &s, row, rows, &scratch, part);
    }
}

/* ---- all of it ---- */

/* Slots below a size of real weights. */
static uint64_t key_of_size(const hr_segment *seg, float size)
{
    uint32_t bits;
    const float units = size / hr_rows_scale(seg);
    memcpy(&bits, &units, sizeof bits);
    return (uint64_t)bits << 16;
}

hr_status hr_head_rewire(hr_head *head, const hr_rewire *r, hr_rewire_counts *out)
{
    rewire_work w = {.head = head, .r = r};
    *out = (hr_rewire_counts){0};
    if (!head->o.rewire)
        return hr_fail(head->ctx, HR_ERR_BUG, "head: rewiring was not booked");
    if (r->grow == HR_GROW_GRADIENT && (head->packed.xt || head->packed.xt16)) {
        hr_head_pack(head, r->batch->rows, r->batch->x, HR_PACK_FORWARD | HR_PACK_BACKWARD);
        w.gscale = (float)hr_head_loss_factor(&head->o, r->batch);
    }
    double sum = 0;
    for (w.segment = 0; w.segment < head->o.num_segments; w.segment++) {
        hr_segment *seg = &head->segment[w.segment];
        if (seg->o.family == HR_FAMILY_DENSE)
            continue;
        if (seg->starts && r->grow == HR_GROW_GRADIENT)
            return hr_fail(head->ctx, HR_ERR_CONFIG, "head: unstructured connections grow at random only");
        const int64_t slots = seg->starts ? seg->o.connections : (seg->o.rows + seg->group - 1) / seg->group * seg->width;
        if (r->prune == HR_PRUNE_FRACTION)
            w.limit = select_limit(&w, (int64_t)((double)r->amount * (double)slots));
        else
            w.limit = key_of_size(seg, r->amount);
        memset(head->rewire_part, 0, (size_t)head->blocks * sizeof *head->rewire_part);
        hr_parallel_for(head->ctx, head->blocks, rewire_block, &w);
        for (int64_t v = 0; v < head->blocks; v++) {
            out->connections += head->rewire_part[v].slots;
            out->moved += head->rewire_part[v].moved;
            sum += head->rewire_part[v].weight;
        }
    }
    out->mean_weight = out->connections > 0 ? sum / (double)out->connections : 0;
    return HR_OK;
}
