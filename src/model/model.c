/* Creation for training, the state of a model, and scoring. */
#include "model/model.h"

#include <stdio.h>

/* Internal order: frequency down, external id up; a counting sort. */
static hr_status order_labels(hr_model *m, const uint32_t *frequency)
{
    uint32_t most = 0;
    for (int64_t l = 0; l < m->labels; l++)
        most = frequency[l] > most ? frequency[l] : most;
    uint32_t *start = HR_ARRAY0(m->ctx, HR_MEM_EVAL, uint32_t, (size_t)most + 2);
    m->owned_external = HR_ARRAY(m->ctx, HR_MEM_HEAD_STATE, uint32_t, m->labels);
    if (start && m->owned_external) {
        for (int64_t l = 0; l < m->labels; l++)
            start[most - frequency[l] + 1]++;
        for (uint32_t f = 0; f < most; f++)
            start[f + 1] += start[f];
        for (int64_t l = 0; l < m->labels; l++)
            m->owned_external[start[most - frequency[l]]++] = (uint32_t)l;
        m->external = m->owned_external;
    }
    hr_free(m->ctx, start);
    return m->external ? HR_OK : HR_ERR_NOMEM;
}

/* The labels that share inputs, so that each group's are one after the other. */
static hr_status group_labels(hr_model *m, const hr_model_spec *spec, const hr_dataset *ds)
{
    if (spec->grouping.size == 0)
        return HR_OK;
    const int64_t count = m->labels - spec->grouped_from;
    uint32_t *order = HR_ARRAY(m->ctx, HR_MEM_EVAL, uint32_t, count);
    if (!order)
        return HR_ERR_NOMEM;
    uint32_t *tail = m->owned_external + spec->grouped_from;
    hr_status st = hr_cluster_labels(m->ctx, ds, &spec->grouping, tail, count, order);
    if (st == HR_OK)
        memcpy(tail, order, (size_t)count * sizeof *order);
    hr_free(m->ctx, order);
    return st;
}

static hr_status create_parts(hr_model *m, const hr_model_spec *spec)
{
    HR_TRY(hr_encoder_create(m->ctx, &spec->encoder, &m->encoder));
    if (spec->layer.labels > 0)
        HR_TRY(hr_head_create(m->ctx, &spec->layer, &m->layer));
    HR_TRY(hr_head_create(m->ctx, &spec->head, &m->head));
    m->is_sparse = spec->head.sparse_x;
    if (m->is_sparse)
        return HR_OK;
    m->x = HR_ARRAY(m->ctx, HR_MEM_BATCH, float, spec->head.max_batch *spec->encoder.dim);
    m->h = m->layer ? HR_ARRAY(m->ctx, HR_MEM_BATCH, float, spec->head.max_batch *spec->head.dim) : m->x;
    return m->x && m->h ? HR_OK : HR_ERR_NOMEM;
}

hr_status hr_model_create(hr_ctx *ctx, const hr_model_spec *spec, const hr_dataset *ds, const uint32_t *frequency, hr_model **out)
{
    *out = NULL;
    hr_model *m = HR_NEW(ctx, HR_MEM_OTHER, hr_model);
    if (!m)
        return HR_ERR_NOMEM;
    *m = (hr_model){.ctx = ctx, .labels = spec->head.labels, .dim = spec->encoder.dim, .features = spec->encoder.features,
                    .max_batch = spec->head.max_batch};
    hr_status st = frequency ? order_labels(m, frequency) : HR_OK; /* before the weights: it needs scratch */
    if (st == HR_OK && frequency)
        st = group_labels(m, spec, ds);
    if (st == HR_OK)
        st = create_parts(m, spec);
    if (st == HR_OK && frequency && m->is_sparse)
        st = hr_candidates_choose(ctx, ds, &spec->candidates, m->external, frequency, m->head);
    if (st != HR_OK) {
        hr_model_destroy(m);
        return st;
    }
    *out = m;
    return HR_OK;
}

void hr_model_destroy(hr_model *m)
{
    if (!m)
        return;
    hr_ctx *ctx = m->ctx;
    hr_head_topk_destroy(ctx, m->topk);
    hr_head_destroy(m->head);
    hr_head_destroy(m->layer);
    hr_encoder_destroy(m->encoder);
    hr_checkpoint_close(m->ck);
    hr_free(ctx, m->owned_external);
    if (m->h != m->x)
        hr_free(ctx, m->h);
    hr_free(ctx, m->x);
    hr_free(ctx, m);
}

/* ---- state ---- */

void hr_model_tensors(hr_model *m, hr_tensor_list *list)
{
    hr_head_tensors(m->head, list);
    if (m->layer)
        hr_head_tensors(m->layer, list);
    hr_encoder_tensors(m->encoder, list);
    hr_tensor *t = &list->item[list->count++];
    *t = (hr_tensor){.name = "labels.external", .type = HR_T_U32, .rows = m->labels, .cols = 1,
                     .data = (void *)(uintptr_t)m->external};
}

/* Key "NAME.I.WHAT". */
static const char *segment_key(char key[HR_META_KEY], const char *name, int i, const char *what)
{
    snprintf(key, HR_META_KEY, "%s.%d.%s", name, i, what);
    return key;
}

static const char *const encoder_types[] = {"bow", "dense", "identity-sparse"};

static void segments_meta(const hr_head *head, const char *name, hr_meta *meta)
{
    char key[HR_META_KEY], text[8];
    const hr_head_options *h = hr_head_get_options(head);
    snprintf(key, sizeof key, "%s.segments", name);
    hr_meta_set(meta, key, "%d", h->num_segments);
    for (int i = 0; i < h->num_segments; i++) {
        const hr_segment_options *s = &h->segment[i];
        const hr_segment_shape shape = hr_head_segment_shape(head, i);
        hr_meta_set(meta, segment_key(key, name, i, "rows"), "%lld", (long long)s->rows);
        hr_meta_set(meta, segment_key(key, name, i, "dtype"), "%s", hr_dtype_name(s->dtype, text));
        hr_meta_set(meta, segment_key(key, name, i, "scale_log2"), "%d", s->scale_log2);
        hr_meta_set_number(meta, segment_key(key, name, i, "alpha"), (double)hr_head_alpha(head, i));
        hr_meta_set(meta, segment_key(key, name, i, "fan_in"), "%lld", (long long)shape.fan_in);
        hr_meta_set(meta, segment_key(key, name, i, "group"), "%lld", (long long)shape.group);
        hr_meta_set(meta, segment_key(key, name, i, "connections"), "%lld", (long long)s->connections);
        hr_meta_set(meta, segment_key(key, name, i, "first_column"), "%lld", (long long)s->first_column);
        hr_meta_set(meta, segment_key(key, name, i, "columns"), "%lld", (long long)s->columns);
    }
}

void hr_model_meta(const hr_model *m, hr_meta *meta)
{
    const hr_head_options *h = hr_head_get_options(m->head);
    const hr_encoder_options *e = hr_encoder_get_options(m->encoder);
    hr_meta_set(meta, "encoder.type", "%s", encoder_types[e->type]);
    hr_meta_set(meta, "encoder.features", "%lld", (long long)e->features);
    hr_meta_set(meta, "encoder.dim", "%lld", (long long)e->dim);
    hr_meta_set(meta, "encoder.residual", "%d", e->residual);
    hr_meta_set_number(meta, "encoder.norm", (double)e->norm);
    hr_meta_set(meta, "head.labels", "%lld", (long long)h->labels);
    hr_meta_set(meta, "head.blocks", "%lld", (long long)hr_head_blocks(m->head));
    hr_meta_set(meta, "head.loss", "%s", h->loss == HR_LOSS_BCE ? "bce" : "squared_hinge");
    hr_meta_set(meta, "head.bias", "%d", (int)h->bias);
    hr_meta_set_number(meta, "head.bias_value", (double)h->bias_value);
    hr_meta_set(meta, "head.elmo_arith", "%d", h->arith == HR_ARITH_ELMO);
    segments_meta(m->head, "head", meta);
    hr_meta_set(meta, "layer.width", "%lld", m->layer ? (long long)hr_head_get_options(m->layer)->labels : 0LL);
    if (m->layer) {
        hr_meta_set(meta, "layer.relu", "%d", hr_head_get_options(m->layer)->relu);
        segments_meta(m->layer, "layer", meta);
    }
}

int64_t hr_model_shard_rows(const hr_model *m)
{
    const int64_t blocks = hr_head_blocks(m->head), rows = hr_head_block_rows(m->head);
    const hr_head_options *h = hr_head_get_options(m->head);
    double most = 0; /* bytes of a label */
    for (int i = 0; i < h->num_segments; i++) {
        const hr_segment_shape s = hr_head_segment_shape(m->head, i);
        const double bytes = (double)s.pitch + (double)(s.fan_in * s.input_bytes) / (double)s.group;
        most = bytes > most ? bytes : most;
    }
    const double block_bytes = (double)rows * most;
    int64_t per = 1;
    while (per < blocks && ((double)per * block_bytes < 0x1p28 || blocks / per > 32))
        per *= 2;
    return per * rows;
}

static hr_status load_alphas(hr_model *m, hr_head *head, const char *name, const hr_checkpoint *ck)
{
    for (int i = 0; head && i < hr_head_get_options(head)->num_segments; i++) {
        char key[HR_META_KEY];
        double alpha;
        HR_TRY(hr_checkpoint_number(ck, segment_key(key, name, i, "alpha"), &alpha));
        if (!(alpha > 0x1p-10 && alpha <= 1))
            return hr_fail(m->ctx, HR_ERR_DATA, "the model's \"%s\" is %g, expected above 0 and at most 1", key, alpha);
        hr_head_set_alpha(head, i, (float)alpha);
    }
    return HR_OK;
}

/* The blocks are the units of summation: another number of them would give other bits. */
static hr_status check_blocks(const hr_model *m, const hr_checkpoint *ck)
{
    int64_t blocks;
    HR_TRY(hr_checkpoint_int(ck, "head.blocks", 1, INT64_MAX, &blocks));
    if (blocks == hr_head_blocks(m->head))
        return HR_OK;
    return hr_fail(m->ctx, HR_ERR_DATA, "the checkpoint cuts the labels into %lld blocks, this build into %lld: it cannot go on "
                   "with the same bits", (long long)blocks, (long long)hr_head_blocks(m->head));
}

hr_status hr_model_load(hr_model *m, hr_checkpoint *ck)
{
    hr_tensor_list list = {0};
    HR_TRY(check_blocks(m, ck));
    hr_model_tensors(m, &list);
    for (int i = 0; i < list.count; i++)
        HR_TRY(hr_checkpoint_load(ck, &list.item[i]));
    if (!hr_head_inputs_valid(m->head) || (m->layer && !hr_head_inputs_valid(m->layer)))
        return hr_fail(m->ctx, HR_ERR_DATA, "the checkpoint's fan-in inputs do not ascend within the width of the head: it is damaged");
    HR_TRY(load_alphas(m, m->layer, "layer", ck));
    return load_alphas(m, m->head, "head", ck);
}

/* ---- opening a folder ---- */

/* A count that folders written before the key existed do not have. */
static hr_status read_count(const hr_checkpoint *ck, const char *key, int64_t fallback, int64_t most, int64_t *out)
{
    *out = fallback;
    return hr_meta_get(hr_checkpoint_meta(ck), key) ? hr_checkpoint_int(ck, key, 0, most, out) : HR_OK;
}

static hr_status read_segment(const hr_checkpoint *ck, const char *name, int i, hr_segment_options *s)
{
    char key[HR_META_KEY];
    const char *dtype;
    int64_t scale;
    HR_TRY(hr_checkpoint_int(ck, segment_key(key, name, i, "rows"), 1, UINT32_MAX, &s->rows));
    HR_TRY(hr_checkpoint_int(ck, segment_key(key, name, i, "scale_log2"), 0, 30, &scale));
    s->scale_log2 = (int)scale;
    HR_TRY(read_count(ck, segment_key(key, name, i, "fan_in"), 0, HR_FAN_IN_MAX, &s->fan_in));
    HR_TRY(read_count(ck, segment_key(key, name, i, "group"), 1, 64, &s->group));
    HR_TRY(read_count(ck, segment_key(key, name, i, "first_column"), 0, 131072, &s->first_column));
    HR_TRY(read_count(ck, segment_key(key, name, i, "columns"), 0, 131072, &s->columns));
    HR_TRY(read_count(ck, segment_key(key, name, i, "connections"), 0, UINT32_MAX, &s->connections));
    s->family = s->connections > 0 ? HR_FAMILY_UNSTRUCTURED : s->fan_in > 0 ? HR_FAMILY_FAN_IN : HR_FAMILY_DENSE;
    HR_TRY(hr_checkpoint_text(ck, segment_key(key, name, i, "dtype"), &dtype));
    return hr_dtype_parse(dtype, &s->dtype) ? HR_OK : HR_ERR_DATA;
}

static hr_status read_segments(hr_ctx *ctx, const hr_checkpoint *ck, const char *name, hr_head_options *h)
{
    char key[HR_META_KEY];
    int64_t segments;
    snprintf(key, sizeof key, "%s.segments", name);
    HR_TRY(hr_checkpoint_int(ck, key, 1, HR_SEGMENTS_MAX, &segments));
    h->num_segments = (int)segments;
    for (int i = 0; i < h->num_segments; i++)
        if (read_segment(ck, name, i, &h->segment[i]) != HR_OK)
            return hr_fail(ctx, HR_ERR_DATA, "the model's segment %s.%d has no proper rows, inputs, scale or storage type", name, i);
    return HR_OK;
}

/* Folders written before there were hidden layers have none. */
static hr_status read_layer(hr_ctx *ctx, const hr_checkpoint *ck, const hr_encoder_options *e, hr_head_options *layer)
{
    int64_t relu;
    HR_TRY(read_count(ck, "layer.width", 0, 131072, &layer->labels));
    if (layer->labels == 0)
        return HR_OK;
    HR_TRY(hr_checkpoint_int(ck, "layer.relu", 0, 1, &relu));
    *layer = (hr_head_options){.name = "layer", .labels = layer->labels, .dim = e->dim, .max_batch = e->max_batch, .loss = HR_LOSS_GIVEN,
                               .relu = relu != 0, .bias = HR_BIAS_PER_LABEL};
    return read_segments(ctx, ck, "layer", layer);
}

/* Folders written before the key existed were all read as BCE. */
static hr_status read_loss(hr_ctx *ctx, const hr_checkpoint *ck, hr_loss *loss)
{
    const char *name = hr_meta_get(hr_checkpoint_meta(ck), "head.loss");
    *loss = name && strcmp(name, "squared_hinge") == 0 ? HR_LOSS_SQUARED_HINGE : HR_LOSS_BCE;
    if (!name || *loss == HR_LOSS_SQUARED_HINGE || strcmp(name, "bce") == 0)
        return HR_OK;
    return hr_fail(ctx, HR_ERR_DATA, "the model's \"head.loss\" is \"%s\", expected bce or squared_hinge", name);
}

static hr_status read_encoder_type(hr_ctx *ctx, const hr_checkpoint *ck, hr_encoder_type *type)
{
    const char *name;
    HR_TRY(hr_checkpoint_text(ck, "encoder.type", &name));
    for (size_t i = 0; i < sizeof encoder_types / sizeof *encoder_types; i++)
        if (strcmp(name, encoder_types[i]) == 0) {
            *type = (hr_encoder_type)i;
            return HR_OK;
        }
    return hr_fail(ctx, HR_ERR_DATA, "the model's \"encoder.type\" is \"%s\", expected bow, dense or identity-sparse", name);
}

static hr_status read_spec(hr_ctx *ctx, hr_checkpoint *ck, int64_t max_batch, hr_model_spec *spec)
{
    int64_t residual, bias, elmo;
    double norm, bias_value;
    hr_encoder_options *e = &spec->encoder;
    hr_head_options *h = &spec->head;
    HR_TRY(read_encoder_type(ctx, ck, &e->type));
    h->sparse_x = e->type == HR_ENCODER_IDENTITY;
    HR_TRY(hr_checkpoint_int(ck, "encoder.features", 1, UINT32_MAX, &e->features));
    HR_TRY(hr_checkpoint_int(ck, "encoder.dim", 1, h->sparse_x ? e->features : HR_WIDTH_MAX, &e->dim));
    HR_TRY(hr_checkpoint_int(ck, "encoder.residual", 0, 1, &residual));
    HR_TRY(hr_checkpoint_number(ck, "encoder.norm", &norm));
    HR_TRY(hr_checkpoint_int(ck, "head.labels", 1, UINT32_MAX, &h->labels));
    HR_TRY(read_loss(ctx, ck, &h->loss));
    HR_TRY(hr_checkpoint_int(ck, "head.bias", 0, 2, &bias));
    HR_TRY(hr_checkpoint_number(ck, "head.bias_value", &bias_value));
    HR_TRY(hr_checkpoint_int(ck, "head.elmo_arith", 0, 1, &elmo));
    e->residual = residual != 0;
    e->norm = (float)norm;
    e->max_batch = h->max_batch = max_batch;
    HR_TRY(read_layer(ctx, ck, e, &spec->layer));
    h->dim = spec->layer.labels > 0 ? spec->layer.labels : e->dim;
    h->bias = (hr_bias)bias;
    h->bias_value = (float)bias_value;
    h->arith = elmo ? HR_ARITH_ELMO : HR_ARITH_F32; /* bf16 products are a matter of training */
    return read_segments(ctx, ck, "head", h);
}

enum { SHARDS_MAX = 64 };

/* Whether a mapped tensor has this type and width, and lies where its elements may be read. */
static bool fits(const hr_tensor *t, hr_tensor_type type, int64_t cols)
{
    return t->type == type && t->cols == cols && (uintptr_t)t->data % hr_tensor_element_bytes(type) == 0;
}

/* Shards of one tensor as pointers; all but the last must have the same rows, and their sum must be `rows`. */
static hr_status find_shards(hr_model *m, const char *name, hr_tensor_type type, int64_t rows, int64_t cols, int64_t *shard_rows,
                             int *count, const void *data[])
{
    *count = hr_checkpoint_shards(m->ck, name);
    int64_t sum = 0;
    if (*count > SHARDS_MAX)
        return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\" has %d shards, expected at most %d", name, *count, SHARDS_MAX);
    for (int i = 0; i < *count || i == 0; i++) {
        hr_tensor t;
        HR_TRY(hr_checkpoint_find(m->ck, name, i, &t));
        if (i == 0)
            *shard_rows = t.rows;
        if (!fits(&t, type, cols) || t.rows > *shard_rows || (i + 1 < *count && t.rows != *shard_rows) || t.rows < 1)
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\", shard %d: type or shape do not fit the model", name, i);
        data[i] = t.data;
        sum += t.rows;
    }
    if (sum != rows)
        return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\" has %lld rows, expected %lld", name, (long long)sum, (long long)rows);
    return HR_OK;
}

/* One small tensor, verified now. */
static hr_status map_tensor(hr_model *m, const char *name, hr_tensor_type type, int64_t rows, int64_t cols, const void **data)
{
    hr_tensor t;
    *data = NULL;
    HR_TRY(hr_checkpoint_find(m->ck, name, 0, &t));
    if (!fits(&t, type, cols) || t.rows != rows)
        return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\": type or shape do not fit the model", name);
    *data = t.data;
    return hr_checkpoint_verify(m->ck, t.data, (size_t)rows * (size_t)cols * hr_tensor_element_bytes(type));
}

/* The rows of an unstructured segment have no places of their own in the file: it is one piece, read and checked now. */
static hr_status attach_unstructured(hr_model *m, hr_head *head, const char *of, int i)
{
    const hr_segment_options *s = &hr_head_get_options(head)->segment[i];
    const struct {
        const char *name;
        hr_tensor_type type;
        int64_t rows;
    } all[] = {{"codes", hr_tensor_type_of(s->dtype), s->connections},
               {"inputs", hr_head_segment_shape(head, i).input_bytes == 2 ? HR_T_U16 : HR_T_U32, s->connections},
               {"starts", HR_T_U32, s->rows + 1},
               {"scales", HR_T_F32, s->rows}};
    const void *data[4] = {0};
    for (int j = 0; j < 3 + (s->dtype.id == HR_I8R); j++) {
        char name[HR_META_KEY];
        HR_TRY(map_tensor(m, segment_key(name, of, i, all[j].name), all[j].type, all[j].rows, 1, &data[j]));
    }
    const float *scales = data[3];
    hr_head_attach(head, i, s->rows, 1, &data[0], scales ? &scales : NULL, &data[1]);
    hr_head_attach_starts(head, i, data[2]);
    if (!hr_head_inputs_valid(head))
        return hr_fail(m->ctx, HR_ERR_DATA, "the connections of segment %s.%d do not ascend within the width: the model is damaged", of, i);
    return HR_OK;
}

static hr_status attach_segment(hr_model *m, hr_head *head, const char *of, int i)
{
    const hr_segment_options *s = &hr_head_get_options(head)->segment[i];
    const hr_segment_shape shape = hr_head_segment_shape(head, i);
    const void *codes[SHARDS_MAX] = {0}, *scales[SHARDS_MAX] = {0}, *inputs[SHARDS_MAX] = {0};
    int64_t shard_rows = 0, other_rows = 0;
    int count = 0, other = 0;
    char name[HR_TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "%s.%d.codes", of, i);
    HR_TRY(find_shards(m, name, hr_tensor_type_of(s->dtype), s->rows, (int64_t)(shape.pitch / s->dtype.bytes), &shard_rows, &count,
                       codes));
    if (s->dtype.id == HR_I8R) {
        snprintf(name, sizeof name, "%s.%d.scales", of, i);
        HR_TRY(find_shards(m, name, HR_T_F32, s->rows, 1, &other_rows, &other, scales));
        if (other_rows != shard_rows || other != count)
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\" is not cut like the codes", name);
        for (int j = 0; j < count; j++) {
            const int64_t left = s->rows - j * shard_rows;
            HR_TRY(hr_checkpoint_verify(m->ck, scales[j], (size_t)(left < shard_rows ? left : shard_rows) * sizeof(float)));
        }
    }
    if (shape.fan_in > 0) {
        snprintf(name, sizeof name, "%s.%d.inputs", of, i);
        HR_TRY(find_shards(m, name, shape.input_bytes == 2 ? HR_T_U16 : HR_T_U32, (s->rows + shape.group - 1) / shape.group, shape.fan_in,
                           &other_rows, &other, inputs));
        if (other_rows != (shard_rows + shape.group - 1) / shape.group || other != count || (count > 1 && shard_rows % shape.group))
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\" is not cut like the codes", name);
    }
    hr_head_attach(head, i, shard_rows, count, codes, s->dtype.id == HR_I8R ? (const float *const *)scales : NULL,
                   shape.fan_in > 0 ? inputs : NULL);
    return HR_OK;
}

static hr_status attach_encoder(hr_model *m)
{
    const struct {
        const char *name;
        int64_t rows, cols;
        bool residual;
    } all[] = {{"encoder.embedding", m->features, m->dim, false}, {"encoder.w1", m->dim, m->dim, true},
               {"encoder.b1", 1, m->dim, true},                   {"encoder.w2", m->dim, m->dim, true},
               {"encoder.b2", 1, m->dim, true}};
    const hr_encoder_options *e = hr_encoder_get_options(m->encoder);
    for (size_t i = 0; e->type == HR_ENCODER_BOW && i < sizeof all / sizeof *all; i++) {
        hr_tensor t;
        if (all[i].residual && !e->residual)
            continue;
        HR_TRY(hr_checkpoint_find(m->ck, all[i].name, 0, &t));
        if (!fits(&t, HR_T_F32, all[i].cols) || t.rows != all[i].rows)
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\": type or shape do not fit the model", all[i].name);
        if (all[i].residual) /* small, and read by every call; embeddings are verified as they are touched */
            HR_TRY(hr_checkpoint_verify(m->ck, t.data, (size_t)(t.rows * t.cols) * sizeof(float)));
        hr_encoder_attach(m->encoder, all[i].name, t.data);
    }
    return HR_OK;
}

/* The label order must stay within the labels, or results would name some that do not exist. */
static hr_status attach_order(hr_model *m)
{
    const void *data = NULL;
    HR_TRY(map_tensor(m, "labels.external", HR_T_U32, m->labels, 1, &data));
    m->external = data;
    for (int64_t l = 0; l < m->labels; l++)
        if (m->external[l] >= m->labels)
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"labels.external\": entry %lld is %lld, expected less than %lld",
                           (long long)l, (long long)m->external[l], (long long)m->labels);
    return HR_OK;
}

static hr_status attach_head(hr_model *m, hr_head *head, const char *name)
{
    const hr_head_options *o = hr_head_get_options(head);
    char key[HR_TENSOR_NAME_MAX];
    const void *bias = NULL;
    HR_TRY(load_alphas(m, head, name, m->ck));
    for (int i = 0; i < o->num_segments; i++)
        HR_TRY(o->segment[i].family == HR_FAMILY_UNSTRUCTURED ? attach_unstructured(m, head, name, i) : attach_segment(m, head, name, i));
    if (o->bias != HR_BIAS_PER_LABEL)
        return HR_OK;
    snprintf(key, sizeof key, "%s.bias", name);
    HR_TRY(map_tensor(m, key, HR_T_F32, o->labels, 1, &bias));
    hr_head_attach_bias(head, bias);
    return HR_OK;
}

/* A hidden layer is small beside the head, and every call reads it whole: it is verified now. */
static hr_status attach_layer(hr_model *m)
{
    static const char *const parts[] = {"codes", "scales", "inputs"};
    if (!m->layer)
        return HR_OK;
    HR_TRY(attach_head(m, m->layer, "layer"));
    for (int i = 0; i < hr_head_get_options(m->layer)->num_segments; i++)
        for (size_t j = 0; j < sizeof parts / sizeof *parts; j++) {
            char key[HR_META_KEY];
            hr_tensor t;
            if (hr_checkpoint_shards(m->ck, segment_key(key, "layer", i, parts[j])) == 0)
                continue;
            HR_TRY(hr_checkpoint_find(m->ck, key, 0, &t));
            HR_TRY(hr_checkpoint_verify(m->ck, t.data, (size_t)(t.rows * t.cols) * hr_tensor_element_bytes(t.type)));
        }
    if (!hr_head_inputs_valid(m->layer))
        return hr_fail(m->ctx, HR_ERR_DATA, "the inputs of the hidden layer do not ascend within the encoder's width: the model is damaged");
    return HR_OK;
}

static hr_status attach_all(hr_model *m)
{
    HR_TRY(attach_layer(m));
    HR_TRY(attach_head(m, m->head, "head"));
    HR_TRY(attach_encoder(m));
    return attach_order(m);
}

hr_status hr_model_folder(hr_ctx *ctx, const char *path, char folder[HR_PATH_MAX])
{
    HR_TRY(hr_path_format(ctx, folder, "%s/model", path));
    return hr_path_is_dir(folder) ? HR_OK : hr_path_format(ctx, folder, "%s", path);
}

hr_status hr_model_open(hr_ctx *ctx, const char *path, bool verify_all, int64_t max_batch, hr_model **out)
{
    *out = NULL;
    hr_checkpoint *ck = NULL;
    hr_model *m = NULL;
    hr_model_spec spec = {0};
    HR_TRY(hr_checkpoint_open(ctx, path, verify_all, &ck));
    hr_status st = read_spec(ctx, ck, max_batch, &spec);
    if (st == HR_OK)
        st = hr_model_create(ctx, &spec, NULL, NULL, &m);
    if (st == HR_ERR_CONFIG) { /* not the user's: the folder's */
        char why[512];
        snprintf(why, sizeof why, "%s", hr_ctx_message(ctx));
        st = hr_fail(ctx, HR_ERR_DATA, "%s describes no model that could be: %s", path, why);
    }
    if (st != HR_OK) {
        hr_checkpoint_close(ck);
        return st;
    }
    m->ck = ck;
    st = attach_all(m);
    if (st != HR_OK) {
        hr_model_destroy(m);
        return st;
    }
    *out = m;
    return HR_OK;
}

/* ---- scoring ---- */

hr_status hr_model_want_top(hr_model *m, int64_t k)
{
    if (m->topk && m->top_k >= k)
        return HR_OK;
    hr_head_topk_destroy(m->ctx, m->topk);
    m->topk = NULL;
    HR_TRY(hr_head_topk_create(m->ctx, m->max_batch, k, &m->topk));
    m->top_k = k;
    return HR_OK;
}

/* Rows [row, row + rows) of a tensor that is cut into shards. */
static hr_status verify_rows(hr_model *m, const char *name, int64_t row, int64_t rows)
{
    int64_t first = 0;
    for (int i = 0; rows > 0; i++) {
        hr_tensor t;
        HR_TRY(hr_checkpoint_find(m->ck, name, i, &t));
        const size_t bytes = (size_t)t.cols * hr_tensor_element_bytes(t.type);
        if (row < first + t.rows) {
            const int64_t n = first + t.rows - row < rows ? first + t.rows - row : rows;
            HR_TRY(hr_checkpoint_verify(m->ck, (const uint8_t *)t.data + (size_t)(row - first) * bytes, (size_t)n * bytes));
            row += n;
            rows -= n;
        }
        first += t.rows;
    }
    return HR_OK;
}

/* Weights of a mapped model are verified when they are first read. */
static hr_status touch_rows(void *arg, int segment, int64_t row, int64_t rows)
{
    hr_model *m = arg;
    const hr_segment_shape shape = hr_head_segment_shape(m->head, segment);
    char name[HR_TENSOR_NAME_MAX];
    if (hr_head_get_options(m->head)->segment[segment].family == HR_FAMILY_UNSTRUCTURED)
        return HR_OK; /* verified when it was opened */
    snprintf(name, sizeof name, "head.%d.codes", segment);
    HR_TRY(verify_rows(m, name, row, rows));
    if (shape.fan_in == 0)
        return HR_OK;
    snprintf(name, sizeof name, "head.%d.inputs", segment);
    return verify_rows(m, name, row / shape.group, (row + rows - 1) / shape.group - row / shape.group + 1);
}

/* The embeddings of the batch's features likewise. */
static hr_status touch_features(hr_model *m, const hr_encoder_batch *batch)
{
    hr_tensor t;
    if (hr_encoder_get_options(m->encoder)->type != HR_ENCODER_BOW)
        return HR_OK;
    HR_TRY(hr_checkpoint_find(m->ck, "encoder.embedding", 0, &t));
    for (int64_t i = batch->indptr[0]; i < batch->indptr[batch->rows]; i++)
        HR_TRY(hr_checkpoint_verify(m->ck, (const float *)t.data + (int64_t)batch->indices[i] * m->dim,
                                    (size_t)m->dim * sizeof(float)));
    return HR_OK;
}

hr_status hr_model_forward(hr_model *m, const hr_encoder_batch *batch, bool train, uint64_t step)
{
    HR_TRY(hr_encoder_forward(m->encoder, batch, train, step, m->x));
    if (m->is_sparse)
        m->sparse = hr_encoder_sparse(m->encoder);
    return m->layer ? hr_head_forward(m->layer, batch->rows, m->x, m->h) : HR_OK;
}

hr_status hr_model_top(hr_model *m, const hr_encoder_batch *batch, int64_t k, uint32_t *ids, float *scores)
{
    if (m->ck)
        HR_TRY(touch_features(m, batch));
    HR_TRY(hr_model_forward(m, batch, false, 0));
    hr_head_touch_fn *touch = m->ck ? touch_rows : NULL;
    return m->is_sparse ? hr_head_top_sparse(m->head, m->topk, batch->rows, &m->sparse, k, m->external, ids, scores, touch, m)
                        : hr_head_top(m->head, m->topk, batch->rows, m->h, k, m->external, ids, scores, touch, m);
}

hr_encoder_batch hr_model_rows(const hr_dataset *dataset, hr_split which, int64_t row, int64_t rows)
{
    const hr_split_data *split = &dataset->split[which];
    hr_encoder_batch batch = {.rows = rows};
    if (split->dense) {
        batch.dense = split->dense + row * dataset->features;
    } else {
        batch.indptr = split->features.indptr + row;
        batch.indices = split->features.indices;
        batch.values = split->features.values;
    }
    return batch;
}
