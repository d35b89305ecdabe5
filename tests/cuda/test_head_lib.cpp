/* Stage 1 of the head, on the emulator or on a device, against the head of the processor: to the bit where all sums are exact (T5), within derived bounds on real
 * numbers (T6); and that nothing outside its rows is touched. */
#include "tests/cuda/check.hpp"
#include "tests/cuda/head.hpp"

#include <math.h>
#include <algorithm>
#include <vector>

namespace {

struct problem {
    int64_t L, D, B;
    std::vector<float> x;
    std::vector<uint64_t> positives;
};

/* `exact`: few entries of X, multiples of 1/4; else in (-1, 1). Every label up to L / 2 is a positive of some row. */
problem make_problem(int64_t L, int64_t D, int64_t B, bool exact)
{
    problem p{L, D, B, std::vector<float>((size_t)(B * D)), {}};
    unsigned seed = (unsigned)(L + 7 * D + 31 * B);
    for (float &v : p.x) {
        const unsigned r = check_random(&seed);
        v = exact ? (r % 8 == 0 ? (float)(r / 8 % 5) / 4 - 0.5f : 0.0f) : (float)r / 32768.0f - 1.0f;
    }
    for (int64_t l = 0; l < L; l++)
        for (int64_t b = 0; b < B; b++)
            if (check_random(&seed) % (unsigned)L < 3)
                p.positives.push_back((uint64_t)l << 32 | (uint64_t)b);
    return p;
}

hr_head_options options_for(const problem &p, const char *type, int segments, hr_loss loss)
{
    hr_head_options o{};
    o.labels = p.L;
    o.dim = p.D;
    o.max_batch = p.B;
    o.training = true;
    o.num_segments = segments;
    o.loss = loss;
    o.bias_value = loss == HR_LOSS_SQUARED_HINGE ? -1.0f : -1.5f;
    o.seed = 77;
    o.first_tensor = 4;
    for (int i = 0; i < segments; i++) {
        hr_segment_options *s = &o.segment[i];
        s->rows = segments == 1 ? p.L : i == 0 ? p.L / 3 : p.L - p.L / 3;
        s->lr_scale = i == 0 ? 1.0f : 0.5f;
        CHECK(hr_dtype_parse(type, &s->dtype));
        s->scale_log2 = 0;
    }
    return o;
}

/* An array of the processor's head, by the name of its tensor. */
struct host_array {
    unsigned char *data;
    size_t pitch, bytes; /* of a row */
    int64_t rows;
    hr_device_array array;
    int segment;
};

/* All arrays that a step changes. */
std::vector<host_array> host_arrays(hr_head *head)
{
    static const struct {
        const char *name;
        hr_device_array array;
    } names[] = {{"codes", HR_DEVICE_CODES}, {"scales", HR_DEVICE_SCALES}, {"compensation", HR_DEVICE_COMPENSATION}, {"momentum", HR_DEVICE_FIRST}, {"second", HR_DEVICE_SECOND}};
    const hr_head_options *o = hr_head_get_options(head);
    std::vector<host_array> all;
    hr_tensor_list list{};
    hr_head_tensors(head, &list);
    for (int i = 0; i < list.count; i++) {
        const hr_tensor *t = &list.item[i];
        const size_t bytes = (size_t)t->cols * hr_tensor_element_bytes(t->type);
        bool known = false;
        for (int segment = 0; segment < o->num_segments; segment++)
            for (const auto &n : names) {
                char name[HR_TENSOR_NAME_MAX];
                snprintf(name, sizeof name, "head.%d.%s", segment, n.name);
                if (strcmp(t->name, name) != 0)
                    continue;
                const size_t row = n.array == HR_DEVICE_CODES ? (size_t)o->dim * o->segment[segment].dtype.bytes : bytes;
                all.push_back(host_array{(unsigned char *)t->data, bytes, row, t->rows, n.array, segment});
                known = true;
            }
        if (strcmp(t->name, "head.bias") == 0) {
            all.push_back(host_array{(unsigned char *)t->data, sizeof(float), sizeof(float), o->labels, HR_DEVICE_BIAS, 0});
            known = true;
        } else if (strcmp(t->name, "head.bias.m") == 0 || strcmp(t->name, "head.bias.v") == 0) {
            const hr_device_array array = t->name[10] == 'm' ? HR_DEVICE_BIAS_FIRST : HR_DEVICE_BIAS_SECOND;
            all.push_back(host_array{(unsigned char *)t->data, sizeof(float), sizeof(float), o->labels, array, 0});
            known = true;
        }
        if (!known) {
            fprintf(stderr, "tensor %s\n", t->name);
            exit(1);
        }
    }
    return all;
}

struct pair_of_heads {
    hr_ctx *ctx;
    hrc_runtime *rt;
    hr_head *host;
    hrc_head *device;
    hr_head_options o;
    size_t before; /* device memory without the head */
};

/* Whether an array is the same on both, to the bit. */
bool same(const pair_of_heads &h, const host_array &a)
{
    std::vector<unsigned char> device((size_t)a.rows * a.bytes, 0xee);
    CHECK(hrc_head_read(h.device, a.segment, a.array, 0, a.rows, a.bytes, device.data()) == HR_OK);
    for (int64_t r = 0; r < a.rows; r++)
        if (memcmp(a.data + (size_t)r * a.pitch, &device[(size_t)r * a.bytes], a.bytes) != 0)
            return false;
    return true;
}

/* Both heads with the same weights: `exact`: -1, -1/2, 0, 1/2 or 1; else the host's own. */
pair_of_heads make_heads(const hr_head_options &o, int64_t chunk, uint32_t order, bool exact)
{
    pair_of_heads h{};
    hr_ctx_options context = hr_ctx_options_default();
    context.threads = 1;
    h.o = o;
    CHECK(hr_ctx_create(&context, &h.ctx) == HR_OK);
    CHECK(test_runtime(h.ctx, order, &h.rt) == HR_OK);
    h.before = hrc_allocated(h.rt);
    CHECK(hr_head_create(h.ctx, &o, &h.host) == HR_OK);
    CHECK(hrc_head_create(h.rt, &o, chunk, 3, &h.device) == HR_OK); /* 3: the positives' array grows */
    unsigned seed = 5;
    for (const host_array &a : host_arrays(h.host)) {
        const hr_dtype type = o.segment[a.segment].dtype;
        CHECK_EQUAL(hrc_head_row_bytes(h.device, a.segment, a.array), a.bytes);
        CHECK(same(h, a)); /* both begin alike */
        if (!exact || (a.array != HR_DEVICE_CODES && a.array != HR_DEVICE_SCALES))
            continue;
        for (int64_t r = 0; r < a.rows && a.array == HR_DEVICE_CODES; r++)
            for (int64_t d = 0; d < o.dim; d++)
                hr_dtype_store(type, a.data + (size_t)r * a.pitch, d, (float)(check_random(&seed) % 5) / 2 - 1.0f, 0.5f);
        for (int64_t r = 0; r < a.rows && a.array == HR_DEVICE_SCALES; r++)
            ((float *)a.data)[r] = 0.5f;
        CHECK(hrc_head_write(h.device, a.segment, a.array, 0, a.rows, a.pitch, a.data) == HR_OK);
    }
    return h;
}

void destroy(pair_of_heads *h)
{
    hrc_head_destroy(h->device);
    CHECK_EQUAL(hrc_allocated(h->rt), h->before);
    hr_head_destroy(h->host);
    hrc_close(h->rt);
    hr_ctx_destroy(h->ctx);
}

/* One step of both. */
void step_both(const pair_of_heads &h, const problem &p, float lr, uint64_t step, float *dx_host, float *dx_device, double *losses = nullptr)
{
    hr_head_batch batch{};
    batch.rows = p.B;
    batch.x = p.x.data();
    batch.num_positives = (int64_t)p.positives.size();
    batch.positives = p.positives.data();
    hr_device_rates rates[HR_SEGMENTS_MAX];
    for (int i = 0; i < h.o.num_segments; i++) {
        const hr_segment_options *s = &h.o.segment[i];
        const float alpha = hr_head_alpha(h.host, i);
        const double t = (double)step + 1;
        rates[i].zscale = ldexpf(alpha, -s->scale_log2);
        rates[i].step = ldexpf(lr * s->lr_scale, s->scale_log2) / alpha;
        rates[i].keep = 1.0f;
        rates[i].lr = lr * s->lr_scale;
        rates[i].adam = hr_adam_law{s->beta1, s->beta2, s->eps, (float)(1 / (1 - pow((double)s->beta1, t))),
                                    (float)(1 / sqrt(1 - pow((double)s->beta2, t)))};
    }
    CHECK(hr_head_step(h.host, &batch, lr, step, dx_host, losses) == HR_OK);
    CHECK(hrc_head_step(h.device, &batch, rates, 1.0f, step, dx_device, losses ? losses + 1 : nullptr) == HR_OK);
}

/* T5: every sum is exact, so that all that a step writes, and dX, agree to the bit, over ragged shapes, chunks, segments, storage types, rounding and
 * optimizers. Lanes and blocks run in two orders. */
void test_exact()
{
    enum { PLAIN, MOMENTUM, ADAM, KAHAN };
    static const struct {
        int64_t L, D, B, chunk;
        int segments, optimizer;
        const char *type, *state;
        hr_rounding rounding;
        hr_bias bias;
    } shapes[] = {
        {100, 24, 16, 128, 1, PLAIN, "e4m3", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {130, 70, 20, 32, 2, PLAIN, "e4m3", "bf16", HR_ROUND_NEAREST, HR_BIAS_SCALAR},
        {65, 9, 1, 16, 1, PLAIN, "e5m2", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_NONE},
        {97, 33, 33, 48, 2, PLAIN, "bf16", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_PER_LABEL},
        {64, 40, 17, 64, 1, PLAIN, "f16", "bf16", HR_ROUND_ELMO, HR_BIAS_SCALAR},
        {50, 41, 9, 32, 2, PLAIN, "f32", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {75, 45, 20, 32, 2, PLAIN, "i8r", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {33, 20, 7, 16, 1, PLAIN, "i8r", "bf16", HR_ROUND_NEAREST, HR_BIAS_PER_LABEL},
        {90, 31, 18, 32, 2, MOMENTUM, "e4m3", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {40, 24, 8, 32, 1, MOMENTUM, "i8r", "e5m2", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {40, 24, 8, 32, 1, MOMENTUM, "bf16", "f16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {40, 24, 8, 32, 1, MOMENTUM, "f32", "e4m3", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {90, 31, 18, 32, 2, ADAM, "e4m3", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_PER_LABEL},
        {40, 24, 8, 32, 1, ADAM, "bf16", "f32", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {70, 30, 16, 32, 2, KAHAN, "e4m3", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
        {70, 30, 16, 32, 1, KAHAN, "bf16", "bf16", HR_ROUND_STOCHASTIC, HR_BIAS_SCALAR},
    };
    for (const auto &s : shapes)
        for (uint32_t order = 0; order < TEST_ORDERS; order++) {
            const problem p = make_problem(s.L, s.D, s.B, true);
            hr_head_options o = options_for(p, s.type, s.segments, HR_LOSS_SQUARED_HINGE);
            o.bias = s.bias;
            for (int i = 0; i < s.segments; i++) {
                hr_segment_options *seg = &o.segment[i];
                seg->rounding = s.rounding;
                seg->scale_log2 = s.bias == HR_BIAS_PER_LABEL ? 1 : 0; /* rates of codes and of biases differ */
                seg->momentum = s.optimizer == MOMENTUM ? 0.5f : 0.0f;
                seg->optimizer = s.optimizer == ADAM ? HR_HEAD_ADAM : HR_HEAD_SGD;
                seg->beta1 = 0.875f;
                seg->beta2 = 0.9375f;
                seg->eps = 0x1p-20f;
                seg->kahan = s.optimizer == KAHAN && i == 0;
                CHECK(hr_dtype_parse(s.state, &seg->state_dtype));
            }
            pair_of_heads h = make_heads(o, s.chunk, order, true);
            std::vector<float> a((size_t)(s.B * s.D)), b(a.size());
            std::vector<std::vector<unsigned char>> before;
            for (const host_array &array : host_arrays(h.host))
                before.emplace_back(array.data, array.data + (size_t)array.rows * array.pitch);
            for (int time = 0; time < TEST_TIMES; time++) { /* a device does it, records it, and replays it */
                size_t k = 0;
                for (const host_array &array : host_arrays(h.host)) {
                    memcpy(array.data, before[k].data(), before[k].size());
                    CHECK(hrc_head_write(h.device, array.segment, array.array, 0, array.rows, array.pitch, array.data) == HR_OK);
                    k++;
                }
                step_both(h, p, 0.0625f, 6, a.data(), b.data());
                for (size_t i = 0; i < a.size(); i++)
                    CHECK(a[i] == b[i]);
                k = 0;
                for (const host_array &array : host_arrays(h.host)) {
                    if (!same(h, array)) {
                        fprintf(stderr, "%s, %s: array %d of segment %d differs, step %d\n", s.type, s.state, (int)array.array, array.segment, time);
                        exit(1);
                    }
                    /* a step that does something */
                    CHECK(array.array == HR_DEVICE_SCALES || memcmp(array.data, before[k].data(), before[k].size()) != 0);
                    k++;
                }
            }
            const int64_t count = (int64_t)p.positives.size(), positives = count > 3 ? count + count / 2 : 3;
            CHECK_EQUAL(hrc_allocated(h.rt) - h.before, hrc_head_memory(&o, s.chunk, positives));
            destroy(&h);
        }
}

/* A rate of zero leaves every code as it is. */
void test_rate_zero()
{
    static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r"};
    for (const char *type : types) {
        const problem p = make_problem(60, 33, 9, false);
        hr_head_options o = options_for(p, type, 1, HR_LOSS_BCE);
        o.segment[0].init = 0.7f;
        pair_of_heads h = make_heads(o, 32, 0, false);
        std::vector<float> a((size_t)(p.B * p.D)), b(a.size());
        step_both(h, p, 0, 1, a.data(), b.data());
        for (const host_array &array : host_arrays(h.host))
            CHECK(same(h, array));
        destroy(&h);
    }
}

/* How many codes differ; each by no more than one place of the larger one, and what the relative error `each` of a factor makes of the largest
 * update of a segment, from `old` on (of smaller ones terms may have cancelled). */
int64_t differing(const pair_of_heads &h, double each, const std::vector<std::vector<unsigned char>> &old)
{
    int64_t n = 0;
    size_t k = 0;
    for (const host_array &c : host_arrays(h.host)) {
        const std::vector<unsigned char> &was = old[k++];
        if (c.array != HR_DEVICE_CODES)
            continue;
        const hr_dtype type = h.o.segment[c.segment].dtype;
        const hr_grid grid = hr_dtype_grid(type);
        std::vector<unsigned char> device((size_t)c.rows * c.pitch, 0xee);
        CHECK(hrc_head_read(h.device, c.segment, HR_DEVICE_CODES, 0, c.rows, c.pitch, device.data()) == HR_OK);
        const auto at = [&](const unsigned char *codes, int64_t r, int64_t d) {
            return (double)hr_dtype_load(type, codes + (size_t)r * c.pitch, d, 1.0f);
        };
        double most = 0;
        for (int64_t r = 0; r < c.rows; r++)
            for (int64_t d = 0; d < h.o.dim; d++)
                most = fmax(most, fabs(at(c.data, r, d) - at(was.data(), r, d)));
        for (int64_t r = 0; r < c.rows; r++)
            for (int64_t d = 0; d < h.o.dim; d++) {
                const double a = at(c.data, r, d), b = at(device.data(), r, d);
                const double place = fmax(ldexp(fmax(fabs(a), fabs(b)), -grid.man), ldexp(1, grid.emin - grid.man));
                n += a != b;
                CHECK(fabs(a - b) <= place + 2 * each * most);
            }
    }
    return n;
}

/* T6: real numbers. f16 and bf16 operands have relative errors of up to 2^-11 and 2^-8, signs are as good as random: squares add up. */
void test_real()
{
    static const char *const types[] = {"e4m3", "e5m2", "f16", "bf16"};
    for (const char *type : types)
        for (int hinge = 0; hinge < 2; hinge++) {
            const problem p = make_problem(300, 70, 20, false);
            hr_head_options o = options_for(p, type, 2, hinge ? HR_LOSS_SQUARED_HINGE : HR_LOSS_BCE);
            o.bias_value = hinge ? 30.0f : o.bias_value; /* gradients of 60 and more */
            for (int i = 0; i < 2; i++) {
                o.segment[i].scale_log2 = o.segment[i].dtype.bytes == 1 ? 6 : 0;
                o.segment[i].init = 0.2f;
            }
            pair_of_heads h = make_heads(o, 64, 0, false);
            std::vector<float> a((size_t)(p.B * p.D)), b(a.size());
            std::vector<std::vector<unsigned char>> old;
            for (const host_array &array : host_arrays(h.host))
                old.emplace_back(array.data, array.data + (size_t)array.rows * array.pitch);
            const double each = strcmp(type, "bf16") == 0 ? 0x1p-8 : 0x1p-11;
            double losses[2];
            step_both(h, p, hinge ? 0.001f : 0.03f, 3, a.data(), b.data(), losses);
            CHECK(fabs(losses[0] - losses[1]) < each * losses[0]);
            double off = 0, size = 0;
            for (size_t i = 0; i < a.size(); i++) {
                off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
                size += (double)a[i] * (double)a[i];
            }
            CHECK(sqrt(off / size) < each);
            const int64_t n = differing(h, each, old);
            CHECK(o.segment[0].dtype.bytes > 1 || n * 100 < p.L * p.D); /* 8 bits: fewer than 1 % */
            destroy(&h);
        }
}

/* Codes are halved as the processor halves them when decay has used up half of alpha. */
void test_halve()
{
    static const char *const types[] = {"f32", "bf16", "e4m3", "i8r"};
    for (const char *type : types) {
        const problem p = make_problem(60, 33, 9, false);
        hr_head_options o = options_for(p, type, 2, HR_LOSS_BCE);
        o.segment[0].init = o.segment[1].init = 0.7f;
        o.segment[0].kahan = strcmp(type, "i8r") != 0;
        o.weight_decay = 1;
        pair_of_heads h = make_heads(o, 32, 0, false);
        for (const host_array &array : host_arrays(h.host))
            if (array.array == HR_DEVICE_COMPENSATION) {
                for (size_t i = 0; i < (size_t)array.rows * array.bytes / 2; i++)
                    ((uint16_t *)array.data)[i] = hr_bf16_encode((float)(i % 37) / 64);
                CHECK(hrc_head_write(h.device, array.segment, array.array, 0, array.rows, array.pitch, array.data) == HR_OK);
            }
        hr_head_set_alpha(h.host, 0, 0.51f);
        std::vector<float> dx((size_t)(p.B * p.D));
        hr_head_batch none{}; /* no instance: decay alone */
        none.x = p.x.data();
        CHECK(hr_head_step(h.host, &none, 0.1f, 8, dx.data(), nullptr) == HR_OK);
        CHECK(hr_head_alpha(h.host, 0) > 0.9f && hr_head_alpha(h.host, 1) < 1);
        const hr_device_rates rates[2] = {{1, 0.1f, 1, 0.1f, {}}, {1, 0.1f, 1, 0.1f, {}}};
        CHECK(hrc_head_step(h.device, &none, rates, 1.0f, 8, dx.data(), nullptr) == HR_OK); /* compensation goes into codes that hold more */
        CHECK(hrc_head_halve(h.device, 0, 8) == HR_OK);
        for (const host_array &array : host_arrays(h.host))
            CHECK(same(h, array));
        destroy(&h);
    }
}

/* Scores are exact, with many ties: the same labels in the same order as on the processor, though an instance has more candidates than fit. */
void test_top()
{
    static const struct {
        int64_t L, D, B, chunk, k;
        int segments;
    } shapes[] = {{100, 24, 16, 128, 5, 1}, {3000, 9, 3, 1504, 100, 2}, {703, 33, 20, 256, 1, 2}, {9, 8, 4, 16, 9, 1}, {3000, 33, 6, 3008, 3, 1}, {3001, 40, 5, 1024, 2, 2}};
    for (const auto &s : shapes) {
        const problem p = make_problem(s.L, s.D, s.B, true);
        const hr_head_options o = options_for(p, "e4m3", s.segments, HR_LOSS_BCE);
        pair_of_heads h = make_heads(o, s.chunk, 1, true);
        std::vector<uint32_t> external((size_t)s.L), a((size_t)(s.B * s.k)), b(a.size());
        std::vector<float> x(a.size()), y(a.size());
        for (int64_t l = 0; l < s.L; l++)
            external[(size_t)l] = (uint32_t)((l * 7 + 3) % s.L); /* a permutation: 7 divides no L here */
        hr_head_topk *work;
        CHECK(hr_head_topk_create(h.ctx, s.B, s.k, &work) == HR_OK);
        CHECK(hr_head_top(h.host, work, s.B, p.x.data(), s.k, external.data(), a.data(), x.data(), nullptr, nullptr) == HR_OK);
        const float zscale[] = {1.0f, 1.0f};
        CHECK(hrc_head_top(h.device, s.B, p.x.data(), s.k, zscale, external.data(), b.data(), y.data()) == HR_OK);
        CHECK(memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0 && memcmp(x.data(), y.data(), x.size() * sizeof x[0]) == 0);
        std::vector<float> bad = p.x;
        bad[(size_t)(s.D + 1)] = NAN;
        CHECK(hrc_head_top(h.device, s.B, bad.data(), s.k, zscale, external.data(), b.data(), y.data()) == HR_ERR_NUMERIC);
        hr_head_topk_destroy(h.ctx, work);
        destroy(&h);
    }
}

void test_refused()
{
    const problem p = make_problem(40, 24, 4, true);
    const hr_head_options o = options_for(p, "e4m3", 1, HR_LOSS_BCE);
    CHECK(hrc_head_not_possible(&o) == nullptr);
    hr_head_options other = o;
    other.segment[0].family = HR_FAMILY_FAN_IN;
    CHECK(strstr(hrc_head_not_possible(&other), "head.family=dense"));
    other = o;
    other.gradient = HR_GRADIENT_SPARSE;
    CHECK(strstr(hrc_head_not_possible(&other), "head.gradient=dense"));
    other = o;
    CHECK(hr_dtype_parse("e3m2", &other.segment[0].dtype));
    CHECK(strstr(hrc_head_not_possible(&other), "emulated"));
    other = options_for(p, "e4m3", 2, HR_LOSS_BCE);
    CHECK(hr_dtype_parse("bf16", &other.segment[1].dtype));
    CHECK(strstr(hrc_head_not_possible(&other), "one type"));
}

} // namespace

int main()
{
    static const check_case cases[] = {{"exact", test_exact}, {"rate zero", test_rate_zero}, {"real", test_real}, {"halve", test_halve}, {"top", test_top}, {"refused", test_refused}};
    return check_run(cases);
}
