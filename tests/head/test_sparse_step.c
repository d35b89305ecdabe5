/* The step with the sparse gradient: the law entry by entry, sameness, no bias, tau, and what is refused. */
#include "tests/head/fixture.h"

#include "dtype/keep.h"
#include "dtype/sigmoid.h"
#include "head/segment.h"
#include "kernels/kernels.h"

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
        xs[b] = ref.quantize(p->D, p->x + b * p->D, 0, f32, false, xq + b * p->D).scale;
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const hr_rng first = hr_rng_make(o->seed, step, o->first_tensor, 2), refine = hr_rng_make(o->seed, step, o->first_tensor, 3);
    for (int64_t l = 0, i = 0; l < p->L; l++) {
        const uint8_t *codes = (const uint8_t *)list.item[0].data + (size_t)(l * list.item[0].cols) * type.bytes;
        const float row_scale = type.id == HR_I8R ? ((const float *)list.item[1].data)[l] : 1;
        const float ws = ref.quantize(p->D, codes, row_scale, type, false, wq).scale;
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

/* The codes of i8r rows with lists, to the bit: the scale that fits, and the stream that belongs to it (9 where the scale changes). */
static void test_sparse_rescale(void **state)
{
    (void)state;
    problem p = make_problem(2300, 70, 21);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = sparse_options(&p, "i8r", 0.3f);
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    double *g = malloc((size_t)(p.L * p.B) * sizeof *g);
    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx), *old_scale = malloc((size_t)p.L * sizeof *old_scale);
    int8_t *old = malloc((size_t)(p.L * 128));
    plain_sparse_gradient(head, &p, o.tau, 7, g);
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const int64_t pitch = list.item[0].cols;
    const int8_t *codes = list.item[0].data;
    const float *scale = list.item[1].data, lr = 0.7f;
    assert_true(pitch <= 128);
    memcpy(old, codes, (size_t)(p.L * pitch));
    memcpy(old_scale, scale, (size_t)p.L * sizeof *scale);
    const hr_head_batch batch = batch_of(&p);
    check_ok(ctx, hr_head_step(head, &batch, lr, 7, dx, NULL));
    assert_int_equal(hr_head_last_counts(head).dense_tiles, 0);
    int64_t rescaled = 0, kept = 0;
    for (int64_t l = 0, i = 0; l < p.L; l++) {
        bool positive = false, any = false;
        for (; i < p.npos && (int64_t)(p.pos[i] >> 32) == l; i++)
            positive = true;
        float v[128], most = 0;
        for (int64_t d = 0; d < p.D; d++) {
            float dw = 0;
            for (int64_t b = 0; b < p.B; b++)
                if (g[l * p.B + b] != 0) {
                    dw = fmaf((float)g[l * p.B + b], p.x[b * p.D + d], dw);
                    any = true;
                }
            v[d] = fmaf(-lr, dw, (float)old[l * pitch + d] * old_scale[l]);
            most = fmaxf(most, fabsf(v[d]));
        }
        if (positive || !any) /* a positive is a second entry of its cell: the sum above has another order */
            continue;
        float fresh = old_scale[l];
        while (most > 127 * fresh)
            fresh *= 2;
        while (most < 31 * fresh && fresh > 0x1p-40f)
            fresh *= 0.5f;
        assert_true(scale[l] == fresh);
        const bool changed = fresh != old_scale[l];
        const hr_rng rng = hr_rng_make(o.seed, 7, o.first_tensor, changed ? HR_STREAM_RESCALE : HR_STREAM_ROUND);
        for (int64_t d = 0; d < p.D; d++)
            assert_int_equal(codes[l * pitch + d], hr_i8r_round_sr(v[d], 1 / fresh, hr_rng_draw16(rng, (uint32_t)l, (uint32_t)d)));
        rescaled += changed;
        kept += !changed;
    }
    assert_true(rescaled > 20 && kept > 20);
    free(g), free(dx), free(old_scale), free(old);
    hr_head_destroy(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A group of blocks with more labels than the backlog holds, and with more entries: the same bits as with one block a task. */
static void test_backlog(void **state)
{
    (void)state;
    problem p = make_problem(60000, 8, 64);
    static const float taus[] = {0.78f, 0.2f};
    for (int t = 0; t < 2; t++) {
        hr_head_options o = sparse_options(&p, t ? "i8r" : "e4m3", taus[t]);
        const uint64_t one = train_digest(&p, o, 1, 0, "auto", 2);
        assert_true(train_digest(&p, o, 1, 1, "auto", 2) == one);
        assert_true(train_digest(&p, o, 3, 0, "auto", 2) == one);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head *head;
        float dx[64 * 8];
        const hr_head_batch batch = batch_of(&p);
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        check_ok(ctx, hr_head_step(head, &batch, 0, 1, dx, NULL));
        const hr_head_counts n = hr_head_last_counts(head);
        const double group = 4.0 * (double)hr_head_block_rows(head) / 60000, room = HR_BACKLOG_LABELS;
        assert_int_equal(n.dense_tiles, 0);
        assert_true((double)n.touched * group > room); /* labels of a group, and entries where the labels still have room */
        assert_true(((double)n.entries / (double)n.touched < 2) == (t == 0));
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* Steps with more and fewer instances: the partials that wait for their turn are zero whatever came before. */
static void test_sparse_batches(void **state)
{
    (void)state;
    static const int64_t rows[] = {40, 3, 17, 40, 1, 33};
    problem p = make_problem(34000, 70, 40);
    uint64_t first = 0;
    for (int way = 0; way < 2; way++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = sparse_options(&p, "e4m3", 0.3f);
        o.chunk = way; /* groups of four blocks, or of one */
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        float dx[40 * 70];
        uint64_t all = 0;
        for (uint64_t s = 0; s < 6; s++) {
            uint64_t pos[160];
            hr_head_batch batch = {.rows = rows[s], .x = p.x, .positives = pos};
            for (int64_t i = 0; i < p.npos; i++)
                if ((int64_t)(uint32_t)p.pos[i] < rows[s])
                    pos[batch.num_positives++] = p.pos[i];
            check_ok(ctx, hr_head_step(head, &batch, 0.3f, s, dx, NULL));
            all = all * 31 + digest(head, dx, rows[s] * p.D);
        }
        assert_true(way == 0 || all == first);
        first = all;
        hr_head_destroy(head);
        check_ctx_empty(ctx);
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

/* A tau too small for the kernels keeps everything, whoever chose it. */
static void test_sparse_tiny_tau(void **state)
{
    (void)state;
    problem p = make_problem(300, 20, 9);
    for (int chosen = 0; chosen < 2; chosen++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = sparse_options(&p, "e4m3", chosen ? -1 : 0x1p-41f);
        o.lr_peak = 1e30f;
        hr_head *head;
        float dx[180];
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        const hr_head_batch batch = batch_of(&p);
        check_ok(ctx, hr_head_step(head, &batch, 0.01f, 1, dx, NULL));
        const hr_head_counts n = hr_head_last_counts(head);
        assert_true(n.tau == 0 && n.entries >= n.cells);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sparse_step), cmocka_unit_test(test_sparse_same_bits), cmocka_unit_test(test_sparse_rescale), cmocka_unit_test(test_backlog), cmocka_unit_test(test_sparse_batches),
        cmocka_unit_test(test_sparse_unbiased), cmocka_unit_test(test_sparse_auto_tau),
        cmocka_unit_test(test_sparse_tiny_tau), cmocka_unit_test(test_sparse_refused),
    };
    return cmocka_run_group_tests_name("sparse step", tests, NULL, NULL);
}
