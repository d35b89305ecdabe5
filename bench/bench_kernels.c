/* Every implementation of kernels.def against the reference of its operation.
 *
 *   bench_kernels [--json] [--quick] [--types e4m3,...] [OP[,OP...]]
 *
 * A case below is what a tile of labels asks of an operation. In each round all implementations of the operation have one turn;
 * printed are the median time of a tile, by the processor time of the thread, and how many times faster than the reference's median
 * that is. --quick: a tiny tile, each once, to see that everything runs. --json: one line for each.
 *
 * A new operation in kernels.def does not compile before it has a CASE here. */
#include "machine.h"

#include "kernels/kernels.h"

#include <stdio.h>
#include <string.h>

enum { LABELS = 128, DIM = 768, BATCH = 256, WEIGHTS = LABELS * DIM, INPUTS = BATCH * DIM, LOGITS = LABELS * BATCH };
enum { STRIP = 24, ENTRIES = 2, ROUNDS = 15, VARIANTS = 16 }; /* STRIP rows at a time are updated (head/dense.c) */

/* A tile in the layouts of kernels.h; T and B are multiples of HRK_BP, D of HRK_DP. */
typedef struct bench_data {
    _Alignas(64) float w[WEIGHTS], dw[WEIGHTS], m[WEIGHTS], v[WEIGHTS], x[INPUTS], dx[INPUTS], z[LOGITS], g[LOGITS];
    uint32_t w16[WEIGHTS / 2], x16[INPUTS / 2], g16[LOGITS / 2], row[LOGITS];
    uint8_t codes[4 * WEIGHTS], xq[INPUTS];
    int8_t q[WEIGHTS];
    uint16_t draws[WEIGHTS];
    float w_scale[LABELS], x_scale[BATCH], x_size[BATCH], limit[BATCH];
    int32_t w_sum[LABELS];
    int64_t label[LABELS], start[LABELS + 1]; /* lists of ENTRIES each */
    int64_t T, D, B;
    hr_dtype type;
    hrk_sgd_args sgd; /* its step changes sign from tile to tile, so that what is updated stays where it is */
    hr_rng rng;
} bench_data;

static void *code(bench_data *d, int64_t t, int64_t column)
{
    return d->codes + (size_t)(t * d->D + column) * d->type.bytes;
}

/* ---- the cases ---- */

typedef struct bench_case {
    void (*run)(const hrk_table *k, bench_data *d);
    enum { NO_TYPE, ANY_TYPE, FLOATS, INT8 } types; /* of codes */
    enum { PER_WEIGHT, PER_LOGIT, PER_PRODUCT, PER_PRODUCT_TWICE } unit;
} bench_case;

#define CASE(operation, types, unit, ...)                                                                              \
    static void run_##operation(const hrk_table *k, bench_data *d)                                                     \
    {                                                                                                                  \
        __VA_ARGS__;                                                                                                   \
    }                                                                                                                  \
    static const bench_case case_##operation = {run_##operation, types, unit};
#define EACH_LABEL for (int64_t t = 0; t < d->T; t++)
#define EACH_INPUTS for (int64_t b = 0; b < d->B; b += HRK_BP)
#define EACH_COLUMNS for (int64_t c = 0; c < d->D; c += HRK_DP)
#define EACH_STRIP for (int64_t t = 0, n; n = d->T - t < STRIP ? d->T - t : STRIP, n > 0; t += n)

CASE(gemm_panel_bp, NO_TYPE, PER_PRODUCT, const hrk_left w = {d->w, HRK_DP, 1, HRK_DP, d->T * HRK_DP};
     EACH_INPUTS k->gemm_panel_bp(d->T, d->D, w, d->x + b * d->D, d->z + b * d->T, HRK_BP, 1, 0))
CASE(gemm16_bp, NO_TYPE, PER_PRODUCT, const hrk_left16 w = {d->w16, d->D / 2, 1, d->D / 2, 0};
     EACH_INPUTS k->gemm16_bp(d->T, d->D / 2, w, d->x16 + b * d->D / 2, d->z + b * d->T, HRK_BP, 1, 0))
/* dX, then dW */
CASE(gemm_panel_dp, NO_TYPE, PER_PRODUCT_TWICE, EACH_COLUMNS {
    EACH_INPUTS k->gemm_panel_dp(HRK_BP, d->T, (hrk_left){d->g + b * d->T, 1, HRK_BP, d->T, 0}, d->w + c * d->T,
                                 d->dx + c * d->B + b * HRK_DP, HRK_DP, d->sgd.step, 1);
    EACH_STRIP k->gemm_panel_dp(n, d->B, (hrk_left){d->g + t * HRK_BP, HRK_BP, 1, HRK_BP, d->T * HRK_BP}, d->x + c * d->B, d->dw,
                                HRK_DP, 1, 0);
})
CASE(gemm16_dp, NO_TYPE, PER_PRODUCT_TWICE, EACH_COLUMNS {
    EACH_INPUTS k->gemm16_dp(HRK_BP, d->T / 2, (hrk_left16){d->g16 + b * d->T / 2, 1, HRK_BP, d->T / 2, 0}, d->w16 + c * d->T / 2,
                             d->dx + c * d->B + b * HRK_DP, HRK_DP, d->sgd.step, 1);
    EACH_STRIP k->gemm16_dp(n, d->B / 2, (hrk_left16){d->g16 + t * HRK_BP / 2, HRK_BP / 2, 1, HRK_BP / 2, d->T * HRK_BP / 2},
                            d->x16 + c * d->B / 2, d->dw, HRK_DP, 1, 0);
})
/* on the way it asks for as many bytes as the tile has weights */
CASE(gemm_i8, NO_TYPE, PER_PRODUCT, const int64_t part = d->T * d->D / (d->B / HRK_BP);
     EACH_INPUTS k->gemm_i8(d->T, d->D / 4, d->q, d->D, d->w_sum, d->w_scale, d->xq + b * d->D, d->x_scale + b, d->z + b * d->T,
                            d->codes + b / HRK_BP * part, (size_t)part))
CASE(pair, NO_TYPE, PER_WEIGHT, EACH_COLUMNS for (const float *w = d->w + c * d->T; w < d->w + (c + HRK_DP) * d->T; w += 2 * HRK_DP)
     k->pair(HRK_DP, w, w + HRK_DP, d->w16 + (w - d->w) / 2))
CASE(pair_row, NO_TYPE, PER_WEIGHT, EACH_COLUMNS EACH_LABEL k->pair_row(HRK_DP, d->w + c * d->T + t * HRK_DP, d->w16 + (t * d->D + c) / 2))
CASE(draws, NO_TYPE, PER_LOGIT, EACH_LABEL k->draws(d->rng, (uint32_t)t, d->B, d->draws))
CASE(draws_panel, NO_TYPE, PER_WEIGHT, EACH_COLUMNS EACH_STRIP k->draws_panel(d->rng, (uint32_t)t, n, NULL, c, d->draws))
CASE(grad_bce, NO_TYPE, PER_LOGIT, EACH_INPUTS k->grad_bce(d->T * HRK_BP, d->z + b * d->T, (hrk_grad_args){0.7f, -3, 0.5f, 0}))
CASE(grad_hinge, NO_TYPE, PER_LOGIT, EACH_INPUTS k->grad_hinge(d->T * HRK_BP, d->z + b * d->T, (hrk_grad_args){0.7f, 0, 0.5f, 0}))
CASE(decode, ANY_TYPE, PER_WEIGHT, EACH_LABEL k->decode(d->D, code(d, t, 0), d->w_scale[t], d->type, d->w + t * d->D))
CASE(decode_row, ANY_TYPE, PER_WEIGHT,
     EACH_LABEL k->decode_row(d->D, code(d, t, 0), d->w_scale[t], d->type, d->T * HRK_DP, d->w + t * HRK_DP))
CASE(sgd, FLOATS, PER_WEIGHT, EACH_LABEL k->sgd(d->D, code(d, t, 0), d->dw + t * d->D, d->draws + t * d->D, d->sgd))
CASE(sgd_panel, FLOATS, PER_WEIGHT, EACH_COLUMNS EACH_STRIP k->sgd_panel(n, HRK_DP, code(d, t, c), (size_t)d->D * d->type.bytes,
     d->w + c * d->T + t * HRK_DP, d->dw, d->draws, d->sgd))
CASE(absmax_i8r, INT8, PER_WEIGHT, EACH_LABEL k->absmax_i8r(d->D, code(d, t, 0), d->w_scale[t], d->dw + t * d->D, d->sgd))
CASE(sgd_i8r, INT8, PER_WEIGHT, EACH_LABEL k->sgd_i8r(d->D, code(d, t, 0), d->w_scale[t], d->w_scale[t], d->dw + t * d->D,
     d->draws + t * d->D, d->sgd))
CASE(quantize, ANY_TYPE, PER_WEIGHT, EACH_LABEL k->quantize(d->D, code(d, t, 0), d->w_scale[t], d->type, 0, d->q + t * d->D))
/* about one entry in a thousand is kept */
CASE(sparsify, NO_TYPE, PER_LOGIT, float bias[STRIP]; int64_t end[STRIP];
     for (int i = 0; i < STRIP; i++) bias[i] = -10;
     EACH_STRIP k->sparsify(n, d->B, d->z + t * HRK_BP, d->T * HRK_BP, d->draws + t * d->B, d->B,
     (hrk_sparsify_args){.zscale = 1, .bias = bias, .gscale = 1, .tau = 0.05f, .refine = d->rng, .label = (uint32_t)t}, d->row, d->g, end))
CASE(sparse_sgd, ANY_TYPE, PER_WEIGHT, const hrk_lists l = {d->T, d->label, d->start, d->row, d->g, d->w_scale, d->w_scale};
     EACH_COLUMNS k->sparse_sgd(&l, d->sgd.step, d->x + c * d->B, d->dx + c * d->B, HRK_DP, code(d, 0, c), (size_t)d->D * d->type.bytes,
                                d->draws, d->sgd))
CASE(sparse_absmax, INT8, PER_WEIGHT, const hrk_lists l = {d->T, d->label, d->start, d->row, d->g, d->w_scale, d->w_scale};
     EACH_COLUMNS k->sparse_absmax(&l, d->x + c * d->B, HRK_DP, code(d, 0, c), (size_t)d->D, d->sgd, d->m))
/* one query */
CASE(dot, ANY_TYPE, PER_WEIGHT, float out[STRIP]; EACH_STRIP k->dot(n, d->D, code(d, t, 0), (size_t)d->D * d->type.bytes,
     d->w_scale + t, d->type, d->x, out))
CASE(reach, NO_TYPE, PER_LOGIT, const hrk_reach_args args = {1, 0, 0.01f, 0.01f};
     EACH_LABEL EACH_INPUTS k->reach(d->z + b * d->T + t * HRK_BP, args, d->x_size + b, d->x_size + b, d->limit + b))
CASE(drain, NO_TYPE, PER_WEIGHT, EACH_LABEL k->drain(d->D, d->dw + t * d->D, d->w + t * d->D))
CASE(axpy, NO_TYPE, PER_WEIGHT, EACH_LABEL k->axpy(d->D, d->sgd.step, d->dw + t * d->D, d->w + t * d->D))
CASE(adam, NO_TYPE, PER_WEIGHT, const hrk_adam_args args = {0.1f, 0.001f, 0.002f, 1.5f, 1e-8f, 0.999f};
     EACH_LABEL k->adam(d->D, d->w + t * d->D, d->m + t * d->D, d->v + t * d->D, d->dw + t * d->D, args))

/* The lines of kernels.def; every operation of the table has its reference there. */
typedef struct bench_kernel {
    const char *operation, *variant;
    int level;
    const bench_case *how;
} bench_kernel;

#define HRK(operation, variant, level) {#operation, #variant, level, &case_##operation},
static const bench_kernel kernels[] = {
#include "kernels/kernels.def"
};
#undef HRK
#define HRK(operation, variant, level) +((level) == HR_ISA_REF)
enum { KERNELS = sizeof kernels / sizeof *kernels, REFERENCES = 0
#include "kernels/kernels.def"
};
#undef HRK
_Static_assert(REFERENCES == sizeof(hrk_table) / sizeof(void (*)(void)), "an operation without a reference in kernels.def");

/* ---- data ---- */

static void fill_uniform(float *p, int64_t n, float scale, unsigned tensor)
{
    const hr_rng rng = hr_rng_make(1, 0, tensor, HR_STREAM_INIT);
    for (int64_t i = 0; i < n; i++)
        p[i] = scale * ((float)hr_rng_draw16(rng, 0, (uint32_t)i) / 32768.0f - 1.0f);
}

/* Weights of +-0.05, in 8-bit floats with the usual factor of 2^6, in int8 with a row scale; X of +-1. */
static void make_data(bench_data *d, hr_dtype type)
{
    const int64_t weights = d->T * d->D, inputs = d->B * d->D, logits = d->T * d->B;
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const bool int8 = type.id == HR_I8R;
    d->type = type;
    d->sgd = (hrk_sgd_args){.step = 0.01f, .keep = 1, .rounding = HR_ROUND_STOCHASTIC, .dtype = type};
    d->rng = hr_rng_make(1, 2, 3, HR_STREAM_ROUND);
    fill_uniform(d->w, weights, int8 ? 127 : type.bytes == 1 ? 3.2f : 0.05f, 1);
    fill_uniform(d->dw, weights, 1, 2);
    fill_uniform(d->x, inputs, 1, 3);
    fill_uniform(d->z, logits, 1, 4);
    fill_uniform(d->g, logits, 0.01f, 5);
    memset(d->dx, 0, sizeof d->dx);
    memset(d->m, 0, sizeof d->m);
    memset(d->v, 0, sizeof d->v);
    ref.pair_row(weights, d->w, d->w16);
    ref.pair_row(inputs, d->x, d->x16);
    ref.pair_row(logits, d->g, d->g16);
    ref.draws(d->rng, 0, weights, d->draws);
    for (int64_t i = 0; i < weights; i++) {
        d->q[i] = (int8_t)(d->draws[i] % 255 - 127);
        if (int8)
            ((int8_t *)d->codes)[i] = (int8_t)d->w[i];
        else
            hr_dtype_store(type, d->codes, i, hr_dtype_round(type, HR_ROUND_NEAREST, d->w[i], 0), 1);
    }
    for (int64_t i = 0; i < inputs; i++)
        d->xq[i] = (uint8_t)(1 + i * 91 % 255);
    for (int64_t i = 0; i < logits; i++)
        d->row[i] = (uint32_t)(i * 37 % d->B);
    for (int64_t t = 0; t < d->T; t++) {
        d->w_scale[t] = int8 ? 0x1p-11f : 1;
        d->label[t] = t;
        d->start[t + 1] = ENTRIES * (t + 1);
    }
    for (int64_t b = 0; b < d->B; b++)
        d->x_scale[b] = d->x_size[b] = d->limit[b] = 1;
}

/* ---- turns ---- */

typedef struct bench_entry {
    const bench_kernel *kernel;
    hrk_table table;
    int tiles; /* of a turn */
    double seconds[ROUNDS];
} bench_entry;

typedef struct bench_options {
    bool json, quick;
    const char *types;
} bench_options;

static double take_turn(const bench_entry *e, bench_data *d)
{
    const double begin = bench_now().thread;
    for (int i = 0; i < e->tiles; i++, d->sgd.step = -d->sgd.step)
        e->kernel->how->run(&e->table, d);
    return (bench_now().thread - begin) / e->tiles;
}

static void print_entry(const bench_entry *e, const bench_data *d, const char *type, double seconds, double ratio, bool json)
{
    static const char *const names[] = {"weights", "logits", "products", "products"};
    const bench_kernel *k = e->kernel;
    const int64_t weights = d->T * d->D, units[] = {weights, d->T * d->B, weights * d->B, 2 * weights * d->B};
    printf(json ? "{\"operation\": \"%s\", \"type\": \"%s\", \"variant\": \"%s\", \"us\": %.3f, \"per_ns\": %.4f, \"unit\": \"%s\", "
                  "\"ratio\": %.3f}\n"
                : "%-13s %-4s %-10s %10.1f us %8.2f %-8s a ns %8.2fx\n",
           k->operation, type, k->variant, seconds * 1e6, (double)units[k->how->unit] / seconds * 1e-9, names[k->how->unit], ratio);
    fflush(stdout);
}

/* All implementations of an operation that this processor can run, on one type of codes. */
static void measure(const char *operation, const char *type, const bench_options *o, bench_data *d)
{
    bench_entry entries[VARIANTS];
    const int rounds = o->quick ? 1 : ROUNDS;
    int count = 0;
    for (int i = 0; i < KERNELS && count < VARIANTS; i++)
        if (!strcmp(kernels[i].operation, operation) && kernels[i].level <= (int)hr_isa_detect())
            entries[count++] = (bench_entry){.kernel = &kernels[i], .table = hrk_table_make(kernels[i].level), .tiles = 1};
    for (int i = 0; i < count && !o->quick; i++) /* warm, until a turn takes two milliseconds */
        while (take_turn(&entries[i], d) * entries[i].tiles < 2e-3)
            entries[i].tiles *= 2;
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < count; i++)
            entries[i].seconds[r] = take_turn(&entries[i], d);
    double base = 0;
    for (int i = 0; i < count; i++) {
        const double own = bench_median(entries[i].seconds, rounds);
        base = i == 0 ? own : base; /* the reference is the first line of kernels.def */
        print_entry(&entries[i], d, type, own, base / own, o->json);
    }
}

static void measure_types(const bench_kernel *k, const bench_options *o, bench_data *d)
{
    static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4"};
    for (int i = 0; i < (k->how->types == NO_TYPE ? 1 : 7); i++) {
        hr_dtype type;
        hr_dtype_parse(types[i], &type);
        if (k->how->types != NO_TYPE && (!bench_listed(o->types, types[i]) || k->how->types == (type.id == HR_I8R ? FLOATS : INT8)))
            continue;
        make_data(d, type);
        measure(k->operation, k->how->types == NO_TYPE ? "-" : types[i], o, d);
    }
}

/* ---- command line ---- */

static int usage(void)
{
    fputs("usage: bench_kernels [--json] [--quick] [--types e4m3,...] [OP[,OP...]]\noperations:", stderr);
    for (int i = 0; i < KERNELS; i++)
        if (kernels[i].level == HR_ISA_REF)
            fprintf(stderr, " %s", kernels[i].operation);
    fputc('\n', stderr);
    return 64;
}

int main(int argc, char **argv)
{
    static bench_data data = {.T = LABELS, .D = DIM, .B = BATCH};
    bench_options o = {.types = "f32,bf16,e4m3,i8r"};
    for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
        if (!strcmp(argv[1], "--types") && argc > 2)
            o.types = argv[2], argc--, argv++;
        else if (!strcmp(argv[1], "--json"))
            o.json = true;
        else if (!strcmp(argv[1], "--quick"))
            o.quick = true, data.T = 32, data.D = 64, data.B = 32;
        else
            return usage();
    }
    const char *wanted = argc > 1 ? argv[1] : NULL;
    int unknown = wanted ? 1 : 0;
    for (const char *p = wanted; p && (p = strchr(p, ',')); p++)
        unknown++;
    for (int i = 0; i < KERNELS; i++)
        unknown -= wanted && kernels[i].level == HR_ISA_REF && bench_listed(wanted, kernels[i].operation);
    if (unknown)
        return usage();
    char cpu[64];
    bench_cpu_name(cpu);
    if (!o.json)
        printf("a tile of %lld labels, D %lld, B %lld; medians of %d rounds, times faster than ref (%s, %s)\n", (long long)data.T,
               (long long)data.D, (long long)data.B, o.quick ? 1 : ROUNDS, cpu, hr_isa_name(hr_isa_detect()));
    for (int i = (int)hr_isa_detect() + 1; i < HR_ISAS; i++)
        fprintf(stderr, "not measured, this processor cannot run it: %s\n", hr_isa_name((hr_isa)i));
    for (int i = 0; i < KERNELS; i++)
        if (kernels[i].level == HR_ISA_REF && bench_listed(wanted, kernels[i].operation))
            measure_types(&kernels[i], &o, &data);
    return 0;
}
