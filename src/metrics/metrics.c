/* Ranking metrics of extreme classification; docs/metrics.md has the formulae.
 *
 * The meter keeps sums over rows, two bytes for each label (its frequency decile, and what the rows have
 * shown of it so far) and nothing for each row. Propensities are computed where they are needed: once for
 * each true label of a row. Rankings come in finished: this room knows no scores and no filter pairs.
 *
 * Sources: Jain, Prabhu & Varma, KDD 2016 (propensities); pyxclib (what is divided by what). */
#include "metrics/metrics.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define MAX_K 100
#define NEVER HR_METRIC_KS /* no row has got this label right yet */

static const int metric_k[HR_METRIC_KS] = {1, 3, 5, 10, 100};

/* What is summed over rows, for each k. */
typedef struct sums {
    int64_t hits;
    double ndcg, ps, ps_ideal, psndcg, psndcg_ideal, recall;
} sums;

struct hr_meter {
    hr_ctx *ctx;
    hr_meter_options options;
    double propensity_c;
    double discount[MAX_K];      /* 1 / log2(rank + 1), rank from 1 */
    double ideal_dcg[MAX_K + 1]; /* [n]: sum of the first n discounts */
    int ks;                      /* values of k that fit into top_k */
    int64_t labels_counted, rows;
    sums sum[HR_METRIC_KS];
    double reciprocal_rank;
    int64_t decile_labels[HR_DECILES], decile_pairs[HR_DECILES], decile_hits[HR_DECILES][HR_METRIC_KS];
    uint8_t *decile; /* (L) */
    uint8_t *seen;   /* (L) bit 7: is a true label of some row; below: first index of k that got it right */
};

static bool counts(const hr_meter *meter, uint32_t label)
{
    return !meter->options.counted || meter->options.counted[label];
}

/* ---- creation ---- */

static uint32_t highest_frequency(const hr_meter_options *options)
{
    uint32_t highest = 0;
    for (int64_t l = 0; l < options->labels; l++)
        highest = options->frequency[l] > highest ? options->frequency[l] : highest;
    return highest;
}

static size_t histogram_size(const hr_meter_options *options)
{
    return hr_add(highest_frequency(options), 1);
}

size_t hr_meter_memory(const hr_meter_options *options)
{
    size_t labels = hr_mul((size_t)options->labels, 2);
    return hr_add(hr_add(sizeof(hr_meter), labels), hr_mul(histogram_size(options), sizeof(uint32_t)));
}

static hr_status check_options(hr_ctx *ctx, const hr_meter_options *o)
{
    if (o->labels < 1)
        return hr_fail(ctx, HR_ERR_USAGE, "metrics: %lld labels given, at least 1 is needed",
                       (long long)o->labels);
    if (o->top_k < 1 || o->top_k > MAX_K)
        return hr_fail(ctx, HR_ERR_USAGE, "metrics: top_k is %d, it must be 1 to %d", o->top_k, MAX_K);
    if (!(o->propensity_a >= 0) || !(o->propensity_b > 0) || isinf(o->propensity_a) || isinf(o->propensity_b))
        return hr_fail(ctx, HR_ERR_USAGE,
                       "metrics: propensity constants A = %g, B = %g; A must be at least 0 and B above 0",
                       o->propensity_a, o->propensity_b);
    return HR_OK;
}

/* Deciles: counted labels with training rows, most frequent first (equal ones by id), in ten groups of equal
 * size. The rank of a label is the number of more frequent ones plus the equal ones before it, so a histogram
 * of frequencies is enough and nothing is sorted. Labels never seen in training join the last group. */
static void assign_deciles(hr_meter *meter, uint32_t *histogram)
{
    const hr_meter_options *o = &meter->options;
    size_t bins = histogram_size(o);
    uint64_t trained = 0;
    for (int64_t l = 0; l < o->labels; l++) {
        if (counts(meter, (uint32_t)l) && o->frequency[l] > 0) {
            histogram[o->frequency[l]]++;
            trained++;
        }
    }
    // histogram[f] becomes the number of labels with a frequency above f
    uint32_t above = 0;
    for (size_t f = bins; f-- > 0;) {
        uint32_t here = histogram[f];
        histogram[f] = above;
        above += here;
    }
    for (int64_t l = 0; l < o->labels; l++) {
        if (!counts(meter, (uint32_t)l))
            continue;
        uint64_t group = HR_DECILES - 1;
        if (o->frequency[l] > 0)
            group = (uint64_t)histogram[o->frequency[l]]++ * HR_DECILES / trained;
        meter->decile[l] = (uint8_t)group;
        meter->decile_labels[group]++;
        meter->labels_counted++;
    }
}

/* C of Jain et al.; with fewer than three training rows ln N - 1 is negative and every weight is 1 instead.
 */
static double propensity_constant(const hr_meter_options *o)
{
    if (o->train_rows < 3)
        return 0;
    return (log((double)o->train_rows) - 1) * pow(o->propensity_b + 1, o->propensity_a);
}

static hr_status build(hr_meter *meter)
{
    const hr_meter_options *o = &meter->options;
    meter->decile = HR_ARRAY0(meter->ctx, HR_MEM_EVAL, uint8_t, o->labels);
    meter->seen = HR_ARRAY0(meter->ctx, HR_MEM_EVAL, uint8_t, o->labels);
    uint32_t *histogram = HR_ARRAY0(meter->ctx, HR_MEM_EVAL, uint32_t, histogram_size(o));
    if (!meter->decile || !meter->seen || !histogram) {
        hr_free(meter->ctx, histogram);
        return HR_ERR_NOMEM;
    }
    assign_deciles(meter, histogram);
    hr_free(meter->ctx, histogram);

    meter->propensity_c = propensity_constant(o);
    for (int r = 0; r < MAX_K; r++) {
        meter->discount[r] = 1 / log2(r + 2);
        meter->ideal_dcg[r + 1] = meter->ideal_dcg[r] + meter->discount[r];
    }
    while (meter->ks < HR_METRIC_KS && metric_k[meter->ks] <= o->top_k)
        meter->ks++;
    hr_meter_reset(meter);
    return HR_OK;
}

hr_status hr_meter_create(hr_ctx *ctx, const hr_meter_options *options, hr_meter **out)
{
    *out = NULL;
    HR_TRY(check_options(ctx, options));
    hr_meter *meter = HR_NEW(ctx, HR_MEM_EVAL, hr_meter);
    if (!meter)
        return HR_ERR_NOMEM;
    meter->ctx = ctx;
    meter->options = *options;
    hr_status st = build(meter);
    if (st != HR_OK) {
        hr_meter_destroy(meter);
        return st;
    }
    *out = meter;
    return HR_OK;
}

void hr_meter_destroy(hr_meter *meter)
{
    if (!meter)
        return;
    hr_ctx *ctx = meter->ctx;
    hr_free(ctx, meter->decile);
    hr_free(ctx, meter->seen);
    hr_free(ctx, meter);
}

void hr_meter_reset(hr_meter *meter)
{
    meter->rows = 0;
    meter->reciprocal_rank = 0;
    memset(meter->sum, 0, sizeof meter->sum);
    memset(meter->decile_pairs, 0, sizeof meter->decile_pairs);
    memset(meter->decile_hits, 0, sizeof meter->decile_hits);
    memset(meter->seen, NEVER, (size_t)meter->options.labels);
}

/* ---- one row ---- */

/* Inverse propensity of a label. */
static double weight(const hr_meter *meter, uint32_t label)
{
    const hr_meter_options *o = &meter->options;
    return 1 + meter->propensity_c * pow(o->frequency[label] + o->propensity_b, -o->propensity_a);
}

static bool contains(const uint32_t *sorted, int64_t n, uint32_t label)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (sorted[middle] < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && sorted[low] == label;
}

/* Notes each true label; returns how many count and leaves the `limit` largest weights in `best`, in order.
 */
static int64_t read_truth(hr_meter *meter, const uint32_t *truth, int64_t num_truth, int limit, double *best)
{
    int64_t positives = 0;
    int kept = 0;
    for (int64_t i = 0; i < num_truth; i++) {
        uint32_t label = truth[i];
        assert(label < meter->options.labels);
        if (!counts(meter, label))
            continue;
        positives++;
        meter->seen[label] |= 0x80;
        meter->decile_pairs[meter->decile[label]]++;

        // insertion into a short sorted list
        double w = weight(meter, label);
        if (kept == limit && w <= best[limit - 1])
            continue;
        int at = kept < limit ? kept++ : limit - 1;
        for (; at > 0 && best[at - 1] < w; at--)
            best[at] = best[at - 1];
        best[at] = w;
    }
    return positives;
}

/* The label at `rank` (from 0) is right: it counts for each k above the rank. */
static void note_hit(hr_meter *meter, uint32_t label, int rank)
{
    int first = 0;
    while (first < meter->ks && metric_k[first] <= rank)
        first++;
    for (int i = first; i < meter->ks; i++)
        meter->decile_hits[meter->decile[label]][i]++;
    if ((meter->seen[label] & 0x7f) > first)
        meter->seen[label] = (uint8_t)((meter->seen[label] & 0x80) | first);
}

void hr_meter_add(hr_meter *meter, const uint32_t *ranked, int n, const uint32_t *truth, int64_t num_truth)
{
    assert(n >= 0 && n <= meter->options.top_k);
    double best[MAX_K] = {0};
    int64_t positives = read_truth(meter, truth, num_truth, meter->options.top_k, best);
    meter->rows++;
    if (positives == 0)
        return;

    // running sums over ranks; at rank k - 1 they are added to the sums of that k
    int hits = 0;
    double dcg = 0, ps = 0, psdcg = 0, ps_ideal = 0, psdcg_ideal = 0;
    bool found = false;
    for (int rank = 0, i = 0; rank < meter->options.top_k; rank++) {
        double discount = meter->discount[rank];
        if (rank < n && counts(meter, ranked[rank]) && contains(truth, num_truth, ranked[rank])) {
            double w = weight(meter, ranked[rank]);
            hits++;
            dcg += discount;
            ps += w;
            psdcg += w * discount;
            note_hit(meter, ranked[rank], rank);
            if (!found)
                meter->reciprocal_rank += 1.0 / (rank + 1);
            found = true;
        }
        ps_ideal += best[rank];
        psdcg_ideal += best[rank] * discount;
        if (i == meter->ks || rank + 1 < metric_k[i])
            continue;
        int k = metric_k[i];
        double ideal = meter->ideal_dcg[positives < k ? positives : k];
        sums *sum = &meter->sum[i++];
        sum->hits += hits;
        sum->ndcg += dcg / ideal;
        sum->ps += ps;
        sum->ps_ideal += ps_ideal;
        sum->psndcg += psdcg / ideal;
        sum->psndcg_ideal += psdcg_ideal / ideal;
        sum->recall += hits / (double)positives;
    }
}

/* ---- reading ---- */

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void read_coverage(const hr_meter *meter, hr_metrics *out)
{
    int64_t present = 0, right[HR_METRIC_KS] = {0};
    for (int64_t l = 0; l < meter->options.labels; l++) {
        if (!(meter->seen[l] & 0x80))
            continue;
        present++;
        for (int i = meter->seen[l] & 0x7f; i < meter->ks; i++)
            right[i]++;
    }
    for (int i = 0; i < meter->ks; i++)
        out->coverage[i] = ratio((double)right[i], (double)present);
}

void hr_meter_read(const hr_meter *meter, hr_metrics *out)
{
    memset(out, 0, sizeof *out);
    double rows = (double)meter->rows;
    out->rows = meter->rows;
    out->labels_counted = meter->labels_counted;
    out->propensity_a = meter->options.propensity_a;
    out->propensity_b = meter->options.propensity_b;
    out->mrr = ratio(meter->reciprocal_rank, rows);
    for (int i = 0; i < meter->ks; i++) {
        const sums *sum = &meter->sum[i];
        out->k[i] = metric_k[i];
        out->precision[i] = ratio((double)sum->hits, rows * metric_k[i]);
        out->ndcg[i] = ratio(sum->ndcg, rows);
        out->psp[i] = ratio(sum->ps, sum->ps_ideal); // the factor 1/k cancels
        out->psndcg[i] = ratio(sum->psndcg, sum->psndcg_ideal);
        out->recall[i] = ratio(sum->recall, rows);
    }
    for (int d = 0; d < HR_DECILES; d++) {
        out->decile_labels[d] = meter->decile_labels[d];
        out->decile_pairs[d] = meter->decile_pairs[d];
        for (int i = 0; i < meter->ks; i++)
            out->decile_recall[d][i] =
                ratio((double)meter->decile_hits[d][i], (double)meter->decile_pairs[d]);
    }
    read_coverage(meter, out);
}

void hr_label_frequency(int64_t rows, const int64_t *indptr, const uint32_t *indices, int64_t labels,
                        uint32_t *frequency)
{
    memset(frequency, 0, (size_t)labels * sizeof *frequency);
    for (int64_t i = 0; rows > 0 && i < indptr[rows]; i++)
        frequency[indices[i]]++;
}
