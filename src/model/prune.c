/* Magnitude pruning of a trained model: of the dense rows of its head only the largest weights stay, as unstructured connections.
 *
 * The limit is found by a radix selection on the f32 bits of |w|, 16 bits at a time, over the mapped codes; no copy of them is made. */
#include "model/model.h"

#include "base/rng.h"
#include "tokenizer/text_features.h"

#include <math.h>
#include <stdio.h>

enum { BINS = 65536, EXTRA_MAX = 16 };

/* A segment's rows in the mapped model, and what becomes of them. */
typedef struct pruned {
    const hr_segment_options *o;
    int index;
    hr_rng rng;
    float unit;            /* of a code: alpha 2^-s */
    int64_t pitch, kept, room;
    uint8_t *codes, *inputs;
    uint32_t *starts;
    float *scales;
} pruned;

typedef struct prune_work {
    hr_model *m;
    int64_t *histogram;    /* (BINS) */
    uint32_t prefix, limit; /* those above the limit stay, */
    int64_t ties, of_ties;  /* and so many of so many that have it: any of them, for rows are ordered by frequency */
    int pass;
} prune_work;

/* Rows [first, first + rows) of a shard of codes. */
typedef hr_status row_fn(prune_work *w, pruned *s, int64_t row, const void *codes, float scale);

static hr_status each_row(prune_work *w, pruned *s, row_fn *run)
{
    char name[HR_TENSOR_NAME_MAX];
    int64_t row = 0;
    for (int shard = 0; row < s->o->rows; shard++) {
        hr_tensor codes, scales = {0};
        snprintf(name, sizeof name, "head.%d.codes", s->index);
        HR_TRY(hr_checkpoint_find(w->m->ck, name, shard, &codes));
        snprintf(name, sizeof name, "head.%d.scales", s->index);
        if (s->o->dtype.id == HR_I8R)
            HR_TRY(hr_checkpoint_find(w->m->ck, name, shard, &scales));
        for (int64_t r = 0; r < codes.rows; r++, row++)
            HR_TRY(run(w, s, row, (const uint8_t *)codes.data + (size_t)(r * s->pitch), scales.data ? ((const float *)scales.data)[r] : 1.0f));
    }
    return HR_OK;
}

static uint32_t size_bits(const pruned *s, const void *codes, int64_t d, float scale)
{
    return hr_f32_bits(fabsf(hr_dtype_load(s->o->dtype, codes, d, scale)) * s->unit);
}

static hr_status count_row(prune_work *w, pruned *s, int64_t row, const void *codes, float scale)
{
    (void)row;
    for (int64_t d = 0; d < hr_head_get_options(w->m->head)->dim; d++) {
        const uint32_t bits = size_bits(s, codes, d, scale);
        if (w->pass == 0)
            w->histogram[bits >> 16]++;
        else if (bits >> 16 == w->prefix)
            w->histogram[bits & (BINS - 1)]++;
    }
    return HR_OK;
}

/* The bin, from above, in which the count reaches *wanted; *wanted becomes what is left to take from it. */
static uint32_t find_bin(const int64_t *histogram, int64_t *wanted)
{
    uint32_t bin = BINS - 1;
    for (; bin > 0 && histogram[bin] < *wanted; bin--)
        *wanted -= histogram[bin];
    return bin;
}

static hr_status find_limit(prune_work *w, pruned *s, int count, int64_t wanted)
{
    for (w->pass = 0; w->pass < 2; w->pass++) {
        memset(w->histogram, 0, BINS * sizeof *w->histogram);
        for (int i = 0; i < count; i++)
            HR_TRY(each_row(w, &s[i], count_row));
        const uint32_t bin = find_bin(w->histogram, &wanted);
        if (w->pass == 0)
            w->prefix = bin;
        else
            w->limit = w->prefix << 16 | bin;
    }
    w->ties = w->limit > 0 ? wanted : 0; /* a zero is no connection */
    w->of_ties = w->histogram[w->limit & (BINS - 1)];
    return HR_OK;
}

/* Whether the next one of the limit's size stays: so each choice of `ties` of them is as likely (Knuth, algorithm S). */
static bool tie_stays(prune_work *w, const pruned *s, int64_t row, int64_t d)
{
    uint32_t word[4];
    hr_rng_block(s->rng, (uint32_t)row, (uint32_t)d, word);
    const double u = ((double)word[0] + 0.5) * 0x1p-32;
    const bool stays = u * (double)w->of_ties-- < (double)w->ties;
    w->ties -= stays;
    return stays;
}

/* The weights of a row that stay; first only counted (no room), then copied. */
static hr_status keep_row(prune_work *w, pruned *s, int64_t row, const void *codes, float scale)
{
    const size_t bytes = s->o->dtype.bytes;
    for (int64_t d = 0; d < hr_head_get_options(w->m->head)->dim; d++) {
        const uint32_t bits = size_bits(s, codes, d, scale);
        if (bits < w->limit || (bits == w->limit && !tie_stays(w, s, row, d)))
            continue;
        if (s->room > 0) {
            memcpy(s->codes + (size_t)s->kept * bytes, (const uint8_t *)codes + (size_t)d * bytes, bytes);
            ((uint16_t *)(void *)s->inputs)[s->kept] = (uint16_t)d;
        }
        s->kept++;
    }
    if (s->room > 0) {
        s->starts[row + 1] = (uint32_t)s->kept;
        if (s->scales)
            s->scales[row] = scale;
    }
    return HR_OK;
}

static hr_status take_room(hr_ctx *ctx, pruned *s)
{
    s->room = s->kept;
    s->kept = 0;
    s->codes = hr_alloc(ctx, HR_MEM_HEAD_WEIGHTS, hr_mul((size_t)s->room, s->o->dtype.bytes));
    s->inputs = hr_alloc(ctx, HR_MEM_HEAD_WEIGHTS, hr_mul((size_t)s->room, sizeof(uint16_t)));
    s->starts = HR_ARRAY0(ctx, HR_MEM_HEAD_WEIGHTS, uint32_t, s->o->rows + 1);
    if (s->o->dtype.id == HR_I8R)
        s->scales = HR_ARRAY(ctx, HR_MEM_HEAD_WEIGHTS, float, s->o->rows);
    return s->codes && s->inputs && s->starts && (s->scales || s->o->dtype.id != HR_I8R) ? HR_OK : HR_ERR_NOMEM;
}

static hr_status keep_largest(prune_work *w, pruned *s, int count)
{
    const int64_t ties = w->ties, of_ties = w->of_ties;
    for (int i = 0; i < count; i++)
        HR_TRY(each_row(w, &s[i], keep_row));
    w->ties = ties;
    w->of_ties = of_ties;
    for (int i = 0; i < count; i++) {
        if (s[i].kept == 0)
            return hr_fail(w->m->ctx, HR_ERR_CONFIG, "prune: no weight of segment %d would stay; raise the density", i);
        if (s[i].kept > UINT32_MAX)
            return hr_fail(w->m->ctx, HR_ERR_CONFIG, "prune: %lld weights of segment %d would stay, expected below 2^32; lower the density",
                           (long long)s[i].kept, i);
        HR_TRY(take_room(w->m->ctx, &s[i]));
        HR_TRY(each_row(w, &s[i], keep_row));
    }
    return HR_OK;
}

static void add(hr_tensor_list *list, const pruned *s, const char *name, hr_tensor_type type, int64_t rows, void *data)
{
    if (!data)
        return;
    hr_tensor *t = &list->item[list->count++];
    *t = (hr_tensor){.type = type, .rows = rows, .cols = 1, .data = data};
    snprintf(t->name, sizeof t->name, "head.%d.%s", s->index, name);
}

/* Everything of the model but the codes of its head, and the new rows instead. */
static void list_tensors(const prune_work *w, const pruned *s, int count, hr_tensor_list *list)
{
    hr_tensor_list all = {0};
    hr_model_tensors(w->m, &all);
    for (int i = 0; i < all.count; i++)
        if (all.item[i].data && !all.item[i].shard_group)
            list->item[list->count++] = all.item[i];
    for (int i = 0; i < count; i++) {
        add(list, &s[i], "codes", hr_tensor_type_of(s[i].o->dtype), s[i].kept, s[i].codes);
        add(list, &s[i], "inputs", HR_T_U16, s[i].kept, s[i].inputs);
        add(list, &s[i], "starts", HR_T_U32, s[i].o->rows + 1, s[i].starts);
        add(list, &s[i], "scales", HR_T_F32, s[i].o->rows, s[i].scales);
    }
}

static hr_status add_extra(hr_ctx *ctx, const char *folder, const char *name, char paths[][HR_PATH_MAX], hr_checkpoint_extra *extra,
                           int *count)
{
    HR_TRY(hr_path_format(ctx, paths[*count], "%s/%s", folder, name));
    if (hr_path_exists(paths[*count])) {
        extra[*count] = (hr_checkpoint_extra){.from = paths[*count], .name = name};
        ++*count;
    }
    return HR_OK;
}

static hr_status write_model(const prune_work *w, const pruned *s, int count, const char *folder, const char *output)
{
    static const char *const more[] = {"label.names.bytes.npy", "label.names.offsets.npy", "config.yaml"};
    char path[EXTRA_MAX][HR_PATH_MAX], key[HR_META_KEY];
    hr_checkpoint_extra extra[EXTRA_MAX];
    hr_tensor_list list = {0};
    hr_meta meta = *hr_checkpoint_meta(w->m->ck);
    int extras = 0;
    for (const char *const *name = hr_text_model_files(); *name; name++)
        HR_TRY(add_extra(w->m->ctx, folder, *name, path, extra, &extras));
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        HR_TRY(add_extra(w->m->ctx, folder, more[i], path, extra, &extras));
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "head.%d.connections", s[i].index);
        hr_meta_set(&meta, key, "%lld", (long long)s[i].kept);
    }
    list_tensors(w, s, count, &list);
    const hr_checkpoint_content content = {.kind = "model", .tensors = &list, .shard_rows = hr_model_shard_rows(w->m), .meta = &meta,
                                           .extra = extra, .num_extra = extras};
    return hr_checkpoint_write(w->m->ctx, output, &content);
}

static hr_status check(const hr_model *m, double density)
{
    const hr_head_options *o = hr_head_get_options(m->head);
    if (!(density > 0 && density <= 1))
        return hr_fail(m->ctx, HR_ERR_CONFIG, "prune: density is %g, expected above 0 and at most 1", density);
    if (o->dim > HR_FAN_IN_MAX)
        return hr_fail(m->ctx, HR_ERR_CONFIG, "prune: the head is %lld wide, at most %d can be pruned", (long long)o->dim, HR_FAN_IN_MAX);
    if (o->arith == HR_ARITH_ELMO)
        return hr_fail(m->ctx, HR_ERR_CONFIG, "prune: the model scores with head.arith=elmo, which sparse rows do not");
    for (int i = 0; i < o->num_segments; i++)
        if (o->segment[i].family != HR_FAMILY_DENSE || o->segment[i].columns > 0 || o->segment[i].first_column > 0)
            return hr_fail(m->ctx, HR_ERR_CONFIG, "prune: segment %d of the head is not dense over the whole width; a dense model is expected",
                           i);
    return HR_OK;
}

static hr_status prune_open(hr_model *m, const char *folder, const char *output, double density, hr_prune_report *report)
{
    HR_TRY(check(m, density));
    const hr_head_options *o = hr_head_get_options(m->head);
    prune_work w = {.m = m};
    pruned s[HR_SEGMENTS_MAX] = {0};
    for (int i = 0; i < o->num_segments; i++)
        s[i] = (pruned){.o = &o->segment[i], .index = i, .rng = hr_rng_make(o->seed, 0, (unsigned)i, HR_STREAM_REWIRE),
                        .unit = ldexpf(hr_head_alpha(m->head, i), -o->segment[i].scale_log2),
                        .pitch = (int64_t)hr_head_segment_shape(m->head, i).pitch};
    const int64_t weights = o->labels * o->dim, wanted = (int64_t)(density * (double)weights);
    w.histogram = HR_ARRAY(m->ctx, HR_MEM_HEAD_SCRATCH, int64_t, BINS);
    hr_status st = w.histogram ? find_limit(&w, s, o->num_segments, wanted > 0 ? wanted : 1) : HR_ERR_NOMEM;
    if (st == HR_OK)
        st = keep_largest(&w, s, o->num_segments);
    if (st == HR_OK)
        st = write_model(&w, s, o->num_segments, folder, output);
    *report = (hr_prune_report){.weights = weights};
    for (int i = 0; i < o->num_segments; i++) {
        report->kept += s[i].kept;
        hr_free(m->ctx, s[i].codes);
        hr_free(m->ctx, s[i].inputs);
        hr_free(m->ctx, s[i].starts);
        hr_free(m->ctx, s[i].scales);
    }
    hr_free(m->ctx, w.histogram);
    return st;
}

hr_status hr_prune_model(hr_ctx *ctx, const char *model, const char *output, double density, hr_prune_report *report)
{
    char folder[HR_PATH_MAX];
    hr_prune_report local;
    hr_model *m;
    HR_TRY(hr_model_folder(ctx, model, folder));
    HR_TRY(hr_model_open(ctx, folder, true, 1, &m));
    hr_status st = prune_open(m, folder, output, density, report ? report : &local);
    hr_model_destroy(m);
    return st;
}
