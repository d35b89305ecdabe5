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

static hr_status create_parts(hr_model *m, const hr_model_spec *spec)
{
    HR_TRY(hr_encoder_create(m->ctx, &spec->encoder, &m->encoder));
    HR_TRY(hr_head_create(m->ctx, &spec->head, &m->head));
    m->x = HR_ARRAY(m->ctx, HR_MEM_BATCH, float, spec->head.max_batch *spec->head.dim);
    return m->x ? HR_OK : HR_ERR_NOMEM;
}

hr_status hr_model_create(hr_ctx *ctx, const hr_model_spec *spec, const uint32_t *frequency, hr_model **out)
{
    *out = NULL;
    hr_model *m = HR_NEW(ctx, HR_MEM_OTHER, hr_model);
    if (!m)
        return HR_ERR_NOMEM;
    *m = (hr_model){.ctx = ctx, .labels = spec->head.labels, .dim = spec->head.dim, .features = spec->encoder.features,
                    .max_batch = spec->head.max_batch};
    hr_status st = frequency ? order_labels(m, frequency) : HR_OK; /* before the weights: it needs scratch */
    if (st == HR_OK)
        st = create_parts(m, spec);
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
    hr_encoder_destroy(m->encoder);
    hr_checkpoint_close(m->ck);
    hr_free(ctx, m->owned_external);
    hr_free(ctx, m->x);
    hr_free(ctx, m);
}

/* ---- state ---- */

void hr_model_tensors(hr_model *m, hr_tensor_list *list)
{
    hr_head_tensors(m->head, list);
    hr_encoder_tensors(m->encoder, list);
    hr_tensor *t = &list->item[list->count++];
    *t = (hr_tensor){.name = "labels.external", .type = HR_T_U32, .rows = m->labels, .cols = 1,
                     .data = (void *)(uintptr_t)m->external};
}

void hr_model_meta(const hr_model *m, hr_meta *meta)
{
    const hr_head_options *h = hr_head_get_options(m->head);
    const hr_encoder_options *e = hr_encoder_get_options(m->encoder);
    hr_meta_set(meta, "encoder.type", "%s", e->type == HR_ENCODER_BOW ? "bow" : "dense");
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
    hr_meta_set(meta, "head.segments", "%d", h->num_segments);
    for (int i = 0; i < h->num_segments; i++) {
        char key[HR_META_KEY], name[8];
        const hr_segment_options *s = &h->segment[i];
        snprintf(key, sizeof key, "head.%d.rows", i);
        hr_meta_set(meta, key, "%lld", (long long)s->rows);
        snprintf(key, sizeof key, "head.%d.dtype", i);
        hr_meta_set(meta, key, "%s", hr_dtype_name(s->dtype, name));
        snprintf(key, sizeof key, "head.%d.scale_log2", i);
        hr_meta_set(meta, key, "%d", s->scale_log2);
        snprintf(key, sizeof key, "head.%d.alpha", i);
        hr_meta_set_number(meta, key, (double)hr_head_alpha(m->head, i));
    }
}

int64_t hr_model_shard_rows(const hr_model *m)
{
    const int64_t blocks = hr_head_blocks(m->head), rows = hr_head_block_rows(m->head);
    const hr_head_options *h = hr_head_get_options(m->head);
    const double block_bytes = (double)rows * (double)hr_dense_pitch(h->segment[0].dtype, h->dim);
    int64_t per = 1;
    while (per < blocks && ((double)per * block_bytes < 0x1p28 || blocks / per > 32))
        per *= 2;
    return per * rows;
}

static hr_status load_alphas(hr_model *m, const hr_checkpoint *ck)
{
    for (int i = 0; i < hr_head_get_options(m->head)->num_segments; i++) {
        char key[HR_META_KEY];
        double alpha;
        snprintf(key, sizeof key, "head.%d.alpha", i);
        HR_TRY(hr_checkpoint_number(ck, key, &alpha));
        if (!(alpha > 0x1p-10 && alpha <= 1))
            return hr_fail(m->ctx, HR_ERR_DATA, "the model's \"%s\" is %g, expected above 0 and at most 1", key, alpha);
        hr_head_set_alpha(m->head, i, (float)alpha);
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
    return load_alphas(m, ck);
}

/* ---- opening a folder ---- */

static hr_status read_segment(hr_checkpoint *ck, int i, hr_segment_options *s)
{
    char key[HR_META_KEY];
    const char *dtype;
    int64_t scale;
    snprintf(key, sizeof key, "head.%d.rows", i);
    HR_TRY(hr_checkpoint_int(ck, key, 1, UINT32_MAX, &s->rows));
    snprintf(key, sizeof key, "head.%d.scale_log2", i);
    HR_TRY(hr_checkpoint_int(ck, key, 0, 30, &scale));
    s->scale_log2 = (int)scale;
    snprintf(key, sizeof key, "head.%d.dtype", i);
    HR_TRY(hr_checkpoint_text(ck, key, &dtype));
    return hr_dtype_parse(dtype, &s->dtype) ? HR_OK : HR_ERR_DATA;
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

static hr_status read_spec(hr_ctx *ctx, hr_checkpoint *ck, int64_t max_batch, hr_model_spec *spec)
{
    const char *type;
    int64_t residual, bias, elmo, segments;
    double norm, bias_value;
    hr_encoder_options *e = &spec->encoder;
    hr_head_options *h = &spec->head;
    HR_TRY(hr_checkpoint_text(ck, "encoder.type", &type));
    HR_TRY(hr_checkpoint_int(ck, "encoder.features", 1, UINT32_MAX, &e->features));
    HR_TRY(hr_checkpoint_int(ck, "encoder.dim", 1, 131072, &e->dim));
    HR_TRY(hr_checkpoint_int(ck, "encoder.residual", 0, 1, &residual));
    HR_TRY(hr_checkpoint_number(ck, "encoder.norm", &norm));
    HR_TRY(hr_checkpoint_int(ck, "head.labels", 1, UINT32_MAX, &h->labels));
    HR_TRY(read_loss(ctx, ck, &h->loss));
    HR_TRY(hr_checkpoint_int(ck, "head.bias", 0, 2, &bias));
    HR_TRY(hr_checkpoint_number(ck, "head.bias_value", &bias_value));
    HR_TRY(hr_checkpoint_int(ck, "head.elmo_arith", 0, 1, &elmo));
    HR_TRY(hr_checkpoint_int(ck, "head.segments", 1, HR_SEGMENTS_MAX, &segments));
    e->type = strcmp(type, "dense") == 0 ? HR_ENCODER_DENSE : HR_ENCODER_BOW;
    e->residual = residual != 0;
    e->norm = (float)norm;
    e->max_batch = h->max_batch = max_batch;
    h->dim = e->dim;
    h->bias = (hr_bias)bias;
    h->bias_value = (float)bias_value;
    h->arith = elmo ? HR_ARITH_ELMO : HR_ARITH_F32; /* bf16 products are a matter of training */
    h->num_segments = (int)segments;
    for (int i = 0; i < h->num_segments; i++)
        if (read_segment(ck, i, &h->segment[i]) != HR_OK)
            return hr_fail(ctx, HR_ERR_DATA, "the model's segment %d has no proper rows, scale or storage type", i);
    return HR_OK;
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

static hr_status attach_segment(hr_model *m, int i)
{
    const hr_segment_options *s = &hr_head_get_options(m->head)->segment[i];
    const void *codes[SHARDS_MAX] = {0}, *scales[SHARDS_MAX] = {0};
    int64_t shard_rows = 0, scale_rows = 0;
    int count = 0, scale_count = 0;
    char name[HR_TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "head.%d.codes", i);
    const int64_t cols = (int64_t)(hr_dense_pitch(s->dtype, m->dim) / s->dtype.bytes);
    HR_TRY(find_shards(m, name, hr_tensor_type_of(s->dtype), s->rows, cols, &shard_rows, &count, codes));
    if (s->dtype.id == HR_I8R) {
        snprintf(name, sizeof name, "head.%d.scales", i);
        HR_TRY(find_shards(m, name, HR_T_F32, s->rows, 1, &scale_rows, &scale_count, scales));
        if (scale_rows != shard_rows || scale_count != count)
            return hr_fail(m->ctx, HR_ERR_DATA, "tensor \"%s\" is not cut like the codes", name);
        for (int j = 0; j < count; j++) {
            const int64_t left = s->rows - j * shard_rows;
            HR_TRY(hr_checkpoint_verify(m->ck, scales[j], (size_t)(left < shard_rows ? left : shard_rows) * sizeof(float)));
        }
    }
    hr_head_attach(m->head, i, shard_rows, count, codes, s->dtype.id == HR_I8R ? (const float *const *)scales : NULL);
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

static hr_status attach_all(hr_model *m)
{
    HR_TRY(load_alphas(m, m->ck));
    for (int i = 0; i < hr_head_get_options(m->head)->num_segments; i++)
        HR_TRY(attach_segment(m, i));
    if (hr_head_get_options(m->head)->bias == HR_BIAS_PER_LABEL) {
        const void *bias = NULL;
        HR_TRY(map_tensor(m, "head.bias", HR_T_F32, m->labels, 1, &bias));
        hr_head_attach_bias(m->head, bias);
    }
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
        st = hr_model_create(ctx, &spec, NULL, &m);
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

/* Weights of a mapped model are verified when they are first read. */
static hr_status touch_rows(void *arg, int segment, int64_t row, int64_t rows)
{
    hr_model *m = arg;
    const hr_segment_options *s = &hr_head_get_options(m->head)->segment[segment];
    const size_t pitch = hr_dense_pitch(s->dtype, m->dim);
    char name[HR_TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "head.%d.%s", segment, "codes");
    int64_t first = 0;
    for (int i = 0; rows > 0; i++) {
        hr_tensor t;
        HR_TRY(hr_checkpoint_find(m->ck, name, i, &t));
        if (row < first + t.rows) {
            const int64_t n = first + t.rows - row < rows ? first + t.rows - row : rows;
            HR_TRY(hr_checkpoint_verify(m->ck, (const uint8_t *)t.data + (size_t)(row - first) * pitch, (size_t)n * pitch));
            row += n;
            rows -= n;
        }
        first += t.rows;
    }
    return HR_OK;
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

hr_status hr_model_top(hr_model *m, const hr_encoder_batch *batch, int64_t k, uint32_t *ids, float *scores)
{
    if (m->ck)
        HR_TRY(touch_features(m, batch));
    hr_encoder_forward(m->encoder, batch, false, 0, m->x);
    return hr_head_top(m->head, m->topk, batch->rows, m->x, k, m->external, ids, scores, m->ck ? touch_rows : NULL, m);
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
