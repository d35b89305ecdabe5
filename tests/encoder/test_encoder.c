/* The encoder against a model of it in double precision: forward, every gradient by finite differences, Adam by its
 * textbook formula, accumulation, threads, and the independence of an instance from its batch. */
#include "tests/check.h"

#include "base/rng.h"
#include "encoder/internal.h"

#include <math.h>

enum { F = 13, D = 11, B = 6, ROW = 5, ENTRIES = B * ROW };

static hr_encoder_options options(void)
{
    return (hr_encoder_options){.type = HR_ENCODER_BOW, .features = F, .dim = D, .max_batch = B, .max_row = ROW,
                                .accumulate = 1, .training = true, .residual = true, .norm = 1.5f, .dropout = 0.3f,
                                .feature_dropout = 0.25f, .init = 1, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-6f,
                                .weight_decay = 0.1f, .seed = 77};
}

/* Row 3 is empty; feature 7 is in several rows; features 11 and 12 are in none. */
typedef struct rows {
    int64_t indptr[B + 1];
    uint32_t indices[ENTRIES], ids[B];
    float values[ENTRIES];
    hr_encoder_batch batch;
} rows;

static void make_rows(rows *r, bool with_values)
{
    int64_t n = 0;
    for (uint32_t b = 0; b < B; b++) {
        r->ids[b] = 100 + 17 * b;
        for (uint32_t j = 0; b != 3 && j < 2 + b % 4; j++, n++) {
            r->indices[n] = j == 1 ? 7 : (b * 3 + j * 5) % 7;
            r->values[n] = 0.5f + 0.25f * (float)((b + j) % 4);
        }
        r->indptr[b + 1] = n;
    }
    r->indptr[0] = 0;
    r->batch = (hr_encoder_batch){.rows = B, .indptr = r->indptr, .indices = r->indices, .ids = r->ids,
                                  .values = with_values ? r->values : NULL};
}

static double noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (double)(*seed >> 8) / 0x1p23 - 1;
}

/* Gives every residual parameter a value, so that no gradient is trivially zero. */
static void shake(hr_encoder *e)
{
    uint32_t seed = 5;
    for (int i = 0; e->o.residual && i < HR_RESIDUAL_PARAMS; i++)
        for (int64_t j = 0; j < e->residual[i].rows * e->residual[i].cols; j++)
            e->residual[i].w[j] = (float)(0.4 * noise(&seed));
}

/* ---- the model in double ---- */

typedef struct model {
    hr_encoder_options o;
    double embedding[F * D], w1[D * D], b1[D], w2[D * D], b2[D];
} model;

static void copy_out(double *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i];
}

static void model_of(const hr_encoder *e, model *m)
{
    m->o = e->o;
    copy_out(m->embedding, e->embedding.w, F * D);
    if (!e->o.residual)
        return;
    copy_out(m->w1, e->residual[HR_PARAM_W1].w, D * D);
    copy_out(m->b1, e->residual[HR_PARAM_B1].w, D);
    copy_out(m->w2, e->residual[HR_PARAM_W2].w, D * D);
    copy_out(m->b2, e->residual[HR_PARAM_B2].w, D);
}

/* Dropout as docs/numerics.md says: stream 4, site 254 for features (by place in the row), 255 for the output. */
static double factor(const model *m, float p, unsigned site, uint64_t step, uint32_t id, uint32_t column)
{
    if (p <= 0)
        return 1;
    const uint16_t draw = hr_rng_draw16(hr_rng_make(m->o.seed, step, site, HR_STREAM_DROPOUT), id, column);
    return draw < (uint32_t)lrint((double)p * 65536) ? 0 : 1 / (1 - (double)p);
}

static void bag(const model *m, const hr_encoder_batch *in, int64_t b, bool train, uint64_t step, double *h)
{
    memset(h, 0, D * sizeof *h);
    for (int64_t i = in->indptr[b]; i < in->indptr[b + 1]; i++) {
        const double keep = train ? factor(m, m->o.feature_dropout, 254, step, in->ids[b], (uint32_t)(i - in->indptr[b])) : 1;
        const double v = keep * (in->values ? in->values[i] : 1);
        for (int d = 0; d < D; d++)
            h[d] += v * m->embedding[(int64_t)in->indices[i] * D + d];
    }
}

static void residual(const model *m, double *h)
{
    double hidden[D], out[D];
    for (int i = 0; i < D; i++) {
        double z = m->b1[i];
        for (int j = 0; j < D; j++)
            z += m->w1[i * D + j] * h[j];
        hidden[i] = z > 0 ? z : 0;
    }
    for (int i = 0; i < D; i++) {
        out[i] = h[i] + m->b2[i];
        for (int j = 0; j < D; j++)
            out[i] += m->w2[i * D + j] * hidden[j];
    }
    memcpy(h, out, sizeof out);
}

static void model_row(const model *m, const hr_encoder_batch *in, int64_t b, bool train, uint64_t step, double *x)
{
    bag(m, in, b, train, step, x);
    if (m->o.residual)
        residual(m, x);
    double sum = 0, scale = 1;
    for (int d = 0; d < D; d++)
        sum += x[d] * x[d];
    if (m->o.norm > 0)
        scale = sum > 0 ? m->o.norm / sqrt(sum) : 0;
    for (int d = 0; d < D; d++)
        x[d] *= scale * (train ? factor(m, m->o.dropout, 255, step, in->ids[b], (uint32_t)d) : 1);
}

/* sum c . x, whose gradient by x is c. */
static double objective(const model *m, const hr_encoder_batch *in, uint64_t step, const float *c)
{
    double sum = 0, x[D];
    for (int64_t b = 0; b < in->rows; b++) {
        model_row(m, in, b, true, step, x);
        for (int d = 0; d < D; d++)
            sum += c[b * D + d] * x[d];
    }
    return sum;
}

static void make_dx(float *c, uint32_t seed)
{
    for (int i = 0; i < B * D; i++)
        c[i] = (float)noise(&seed);
}

/* The gradient of the embeddings, from what waits for the update. */
static void embedding_gradient(const hr_encoder *e, float *g)
{
    memset(g, 0, F * D * sizeof *g);
    for (int64_t i = 0; i < e->pending; i++) {
        const uint32_t entry = (uint32_t)e->keys[i];
        for (int d = 0; d < D; d++)
            g[(e->keys[i] >> 32) * D + (unsigned)d] += e->entry_value[entry] * e->dh0[e->entry_row[entry] * D + (unsigned)d];
    }
}

/* ---- forward and gradients ---- */

static hr_encoder *create(hr_ctx *ctx, const hr_encoder_options *o)
{
    hr_encoder *e = NULL;
    check_ok(ctx, hr_encoder_create(ctx, o, &e));
    shake(e);
    return e;
}

static void check_forward(hr_encoder *e, const model *m, const hr_encoder_batch *in, bool train)
{
    float x[B * D];
    hr_encoder_forward(e, in, train, 9, x);
    for (int64_t b = 0; b < in->rows; b++) {
        double expected[D];
        model_row(m, in, b, train, 9, expected);
        for (int d = 0; d < D; d++)
            if (!(fabs(x[b * D + d] - expected[d]) < 2e-6))
                fail_msg("x[%d][%d] = %g, expected %g (train %d)", (int)b, d, (double)x[b * D + d], expected[d], train);
    }
}

/* Central differences of one array of the double model. */
static void check_gradient(model *m, const hr_encoder_batch *in, const float *c, double *w, const float *g, int n, const char *name)
{
    double largest = 0;
    for (int i = 0; i < n; i++) {
        const double h = 1e-5, kept = w[i];
        w[i] = kept + h;
        const double up = objective(m, in, 9, c);
        w[i] = kept - h;
        const double slope = (up - objective(m, in, 9, c)) / (2 * h);
        w[i] = kept;
        largest = fmax(largest, fabs(slope));
        if (!(fabs(slope - g[i]) < 1e-5 + 1e-5 * fabs(slope)))
            fail_msg("%s[%d]: gradient %.8g, finite difference %.8g", name, i, (double)g[i], slope);
    }
    assert_true(largest > 0.01); /* the test sees something */
}

static void check_options(hr_ctx *ctx, const hr_encoder_options *o, bool with_values)
{
    rows r;
    model m;
    float c[B * D], dx[B * D], g[F * D], x[B * D];
    make_rows(&r, with_values);
    make_dx(c, 3);
    hr_encoder *e = create(ctx, o);
    model_of(e, &m);
    check_forward(e, &m, &r.batch, false);
    check_forward(e, &m, &r.batch, true);
    hr_encoder_forward(e, &r.batch, true, 9, x);
    memcpy(dx, c, sizeof dx);
    hr_encoder_backward(e, &r.batch, 9, dx);
    embedding_gradient(e, g);
    check_gradient(&m, &r.batch, c, m.embedding, g, F * D, "embedding");
    if (o->residual) {
        check_gradient(&m, &r.batch, c, m.w1, e->residual[HR_PARAM_W1].grad, D * D, "w1");
        check_gradient(&m, &r.batch, c, m.b1, e->residual[HR_PARAM_B1].grad, D, "b1");
        check_gradient(&m, &r.batch, c, m.w2, e->residual[HR_PARAM_W2].grad, D * D, "w2");
        check_gradient(&m, &r.batch, c, m.b2, e->residual[HR_PARAM_B2].grad, D, "b2");
    }
    hr_encoder_destroy(e);
}

static void test_gradients(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    for (int i = 0; i < 16; i++) {
        hr_encoder_options o = options();
        o.residual = i & 1;
        o.norm = i & 2 ? o.norm : 0;
        o.dropout = i & 4 ? o.dropout : 0;
        o.feature_dropout = i & 8 ? o.feature_dropout : 0;
        check_options(ctx, &o, i % 3 != 0);
    }
    check_ctx_empty(ctx);
}

/* ---- Adam ---- */

typedef struct adam_state {
    double w, m, v;
} adam_state;

/* Kingma & Ba 2015, Algorithm 1, with the decay of Loshchilov & Hutter 2019. */
static void adam(adam_state *s, double g, double lr, double decay, const hr_encoder_options *o, int t)
{
    const double b1 = o->beta1, b2 = o->beta2;
    s->m = b1 * s->m + (1 - b1) * g;
    s->v = b2 * s->v + (1 - b2) * g * g;
    const double m = s->m / (1 - pow(b1, t)), v = s->v / (1 - pow(b2, t));
    s->w = s->w * (1 - lr * decay) - lr * m / (sqrt(v) + (double)o->eps);
}

static void check_state(const hr_param *p, const adam_state *s, int64_t n, int t)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(p->w[i] - s[i].w) < 2e-6 && fabs(p->m[i] - s[i].m) < 1e-6 && fabs(p->v[i] - s[i].v) < 1e-6))
            fail_msg("%s[%d] after %d updates: %g %g %g, expected %g %g %g", p->name, (int)i, t, (double)p->w[i], (double)p->m[i],
                     (double)p->v[i], s[i].w, s[i].m, s[i].v);
}

/* Row-wise AdaGrad against its formula in double: v <- v + mean(g^2), w <- w - lr g / (sqrt(v) + eps); rows without features stand still,
 * and a gradient of zero is no division by zero. */
static void test_adagrad(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(3, "auto");
    hr_encoder_options o = options();
    o.optimizer = HR_ENCODER_ADAGRAD;
    rows r;
    float c[B * D], x[B * D], g[F * D];
    double w[F * D], v[F] = {0};
    make_rows(&r, true);
    hr_encoder *e = create(ctx, &o);
    assert_null(e->embedding.m);
    for (int i = 0; i < F * D; i++)
        w[i] = (double)e->embedding.w[i];
    for (int t = 1; t <= 5; t++) {
        const float lr = 0.01f * (float)t;
        hr_encoder_forward(e, &r.batch, true, (uint64_t)t, x);
        make_dx(c, (uint32_t)t);
        memset(c, 0, t == 1 ? sizeof c : 0);
        hr_encoder_backward(e, &r.batch, (uint64_t)t, c);
        embedding_gradient(e, g);
        for (int f = 0; f < F; f++) {
            double square = 0;
            for (int d = 0; d < D; d++)
                square += (double)g[f * D + d] * (double)g[f * D + d];
            v[f] += square / D;
            for (int d = 0; d < D && v[f] > 0; d++)
                w[f * D + d] -= (double)lr * (double)g[f * D + d] / (sqrt(v[f]) + (double)o.eps);
        }
        hr_encoder_update(e, lr, (uint64_t)t);
        for (int f = 0; f < F; f++)
            assert_true(fabs((double)e->embedding.v[f] - v[f]) <= 1e-5 * v[f]);
        for (int i = 0; i < F * D; i++)
            assert_true(fabs((double)e->embedding.w[i] - w[i]) < 1e-5);
    }
    assert_true(v[7] > 0 && v[11] == 0);
    hr_encoder_destroy(e);
    check_ctx_empty(ctx);
}

static void test_adam(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(3, "auto");
    const hr_encoder_options o = options();
    rows r;
    float c[B * D], x[B * D], g[F * D], start[F * D];
    adam_state table[F * D] = {0}, w1[D * D] = {0}, b2[D] = {0};
    bool touched[F], ever[F] = {0};
    make_rows(&r, true);
    hr_encoder *e = create(ctx, &o);
    memcpy(start, e->embedding.w, sizeof start);
    for (int i = 0; i < F * D; i++)
        table[i].w = e->embedding.w[i];
    for (int i = 0; i < D * D; i++)
        w1[i].w = e->residual[HR_PARAM_W1].w[i];
    for (int i = 0; i < D; i++)
        b2[i].w = e->residual[HR_PARAM_B2].w[i];
    for (int t = 1; t <= 6; t++) {
        const float lr = 0.01f * (float)t;
        hr_encoder_forward(e, &r.batch, true, (uint64_t)t, x);
        make_dx(c, (uint32_t)t);
        hr_encoder_backward(e, &r.batch, (uint64_t)t, c);
        embedding_gradient(e, g);
        memset(touched, 0, sizeof touched);
        for (int64_t i = 0; i < e->pending; i++)
            touched[e->keys[i] >> 32] = ever[e->keys[i] >> 32] = true;
        for (int i = 0; i < F * D; i++)
            if (touched[i / D])
                adam(&table[i], g[i], lr, 0, &o, t);
        for (int i = 0; i < D * D; i++)
            adam(&w1[i], e->residual[HR_PARAM_W1].grad[i], lr, o.weight_decay, &o, t);
        for (int i = 0; i < D; i++)
            adam(&b2[i], e->residual[HR_PARAM_B2].grad[i], lr, 0, &o, t);
        hr_encoder_update(e, lr, (uint64_t)t);
        check_state(&e->embedding, table, F * D, t);
        check_state(&e->residual[HR_PARAM_W1], w1, D * D, t);
        check_state(&e->residual[HR_PARAM_B2], b2, D, t);
    }
    assert_true(ever[7] && !ever[11] && !ever[12]);
    for (int i = 0; i < F * D; i++)
        if (!ever[i / D]) {
            assert_memory_equal(&e->embedding.w[i], &start[i], sizeof(float));
            assert_true(e->embedding.m[i] == 0 && e->embedding.v[i] == 0);
        }
    hr_encoder_destroy(e);
    check_ctx_empty(ctx);
}

/* ---- accumulation ---- */

static hr_encoder_batch part(const rows *r, int64_t at, int64_t n)
{
    hr_encoder_batch b = r->batch;
    b.rows = n;
    b.indptr += at;
    b.ids += at;
    return b;
}

/* Two micro-batches make the update of the batch of all their rows, but for the order of a few sums. */
static void test_accumulate(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_encoder_options o = options();
    rows r;
    float c[B * D], x[B * D];
    make_rows(&r, true);
    hr_encoder *whole = create(ctx, &o);
    o.accumulate = 2;
    o.max_batch = B / 2;
    hr_encoder *halves = create(ctx, &o);
    for (uint64_t t = 1; t <= 3; t++) {
        make_dx(c, (uint32_t)t);
        for (int64_t at = 0; at < B; at += B / 2) {
            const hr_encoder_batch half = part(&r, at, B / 2);
            hr_encoder_forward(halves, &half, true, t, x);
            hr_encoder_backward(halves, &half, t, c + at * D);
        }
        make_dx(c, (uint32_t)t);
        hr_encoder_forward(whole, &r.batch, true, t, x);
        hr_encoder_backward(whole, &r.batch, t, c);
        hr_encoder_update(halves, 0.01f, t);
        hr_encoder_update(whole, 0.01f, t);
    }
    hr_tensor_list a = {0}, b = {0};
    hr_encoder_tensors(whole, &a);
    hr_encoder_tensors(halves, &b);
    assert_int_equal(a.count, 15);
    for (int i = 0; i < a.count; i++)
        for (int64_t j = 0; j < a.item[i].rows * a.item[i].cols; j++)
            assert_true(fabsf(((float *)a.item[i].data)[j] - ((float *)b.item[i].data)[j]) < 1e-5f);
    hr_encoder_destroy(whole);
    hr_encoder_destroy(halves);
    check_ctx_empty(ctx);
}

/* ---- same bits ---- */

enum { WIDE_B = 150, WIDE_F = 500, WIDE_D = 40, WIDE_ROW = 9 };

typedef struct wide {
    int64_t indptr[WIDE_B + 1];
    uint32_t indices[WIDE_B * WIDE_ROW], ids[WIDE_B];
    float values[WIDE_B * WIDE_ROW];
    hr_encoder_batch batch;
} wide;

static void make_wide(wide *w)
{
    uint32_t seed = 1;
    int64_t n = 0;
    w->indptr[0] = 0;
    for (uint32_t b = 0; b < WIDE_B; b++) {
        w->ids[b] = b;
        for (uint32_t j = 0; j < b % (WIDE_ROW + 1); j++, n++) {
            w->indices[n] = (uint32_t)(fabs(noise(&seed)) * (WIDE_F - 1));
            w->values[n] = (float)noise(&seed);
        }
        w->indptr[b + 1] = n;
    }
    w->batch = (hr_encoder_batch){.rows = WIDE_B, .indptr = w->indptr, .indices = w->indices, .values = w->values, .ids = w->ids};
}

static hr_encoder_options wide_options(void)
{
    hr_encoder_options o = options();
    o.features = WIDE_F;
    o.dim = WIDE_D;
    o.max_batch = WIDE_B;
    o.max_row = WIDE_ROW;
    return o;
}

/* Five updates; all tensors end to end. */
static size_t train_wide(int threads, const wide *w, float *out)
{
    hr_ctx *ctx = check_ctx(threads, "auto");
    const hr_encoder_options o = wide_options();
    hr_encoder *e = create(ctx, &o);
    float *x = malloc(sizeof *x * WIDE_B * WIDE_D);
    for (uint64_t t = 1; t <= 5; t++) {
        hr_encoder_forward(e, &w->batch, true, t, x);
        hr_encoder_backward(e, &w->batch, t, x);
        hr_encoder_update(e, 0.01f, t);
    }
    hr_tensor_list list = {0};
    size_t n = 0;
    hr_encoder_tensors(e, &list);
    for (int i = 0; i < list.count; i++) {
        const size_t count = (size_t)(list.item[i].rows * list.item[i].cols);
        memcpy(out + n, list.item[i].data, count * sizeof *out);
        n += count;
    }
    free(x);
    hr_encoder_destroy(e);
    check_ctx_empty(ctx);
    return n;
}

static void test_threads(void **state)
{
    (void)state;
    static float one[3 * (WIDE_F * WIDE_D + 2 * WIDE_D * WIDE_D + 2 * WIDE_D)], other[sizeof one / sizeof *one];
    static wide w;
    make_wide(&w);
    const size_t n = train_wide(1, &w, one);
    assert_int_equal(n, sizeof one / sizeof *one);
    static const int threads[] = {2, 3, 7};
    for (int i = 0; i < 3; i++) {
        train_wide(threads[i], &w, other);
        assert_memory_equal(one, other, sizeof one);
    }
}

/* An instance gets the same bits alone and among others. */
static void test_batch_composition(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    static wide w;
    static float all[WIDE_B * WIDE_D], one[WIDE_B * WIDE_D];
    make_wide(&w);
    const hr_encoder_options o = wide_options();
    hr_encoder *e = create(ctx, &o);
    hr_encoder_forward(e, &w.batch, false, 0, all);
    static const int64_t heights[] = {1, 2, 5, 63, 64, 65, 100};
    for (size_t h = 0; h < sizeof heights / sizeof *heights; h++)
        for (int64_t at = 0; at < WIDE_B; at += heights[h]) {
            hr_encoder_batch b = w.batch;
            b.rows = WIDE_B - at < heights[h] ? WIDE_B - at : heights[h];
            b.indptr += at;
            hr_encoder_forward(e, &b, false, 0, one);
            assert_memory_equal(one, all + at * WIDE_D, (size_t)(b.rows * WIDE_D) * sizeof *one);
        }
    hr_encoder_destroy(e);
    check_ctx_empty(ctx);
}

/* ---- given vectors, memory, options ---- */

static void test_dense(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_encoder_options o = options();
    o.type = HR_ENCODER_DENSE;
    hr_encoder *e = NULL;
    assert_int_equal(hr_encoder_create(ctx, &o, &e), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "set encoder.dim=13"));
    o.features = D;
    o.norm = 0;
    check_ok(ctx, hr_encoder_create(ctx, &o, &e));
    float given[2 * D], x[2 * D];
    const uint32_t ids[] = {4, 5};
    for (int i = 0; i < 2 * D; i++)
        given[i] = (float)i;
    const hr_encoder_batch b = {.rows = 2, .dense = given, .ids = ids};
    hr_encoder_forward(e, &b, false, 0, x);
    assert_memory_equal(x, given, sizeof x);
    hr_encoder_forward(e, &b, true, 3, x);
    model m = {.o = o};
    for (int i = 0; i < 2 * D; i++)
        assert_true(fabs(x[i] - given[i] * factor(&m, o.dropout, 255, 3, ids[i / D], (uint32_t)(i % D))) < 1e-4);
    hr_encoder_backward(e, &b, 3, x);
    hr_encoder_update(e, 1, 1);
    hr_encoder_destroy(e);
    o.norm = 3;
    check_ok(ctx, hr_encoder_create(ctx, &o, &e));
    hr_encoder_forward(e, &b, false, 0, x);
    for (int i = 0; i < 2; i++) {
        double length = 0, before = 0;
        for (int d = 0; d < D; d++) {
            length += (double)x[i * D + d] * x[i * D + d];
            before += (double)given[i * D + d] * given[i * D + d];
        }
        assert_true(fabs(sqrt(length) - 3) < 1e-5 && fabs(x[i * D + 1] - 3 * given[i * D + 1] / sqrt(before)) < 1e-5);
    }
    hr_encoder_destroy(e);
    check_ctx_empty(ctx);
}

/* The features themselves, scaled, some of them left out; rows in the middle of a longer batch are the same; memory as planned. */
static void test_identity(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        hr_ctx *ctx = check_ctx(1 + i % 3, "auto");
        hr_encoder_options o = options();
        rows r;
        o.type = HR_ENCODER_IDENTITY;
        o.dim = F;
        o.training = i % 2;
        o.norm = i & 2 ? 0 : 1.5f;
        make_rows(&r, i & 4);
        size_t planned[HR_MEM_KINDS] = {0};
        hr_mem_report found;
        hr_encoder *e;
        hr_encoder_memory(&o, hr_ctx_threads(ctx), planned);
        check_ok(ctx, hr_encoder_create(ctx, &o, &e));
        hr_ctx_memory(ctx, &found);
        for (int k = 0; k < HR_MEM_KINDS; k++)
            assert_int_equal(found.now[k], planned[k]);
        if (!o.training) { /* it grows */
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 1, false);
            assert_int_equal(hr_encoder_forward(e, &r.batch, false, 0, NULL), HR_ERR_NOMEM);
        }
        for (int train = 0; train < 2; train++) {
            model m = {.o = o};
            float whole[ENTRIES];
            check_ok(ctx, hr_encoder_forward(e, &r.batch, train, 9, NULL));
            const hr_sparse_rows x = hr_encoder_sparse(e);
            memcpy(whole, x.values, (size_t)r.indptr[B] * sizeof *whole);
            for (int64_t b = 0; b < B; b++) {
                double length = 0;
                for (int64_t j = r.indptr[b]; j < r.indptr[b + 1]; j++)
                    length += i & 4 ? (double)r.values[j] * (double)r.values[j] : 1;
                for (int64_t j = x.indptr[b]; j < x.indptr[b + 1]; j++) {
                    const double v = (i & 4 ? (double)r.values[j] : 1) * (o.norm > 0 ? (double)o.norm / sqrt(length) : 1);
                    const double kept = train ? factor(&m, o.dropout, 254, 9, r.ids[b], (uint32_t)(j - r.indptr[b])) : 1;
                    assert_true(fabs((double)x.values[j] - v * kept) < 1e-6 && x.indices[j] == r.indices[j]);
                }
            }
            const hr_encoder_batch part = {.rows = 2, .indptr = r.indptr + 2, .indices = r.indices, .values = r.batch.values, .ids = r.ids + 2};
            check_ok(ctx, hr_encoder_forward(e, &part, train, 9, NULL));
            const hr_sparse_rows y = hr_encoder_sparse(e);
            assert_int_equal(y.indptr[2], r.indptr[4] - r.indptr[2]);
            assert_memory_equal(y.values, whole + r.indptr[2], (size_t)y.indptr[2] * sizeof(float));
            assert_memory_equal(y.indices, r.indices + r.indptr[2], (size_t)y.indptr[2] * sizeof(uint32_t));
        }
        hr_encoder_destroy(e);
        check_ctx_empty(ctx);
    }
}

static void test_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        hr_ctx *ctx = check_ctx(3, "auto");
        hr_encoder_options o = wide_options();
        o.training = i & 1;
        o.residual = i & 2;
        o.accumulate = i & 4 ? 3 : 1;
        size_t bytes[HR_MEM_KINDS] = {0};
        hr_mem_report m;
        hr_encoder *e = NULL;
        hr_encoder_memory(&o, 3, bytes);
        check_ok(ctx, hr_encoder_create(ctx, &o, &e));
        hr_ctx_memory(ctx, &m);
        for (int k = 0; k < HR_MEM_KINDS; k++)
            assert_int_equal(m.now[k], bytes[k]);
        hr_encoder_destroy(e);
        check_ctx_empty(ctx);
    }
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_encoder_options o = options();
    o.accumulate = o.max_batch = o.max_row = 65536;
    assert_int_equal(hr_encoder_check(ctx, &o), HR_ERR_CONFIG);
    o = options();
    for (int k = 1;; k++) {
        hr_encoder *e = NULL;
        hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, k, false);
        hr_status st = hr_encoder_create(ctx, &o, &e);
        hr_encoder_destroy(e);
        if (st == HR_OK)
            break;
        assert_int_equal(st, HR_ERR_NOMEM);
        assert_null(e);
    }
    hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
    check_ctx_empty(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_adam), cmocka_unit_test(test_adagrad),  cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_threads),   cmocka_unit_test(test_batch_composition),
        cmocka_unit_test(test_dense), cmocka_unit_test(test_identity),     cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
