/* The inputs of labels on a hand-made data set, where they can be told by looking; against a plain computation; and the sameness promises. */
#include "tests/check.h"

#include "base/rng.h"
#include "model/candidates.h"

#include <math.h>

enum { ROWS = 400, LABELS = 90, FEATURES = 130, MOST = 12, WIDTH = 7 };

/* A data set in memory: only what hr_candidates_choose looks at. */
typedef struct world {
    hr_dataset ds;
    int64_t label_at[ROWS + 1], feature_at[ROWS + 1], text_at[LABELS + 1];
    uint32_t label[ROWS * MOST], feature[ROWS * MOST], text[LABELS];
    float value[ROWS * MOST], text_value[LABELS];
    uint32_t external[LABELS], frequency[LABELS];
} world;

static uint32_t draw(uint32_t i, uint32_t j, uint32_t below)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(17, 0, 0, 0), i, j, w);
    return (uint32_t)((uint64_t)w[0] * below >> 32);
}

static void join(world *w)
{
    hr_split_data *train = &w->ds.split[HR_SPLIT_TRAIN];
    w->ds.labels = LABELS;
    w->ds.features = FEATURES;
    *train = (hr_split_data){.present = true, .rows = ROWS};
    train->labels = (hr_csr){.rows = ROWS, .cols = LABELS, .indptr = w->label_at, .indices = w->label};
    train->features = (hr_csr){.rows = ROWS, .cols = FEATURES, .indptr = w->feature_at, .indices = w->feature, .values = w->value};
    w->ds.label_features = (hr_csr){.rows = LABELS, .cols = FEATURES, .indptr = w->text_at, .indices = w->text, .values = w->text_value};
    /* what must not be looked at */
    w->ds.split[HR_SPLIT_DEV] = w->ds.split[HR_SPLIT_TEST] = (hr_split_data){.present = true, .rows = 1 << 20};
    for (int64_t i = 0; i < w->label_at[ROWS]; i++)
        w->frequency[w->label[i]]++;
    for (uint32_t l = 0; l < LABELS; l++) {
        w->external[l] = (l * 37) % LABELS;
        w->text_at[l + 1] = l + 1;
        w->text[l] = FEATURES - 1 - l;
        w->text_value[l] = 3;
    }
}

/* Row r has label r mod 80 with features 2 (r mod 60) and 2 (r mod 60) + 1, and others; labels 80 .. 89 have no row. Some labels are frequent. */
static world *make_world(bool negative)
{
    world *w = calloc(1, sizeof *w);
    for (uint32_t r = 0; r < ROWS; r++) {
        int64_t n = w->label_at[r], m = w->feature_at[r];
        for (uint32_t l = 0; l < 80; l++)
            if (l == r % 80 || (l % 9 == 0 && draw(r, l, 4) == 0))
                w->label[n++] = l;
        for (uint32_t f = 0; f < 128 && m < w->feature_at[r] + MOST; f++)
            if (f / 2 == r % 60 || draw(r, 100 + f, 30) == 0) {
                w->feature[m] = f;
                w->value[m++] = (negative && f % 3 == 0 ? -1.0f : 1.0f) * (0.25f + (float)draw(r, 300 + f, 8));
            }
        w->label_at[r + 1] = n;
        w->feature_at[r + 1] = m;
    }
    join(w);
    return w;
}

static hr_head *make_head(hr_ctx *ctx, const hr_candidate_options *o)
{
    hr_head_options h = {.labels = LABELS, .dim = FEATURES, .sparse_x = true, .max_batch = 4, .training = true, .num_segments = 1};
    h.segment[0] = (hr_segment_options){.rows = LABELS, .family = HR_FAMILY_FAN_IN, .fan_in = o->width, .group = o->group, .lr_scale = 1};
    assert_true(hr_dtype_parse("f32", &h.segment[0].dtype));
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &h, &head));
    return head;
}

static const uint16_t *inputs_of(hr_head *head)
{
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    assert_string_equal(list.item[1].name, "head.0.inputs");
    return list.item[1].data;
}

static hr_candidate_options options(hr_candidate_score score, int64_t group)
{
    return (hr_candidate_options){.score = score, .width = WIDTH, .group = group, .unit_rows = true, .seed = 5, .tensor = 3};
}

/* ---- against a plain computation ---- */

static bool is_held(const hr_candidate_options *o, int64_t row)
{
    for (int64_t i = 0; i < o->held_rows; i++)
        if ((int64_t)hr_order_at(&o->holdout, (uint64_t)i) == row)
            return true;
    return false;
}

static double length_of(const world *w, const hr_candidate_options *o, int64_t r)
{
    double square = 0;
    for (int64_t i = w->feature_at[r]; i < w->feature_at[r + 1]; i++)
        square += (double)w->value[i] * (double)w->value[i];
    return o->unit_rows ? sqrt(square) : 1;
}

/* Scores of all features for internal labels [at, end); NaN: the feature does not occur with them. */
static void plain_scores(const world *w, const hr_candidate_options *o, int64_t at, int64_t end, double score[FEATURES])
{
    double sum[FEATURES] = {0}, mean[FEATURES] = {0}, square[FEATURES] = {0};
    int64_t rows = 0, own = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        if (is_held(o, r))
            continue;
        rows++;
        int64_t times = 0;
        for (int64_t i = w->label_at[r]; i < w->label_at[r + 1]; i++)
            for (int64_t l = at; l < end; l++)
                times += w->external[l] == w->label[i];
        own += times;
        for (int64_t i = w->feature_at[r]; i < w->feature_at[r + 1]; i++) {
            const double v = fabs((double)w->value[i]) / length_of(w, o, r);
            sum[w->feature[i]] += (double)times * v;
            mean[w->feature[i]] += v;
            square[w->feature[i]] += v * v;
        }
    }
    for (int64_t l = at; l < end && o->label_texts; l++, own++)
        sum[w->text[w->external[l]]] += 1;
    for (int f = 0; f < FEATURES; f++) {
        score[f] = sum[f] > 0 ? sum[f] : NAN;
        if (o->score != HR_CANDIDATES_SUM)
            score[f] -= (double)own * mean[f] / (double)rows;
        if (o->score == HR_CANDIDATES_BALANCED && square[f] > 0)
            score[f] /= pow(square[f], 0.25);
    }
}

static void check_plain(const world *w, const hr_candidate_options *o, const uint16_t *inputs)
{
    const int64_t group = o->group > 1 ? o->group : 1;
    for (int64_t at = 0; at < LABELS; at += group) {
        const uint16_t *own = inputs + at / group * o->width;
        double score[FEATURES], worst = INFINITY, best_left = -INFINITY;
        bool chosen[FEATURES] = {false};
        int64_t occur = 0, taken = 0;
        plain_scores(w, o, at, at + group < LABELS ? at + group : LABELS, score);
        for (int64_t k = 0; k < o->width; k++) {
            assert_true(own[k] < FEATURES && (k == 0 || own[k - 1] < own[k]));
            chosen[own[k]] = true;
        }
        for (int f = 0; f < FEATURES; f++) {
            if (isnan(score[f]))
                continue;
            occur++;
            taken += chosen[f];
            worst = chosen[f] ? fmin(worst, score[f]) : worst;
            best_left = chosen[f] ? best_left : fmax(best_left, score[f]);
        }
        assert_int_equal(taken, occur < o->width ? occur : o->width);
        assert_true(taken < o->width || best_left <= worst + 1e-5 * fabs(worst) + 1e-6);
    }
}

static void choose(hr_ctx *ctx, const world *w, const hr_candidate_options *o, hr_head *head)
{
    check_ok(ctx, hr_candidates_choose(ctx, &w->ds, o, w->external, w->frequency, head));
}

static void test_plain(void **state)
{
    (void)state;
    world *w = make_world(false), *signs = make_world(true);
    for (int score = 0; score < 3; score++)
        for (int form = 0; form < 5; form++) {
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_candidate_options o = options((hr_candidate_score)score, form == 1 ? 16 : form == 2 ? 64 : 1);
            o.width = form == 3 ? 100 : form == 2 ? 30 : WIDTH; /* more than most labels have */
            o.unit_rows = form != 4;
            o.label_texts = form % 2;
            o.held_rows = form == 3 ? 0 : 60;
            o.holdout = hr_order_make(4, 9, ROWS);
            hr_head *head = make_head(ctx, &o);
            choose(ctx, form == 4 ? signs : w, &o, head);
            assert_true(hr_head_inputs_valid(head));
            check_plain(form == 4 ? signs : w, &o, inputs_of(head));
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    free(w), free(signs);
}

/* Three rows, told by looking: the label's own words before those that all have. */
static void test_by_hand(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof *w);
    static const uint32_t features[3][3] = {{1, 5, 9}, {2, 5, 9}, {3, 4, 9}}; /* 9 is everywhere and large, 5 twice */
    for (int64_t r = 0; r < ROWS; r++) {
        w->label_at[r + 1] = r < 3 ? r + 1 : 3;
        w->feature_at[r + 1] = r < 3 ? 3 * r + 3 : 9;
    }
    for (uint32_t r = 0; r < 3; r++) {
        w->label[r] = r == 2; /* rows 0 and 1: label 0 */
        for (uint32_t i = 0; i < 3; i++) {
            w->feature[3 * r + i] = features[r][i];
            w->value[3 * r + i] = features[r][i] == 9 ? 2 : 1;
        }
    }
    join(w);
    w->ds.split[HR_SPLIT_TRAIN].rows = w->ds.split[HR_SPLIT_TRAIN].labels.rows = w->ds.split[HR_SPLIT_TRAIN].features.rows = 3;
    hr_ctx *ctx = check_ctx(1, "auto");
    static const uint16_t expected[3][2][2] = {{{1, 5}, {3, 4}}, {{1, 5}, {3, 4}}, {{5, 9}, {3, 9}}}; /* by score, label */
    for (int score = 0; score < 3; score++) {
        hr_candidate_options o = options((hr_candidate_score)score, 1);
        o.width = 2;
        hr_head *head = make_head(ctx, &o);
        choose(ctx, w, &o, head);
        for (int64_t l = 0; l < LABELS; l++)
            if (w->external[l] < 2)
                assert_memory_equal(inputs_of(head) + 2 * l, expected[score][w->external[l]], 2 * sizeof(uint16_t));
        hr_head_destroy(head);
    }
    check_ctx_empty(ctx);
    free(w);
}

/* ---- sameness, memory, failures ---- */

static void test_same(void **state)
{
    (void)state;
    world *w = make_world(false);
    for (int64_t group = 1; group <= 16; group += 15) {
        uint16_t first[LABELS * WIDTH];
        for (int threads = 1; threads <= 5; threads += 2) {
            hr_ctx *ctx = check_ctx(threads, threads == 3 ? "ref" : "auto");
            const hr_candidate_options o = options(HR_CANDIDATES_COVARIANCE, group);
            hr_head *head = make_head(ctx, &o);
            choose(ctx, w, &o, head);
            const size_t bytes = (size_t)((LABELS + group - 1) / group * WIDTH) * sizeof(uint16_t);
            if (threads == 1)
                memcpy(first, inputs_of(head), bytes);
            assert_memory_equal(first, inputs_of(head), bytes);
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    }
    free(w);
}

/* The peak is the plan, and each allocation may fail. */
static void test_memory(void **state)
{
    (void)state;
    world *w = make_world(false);
    for (int score = 1; score < 3; score++) {
        hr_ctx *ctx = check_ctx(3, "auto");
        const hr_candidate_options o = options((hr_candidate_score)score, 1);
        hr_head *head = make_head(ctx, &o);
        hr_status st = HR_ERR_NOMEM;
        int failed = 0;
        for (int k = 1; st != HR_OK; k++) {
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, k, false);
            st = hr_candidates_choose(ctx, &w->ds, &o, w->external, w->frequency, head);
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
            assert_true(st == HR_OK || st == HR_ERR_NOMEM);
            failed += st != HR_OK;
        }
        assert_true(failed > 10);
        hr_mem_report m;
        hr_ctx_memory(ctx, &m);
        assert_int_equal(m.now[HR_MEM_EVAL], 0);
        assert_int_equal(m.peak[HR_MEM_EVAL], hr_candidates_memory(&w->ds, &o, 3));
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free(w);
}

static void test_refused(void **state)
{
    (void)state;
    world *w = make_world(false);
    hr_ctx *ctx = check_ctx(2, "auto");
    const hr_candidate_options o = options(HR_CANDIDATES_COVARIANCE, 1);
    hr_head *head = make_head(ctx, &o);
    w->value[0] = NAN;
    assert_int_equal(hr_candidates_choose(ctx, &w->ds, &o, w->external, w->frequency, head), HR_ERR_DATA);
    assert_non_null(strstr(hr_ctx_message(ctx), "training row 0"));
    w->value[0] = 1;
    hr_ctx_interrupt(ctx);
    assert_int_equal(hr_candidates_choose(ctx, &w->ds, &o, w->external, w->frequency, head), HR_INTERRUPTED);
    hr_ctx_interrupt_clear(ctx);
    choose(ctx, w, &o, head);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_by_hand), cmocka_unit_test(test_same),
                                       cmocka_unit_test(test_memory), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("inputs of labels over sparse features", tests, NULL, NULL);
}
