/* The table of groups. */
#include "trainer/groups.h"

#include "dataset/input.h"
#include "model/cluster.h"

#include <string.h>

/* ---- clusters ---- */

static int64_t count_clusters(const hr_config *config, const hr_dataset *ds)
{
    return (ds->labels - 1) / hr_config_int(config, "aux.group") + 1;
}

/* `most` bytes, or as many as the narrowest vectors need. */
static hr_cluster_options cluster_options(const hr_config *config, const hr_dataset *ds, size_t most)
{
    hr_cluster_options o = hr_cluster_options_default();
    o.size = hr_config_int(config, "aux.group");
    o.seed = (uint64_t)hr_config_int(config, "seed");
    o.max_bytes = 1;
    const size_t least = hr_cluster_memory(ds, &o, ds->labels);
    o.max_bytes = most > least ? most : least;
    return o;
}

static hr_status cluster(const hr_config *config, const hr_dataset *ds, size_t most, const uint32_t *label, uint32_t *order,
                         uint32_t **group)
{
    hr_ctx *ctx = hr_config_ctx(config);
    const hr_cluster_options o = cluster_options(config, ds, most);
    HR_TRY(hr_cluster_labels(ctx, ds, &o, label, ds->labels, order));
    *group = HR_ARRAY(ctx, HR_MEM_HEAD_STATE, uint32_t, ds->labels);
    if (!*group)
        return HR_ERR_NOMEM;
    for (int64_t i = 0; i < ds->labels; i++)
        (*group)[order[i]] = (uint32_t)(i / o.size);
    return HR_OK;
}

static hr_status make_clusters(const hr_config *config, const hr_dataset *ds, size_t most, uint32_t **group, int64_t *groups)
{
    hr_ctx *ctx = hr_config_ctx(config);
    uint32_t *label = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, ds->labels);
    uint32_t *order = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, ds->labels);
    *groups = count_clusters(config, ds);
    for (int64_t l = 0; label && l < ds->labels; l++)
        label[l] = (uint32_t)l;
    const hr_status st = label && order ? cluster(config, ds, most, label, order, group) : HR_ERR_NOMEM;
    hr_free(ctx, label);
    hr_free(ctx, order);
    return st;
}

/* ---- a file ---- */

typedef struct reader {
    hr_map map;
    hr_input in;      /* its current line lies in the mapping */
    const char *next; /* of the lines; NULL at the end */
} reader;

static hr_status open_file(hr_ctx *ctx, const char *path, reader *r)
{
    *r = (reader){.in = {.ctx = ctx}};
    HR_TRY(hr_path_format(ctx, r->in.path, "%s", path));
    HR_TRY(hr_map_open(ctx, path, &r->map));
    r->next = (const char *)r->map.data;
    return HR_OK;
}

/* To the next line that is not blank, and there to its first id. */
static bool next_group(reader *r)
{
    const char *end = (const char *)r->map.data + r->map.size;
    while (r->next && r->next < end) {
        hr_input *in = &r->in;
        const char *newline = memchr(r->next, '\n', (size_t)(end - r->next));
        in->line = in->at = r->next;
        in->stop = newline ? newline : end;
        in->number++;
        r->next = newline ? newline + 1 : NULL;
        if (in->stop > in->line && in->stop[-1] == '\r')
            in->stop--;
        hr_input_blanks(in);
        if (!hr_input_done(in))
            return true;
    }
    return false;
}

/* Blanks, or a comma among them; then another id must come. */
static hr_status next_id(hr_input *in, int64_t labels, bool *more)
{
    hr_input_blanks(in);
    if (!hr_input_done(in) && *in->at == ',') {
        in->at++;
        hr_input_blanks(in);
    } else if (hr_input_done(in)) {
        *more = false;
        return HR_OK;
    }
    *more = true;
    return hr_input_done(in) ? hr_input_fail(in, in->at, "found the end of the line after a comma, expected a label id below %lld",
                                             (long long)labels)
                             : HR_OK;
}

static hr_status read_group(hr_input *in, int64_t labels, uint32_t number, uint32_t *group)
{
    for (bool more = true; more;) {
        int64_t label;
        const char *at = in->at;
        HR_TRY(hr_input_count(in, "label id", labels, &label));
        if (group[label] != HR_NO_GROUP)
            return hr_fail(in->ctx, HR_ERR_DATA, "%s:%lld:%lld: label %lld is in group %lld already (counted from 1), expected every label "
                           "at most once", in->path, (long long)in->number, (long long)(at - in->line) + 1, (long long)label,
                           (long long)group[label] + 1);
        group[label] = number;
        HR_TRY(next_id(in, labels, &more));
    }
    return HR_OK;
}

static hr_status no_groups(const reader *r)
{
    return hr_fail(r->in.ctx, HR_ERR_DATA, "%s: found no groups, expected one a line: label ids with blanks or commas between them", r->in.path);
}

static hr_status read_groups(reader *r, int64_t labels, uint32_t *group, int64_t *groups)
{
    int64_t grouped = 0;
    for (*groups = 0; next_group(r); ++*groups)
        HR_TRY(read_group(&r->in, labels, (uint32_t)*groups, group));
    if (*groups == 0)
        return no_groups(r);
    for (int64_t l = 0; l < labels; l++)
        grouped += group[l] != HR_NO_GROUP;
    hr_log(r->in.ctx, HR_LOG_INFO, "%s: %lld groups of %lld labels; %lld labels are in none", r->in.path, (long long)*groups,
           (long long)grouped, (long long)(labels - grouped));
    return HR_OK;
}

static hr_status make_from_file(const hr_config *config, const hr_dataset *ds, uint32_t **group, int64_t *groups)
{
    hr_ctx *ctx = hr_config_ctx(config);
    reader r;
    HR_TRY(open_file(ctx, hr_config_text(config, "aux.groups"), &r));
    *group = HR_ARRAY(ctx, HR_MEM_HEAD_STATE, uint32_t, ds->labels);
    for (int64_t l = 0; *group && l < ds->labels; l++)
        (*group)[l] = HR_NO_GROUP;
    const hr_status st = *group ? read_groups(&r, ds->labels, *group, groups) : HR_ERR_NOMEM;
    hr_map_close(&r.map);
    return st;
}

/* ---- both ---- */

static bool from_file(const hr_config *config)
{
    return *hr_config_text(config, "aux.groups") != 0;
}

hr_status hr_groups_count(const hr_config *config, const hr_dataset *ds, int64_t *groups)
{
    reader r;
    *groups = count_clusters(config, ds);
    if (!from_file(config))
        return HR_OK;
    HR_TRY(open_file(hr_config_ctx(config), hr_config_text(config, "aux.groups"), &r));
    for (*groups = 0; *groups < ds->labels && next_group(&r);)
        ++*groups;
    hr_map_close(&r.map);
    return *groups > 0 ? HR_OK : no_groups(&r);
}

size_t hr_groups_memory(const hr_config *config, const hr_dataset *ds, size_t most)
{
    const hr_cluster_options o = cluster_options(config, ds, most);
    return from_file(config) ? 0 : hr_cluster_memory(ds, &o, ds->labels);
}

hr_status hr_groups_make(const hr_config *config, const hr_dataset *ds, size_t most, uint32_t **group, int64_t *groups)
{
    *group = NULL;
    const hr_status st = from_file(config) ? make_from_file(config, ds, group, groups) : make_clusters(config, ds, most, group, groups);
    if (st != HR_OK) {
        hr_free(hr_config_ctx(config), *group);
        *group = NULL;
    }
    return st;
}
