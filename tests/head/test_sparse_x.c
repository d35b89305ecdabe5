/* Fan-in over sparse X: the step against a plain double-precision step on the masked weights, its gradient against finite differences of the
 * loss, top-k against all scores, and the sameness promises. */
#include "tests/head/fixture.h"

#include "kernels/kernels.h"

/* A problem whose X has one entry in ten, and the same as lists. The last column has none, and neither has the last row. */
typedef struct sparse_problem {
    problem p;
    int64_t indptr[100];
    uint32_t *indices;
    float *values;
} sparse_problem;

static sparse_problem make_sparse(int64_t L, int64_t D, int64_t B)
{
    sparse_problem s = {.p = make_problem(L, D, B)};
    s.indices = malloc((size_t)(B * D) * sizeof *s.indices);
    s.values = malloc((size_t)(B * D) * sizeof *s.values);
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t d = 0; d < D; d++) {
            float *x = &s.p.x[b * D + d];
            if (b == B - 1 || d == D - 1 || uniform((uint32_t)b, (uint32_t)d, 3) < 0.8f)
                *x = 0;
            if (*x == 0 && (b + d) % 17) /* some zeros are there as entries */
                continue;
            s.indices[n] = (uint32_t)d;
            s.values[n++] = *x;
        }
        s.indptr[b + 1] = n;
    }
    return s;
}

static void free_sparse(sparse_problem *s)
{
    free_problem(&s->p);
    free(s->indices), free(s->values);
}

static hr_sparse_rows rows_of(const sparse_problem *s)
{
    return (hr_sparse_rows){.indptr = s->indptr, .indices = s->indices, .values = s->values};
}

static hr_head_batch sparse_batch(const sparse_problem *s)
{
    return (hr_head_batch){.rows = s->p.B, .sparse = rows_of(s), .num_positives = s->p.npos, .positives = s->p.pos};
}

static hr_head_options sparse_options(const sparse_problem *s, const char *dtype, hr_rounding rounding, int64_t fan_in, int64_t group)
{
    hr_head_options o = options_for(&s->p, dtype, rounding);
    o.sparse_x = true;
    o.max_entries = s->indptr[s->p.B];
    o.segment[0].family = HR_FAMILY_FAN_IN;
    o.segment[0].fan_in = fan_in;
    o.segment[0].group = group;
    return o;
}

/* Two segments, the second of which has the rest of the labels. */
static hr_head_options two_segments(hr_head_options o)
{
    o.num_segments = 2;
    o.segment[1] = o.segment[0];
    o.segment[0].rows = 192;
    o.segment[0].kahan = o.segment[0].dtype.id != HR_I8R;
    o.segment[1].rows = o.labels - 192;
    o.segment[1].first_column = 0;
    return o;
}

/* Group g reads columns (7 g + k * step) mod D, ascending; every tenth group reads the empty column and those before it. */
static void set_inputs(hr_head *head)
{
    const hr_head_options *o = hr_head_get_options(head);
    const int64_t K = o->segment[0].fan_in, group = o->segment[0].group > 1 ? o->segment[0].group : 1;
    uint32_t inputs[256];
    for (int64_t row = 0; row < o->labels; row += group) {
        const int64_t g = row / group, step = o->dim / K, first = (7 * g + 1) % (o->dim - step * (K - 1));
        for (int64_t k = 0; k < K; k++)
            inputs[k] = (uint32_t)(g % 10 == 9 ? o->dim - K + k : first + k * step);
        hr_head_set_inputs(head, row, inputs);
    }
}

static hr_head *make_head(hr_ctx *ctx, const hr_head_options *o)
{
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, o, &head));
    assert_true(hr_head_inputs_valid(head));
    set_inputs(head);
    assert_true(hr_head_inputs_valid(head));
    return head;
}

static const hr_tensor *tensor_of(hr_head *head, hr_tensor_list *list, int segment, const char *what)
{
    char name[HR_TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "head.%d.%s", segment, what);
    *list = (hr_tensor_list){0};
    hr_head_tensors(head, list);
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->item[i].name, name) == 0)
            return &list->item[i];
    return NULL;
}

/* Weights (L, D) at the columns that are read, and which those are. */
static double *all_weights(hr_head *head, bool *reads)
{
    const hr_head_options *o = hr_head_get_options(head);
    double *w = calloc((size_t)(o->labels * o->dim), sizeof *w);
    memset(reads, 0, (size_t)(o->labels * o->dim) * sizeof *reads);
    int64_t first = 0;
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        hr_tensor_list list;
        const hr_tensor codes = *tensor_of(head, &list, i, "codes"), inputs = *tensor_of(head, &list, i, "inputs");
        const hr_tensor *scales = tensor_of(head, &list, i, "scales"), *comp = tensor_of(head, &list, i, "compensation");
        for (int64_t l = 0; l < s->rows; l++)
            for (int64_t k = 0; k < s->fan_in; k++) {
                const int64_t at = l / (s->group > 1 ? s->group : 1) * s->fan_in + k;
                const int64_t column = inputs.type == HR_T_U16 ? ((uint16_t *)inputs.data)[at] : ((uint32_t *)inputs.data)[at];
                const uint8_t *row = (const uint8_t *)codes.data + (size_t)(l * codes.cols) * s->dtype.bytes;
                double c = (double)hr_dtype_load(s->dtype, row, k, scales ? ((float *)scales->data)[l] : 1);
                if (comp)
                    c += (double)hr_bf16_decode(((uint16_t *)comp->data)[l * s->fan_in + k]);
                w[(first + l) * o->dim + column] = (double)hr_head_alpha(head, i) * c * ldexp(1, -s->scale_log2);
                reads[(first + l) * o->dim + column] = true;
            }
        first += s->rows;
    }
    return w;
}

/* The loss of the batch, and G (L, B), in double. */
static double plain(const hr_head_options *o, const problem *p, const double *w, double *g)
{
    double loss = 0;
    for (int64_t l = 0, i = 0; l < p->L; l++)
        for (int64_t b = 0; b < p->B; b++) {
            double z = o->bias == HR_BIAS_NONE ? 0 : (double)o->bias_value;
            for (int64_t d = 0; d < p->D; d++)
                z += w[l * p->D + d] * (double)p->x[b * p->D + d];
            const bool y = i < p->npos && p->pos[i] == ((uint64_t)l << 32 | (uint64_t)b);
            i += y;
            const double m = fmax(0, 1 - (y ? 1 : -1) * z);
            loss += o->loss == HR_LOSS_BCE ? log1p(exp(y ? -z : z)) : m * m;
            g[l * p->B + b] = o->loss == HR_LOSS_BCE ? 1 / (1 + exp(-z)) - y : -2 * (y ? 1 : -1) * m;
        }
    return loss;
}

static void check_step(const sparse_problem *s, const hr_head_options *o)
{
    const problem *p = &s->p;
    const float lr = 0.01f;
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head *head = make_head(ctx, o);
    bool *reads = malloc((size_t)(p->L * p->D) * sizeof *reads);
    double *w = all_weights(head, reads), *g = malloc((size_t)(p->L * p->B) * sizeof *g), found;
    const hr_head_batch batch = sparse_batch(s);
    const double loss = plain(o, p, w, g);
    check_ok(ctx, hr_head_step(head, &batch, lr, 1, NULL, &found));
    assert_true(fabs(found - loss) < 1e-5 * loss);
    double *after = all_weights(head, reads);
    /* |g| <= 1 or 10, |x| <= 1: each sum is off by at most B 2^-24 of the sum of its sizes, beside the error of g itself */
    const double most_g = o->loss == HR_LOSS_BCE ? 1 : 10;
    for (int64_t i = 0; i < p->L * p->D; i++) {
        double dw = 0;
        for (int64_t b = 0; b < p->B && reads[i]; b++)
            dw += g[i / p->D * p->B + b] * (double)p->x[b * p->D + i % p->D];
        assert_true(fabs(after[i] - (w[i] - (double)lr * dw)) < 0x1p-23 * (1 + (double)(p->B * p->B) * most_g * (double)lr));
        assert_true(dw != 0 || after[i] == w[i]);
    }
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const float *bias = o->bias == HR_BIAS_PER_LABEL ? list.item[list.count - 1].data : NULL;
    for (int64_t l = 0; l < p->L && bias; l++) {
        double sum = 0;
        for (int64_t b = 0; b < p->B; b++)
            sum += g[l * p->B + b];
        assert_true(fabs((double)bias[l] - ((double)o->bias_value - (double)lr * sum)) < 1e-5 * most_g);
    }
    free(w), free(g), free(after), free(reads);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
}

static void test_plain(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {13, 1}, {90, 1}, {16, 16}, {33, 64}};
    sparse_problem s = make_sparse(1500, 90, 70);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int loss = 0; loss < 2; loss++)
            for (int bias = 0; bias < 3; bias++) {
                hr_head_options o = sparse_options(&s, "f32", HR_ROUND_NEAREST, shapes[i][0], shapes[i][1]);
                o.loss = (hr_loss)loss;
                o.bias = (hr_bias)bias;
                check_step(&s, &o);
                o = two_segments(o);
                o.segment[0].kahan = false;
                check_step(&s, &o);
            }
    free_sparse(&s);
}

/* dW is the slope of the loss: central differences in double. */
static void test_finite_differences(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(120, 40, 20);
    const problem *p = &s.p;
    for (int loss = 0; loss < 2; loss++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = sparse_options(&s, "f32", HR_ROUND_NEAREST, 9, 1);
        o.loss = (hr_loss)loss;
        hr_head *head = make_head(ctx, &o);
        bool *reads = malloc((size_t)(p->L * p->D) * sizeof *reads);
        double *w = all_weights(head, reads), *g = malloc((size_t)(p->L * p->B) * sizeof *g);
        const hr_head_batch batch = sparse_batch(&s);
        check_ok(ctx, hr_head_step(head, &batch, 0x1p-6f, 1, NULL, NULL));
        double *after = all_weights(head, reads);
        int64_t moved = 0;
        for (int64_t i = 0; i < p->L * p->D; i++) {
            const double h = 1e-4, before = w[i];
            if (!reads[i])
                continue;
            w[i] = before + h;
            const double up = plain(&o, p, w, g);
            w[i] = before - h;
            const double slope = (up - plain(&o, p, w, g)) / (2 * h);
            w[i] = before;
            moved += slope != 0;
            assert_true(fabs((before - after[i]) * 64 - slope) < 1e-3);
        }
        assert_true(moved > 20);
        free(w), free(g), free(after), free(reads);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_sparse(&s);
}

static uint64_t run_digest(const sparse_problem *s, hr_head_options o, int threads, int64_t chunk, const char *isa)
{
    hr_ctx *ctx = check_ctx(threads, isa);
    o.chunk = chunk;
    hr_head *head = make_head(ctx, &o);
    hr_head_batch batch = sparse_batch(s);
    for (uint64_t step = 0; step < 4; step++) {
        batch.rows = step == 2 ? s->p.B / 2 : s->p.B; /* a smaller batch between, without positives of the others */
        batch.num_positives = step == 2 ? 0 : s->p.npos;
        check_ok(ctx, hr_head_step(head, &batch, 0.3f, step, NULL, NULL));
    }
    const uint64_t h = digest(head, NULL, 0);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    return h;
}

/* Same bits for any number of threads, any chunk and every instruction set, in every storage type and with every optimizer. */
static void test_same_bits(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(2500, 90, 37);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int form = 0; form < 5; form++) {
            hr_head_options o = sparse_options(&s, types[t], HR_ROUND_STOCHASTIC, form == 2 ? 31 : 12, form == 2 ? 32 : 1);
            o.weight_decay = 0.3f; /* 16 times 0.09: alpha passes 1/2 */
            o.loss = form == 1 ? HR_LOSS_SQUARED_HINGE : HR_LOSS_BCE;
            o.bias = form == 2 || form == 4 ? HR_BIAS_PER_LABEL : HR_BIAS_SCALAR;
            o.segment[0].momentum = form == 3 ? 0.9f : 0;
            o.eager_decay = form == 3 && t % 2;
            if (form == 4) {
                o.segment[0].optimizer = HR_HEAD_ADAM;
                o.segment[0].beta1 = 0.9f, o.segment[0].beta2 = 0.99f, o.segment[0].eps = 1e-8f;
            } else if (form < 2) {
                o = two_segments(o);
            }
            const uint64_t one = run_digest(&s, o, 1, 0, "auto");
            assert_true(run_digest(&s, o, 3, 0, "auto") == one);
            assert_true(run_digest(&s, o, 2, 1, "auto") == one);
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
                assert_true(run_digest(&s, o, 2, 0, hr_isa_name((hr_isa)isa)) == one);
        }
    free_sparse(&s);
}

/* Rows whose inputs do not occur keep every bit, but for momentum and Adam, which go on, and eager decay. */
static void test_untouched(void **state)
{
    (void)state;
    for (int form = 0; form < 4; form++) {
        sparse_problem s = make_sparse(300, 90, 5);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = sparse_options(&s, "f32", HR_ROUND_NEAREST, 1, 1);
        o.segment[0].momentum = form == 1 ? 0.5f : 0;
        o.segment[0].state_dtype = o.segment[0].dtype;
        o.eager_decay = form == 2;
        o.weight_decay = form == 2 ? 0.5f : 0;
        if (form == 3) {
            o.segment[0].optimizer = HR_HEAD_ADAM;
            o.segment[0].beta1 = 0.9f, o.segment[0].beta2 = 0.99f, o.segment[0].eps = 1e-8f;
        }
        hr_head *head = make_head(ctx, &o);
        bool *reads = malloc((size_t)(s.p.L * s.p.D) * sizeof *reads);
        double *one = all_weights(head, reads);
        hr_head_batch batch = sparse_batch(&s);
        check_ok(ctx, hr_head_step(head, &batch, 0.125f, 0, NULL, NULL));
        double *two = all_weights(head, reads);
        s.indptr[1] = s.indptr[2] = s.indptr[0]; /* then a batch of an empty row */
        batch.rows = 1;
        batch.num_positives = 0;
        check_ok(ctx, hr_head_step(head, &batch, 0.125f, 1, NULL, NULL));
        double *three = all_weights(head, reads);
        int64_t moved = 0;
        for (int64_t i = 0; i < s.p.L * s.p.D; i++) {
            moved += one[i] != two[i] && two[i] != three[i];
            if (form == 0)
                assert_true(two[i] == three[i]);
            if (form == 1) /* 0.5 of the step before */
                assert_true(fabs((two[i] - three[i]) - 0.5 * (one[i] - two[i])) < 1e-6);
            if (form == 2)
                assert_true(fabs(three[i] - two[i] * (1 - 0.125 * 0.5)) < 1e-6);
        }
        assert_true(form == 0 ? moved == 0 : moved > 50);
        free(one), free(two), free(three), free(reads);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
        free_sparse(&s);
    }
}

/* ---- top-k ---- */

/* The k best of one row by all scores, each one chain over the inputs in order; ties by external id. */
static void best_of(hr_head *head, const sparse_problem *s, int64_t b, const uint32_t *external, int64_t k, uint32_t *ids, float *scores)
{
    const hr_head_options *o = hr_head_get_options(head);
    const problem *p = &s->p;
    hr_tensor_list list;
    const hr_tensor codes = *tensor_of(head, &list, 0, "codes"), inputs = *tensor_of(head, &list, 0, "inputs");
    const hr_tensor *scales = tensor_of(head, &list, 0, "scales");
    const hr_segment_options *seg = &o->segment[0];
    int64_t n = 0;
    for (int64_t l = 0; l < p->L; l++) {
        const uint8_t *row = (const uint8_t *)codes.data + (size_t)(l * codes.cols) * seg->dtype.bytes;
        float z = 0;
        for (int64_t i = 0; i < seg->fan_in; i++) {
            const uint16_t column = ((uint16_t *)inputs.data)[l / seg->group * seg->fan_in + i];
            const float x = p->x[b * p->D + column];
            if (x != 0)
                z = fmaf(hr_dtype_load(seg->dtype, row, i, scales ? ((float *)scales->data)[l] : 1), x, z);
        }
        const float score = fmaf(ldexpf(hr_head_alpha(head, 0), -seg->scale_log2), z, o->bias_value);
        int64_t at = n < k ? n++ : k;
        for (; at > 0 && (score > scores[at - 1] || (score == scores[at - 1] && external[l] < ids[at - 1])); at--)
            if (at < k)
                ids[at] = ids[at - 1], scores[at] = scores[at - 1];
        if (at < k)
            ids[at] = external[l], scores[at] = score;
    }
}

/* The same list for every row whatever the batch, the threads and the instruction set; labels without overlap are among them. */
static void test_top(void **state)
{
    (void)state;
    enum { L = 300, B = 40, K = 60 };
    sparse_problem s = make_sparse(L, 90, B);
    uint32_t external[L], ids[B * K], expected[B * K], one[K];
    float scores[B * K], best[B * K], single[K];
    for (uint32_t l = 0; l < L; l++)
        external[l] = (l * 131) % L;
    int64_t at_bias = 0;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int grouped = 0; grouped < 2; grouped++)
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa += (int)hr_isa_detect() > 0 ? (int)hr_isa_detect() : 1) {
                hr_ctx *ctx = check_ctx(1 + isa % 3, hr_isa_name((hr_isa)isa));
                const hr_head_options o = sparse_options(&s, types[t], HR_ROUND_NEAREST, 2, grouped ? 16 : 1);
                hr_head *head = make_head(ctx, &o);
                hr_head_topk *work;
                const hr_sparse_rows rows = rows_of(&s);
                check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
                for (int64_t b = 0; b < B; b++)
                    best_of(head, &s, b, external, K, expected + b * K, best + b * K);
                check_ok(ctx, hr_head_top_sparse(head, work, B, &rows, K, external, ids, scores, NULL, NULL));
                assert_memory_equal(ids, expected, sizeof ids);
                assert_memory_equal(scores, best, sizeof scores);
                for (int64_t b = 0; b < B; b++) {
                    const hr_sparse_rows row = {.indptr = s.indptr + b, .indices = s.indices, .values = s.values};
                    check_ok(ctx, hr_head_top_sparse(head, work, 1, &row, K, external, one, single, NULL, NULL));
                    assert_memory_equal(one, expected + b * K, sizeof one);
                    assert_memory_equal(single, best + b * K, sizeof single);
                }
                for (int64_t i = 0; i < B * K; i++)
                    at_bias += scores[i] == o.bias_value;
                for (uint32_t i = 0; i < K; i++) /* the empty row: all tie */
                    assert_true(ids[(B - 1) * K + i] == i && scores[(B - 1) * K + i] == o.bias_value);
                hr_head_topk_destroy(ctx, work);
                hr_head_destroy(head);
                check_ctx_empty(ctx);
            }
    assert_true(at_bias > 14 * B * K / 4);
    free_sparse(&s);
}

/* A scoring head grows with its batches; without memory it says so, and goes on when there is some. Damaged inputs are told. */
static void test_scoring(void **state)
{
    (void)state;
    enum { L = 200, B = 40, K = 5 };
    sparse_problem s = make_sparse(L, 90, B);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = sparse_options(&s, "f32", HR_ROUND_NEAREST, 3, 1);
    o.training = false;
    o.max_entries = 0;
    hr_head *head;
    hr_head_topk *work;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
    float codes[L * 4];
    uint16_t inputs[L * 3];
    uint32_t external[L], ids[B * K], again[B * K];
    for (uint32_t l = 0; l < L; l++) {
        external[l] = l;
        for (uint32_t k = 0; k < 4; k++)
            codes[l * 4 + k] = uniform(l, k, 2);
        for (uint16_t k = 0; k < 3; k++)
            inputs[l * 3 + k] = (uint16_t)(l % 29 + 30 * k);
    }
    const void *code = codes, *input = inputs;
    hr_head_attach(head, 0, L, 1, &code, NULL, &input);
    const hr_sparse_rows rows = rows_of(&s);
    float scores[B * K];
    for (int k = 1; k <= 4; k++) {
        hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, k, false);
        assert_int_equal(hr_head_top_sparse(head, work, B, &rows, K, external, ids, scores, NULL, NULL), HR_ERR_NOMEM);
    }
    hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
    check_ok(ctx, hr_head_top_sparse(head, work, B, &rows, K, external, ids, scores, NULL, NULL));
    hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 1, true); /* the room stays */
    check_ok(ctx, hr_head_top_sparse(head, work, B, &rows, K, external, again, scores, NULL, NULL));
    hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
    assert_memory_equal(ids, again, sizeof ids);
    inputs[100] = 90;
    assert_int_equal(hr_head_top_sparse(head, work, B, &rows, K, external, ids, scores, NULL, NULL), HR_ERR_DATA);
    assert_non_null(strstr(hr_ctx_message(ctx), "the model is damaged"));
    hr_head_topk_destroy(ctx, work);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    free_sparse(&s);
}

/* ---- what is refused ---- */

/* Values and columns that cannot be: nothing is changed, and the next batch is not disturbed. */
static void test_bad_input(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(300, 90, 7);
    hr_ctx *ctx = check_ctx(2, "auto");
    const hr_head_options o = sparse_options(&s, "e4m3", HR_ROUND_STOCHASTIC, 20, 1);
    hr_head *head = make_head(ctx, &o), *other = make_head(ctx, &o);
    const hr_head_batch batch = sparse_batch(&s);
    check_ok(ctx, hr_head_step(head, &batch, 0.1f, 0, NULL, NULL));
    check_ok(ctx, hr_head_step(other, &batch, 0.1f, 0, NULL, NULL));
    const float bad[] = {NAN, INFINITY, 0x1p60f};
    for (int i = 0; i < 3; i++) {
        const float good = s.values[9];
        s.values[9] = bad[i];
        assert_int_equal(hr_head_step(head, &batch, 0.1f, 1, NULL, NULL), HR_ERR_NUMERIC);
        s.values[9] = good;
    }
    s.indices[3] += 90;
    assert_int_equal(hr_head_step(head, &batch, 0.1f, 1, NULL, NULL), HR_ERR_DATA);
    s.indices[3] -= 90;
    assert_int_equal(hr_head_step(head, &batch, NAN, 1, NULL, NULL), HR_ERR_NUMERIC);
    assert_true(digest(head, NULL, 0) == digest(other, NULL, 0));
    check_ok(ctx, hr_head_step(head, &batch, 0.1f, 1, NULL, NULL));
    check_ok(ctx, hr_head_step(other, &batch, 0.1f, 1, NULL, NULL));
    assert_true(digest(head, NULL, 0) == digest(other, NULL, 0));
    hr_head_destroy(head);
    hr_head_destroy(other);
    check_ctx_empty(ctx);
    free_sparse(&s);
}

static void test_refused(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(300, 90, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    static const char *const says[] = {"head.family=fan_in", "no head.slice", "head.gradient=dense", "head.rewire=none", "hidden layer",
                                       "2^31", "lower train.batch", "fan-in of 91", "head.arith=f32", "head.family=fan_in"};
    for (int i = 0; i < 10; i++) {
        hr_head_options o = sparse_options(&s, "e4m3", HR_ROUND_STOCHASTIC, 8, 1);
        hr_segment_options *seg = &o.segment[0];
        seg->family = i == 0 ? HR_FAMILY_DENSE : i == 9 ? HR_FAMILY_UNSTRUCTURED : HR_FAMILY_FAN_IN;
        seg->first_column = i == 1 ? 64 : 0;
        o.gradient = i == 2 ? HR_GRADIENT_SPARSE : HR_GRADIENT_DENSE;
        o.rewire = i == 3;
        o.loss = i == 4 ? HR_LOSS_GIVEN : HR_LOSS_BCE;
        o.dim = i == 5 ? (INT64_C(1) << 31) + 1 : o.dim;
        o.max_entries = i == 6 ? UINT32_MAX : o.max_entries;
        seg->fan_in = i == 7 ? 91 : 8;
        o.arith = i == 8 ? HR_ARITH_BF16 : HR_ARITH_F32;
        assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
        if (!strstr(hr_ctx_message(ctx), says[i]))
            fail_msg("found '%s', expected '%s'", hr_ctx_message(ctx), says[i]);
    }
    check_ctx_empty(ctx);
    free_sparse(&s);
}

/* Wide indices: more columns than dense X may have. */
static void test_many_columns(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(300, 90, 20);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = sparse_options(&s, "f32", HR_ROUND_NEAREST, 9, 1);
    hr_head *near = make_head(ctx, &o), *far;
    o.dim = 3000000;
    check_ok(ctx, hr_head_create(ctx, &o, &far));
    uint32_t inputs[9];
    hr_tensor_list list;
    const uint16_t *from = tensor_of(near, &list, 0, "inputs")->data;
    for (int64_t l = 0; l < s.p.L; l++) { /* column d becomes 30000 d + 7 */
        for (int64_t k = 0; k < 9; k++)
            inputs[k] = 30000 * (uint32_t)from[l * 9 + k] + 7;
        hr_head_set_inputs(far, l, inputs);
    }
    assert_true(hr_head_inputs_valid(far));
    const hr_head_batch batch = sparse_batch(&s);
    check_ok(ctx, hr_head_step(near, &batch, 0.2f, 0, NULL, NULL));
    for (int64_t i = 0; i < s.indptr[s.p.B]; i++)
        s.indices[i] = 30000 * s.indices[i] + 7;
    check_ok(ctx, hr_head_step(far, &batch, 0.2f, 0, NULL, NULL));
    hr_tensor_list other;
    const hr_tensor *a = tensor_of(near, &list, 0, "codes"), *b = tensor_of(far, &other, 0, "codes");
    assert_memory_equal(a->data, b->data, (size_t)(a->rows * a->cols) * sizeof(float));
    hr_head_destroy(near);
    hr_head_destroy(far);
    check_ctx_empty(ctx);
    free_sparse(&s);
}

/* What is planned is what is allocated, and a failed allocation leaves nothing behind. */
static void test_memory(void **state)
{
    (void)state;
    sparse_problem s = make_sparse(500, 90, 33);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int training = 0; training < 2; training++) {
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_head_options o = sparse_options(&s, types[t], HR_ROUND_STOCHASTIC, 17, t % 2 ? 16 : 1);
            o.training = training;
            o.bias = t % 2 ? HR_BIAS_PER_LABEL : HR_BIAS_SCALAR;
            o.segment[0].optimizer = t < 2 ? HR_HEAD_ADAM : HR_HEAD_SGD;
            size_t planned[HR_MEM_KINDS] = {0};
            hr_head_memory(&o, 2, planned);
            hr_head *head;
            hr_status st = HR_ERR_NOMEM;
            for (int k = 1; st != HR_OK; k++) {
                hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, k, false);
                st = hr_head_create(ctx, &o, &head);
                hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
                assert_true(st == HR_OK || (st == HR_ERR_NOMEM && !head));
            }
            hr_mem_report found;
            hr_ctx_memory(ctx, &found);
            for (int k = 0; k < HR_MEM_KINDS; k++)
                assert_true(found.now[k] == planned[k] || (k == HR_MEM_HEAD_WEIGHTS && !training));
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    free_sparse(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_untouched),    cmocka_unit_test(test_top),                cmocka_unit_test(test_scoring),
        cmocka_unit_test(test_bad_input),    cmocka_unit_test(test_refused),            cmocka_unit_test(test_many_columns),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("sparse X", tests, NULL, NULL);
}
