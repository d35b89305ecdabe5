/* Label vectors from training rows, and balanced spherical k-means on them.
 *
 * Vectors. A feature is added with a random sign to one random column: feature hashing (Weinberger et al., ICML 2009), which keeps
 * inner products on average. (Two and four columns gave clusters no better, for twice and three times the time.) Training rows are
 * projected a block at a time, then added to the vectors of their labels in row order; the parallel parts of that are 16 columns each,
 * which are cache lines of their own.
 *
 * Clusters. The labels are bisected level by level, ceil(log2(clusters)) times: the half that scores best by dot(e, c0 - c1) goes left,
 * in multiples of `size`. A part with more than STRIP labels is worked on in parallel strips, which sum in their own order; parts
 * below are one strip and one task each. Either way the arithmetic is that of the strips, so threads change no bit. Within a part labels
 * ascend by place in the caller's list, so equal scores go by place. */
#include "model/cluster.h"

#include "backend/backend.h"
#include "base/order.h"

#include <math.h>
#include <string.h>

enum {
    TENSOR = 200,                                     /* of the initialisation stream, whose steps are: */
    STEP_PROJECTION = 0, STEP_VECTOR = 1, STEP_CENTRE = 2,
    ROWS = 1024,                                      /* training rows projected at a time */
    STRIP = 8192,                                     /* labels summed in one chain */
    DIGITS = 256                                      /* of a score's key, for selection */
};

static const uint32_t nowhere = UINT32_MAX;           /* place of a label that is not asked for */
static const uint64_t random_epoch = UINT64_C(0xfffffffe); /* of the data order; no run trains that long */
static const double least_gain = 1e-4;                /* in mean cosine, of an iteration worth going on after */
static const hr_dtype f32 = {.id = HR_F32, .bytes = sizeof(float)};

/* ---- options ---- */

hr_cluster_options hr_cluster_options_default(void)
{
    return (hr_cluster_options){.method = HR_CLUSTER_KMEANS, .size = 32, .width = 128, .iterations = 8};
}

static hr_status check_options(hr_ctx *ctx, const hr_cluster_options *o)
{
    if (o->method != HR_CLUSTER_GIVEN && o->method != HR_CLUSTER_RANDOM && o->method != HR_CLUSTER_KMEANS)
        return hr_fail(ctx, HR_ERR_CONFIG, "label clusters: there is no method %d", (int)o->method);
    if (o->size < 1)
        return hr_fail(ctx, HR_ERR_CONFIG, "label clusters: %lld labels in a cluster, expected at least 1", (long long)o->size);
    if (o->width < HR_CLUSTER_WIDTH_STEP || o->width > HR_CLUSTER_WIDTH_MAX || o->width % HR_CLUSTER_WIDTH_STEP)
        return hr_fail(ctx, HR_ERR_CONFIG, "label clusters: vectors of width %lld, expected a multiple of %d up to %d",
                       (long long)o->width, HR_CLUSTER_WIDTH_STEP, HR_CLUSTER_WIDTH_MAX);
    if (o->iterations < 1 || o->iterations > HR_CLUSTER_ITERATIONS_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "label clusters: %d iterations, expected 1 to %d", o->iterations,
                       HR_CLUSTER_ITERATIONS_MAX);
    return HR_OK;
}

/* ---- memory ---- */

/* What one strip of a bisection needs. */
typedef struct strip {
    int64_t left, left_before; /* labels that go left, here and in the strips before */
    int64_t ties;              /* of those that score as the last one that goes left: so many go left */
    uint32_t histogram[DIGITS];
    float sum[2][HR_CLUSTER_WIDTH_MAX];
} strip;

static int64_t strips_of(int64_t labels)
{
    return (labels + STRIP - 1) / STRIP;
}

/* Strips that are booked; a part of one strip has it on its stack. */
static int64_t booked_strips(int64_t count)
{
    return count > STRIP ? strips_of(count) : 0;
}

static size_t kmeans_memory(const hr_dataset *ds, int64_t count, int64_t width)
{
    const size_t row = (size_t)width * sizeof(float);
    size_t embed = hr_mul((size_t)ds->labels, sizeof(uint32_t));
    embed = hr_add(embed, hr_mul((size_t)ds->features, sizeof(uint16_t)));
    embed = hr_add(embed, ROWS * row);
    size_t bisect = hr_mul((size_t)count, 2 * sizeof(uint32_t));
    bisect = hr_add(bisect, hr_mul((size_t)booked_strips(count), sizeof(strip)));
    return hr_add(hr_mul((size_t)count, row), embed > bisect ? embed : bisect);
}

/* The widest vectors that are wanted, of use, and within max_bytes; at least 16. */
static int64_t choose_width(const hr_dataset *ds, const hr_cluster_options *o, int64_t count)
{
    int64_t width = (int64_t)hr_round_up((size_t)ds->features, HR_CLUSTER_WIDTH_STEP);
    width = width < HR_CLUSTER_WIDTH_STEP ? HR_CLUSTER_WIDTH_STEP : width;
    width = width < o->width ? width : o->width;
    while (o->max_bytes && width > HR_CLUSTER_WIDTH_STEP && kmeans_memory(ds, count, width) > o->max_bytes)
        width -= HR_CLUSTER_WIDTH_STEP;
    return width;
}

size_t hr_cluster_memory(const hr_dataset *ds, const hr_cluster_options *o, int64_t count)
{
    if (o->method == HR_CLUSTER_KMEANS)
        return kmeans_memory(ds, count, choose_width(ds, o, count));
    return hr_mul((size_t)ds->labels, sizeof(uint32_t));
}

/* ---- label vectors ---- */

typedef struct vectors {
    hr_ctx *ctx;
    hr_backend be;
    const hr_dataset *ds;
    const hr_split_data *train;
    const uint32_t *label;
    int64_t count, width, first; /* `first` training row of the block */
    uint64_t seed;
    float *e;         /* (count, width) label vectors, of length 1 in the end */
    uint32_t *where;  /* (L) place of a label in `label` */
    uint16_t *column; /* (F) of a feature, doubled, + 1 if its sign is negative */
    float *rows;      /* (ROWS, width) the block, projected */
} vectors;

static float dot(const vectors *v, const float *a, const float *b)
{
    float sum;
    v->be.k.dot(1, v->width, a, 0, NULL, f32, b, &sum);
    return sum;
}

/* To length 1; false, and all zeros, when that cannot be. */
static bool normalise(const vectors *v, float *x)
{
    const float square = dot(v, x, x);
    if (!(square > 0) || !isfinite(square)) {
        memset(x, 0, (size_t)v->width * sizeof(float));
        return false;
    }
    const float length = sqrtf(square);
    for (int64_t i = 0; i < v->width; i++)
        x[i] /= length;
    return true;
}

static void draw_columns(void *arg, int64_t task, int worker)
{
    (void)worker;
    const vectors *v = arg;
    const hr_rng rng = hr_rng_make(v->seed, STEP_PROJECTION, TENSOR, HR_STREAM_INIT);
    const bool fits = v->ds->features <= v->width; /* each feature has a column of its own */
    const int64_t end = (task + 1) * STRIP < v->ds->features ? (task + 1) * STRIP : v->ds->features;
    for (int64_t f = task * STRIP; f < end; f++) {
        const uint32_t draw = hr_rng_draw16(rng, (uint32_t)f, 0);
        v->column[f] = (uint16_t)(fits ? 2 * f : 2 * ((draw >> 1) * v->width >> 15) + (draw & 1));
    }
}

static inline void add_feature(const vectors *v, int64_t feature, float value, float *x)
{
    const uint16_t column = v->column[feature];
    x[column >> 1] += column & 1 ? -value : value;
}

/* The projection of a row, of length 1; false, and zeros, when it has no features. */
static bool project_sparse(const vectors *v, const hr_csr *m, int64_t row, float *x)
{
    memset(x, 0, (size_t)v->width * sizeof(float));
    for (int64_t i = m->indptr[row]; i < m->indptr[row + 1]; i++)
        add_feature(v, m->indices[i], m->values ? m->values[i] : 1.0f, x);
    return normalise(v, x);
}

static void project_dense(const vectors *v, const float *row, float *x)
{
    memset(x, 0, (size_t)v->width * sizeof(float));
    for (int64_t f = 0; f < v->ds->features; f++)
        add_feature(v, f, row[f], x);
    normalise(v, x);
}

static bool is_wanted(const vectors *v, int64_t row)
{
    const hr_csr *labels = &v->train->labels;
    for (int64_t i = labels->indptr[row]; i < labels->indptr[row + 1]; i++)
        if (v->where[labels->indices[i]] != nowhere)
            return true;
    return false;
}

/* Row `task` of the block; rows of other labels stay as they are and are not read. */
static void project_row(void *arg, int64_t task, int worker)
{
    (void)worker;
    const vectors *v = arg;
    const int64_t row = v->first + task;
    float *x = v->rows + task * v->width;
    if (!is_wanted(v, row))
        return;
    if (v->train->dense)
        project_dense(v, v->train->dense + row * v->ds->features, x);
    else
        project_sparse(v, &v->train->features, row, x);
}

/* Adds 16 columns of the block's rows to the vectors of their labels. */
static void add_columns(void *arg, int64_t task, int worker)
{
    (void)worker;
    const vectors *v = arg;
    const hr_csr *labels = &v->train->labels;
    const int64_t column = task * HR_CLUSTER_WIDTH_STEP;
    const int64_t end = v->first + ROWS < v->train->rows ? v->first + ROWS : v->train->rows;
    for (int64_t row = v->first; row < end; row++) {
        const float *x = v->rows + (row - v->first) * v->width + column;
        for (int64_t i = labels->indptr[row]; i < labels->indptr[row + 1]; i++) {
            const uint32_t at = v->where[labels->indices[i]];
            if (at != nowhere)
                v->be.k.axpy(HR_CLUSTER_WIDTH_STEP, 1.0f, x, v->e + (int64_t)at * v->width + column);
        }
    }
}

static void draw_vector(const vectors *v, uint32_t label, float *x)
{
    const hr_rng rng = hr_rng_make(v->seed, STEP_VECTOR, TENSOR, HR_STREAM_INIT);
    for (int64_t i = 0; i < v->width; i++)
        x[i] = (float)hr_rng_draw16(rng, label, (uint32_t)i) - 32767.5f;
    normalise(v, x);
}

static void finish_vectors(void *arg, int64_t task, int worker)
{
    (void)worker;
    const vectors *v = arg;
    const hr_csr *texts = &v->ds->label_features;
    const int64_t end = (task + 1) * STRIP < v->count ? (task + 1) * STRIP : v->count;
    for (int64_t i = task * STRIP; i < end; i++) {
        float *x = v->e + i * v->width;
        if (normalise(v, x) || (texts->rows > 0 && project_sparse(v, texts, v->label[i], x)))
            continue;
        draw_vector(v, v->label[i], x);
    }
}

/* Where each label is in the list. */
static hr_status find_labels(const vectors *v)
{
    memset(v->where, 0xff, (size_t)v->ds->labels * sizeof(uint32_t));
    for (int64_t i = 0; i < v->count; i++) {
        const uint32_t label = v->label[i];
        if (label >= v->ds->labels)
            return hr_fail(v->ctx, HR_ERR_USAGE, "label clusters: entry %lld of the list is label %u, %s has %lld labels",
                           (long long)i, label, v->ds->path, (long long)v->ds->labels);
        if (v->where[label] != nowhere)
            return hr_fail(v->ctx, HR_ERR_USAGE, "label clusters: label %u is in the list twice, at %u and %lld", label,
                           v->where[label], (long long)i);
        v->where[label] = (uint32_t)i;
    }
    return HR_OK;
}

static hr_status fill_vectors(vectors *v)
{
    memset(v->e, 0, (size_t)(v->count * v->width) * sizeof(float));
    hr_parallel_for(v->ctx, strips_of(v->ds->features), draw_columns, v);
    for (v->first = 0; v->first < v->train->rows; v->first += ROWS) {
        const int64_t left = v->train->rows - v->first;
        if (hr_ctx_interrupted(v->ctx))
            return hr_fail(v->ctx, HR_INTERRUPTED, "label clusters: interrupted");
        hr_parallel_for(v->ctx, left < ROWS ? left : ROWS, project_row, v);
        hr_parallel_for(v->ctx, v->width / HR_CLUSTER_WIDTH_STEP, add_columns, v);
    }
    hr_parallel_for(v->ctx, strips_of(v->count), finish_vectors, v);
    return HR_OK;
}

static hr_status make_vectors(vectors *v)
{
    v->e = HR_ARRAY(v->ctx, HR_MEM_EVAL, float, v->count * v->width);
    v->column = HR_ARRAY(v->ctx, HR_MEM_EVAL, uint16_t, v->ds->features);
    v->rows = HR_ARRAY(v->ctx, HR_MEM_EVAL, float, ROWS * v->width);
    const hr_status st = v->e && v->column && v->rows ? fill_vectors(v) : HR_ERR_NOMEM;
    hr_free(v->ctx, v->column);
    hr_free(v->ctx, v->rows);
    v->column = NULL;
    v->rows = NULL;
    return st;
}

/* ---- bisection ---- */

typedef struct bisection {
    const vectors *v;
    int64_t size, clusters;
    int iterations, level;
    uint32_t *order;  /* (count) places in the caller's list */
    uint32_t *moved;  /* (count) */
    uint32_t *key;    /* (count) of scores; larger is more to the left */
    strip *strips;    /* of parts with more than one */
} bisection;

/* One part, to be cut in two. */
typedef struct part {
    const bisection *b;
    int64_t begin, n, left;     /* labels, and how many of them go left */
    strip *strips;
    int64_t num_strips;
    uint32_t limit;             /* key of the last label that goes left, as far as it is known */
    unsigned shift;             /* of the digit that is counted */
    float axis[HR_CLUSTER_WIDTH_MAX]; /* c0 - c1 */
} part;

static void run_strips(part *p, hr_task_fn *fn)
{
    if (p->num_strips > 1) {
        hr_parallel_for(p->b->v->ctx, p->num_strips, fn, p);
        return;
    }
    fn(p, 0, 0); /* inside a task already */
}

/* The labels of a strip: first <= i < *end, into order, key and moved. */
static int64_t strip_begin(const part *p, int64_t task, int64_t *end)
{
    *end = p->begin + ((task + 1) * STRIP < p->n ? (task + 1) * STRIP : p->n);
    return p->begin + task * STRIP;
}

/* Keys rise with finite scores. */
static uint32_t key_of(float score)
{
    uint32_t u;
    memcpy(&u, &score, sizeof u);
    return u >> 31 ? ~u : u | UINT32_C(1) << 31;
}

static void score_strip(void *arg, int64_t task, int worker)
{
    (void)worker;
    const part *p = arg;
    const vectors *v = p->b->v;
    int64_t end;
    for (int64_t i = strip_begin(p, task, &end); i < end; i++)
        p->b->key[i] = key_of(dot(v, v->e + (int64_t)p->b->order[i] * v->width, p->axis));
}

/* Counts the next digit of the keys that agree with the limit so far. */
static void count_strip(void *arg, int64_t task, int worker)
{
    (void)worker;
    const part *p = arg;
    uint32_t *histogram = p->strips[task].histogram;
    memset(histogram, 0, sizeof p->strips[task].histogram);
    const uint64_t known = (uint64_t)p->limit >> p->shift >> 8;
    int64_t end;
    for (int64_t i = strip_begin(p, task, &end); i < end; i++)
        if ((uint64_t)p->b->key[i] >> p->shift >> 8 == known)
            histogram[p->b->key[i] >> p->shift & (DIGITS - 1)]++;
}

static int64_t digit_count(const part *p, uint32_t digit)
{
    int64_t n = 0;
    for (int64_t s = 0; s < p->num_strips; s++)
        n += p->strips[s].histogram[digit];
    return n;
}

/* The key of the left-th best label, a digit at a time, and how many labels with that key each strip sends left. */
static void select_left(part *p)
{
    int64_t wanted = p->left;
    uint32_t digit = 0;
    p->limit = 0;
    for (int step = 3; step >= 0; step--) {
        p->shift = 8 * (unsigned)step;
        run_strips(p, count_strip);
        digit = DIGITS - 1;
        for (int64_t n; (n = digit_count(p, digit)) < wanted; digit--)
            wanted -= n;
        p->limit |= digit << p->shift;
    }
    for (int64_t s = 0; s < p->num_strips; s++) {
        const int64_t n = p->strips[s].histogram[digit];
        p->strips[s].ties = n < wanted ? n : wanted;
        wanted -= p->strips[s].ties;
    }
}

static inline bool goes_left(const part *p, int64_t i, int64_t *ties)
{
    const uint32_t key = p->b->key[i];
    return key > p->limit || (key == p->limit && (*ties)-- > 0);
}

static void sum_strip(void *arg, int64_t task, int worker)
{
    (void)worker;
    const part *p = arg;
    const vectors *v = p->b->v;
    strip *s = &p->strips[task];
    int64_t end, ties = s->ties;
    memset(s->sum[0], 0, (size_t)v->width * sizeof(float));
    memset(s->sum[1], 0, (size_t)v->width * sizeof(float));
    s->left = 0;
    for (int64_t i = strip_begin(p, task, &end); i < end; i++) {
        const bool left = goes_left(p, i, &ties);
        v->be.k.axpy(v->width, 1.0f, v->e + (int64_t)p->b->order[i] * v->width, s->sum[left ? 0 : 1]);
        s->left += left;
    }
}

/* The sum of one side in double, strips in order; gives its length. */
static double side_sum(const part *p, int side, double *sum)
{
    const int64_t width = p->b->v->width;
    double square = 0;
    for (int64_t i = 0; i < width; i++) {
        sum[i] = 0;
        for (int64_t s = 0; s < p->num_strips; s++)
            sum[i] += (double)p->strips[s].sum[side][i];
        square += sum[i] * sum[i];
    }
    return sqrt(square);
}

/* c0 - c1 of the normalised means; gives the mean cosine of the labels to their centres, which is the mean length of the two sums:
 * the sum of e . s/|s| over the members of a side is s . s/|s|. */
static double update_axis(part *p)
{
    double s0[HR_CLUSTER_WIDTH_MAX], s1[HR_CLUSTER_WIDTH_MAX];
    const double l0 = side_sum(p, 0, s0), l1 = side_sum(p, 1, s1);
    for (int64_t i = 0; i < p->b->v->width; i++)
        p->axis[i] = (float)((l0 > 0 ? s0[i] / l0 : 0) - (l1 > 0 ? s1[i] / l1 : 0));
    return (l0 + l1) / (double)p->n;
}

/* The first centres are two members. */
static void draw_axis(part *p)
{
    const vectors *v = p->b->v;
    uint32_t w[4];
    hr_rng_block(hr_rng_make(v->seed, STEP_CENTRE, TENSOR, HR_STREAM_INIT), (uint32_t)p->begin, (uint32_t)p->b->level, w);
    const uint64_t n = (uint64_t)p->n, first = w[0] % n, second = (first + 1 + w[1] % (n - 1)) % n;
    const uint32_t *order = p->b->order + p->begin;
    const float *a = v->e + (int64_t)order[first] * v->width, *b = v->e + (int64_t)order[second] * v->width;
    for (int64_t i = 0; i < v->width; i++)
        p->axis[i] = a[i] - b[i];
}

static void move_strip(void *arg, int64_t task, int worker)
{
    (void)worker;
    const part *p = arg;
    const strip *s = &p->strips[task];
    int64_t end, ties = s->ties;
    uint32_t *left = p->b->moved + p->begin + s->left_before;
    uint32_t *right = p->b->moved + p->begin + p->left + (task * STRIP - s->left_before);
    for (int64_t i = strip_begin(p, task, &end); i < end; i++) {
        if (goes_left(p, i, &ties))
            *left++ = p->b->order[i];
        else
            *right++ = p->b->order[i];
    }
}

/* Left ones to the front; both sides stay in order. */
static void move_left(part *p)
{
    int64_t before = 0;
    for (int64_t s = 0; s < p->num_strips; s++) {
        p->strips[s].left_before = before;
        before += p->strips[s].left;
    }
    run_strips(p, move_strip);
    memcpy(p->b->order + p->begin, p->b->moved + p->begin, (size_t)p->n * sizeof(uint32_t));
}

static void bisect(part *p)
{
    double before = -1; /* below any mean cosine */
    draw_axis(p);
    for (int i = 0; i < p->b->iterations; i++) {
        run_strips(p, score_strip);
        select_left(p);
        run_strips(p, sum_strip);
        const double now = update_axis(p);
        if (now - before < least_gain)
            break;
        before = now;
    }
    move_left(p);
}

/* Part `at` of 2^level: the bits of `at` are the turns on the way down, and the left of c clusters has floor(c / 2). False when there
 * is nothing to cut. */
static bool find_part(const bisection *b, int64_t at, part *p)
{
    int64_t first = 0, clusters = b->clusters;
    for (int bit = b->level - 1; bit >= 0; bit--) {
        const int64_t half = clusters / 2;
        const bool right = at >> bit & 1;
        first += right ? half : 0;
        clusters = right ? clusters - half : half;
    }
    if (clusters < 2)
        return false;
    const int64_t begin = first * b->size, end = (first + clusters) * b->size;
    p->b = b;
    p->begin = begin;
    p->n = (end < b->v->count ? end : b->v->count) - begin;
    p->left = clusters / 2 * b->size;
    p->num_strips = strips_of(p->n);
    return true;
}

static void bisect_small(void *arg, int64_t task, int worker)
{
    (void)worker;
    part p;
    strip own;
    if (!find_part(arg, task, &p) || p.num_strips > 1)
        return;
    p.strips = &own;
    bisect(&p);
}

/* Large parts one after the other, each in parallel; then small ones side by side. Parts of a level differ by one cluster. */
static hr_status bisect_level(bisection *b)
{
    const int64_t parts = INT64_C(1) << b->level;
    const bool large = b->clusters / parts * b->size + b->size > STRIP;
    for (int64_t at = 0; large && at < parts; at++) {
        part p;
        if (hr_ctx_interrupted(b->v->ctx))
            return hr_fail(b->v->ctx, HR_INTERRUPTED, "label clusters: interrupted");
        if (!find_part(b, at, &p) || p.num_strips == 1)
            continue;
        p.strips = b->strips;
        bisect(&p);
    }
    hr_parallel_for(b->v->ctx, parts, bisect_small, b);
    return HR_OK;
}

static hr_status bisect_all(bisection *b)
{
    for (int64_t i = 0; i < b->v->count; i++)
        b->order[i] = (uint32_t)i;
    /* the largest part of a level has ceil(clusters / 2^level) */
    for (; (b->clusters - 1) >> b->level > 0; b->level++)
        HR_TRY(bisect_level(b));
    for (int64_t i = 0; i < b->v->count; i++)
        b->order[i] = b->v->label[b->order[i]];
    return HR_OK;
}

static hr_status cut_labels(const vectors *v, const hr_cluster_options *o, uint32_t *order)
{
    bisection b = {.v = v, .size = o->size, .clusters = (v->count - 1) / o->size + 1, .iterations = o->iterations, .order = order};
    b.moved = HR_ARRAY(v->ctx, HR_MEM_EVAL, uint32_t, v->count);
    b.key = HR_ARRAY(v->ctx, HR_MEM_EVAL, uint32_t, v->count);
    b.strips = HR_ARRAY(v->ctx, HR_MEM_EVAL, strip, booked_strips(v->count));
    const hr_status st = b.moved && b.key && b.strips ? bisect_all(&b) : HR_ERR_NOMEM;
    hr_free(v->ctx, b.moved);
    hr_free(v->ctx, b.key);
    hr_free(v->ctx, b.strips);
    return st;
}

/* ---- the three methods ---- */

/* Releases the table of places as soon as it can. */
static hr_status cluster_kmeans(vectors *v, const hr_cluster_options *o, uint32_t *order)
{
    hr_status st = make_vectors(v);
    hr_free(v->ctx, v->where);
    v->where = NULL;
    if (st == HR_OK)
        st = cut_labels(v, o, order);
    hr_free(v->ctx, v->e);
    v->e = NULL;
    return st;
}

static hr_status order_labels(vectors *v, const hr_cluster_options *o, uint32_t *order)
{
    HR_TRY(find_labels(v));
    if (o->method == HR_CLUSTER_KMEANS)
        return cluster_kmeans(v, o, order);
    const hr_order random = hr_order_make(o->seed, random_epoch, (uint64_t)v->count);
    for (int64_t i = 0; i < v->count; i++)
        order[i] = v->label[o->method == HR_CLUSTER_GIVEN ? i : (int64_t)hr_order_at(&random, (uint64_t)i)];
    return HR_OK;
}

static hr_status check_call(hr_ctx *ctx, const hr_dataset *ds, const hr_cluster_options *o, int64_t count)
{
    HR_TRY(check_options(ctx, o));
    if (count < 1 || count > ds->labels)
        return hr_fail(ctx, HR_ERR_USAGE, "label clusters: a list of %lld labels, %s has %lld", (long long)count, ds->path,
                       (long long)ds->labels);
    if (o->method != HR_CLUSTER_KMEANS)
        return HR_OK;
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN];
    if (!train->present || train->rows == 0)
        return hr_fail(ctx, HR_ERR_DATA, "%s: label clusters are made from training rows, this data set has none", ds->path);
    const size_t bytes = hr_cluster_memory(ds, o, count);
    if (o->max_bytes && bytes > o->max_bytes)
        return hr_fail(ctx, HR_ERR_NOMEM, "label clusters: %lld labels take %zu bytes with vectors of width %d, %zu are allowed",
                       (long long)count, bytes, HR_CLUSTER_WIDTH_STEP, o->max_bytes);
    return HR_OK;
}

hr_status hr_cluster_labels(hr_ctx *ctx, const hr_dataset *ds, const hr_cluster_options *o, const uint32_t *label, int64_t count,
                            uint32_t *order)
{
    HR_TRY(check_call(ctx, ds, o, count));
    vectors v = {.ctx = ctx, .be = hr_backend_make(ctx), .ds = ds, .train = &ds->split[HR_SPLIT_TRAIN], .label = label, .count = count,
                 .width = choose_width(ds, o, count), .seed = o->seed};
    v.where = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, ds->labels);
    if (!v.where)
        return HR_ERR_NOMEM;
    const hr_status st = order_labels(&v, o, order);
    hr_free(ctx, v.where);
    return st;
}
