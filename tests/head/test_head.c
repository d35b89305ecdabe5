/* The head's step against a plain double-precision step, finite differences, the sameness promises, and top-k. */
#include "check.h"

#include "base/rng.h"
#include "dtype/sigmoid.h"
#include "dtype/keep.h"
#include "head/head.h"
#include "kernels/kernels.h"

#include <math.h>

typedef struct problem {
    int64_t L, D, B, npos;
    float *x;
    uint64_t *pos;
} problem;

static float uniform(uint32_t i, uint32_t j, uint64_t seed)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(seed, 0, 0, 0), i, j, w);
    return (float)(w[0] >> 8) / 8388608.0f - 1.0f;
}

static problem make_problem(int64_t L, int64_t D, int64_t B)
{
    problem p = {.L = L, .D = D, .B = B};
    p.x = malloc((size_t)(B * D) * sizeof(float));
    for (int64_t i = 0; i < B * D; i++)
        p.x[i] = uniform((uint32_t)i, 1, 7);
    /* about three positives an instance, in (label, row) order, some labels with several rows */
    p.pos = malloc((size_t)(4 * B) * sizeof(uint64_t));
    for (int64_t l = 0; l < L; l++)
        for (int64_t b = 0; b < B; b++) {
            uint32_t w[4];
            hr_rng_block(hr_rng_make(11, 0, 0, 0), (uint32_t)l, (uint32_t)b, w);
            if (w[0] % (uint32_t)L < 3 && p.npos < 4 * B)
                p.pos[p.npos++] = (uint64_t)l << 32 | (uint64_t)b;
        }
    return p;
}

static void free_problem(problem *p)
{
    free(p->x);
    free(p->pos);
}

static hr_head_batch batch_of(const problem *p)
{
    return (hr_head_batch){.rows = p->B, .x = p->x, .num_positives = p->npos, .positives = p->pos};
}

static hr_head_options options_for(const problem *p, const char *dtype, hr_rounding rounding)
{
    hr_head_options o = {.labels = p->L, .dim = p->D, .max_batch = p->B, .training = true, .num_segments = 1, .seed = 99,
                         .init = 0.3f, .bias_value = -1.5f};
    o.segment[0] = (hr_segment_options){.rows = p->L, .rounding = rounding, .lr_scale = 1};
    assert_true(hr_dtype_parse(dtype, &o.segment[0].dtype));
    o.segment[0].scale_log2 = o.segment[0].dtype.bytes == 1 && o.segment[0].dtype.id != HR_I8R ? 6 : 0;
    assert_true(hr_dtype_parse("bf16", &o.segment[0].momentum_dtype));
    return o;
}

/* Real weights of row l: alpha * (code + compensation) * 2^-s. */
static double weight(hr_head *head, int64_t l, int64_t d)
{
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const hr_head_options *o = hr_head_get_options(head);
    for (int i = 0, t = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        const hr_tensor *codes = &list.item[t++];
        float scale = 1;
        if (s->dtype.id == HR_I8R)
            scale = ((const float *)list.item[t++].data)[l < s->rows ? l : 0];
        const uint16_t *comp = s->kahan ? (const uint16_t *)list.item[t].data + l * o->dim + d : NULL;
        t += s->kahan + (s->momentum > 0);
        if (l < s->rows) {
            const uint8_t *row = (const uint8_t *)codes->data + (size_t)(l * codes->cols) * s->dtype.bytes;
            const double c = (double)hr_dtype_load(s->dtype, row, d, scale) + (comp ? hr_bf16_decode(*comp) : 0);
            return (double)hr_head_alpha(head, i) * c * ldexp(1, -s->scale_log2);
        }
        l -= s->rows;
    }
    fail();
    return 0;
}

/* Loss and gradients in double; dw (L, D) and dx (B, D) may be NULL. */
static double plain_step(hr_head *head, const problem *p, const float *x, double *dw, double *dx)
{
    const hr_head_options *o = hr_head_get_options(head);
    double loss = 0;
    if (dw)
        memset(dw, 0, (size_t)(p->L * p->D) * sizeof *dw);
    if (dx)
        memset(dx, 0, (size_t)(p->B * p->D) * sizeof *dx);
    double *w = malloc((size_t)p->D * sizeof *w);
    for (int64_t l = 0, i = 0; l < p->L; l++) {
        for (int64_t d = 0; d < p->D; d++)
            w[d] = weight(head, l, d);
        for (int64_t b = 0; b < p->B; b++) {
            double z = o->bias == HR_BIAS_NONE ? 0 : o->bias_value;
            for (int64_t d = 0; d < p->D; d++)
                z += w[d] * x[b * p->D + d];
            const bool y = i < p->npos && p->pos[i] == ((uint64_t)l << 32 | (uint64_t)b);
            i += y;
            double g;
            if (o->loss == HR_LOSS_BCE) {
                loss += log1p(exp(z)) - (y ? z : 0);
                g = 1 / (1 + exp(-z)) - y;
            } else {
                const double s = y ? 1 : -1, m = fmax(0, 1 - s * z);
                loss += m * m;
                g = -2 * s * m;
            }
            for (int64_t d = 0; d < p->D; d++) {
                if (dw)
                    dw[l * p->D + d] += g * x[b * p->D + d];
                if (dx)
                    dx[b * p->D + d] += g * w[d];
            }
        }
    }
    free(w);
    return loss;
}

/* f32 step: dX, loss and new weights agree with double up to the rounding of sums of n products, n * 2^-24 * sum|ab|. */
static void check_against_plain(hr_loss loss_type, hr_reduction reduction, hr_arith arith)
{
    problem p = make_problem(2500, 37, 70);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.loss = loss_type;
    o.reduction = reduction;
    o.arith = arith;
    /* bf16 operands: each of the two is off by 2^-9 of itself, and logits that are off by 2^-8 of their terms (37 of at most 0.05) move
     * the gradient by at most as much again */
    const double coarse = arith == HR_ARITH_BF16 ? 0x1p-8 : 0;
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    assert_int_equal(hr_head_blocks(head), 2);
    double *dw = malloc((size_t)(p.L * p.D) * sizeof *dw), *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    double *before = malloc((size_t)(p.L * p.D) * sizeof *before), loss;
    float *found = malloc((size_t)(p.B * p.D) * sizeof *found);
    const double exact = plain_step(head, &p, p.x, dw, dx);
    const double factor = reduction == HR_SUM ? 1 : reduction == HR_MEAN_LABELS ? 1.0 / 2500 : 1.0 / (2500 * 70);
    for (int64_t i = 0; i < p.L * p.D; i++)
        before[i] = weight(head, i / p.D, i % p.D);
    const hr_head_batch batch = batch_of(&p);
    const float lr = 0.01f;
    check_ok(ctx, hr_head_step(head, &batch, lr, 1, found, &loss));
    assert_true(fabs(loss - exact * factor) < (1e-5 + coarse) * exact * factor);
    /* |g| <= 1 (BCE) or 2(1 + |z|) <= 20; |w| <= 0.05, |x| <= 1 */
    const double most_g = loss_type == HR_LOSS_BCE ? 1 : 20;
    for (int64_t i = 0; i < p.B * p.D; i++)
        assert_true(fabs(found[i] - dx[i] * factor) < (0x1p-24 * 2500 + 2 * coarse) * factor * most_g * 2500 * 0.05 * 0.1);
    for (int64_t i = 0; i < p.L * p.D; i++) {
        const double expected = before[i] - (double)lr * factor * dw[i];
        assert_true(fabs(weight(head, i / p.D, i % p.D) - expected) <
                    0x1p-23 * (1 + 70 * most_g * lr * factor * 70) + 2 * coarse * 70 * most_g * (double)lr * factor);
    }
    free(dw), free(dx), free(before), free(found);
    hr_head_destroy(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

static void test_plain_bce(void **state)
{
    (void)state;
    check_against_plain(HR_LOSS_BCE, HR_SUM, HR_ARITH_F32);
    check_against_plain(HR_LOSS_BCE, HR_SUM, HR_ARITH_BF16);
    check_against_plain(HR_LOSS_BCE, HR_MEAN_ALL, HR_ARITH_F32);
}

static void test_plain_hinge(void **state)
{
    (void)state;
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_SUM, HR_ARITH_F32);
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_SUM, HR_ARITH_BF16);
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_MEAN_LABELS, HR_ARITH_F32);
}

/* dX is the derivative of the loss that the head itself reports. */
static void test_finite_differences(void **state)
{
    (void)state;
    for (int loss_type = 0; loss_type < 2; loss_type++) {
        problem p = make_problem(300, 20, 9);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_NEAREST);
        o.loss = (hr_loss)loss_type;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx), *x = malloc((size_t)(p.B * p.D) * sizeof *x);
        const hr_head_batch batch = batch_of(&p);
        double loss;
        check_ok(ctx, hr_head_step(head, &batch, 0, 1, dx, &loss)); /* rate 0: nothing moves */
        for (int64_t i = 0; i < p.B * p.D; i += 7) {
            const float h = 1e-3f;
            memcpy(x, p.x, (size_t)(p.B * p.D) * sizeof *x);
            x[i] = p.x[i] + h;
            const double up = plain_step(head, &p, x, NULL, NULL), hi = x[i];
            x[i] = p.x[i] - h;
            const double down = plain_step(head, &p, x, NULL, NULL);
            const double slope = (up - down) / (hi - x[i]);
            /* the curvature of 300 labels adds h^2 |f'''| / 6 < 1e-5 */
            assert_true(fabs(slope - dx[i]) < 1e-3 * (1 + fabs(slope)));
        }
        assert_true(fabs(loss - plain_step(head, &p, p.x, NULL, NULL)) < 1e-5 * loss);
        free(dx), free(x);
        hr_head_destroy(head);
        free_problem(&p);
        check_ctx_empty(ctx);
    }
}

/* Everything a head holds, and the dX of its last step, as one checksum. */
static uint64_t digest(hr_head *head, const float *dx, int64_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    for (int i = 0; i <= list.count; i++) {
        const uint8_t *p = i < list.count ? list.item[i].data : (const void *)dx;
        const size_t bytes = i < list.count ? (size_t)(list.item[i].rows * list.item[i].cols) *
                                                  hr_tensor_element_bytes(list.item[i].type)
                                            : (size_t)n * sizeof(float);
        for (size_t j = 0; j < bytes; j++)
            h = (h ^ p[j]) * 0x100000001b3;
    }
    return h;
}

static uint64_t train_digest(const problem *p, hr_head_options o, int threads, int64_t chunk, const char *isa, int steps)
{
    hr_ctx *ctx = check_ctx(threads, isa);
    hr_head *head;
    o.chunk = chunk;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    float *dx = malloc((size_t)(p->B * p->D) * sizeof *dx);
    const hr_head_batch batch = batch_of(p);
    for (int s = 0; s < steps; s++)
        check_ok(ctx, hr_head_step(head, &batch, 0.3f, (uint64_t)s, dx, NULL));
    const uint64_t h = digest(head, dx, p->B * p->D);
    free(dx);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    return h;
}

static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4"};

/* Same bits for 1, 2, 3, 7 threads, two chunk sizes, and, for the head, every instruction set. */
static void test_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(9000, 50, 33);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.weight_decay = 0.05f;
        if (t == 3) { /* Kahan head, momentum, biases */
            o.num_segments = 2;
            o.segment[1] = o.segment[0];
            o.segment[0].rows = 1500;
            o.segment[0].kahan = true;
            o.segment[1].rows = p.L - 1500;
            o.segment[1].momentum = 0.5f;
            o.bias = HR_BIAS_PER_LABEL;
        }
        o.arith = t % 3 == 1 ? HR_ARITH_BF16 : HR_ARITH_F32; /* bf16, e5m2 */
        const uint64_t one = train_digest(&p, o, 1, 0, "auto", 3);
        static const int threads[] = {2, 3, 7};
        for (int i = 0; i < 3; i++)
            assert_true(train_digest(&p, o, threads[i], 0, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1 << 20, "auto", 3) == one);
        if (t == 0 || t == 1 || t == 3)
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
                assert_true(train_digest(&p, o, 2, 0, hr_isa_name((hr_isa)isa), 3) == one);
    }
    free_problem(&p);
}

/* ---- the sparse gradient ---- */

static hr_head_options sparse_options(const problem *p, const char *dtype, float tau)
{
    hr_head_options o = options_for(p, dtype, HR_ROUND_STOCHASTIC);
    o.gradient = HR_GRADIENT_SPARSE;
    o.tau = tau;
    o.bias_value = -4;
    return o;
}

/* G (L, B) as hr_keep and the streams make it, from int8 logits recomputed in plain C: q of W and of X by the reference kernel, whose
 * own contract is tested with the kernels; the integer product and the two scales in double. */
static void plain_sparse_gradient(hr_head *head, const problem *p, float tau, uint64_t step, double *g)
{
    const hr_head_options *o = hr_head_get_options(head);
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const hr_dtype f32 = {.id = HR_F32, .bytes = 4}, type = o->segment[0].dtype;
    int8_t *xq = malloc((size_t)(p->B * p->D)), *wq = malloc((size_t)p->D);
    float *xs = malloc((size_t)p->B * sizeof *xs);
    for (int64_t b = 0; b < p->B; b++)
        xs[b] = ref.quantize(p->D, p->x + b * p->D, 0, f32, xq + b * p->D).scale;
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const hr_rng first = hr_rng_make(o->seed, step, o->first_tensor, 2), refine = hr_rng_make(o->seed, step, o->first_tensor, 3);
    for (int64_t l = 0, i = 0; l < p->L; l++) {
        const uint8_t *codes = (const uint8_t *)list.item[0].data + (size_t)(l * list.item[0].cols) * type.bytes;
        const float row_scale = type.id == HR_I8R ? ((const float *)list.item[1].data)[l] : 1;
        const float ws = ref.quantize(p->D, codes, row_scale, type, wq).scale;
        for (int64_t b = 0; b < p->B; b++) {
            int64_t dot = 0;
            for (int64_t d = 0; d < p->D; d++)
                dot += (int64_t)wq[d] * xq[b * p->D + d];
            const float z = fmaf(ldexpf(hr_head_alpha(head, 0), -o->segment[0].scale_log2), (float)dot * (ws * xs[b]), o->bias_value);
            const uint16_t draw = hr_rng_draw16(first, (uint32_t)l, (uint32_t)b);
            g[l * p->B + b] = (double)hr_keep(hr_sigmoid(z), tau, draw, refine, (uint32_t)l, (uint32_t)b);
            if (i < p->npos && p->pos[i] == ((uint64_t)l << 32 | (uint64_t)b)) {
                g[l * p->B + b] -= 1;
                i++;
            }
        }
    }
    free(xq), free(wq), free(xs);
}

/* dX and the new weights are those of the G that the law gives, entry by entry: with thresholds that make sparse tiles, dense ones
 * and both. In f32 the only differences are the roundings of sums: n terms of at most 1 * |w| (dX), 1 * |x| (dW). */
static void test_sparse_step(void **state)
{
    (void)state;
    static const char *const kinds[] = {"f32", "bf16", "e4m3", "i8r"};
    static const float taus[] = {0, 0.02f, 0.08f, 0.5f};
    problem p = make_problem(2300, 75, 70);
    double *g = malloc((size_t)(p.L * p.B) * sizeof *g), *w = malloc((size_t)(p.L * p.D) * sizeof *w);
    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    for (int type = 0; type < 4; type++)
        for (int t = 0; t < 4; t++) {
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_head_options o = sparse_options(&p, kinds[type], taus[t]);
            o.bias_value = t == 2 ? -4.46f : -4; /* with tau 0.08: about a fifth of the entries, tiles on both sides */
            o.reduction = type == 1 ? HR_MEAN_LABELS : HR_SUM;
            const double factor = type == 1 ? (double)(float)(1.0 / 2300) : 1;
            hr_head *head;
            check_ok(ctx, hr_head_create(ctx, &o, &head));
            plain_sparse_gradient(head, &p, taus[t], 7, g);
            /* a tile (96 labels, cut where its block ends) is dense when more than a fifth of its entries are kept */
            int64_t dense_tiles = 0;
            for (int64_t l = 0, block = hr_head_block_rows(head); l < p.L;) {
                int64_t end = (l / block + 1) * block, kept = 0;
                end = end < l + 96 ? end : l + 96;
                end = end < p.L ? end : p.L;
                for (int64_t i = l * p.B; i < end * p.B; i++)
                    kept += g[i] != 0 && g[i] != -1;
                for (int64_t i = 0; i < p.npos; i++)
                    kept += (int64_t)(p.pos[i] >> 32) >= l && (int64_t)(p.pos[i] >> 32) < end;
                dense_tiles += kept > (end - l) * p.B / 5;
                l = end;
            }
            for (int64_t i = 0; i < p.L * p.B; i++)
                g[i] *= factor;
            for (int64_t i = 0; i < p.L * p.D; i++)
                w[i] = weight(head, i / p.D, i % p.D);
            const hr_head_batch batch = batch_of(&p);
            const float lr = type == 0 ? 0.01f : 0;
            check_ok(ctx, hr_head_step(head, &batch, lr, 7, dx, NULL));
            int64_t entries = p.npos;
            for (int64_t i = 0; i < p.L * p.B; i++)
                entries += g[i] != 0 && g[i] != -factor;
            const hr_head_counts n = hr_head_last_counts(head);
            assert_int_equal(n.entries, entries);
            assert_int_equal(n.cells, p.L * p.B);
            assert_int_equal(n.rows, p.L);
            assert_int_equal(n.dense_tiles, dense_tiles);
            if (t == 0)
                assert_int_equal(n.dense_tiles, n.tiles);
            if (t == 2)
                assert_true(n.dense_tiles > 0 && n.dense_tiles < n.tiles);
            if (t == 3)
                assert_true(n.dense_tiles == 0 && n.touched < n.rows);
            for (int64_t b = 0; b < p.B; b++)
                for (int64_t d = 0; d < p.D; d++) {
                    double sum = 0, size = 0;
                    for (int64_t l = 0; l < p.L; l++) {
                        sum += g[l * p.B + b] * w[l * p.D + d];
                        size += fabs(g[l * p.B + b] * w[l * p.D + d]);
                    }
                    assert_true(fabs(dx[b * p.D + d] - sum) <= 0x1p-24 * 200 * size + 1e-9);
                }
            for (int64_t l = 0; l < p.L && type == 0; l++)
                for (int64_t d = 0; d < p.D; d++) {
                    double sum = 0;
                    for (int64_t b = 0; b < p.B; b++)
                        sum += g[l * p.B + b] * (double)p.x[b * p.D + d];
                    const double expected = w[l * p.D + d] - (double)lr * sum;
                    assert_true(fabs(weight(head, l, d) - expected) < 0x1p-23 * (1 + 70 * lr * 70));
                }
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    free(g), free(w), free(dx);
    free_problem(&p);
}

/* Same bits for any number of threads, any chunk, and on every instruction set: e4m3 and i8r, with lists, dense tiles and biases. */
static void test_sparse_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(9000, 50, 33);
    static const char *const kinds[] = {"e4m3", "i8r", "bf16"};
    for (int t = 0; t < 3; t++) {
        hr_head_options o = sparse_options(&p, kinds[t], t == 1 ? 0.06f : 0.09f);
        o.weight_decay = 0.05f;
        o.bias = t == 2 ? HR_BIAS_PER_LABEL : HR_BIAS_SCALAR;
        o.arith = t == 0 ? HR_ARITH_BF16 : HR_ARITH_F32; /* of the dense tiles */
        const uint64_t one = train_digest(&p, o, 1, 0, "auto", 3);
        static const int threads[] = {2, 3, 7};
        for (int i = 0; i < 3; i++)
            assert_true(train_digest(&p, o, threads[i], 0, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1 << 20, "auto", 3) == one);
        for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
            assert_true(train_digest(&p, o, 2, 0, hr_isa_name((hr_isa)isa), 3) == one);
    }
    free_problem(&p);
}

/* The mean of dX over many steps at rate zero (the weights stand still, the draws change) approaches the dX of tau = 0. */
static void test_sparse_unbiased(void **state)
{
    (void)state;
    enum { STEPS = 600 };
    problem p = make_problem(1100, 12, 6);
    hr_ctx *ctx = check_ctx(1, "auto");
    float exact[72], dx[72];
    double sum[72] = {0}, square[72] = {0};
    const hr_head_batch batch = batch_of(&p);
    hr_head_options o = sparse_options(&p, "e4m3", 0);
    for (int mode = 0; mode < 2; mode++) {
        hr_head *head;
        o.tau = mode ? 0.3f : 0;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        for (uint64_t s = 0; s < (mode ? STEPS : 1); s++) {
            check_ok(ctx, hr_head_step(head, &batch, 0, s, mode ? dx : exact, NULL));
            for (int i = 0; mode && i < 72; i++) {
                sum[i] += (double)dx[i];
                square[i] += (double)dx[i] * (double)dx[i];
            }
        }
        if (mode) {
            const hr_head_counts n = hr_head_last_counts(head);
            assert_true(n.dense_tiles == 0 && n.entries < n.cells / 5);
        }
        hr_head_destroy(head);
    }
    double chi = 0;
    for (int i = 0; i < 72; i++) {
        const double mean = sum[i] / STEPS, error = sqrt((square[i] / STEPS - mean * mean) / STEPS);
        assert_true(fabs(mean - (double)exact[i]) < 5 * error);
        chi += pow((mean - (double)exact[i]) / error, 2);
    }
    assert_true(chi < 72 + 6 * 12); /* correlated, but about one each: variance of a chi^2 with 72 degrees is 144 */
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* tau from the batch: kappa / (lr_peak * max |x|^2), never above 0.05, and the same at any present rate. */
static void test_sparse_auto_tau(void **state)
{
    (void)state;
    problem p = make_problem(300, 20, 9);
    double norm2 = 0;
    for (int64_t b = 0; b < p.B; b++) {
        double own = 0;
        for (int64_t d = 0; d < p.D; d++)
            own += (double)p.x[b * p.D + d] * (double)p.x[b * p.D + d];
        norm2 = own > norm2 ? own : norm2;
    }
    for (int peak = 0; peak < 3; peak++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = sparse_options(&p, "e4m3", -1);
        o.lr_peak = peak == 0 ? 0.01f : (float)peak;
        hr_head *head;
        float dx[180];
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        const hr_head_batch batch = batch_of(&p);
        const double expected = fmin(0.05, 0.1 / (o.lr_peak * norm2));
        for (int present = 0; present < 2; present++) {
            check_ok(ctx, hr_head_step(head, &batch, present ? 0.01f : 0, 1, dx, NULL));
            assert_true(fabs((double)hr_head_last_counts(head).tau - expected) < 1e-6 * expected);
        }
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* Where the law is not defined it is refused. */
static void test_sparse_refused(void **state)
{
    (void)state;
    problem p = make_problem(100, 8, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    for (int i = 0; i < 6; i++) {
        hr_head_options o = sparse_options(&p, "e4m3", -1);
        o.segment[0].kahan = i == 0;
        o.segment[0].momentum = i == 1 ? 0.5f : 0;
        o.loss = i == 2 ? HR_LOSS_SQUARED_HINGE : HR_LOSS_BCE;
        o.arith = i == 3 ? HR_ARITH_ELMO : HR_ARITH_F32;
        o.eager_decay = i == 4;
        o.tau = i == 5 ? NAN : -1;
        static const char *const named[] = {"head.kahan_top", "head.momentum", "squared_hinge", "head.arith=elmo", "head.decay=eager", "tau"};
        assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
        assert_non_null(strstr(hr_ctx_message(ctx), named[i]));
    }
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A rate of zero leaves every bit of every storage type as it is. */
static void test_zero_rate(void **state)
{
    (void)state;
    problem p = make_problem(700, 33, 10);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.weight_decay = 1;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        const hr_head_batch batch = batch_of(&p);
        const uint64_t before = digest(head, dx, 0);
        for (uint64_t s = 0; s < 3; s++)
            check_ok(ctx, hr_head_step(head, &batch, 0, s, dx, NULL));
        assert_true(digest(head, dx, 0) == before);
        free(dx);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* Decay as one factor: after many steps weights and alpha agree with eager decay in f32, through the halving. */
static void test_decay(void **state)
{
    (void)state;
    problem p = make_problem(200, 16, 8);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head *scalar, *eager;
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.weight_decay = 0.5f;
    check_ok(ctx, hr_head_create(ctx, &o, &scalar));
    o.eager_decay = true;
    check_ok(ctx, hr_head_create(ctx, &o, &eager));
    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    const hr_head_batch batch = batch_of(&p);
    for (uint64_t s = 0; s < 40; s++) {
        check_ok(ctx, hr_head_step(scalar, &batch, 0.1f, s, dx, NULL));
        check_ok(ctx, hr_head_step(eager, &batch, 0.1f, s, dx, NULL));
        assert_true(hr_head_alpha(scalar, 0) >= 0.5f && hr_head_alpha(scalar, 0) <= 1);
    }
    for (int64_t i = 0; i < p.L * p.D; i++)
        assert_true(fabs(weight(scalar, i / p.D, i % p.D) - weight(eager, i / p.D, i % p.D)) < 1e-5);
    free(dx);
    hr_head_destroy(scalar);
    hr_head_destroy(eager);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* Updates far below the grid: nearest stands still, Kahan and stochastic rounding move by what was asked. */
static void test_small_updates_are_not_lost(void **state)
{
    (void)state;
    problem p = make_problem(64, 48, 16);
    double moved[3] = {0};
    for (int mode = 0; mode < 3; mode++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", mode == 0 ? HR_ROUND_NEAREST : HR_ROUND_STOCHASTIC);
        o.segment[0].kahan = mode == 2;
        o.init = 2;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        double *dw = malloc((size_t)(p.L * p.D) * sizeof *dw), *w = malloc((size_t)(p.L * p.D) * sizeof *w), along = 0, size = 0;
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        plain_step(head, &p, p.x, dw, NULL);
        for (int64_t i = 0; i < p.L * p.D; i++)
            w[i] = weight(head, i / p.D, i % p.D);
        const hr_head_batch batch = batch_of(&p);
        for (uint64_t s = 0; s < 50; s++)
            check_ok(ctx, hr_head_step(head, &batch, 1e-5f, s, dx, NULL));
        /* how far the weights went along the first gradient, in units of what was asked */
        for (int64_t i = 0; i < p.L * p.D; i++) {
            along += (w[i] - weight(head, i / p.D, i % p.D)) * dw[i];
            size += dw[i] * dw[i];
        }
        moved[mode] = along / (size * 50 * 1e-5);
        free(dw), free(w), free(dx);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    assert_true(fabs(moved[0]) < 0.1);
    assert_true(fabs(moved[1] - 1) < 0.2);
    assert_true(fabs(moved[2] - 1) < 0.2);
    free_problem(&p);
}

/* Which draw rounds what (docs/numerics.md section 1): from zero weights, with one instance, each new code can be computed
 * by hand: dw = sigmoid(bias) x, weights by (tensor 2i, stream 0), momentum by (tensor 2i + 1, stream 8). */
static void test_streams(void **state)
{
    (void)state;
    for (int momentum = 0; momentum < 2; momentum++) {
        problem p = make_problem(70, 40, 1);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
        o.init = 0;
        o.first_tensor = 4;
        o.segment[0].momentum = momentum ? 0.5f : 0;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        const hr_head_batch batch = {.rows = 1, .x = p.x};
        float dx[40];
        const uint64_t step = (UINT64_C(5) << 32) + 9;
        check_ok(ctx, hr_head_step(head, &batch, 0.01f, step, dx, NULL));
        for (uint32_t l = 0; l < 70; l++)
            for (uint32_t d = 0; d < 40; d++) {
                float dw = hr_sigmoid(o.bias_value) * p.x[d];
                if (momentum)
                    dw = hr_dtype_round(o.segment[0].momentum_dtype, HR_ROUND_STOCHASTIC, dw,
                                        hr_rng_draw16(hr_rng_make(o.seed, step, 5, HR_STREAM_STATE), l, d));
                const uint16_t draw = hr_rng_draw16(hr_rng_make(o.seed, step, 4, HR_STREAM_ROUND), l, d);
                const float code = hr_dtype_round(o.segment[0].dtype, HR_ROUND_STOCHASTIC, -(0.01f * 64) * dw, draw);
                assert_true(weight(head, l, d) == (double)code / 64);
            }
        hr_head_destroy(head);
        free_problem(&p);
        check_ctx_empty(ctx);
    }
}

static void test_bad_input(void **state)
{
    (void)state;
    problem p = make_problem(100, 8, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    float dx[32];
    const hr_head_batch batch = batch_of(&p);
    const uint64_t before = digest(head, dx, 0);
    p.x[13] = NAN;
    assert_int_equal(hr_head_step(head, &batch, 0.1f, 0, dx, NULL), HR_ERR_NUMERIC);
    assert_non_null(strstr(hr_ctx_message(ctx), "X[1][5]"));
    p.x[13] = 1e30f;
    assert_int_equal(hr_head_step(head, &batch, 0.1f, 0, dx, NULL), HR_ERR_NUMERIC);
    p.x[13] = 0;
    assert_int_equal(hr_head_step(head, &batch, INFINITY, 0, dx, NULL), HR_ERR_NUMERIC);
    assert_int_equal(hr_head_step(head, &batch, 1e37f, 0, dx, NULL), HR_ERR_NUMERIC); /* times 2^6 it overflows */
    assert_true(digest(head, dx, 0) == before);
    hr_head_destroy(head);
    o.segment[0].rows = 99;
    assert_int_equal(hr_head_create(ctx, &o, &head), HR_ERR_CONFIG);
    assert_null(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* What is planned is what is booked. */
static void test_memory(void **state)
{
    (void)state;
    problem p = make_problem(5000, 100, 40);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_ctx *ctx = check_ctx(3, "auto");
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.segment[0].momentum = t % 2 ? 0.9f : 0;
        o.segment[0].kahan = t == 3;
        o.arith = t % 2 ? HR_ARITH_BF16 : HR_ARITH_F32;
        if (t >= 4) {
            o.gradient = HR_GRADIENT_SPARSE;
            o.segment[0].momentum = 0;
        }
        size_t planned[HR_MEM_KINDS] = {0};
        hr_head_memory(&o, 3, planned);
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        hr_mem_report m;
        hr_ctx_memory(ctx, &m);
        for (int k = 0; k < HR_MEM_KINDS; k++)
            assert_int_equal(m.now[k], planned[k]);
        hr_head_destroy(head);
        /* and every failing allocation is answered */
        for (int64_t n = 1;; n++) {
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, n, false);
            hr_status st = hr_head_create(ctx, &o, &head);
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
            if (st == HR_OK)
                break;
            assert_int_equal(st, HR_ERR_NOMEM);
            assert_null(head);
        }
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

static void test_topk(void **state)
{
    (void)state;
    problem p = make_problem(3000, 24, 45);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)(p.L - 1 - l);
    enum { K = 12 };
    uint32_t ids[45 * K], first[45 * K];
    float scores[45 * K];
    for (int threads = 1; threads < 4; threads++) {
        hr_ctx *ctx = check_ctx(threads, "auto");
        hr_head_options o = options_for(&p, "e2m1", HR_ROUND_NEAREST); /* a coarse grid: many equal scores */
        o.init = 30;
        for (int64_t i = 0; i < p.B * p.D; i++)
            p.x[i] = (float)(i * 7 % 3 - 1);
        hr_head *head;
        hr_head_topk *work;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        check_ok(ctx, hr_head_topk_create(ctx, p.B, K, &work));
        check_ok(ctx, hr_head_top(head, work, p.B, p.x, K, external, ids, scores, NULL, NULL));
        for (int64_t b = 0; b < p.B; b++) {
            uint8_t taken[3000] = {0};
            for (int k = 0; k < K; k++) {
                double best = -INFINITY;
                int64_t at = -1;
                for (int64_t e = 0; e < p.L; e++) { /* external ids ascend: the first of equals wins */
                    double z = o.bias_value;
                    for (int64_t d = 0; d < p.D && !taken[e]; d++)
                        z += weight(head, p.L - 1 - e, d) * p.x[b * p.D + d];
                    if (!taken[e] && z > best) {
                        best = z;
                        at = e;
                    }
                }
                taken[at] = 1;
                assert_int_equal(ids[b * K + k], at);
                assert_true(scores[b * K + k] == (float)best);
            }
            b += 10;
        }
        if (threads == 1)
            memcpy(first, ids, sizeof ids);
        assert_memory_equal(first, ids, sizeof ids);
        hr_head_topk_destroy(ctx, work);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free(external);
    free_problem(&p);
}

/* Weights and biases that are no numbers, infinite or tiny: nothing is read or written outside, and one query and many still agree. */
static void test_topk_extremes(void **state)
{
    (void)state;
    enum { K = 5, B = 37 };
    problem p = make_problem(1500, 20, B);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.bias = HR_BIAS_PER_LABEL;
    o.init = 0.2f;
    hr_head *head;
    hr_head_topk *work;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    float *w = list.item[0].data, *bias = list.item[list.count - 1].data;
    const int64_t pitch = list.item[0].cols;
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    uint32_t one[B * K], many[B * K];
    float score_one[B * K], score_many[B * K];
    for (int round = 0; round < 4; round++) {
        bias[7] = round == 0 ? INFINITY : round == 1 ? -INFINITY : 0;
        w[500 * pitch + 3] = round == 2 ? INFINITY : 0.1f;
        w[501 * pitch + 3] = round == 2 ? NAN : 0.1f;
        for (int64_t i = 0; round == 3 && i < p.L * pitch; i++) /* all below where int8 has no scale */
            w[i] = i % pitch < p.D ? ldexpf(uniform((uint32_t)i, 1, 3), -103) : 0;
        for (int64_t l = 0; round == 3 && l < p.L; l++)
            bias[l] = 0;
        for (int64_t b = 0; b < B; b++)
            check_ok(ctx, hr_head_top(head, work, 1, p.x + b * p.D, K, external, one + b * K, score_one + b * K, NULL, NULL));
        check_ok(ctx, hr_head_top(head, work, B, p.x, K, external, many, score_many, NULL, NULL));
        assert_memory_equal(one, many, sizeof one);
        assert_memory_equal(score_one, score_many, sizeof score_one);
    }
    free(external);
    hr_head_topk_destroy(ctx, work);
    hr_head_destroy(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A model in several pieces, as a folder of shards is opened: pieces that no tile ends with. */
static void test_topk_shards(void **state)
{
    (void)state;
    enum { K = 5, B = 9, ROWS = 101, PIECES = 23 };
    static const char *const kinds[] = {"e4m3", "i8r", "f32"};
    problem p = make_problem(ROWS * PIECES - 13, 30, B);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    for (int t = 0; t < 3; t++) {
        hr_ctx *ctx = check_ctx(2, "auto");
        hr_head_options o = options_for(&p, kinds[t], HR_ROUND_NEAREST);
        hr_head *head, *pieces;
        hr_head_topk *work;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        o.training = false;
        check_ok(ctx, hr_head_create(ctx, &o, &pieces));
        check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
        hr_tensor_list list = {0};
        hr_head_tensors(head, &list);
        const size_t pitch = (size_t)list.item[0].cols * o.segment[0].dtype.bytes;
        void *codes[PIECES];
        float *scales[PIECES];
        for (int64_t i = 0; i < PIECES; i++) { /* blocks of their own, exactly as large as their rows */
            const int64_t rows = i < PIECES - 1 ? ROWS : ROWS - 13;
            codes[i] = malloc((size_t)rows * pitch);
            memcpy(codes[i], (uint8_t *)list.item[0].data + (size_t)(i * ROWS) * pitch, (size_t)rows * pitch);
            scales[i] = malloc((size_t)rows * sizeof(float));
            if (t == 1)
                memcpy(scales[i], (float *)list.item[1].data + i * ROWS, (size_t)rows * sizeof(float));
        }
        hr_head_attach(pieces, 0, ROWS, PIECES, (const void *const *)codes, (const float *const *)scales);
        for (int64_t batch = 1; batch <= B; batch += 8) {
            uint32_t one[B * K], two[B * K];
            float score_one[B * K], score_two[B * K];
            check_ok(ctx, hr_head_top(head, work, batch, p.x, K, external, one, score_one, NULL, NULL));
            check_ok(ctx, hr_head_top(pieces, work, batch, p.x, K, external, two, score_two, NULL, NULL));
            assert_memory_equal(one, two, (size_t)(batch * K) * sizeof *one);
            assert_memory_equal(score_one, score_two, (size_t)(batch * K) * sizeof *score_one);
        }
        for (int i = 0; i < PIECES; i++)
            free(codes[i]), free(scales[i]);
        hr_head_topk_destroy(ctx, work);
        hr_head_destroy(pieces);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free(external);
    free_problem(&p);
}

/* The reduction's factor does not meet the floor of bf16 operands: dX of mean_all, with a factor of 2^-50 and less, is that of f32. */
static void test_bf16_small_factor(void **state)
{
    (void)state;
    problem p = make_problem(1200, 24, 16);
    hr_ctx *ctx = check_ctx(1, "auto");
    float dx[2][16 * 24];
    hr_head_batch batch = batch_of(&p);
    batch.weight = 0x1p-40f;
    batch.num_positives = 0;
    for (int arith = 0; arith < 2; arith++) {
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
        o.reduction = HR_MEAN_ALL;
        o.bias_value = -12;
        o.arith = (hr_arith)arith;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        check_ok(ctx, hr_head_step(head, &batch, 0, 1, dx[arith], NULL));
        hr_head_destroy(head);
    }
    double error = 0, size = 0;
    for (int i = 0; i < 16 * 24; i++) {
        error += pow((double)dx[0][i] - (double)dx[1][i], 2);
        size += pow((double)dx[0][i], 2);
    }
    assert_true(size > 0 && sqrt(error / size) < 0.01);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A query's answer does not depend on the queries beside it, to the last bit: one alone is scored directly, many go through int8
 * scores and their error bound; on every instruction set, storage type and kind of bias, for weights like trained ones (some large,
 * most small) and for queries of very different size. */
static void test_topk_any_batch(void **state)
{
    (void)state;
    enum { K = 7, B = 70 };
    problem p = make_problem(5000, 83, B);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    for (int64_t i = 0; i < p.B * p.D; i++)
        p.x[i] *= i / p.D % 5 == 1 ? 1e-3f : i / p.D % 5 == 2 ? 100.0f : i / p.D % 5 == 3 && i % 7 == 0 ? 40.0f : 1.0f;
    memset(p.x + 4 * p.D, 0, (size_t)p.D * sizeof *p.x); /* a query of zeros: all labels are equal */
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int bias = 0; bias < 2; bias++) {
            static uint32_t one[B * K], many[B * K];
            static float score_one[B * K], score_many[B * K];
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++) {
                hr_ctx *ctx = check_ctx(2, hr_isa_name((hr_isa)isa));
                hr_head_options o = options_for(&p, types[t], HR_ROUND_NEAREST);
                o.bias = bias ? HR_BIAS_PER_LABEL : HR_BIAS_SCALAR;
                o.init = t % 2 ? 0.5f : 0.01f;
                hr_head *head;
                hr_head_topk *work;
                check_ok(ctx, hr_head_create(ctx, &o, &head));
                hr_tensor_list list = {0};
                hr_head_tensors(head, &list);
                for (int64_t l = 0; bias && l < p.L; l++)
                    ((float *)list.item[list.count - 1].data)[l] = uniform((uint32_t)l, 5, 5);
                check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
                for (int64_t b = 0; isa == 0 && b < B; b++)
                    check_ok(ctx, hr_head_top(head, work, 1, p.x + b * p.D, K, external, one + b * K, score_one + b * K, NULL, NULL));
                static const int64_t sizes[] = {2, 3, 32, 33, 70};
                for (int s = 0; s < 5; s++) {
                    check_ok(ctx, hr_head_top(head, work, sizes[s], p.x, K, external, many, score_many, NULL, NULL));
                    assert_memory_equal(one, many, (size_t)(sizes[s] * K) * sizeof *one);
                    assert_memory_equal(score_one, score_many, (size_t)(sizes[s] * K) * sizeof *score_one);
                }
                hr_head_topk_destroy(ctx, work);
                hr_head_destroy(head);
                check_ctx_empty(ctx);
            }
        }
    free(external);
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_bce), cmocka_unit_test(test_plain_hinge), cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_zero_rate),   cmocka_unit_test(test_decay),
        cmocka_unit_test(test_small_updates_are_not_lost), cmocka_unit_test(test_bad_input), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_sparse_step), cmocka_unit_test(test_sparse_same_bits), cmocka_unit_test(test_sparse_unbiased),
        cmocka_unit_test(test_sparse_auto_tau), cmocka_unit_test(test_sparse_refused),
        cmocka_unit_test(test_topk), cmocka_unit_test(test_topk_any_batch), cmocka_unit_test(test_topk_extremes),
        cmocka_unit_test(test_topk_shards), cmocka_unit_test(test_bf16_small_factor),      cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}
