/* From the configuration to the options of encoder and head. */
#include "model/model.h"

#include "base/number.h"

#include <stdio.h>

/* Random number tensors below 128 belong to heads. */
enum { FIRST_HEAD_TENSOR = 0, FIRST_AUX_TENSOR = 16, FIRST_LAYER_TENSOR = 32 };

static hr_encoder_options encoder_options(const hr_config *c, const hr_dataset *ds, int64_t max_row)
{
    return (hr_encoder_options){
        .type = (hr_encoder_type)hr_config_choice(c, "encoder.type"),
        .features = ds->features,
        .dim = hr_config_choice(c, "encoder.type") == HR_ENCODER_IDENTITY ? ds->features : hr_config_int(c, "encoder.dim"),
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

/* "FIRST:END" to a slice of the width; empty: all of it. */
static hr_status slice(const hr_config *c, const char *key, hr_segment_options *seg)
{
    const char *text = hr_config_text(c, key), *colon = strchr(text, ':');
    int64_t first, end;
    if (!*text)
        return HR_OK;
    if (!colon || !hr_parse_int(text, (size_t)(colon - text), &first) || !hr_parse_int(colon + 1, strlen(colon + 1), &end) || first < 0 ||
        end <= first)
        return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "%s: found '%s', expected two columns such as 0:384", key, text);
    seg->first_column = first;
    seg->columns = end - first;
    return HR_OK;
}

/* 6 for 8-bit floats, 0 for the others. */
static int default_scale(hr_dtype dtype)
{
    return dtype.bytes == 1 && dtype.id != HR_I8R ? 6 : 0;
}

/* The features of a text are small numbers, and their weights large ones: beyond the 7 that e4m3 holds with 6. */
static int scale_of(const hr_config *c, const hr_head_options *o, hr_dtype dtype)
{
    const int64_t scale = hr_config_int(c, "head.scale_log2");
    return scale >= 0 ? (int)scale : o->sparse_x ? default_scale(dtype) / 2 : default_scale(dtype);
}

/* The most frequent labels come first: those with dense rows, those with Kahan compensation. Where rows are shared, a segment begins at a
 * multiple of 64, so that groups do. */
static hr_status segments(const hr_config *c, hr_head_options *o)
{
    const hr_family_id family = (hr_family_id)hr_config_choice(c, "head.family");
    const bool fan_in = family == HR_FAMILY_FAN_IN;
    if (!fan_in && hr_config_int(c, "head.group") > 1)
        return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "head.group=%lld: only the labels of a fan_in head share inputs; set "
                       "head.family=fan_in or head.group=1", (long long)hr_config_int(c, "head.group"));
    hr_segment_options rest = {
        .family = family,
        .fan_in = fan_in ? hr_config_int(c, "head.fan_in") : 0,
        .group = fan_in ? hr_config_int(c, "head.group") : 1,
        .rounding = (hr_rounding)hr_config_choice(c, "head.rounding"),
        .optimizer = (hr_head_optimizer)hr_config_choice(c, "head.optimizer"),
        .momentum = (float)hr_config_number(c, "head.momentum"),
        .beta1 = (float)hr_config_number(c, "head.beta1"),
        .beta2 = (float)hr_config_number(c, "head.beta2"),
        .eps = (float)hr_config_number(c, "head.eps"),
        .lr_scale = 1.0f,
    };
    HR_TRY(head_dtype(c, "head.dtype", &rest.dtype));
    HR_TRY(head_dtype(c, "head.state_dtype", &rest.state_dtype));
    HR_TRY(slice(c, "head.slice", &rest));
    rest.scale_log2 = scale_of(c, o, rest.dtype);
    hr_segment_options dense = rest;
    dense.family = HR_FAMILY_DENSE;
    dense.fan_in = dense.first_column = dense.columns = 0;
    dense.group = 1;
    dense.lr_scale = (float)hr_config_number(c, "head.dense_lr_scale");
    if (*hr_config_text(c, "head.dense_dtype"))
        HR_TRY(head_dtype(c, "head.dense_dtype", &dense.dtype));
    HR_TRY(slice(c, "head.dense_slice", &dense));
    dense.scale_log2 = scale_of(c, o, dense.dtype);

    const int64_t unit = rest.group > 1 ? 64 : 1;
    const int64_t wanted[] = {(int64_t)ceil(hr_config_number(c, "head.dense_ratio") * (double)o->labels), hr_config_int(c, "head.kahan_top")};
    int64_t top[2];
    for (int i = 0; i < 2; i++) {
        top[i] = (wanted[i] + unit - 1) / unit * unit;
        top[i] = top[i] < o->labels ? top[i] : o->labels;
    }
    o->num_segments = 0;
    for (int64_t at = 0, end; at < o->labels; at = end) {
        end = o->labels;
        for (int i = 0; i < 2; i++)
            end = top[i] > at && top[i] < end ? top[i] : end;
        hr_segment_options seg = at < top[0] ? dense : rest;
        seg.kahan = at < top[1];
        seg.rows = end - at;
        int64_t inputs = hr_config_int(c, "head.fan_in");
        if (seg.family == HR_FAMILY_UNSTRUCTURED)
            seg.connections = seg.rows * inputs;
        if (seg.family == HR_FAMILY_DENSE)
            inputs = seg.columns > 0 ? seg.columns : o->dim;
        seg.init = (float)(hr_config_number(c, "head.init") / sqrt((double)inputs));
        o->segment[o->num_segments++] = seg;
    }
    return HR_OK;
}

static hr_status rewiring(const hr_config *c, hr_head_options *o)
{
    o->rewire = hr_config_choice(c, "head.rewire") != 0;
    const hr_family_id family = o->segment[o->num_segments - 1].family;
    if (o->rewire && family == HR_FAMILY_DENSE)
        return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "head.rewire=%s moves the connections of sparse rows, and there are none; set "
                       "head.family=fan_in and head.dense_ratio below 1, or head.rewire=none", hr_config_text(c, "head.rewire"));
    if (o->rewire && family == HR_FAMILY_UNSTRUCTURED && hr_config_choice(c, "head.rewire") == 2)
        return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "head.rewire=gradient is not defined with head.family=unstructured; set "
                       "head.rewire=random");
    if (o->rewire && hr_config_choice(c, "head.prune") == HR_PRUNE_THRESHOLD && hr_config_number(c, "head.prune_below") <= 0)
        return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "head.prune=threshold: head.prune_below is %g, expected the size below which a weight "
                       "goes, for instance 0.05", hr_config_number(c, "head.prune_below"));
    return HR_OK;
}

/* auto: few labels make dense gradients, for which the dense step is the faster one (docs/results.md); a device has no other. */
static hr_gradient choose_gradient(const hr_config *c, const hr_head_options *h)
{
    enum { SPARSE_FROM = 8192 };
    const int choice = hr_config_choice(c, "head.gradient");
    if (choice == 0)
        return h->labels >= SPARSE_FROM && !h->device && !hr_head_not_sparse(h) ? HR_GRADIENT_SPARSE : HR_GRADIENT_DENSE;
    return choice == 1 ? HR_GRADIENT_DENSE : HR_GRADIENT_SPARSE;
}

/* A hidden layer is a head without a loss: its units stand where labels would. */
static hr_status layer_options(const hr_config *c, const hr_encoder_options *encoder, hr_head_options *o)
{
    const int64_t width = hr_config_int(c, "layer.width"), fan_in = hr_config_int(c, "layer.fan_in");
    *o = (hr_head_options){.labels = width};
    if (width == 0)
        return HR_OK;
    *o = (hr_head_options){
        .name = "layer",
        .labels = width,
        .dim = encoder->dim,
        .max_batch = encoder->max_batch,
        .training = true,
        .num_segments = 1,
        .loss = HR_LOSS_GIVEN,
        .relu = hr_config_choice(c, "layer.activation") == 0,
        .bias = HR_BIAS_PER_LABEL,
        .weight_decay = (float)hr_config_number(c, "layer.weight_decay"),
        .seed = encoder->seed,
        .first_tensor = FIRST_LAYER_TENSOR,
    };
    const double read = fan_in > 0 ? (double)encoder->dim / (double)fan_in : 1; /* |x|^2 over what a unit reads of it */
    o->segment[0] = (hr_segment_options){
        .rows = width,
        .family = fan_in > 0 ? HR_FAMILY_FAN_IN : HR_FAMILY_DENSE,
        .fan_in = fan_in,
        .optimizer = hr_config_choice(c, "layer.optimizer") == 0 ? HR_HEAD_ADAM : HR_HEAD_SGD,
        .beta1 = (float)hr_config_number(c, "head.beta1"),
        .beta2 = (float)hr_config_number(c, "head.beta2"),
        .eps = (float)hr_config_number(c, "head.eps"),
        .lr_scale = 1,
        .init = (float)(hr_config_number(c, "layer.init") * sqrt((o->relu ? 6.0 : 3.0) / (double)width * read)),
    };
    HR_TRY(head_dtype(c, "layer.dtype", &o->segment[0].dtype));
    HR_TRY(head_dtype(c, "layer.state_dtype", &o->segment[0].state_dtype));
    o->segment[0].scale_log2 = default_scale(o->segment[0].dtype);
    return HR_OK;
}

hr_status hr_model_aux_options(const hr_config *c, const hr_model_spec *spec, int64_t groups, double mean_positives,
                               hr_head_options *o)
{
    const hr_head_options *h = &spec->head;
    const double mean = fmin(mean_positives > 0 ? mean_positives : 1, (double)groups / 2); /* labels of an instance may share a group */
    *o = (hr_head_options){
        .name = "aux",
        .labels = groups,
        .dim = h->dim,
        .max_batch = h->max_batch,
        .training = true,
        .num_segments = 1,
        .loss = HR_LOSS_BCE,
        .reduction = h->reduction,
        .bias = HR_BIAS_SCALAR,
        .bias_value = (float)log(mean / (double)groups),
        .weight_decay = h->weight_decay,
        .tau = h->tau,
        .lr_peak = (float)hr_config_number(c, "aux.lr"),
        .seed = h->seed,
        .first_tensor = FIRST_AUX_TENSOR,
    };
    o->segment[0] = (hr_segment_options){.rows = groups, .rounding = h->segment[0].rounding, .lr_scale = 1};
    HR_TRY(head_dtype(c, "aux.dtype", &o->segment[0].dtype));
    o->segment[0].scale_log2 = default_scale(o->segment[0].dtype);
    o->gradient = choose_gradient(c, o);
    return HR_OK;
}

/* Labels are grouped before the weights are allocated, in little more memory than those will take (the rest of the run takes more than
 * that), or 64 MiB. */
static void plan_grouping(const hr_config *c, const hr_dataset *ds, hr_model_spec *spec)
{
    static const hr_cluster_method methods[] = {HR_CLUSTER_KMEANS, HR_CLUSTER_GIVEN, HR_CLUSTER_RANDOM};
    const hr_head_options *h = &spec->head;
    const hr_segment_options *last = &h->segment[h->num_segments - 1];
    size_t bytes[HR_MEM_KINDS] = {0};
    if (last->group <= 1)
        return;
    hr_head_memory(h, 1, bytes);
    spec->grouped_from = h->labels - last->rows;
    spec->grouping = hr_cluster_options_default();
    spec->grouping.method = methods[hr_config_choice(c, "head.grouping")];
    spec->grouping.size = last->group;
    spec->grouping.seed = h->seed;
    const size_t most = bytes[HR_MEM_HEAD_WEIGHTS] / 4 * 5;
    spec->grouping.max_bytes = 1; /* the narrowest vectors fit whatever the bound */
    const size_t least = hr_cluster_memory(ds, &spec->grouping, last->rows);
    spec->grouping.max_bytes = most > 64 << 20 ? most : 64 << 20;
    if (spec->grouping.max_bytes < least)
        spec->grouping.max_bytes = least;
    spec->grouping_bytes = hr_cluster_memory(ds, &spec->grouping, last->rows);
}

/* How large a dense head over all features would be, and what does instead. */
static hr_status refuse_dense(const hr_config *c, const hr_head_options *o)
{
    hr_dtype dtype;
    HR_TRY(head_dtype(c, "head.dtype", &dtype));
    const double row = (double)o->labels * (double)dtype.bytes * 0x1p-30, rows = row * (double)o->dim;
    return hr_fail(hr_config_ctx(c), HR_ERR_CONFIG, "encoder.type=identity-sparse with head.family=%s and head.dense_ratio=%g: a dense row "
                   "for each of %lld labels over %lld features would take %.3g GiB; set head.family=fan_in, head.fan_in=128 (%.3g GiB with "
                   "its indices) and head.dense_ratio=0", hr_config_text(c, "head.family"), hr_config_number(c, "head.dense_ratio"),
                   (long long)o->labels, (long long)o->dim, rows, 128 * (row + (double)o->labels * 0x1p-28));
}

/* A head over the features themselves: what that does not go with, and the inputs of its labels. */
static hr_status sparse_head(const hr_config *c, hr_model_spec *spec)
{
    hr_ctx *ctx = hr_config_ctx(c);
    hr_head_options *h = &spec->head;
    h->sparse_x = spec->encoder.type == HR_ENCODER_IDENTITY;
    if (!h->sparse_x)
        return HR_OK;
    if (hr_config_choice(c, "head.family") != HR_FAMILY_FAN_IN || hr_config_number(c, "head.dense_ratio") > 0)
        return refuse_dense(c, h);
    if (spec->layer.labels > 0 || hr_config_number(c, "aux.weight") > 0)
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder.type=identity-sparse has nothing to train before the head; set layer.width=0 and "
                       "aux.weight=0");
    const size_t entries = hr_mul((size_t)spec->encoder.max_batch, (size_t)spec->encoder.max_row);
    h->max_entries = entries < INT64_MAX ? (int64_t)entries : INT64_MAX;
    spec->candidates = (hr_candidate_options){
        .score = (hr_candidate_score)hr_config_choice(c, "head.candidates"),
        .width = hr_config_int(c, "head.fan_in"),
        .group = hr_config_int(c, "head.group"),
        .unit_rows = spec->encoder.norm > 0,
        .label_texts = hr_config_bool(c, "train.augment"),
        .seed = h->seed,
        .tensor = h->first_tensor,
    };
    return HR_OK;
}

hr_status hr_model_spec_make(const hr_config *c, const hr_dataset *ds, hr_device *device, int64_t max_row, double mean_positives,
                             hr_model_spec *out)
{
    hr_ctx *ctx = hr_config_ctx(c);
    *out = (hr_model_spec){.encoder = encoder_options(c, ds, max_row)};
    const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
    if (dense != (out->encoder.type == HR_ENCODER_DENSE))
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder.type=%s, but the data set has %s features; set encoder.type=%s",
                       hr_config_text(c, "encoder.type"), dense ? "dense" : "sparse", dense ? "dense" : "bow");
    HR_TRY(layer_options(c, &out->encoder, &out->layer));
    const double mean = mean_positives > 0 ? mean_positives : 1.0;
    hr_head_options *h = &out->head;
    *h = (hr_head_options){
        .labels = ds->labels,
        .dim = out->layer.labels > 0 ? out->layer.labels : out->encoder.dim,
        .max_batch = out->encoder.max_batch,
        .training = true,
        .loss = (hr_loss)hr_config_choice(c, "loss.type"),
        .reduction = (hr_reduction)hr_config_choice(c, "loss.reduction"),
        .bias = (hr_bias)hr_config_choice(c, "head.bias"),
        .bias_value = (float)log(mean / (double)ds->labels),
        .weight_decay = (float)hr_config_number(c, "head.weight_decay"),
        .eager_decay = hr_config_choice(c, "head.decay") == 1,
        .arith = (hr_arith)hr_config_choice(c, "head.arith"),
        .tau = (float)hr_config_number(c, "head.tau"),
        .lr_peak = (float)hr_config_number(c, "head.lr"),
        .chunk = hr_config_int(c, "head.chunk"),
        .device = device,
        .seed = out->encoder.seed,
        .first_tensor = FIRST_HEAD_TENSOR,
    };
    if (h->loss == HR_LOSS_SQUARED_HINGE && h->bias != HR_BIAS_NONE)
        h->bias_value = -1.0f; /* a negative's hinge is zero from there down */
    HR_TRY(sparse_head(c, out));
    HR_TRY(segments(c, h));
    h->gradient = choose_gradient(c, h);
    HR_TRY(rewiring(c, h));
    HR_TRY(hr_encoder_check(ctx, &out->encoder));
    if (out->layer.labels > 0)
        HR_TRY(hr_head_check(ctx, &out->layer));
    HR_TRY(hr_head_check(ctx, h));
    plan_grouping(c, ds, out);
    return HR_OK;
}

int64_t hr_model_dx_width(const hr_model_spec *spec)
{
    return spec->head.sparse_x ? 0 : spec->head.dim;
}

void hr_model_memory(const hr_model_spec *spec, int threads, size_t bytes[HR_MEM_KINDS])
{
    hr_encoder_memory(&spec->encoder, threads, bytes);
    hr_head_memory(&spec->head, threads, bytes);
    if (spec->layer.labels > 0) {
        hr_head_memory(&spec->layer, threads, bytes);
        bytes[HR_MEM_BATCH] = hr_add(bytes[HR_MEM_BATCH], hr_mul((size_t)spec->layer.max_batch, (size_t)spec->layer.dim * sizeof(float)));
    }
    bytes[HR_MEM_OTHER] = hr_add(bytes[HR_MEM_OTHER], sizeof(hr_model));
    bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], hr_mul((size_t)spec->head.labels, sizeof(uint32_t)));
    if (!spec->head.sparse_x)
        bytes[HR_MEM_BATCH] = hr_add(bytes[HR_MEM_BATCH],
                                     hr_mul((size_t)spec->head.max_batch, (size_t)spec->head.dim * sizeof(float)));
}
