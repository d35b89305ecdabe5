/* A head on a device, through the interface that every head has: the same bits as on the processor where sums are exact, its arrays by way of
 * tensors, decay, the best labels, and what it refuses. */
#include "tests/cuda/check.hpp"
#include "tests/cuda/head.hpp"

#include <vector>

namespace {

enum { L = 150, D = 40, B = 12 };

struct problem {
    std::vector<float> x;
    std::vector<uint64_t> positives;
};

problem make_problem()
{
    problem p{std::vector<float>(B * D), {}};
    unsigned seed = 9;
    for (float &v : p.x) {
        const unsigned r = check_random(&seed);
        v = r % 8 == 0 ? (float)(r / 8 % 5) / 4 - 0.5f : 0.0f;
    }
    for (uint64_t l = 0; l < L; l++)
        for (uint64_t b = 0; b < B; b++)
            if (check_random(&seed) % L < 3)
                p.positives.push_back(l << 32 | b);
    return p;
}

hr_head_options options_for(hr_device *device)
{
    hr_head_options o{};
    o.labels = L;
    o.dim = D;
    o.max_batch = B;
    o.training = true;
    o.num_segments = 2;
    o.loss = HR_LOSS_SQUARED_HINGE;
    o.bias = HR_BIAS_PER_LABEL;
    o.bias_value = -1;
    o.seed = 3;
    o.first_tensor = 4;
    o.device = device;
    for (int i = 0; i < 2; i++) {
        hr_segment_options *s = &o.segment[i];
        s->rows = i == 0 ? 50 : 100;
        s->lr_scale = i == 0 ? 1.0f : 0.5f;
        s->momentum = i == 0 ? 0.5f : 0;
        CHECK(hr_dtype_parse("e4m3", &s->dtype));
        CHECK(hr_dtype_parse("bf16", &s->state_dtype));
    }
    return o;
}

hr_head_batch batch_of(const problem &p)
{
    hr_head_batch b{};
    b.rows = B;
    b.x = p.x.data();
    b.num_positives = (int64_t)p.positives.size();
    b.positives = p.positives.data();
    return b;
}

/* All arrays of a head as one string, wherever they are. */
std::vector<unsigned char> contents(hr_head *head)
{
    std::vector<unsigned char> all;
    hr_tensor_list list{};
    hr_head_tensors(head, &list);
    for (int i = 0; i < list.count; i++) {
        const hr_tensor *t = &list.item[i];
        const size_t row = (size_t)t->cols * hr_tensor_element_bytes(t->type), bytes = row * (size_t)t->rows, at = all.size();
        all.insert(all.end(), t->name, t->name + strlen(t->name));
        all.resize(all.size() + bytes, 0);
        unsigned char *to = all.data() + at + strlen(t->name);
        CHECK((t->data == nullptr) == (t->far != nullptr));
        if (t->far)
            CHECK(t->far->get(t->owner, t->part, 0, t->rows, row, to) == HR_OK);
        else
            memcpy(to, t->data, bytes);
    }
    return all;
}

/* Copies all arrays of one head to another. */
void copy(hr_head *from, hr_head *to)
{
    hr_tensor_list a{}, b{};
    hr_head_tensors(from, &a);
    hr_head_tensors(to, &b);
    CHECK_EQUAL(a.count, b.count);
    for (int i = 0; i < a.count; i++) {
        const hr_tensor *t = &b.item[i];
        CHECK(strcmp(a.item[i].name, t->name) == 0 && a.item[i].rows == t->rows && a.item[i].cols == t->cols);
        CHECK(t->far->put(t->owner, t->part, 0, t->rows, (size_t)t->cols * hr_tensor_element_bytes(t->type), a.item[i].data) == HR_OK);
    }
}

hr_ctx *make_ctx()
{
    hr_ctx_options context = hr_ctx_options_default();
    hr_ctx *ctx;
    context.threads = 1;
    CHECK(hr_ctx_create(&context, &ctx) == HR_OK);
    return ctx;
}

void test_same()
{
    hr_ctx *ctx = make_ctx();
    hr_device *device;
    CHECK(test_device(ctx, 0, &device) == HR_OK);
    const size_t before = device->ops->allocated(device);
    const problem p = make_problem();
    const hr_head_options near = options_for(nullptr), far = options_for(device);
    size_t bytes[HR_MEM_KINDS] = {};
    hr_head_memory(&far, 1, bytes);
    CHECK_EQUAL(bytes[HR_MEM_HEAD_WEIGHTS] + bytes[HR_MEM_HEAD_STATE], 0);
    hr_head *a, *b;
    CHECK(hr_head_create(ctx, &near, &a) == HR_OK && hr_head_create(ctx, &far, &b) == HR_OK);
    CHECK_EQUAL(device->ops->allocated(device) - before, hr_head_device_memory(&far));
    CHECK(contents(a) == contents(b));
    hr_tensor_list list{};
    hr_head_tensors(a, &list);
    unsigned seed = 5;
    for (int i = 0; i < list.count; i++) /* coarse codes, so that sums are exact */
        if (strstr(list.item[i].name, "codes"))
            for (int64_t r = 0; r < list.item[i].rows; r++)
                for (int64_t d = 0; d < D; d++)
                    hr_dtype_store(near.segment[0].dtype, (unsigned char *)list.item[i].data + r * list.item[i].cols, d,
                                   (float)(check_random(&seed) % 5) / 2 - 1.0f, 1.0f);
    copy(a, b);
    CHECK(contents(a) == contents(b));
    const hr_head_batch batch = batch_of(p);
    float x[B * D], y[B * D];
    double losses[2];
    CHECK(hr_head_step(a, &batch, 0.0625f, 2, x, &losses[0]) == HR_OK && hr_head_step(b, &batch, 0.0625f, 2, y, &losses[1]) == HR_OK);
    CHECK(contents(a) == contents(b) && memcmp(x, y, sizeof x) == 0 && fabs(losses[0] - losses[1]) <= 1e-12 * losses[0]);
    CHECK_EQUAL(hr_head_last_counts(b).cells, 0);

    uint32_t external[L], ids[2][B * 7];
    float scores[2][B * 7];
    for (uint32_t l = 0; l < L; l++)
        external[l] = (l * 7 + 1) % L;
    hr_head_topk *work;
    CHECK(hr_head_topk_create(ctx, B, 7, &work) == HR_OK);
    copy(a, b);
    hr_head *heads[] = {a, b};
    for (int i = 0; i < 2; i++)
        CHECK(hr_head_top(heads[i], work, B, p.x.data(), 7, external, ids[i], scores[i], nullptr, nullptr) == HR_OK);
    for (int i = 0; i < B * 7; i++)
        CHECK(fabsf(scores[0][i] - scores[1][i]) <= 0x1p-10f * fabsf(scores[0][i]));
    hr_head_topk_destroy(ctx, work);
    hr_head_destroy(a);
    hr_head_destroy(b);
    CHECK_EQUAL(device->ops->allocated(device), before);
    hr_device_close(device);
    hr_ctx_destroy(ctx);
}

/* A recorded step is asked for again only while its arrays and the height of its batch are the same. */
void test_recorded()
{
#ifndef TEST_ON_DEVICE
    hr_ctx *ctx = make_ctx();
    hrc_runtime *rt;
    hrc_head *head;
    CHECK(test_runtime(ctx, 0, &rt) == HR_OK);
    const hr_head_options o = options_for(nullptr);
    const problem p = make_problem();
    float dx[B * D];
    hr_device_rates rates[2] = {};
    CHECK(hrc_head_create(rt, &o, 64, 2, &head) == HR_OK);
    hr_head_batch batch = batch_of(p);
    const auto keys_after = [&](int64_t rows, int64_t positives) {
        batch.rows = rows;
        batch.num_positives = positives;
        CHECK(hrc_head_step(head, &batch, rates, 1, 0, dx, nullptr) == HR_OK);
        return rt->keys.size();
    };
    CHECK_EQUAL(keys_after(3, 0), 1);
    CHECK_EQUAL(keys_after(5, 2), 1); /* both padded to 16, and there is room for the positives */
    CHECK_EQUAL(keys_after(B, (int64_t)p.positives.size()), 2); /* there is not */
    CHECK_EQUAL(keys_after(B, 1), 2);
    hrc_head_destroy(head);
    CHECK(hrc_head_create(rt, &o, 64, 100, &head) == HR_OK);
    CHECK_EQUAL(keys_after(B, 1), 3); /* another head */
    hrc_head_destroy(head);
    hrc_close(rt);
    hr_ctx_destroy(ctx);
#endif
}

/* Decay: alpha falls, and codes are halved, at the same steps to the same bits. */
void test_decay()
{
    hr_ctx *ctx = make_ctx();
    hr_device *device;
    CHECK(test_device(ctx, 1, &device) == HR_OK);
    const problem p = make_problem();
    hr_head_batch none = batch_of(p);
    none.num_positives = 0;
    none.rows = 0;
    hr_head_options near = options_for(nullptr), far = options_for(device);
    near.weight_decay = far.weight_decay = 1;
    near.segment[0].init = near.segment[1].init = far.segment[0].init = far.segment[1].init = 0.7f;
    hr_head *a, *b;
    CHECK(hr_head_create(ctx, &near, &a) == HR_OK && hr_head_create(ctx, &far, &b) == HR_OK);
    float dx[B * D];
    for (uint64_t step = 0; step < 9; step++) {
        CHECK(hr_head_step(a, &none, 0.2f, step, dx, nullptr) == HR_OK && hr_head_step(b, &none, 0.2f, step, dx, nullptr) == HR_OK);
        CHECK(contents(a) == contents(b) && hr_head_alpha(a, 0) == hr_head_alpha(b, 0) && hr_head_alpha(a, 1) == hr_head_alpha(b, 1));
    }
    CHECK(hr_head_alpha(a, 0) > powf(0.8f, 9) * 1.5f); /* halved once */
    hr_head_destroy(a);
    hr_head_destroy(b);
    hr_device_close(device);
    hr_ctx_destroy(ctx);
}

void test_refused()
{
    hr_ctx *ctx = make_ctx();
    hr_device *device;
    CHECK(test_device(ctx, 1, &device) == HR_OK);
    hr_head_options o = options_for(device);
    hr_head *head;
    o.segment[1].family = HR_FAMILY_FAN_IN;
    o.segment[1].fan_in = 4;
    CHECK(hr_head_create(ctx, &o, &head) == HR_ERR_CONFIG && strstr(hr_ctx_message(ctx), "head.family=dense"));
    o = options_for(device);
    CHECK(hr_head_create(ctx, &o, &head) == HR_OK);
    problem p = make_problem();
    p.x[5] = NAN;
    const hr_head_batch batch = batch_of(p);
    float dx[B * D];
    const std::vector<unsigned char> before = contents(head);
    CHECK(hr_head_step(head, &batch, 0.1f, 0, dx, nullptr) == HR_ERR_NUMERIC);
    CHECK(contents(head) == before);
    hr_head_destroy(head);
    hr_device_close(device);
    CHECK(hr_device_open(ctx, "cpu", &device) == HR_OK && device == nullptr);
    CHECK(hr_device_open(ctx, "gpu", &device) == HR_ERR_CONFIG && strstr(hr_ctx_message(ctx), "cuda:N"));
    CHECK(hr_device_open(ctx, "cuda:x", &device) == HR_ERR_CONFIG);
    hr_ctx_destroy(ctx);
}

} // namespace

int main()
{
    static const check_case cases[] = {{"same", test_same}, {"recorded", test_recorded}, {"decay", test_decay}, {"refused", test_refused}};
    return check_run(cases);
}
