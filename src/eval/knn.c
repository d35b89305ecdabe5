/* The inverted index: built by counting sort, values divided by the length of their row, so that the sum of
 * products over a query's features is the cosine times the length of the query. Sums run in the order of the
 * query's features, in single precision: the same bits for any number of threads. */
#include "eval/knn.h"

#include <math.h>

/* What one thread needs for one search. */
typedef struct search {
    float *sum;            /* (N) zero between searches */
    uint32_t *touched;     /* (N) rows with a sum */
    hr_candidate *nearest; /* (neighbours) */
} search;

struct hr_knn {
    hr_ctx *ctx;
    int64_t rows, features;
    int64_t *start; /* (F + 1) */
    uint32_t *row;  /* (nnz) */
    float *value;   /* (nnz) */
    int workers, neighbours;
    search *search; /* (workers) */
};

static float csr_value(const hr_csr *m, int64_t i)
{
    return m->values ? m->values[i] : 1.0f;
}

/* Euclidean length of a row. */
static double row_length(const hr_csr *m, int64_t row)
{
    double sum = 0;
    for (int64_t i = m->indptr[row]; i < m->indptr[row + 1]; i++)
        sum += (double)csr_value(m, i) * csr_value(m, i);
    return sqrt(sum);
}

/* Counting sort by feature; rows stay in ascending order within a feature. */
static void fill_index(hr_knn *knn, const hr_csr *m)
{
    for (int64_t i = 0; i < hr_csr_nnz(m); i++)
        knn->start[m->indices[i] + 1]++;
    for (int64_t f = 0; f < knn->features; f++)
        knn->start[f + 1] += knn->start[f];
    for (int64_t r = 0; r < m->rows; r++) {
        double length = row_length(m, r);
        double scale = length > 0 ? 1 / length : 0;
        for (int64_t i = m->indptr[r]; i < m->indptr[r + 1]; i++) {
            int64_t at = knn->start[m->indices[i]]++;
            knn->row[at] = (uint32_t)r;
            knn->value[at] = (float)(csr_value(m, i) * scale);
        }
    }
    // each start has moved to the start of the next feature: move them back
    for (int64_t f = knn->features; f > 0; f--)
        knn->start[f] = knn->start[f - 1];
    knn->start[0] = 0;
}

static hr_status build(hr_knn *knn, const hr_csr *m)
{
    hr_ctx *ctx = knn->ctx;
    knn->start = HR_ARRAY0(ctx, HR_MEM_EVAL, int64_t, knn->features + 1);
    knn->row = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, hr_csr_nnz(m));
    knn->value = HR_ARRAY(ctx, HR_MEM_EVAL, float, hr_csr_nnz(m));
    knn->search = HR_ARRAY0(ctx, HR_MEM_EVAL, search, knn->workers);
    if (!knn->start || !knn->row || !knn->value || !knn->search)
        return HR_ERR_NOMEM;
    for (int w = 0; w < knn->workers; w++) {
        search *s = &knn->search[w];
        s->sum = HR_ARRAY0(ctx, HR_MEM_EVAL, float, knn->rows);
        s->touched = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, knn->rows);
        s->nearest = HR_ARRAY(ctx, HR_MEM_EVAL, hr_candidate, knn->neighbours);
        if (!s->sum || !s->touched || !s->nearest)
            return HR_ERR_NOMEM;
    }
    fill_index(knn, m);
    return HR_OK;
}

hr_status hr_knn_create(hr_ctx *ctx, const hr_csr *rows, int workers, int neighbours, hr_knn **out)
{
    *out = NULL;
    hr_knn *knn = HR_NEW(ctx, HR_MEM_EVAL, hr_knn);
    if (!knn)
        return HR_ERR_NOMEM;
    *knn = (hr_knn){
        .ctx = ctx, .rows = rows->rows, .features = rows->cols, .workers = workers, .neighbours = neighbours};
    hr_status st = build(knn, rows);
    if (st != HR_OK) {
        hr_knn_destroy(knn);
        return st;
    }
    *out = knn;
    return HR_OK;
}

void hr_knn_destroy(hr_knn *knn)
{
    if (!knn)
        return;
    hr_ctx *ctx = knn->ctx;
    for (int w = 0; knn->search && w < knn->workers; w++) {
        hr_free(ctx, knn->search[w].sum);
        hr_free(ctx, knn->search[w].touched);
        hr_free(ctx, knn->search[w].nearest);
    }
    hr_free(ctx, knn->search);
    hr_free(ctx, knn->start);
    hr_free(ctx, knn->row);
    hr_free(ctx, knn->value);
    hr_free(ctx, knn);
}

/* Adds `value` times the list of `feature` to the sums; returns the new number of touched rows.
 * A sum that comes back to zero by cancellation would be listed twice, so it is set to the smallest number.
 */
static int64_t add_list(const hr_knn *knn, search *s, uint32_t feature, float value, int64_t touched)
{
    for (int64_t i = knn->start[feature]; i < knn->start[feature + 1]; i++) {
        uint32_t r = knn->row[i];
        float old = s->sum[r], sum = old + value * knn->value[i];
        if (old == 0)
            s->touched[touched++] = r;
        s->sum[r] = sum == 0 ? 0x1p-149f : sum;
    }
    return touched;
}

int hr_knn_search(hr_knn *knn, int worker, const hr_csr *queries, int64_t row, int64_t except,
                  const hr_candidate **found)
{
    search *s = &knn->search[worker];
    hr_topk top;
    hr_topk_init(&top, s->nearest, knn->neighbours);
    *found = s->nearest;

    double length = row_length(queries, row);
    int64_t touched = 0;
    for (int64_t i = queries->indptr[row]; i < queries->indptr[row + 1]; i++)
        touched = add_list(knn, s, queries->indices[i], csr_value(queries, i), touched);
    for (int64_t i = 0; i < touched; i++) {
        uint32_t r = s->touched[i];
        double cosine = length > 0 ? s->sum[r] / length : 0; /* all values may be 0 */
        s->sum[r] = 0;
        if (cosine > 1e-30 && r != except)
            hr_topk_offer(&top, r, cosine);
    }
    hr_topk_sort(&top);
    return top.n;
}
