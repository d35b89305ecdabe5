/* Connections that move: which go, which come, what stays as it was, and the sameness promises. */
#include "tests/head/fan_fixture.h"

typedef struct connections {
    int64_t groups, width;
    uint16_t *input;
    double *w; /* (L, D) */
} connections;

static connections connections_of(hr_head *head)
{
    hr_tensor_list list;
    const hr_tensor *t = tensor_of(head, &list, "head.0.inputs");
    connections c = {.groups = t->rows, .width = t->cols, .w = all_weights(head)};
    c.input = malloc((size_t)(t->rows * t->cols) * sizeof *c.input);
    memcpy(c.input, t->data, (size_t)(t->rows * t->cols) * sizeof *c.input);
    return c;
}

static bool reads(const connections *c, int64_t group, int64_t column)
{
    for (int64_t k = 0; k < c->width; k++)
        if (c->input[group * c->width + k] == column)
            return true;
    return false;
}

/* The size that decides about a slot: the mean of |w| over the group. */
static double slot_size(const connections *c, int64_t group, int64_t members, int64_t column, int64_t L, int64_t D)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t l = group * members; l < L && l < (group + 1) * members; l++, n++)
        sum += fabs(c->w[l * D + column]);
    return sum / (double)n;
}

/* One rewiring of every kind: the number that was asked for goes; of segments the weakest ones, of labels each label's; what stays keeps
 * its weight, what is new starts where it was told to and is a column that was free; by gradient, the one of the largest |dW|. */
static void check_rewire(const problem *p, form f, const char *type, hr_prune prune, hr_grow grow, float amount, float init)
{
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = fan_options(p, type, HR_ROUND_NEAREST, f);
    o.rewire = true;
    const int64_t members = f.group;
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    connections before = connections_of(head);
    const hr_head_batch batch = batch_of(p);
    const hr_rewire r = {.prune = prune, .grow = grow, .amount = amount, .init = init, .step = 5, .batch = &batch};
    hr_rewire_counts n;
    check_ok(ctx, hr_head_rewire(head, &r, &n));
    assert_true(hr_head_inputs_valid(head));
    connections after = connections_of(head);
    double *g = malloc((size_t)(p->L * p->B) * sizeof *g), *dx = malloc((size_t)(p->B * p->D) * sizeof *dx);
    plain(&o, p, before.w, g, dx);

    int64_t moved = 0;
    double strongest_gone = 0, weakest_kept = INFINITY, sum = 0;
    for (int64_t group = 0; group < before.groups; group++) {
        int64_t own = 0;
        double own_gone = 0, own_kept = INFINITY, least_grown = INFINITY, most_left = 0;
        for (int64_t d = 0; d < p->D; d++) {
            const bool was = reads(&before, group, d), is = reads(&after, group, d);
            double gradient = 0;
            for (int64_t l = group * members; l < p->L && l < (group + 1) * members; l++) {
                double dw = 0;
                for (int64_t b = 0; b < p->B; b++)
                    dw += g[l * p->B + b] * p->x[b * p->D + d];
                gradient += fabs(dw);
                if (was && is)
                    assert_true(after.w[l * p->D + d] == before.w[l * p->D + d]);
                else if (is)
                    assert_true(fabs(after.w[l * p->D + d]) <= (double)init * 1.07);
            }
            const double size = was ? slot_size(&before, group, members, d, p->L, p->D) : 0;
            sum += size;
            own += was && !is;
            own_gone = was && !is ? fmax(own_gone, size) : own_gone;
            own_kept = was && is ? fmin(own_kept, size) : own_kept;
            least_grown = !was && is ? fmin(least_grown, gradient) : least_grown;
            most_left = !was && !is ? fmax(most_left, gradient) : most_left;
        }
        moved += own;
        strongest_gone = fmax(strongest_gone, own_gone);
        weakest_kept = fmin(weakest_kept, own_kept);
        if (prune == HR_PRUNE_PER_LABEL)
            assert_true(own == (int64_t)(amount * (float)f.fan_in) && own_gone <= own_kept);
        if (grow == HR_GROW_GRADIENT && own > 0)
            assert_true(least_grown > most_left * (1 - 1e-4));
    }
    assert_int_equal(n.connections, before.groups * f.fan_in);
    assert_int_equal(n.moved, moved);
    assert_true(fabs(n.mean_weight - sum / (double)n.connections) < 1e-5 * n.mean_weight);
    if (prune == HR_PRUNE_FRACTION)
        assert_true(moved <= (int64_t)((double)amount * (double)n.connections) && (double)moved > (double)amount * (double)n.connections - 5);
    if (prune == HR_PRUNE_THRESHOLD)
        assert_true(strongest_gone < (double)amount && weakest_kept >= (double)amount * (1 - 1e-6));
    if (prune != HR_PRUNE_PER_LABEL)
        assert_true(moved > 0 && strongest_gone <= weakest_kept * (1 + 1e-6));
    free(before.input), free(before.w), free(after.input), free(after.w), free(g), free(dx);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
}

static void test_rewire(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 20);
    static const char *const some[] = {"f32", "e4m3", "i8r"};
    static const float amounts[] = {0.3f, 0.08f, 0.3f};
    for (int f = 1; f < FORMS; f++)
        for (int prune = 0; prune < 3; prune++)
            for (int grow = 0; grow < 2 && forms[f].group > 0; grow++) {
                form one = forms[f];
                one.fan_in = one.fan_in == 70 ? 45 : one.fan_in; /* more than can be replaced at once is left out */
                check_rewire(&p, one, some[(f + prune) % 3], (hr_prune)prune, (hr_grow)grow,
                             prune == HR_PRUNE_THRESHOLD && one.group > 1 ? 0.14f : amounts[prune], grow ? 0.02f : 0);
            }
    free_problem(&p);
}

/* Unstructured: as many connections as before, now anywhere in the block; what stays keeps its weight, and is not weaker than what went. */
static void test_rewire_unstructured(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 4);
    static const char *const some[] = {"f32", "e4m3", "i8r"};
    for (int t = 0; t < 3; t++) {
        hr_ctx *ctx = check_ctx(2, "auto");
        hr_head_options o = fan_options(&p, some[t], HR_ROUND_NEAREST, (form){"", 7, 0});
        o.rewire = true;
        o.segment[0].momentum = t == 1 ? 0.5f : 0;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        double *before = all_weights(head), gone = 0, kept = INFINITY, size = 0;
        const hr_rewire r = {.prune = (hr_prune)(t == 1 ? HR_PRUNE_THRESHOLD : HR_PRUNE_FRACTION), .amount = t == 1 ? 0.08f : 0.3f, .step = 3};
        hr_rewire_counts n;
        check_ok(ctx, hr_head_rewire(head, &r, &n));
        assert_true(hr_head_inputs_valid(head));
        double *after = all_weights(head);
        int64_t lost = 0, wider = 0;
        for (int64_t l = 0; l < p.L; l++) {
            int64_t was = 0, is = 0;
            for (int64_t d = 0; d < p.D; d++) {
                const double a = before[l * p.D + d], b = after[l * p.D + d];
                assert_true(b == 0 || b == a); /* new ones start at zero */
                lost += a != 0 && b == 0;
                gone = a != 0 && b == 0 ? fmax(gone, fabs(a)) : gone;
                kept = b != 0 ? fmin(kept, fabs(a)) : kept;
                size += fabs(a);
                was += a != 0;
                is += b != 0;
            }
            wider += is < was;
        }
        assert_int_equal(n.connections, 7 * p.L);
        assert_true(lost <= n.moved && lost > n.moved - 200); /* some had the weight zero */
        assert_true(gone <= kept * (1 + 1e-6) && wider > p.L / 3);
        assert_true(fabs(n.mean_weight - size / (double)n.connections) < 1e-5 * n.mean_weight);
        /* trained on, it takes up the new ones */
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        const hr_head_batch batch = batch_of(&p);
        check_ok(ctx, hr_head_step(head, &batch, 0.3f, 4, dx, NULL));
        double *trained = all_weights(head);
        int64_t used = 0;
        for (int64_t i = 0; i < p.L * p.D; i++)
            used += after[i] == 0 && trained[i] != 0;
        assert_true(used > n.moved / 2);
        free(before), free(after), free(trained), free(dx);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* A head that reads everything has nothing to grow; equal weights do not go by their place: all zero, any of them may. */
static void test_rewire_extremes(void **state)
{
    (void)state;
    problem p = make_problem(3000, 70, 4);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_rewire r = {.prune = HR_PRUNE_FRACTION, .amount = 0.5f, .step = 1};
    hr_rewire_counts n;
    hr_head *head;
    hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", 70, 1});
    o.rewire = true;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    check_ok(ctx, hr_head_rewire(head, &r, &n));
    assert_int_equal(n.moved, 0);
    hr_head_destroy(head);
    o.segment[0].fan_in = 20;
    o.segment[0].init = 0;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    connections before = connections_of(head);
    check_ok(ctx, hr_head_rewire(head, &r, &n));
    connections after = connections_of(head);
    assert_true(n.moved <= 30000 && n.moved > 29990); /* keys may be equal: 60,000 of them with 65,536 draws */
    int64_t first_half = 0;
    for (int64_t l = 0; l < 1500; l++)
        for (int64_t k = 0; k < 20; k++)
            first_half += !reads(&after, l, before.input[l * 20 + k]);
    assert_true(llabs((long long)first_half - 15000) < 520); /* six standard deviations of a draw of half of 60,000 */
    free(before.input), free(before.w), free(after.input), free(after.w);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    free_problem(&p);
}

/* Rewiring gives the same bits for any number of threads and every instruction set. */
static void test_rewire_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(9000, 70, 20);
    for (int grow = 0; grow < 2; grow++)
        for (int f = 1; f < FORMS; f += 2 - (f == 5)) {
            if (forms[f].group == 0 && grow)
                continue;
            uint64_t first = 0;
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
                for (int threads = 1; threads <= 3; threads += 2) {
                    hr_ctx *ctx = check_ctx(threads, hr_isa_name((hr_isa)isa));
                    hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, forms[f]);
                    o.rewire = true;
                    o.segment[0].fan_in = o.segment[0].fan_in == 70 ? 60 : o.segment[0].fan_in;
                    o.segment[0].momentum = 0.5f;
                    hr_head *head;
                    check_ok(ctx, hr_head_create(ctx, &o, &head));
                    const hr_head_batch batch = batch_of(&p);
                    const hr_rewire r = {.grow = (hr_grow)grow, .amount = 0.1f, .init = 0.1f, .step = 2, .batch = &batch};
                    hr_rewire_counts n;
                    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
                    for (uint64_t s = 0; s < 3; s++) {
                        check_ok(ctx, hr_head_step(head, &batch, 0.3f, s, dx, NULL));
                        check_ok(ctx, hr_head_rewire(head, &r, &n));
                    }
                    const uint64_t h = digest(head, dx, p.B * p.D);
                    first = first ? first : h;
                    assert_true(h == first);
                    free(dx);
                    hr_head_destroy(head);
                    check_ctx_empty(ctx);
                }
        }
    free_problem(&p);
}

/* ---- the optimizer's state ---- */

/* An array of the head, (L, D): what a connection has there; NAN where there is none. */
static double *state_of(hr_head *head, const char *name, hr_dtype type)
{
    const hr_head_options *o = hr_head_get_options(head);
    const int64_t members = o->segment[0].group > 1 ? o->segment[0].group : 1;
    hr_tensor_list list;
    char full[HR_TENSOR_NAME_MAX];
    snprintf(full, sizeof full, "head.0.%s", name);
    const hr_tensor data = *tensor_of(head, &list, full), inputs = *tensor_of(head, &list, "head.0.inputs");
    const hr_tensor *starts = tensor_of(head, &list, "head.0.starts");
    double *v = malloc((size_t)(o->labels * o->dim) * sizeof *v);
    for (int64_t i = 0; i < o->labels * o->dim; i++)
        v[i] = NAN;
    for (int64_t l = 0; l < o->labels; l++) {
        const uint32_t *start = starts ? starts->data : NULL;
        const int64_t width = start ? (int64_t)start[l + 1] - start[l] : inputs.cols;
        const uint16_t *input = (const uint16_t *)inputs.data + (start ? start[l] : l / members * width);
        const uint8_t *row = (const uint8_t *)data.data + (size_t)(start ? start[l] : l * data.cols) * type.bytes;
        for (int64_t k = 0; k < width; k++)
            v[l * o->dim + input[k]] = hr_dtype_load(type, row, k, 1.0f);
    }
    return v;
}

/* What stays keeps its state, what is new begins without any. */
static void check_state(const problem *p, form f, const char *type, bool adam, const char *state_type)
{
    static const char *const names[] = {"codes", "compensation", "momentum", "second"};
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = fan_options(p, type, HR_ROUND_STOCHASTIC, f);
    hr_dtype dtypes[4] = {o.segment[0].dtype};
    o.rewire = true;
    o.segment[0].kahan = !adam;
    o.segment[0].optimizer = adam ? HR_HEAD_ADAM : HR_HEAD_SGD;
    o.segment[0].momentum = adam ? 0 : 0.5f;
    o.segment[0].beta1 = 0.9f, o.segment[0].beta2 = 0.99f, o.segment[0].eps = 1e-8f;
    assert_true(hr_dtype_parse(state_type, &o.segment[0].state_dtype));
    assert_true(hr_dtype_parse("bf16", &dtypes[1]));
    dtypes[2] = dtypes[3] = o.segment[0].state_dtype;
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    float *dx = malloc((size_t)(p->B * p->D) * sizeof *dx);
    const hr_head_batch batch = batch_of(p);
    for (uint64_t s = 0; s < 2; s++)
        check_ok(ctx, hr_head_step(head, &batch, 0.01f, s, dx, NULL));
    double *before[4], *after[4];
    const bool have[4] = {true, !adam, true, adam};
    for (int i = 0; i < 4; i++)
        before[i] = have[i] ? state_of(head, names[i], dtypes[i]) : NULL;
    const hr_rewire r = {.prune = HR_PRUNE_FRACTION, .amount = 0.3f, .step = 2};
    hr_rewire_counts n;
    check_ok(ctx, hr_head_rewire(head, &r, &n));
    for (int i = 0; i < 4; i++) {
        after[i] = have[i] ? state_of(head, names[i], dtypes[i]) : NULL;
        int64_t kept = 0, fresh = 0;
        for (int64_t j = 0; have[i] && j < p->L * p->D; j++) {
            const bool was = !isnan(before[i][j]), is = !isnan(after[i][j]), same = after[i][j] == before[i][j];
            /* an unstructured row may grow again what it has just lost, when there is little else */
            assert_true(!is || (was && (same || (f.group == 0 && after[i][j] == 0))) || (!was && after[i][j] == 0));
            kept += was && is && same && after[i][j] != 0;
            fresh += !was && is;
        }
        assert_true(!have[i] || (kept > p->L && fresh > p->L / 4));
        free(before[i]), free(after[i]);
    }
    free(dx);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
}

static void test_state(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 20);
    for (int f = 1; f < FORMS; f++) {
        form one = forms[f];
        one.fan_in = one.fan_in == 70 ? 45 : one.fan_in;
        check_state(&p, one, "bf16", true, "f32");
        check_state(&p, one, "e4m3", true, "bf16");
        check_state(&p, one, "e4m3", false, "bf16");
    }
    free_problem(&p);
}

/* tau=auto reckons with the share of |x|^2 that a label sees: twice the mean of random columns, four times when they move. */
static void test_tau(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 20);
    float norm2 = 0;
    for (int64_t b = 0; b < p.B; b++) {
        float sum = 0;
        for (int64_t d = 0; d < p.D; d++)
            sum += p.x[b * p.D + d] * p.x[b * p.D + d];
        norm2 = fmaxf(norm2, sum);
    }
    for (int rewire = 0; rewire < 2; rewire++)
        for (int64_t fan_in = 7; fan_in <= 70; fan_in += 63) {
            hr_ctx *ctx = check_ctx(1, "auto");
            hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", fan_in, 1});
            o.gradient = HR_GRADIENT_SPARSE;
            o.tau = -1;
            o.lr_peak = 5;
            o.rewire = rewire;
            hr_head *head;
            check_ok(ctx, hr_head_create(ctx, &o, &head));
            const hr_head_batch batch = batch_of(&p);
            float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
            check_ok(ctx, hr_head_step(head, &batch, 1, 0, dx, NULL));
            const double share = fan_in == 70 ? 1 : rewire ? 0.4 : 0.2, expected = 0.1 / (5 * share * (double)norm2);
            assert_true(fabs((double)hr_head_last_counts(head).tau - expected) < 1e-5 * expected && expected < 0.05);
            free(dx);
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewire),          cmocka_unit_test(test_rewire_unstructured), cmocka_unit_test(test_rewire_extremes),
        cmocka_unit_test(test_rewire_same_bits), cmocka_unit_test(test_state), cmocka_unit_test(test_tau),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
