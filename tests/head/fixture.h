/* A small problem for the head, and what its tests ask of one: the real weights, a checksum of everything. */
#ifndef HR_TESTS_HEAD_FIXTURE_H
#define HR_TESTS_HEAD_FIXTURE_H

#include "check.h"

#include "base/rng.h"
#include "head/head.h"

#include <math.h>

typedef struct problem {
    int64_t L, D, B, npos;
    float *x;
    uint64_t *pos;
} problem;

static inline float uniform(uint32_t i, uint32_t j, uint64_t seed)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(seed, 0, 0, 0), i, j, w);
    return (float)(w[0] >> 8) / 8388608.0f - 1.0f;
}

static inline problem make_problem(int64_t L, int64_t D, int64_t B)
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

static inline void free_problem(problem *p)
{
    free(p->x);
    free(p->pos);
}

static inline hr_head_batch batch_of(const problem *p)
{
    return (hr_head_batch){.rows = p->B, .x = p->x, .num_positives = p->npos, .positives = p->pos};
}

static inline hr_head_options options_for(const problem *p, const char *dtype, hr_rounding rounding)
{
    hr_head_options o = {.labels = p->L, .dim = p->D, .max_batch = p->B, .training = true, .num_segments = 1, .seed = 99,
                         .bias_value = -1.5f};
    o.segment[0] = (hr_segment_options){.rows = p->L, .rounding = rounding, .lr_scale = 1, .init = 0.3f};
    assert_true(hr_dtype_parse(dtype, &o.segment[0].dtype));
    o.segment[0].scale_log2 = o.segment[0].dtype.bytes == 1 && o.segment[0].dtype.id != HR_I8R ? 6 : 0;
    assert_true(hr_dtype_parse("bf16", &o.segment[0].state_dtype));
    return o;
}

/* Real weights of row l: alpha * (code + compensation) * 2^-s. */
static inline double weight(hr_head *head, int64_t l, int64_t d)
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

/* Everything a head holds, and the dX of its last step, as one checksum. */
static inline uint64_t digest(hr_head *head, const float *dx, int64_t n)
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

static inline uint64_t train_digest(const problem *p, hr_head_options o, int threads, int64_t chunk, const char *isa, int steps)
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

#endif
