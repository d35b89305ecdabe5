/* The kernels of a step that are not matrix products: operands made from X and from codes, the gradient, the update. Each is plain arithmetic
 * on its own elements, by the functions that the processor uses (src/dtype), so that the same products give the same codes on both.
 *
 * A head's rows are worked on in chunks of C labels; B instances, padded to P = a multiple of 16; D columns, padded to Q = a multiple of 8.
 *   xo (P, Q)   X                        wo (C, Q)   codes, in code units
 *   z  (C, P)   f32, in code units       go (C, P)   gradient times g_scale
 *   dw (C, Q)   f32, of go and xo
 * xo, wo, go are operands of matrix products: f16, bf16 or f32.
 * What changes from step to step stands in device memory (hrc_step), so that the launches of a step can be recorded once. */
#ifndef HRC_STEP_KERNELS_CUH
#define HRC_STEP_KERNELS_CUH

#include "base/rng.h"
#include "cuda/device.h"
#include "dtype/sigmoid.h"
#include "dtype/update.h"

/* What gradients are multiplied by, so that f16 keeps 11 bits of them: from 2^-26 on for cross-entropy, where |g| <= 1, from 2^-18 to 4094 for the
 * hinge. */
#define HRC_G_SCALE_BCE 4096.0f
#define HRC_G_SCALE_HINGE 16.0f
#define HRC_F16_MOST 65504.0f

enum { HRC_THREADS = 256, HRC_COLUMNS = 8 }; /* columns of a thread: one block of draws */

/* Of a batch. */
typedef struct hrc_batch_step {
    int32_t rows, num_positives;
    int32_t hinge;      /* squared hinge instead of cross-entropy */
    float g_scale;
} hrc_batch_step;

/* Of a segment. */
typedef struct hrc_step {
    float zscale;       /* alpha 2^-s: logits are zscale z + bias */
    float bias;
    float dw_scale;     /* of dw to the gradient: loss factor / g_scale */
    float step, keep;   /* code <- round(keep code - step gradient) */
    float bias_step;    /* bias <- bias - bias_step gradient */
    int32_t rounding;   /* hr_rounding */
    float momentum;     /* SGD's */
    hr_adam_law adam;
    hr_rng draws;       /* HR_STREAM_ROUND at this step; HR_STREAM_RESCALE; HR_STREAM_STATE of both moments */
    hr_rng rescale_draws, first_draws, second_draws;
} hrc_step;

/* Rows of a segment: codes `pitch` bytes from one to the next, optimizer state without gaps. */
typedef struct hrc_rows {
    unsigned char *codes;
    int64_t pitch;
    int64_t label;      /* of the first one, on the axis: it numbers the draws */
    int32_t rows, dim;
    float *scales;      /* i8r, (rows) */
    uint16_t *comp;     /* Kahan, (rows, dim) bf16 in code units; or NULL */
    void *first, *second; /* (rows, dim) of `state`: momentum or Adam's moments; or NULL */
    hr_dtype state;
} hrc_rows;

/* ---- storage types ---- */

/* One number of any type that state is kept in. */
HRC_DEVICE float hrc_state_load(hr_dtype type, const void *p, int64_t i)
{
    switch (type.id) {
    case HR_BF16: return hr_bf16_decode(((const uint16_t *)p)[i]);
    case HR_F16: return hr_f16_decode(((const uint16_t *)p)[i]);
    case HR_E4M3: return hr_e4m3_decode(((const uint8_t *)p)[i]);
    case HR_E5M2: return hr_e5m2_decode(((const uint8_t *)p)[i]);
    default: return ((const float *)p)[i];
    }
}
/* Rounds v by the draw, stores it, and returns what was stored. */
HRC_DEVICE float hrc_state_store(hr_dtype type, void *p, int64_t i, float v, uint32_t draw)
{
    switch (type.id) {
    case HR_BF16: v = hr_round_sr(v, draw, HR_GRID_BF16); ((uint16_t *)p)[i] = hr_bf16_encode(v); return v;
    case HR_F16: v = hr_round_sr(v, draw, HR_GRID_F16); ((uint16_t *)p)[i] = hr_f16_encode(v); return v;
    case HR_E4M3: v = hr_round_sr(v, draw, HR_GRID_E4M3); ((uint8_t *)p)[i] = hr_e4m3_encode(v); return v;
    case HR_E5M2: v = hr_round_sr(v, draw, HR_GRID_E5M2); ((uint8_t *)p)[i] = hr_e5m2_encode(v); return v;
    default: v += 0.0f; ((float *)p)[i] = v; return v;
    }
}

/* Storage types of weights: `load` and `store` of a code, `round` to the grid. */
struct hrc_f32 {
    typedef float code;
    static HRC_DEVICE float load(code c) { return c; }
    static HRC_DEVICE code store(float v) { return v; }
    static HRC_DEVICE float round(float v, int, uint32_t) { return v + 0.0f; }
};
HRC_DEVICE float hrc_round_to(hr_grid grid, float v, int how, uint32_t draw)
{
    return how == HR_ROUND_STOCHASTIC ? hr_round_sr(v, draw, grid) : how == HR_ROUND_NEAREST ? hr_round_nearest(v, grid) : hr_round_elmo(v, draw, grid);
}
#define HRC_FLOAT_TYPE(type, bits, name, grid)                                                                                         \
    struct type {                                                                                                                      \
        typedef bits code;                                                                                                             \
        static HRC_DEVICE float load(code c) { return hr_##name##_decode(c); }                                                         \
        static HRC_DEVICE code store(float v) { return hr_##name##_encode(v); }                                                        \
        static HRC_DEVICE float round(float v, int how, uint32_t draw) { return hrc_round_to(grid, v, how, draw); }                    \
    }
HRC_FLOAT_TYPE(hrc_bf16, uint16_t, bf16, HR_GRID_BF16);
HRC_FLOAT_TYPE(hrc_f16, uint16_t, f16, HR_GRID_F16);
HRC_FLOAT_TYPE(hrc_e4m3, uint8_t, e4m3, HR_GRID_E4M3);
HRC_FLOAT_TYPE(hrc_e5m2, uint8_t, e5m2, HR_GRID_E5M2);

/* Two numbers as f16, within its range; NaN stays. */
HRC_DEVICE uint32_t hrc_f16x2_within(float lo, float hi)
{
    lo = lo > HRC_F16_MOST ? HRC_F16_MOST : lo < -HRC_F16_MOST ? -HRC_F16_MOST : lo;
    hi = hi > HRC_F16_MOST ? HRC_F16_MOST : hi < -HRC_F16_MOST ? -HRC_F16_MOST : hi;
    return hrc_f16x2(lo, hi);
}

/* The operands of the matrix products, eight at a time, aligned. */
struct hrc_as_f16 {
    typedef uint16_t element;
    static HRC_DEVICE void store8(element *p, const float v[8])
    {
        hrc_store16(p, hrc_vec16{{hrc_f16x2_within(v[0], v[1]), hrc_f16x2_within(v[2], v[3]), hrc_f16x2_within(v[4], v[5]), hrc_f16x2_within(v[6], v[7])}});
    }
    static HRC_DEVICE element one(float v) { return (element)hrc_f16x2_within(v, 0.0f); }
    static HRC_DEVICE float number(element e) { return hrc_f16_low(e); }
};
struct hrc_as_bf16 {
    typedef uint16_t element;
    static HRC_DEVICE void store8(element *p, const float v[8])
    {
        hrc_store16(p, hrc_vec16{{hrc_bf16x2(v[0], v[1]), hrc_bf16x2(v[2], v[3]), hrc_bf16x2(v[4], v[5]), hrc_bf16x2(v[6], v[7])}});
    }
    static HRC_DEVICE element one(float v) { return (element)hrc_bf16x2(v, 0.0f); }
    static HRC_DEVICE float number(element e) { return hr_bf16_decode(e); }
};
struct hrc_as_f32 {
    typedef float element;
    static HRC_DEVICE void store8(element *p, const float v[8])
    {
        HRC_UNROLL for (int i = 0; i < 8; i += 4)
            hrc_store16(p + i, hrc_vec16{{hr_f32_bits(v[i]), hr_f32_bits(v[i + 1]), hr_f32_bits(v[i + 2]), hr_f32_bits(v[i + 3])}});
    }
    static HRC_DEVICE element one(float v) { return v; }
    static HRC_DEVICE float number(element e) { return e; }
};

/* Where a thread works: eight elements of a row of `pitch`, a multiple of eight. */
struct hrc_eight {
    int64_t at, row, column;
};
HRC_DEVICE hrc_eight hrc_my_eight(int32_t pitch)
{
    const int64_t at = ((int64_t)hrc_block() * hrc_threads() + hrc_thread()) * HRC_COLUMNS;
    return hrc_eight{at, at / pitch, at % pitch};
}

/* ---- operands ---- */

/* x (rows, dim) to xo (padded, pitch); zeros beyond. */
template <class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_pack_x(const float *__restrict__ x, int32_t dim, int32_t padded, int32_t pitch,
                                      const hrc_batch_step *__restrict__ step, typename O::element *__restrict__ xo)
{
    const hrc_eight p = hrc_my_eight(pitch);
    float v[8];
    if (p.row >= padded)
        return;
    HRC_UNROLL for (int i = 0; i < 8; i++)
        v[i] = p.row < step->rows && p.column + i < dim ? x[p.row * dim + p.column + i] : 0.0f;
    O::store8(xo + p.at, v);
}

/* Rows of codes to wo (rows, pitch). Types whose codes are operands need none of this. */
template <class T, class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_widen(hrc_rows w, int32_t pitch, typename O::element *__restrict__ wo)
{
    const hrc_eight p = hrc_my_eight(pitch);
    float v[8];
    if (p.row >= w.rows)
        return;
    const typename T::code *c = (const typename T::code *)(w.codes + p.row * w.pitch) + p.column;
    HRC_UNROLL for (int i = 0; i < 8; i++)
        v[i] = p.column + i < w.dim ? T::load(c[i]) : 0.0f;
    O::store8(wo + p.at, v);
}

/* int8: the row's scale, a power of two, goes into the operand; exact in f16, too, from 2^-24 to 2^9. */
template <class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_widen_i8r(hrc_rows w, int32_t pitch, typename O::element *__restrict__ wo)
{
    const hrc_eight p = hrc_my_eight(pitch);
    float v[8];
    if (p.row >= w.rows)
        return;
    const int8_t *c = (const int8_t *)(w.codes + p.row * w.pitch) + p.column;
    const float scale = w.scales[p.row];
    HRC_UNROLL for (int i = 0; i < 8; i++)
        v[i] = p.column + i < w.dim ? scale * (float)c[i] : 0.0f;
    O::store8(wo + p.at, v);
}

/* ---- the gradient ---- */

/* Of a negative: sigmoid(z); of the hinge max(0, 1 + z)^2: 2 max(0, 1 + z). */
HRC_DEVICE float hrc_gradient_of(float z, bool hinge)
{
    const float m = 1.0f + z;
    return hinge ? 2.0f * (m > 0.0f ? m : 0.0f) : hr_sigmoid(z);
}
/* Of a positive: sigmoid(z) - 1 as -1 / (1 + e^z), which cancels nothing; of max(0, 1 - z)^2: -2 max(0, 1 - z). */
HRC_DEVICE float hrc_gradient_of_positive(float z, bool hinge)
{
    const float m = 1.0f - z;
    return hinge ? -2.0f * (m > 0.0f ? m : 0.0f) : -1.0f / (1.0f + hr_exp(z));
}
/* z (labels, padded) to go of the same shape as if all were negatives; zero beyond the batch. `bias` (labels): or NULL, then step->bias. */
template <class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_gradient(const float *__restrict__ z, const float *__restrict__ bias, int32_t labels, int32_t padded,
                                        const hrc_batch_step *__restrict__ batch, const hrc_step *__restrict__ step,
                                        typename O::element *__restrict__ go)
{
    const hrc_eight p = hrc_my_eight(padded);
    float v[8];
    if (p.row >= labels)
        return;
    const float offset = bias ? bias[p.row] : step->bias;
    const bool hinge = batch->hinge != 0;
    HRC_UNROLL for (int i = 0; i < 8; i++)
        v[i] = p.column + i < batch->rows ? batch->g_scale * hrc_gradient_of(fmaf(step->zscale, z[p.at + i], offset), hinge) : 0.0f;
    O::store8(go + p.at, v);
}

/* The positives of `labels` labels from axis row `axis` on, a thread each: axis row << 32 | batch row. */
template <class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_positives(const uint64_t *__restrict__ positives, const float *__restrict__ z, const float *__restrict__ bias,
                                         int64_t axis, int32_t labels, int32_t padded, const hrc_batch_step *__restrict__ batch,
                                         const hrc_step *__restrict__ step, typename O::element *__restrict__ go)
{
    const int64_t i = (int64_t)hrc_block() * hrc_threads() + hrc_thread();
    if (i >= batch->num_positives)
        return;
    const int64_t label = (int64_t)(positives[i] >> 32) - axis, b = (int64_t)(uint32_t)positives[i];
    if (label < 0 || label >= labels)
        return;
    const float logit = fmaf(step->zscale, z[label * padded + b], bias ? bias[label] : step->bias);
    go[label * padded + b] = O::one(batch->g_scale * hrc_gradient_of_positive(logit, batch->hinge != 0));
}

/* ---- the loss, where it is asked for ---- */

/* log(1 + e^z) and max(0, 1 + z)^2, of negatives. */
HRC_DEVICE double hrc_loss_of(double z, bool hinge)
{
    const double m = 1.0 + z;
    return hinge ? (m > 0 ? m * m : 0.0) : (z > 0 ? z : 0.0) + log1p(exp(z > 0 ? -z : z));
}
/* Adds to sum (labels) the loss of each label over the batch, as if all were negatives, a thread each. */
HRC_KERNEL(HRC_THREADS, 1) hrc_loss(const float *__restrict__ z, const float *__restrict__ bias, int32_t labels, int32_t padded,
                                    const hrc_batch_step *__restrict__ batch, const hrc_step *__restrict__ step, double *__restrict__ sum)
{
    const int64_t label = (int64_t)hrc_block() * hrc_threads() + hrc_thread();
    if (label >= labels)
        return;
    double own = 0;
    for (int b = 0; b < batch->rows; b++)
        own += hrc_loss_of((double)step->zscale * (double)z[label * padded + b] + (double)(bias ? bias[label] : step->bias), batch->hinge != 0);
    sum[label] += own;
}
/* Adds to sum (positives) what each one's loss differs by from that of a negative. */
HRC_KERNEL(HRC_THREADS, 1) hrc_loss_of_positives(const uint64_t *__restrict__ positives, const float *__restrict__ z, const float *__restrict__ bias,
                                                 int64_t axis, int32_t labels, int32_t padded, const hrc_batch_step *__restrict__ batch,
                                                 const hrc_step *__restrict__ step, double *__restrict__ sum)
{
    const int64_t i = (int64_t)hrc_block() * hrc_threads() + hrc_thread();
    if (i >= batch->num_positives)
        return;
    const int64_t label = (int64_t)(positives[i] >> 32) - axis, b = (int64_t)(uint32_t)positives[i];
    if (label < 0 || label >= labels)
        return;
    const double v = (double)step->zscale * (double)z[label * padded + b] + (double)(bias ? bias[label] : step->bias);
    sum[i] += batch->hinge != 0 ? (v < 1 ? (1 - v) * (1 - v) : 0.0) - hrc_loss_of(v, true) : -v;
}

/* ---- biases of labels ---- */

/* bias (labels) by the sums of their gradients over the batch, in its order, a thread each; `moments`: Adam's, `labels_of_head` apart, or NULL. */
template <class O>
HRC_KERNEL(HRC_THREADS, 1) hrc_update_bias(const typename O::element *__restrict__ go, int32_t labels, int32_t padded,
                                           const hrc_batch_step *__restrict__ batch, const hrc_step *__restrict__ step, float *__restrict__ bias,
                                           float *__restrict__ moments, int64_t labels_of_head)
{
    const int64_t label = (int64_t)hrc_block() * hrc_threads() + hrc_thread();
    if (label >= labels)
        return;
    float sum = 0;
    for (int b = 0; b < batch->rows; b++)
        sum += O::number(go[label * padded + b]);
    sum *= step->dw_scale;
    if (moments) {
        float *m = &moments[label], *v = &moments[labels_of_head + label];
        *m = hr_adam_first(step->adam, *m, sum);
        *v = hr_adam_second(step->adam, *v, sum);
        sum = hr_adam_direction(step->adam, *m, *v);
    }
    bias[label] = fmaf(-step->bias_step, sum, bias[label]);
}

/* ---- the update ---- */

HRC_DEVICE uint32_t hrc_draw(const uint32_t word[4], int i)
{
    return word[i / 2] >> (i % 2 * 16) & 0xffffu;
}

/* dw to the direction of the update, in place: momentum or Adam, whose moments are rounded into their store. */
HRC_KERNEL(HRC_THREADS, 1) hrc_direction(hrc_rows w, int32_t pitch, const hrc_step *__restrict__ step, float *__restrict__ dw)
{
    const hrc_eight p = hrc_my_eight(pitch);
    uint32_t first[4], second[4];
    if (p.row >= w.rows)
        return;
    hr_rng_block(step->first_draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), first);
    hr_rng_block(step->second_draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), second);
    HRC_UNROLL for (int i = 0; i < 8; i++) {
        const int64_t at = p.row * w.dim + p.column + i;
        if (p.column + i >= w.dim)
            break;
        const float g = dw[p.at + i] * step->dw_scale, m = hrc_state_load(w.state, w.first, at);
        if (w.second) {
            const float v = hr_adam_second(step->adam, hrc_state_load(w.state, w.second, at), g);
            const float m2 = hrc_state_store(w.state, w.first, at, hr_adam_first(step->adam, m, g), hrc_draw(first, i));
            dw[p.at + i] = hr_adam_direction(step->adam, m2, hrc_state_store(w.state, w.second, at, v, hrc_draw(second, i)));
        } else {
            dw[p.at + i] = hrc_state_store(w.state, w.first, at, fmaf(step->momentum, m, g), hrc_draw(first, i));
        }
    }
}

/* Rows of codes by dw (pitch floats from one row to the next), times `scale`: the step's dw_scale, or 1 where it is a direction already. Codes are
 * written only where one of a thread's eight changed. */
template <class T>
HRC_KERNEL(HRC_THREADS, 1) hrc_update(hrc_rows w, int32_t pitch, bool is_direction, const float *__restrict__ dw, const hrc_step *__restrict__ step)
{
    const hrc_eight p = hrc_my_eight(pitch);
    typename T::code next[8];
    uint32_t word[4];
    bool changed = false;
    if (p.row >= w.rows)
        return;
    typename T::code *c = (typename T::code *)(w.codes + p.row * w.pitch) + p.column;
    const float scale = is_direction ? 1.0f : step->dw_scale;
    hr_rng_block(step->draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), word);
    HRC_UNROLL for (int i = 0; i < 8; i++)
        if (p.column + i < w.dim) {
            const float v = fmaf(-step->step, dw[p.at + i] * scale, step->keep * T::load(c[i]));
            next[i] = T::store(T::round(v, step->rounding, hrc_draw(word, i)));
            changed = changed || next[i] != c[i];
        }
    HRC_UNROLL for (int i = 0; i < 8; i++)
        if (changed && p.column + i < w.dim)
            c[i] = next[i];
}

/* The same with Kahan compensation: v = keep (c + comp) - u, c' = nearest(v), comp = v - c'. */
template <class T>
HRC_KERNEL(HRC_THREADS, 1) hrc_update_kahan(hrc_rows w, int32_t pitch, bool is_direction, const float *__restrict__ dw,
                                            const hrc_step *__restrict__ step)
{
    const hrc_eight p = hrc_my_eight(pitch);
    if (p.row >= w.rows)
        return;
    typename T::code *c = (typename T::code *)(w.codes + p.row * w.pitch) + p.column;
    const float scale = is_direction ? 1.0f : step->dw_scale;
    for (int i = 0; i < 8 && p.column + i < w.dim; i++) {
        uint16_t *comp = &w.comp[p.row * w.dim + p.column + i];
        const float v = fmaf(-step->step, dw[p.at + i] * scale, step->keep * (T::load(c[i]) + hr_bf16_decode(*comp)));
        const float next = T::round(v, HR_ROUND_NEAREST, 0);
        c[i] = T::store(next);
        *comp = hr_bf16_encode(hr_round_nearest(v - next, HR_GRID_BF16));
    }
}

/* Rows of int8 with a scale, a warp each: the largest |v| decides the new scale. */
HRC_KERNEL(HRC_THREADS, 1) hrc_update_i8r(hrc_rows w, int32_t pitch, bool is_direction, const float *__restrict__ dw, const hrc_step *__restrict__ step)
{
    const int64_t row = ((int64_t)hrc_block() * hrc_threads() + hrc_thread()) / 32;
    if (row >= w.rows)
        return;
    int8_t *c = (int8_t *)(w.codes + row * w.pitch);
    const float scale = is_direction ? 1.0f : step->dw_scale, old = w.scales[row];
    uint32_t most = 0; /* bits of |v| order as integers */
    for (int d = hrc_lane(); d < w.dim; d += 32) {
        const uint32_t u = hr_f32_bits(fmaf(-step->step, dw[row * pitch + d] * scale, step->keep * ((float)c[d] * old))) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    for (int far = 16; far > 0; far /= 2) {
        const uint32_t other = hrc_shuffle_xor(most, far);
        most = other > most ? other : most;
    }
    const float fresh = hr_i8r_fresh_scale(old, hr_bits_f32(most), step->step), inverse = 1.0f / fresh;
    const hr_rng rng = fresh == old ? step->draws : step->rescale_draws;
    for (int d = hrc_lane(); d < w.dim; d += 32) {
        const float v = fmaf(-step->step, dw[row * pitch + d] * scale, step->keep * ((float)c[d] * old));
        c[d] = step->rounding == HR_ROUND_NEAREST ? hr_i8r_round_nearest(v, inverse)
                                                  : hr_i8r_round_sr(v, inverse, hr_rng_draw16(rng, (uint32_t)(w.label + row), (uint32_t)d));
    }
    hrc_sync_warp();
    if (hrc_lane() == 0)
        w.scales[row] = fresh;
}

/* ---- weights that are not of a step ---- */

/* Rows begin uniform in +-unit, code units, on the multiples of unit 2^-15 and the grid of their type; i8r rows at `scale`. */
template <class T>
HRC_KERNEL(HRC_THREADS, 1) hrc_init(hrc_rows w, int32_t pitch, float unit, hr_rng draws)
{
    const hrc_eight p = hrc_my_eight(pitch);
    uint32_t word[4];
    if (p.row >= w.rows)
        return;
    typename T::code *c = (typename T::code *)(w.codes + p.row * w.pitch) + p.column;
    hr_rng_block(draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), word);
    for (int i = 0; i < 8 && p.column + i < w.dim; i++)
        c[i] = T::store(T::round(((float)hrc_draw(word, i) - 32767.5f) * 0x1p-15f * unit, HR_ROUND_NEAREST, 0));
}
HRC_KERNEL(HRC_THREADS, 1) hrc_init_i8r(hrc_rows w, int32_t pitch, float unit, float scale, hr_rng draws)
{
    const hrc_eight p = hrc_my_eight(pitch);
    uint32_t word[4];
    if (p.row >= w.rows)
        return;
    int8_t *c = (int8_t *)(w.codes + p.row * w.pitch) + p.column;
    hr_rng_block(draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), word);
    for (int i = 0; i < 8 && p.column + i < w.dim; i++)
        c[i] = hr_i8r_round_nearest(((float)hrc_draw(word, i) - 32767.5f) * 0x1p-15f * unit, 1.0f / scale);
    if (p.column == 0)
        w.scales[p.row] = scale;
}

/* Codes are halved, when the factor of decay has fallen below 1/2. */
template <class T>
HRC_KERNEL(HRC_THREADS, 1) hrc_halve(hrc_rows w, int32_t pitch, int32_t rounding, hr_rng draws)
{
    const hrc_eight p = hrc_my_eight(pitch);
    uint32_t word[4];
    if (p.row >= w.rows)
        return;
    typename T::code *c = (typename T::code *)(w.codes + p.row * w.pitch) + p.column;
    hr_rng_block(draws, (uint32_t)(w.label + p.row), (uint32_t)(p.column / 8), word);
    const int how = rounding == HR_ROUND_NEAREST ? HR_ROUND_NEAREST : HR_ROUND_STOCHASTIC;
    for (int i = 0; i < 8 && p.column + i < w.dim; i++) {
        c[i] = T::store(T::round(0.5f * T::load(c[i]), how, hrc_draw(word, i)));
        if (w.comp) {
            uint16_t *comp = &w.comp[p.row * w.dim + p.column + i];
            *comp = hr_bf16_encode(hr_round_nearest(0.5f * hr_bf16_decode(*comp), HR_GRID_BF16));
        }
    }
}
HRC_KERNEL(HRC_THREADS, 1) hrc_halve_i8r(hrc_rows w)
{
    const int64_t row = (int64_t)hrc_block() * hrc_threads() + hrc_thread();
    if (row < w.rows)
        w.scales[row] *= 0.5f;
}

/* ---- the best labels ---- */

enum { HRC_STRIPE = 256 }; /* labels of which the largest score is taken */

/* From z (labels, padded) the largest score of each stripe of labels: most (stripes, padded). A thread has an instance and a stripe; NaN counts as
 * -inf, and is counted in `nan` (padded). */
HRC_KERNEL(HRC_THREADS, 1) hrc_stripes(const float *__restrict__ z, const float *__restrict__ bias, int32_t labels, int32_t padded,
                                       const hrc_step *__restrict__ step, float *__restrict__ most, int32_t *__restrict__ nan)
{
    const int64_t i = (int64_t)hrc_block() * hrc_threads() + hrc_thread(), stripe = i / padded, b = i % padded;
    if (stripe * HRC_STRIPE >= labels)
        return;
    const int64_t end = labels - stripe * HRC_STRIPE < HRC_STRIPE ? labels : (stripe + 1) * HRC_STRIPE;
    float best = -INFINITY;
    int32_t bad = 0;
    for (int64_t l = stripe * HRC_STRIPE; l < end; l++) {
        const float score = fmaf(step->zscale, z[l * padded + b], bias ? bias[l] : step->bias);
        best = score > best ? score : best;
        bad += !(score == score);
    }
    most[i] = best;
    if (bad > 0)
        hrc_atomic_add(&nan[b], bad);
}

/* limit (padded): what a score must reach to be among the best k; raised to the k-th largest of the stripes' maxima, since k labels have that. A thread
 * has one of `stripes` and an instance: the one that finds itself in k-th place writes. */
HRC_KERNEL(HRC_THREADS, 1) hrc_limits(const float *__restrict__ most, int32_t stripes, int32_t padded, int32_t k, float *__restrict__ limit)
{
    const int64_t i = (int64_t)hrc_block() * hrc_threads() + hrc_thread(), stripe = i / padded, b = i % padded;
    if (stripe >= stripes)
        return;
    int before = 0;
    for (int s = 0; s < stripes; s++) {
        const float other = most[(int64_t)s * padded + b];
        before += other > most[i] || (other == most[i] && s < stripe);
    }
    if (before == k - 1 && most[i] > limit[b])
        limit[b] = most[i];
}

/* The labels [first, end) of the chunk whose score reaches an instance's limit, in any order: their number, and the first `room` of them, as score
 * and label of the chunk. */
typedef struct hrc_candidate {
    float score;
    uint32_t label;
} hrc_candidate;
HRC_KERNEL(HRC_THREADS, 1) hrc_collect(const float *__restrict__ z, const float *__restrict__ bias, int32_t first, int32_t end, int32_t padded,
                                       const hrc_step *__restrict__ step, const float *__restrict__ limit, int32_t room,
                                       int32_t *__restrict__ count, hrc_candidate *__restrict__ out)
{
    const int64_t i = (int64_t)hrc_block() * hrc_threads() + hrc_thread(), label = first + i / padded, b = i % padded;
    if (label >= end)
        return;
    const float score = fmaf(step->zscale, z[label * padded + b], bias ? bias[label] : step->bias);
    if (!(score >= limit[b]))
        return;
    const int32_t place = hrc_atomic_add(&count[b], (int32_t)1);
    if (place < room)
        out[b * room + place] = hrc_candidate{score, (uint32_t)label};
}

#endif
