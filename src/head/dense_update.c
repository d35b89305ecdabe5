/* The update of one dense row: plain SGD through the kernels; i8r with its row scale; Kahan and momentum rows plainly.
 *
 * In code units, v = fma(-(lr * 2^s / alpha), dw, c), then rounding (docs/numerics.md section 3). */
#include "head/segment.h"

/* Momentum: m <- mu * m + dw, rounded stochastically into its store; the update then uses the stored m. */
static void apply_momentum(hr_segment *seg, const hr_tile_step *s, int64_t row, float *dw)
{
    uint8_t *m = (uint8_t *)seg->momentum + (size_t)row * (size_t)seg->dim * seg->o.momentum_dtype.bytes;
    for (int64_t d = 0; d < seg->dim; d++) {
        const float v = fmaf(seg->o.momentum, hr_dtype_load(seg->o.momentum_dtype, m, d, 1.0f), dw[d]);
        const uint16_t draw = hr_rng_draw16(s->momentum_rng, (uint32_t)(seg->first_row + row), (uint32_t)d);
        dw[d] = hr_dtype_round(seg->o.momentum_dtype, HR_ROUND_STOCHASTIC, v, draw);
        hr_dtype_store(seg->o.momentum_dtype, m, d, dw[d], 1.0f);
    }
}

/* Kahan: v = (c + comp) - u, c' = nearest(v), comp = v - c' kept in bf16 (Kahan 1965; ELMO section 4). */
static void update_kahan(hr_segment *seg, int64_t row, const float *dw, hrk_sgd_args args)
{
    uint8_t *codes = hr_segment_row(seg, row);
    uint16_t *comp = seg->comp + row * seg->dim;
    const float scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    for (int64_t d = 0; d < seg->dim; d++) {
        const float c = hr_dtype_load(seg->o.dtype, codes, d, scale) + hr_bf16_decode(comp[d]);
        const float v = fmaf(-args.step, dw[d], args.keep * c);
        const float next = hr_dtype_round(seg->o.dtype, HR_ROUND_NEAREST, v, 0);
        hr_dtype_store(seg->o.dtype, codes, d, next, scale);
        comp[d] = hr_bf16_encode(hr_round_nearest(v - next, HR_GRID_BF16));
    }
}

/* It grows by a power of two when the largest new weight would not fit, and shrinks, exactly, when four times finer would still
 * fit. Step 0 leaves everything as it is. */
float hr_dense_fresh_scale(float scale, float most, hrk_sgd_args args)
{
    while (most > 127.0f * scale)
        scale *= 2.0f;
    while (args.step != 0 && most < 31.0f * scale && most > 0 && scale > 0x1p-40f)
        scale *= 0.5f;
    return scale;
}

/* A rescaled row is rounded by stream 9. */
static void update_i8r(hr_segment *seg, const hr_tile_step *s, int64_t row, const float *dw, hrk_sgd_args args,
                       hr_tile_scratch *scratch)
{
    int8_t *codes = (int8_t *)hr_segment_row(seg, row);
    float *scale = hr_segment_scale(seg, row);
    const float fresh = hr_dense_fresh_scale(*scale, s->k->absmax_i8r(seg->dim, codes, *scale, dw, args), args);
    const hr_rng rng = fresh == *scale ? s->rng : s->rescale_rng;
    if (args.rounding != HR_ROUND_NEAREST)
        s->k->draws(rng, (uint32_t)(seg->first_row + row), seg->dim, scratch->draws);
    s->k->sgd_i8r(seg->dim, codes, *scale, fresh, dw, scratch->draws, args);
    *scale = fresh;
}

hrk_sgd_args hr_dense_sgd_args(const hr_segment *seg, const hr_tile_step *s)
{
    const float lr = s->lr * seg->o.lr_scale;
    return (hrk_sgd_args){.step = ldexpf(lr, seg->o.scale_log2) / s->new_alpha,
                          .keep = s->eager ? 1.0f - lr * s->weight_decay : 1.0f,
                          .rounding = seg->o.rounding,
                          .dtype = seg->o.dtype};
}

void hr_dense_update_row(hr_segment *seg, const hr_tile_step *s, int64_t row, const float *panels, int64_t rows,
                         hr_tile_scratch *scratch)
{
    float *dw = scratch->row;
    for (int64_t d = 0; d < seg->dim; d += HRK_DP, panels += rows * HRK_DP)
        memcpy(dw + d, panels, HRK_DP * sizeof(float));
    const hrk_sgd_args args = hr_dense_sgd_args(seg, s);
    if (seg->momentum)
        apply_momentum(seg, s, row, dw);
    if (seg->comp) {
        update_kahan(seg, row, dw, args);
    } else if (seg->o.dtype.id == HR_I8R) {
        update_i8r(seg, s, row, dw, args, scratch);
    } else {
        if (args.rounding != HR_ROUND_NEAREST && seg->o.dtype.id != HR_F32)
            s->k->draws(s->rng, (uint32_t)(seg->first_row + row), seg->dim, scratch->draws);
        s->k->sgd(seg->dim, hr_segment_row(seg, row), dw, scratch->draws, args);
    }
}

void hr_dense_halve(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows)
{
    for (int64_t r = row; r < row + rows; r++) {
        uint8_t *codes = hr_segment_row(seg, r);
        if (seg->o.dtype.id == HR_I8R)
            *hr_segment_scale(seg, r) *= 0.5f; /* exact */
        for (int64_t d = 0; d < seg->dim; d++) {
            if (seg->o.dtype.id != HR_I8R) {
                const uint16_t draw = hr_rng_draw16(rng, (uint32_t)(seg->first_row + r), (uint32_t)d);
                const float half = 0.5f * hr_dtype_load(seg->o.dtype, codes, d, 1.0f);
                const hr_rounding how = seg->o.rounding == HR_ROUND_NEAREST ? HR_ROUND_NEAREST : HR_ROUND_STOCHASTIC;
                hr_dtype_store(seg->o.dtype, codes, d, hr_dtype_round(seg->o.dtype, how, half, draw), 1.0f);
            }
            if (seg->comp) {
                uint16_t *c = seg->comp + r * seg->dim + d;
                *c = hr_bf16_encode(hr_round_nearest(0.5f * hr_bf16_decode(*c), HR_GRID_BF16));
            }
        }
    }
}
