/* Saved predictions of any system: one line a row, "label:score label:score ...", read in one pass over the
 * mapped file. Lines may be empty, end in CR LF, and list labels in any order; the last one may lack its
 * newline. */
#include "eval/eval.h"

#include "base/file.h"
#include "base/number.h"
#include "eval/ranking.h"

#include <string.h>

typedef struct reader {
    hr_ctx *ctx;
    const char *path;
    const char *at, *line, *end; /* where we are, where the line began, where the file ends */
    int64_t row, rows, labels;
    uint32_t *last_row; /* (L) row + 1 that named the label last */
    hr_ranking *ranking;
} reader;

static long long line_number(const reader *r)
{
    return (long long)r->row + 1;
}

static long long column(const reader *r, const char *at)
{
    return (long long)(at - r->line) + 1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static int shown(size_t length)
{
    return length < 40 ? (int)length : 40;
}

/* One "label:score" of `length` bytes. */
static hr_status read_entry(reader *r, const char *text, size_t length)
{
    int64_t id;
    double score;
    const char *colon = memchr(text, ':', length);
    size_t before = colon ? (size_t)(colon - text) : 0;
    if (!colon || !hr_parse_int(text, before, &id) ||
        !hr_parse_number(colon + 1, length - before - 1, &score))
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: line %lld, column %lld: found '%.*s', expected label:score such as 17:0.25",
                       r->path, line_number(r), column(r, text), shown(length), text);
    if (id < 0 || id >= r->labels)
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: line %lld, column %lld: label %lld, the data set has labels 0 to %lld", r->path,
                       line_number(r), column(r, text), (long long)id, (long long)r->labels - 1);
    if (r->last_row[id] == (uint32_t)(r->row + 1))
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: line %lld, column %lld: label %lld a second time in this line", r->path,
                       line_number(r), column(r, text), (long long)id);
    r->last_row[id] = (uint32_t)(r->row + 1);
    hr_ranking_offer(r->ranking, (uint32_t)id, score);
    return HR_OK;
}

static hr_status read_line(reader *r)
{
    r->line = r->at;
    hr_ranking_begin(r->ranking, r->row);
    while (r->at < r->end && *r->at != '\n') {
        if (is_blank(*r->at)) {
            r->at++;
            continue;
        }
        const char *start = r->at;
        while (r->at < r->end && *r->at != '\n' && !is_blank(*r->at))
            r->at++;
        HR_TRY(read_entry(r, start, (size_t)(r->at - start)));
    }
    if (r->at < r->end)
        r->at++;
    return hr_ranking_end(r->ranking);
}

static hr_status read_lines(reader *r, const hr_dataset *dataset, hr_split split)
{
    for (r->row = 0; r->at < r->end; r->row++) {
        if (r->row == r->rows)
            return hr_fail(r->ctx, HR_ERR_DATA,
                           "%s: more than %lld lines, but the %s split of %s has %lld rows", r->path,
                           (long long)r->rows, hr_split_name(split), dataset->name, (long long)r->rows);
        HR_TRY(read_line(r));
        if (r->row % 4096 == 0 && hr_ctx_interrupted(r->ctx))
            return hr_fail(r->ctx, HR_INTERRUPTED, "%s: interrupted at line %lld", r->path, line_number(r));
    }
    if (r->row < r->rows)
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: %lld lines, but the %s split of %s has %lld rows; one line a row is expected",
                       r->path, (long long)r->row, hr_split_name(split), dataset->name, (long long)r->rows);
    return HR_OK;
}

static hr_status read_map(reader *r, const hr_map *map, const hr_dataset *dataset, hr_split split)
{
    r->at = r->line = (const char *)map->data;
    r->end = r->at ? r->at + map->size : NULL;
    r->labels = dataset->labels;
    r->rows = hr_ranking_rows(r->ranking);
    r->last_row = HR_ARRAY0(r->ctx, HR_MEM_EVAL, uint32_t, dataset->labels);
    if (!r->last_row)
        return HR_ERR_NOMEM;
    hr_status st = read_lines(r, dataset, split);
    hr_free(r->ctx, r->last_row);
    return st;
}

hr_status hr_eval_predictions(hr_ctx *ctx, const char *predictions, const hr_dataset *dataset,
                              const hr_eval_options *options, hr_metrics *out)
{
    hr_map map;
    reader r = {.ctx = ctx, .path = predictions};
    HR_TRY(hr_map_open(ctx, predictions, &map));
    hr_status st = hr_ranking_create(ctx, dataset, options, &r.ranking);
    if (st == HR_OK)
        st = read_map(&r, &map, dataset, options->split);
    if (st == HR_OK)
        st = hr_ranking_finish(r.ranking, out);
    hr_ranking_destroy(r.ranking);
    hr_map_close(&map);
    return st;
}

hr_status hr_eval_file(hr_ctx *ctx, const char *predictions, const char *dataset,
                       const hr_eval_options *options, hr_metrics *out)
{
    hr_dataset *data;
    const hr_eval_options o = options ? *options : hr_eval_options_default();
    HR_TRY(hr_dataset_open(ctx, dataset, &data));
    hr_status st = hr_eval_predictions(ctx, predictions, data, &o, out);
    hr_dataset_close(data);
    return st;
}
