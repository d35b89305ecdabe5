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
#include <stdlib.h>
#include <string.h>

enum { LABELS = 128, DIM = 768, BATCH = 256, WEIGHTS = LABELS * DIM, INPUTS = BATCH * DIM };
enum { OWN = 192, FAN_IN = 32, SHARED = 64, LOGITS = OWN * BATCH }; /* labels with inputs of their own; labels and inputs of a group */
enum { STRIP = 24, ENTRIES = 2, LISTED = 8, ROUNDS = 15, VARIANTS = 16 }; /* STRIP rows at a time are updated (head/dense.c) */

/* A tile in the layouts of kernels.h; T and B are multiples of HRK_BP, D of HRK_DP. Of fan-in it has F labels with K inputs each, and G
 * labels that share G inputs. */
typedef struct bench_data {
    _Alignas(64) float w[WEIGHTS], dw[WEIGHTS], m[WEIGHTS], v[WEIGHTS], x[INPUTS], dx[INPUTS], z[LOGITS], g[LOGITS];
    uint32_t w16[WEIGHTS / 2], x16[INPUTS / 2], g16[LOGITS / 2], row[LOGITS];
    uint8_t codes[4 * WEIGHTS], xq[INPUTS];
    int8_t q[WEIGHTS];
    uint16_t draws[WEIGHTS];
    float w_scale[OWN], x_scale[BATCH], x_size[BATCH], limit[BATCH];
    int32_t w_sum[OWN];
    int64_t label[OWN], start[OWN + 1]; /* lists of ENTRIES each */
    uint32_t own[OWN * FAN_IN], shared[SHARED];
    int64_t input[OWN], at[OWN]; /* of the own inputs: the first of a label, and how many are done */
    hrk_link links[OWN * FAN_IN];
    float chains[OWN * FAN_IN * 16];
    /* sparse X: every second column has LISTED entries; which inputs of a label have some, and their lists */
    uint32_t present[DIM / 32], list[DIM], list_start[DIM / 2 + 1], which[OWN * (FAN_IN + 16)], which_list[OWN * (FAN_IN + 16)];
    uint16_t list_row[DIM / 2 * LISTED];
    int64_t hits[OWN];
    hrk_columns columns;
    int64_t T, D, B, F, K, G;
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
    enum { PER_WEIGHT, PER_LOGIT, PER_PRODUCT, PER_PRODUCT_TWICE, PER_INPUT, PER_OWN, PER_OWN_PRODUCT, PER_OWN_PRODUCT_TWICE, PER_SHARED,
           PER_SHARED_PRODUCT } unit;
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
#define EACH_INSTANCES for (int64_t b = 0; b < d->B; b += HRK_IP)
#define IP_PITCH ((d->B + HRK_IP - 1) / HRK_IP * HRK_IP)
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
CASE(fan_logits, NO_TYPE, PER_OWN_PRODUCT, const hrk_left w = {d->w, HRK_DP, 1, HRK_DP, d->F * HRK_DP};
     EACH_INPUTS k->fan_logits(d->F, d->K, d->own, w, d->x + b * d->D, d->z + b * d->F))
CASE(fan_backward, NO_TYPE, PER_OWN_PRODUCT_TWICE, const int64_t panels = d->B / HRK_BP;
     for (int64_t p = 0, n; n = panels - p < HRK_FAN_PANELS ? panels - p : HRK_FAN_PANELS, n > 0; p += n)
         k->fan_backward(d->F * d->K, d->links, (hrk_fan_args){.g = d->g + p * d->F * HRK_BP, .x = d->x + p * d->D * HRK_BP,
         .dx = d->dx + p * d->D * HRK_BP, .chains = d->chains, .dw = d->dw, .panels = n, .g_step = d->F * HRK_BP,
         .x_step = d->D * HRK_BP, .dx_step = d->D * HRK_BP, .first = p == 0, .last = p + n == panels}))
CASE(dots, NO_TYPE, PER_SHARED_PRODUCT,
     k->dots(d->G, d->G, d->B / HRK_BP, d->g, d->G * HRK_BP, d->x, d->G * HRK_BP, d->dw, HRK_DP))
CASE(gather, NO_TYPE, PER_SHARED, EACH_INPUTS k->gather(d->G, d->shared, d->x + b * d->D, d->z + b * d->G))
CASE(scatter, NO_TYPE, PER_SHARED, EACH_INPUTS k->scatter(d->G, d->shared, d->g + b * d->G, d->dx + b * d->D))
CASE(add_transposed, NO_TYPE, PER_INPUT,
     EACH_INPUTS EACH_COLUMNS k->add_transposed(HRK_BP, HRK_DP, d->x + b * d->D + c * HRK_BP, d->dx + c * d->B + b * HRK_DP))
CASE(gather_i8, NO_TYPE, PER_SHARED,
     EACH_INSTANCES k->gather_i8(d->G, d->shared, d->xq + b, IP_PITCH, d->codes + b * d->G))
CASE(fan_i8, NO_TYPE, PER_OWN_PRODUCT,
     EACH_INSTANCES k->fan_i8(d->F, d->K, d->own, (hrk_fan_i8_args){.w = d->q, .w_sum = d->w_sum, .w_scale = d->w_scale,
     .x_scale = d->x_scale + b, .xc = d->xq + b, .pitch = IP_PITCH, .c = d->z + b * d->F, .step = d->F * HRK_BP,
     .panels = d->B - b > HRK_BP ? 2 : 1}))
CASE(fan_lists, NO_TYPE, PER_OWN, const hrk_lists l = {d->F, d->label, d->start, d->row, d->g, NULL, NULL};
     memset(d->at, 0, sizeof d->at);
     EACH_COLUMNS k->fan_lists(&l, d->K, (hrk_fan_lists_args){.inputs = d->own, .wide = 1, .input = d->input, .at = d->at, .sw = d->w,
     .x = d->x, .dx = d->dx, .dw = d->dw, .step = d->B * HRK_DP, .end = (uint32_t)(c + HRK_DP)}))
#define EACH_OWN for (int64_t t = 0; t < d->F; t++)
#define HITS d->which + t * (FAN_IN + 16), d->which_list + t * (FAN_IN + 16)
CASE(column_hits, NO_TYPE, PER_OWN, EACH_OWN k->column_hits(d->K, d->own + t * d->K, 1, &d->columns, HITS))
CASE(column_logits, NO_TYPE, PER_OWN, EACH_OWN k->column_logits(d->hits[t], HITS, &d->columns, d->w + t * d->K, d->z))
CASE(column_dw, NO_TYPE, PER_OWN, EACH_OWN k->column_dw(d->hits[t], HITS, &d->columns, d->g, d->dw))
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

static int by_column(const void *one, const void *two)
{
    const hrk_link *a = one, *b = two;
    const uint32_t x = a->column == b->column ? a->row : a->column, y = a->column == b->column ? b->row : b->column;
    return (x > y) - (x < y);
}

/* Input k is one of the k-th of K parts of the columns. */
static void make_inputs(bench_data *d)
{
    const hr_rng rng = hr_rng_make(1, 2, 3, HR_STREAM_REWIRE);
    for (int64_t i = 0; i < d->F * d->K; i++) {
        const int64_t part = d->D / d->K, t = i / d->K, k = i % d->K;
        d->own[i] = (uint32_t)(k * part + hr_rng_draw16(rng, (uint32_t)t, (uint32_t)k) % part);
        d->links[i] = (hrk_link){d->own[i], (uint32_t)t, (uint32_t)(t * HRK_DP + k), 0.05f};
        d->input[t] = t * d->K;
    }
    for (int64_t k = 0; k < d->G; k++)
        d->shared[k] = (uint32_t)(k * (d->D / d->G) + hr_rng_draw16(rng, (uint32_t)d->F, (uint32_t)k) % (d->D / d->G));
    qsort(d->links, (size_t)(d->F * d->K), sizeof *d->links, by_column);
}

static void make_columns(bench_data *d)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    memset(d->present, 0x55, sizeof d->present);
    for (int64_t c = 0; c < d->D; c++)
        d->list[c] = (uint32_t)(c / 2);
    for (int64_t i = 0; i < d->D / 2; i++) {
        d->list_start[i + 1] = (uint32_t)((i + 1) * LISTED);
        for (int64_t e = 0; e < LISTED; e++)
            d->list_row[i * LISTED + e] = (uint16_t)(e * (d->B / LISTED) + i * 37 % (d->B / LISTED));
    }
    d->columns = (hrk_columns){.columns = d->D, .present = d->present, .list = d->list, .start = d->list_start, .row = d->list_row,
                               .value = d->x};
    EACH_OWN d->hits[t] = ref.column_hits(d->K, d->own + t * d->K, 1, &d->columns, HITS);
}

/* Weights of +-0.05, in 8-bit floats with the usual factor of 2^6, in int8 with a row scale; X of +-1. */
static void make_data(bench_data *d, hr_dtype type)
{
    const int64_t weights = d->T * d->D, inputs = d->B * d->D, logits = (d->T > d->F ? d->T : d->F) * d->B;
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
    for (int64_t t = 0; t < (d->T > d->F ? d->T : d->F); t++) {
        d->w_scale[t] = int8 ? 0x1p-11f : 1;
        d->label[t] = t;
        d->start[t + 1] = ENTRIES * (t + 1);
    }
    for (int64_t b = 0; b < d->B; b++)
        d->x_scale[b] = d->x_size[b] = d->limit[b] = 1;
    make_inputs(d);
    make_columns(d);
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
    static const char *const names[] = {"weights", "logits", "products", "products", "inputs", "weights", "products", "products", "inputs",
                                        "products"};
    const bench_kernel *k = e->kernel;
    const int64_t weights = d->T * d->D, own = d->F * d->K;
    const int64_t units[] = {weights, d->T * d->B, weights * d->B, 2 * weights * d->B, d->D * d->B, own, own * d->B, 2 * own * d->B,
                             d->G * d->B, d->G * d->G * d->B};
    printf(json ? "{\"operation\": \"%s\", \"type\": \"%s\", \"variant\": \"%s\", \"us\": %.3f, \"per_ns\": %.4f, \"unit\": \"%s\", "
                  "\"ratio\": %.3f}\n"
                : "%-14s %-4s %-10s %10.1f us %8.2f %-8s a ns %8.2fx\n",
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
    static bench_data data = {.T = LABELS, .D = DIM, .B = BATCH, .F = OWN, .K = FAN_IN, .G = SHARED};
    bench_options o = {.types = "f32,bf16,e4m3,i8r"};
    for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
        if (!strcmp(argv[1], "--types") && argc > 2)
            o.types = argv[2], argc--, argv++;
        else if (!strcmp(argv[1], "--json"))
            o.json = true;
        else if (!strcmp(argv[1], "--quick"))
            o.quick = true, data.T = 32, data.D = 64, data.B = 32, data.F = 24, data.K = 16, data.G = 32;
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
