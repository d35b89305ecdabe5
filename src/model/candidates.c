/* Labels are taken in order, as many at a time as an inverted index of their rows has room for (at most a ninth part of the data set's pairs
 * or so, but no less than a million, and at least one group). Then each group is a task: its rows are added up in a table of all features, the
 * best of those touched are kept in a heap, and the table is cleared where it was touched. */
#include "model/candidates.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { LEAST_PAIRS = 1 << 20, PARTS = 8 };

typedef struct candidate {
    float score;
    uint32_t feature;
} candidate;

/* What one worker needs. */
typedef struct table {
    float *sum;        /* (F) zero between groups */
    uint32_t *touched; /* (F) */
    candidate *best;   /* (width) */
    uint32_t *inputs;  /* (width) */
} table;

typedef struct choice {
    hr_ctx *ctx;
    const hr_dataset *ds;
    const hr_split_data *train;
    hr_candidate_options o;
    const uint32_t *external, *frequency;
    hr_head *head;
    int64_t group, most_pairs;
    uint64_t *held;       /* (N) bits */
    uint32_t *internal;   /* (L) */
    float *length;        /* (N) what a row is multiplied by */
    double *mean, *factor; /* (F) of each feature; NULL: 0, 1 */
    /* the labels [first, end) with their rows: of label first + i they begin at start[i] */
    int64_t first, end;
    int64_t *start;       /* (L + 2) */
    uint32_t *rows;       /* (most_pairs) */
    table *tables;        /* (threads) */
} choice;

/* ---- memory ---- */

static int64_t group_of(const hr_candidate_options *o)
{
    return o->group > 1 ? o->group : 1;
}

/* Room of the inverted index: no group has more pairs than the data set. */
static int64_t most_pairs(const hr_dataset *ds, const hr_candidate_options *o)
{
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN];
    const int64_t all = hr_csr_nnz(&train->labels), largest = hr_mul((size_t)train->rows, (size_t)group_of(o)) < INT64_MAX
                                                                  ? train->rows * group_of(o) : INT64_MAX;
    int64_t n = all / PARTS > LEAST_PAIRS ? all / PARTS : LEAST_PAIRS;
    n = n > largest ? n : largest;
    return n < all ? n : all;
}

static size_t table_bytes(int64_t features, int64_t width)
{
    return hr_add(hr_mul((size_t)features, sizeof(float) + sizeof(uint32_t)),
                  hr_mul((size_t)width, sizeof(candidate) + sizeof(uint32_t)));
}

size_t hr_candidates_memory(const hr_dataset *ds, const hr_candidate_options *o, int threads)
{
    const size_t rows = (size_t)ds->split[HR_SPLIT_TRAIN].rows, labels = (size_t)ds->labels;
    size_t n = hr_add(hr_mul((rows + 63) / 64, sizeof(uint64_t)), hr_mul(rows, sizeof(float)));
    n = hr_add(n, hr_mul((size_t)ds->features * (o->score != HR_CANDIDATES_SUM), 2 * sizeof(double)));
    n = hr_add(n, hr_add(hr_mul(labels, sizeof(uint32_t)), hr_mul(labels + 2, sizeof(int64_t))));
    n = hr_add(n, hr_mul((size_t)most_pairs(ds, o), sizeof(uint32_t)));
    return hr_add(n, hr_mul((size_t)threads, hr_add(sizeof(table), table_bytes(ds->features, o->width))));
}

static void free_tables(choice *c)
{
    for (int t = 0; c->tables && t < hr_ctx_threads(c->ctx); t++) {
        hr_free(c->ctx, c->tables[t].sum);
        hr_free(c->ctx, c->tables[t].touched);
        hr_free(c->ctx, c->tables[t].best);
        hr_free(c->ctx, c->tables[t].inputs);
    }
    hr_free(c->ctx, c->tables);
}

static void destroy(choice *c)
{
    free_tables(c);
    hr_free(c->ctx, c->held);
    hr_free(c->ctx, c->internal);
    hr_free(c->ctx, c->length);
    hr_free(c->ctx, c->mean);
    hr_free(c->ctx, c->factor);
    hr_free(c->ctx, c->start);
    hr_free(c->ctx, c->rows);
}

static bool create_tables(choice *c)
{
    const int64_t features = c->ds->features, width = c->o.width;
    const int threads = hr_ctx_threads(c->ctx);
    c->tables = HR_ARRAY0(c->ctx, HR_MEM_EVAL, table, threads);
    bool good = c->tables;
    for (int t = 0; t < threads && good; t++) {
        table *w = &c->tables[t];
        w->sum = HR_ARRAY0(c->ctx, HR_MEM_EVAL, float, features);
        w->touched = HR_ARRAY(c->ctx, HR_MEM_EVAL, uint32_t, features);
        w->best = HR_ARRAY(c->ctx, HR_MEM_EVAL, candidate, width);
        w->inputs = HR_ARRAY(c->ctx, HR_MEM_EVAL, uint32_t, width);
        good = w->sum && w->touched && w->best && w->inputs;
    }
    return good;
}

static hr_status create(choice *c)
{
    const int64_t rows = c->train->rows, labels = c->ds->labels, features = c->ds->features;
    const bool moments = c->o.score != HR_CANDIDATES_SUM;
    c->held = HR_ARRAY0(c->ctx, HR_MEM_EVAL, uint64_t, (rows + 63) / 64);
    c->length = HR_ARRAY(c->ctx, HR_MEM_EVAL, float, rows);
    c->internal = HR_ARRAY(c->ctx, HR_MEM_EVAL, uint32_t, labels);
    c->start = HR_ARRAY(c->ctx, HR_MEM_EVAL, int64_t, labels + 2);
    c->rows = HR_ARRAY(c->ctx, HR_MEM_EVAL, uint32_t, c->most_pairs);
    c->mean = moments ? HR_ARRAY0(c->ctx, HR_MEM_EVAL, double, features) : NULL;
    c->factor = moments ? HR_ARRAY0(c->ctx, HR_MEM_EVAL, double, features) : NULL;
    const bool good = c->held && c->length && c->internal && c->start && c->rows && (!moments || (c->mean && c->factor));
    return good && create_tables(c) ? HR_OK : HR_ERR_NOMEM;
}

/* ---- rows and features ---- */

static bool is_held(const choice *c, int64_t row)
{
    return c->held[row / 64] >> row % 64 & 1;
}

/* Its size: what it is for, its weight's sign is to say. */
static float value_at(const hr_csr *m, int64_t entry)
{
    return m->values ? fabsf(m->values[entry]) : 1.0f;
}

/* What a row is multiplied by; NaN: it is not finite. */
static float factor_of(const choice *c, const hr_csr *m, int64_t row)
{
    double square = 0;
    for (int64_t i = m->indptr[row]; i < m->indptr[row + 1]; i++)
        square += (double)value_at(m, i) * (double)value_at(m, i);
    if (!isfinite(square))
        return NAN;
    return c->o.unit_rows && square > 0 ? (float)(1 / sqrt(square)) : 1.0f;
}

static void measure_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const choice *c = arg;
    c->length[row] = factor_of(c, &c->train->features, row);
}

/* Mean, and 1 or the factor of the score, over the rows that are not held out, in order. */
static void measure_features(choice *c)
{
    const hr_csr *m = &c->train->features;
    int64_t rows = 0;
    for (int64_t r = 0; r < m->rows && c->mean; r++) {
        if (is_held(c, r))
            continue;
        rows++;
        for (int64_t i = m->indptr[r]; i < m->indptr[r + 1]; i++) {
            const double v = (double)(c->length[r] * value_at(m, i));
            c->mean[m->indices[i]] += v;
            c->factor[m->indices[i]] += v * v;
        }
    }
    for (int64_t f = 0; f < c->ds->features && c->mean; f++) {
        c->mean[f] = rows > 0 ? c->mean[f] / (double)rows : 0;
        c->factor[f] = c->o.score == HR_CANDIDATES_BALANCED && c->factor[f] > 0 ? 1 / sqrt(sqrt(c->factor[f])) : 1;
    }
}

static hr_status measure(choice *c)
{
    for (int64_t i = 0; i < c->o.held_rows; i++) {
        const uint64_t row = hr_order_at(&c->o.holdout, (uint64_t)i);
        c->held[row / 64] |= UINT64_C(1) << row % 64;
    }
    for (int64_t l = 0; l < c->ds->labels; l++)
        c->internal[c->external[l]] = (uint32_t)l;
    hr_parallel_for(c->ctx, c->train->rows, measure_row, c);
    for (int64_t r = 0; r < c->train->rows; r++)
        if (isnan(c->length[r]))
            return hr_fail(c->ctx, HR_ERR_DATA, "%s: training row %lld has features that are no finite numbers", c->ds->path, (long long)r);
    measure_features(c);
    return HR_OK;
}

/* ---- the rows of some labels ---- */

/* The labels from c->first on whose pairs have room, whole groups, at least one. */
static void choose_end(choice *c)
{
    int64_t pairs = 0;
    c->end = c->first;
    while (c->end < c->ds->labels) {
        int64_t own = 0, next = c->end;
        for (; next < c->ds->labels && next < c->end + c->group; next++)
            own += c->frequency[c->external[next]];
        if (c->end > c->first && pairs + own > c->most_pairs)
            break;
        pairs += own;
        c->end = next;
    }
}

static void index_rows(choice *c)
{
    const hr_csr *m = &c->train->labels;
    int64_t *begin = c->start + 1; /* in the end: where the next label's begin */
    c->start[0] = begin[0] = 0;
    for (int64_t i = 0; i < c->end - c->first; i++)
        begin[i + 1] = begin[i] + c->frequency[c->external[c->first + i]];
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t i = m->indptr[r]; i < m->indptr[r + 1]; i++) {
            const int64_t label = c->internal[m->indices[i]];
            if (label >= c->first && label < c->end)
                c->rows[begin[label - c->first]++] = (uint32_t)r;
        }
}

/* ---- a group ---- */

/* Adds a row to the table; how many features have been touched. */
static int64_t add_row(const hr_csr *m, int64_t row, float factor, table *w, int64_t touched)
{
    for (int64_t i = m->indptr[row]; i < m->indptr[row + 1]; i++) {
        const uint32_t feature = m->indices[i];
        const float v = factor * value_at(m, i);
        if (v == 0)
            continue;
        if (w->sum[feature] == 0)
            w->touched[touched++] = feature;
        w->sum[feature] += v;
    }
    return touched;
}

/* The rows of labels [at, end); *rows gets their number. */
static int64_t add_rows(const choice *c, int64_t at, int64_t end, table *w, int64_t *rows)
{
    const hr_csr *texts = &c->ds->label_features;
    int64_t touched = 0;
    *rows = 0;
    for (int64_t l = at; l < end; l++) {
        for (int64_t i = c->start[l - c->first]; i < c->start[l - c->first + 1]; i++) {
            const uint32_t row = c->rows[i];
            if (is_held(c, row))
                continue;
            touched = add_row(&c->train->features, row, c->length[row], w, touched);
            ++*rows;
        }
        const float factor = c->o.label_texts ? factor_of(c, texts, c->external[l]) : NAN;
        if (isnan(factor))
            continue;
        touched = add_row(texts, c->external[l], factor, w, touched);
        ++*rows;
    }
    return touched;
}

typedef bool order_fn(const candidate *a, const candidate *b);

static bool is_worse(const candidate *a, const candidate *b)
{
    return a->score < b->score || (a->score == b->score && a->feature > b->feature);
}

static bool is_later(const candidate *a, const candidate *b)
{
    return a->feature > b->feature;
}

/* heap[i] down to where none below comes before it; heap[0] is then the first in the order. */
static void sift(candidate *heap, int64_t n, int64_t i, order_fn *before)
{
    const candidate moved = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moved))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

static void make_heap(candidate *heap, int64_t n, order_fn *before)
{
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift(heap, n, i, before);
}

/* The best of the touched features, which become untouched; how many, at most `width`. */
static int64_t keep_best(const choice *c, int64_t touched, int64_t rows, table *w)
{
    const int64_t width = c->o.width;
    int64_t n = 0;
    for (int64_t i = 0; i < touched; i++) {
        const uint32_t f = w->touched[i];
        candidate own = {.score = w->sum[f], .feature = f};
        if (c->mean)
            own.score = (float)(((double)own.score - (double)rows * c->mean[f]) * c->factor[f]);
        w->sum[f] = 0;
        if (n < width) {
            w->best[n++] = own;
            if (n == width)
                make_heap(w->best, n, is_worse);
        } else if (is_worse(&w->best[0], &own)) {
            w->best[0] = own;
            sift(w->best, n, 0, is_worse);
        }
    }
    return n;
}

/* Random features beside the n best, each the first one free from its drawing on. */
static void fill(const choice *c, int64_t at, int64_t n, table *w)
{
    const hr_rng rng = hr_rng_make(c->o.seed, 0, c->o.tensor, HR_STREAM_REWIRE);
    for (int64_t i = 0; i < n; i++)
        w->sum[w->best[i].feature] = 1;
    for (int64_t i = n; i < c->o.width; i++) {
        uint32_t draw[4];
        hr_rng_block(rng, (uint32_t)at, (uint32_t)i, draw);
        uint32_t f = (uint32_t)((uint64_t)draw[0] * (uint64_t)c->ds->features >> 32);
        while (w->sum[f] != 0)
            f = f + 1 < c->ds->features ? f + 1 : 0;
        w->sum[f] = 1;
        w->best[i] = (candidate){.feature = f};
    }
    for (int64_t i = 0; i < c->o.width; i++)
        w->sum[w->best[i].feature] = 0;
}

static void choose_group(void *arg, int64_t task, int worker)
{
    const choice *c = arg;
    table *w = &c->tables[worker];
    const int64_t at = c->first + task * c->group, end = at + c->group < c->end ? at + c->group : c->end, width = c->o.width;
    int64_t rows;
    const int64_t touched = add_rows(c, at, end, w, &rows);
    fill(c, at, keep_best(c, touched, rows, w), w);
    make_heap(w->best, width, is_later);
    for (int64_t n = width; n > 0; n--) {
        w->inputs[n - 1] = w->best[0].feature;
        w->best[0] = w->best[n - 1];
        sift(w->best, n - 1, 0, is_later);
    }
    hr_head_set_inputs(c->head, at, w->inputs);
}

/* ---- all ---- */

static hr_status choose(choice *c)
{
    HR_TRY(create(c));
    HR_TRY(measure(c));
    for (c->first = 0; c->first < c->ds->labels; c->first = c->end) {
        if (hr_ctx_interrupted(c->ctx))
            return hr_fail(c->ctx, HR_INTERRUPTED, "interrupted while inputs were chosen");
        choose_end(c);
        index_rows(c);
        hr_parallel_for(c->ctx, (c->end - c->first + c->group - 1) / c->group, choose_group, c);
    }
    return HR_OK;
}

hr_status hr_candidates_choose(hr_ctx *ctx, const hr_dataset *ds, const hr_candidate_options *o, const uint32_t *external,
                               const uint32_t *frequency, hr_head *head)
{
    choice c = {.ctx = ctx, .ds = ds, .train = &ds->split[HR_SPLIT_TRAIN], .o = *o, .external = external, .frequency = frequency, .head = head,
                .group = group_of(o), .most_pairs = most_pairs(ds, o)};
    const hr_status st = choose(&c);
    destroy(&c);
    return st;
}
