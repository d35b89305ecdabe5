/* The auxiliary head's life, from its groups to its end. */
#include "trainer/auxiliary.h"

#include "base/sort.h"

#include <math.h>

hr_auxiliary hr_auxiliary_make(const hr_config *config, int64_t steps)
{
    hr_auxiliary aux = {.weight = hr_config_number(config, "aux.weight"), .lr = (float)hr_config_number(config, "aux.lr")};
    const double share = hr_config_number(config, "aux.until");
    const int64_t until = llround(share * (double)steps);
    if (aux.weight > 0 && share > 0)
        aux.until = until > 0 ? until : 1;
    return aux;
}

double hr_auxiliary_weight(const hr_auxiliary *aux, int64_t step)
{
    const double pi = 3.14159265358979323846;
    return step < aux->until ? aux->weight * 0.5 * (1 + cos(pi * (double)step / (double)aux->until)) : 0;
}

/* ---- memory ---- */

/* Grouping may take as much as the weights that come after it, or 64 MiB. */
static size_t grouping_bound(const hr_model_spec *spec)
{
    size_t bytes[HR_MEM_KINDS] = {0};
    hr_head_memory(&spec->head, 1, bytes);
    return bytes[HR_MEM_HEAD_WEIGHTS] > 64 << 20 ? bytes[HR_MEM_HEAD_WEIGHTS] : 64 << 20;
}

static int64_t most_positives(const hr_instances *in, const hr_model_spec *spec)
{
    return spec->head.max_batch * in->max_labels;
}

static int64_t dx_size(const hr_model_spec *spec)
{
    return spec->head.max_batch * spec->head.dim;
}

hr_status hr_auxiliary_memory(const hr_config *config, const hr_instances *in, int threads, hr_model_spec *spec,
                              size_t bytes[HR_MEM_KINDS])
{
    const hr_dataset *ds = in->dataset;
    int64_t groups;
    hr_head_options o;
    if (hr_auxiliary_make(config, 1).until == 0)
        return HR_OK;
    HR_TRY(hr_groups_count(config, ds, &groups));
    HR_TRY(hr_model_aux_options(config, spec, groups, in->mean_positives, &o));
    HR_TRY(hr_head_check(hr_config_ctx(config), &o));
    hr_head_memory(&o, threads, bytes);
    bytes[HR_MEM_HEAD_STATE] = hr_add(bytes[HR_MEM_HEAD_STATE], hr_mul((size_t)ds->labels, sizeof(uint32_t)));
    bytes[HR_MEM_BATCH] = hr_add(bytes[HR_MEM_BATCH], hr_mul((size_t)most_positives(in, spec), sizeof(uint64_t)));
    bytes[HR_MEM_BATCH] = hr_add(bytes[HR_MEM_BATCH], hr_mul((size_t)dx_size(spec), sizeof(float)));
    const size_t grouping = hr_groups_memory(config, ds, grouping_bound(spec));
    spec->grouping_bytes = spec->grouping_bytes > grouping ? spec->grouping_bytes : grouping;
    return HR_OK;
}

hr_status hr_auxiliary_group(const hr_config *config, const hr_dataset *ds, const hr_model_spec *spec, hr_auxiliary *aux)
{
    aux->labels = ds->labels;
    return hr_groups_make(config, ds, grouping_bound(spec), &aux->group, &aux->groups);
}

hr_status hr_auxiliary_create(const hr_config *config, const hr_instances *in, const hr_model_spec *spec, hr_auxiliary *aux)
{
    hr_ctx *ctx = hr_config_ctx(config);
    hr_head_options o;
    HR_TRY(hr_model_aux_options(config, spec, aux->groups, in->mean_positives, &o));
    aux->positives = HR_ARRAY(ctx, HR_MEM_BATCH, uint64_t, most_positives(in, spec));
    aux->dx = HR_ARRAY(ctx, HR_MEM_BATCH, float, dx_size(spec));
    return aux->positives && aux->dx ? hr_head_create(ctx, &o, &aux->head) : HR_ERR_NOMEM;
}

void hr_auxiliary_release(hr_ctx *ctx, hr_auxiliary *aux)
{
    hr_head_destroy(aux->head);
    hr_free(ctx, aux->group);
    hr_free(ctx, aux->positives);
    hr_free(ctx, aux->dx);
    *aux = (hr_auxiliary){.weight = aux->weight, .lr = aux->lr, .until = aux->until};
}

/* ---- a step ---- */

void hr_auxiliary_targets(hr_auxiliary *aux, const hr_batch *batch, const uint32_t *external)
{
    uint64_t *key = aux->positives;
    int64_t n = 0;
    for (int64_t i = 0; i < batch->num_positives; i++) {
        const uint32_t group = aux->group[external[batch->positives[i] >> 32]];
        if (group != HR_NO_GROUP)
            key[n++] = batch->positives[i] << 32 | group;
    }
    /* by batch row, then by group, each time keeping the order of equals */
    hr_sort_high(key, batch->scratch, n, (uint32_t)(batch->rows - 1));
    for (int64_t i = 0; i < n; i++)
        key[i] = key[i] << 32 | key[i] >> 32;
    hr_sort_high(key, batch->scratch, n, (uint32_t)(aux->groups - 1));
    aux->num_positives = 0;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || key[i] != key[i - 1])
            key[aux->num_positives++] = key[i];
}

/* ---- state ---- */

void hr_auxiliary_tensors(const hr_auxiliary *aux, hr_tensor_list *list)
{
    const int first = list->count;
    if (!aux->head)
        return;
    hr_head_tensors(aux->head, list);
    list->item[list->count++] = (hr_tensor){.name = "aux.groups", .type = HR_T_U32, .rows = aux->labels, .cols = 1, .data = aux->group};
    for (int i = first; i < list->count; i++) {
        list->item[i].shard_group = 0; /* groups are no labels */
        list->item[i].state = true;
    }
}

void hr_auxiliary_meta(const hr_auxiliary *aux, hr_meta *meta)
{
    if (!aux->head)
        return;
    hr_meta_set(meta, "aux.0.rows", "%lld", (long long)aux->groups);
    hr_meta_set(meta, "aux.blocks", "%lld", (long long)hr_head_blocks(aux->head));
    hr_meta_set_number(meta, "aux.0.alpha", (double)hr_head_alpha(aux->head, 0));
}

/* Blocks are the units of summation (hr_model_load). */
static hr_status check_blocks(hr_ctx *ctx, const hr_checkpoint *ck, const hr_auxiliary *aux)
{
    int64_t blocks;
    HR_TRY(hr_checkpoint_int(ck, "aux.blocks", 1, INT64_MAX, &blocks));
    if (blocks == hr_head_blocks(aux->head))
        return HR_OK;
    return hr_fail(ctx, HR_ERR_DATA, "the checkpoint cuts the groups of labels into %lld blocks, this build into %lld: it cannot go on with "
                   "the same bits", (long long)blocks, (long long)hr_head_blocks(aux->head));
}

static hr_status check_groups(hr_ctx *ctx, const hr_auxiliary *aux)
{
    for (int64_t l = 0; l < aux->labels; l++)
        if (aux->group[l] >= aux->groups && aux->group[l] != HR_NO_GROUP)
            return hr_fail(ctx, HR_ERR_DATA, "tensor \"aux.groups\": entry %lld is %lld, expected less than %lld", (long long)l,
                           (long long)aux->group[l], (long long)aux->groups);
    return HR_OK;
}

static hr_status load_state(hr_ctx *ctx, hr_checkpoint *ck, hr_auxiliary *aux)
{
    hr_tensor_list list = {0};
    double alpha;
    HR_TRY(check_blocks(ctx, ck, aux));
    hr_auxiliary_tensors(aux, &list);
    for (int i = 0; i < list.count; i++)
        HR_TRY(hr_checkpoint_load(ck, &list.item[i]));
    HR_TRY(check_groups(ctx, aux));
    HR_TRY(hr_checkpoint_number(ck, "aux.0.alpha", &alpha));
    if (!(alpha > 0x1p-10 && alpha <= 1))
        return hr_fail(ctx, HR_ERR_DATA, "the checkpoint's \"aux.0.alpha\" is %g, expected above 0 and at most 1", alpha);
    hr_head_set_alpha(aux->head, 0, (float)alpha);
    return HR_OK;
}

hr_status hr_auxiliary_load(const hr_config *config, const hr_instances *in, const hr_model_spec *spec, hr_checkpoint *ck, int64_t step,
                            hr_auxiliary *aux)
{
    hr_ctx *ctx = hr_config_ctx(config);
    hr_auxiliary_release(ctx, aux);
    if (step >= aux->until)
        return HR_OK;
    HR_TRY(hr_checkpoint_int(ck, "aux.0.rows", 1, in->dataset->labels, &aux->groups));
    aux->labels = in->dataset->labels;
    aux->group = HR_ARRAY(ctx, HR_MEM_HEAD_STATE, uint32_t, aux->labels);
    if (!aux->group)
        return HR_ERR_NOMEM;
    HR_TRY(hr_auxiliary_create(config, in, spec, aux));
    return load_state(ctx, ck, aux);
}
