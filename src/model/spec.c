/* From the configuration to the options of encoder and head. */
#include "model/model.h"

#include <stdio.h>

/* Random number tensors below 128 belong to heads. */
enum { FIRST_HEAD_TENSOR = 0 };

static hr_encoder_options encoder_options(const hr_config *c, const hr_dataset *ds, int64_t max_row)
{
    return (hr_encoder_options){
        .type = (hr_encoder_type)hr_config_choice(c, "encoder.type"),
        .features = ds->features,
        .dim = hr_config_int(c, "encoder.dim"),
        .max_batch = hr_config_int(c, "train.batch"),
        .max_row = max_row,
        .accumulate = hr_config_int(c, "train.accumulate"),
        .training = true,
        .residual = hr_config_bool(c, "encoder.residual"),
        .norm = (float)hr_config_number(c, "encoder.norm"),
        .dropout = (float)hr_config_number(c, "encoder.dropout"),
        .feature_dropout = (float)hr_config_number(c, "encoder.feature_dropout"),
        .init = (float)hr_config_number(c, "encoder.init"),
        .optimizer = (hr_encoder_optimizer)hr_config_choice(c, "encoder.optimizer"),
        .beta1 = (float)hr_config_number(c, "encoder.beta1"),
        .beta2 = (float)hr_config_number(c, "encoder.beta2"),
        .eps = (float)hr_config_number(c, "encoder.eps"),
        .weight_decay = (float)hr_config_number(c, "encoder.weight_decay"),
        .seed = (uint64_t)hr_config_int(c, "seed"),
    };
}

static hr_status head_dtype(const hr_config *c, const char *key, hr_dtype *out)
{
    if (hr_dtype_parse(hr_config_text(c, key), out))
        return HR_OK;
    return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG,
                   "%s: unknown storage type '%s', expected f32, bf16, f16, e4m3, e5m2, i8r, or eXmY with X >= 2, Y >= 1, "
                   "X + Y <= 7", key, hr_config_text(c, key));
}

static hr_status segments(const hr_config *c, hr_head_options *o)
{
    hr_segment_options seg = {
        .rows = o->labels,
        .rounding = (hr_rounding)hr_config_choice(c, "head.rounding"),
        .momentum = (float)hr_config_number(c, "head.momentum"),
        .lr_scale = 1.0f,
    };
    HR_TRY(head_dtype(c, "head.dtype", &seg.dtype));
    HR_TRY(head_dtype(c, "head.momentum_dtype", &seg.momentum_dtype));
    const int64_t scale = hr_config_int(c, "head.scale_log2");
    seg.scale_log2 = scale >= 0 ? (int)scale : seg.dtype.bytes == 1 && seg.dtype.id != HR_I8R ? 6 : 0;
    int64_t top = hr_config_int(c, "head.kahan_top");
    top = top > o->labels ? o->labels : top;
    o->num_segments = 0;
    if (top > 0) {
        seg.kahan = true;
        seg.rows = top;
        o->segment[o->num_segments++] = seg;
    }
    if (top < o->labels) {
        seg.kahan = false;
        seg.rows = o->labels - top;
        o->segment[o->num_segments++] = seg;
    }
    return HR_OK;
}

/* auto: few labels make dense gradients, for which the dense step is the faster one (docs/results.md). */
static hr_gradient choose_gradient(const hr_config *c, const hr_head_options *h)
{
    enum { SPARSE_FROM = 8192 };
    const int choice = hr_config_choice(c, "head.gradient");
    if (choice == 0)
        return h->labels >= SPARSE_FROM && !hr_head_not_sparse(h) ? HR_GRADIENT_SPARSE : HR_GRADIENT_DENSE;
    return choice == 1 ? HR_GRADIENT_DENSE : HR_GRADIENT_SPARSE;
}

hr_status hr_model_spec_make(const hr_config *c, const hr_dataset *ds, int64_t max_row, double mean_positives,
                             hr_model_spec *out)
{
    hr_ctx *ctx = hr_config_ctx(c);
    *out = (hr_model_spec){.encoder = encoder_options(c, ds, max_row)};
    const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
    if (dense != (out->encoder.type == HR_ENCODER_DENSE))
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder.type=%s, but the data set has %s features; set encoder.type=%s",
                       dense ? "bow" : "dense", dense ? "dense" : "sparse", dense ? "dense" : "bow");
    const double mean = mean_positives > 0 ? mean_positives : 1.0;
    hr_head_options *h = &out->head;
    *h = (hr_head_options){
        .labels = ds->labels,
        .dim = out->encoder.dim,
        .max_batch = out->encoder.max_batch,
        .training = true,
        .loss = (hr_loss)hr_config_choice(c, "loss.type"),
        .reduction = (hr_reduction)hr_config_choice(c, "loss.reduction"),
        .bias = (hr_bias)hr_config_choice(c, "head.bias"),
        .bias_value = (float)log(mean / (double)ds->labels),
        .init = (float)(hr_config_number(c, "head.init") / sqrt((double)out->encoder.dim)),
        .weight_decay = (float)hr_config_number(c, "head.weight_decay"),
        .eager_decay = hr_config_choice(c, "head.decay") == 1,
        .arith = (hr_arith)hr_config_choice(c, "head.arith"),
        .tau = (float)hr_config_number(c, "head.tau"),
        .lr_peak = (float)hr_config_number(c, "head.lr"),
        .chunk = hr_config_int(c, "head.chunk"),
        .seed = out->encoder.seed,
        .first_tensor = FIRST_HEAD_TENSOR,
    };
    if (h->loss == HR_LOSS_SQUARED_HINGE && h->bias != HR_BIAS_NONE)
        h->bias_value = -1.0f; /* a negative's hinge is zero from there down */
    HR_TRY(segments(c, h));
    h->gradient = choose_gradient(c, h);
    HR_TRY(hr_encoder_check(ctx, &out->encoder));
    return hr_head_check(ctx, h);
}

void hr_model_memory(const hr_model_spec *spec, int threads, size_t bytes[HR_MEM_KINDS])
{
    hr_encoder_memory(&spec->encoder, threads, bytes);
    hr_head_memory(&spec->head, threads, bytes);
    bytes[HR_MEM_OTHER] = hr_add(bytes[HR_MEM_OTHER], sizeof(hr_model));
    bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], hr_mul((size_t)spec->head.labels, sizeof(uint32_t)));
    bytes[HR_MEM_BATCH] = hr_add(bytes[HR_MEM_BATCH],
                                 hr_mul((size_t)spec->head.max_batch, (size_t)spec->head.dim * sizeof(float)));
}
