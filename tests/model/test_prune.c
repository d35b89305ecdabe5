/* Pruning a trained model: what stays are the largest weights, with their values and places, and the copy is a model like any other. */
#include "tests/trainer/tiny.h"

#include "model/model.h"

/* All weights of a model folder's head, (L, D) in internal rows. */
static double *weights_of(const fixture *f, const char *folder, int64_t *labels, int64_t *dim)
{
    char path[2 * HR_PATH_MAX], name[HR_TENSOR_NAME_MAX];
    hr_model *m;
    check_ok(f->ctx, hr_model_open(f->ctx, fixture_path(f, folder, path), true, 1, &m));
    const hr_head_options *o = hr_head_get_options(m->head);
    *labels = o->labels;
    *dim = o->dim;
    double *w = calloc((size_t)(o->labels * o->dim), sizeof *w);
    int64_t first = 0;
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        hr_tensor codes, scales = {0}, inputs = {0}, starts = {0};
        snprintf(name, sizeof name, "head.%d.codes", i);
        check_ok(f->ctx, hr_checkpoint_find(m->ck, name, 0, &codes));
        snprintf(name, sizeof name, "head.%d.scales", i);
        if (s->dtype.id == HR_I8R)
            check_ok(f->ctx, hr_checkpoint_find(m->ck, name, 0, &scales));
        const bool sparse = s->family == HR_FAMILY_UNSTRUCTURED;
        snprintf(name, sizeof name, "head.%d.inputs", i);
        if (sparse)
            check_ok(f->ctx, hr_checkpoint_find(m->ck, name, 0, &inputs));
        snprintf(name, sizeof name, "head.%d.starts", i);
        if (sparse)
            check_ok(f->ctx, hr_checkpoint_find(m->ck, name, 0, &starts));
        const uint32_t *start = starts.data;
        for (int64_t l = 0; l < s->rows; l++)
            for (int64_t k = 0, n = sparse ? (int64_t)start[l + 1] - start[l] : o->dim; k < n; k++) {
                const int64_t place = sparse ? start[l] + k : l * codes.cols + k;
                const float scale = scales.data ? ((const float *)scales.data)[l] : 1;
                w[(first + l) * o->dim + (sparse ? ((const uint16_t *)inputs.data)[place] : k)] =
                    (double)hr_dtype_load(s->dtype, codes.data, place, scale) * ldexp((double)hr_head_alpha(m->head, i), -s->scale_log2);
            }
        first += s->rows;
    }
    hr_model_destroy(m);
    return w;
}

static void check_pruned(const fixture *f, const char *run, const char *recipe, double density, int *tied)
{
    char model[2 * HR_PATH_MAX], small[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX], folder[32];
    snprintf(folder, sizeof folder, "%s/model", run);
    tiny_run(f, run, recipe, 2, 0);
    int64_t L, D, kept = 0, left = 0, ties[2] = {0}, stay[2] = {0};
    double *before = weights_of(f, folder, &L, &D), least = INFINITY, most = 0;
    hr_prune_report r;
    check_ok(f->ctx, hr_prune_model(f->ctx, fixture_path(f, run, model), fixture_path(f, "small", small), density, &r));
    double *after = weights_of(f, "small", &L, &D);
    for (int64_t i = 0; i < L * D; i++) {
        assert_true(after[i] == 0 || after[i] == before[i]);
        kept += after[i] != 0;
        left += after[i] == 0 && before[i] != 0;
        least = after[i] != 0 ? fmin(least, fabs(after[i])) : least;
        most = after[i] == 0 ? fmax(most, fabs(before[i])) : most;
    }
    assert_true(most <= least);
    for (int64_t i = 0; i < L * D && most == least; i++) { /* of many equal ones, frequent labels keep no more than others */
        ties[i < L * D / 2] += fabs(before[i]) == most;
        stay[i < L * D / 2] += fabs(after[i]) == most;
    }
    if (ties[0] > 50 && ties[1] > 50) {
        const double share = (double)(stay[0] + stay[1]) / (double)(ties[0] + ties[1]);
        assert_true(fabs((double)stay[0] - share * (double)ties[0]) < 5 * sqrt(share * (1 - share) * (double)ties[0]) + 1);
        *tied += 1;
    }
    assert_int_equal(r.weights, L * D);
    assert_int_equal(r.kept, kept);
    assert_true(kept == (int64_t)(density * (double)(L * D)) || left == 0);
    hr_metrics whole, pruned;
    check_ok(f->ctx, hr_eval_model(f->ctx, model, fixture_path(f, "data", data), NULL, &whole));
    check_ok(f->ctx, hr_eval_model(f->ctx, small, data, NULL, &pruned));
    if (left == 0)
        assert_true(fabs(whole.precision[0] - pruned.precision[0]) < 1e-12);
    else
        assert_true(pruned.precision[0] > 0.3 * whole.precision[0] && whole.precision[0] > 0.2);
    free(before), free(after);
}

static void test_prune(void **state)
{
    const fixture *f = *state;
    int tied = 0; /* runs that had many weights of the limit's size */
    check_pruned(f, "a", "head.dtype=e4m3 head.lr=5 train.epochs=10", 0.1, &tied);
    check_pruned(f, "b", "head.dtype=f32 head.lr=5 train.epochs=10 head.kahan_top=64 head.weight_decay=0.001 head.bias=per_label", 0.05, &tied);
    check_pruned(f, "c", "head.dtype=i8r head.lr=0.5 train.epochs=10 layer.width=40 layer.activation=none head.init=1", 0.3, &tied);
    check_pruned(f, "d", "head.dtype=bf16 head.lr=5 train.epochs=2", 1, &tied);
    assert_true(tied > 0);
}

static void refused(const fixture *f, const char *model, double density, const char *says)
{
    char from[2 * HR_PATH_MAX], to[2 * HR_PATH_MAX];
    assert_int_equal(hr_prune_model(f->ctx, fixture_path(f, model, from), fixture_path(f, "none", to), density, NULL), HR_ERR_CONFIG);
    if (!strstr(hr_ctx_message(f->ctx), says))
        fail_msg("found '%s', expected '%s'", hr_ctx_message(f->ctx), says);
    assert_false(hr_path_exists(to));
}

static void test_refused(void **state)
{
    const fixture *f = *state;
    tiny_run(f, "dense", "train.epochs=1", 1, 0);
    tiny_run(f, "sparse", "train.epochs=1 head.family=fan_in head.fan_in=4", 1, 0);
    refused(f, "dense", 0, "above 0 and at most 1");
    refused(f, "dense", 1.5, "above 0 and at most 1");
    refused(f, "dense", NAN, "above 0 and at most 1");
    refused(f, "sparse", 0.5, "a dense model is expected");
}

/* Whatever fails on the way, there is a message, nothing is leaked, and no half of a model is left. */
static void test_faults(void **state)
{
    const fixture *f = *state;
    char from[2 * HR_PATH_MAX], to[2 * HR_PATH_MAX];
    tiny_run(f, "dense", "train.epochs=1", 1, 0);
    fixture_path(f, "dense", from);
    fixture_path(f, "small", to);
    for (int what = 0; what < HR_FAULTS; what++) {
        hr_status st = HR_ERR_BUG;
        int k = 1;
        for (; st != HR_OK; k++) {
            hr_ctx *ctx = check_ctx(1, "auto");
            hr_ctx_fail_next(ctx, (hr_fault)what, k, false);
            st = hr_prune_model(ctx, from, to, 0.2, NULL);
            assert_true(st == HR_OK || strlen(hr_ctx_message(ctx)) > 10);
            assert_true(st == HR_OK || what > 0 || k > 1000 || !hr_path_exists(to));
            check_ctx_empty(ctx);
            assert_true(k < 1000);
        }
        assert_true(k > 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_prune, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_faults, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_refused, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
