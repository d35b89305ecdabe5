/* Tables, and the JSON of what several commands report. */
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

bytes_text human_bytes(size_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    bytes_text out;
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(out.text, sizeof out.text, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return out;
}

bool output_unread(void)
{
    struct pollfd out = {.fd = 1, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

hr_status output_flush(cli *c)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return HR_OK;
    if (!c->output_failed && !output_unread())
        cli_fail(c, HR_ERR_IO, "writing to standard output failed: %s",
                 errno ? strerror(errno) : "I/O error");
    c->output_failed = true;
    return HR_ERR_IO;
}

/* ---- metrics ---- */

typedef struct metric_row {
    const char *label, *key;
    const double *values;
} metric_row;

static int count_ks(const hr_metrics *m)
{
    int n = 0;
    while (n < HR_METRIC_KS && m->k[n] > 0)
        n++;
    return n;
}

static void print_head(const char *label, const hr_metrics *m)
{
    printf("%-10s", label);
    for (int i = 0; i < count_ks(m); i++) {
        char at[16];
        snprintf(at, sizeof at, "@%d", m->k[i]);
        printf("  %7s", at);
    }
    putchar('\n');
}

static void print_values(const double *values, int n)
{
    for (int i = 0; i < n; i++)
        printf("  %7.2f", 100 * values[i]);
    putchar('\n');
}

static void metrics_table(const hr_metrics *m, const metric_row *rows, int count)
{
    printf("rows %lld, labels that count %lld, propensity A %g B %g; percent\n\n", (long long)m->rows,
           (long long)m->labels_counted, m->propensity_a, m->propensity_b);
    print_head("", m);
    for (int r = 0; r < count; r++) {
        printf("%-10s", rows[r].label);
        print_values(rows[r].values, count_ks(m));
    }
    printf("%-10s  %7.2f\n", "MRR", 100 * m->mrr);

    printf("\nR by training frequency of the label (decile 1: most frequent)\n\n");
    printf("%-10s  %10s  %10s", "decile", "labels", "pairs");
    for (int i = 0; i < count_ks(m); i++) {
        char at[16];
        snprintf(at, sizeof at, "@%d", m->k[i]);
        printf("  %7s", at);
    }
    putchar('\n');
    for (int d = 0; d < HR_DECILES; d++) {
        printf("%-10d  %10lld  %10lld", d + 1, (long long)m->decile_labels[d], (long long)m->decile_pairs[d]);
        if (m->decile_pairs[d] > 0)
            print_values(m->decile_recall[d], count_ks(m));
        else
            putchar('\n');
    }
}

static void json_values(json *j, const char *key, const double *values, int n)
{
    json_begin(j, key, '[');
    bool lines = j->lines;
    j->lines = true;
    for (int i = 0; i < n; i++)
        json_number(j, NULL, values[i]);
    json_end(j, ']');
    j->lines = lines;
}

static void metrics_json(const hr_metrics *m, const metric_row *rows, int count)
{
    json j = json_make(stdout, false);
    int n = count_ks(m);
    json_begin(&j, NULL, '{');
    json_int(&j, "rows", m->rows);
    json_int(&j, "labels_counted", m->labels_counted);
    json_number(&j, "propensity_a", m->propensity_a);
    json_number(&j, "propensity_b", m->propensity_b);
    double ks[HR_METRIC_KS];
    for (int i = 0; i < n; i++)
        ks[i] = m->k[i];
    json_values(&j, "k", ks, n);
    for (int r = 0; r < count; r++)
        json_values(&j, rows[r].key, rows[r].values, n);
    json_number(&j, "mrr", m->mrr);
    json_begin(&j, "deciles", '[');
    for (int d = 0; d < HR_DECILES; d++) {
        json_begin(&j, NULL, '{');
        json_int(&j, "labels", m->decile_labels[d]);
        json_int(&j, "pairs", m->decile_pairs[d]);
        json_values(&j, "recall", m->decile_recall[d], n);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
}

void print_metrics(const hr_metrics *m, bool as_json)
{
    const metric_row rows[] = {
        {"P", "precision", m->precision}, {"nDCG", "ndcg", m->ndcg},  {"PSP", "psp", m->psp},
        {"PSnDCG", "psndcg", m->psndcg},  {"R", "recall", m->recall}, {"coverage", "coverage", m->coverage},
    };
    int count = (int)(sizeof rows / sizeof *rows);
    if (as_json)
        metrics_json(m, rows, count);
    else
        metrics_table(m, rows, count);
}

/* ---- memory ---- */

static void memory_line(FILE *out, const char *name, size_t planned, const size_t *measured)
{
    fprintf(out, "  %-18s  %12s", name, human_bytes(planned).text);
    if (measured)
        fprintf(out, "  %12s", human_bytes(*measured).text);
    fputc('\n', out);
}

size_t plan_whole(const hr_plan *plan)
{
    return plan->process + plan->total + plan->mapped;
}

void print_memory_table(FILE *out, const hr_plan *plan, const hr_mem_report *measured, size_t device_peak)
{
    fprintf(out, "  %-18s  %12s", "memory", "planned");
    if (measured)
        fprintf(out, "  %12s", "peak");
    fputc('\n', out);
    for (int k = 0; k < HR_MEM_KINDS; k++)
        memory_line(out, hr_mem_kind_name((hr_mem_kind)k), plan->bytes[k],
                    measured ? &measured->peak[k] : NULL);
    memory_line(out, "total", plan->total, measured ? &measured->peak_total : NULL);
    memory_line(out, "mapped files", plan->mapped, NULL);
    memory_line(out, "process before", plan->process, NULL);
    memory_line(out, "whole process", plan_whole(plan),
                measured ? &measured->rss_peak : NULL);
    memory_line(out, "available", plan->machine, NULL);
    if (plan->device_machine > 0) {
        memory_line(out, "device", plan->device, device_peak > 0 ? &device_peak : NULL);
        memory_line(out, "of the device", plan->device_machine, NULL);
    }
}

/* "head weights" becomes "head_weights". */
static void json_kinds(json *j, const char *key, const size_t *bytes)
{
    json_begin(j, key, '{');
    for (int k = 0; k < HR_MEM_KINDS; k++) {
        char name[64];
        snprintf(name, sizeof name, "%s", hr_mem_kind_name((hr_mem_kind)k));
        for (char *c = name; *c; c++)
            *c = *c == ' ' ? '_' : *c;
        json_size(j, name, bytes[k]);
    }
    json_end(j, '}');
}

void json_plan(json *j, const char *key, const hr_plan *plan)
{
    json_begin(j, key, '{');
    json_kinds(j, "bytes", plan->bytes);
    json_size(j, "total", plan->total);
    json_size(j, "mapped", plan->mapped);
    json_size(j, "process", plan->process);
    json_size(j, "machine", plan->machine);
    json_size(j, "device", plan->device);
    json_size(j, "device_machine", plan->device_machine);
    json_bool(j, "fits", plan->fits);
    json_end(j, '}');
}

void json_memory(json *j, const char *key, const hr_mem_report *memory)
{
    json_begin(j, key, '{');
    json_kinds(j, "peak", memory->peak);
    json_size(j, "peak_total", memory->peak_total);
    json_size(j, "rss_peak", memory->rss_peak);
    json_end(j, '}');
}

/* ---- data sets ---- */

static void dataset_json(const hr_dataset_info *d)
{
    json j = json_make(stdout, false);
    json_begin(&j, NULL, '{');
    json_text(&j, "name", d->name);
    json_text(&j, "path", d->path);
    json_text(&j, "fingerprint", d->fingerprint);
    json_int(&j, "labels", d->labels);
    json_int(&j, "features", d->features);
    json_bool(&j, "dense", d->dense);
    json_bool(&j, "text_model", d->has_text_model);
    json_bool(&j, "label_names", d->has_label_names);
    json_bool(&j, "label_features", d->has_label_features);
    json_number(&j, "propensity_a", d->propensity_a);
    json_number(&j, "propensity_b", d->propensity_b);
    json_begin(&j, "splits", '{');
    for (int s = 0; s < HR_SPLITS; s++) {
        json_begin(&j, hr_split_name((hr_split)s), '{');
        json_int(&j, "rows", d->rows[s]);
        json_int(&j, "label_pairs", d->label_pairs[s]);
        json_int(&j, "feature_pairs", d->feature_pairs[s]);
        json_int(&j, "filter_pairs", d->filter_pairs[s]);
        json_end(&j, '}');
    }
    json_end(&j, '}');
    json_end(&j, '}');
}

static const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

void print_dataset(const hr_dataset_info *d, bool as_json)
{
    if (as_json) {
        dataset_json(d);
        return;
    }
    printf("data set        %s\n", d->name);
    printf("path            %s\n", d->path);
    printf("fingerprint     %s\n", d->fingerprint);
    printf("labels          %lld\n", (long long)d->labels);
    printf("features        %lld, %s\n", (long long)d->features, d->dense ? "dense" : "sparse");
    printf("text model      %s\n", yes_no(d->has_text_model));
    printf("label names     %s\n", yes_no(d->has_label_names));
    printf("label features  %s\n", yes_no(d->has_label_features));
    printf("propensity      A %g, B %g\n\n", d->propensity_a, d->propensity_b);
    printf("%-8s  %12s  %14s  %12s  %12s\n", "split", "rows", "label pairs", "labels/row", "filter pairs");
    for (int s = 0; s < HR_SPLITS; s++) {
        if (d->rows[s] == 0)
            continue;
        printf("%-8s  %12lld  %14lld  %12.2f  %12lld\n", hr_split_name((hr_split)s), (long long)d->rows[s],
               (long long)d->label_pairs[s], (double)d->label_pairs[s] / (double)d->rows[s],
               (long long)d->filter_pairs[s]);
    }
}
