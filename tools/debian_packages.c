/* debian_packages: a label-features data set out of the package index that apt keeps on this machine.
 *
 *     debian_packages [--long-descriptions] OUTPUT_FOLDER
 *
 * A row is a binary package: its name with its section, and its short description. Its labels are the
 * packages it names first in each of Depends, Pre-Depends, Recommends and Suggests. What can be predicted is
 * thus "which packages go with this one", for some tens of thousands of labels. The index is found with
 * `apt-get indextargets` and read with apt's own helper, so any mirror and any compression works. Only the
 * main release archive counts (no updates, security or backports), so that two machines with the same release
 * get the same files.
 *
 * Rules: only packages that exist in this index are labels; the label set is what the training rows name; a
 * row without labels is left out; packages of one source go to one side, to test where FNV-1a(source) mod 10
 * = 0; a package as the label of its own row is a filter pair. Rows and labels are ordered by name (bytes).
 */
#define _GNU_SOURCE 1
#include "apt.h"
#include "sha256.h"

#include <cJSON.h>
#include <sys/stat.h>
#include <zlib.h>

#define NO_LABEL UINT32_MAX

/* ---- the index ---- */

static bool has_pocket(const char *name)
{
    return strstr(name, "-updates") || strstr(name, "-security") || strstr(name, "-backports") ||
           strstr(name, "-proposed");
}

/* The file of the main archive's index that was created by "Packages", or by "Translations" in English. */
static char *find_target(const char *created_by)
{
    char *archive = run((char *[]){"dpkg", "--print-architecture", NULL});
    archive[strcspn(archive, "\n")] = 0;
    char *targets = run((char *[]){"apt-get", "indextargets", NULL});
    bool translation = strcmp(created_by, "Translations") == 0;
    for (char *stanza; (stanza = next_stanza(&targets));) {
        field f[] = {{"Created-By", 0}, {"Component", 0},    {"Label", 0},
                     {"Suite", 0},      {"Codename", 0},     {"Target-Of", 0},
                     {"Filename", 0},   {"Architecture", 0}, {"Language", 0}};
        read_fields(stanza, f, sizeof f / sizeof f[0]);
        bool wanted = strcmp(f[0].value, created_by) == 0 && strcmp(f[1].value, "main") == 0 &&
                      strcmp(f[2].value, "Debian") == 0 && !has_pocket(f[3].value) &&
                      !has_pocket(f[4].value) && strcmp(f[5].value, "deb") == 0;
        wanted = wanted && (translation ? strcmp(f[8].value, "en") == 0 : strcmp(f[7].value, archive) == 0);
        if (wanted && access(f[6].value, R_OK) == 0) {
            fprintf(stderr, "debian_packages: reading %s %s from %s\n", f[4].value, created_by, f[6].value);
            return f[6].value;
        }
    }
    die(EXIT_NOINPUT,
        "apt has no %s index of Debian's main archive for %s on this machine; run 'apt-get update'%s",
        translation ? "Translation-en" : "Packages", archive,
        translation ? " with Acquire::Languages \"en\", or leave out --long-descriptions" : "");
}

typedef struct package {
    char *name, *section, *summary, *source, *md5;
    char *long_text; /* NULL: none */
    char *relations[4];
    size_t order;     /* place in the index */
    uint32_t *labels; /* packages, then label ids; ascending */
    size_t num_labels;
    uint32_t label; /* id of this package as a label, or NO_LABEL */
    bool test;
} package;

typedef struct index_data {
    package *all; /* by name, each name once */
    size_t count;
} index_data;

static int compare_packages(const void *a, const void *b)
{
    const package *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names ? names : (x->order > y->order) - (x->order < y->order);
}

static bool in_test(const char *source)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *source && *source != ' '; source++) /* "name (version)" */
        hash = (hash ^ (uint8_t)*source) * UINT64_C(0x100000001b3);
    return hash % 10 == 0;
}

static package parse_package(char *stanza, size_t order)
{
    field f[] = {{"Package", 0},     {"Source", 0},          {"Section", 0},
                 {"Description", 0}, {"Description-md5", 0}, {"Depends", 0},
                 {"Pre-Depends", 0}, {"Recommends", 0},      {"Suggests", 0}};
    read_fields(stanza, f, sizeof f / sizeof f[0]);
    if (!f[0].value[0])
        die(EXIT_DATA, "stanza %zu of the package index has no Package field", order + 1);
    package p = {
        .name = f[0].value, .section = f[2].value, .md5 = f[4].value, .order = order, .label = NO_LABEL};
    p.source = f[1].value[0] ? f[1].value : f[0].value;
    p.summary = f[3].value;
    p.summary[strcspn(p.summary, "\n")] = 0;
    for (int i = 0; i < 4; i++)
        p.relations[i] = f[5 + i].value;
    p.test = in_test(p.source);
    return p;
}

static index_data read_index(void)
{
    char *text = run((char *[]){HELPER, "cat-file", find_target("Packages"), NULL});
    index_data index = {0};
    size_t capacity = 0;
    for (char *stanza; (stanza = next_stanza(&text)); index.count++) {
        if (index.count == capacity)
            index.all = grow(index.all, capacity = capacity ? 2 * capacity : 1 << 16, sizeof *index.all);
        index.all[index.count] = parse_package(stanza, index.count);
    }
    if (index.count == 0)
        die(EXIT_NOINPUT, "the package index is empty; run 'apt-get update'");
    qsort(index.all, index.count, sizeof *index.all, compare_packages);
    size_t kept = 1;
    for (size_t i = 1; i < index.count; i++)
        if (strcmp(index.all[i].name, index.all[kept - 1].name) != 0)
            index.all[kept++] = index.all[i];
    index.count = kept;
    return index;
}

static int compare_name(const void *key, const void *item)
{
    return strcmp(key, ((const package *)item)->name);
}

static package *find_package(const index_data *index, const char *name)
{
    return bsearch(name, index->all, index->count, sizeof *index->all, compare_name);
}

/* Continuation lines as one line; a line of " ." only parts paragraphs. */
static void join_lines(char *text)
{
    char *out = text, *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        line += strspn(line, " \t");
        if (strcmp(line, ".") == 0)
            continue;
        if (out > text)
            *out++ = ' ';
        size_t length = strlen(line);
        memmove(out, line, length); /* the blank that began the line made room for ours */
        out += length;
    }
    *out = 0;
}

/* Long descriptions belong to a package by name and, where the index has it, by the MD5 of the description.
 */
static void read_translations(index_data *index)
{
    char *text = run((char *[]){HELPER, "cat-file", find_target("Translations"), NULL});
    for (char *stanza; (stanza = next_stanza(&text));) {
        field f[] = {{"Package", 0}, {"Description-md5", 0}, {"Description-en", 0}};
        read_fields(stanza, f, sizeof f / sizeof f[0]);
        package *p = find_package(index, f[0].value);
        if (!p || p->long_text || (p->md5[0] && strcmp(p->md5, f[1].value) != 0))
            continue;
        char *rest = strchr(f[2].value, '\n');
        if (!rest)
            continue;
        join_lines(rest);
        p->long_text = rest;
    }
}

/* ---- labels ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Adds the first alternative of each clause of "a (>= 1) | b, c:any, d [amd64]". */
static void add_relations(const index_data *index, package *p, char *relation)
{
    for (char *clause = relation; clause;) {
        char *comma = strchr(clause, ',');
        char *next = comma ? comma + 1 : NULL;
        if (comma)
            *comma = 0;
        clause += strspn(clause, " \t\n");
        clause[strcspn(clause, " \t\n:(|[<")] = 0;
        const package *target = find_package(index, clause);
        if (target && target != p) {
            p->labels = grow(p->labels, p->num_labels + 1, sizeof *p->labels);
            p->labels[p->num_labels++] = (uint32_t)(target - index->all);
        }
        clause = next;
    }
}

/* Labels of all packages as places in the index, then the ids: packages that a training row names, by name.
 */
static uint32_t assign_labels(index_data *index)
{
    for (size_t i = 0; i < index->count; i++) {
        package *p = &index->all[i];
        for (int k = 0; k < 4; k++)
            add_relations(index, p, p->relations[k]);
        if (p->num_labels > 1)
            qsort(p->labels, p->num_labels, sizeof *p->labels, compare_u32);
        for (size_t k = 0; k < p->num_labels && !p->test; k++)
            index->all[p->labels[k]].label = 0;
    }
    uint32_t labels = 0;
    for (size_t i = 0; i < index->count; i++)
        if (index->all[i].label != NO_LABEL)
            index->all[i].label = labels++;
    for (size_t i = 0; i < index->count; i++) {
        package *p = &index->all[i];
        size_t kept = 0;
        for (size_t k = 0; k < p->num_labels; k++) {
            uint32_t id = index->all[p->labels[k]].label;
            if (id != NO_LABEL && (kept == 0 || p->labels[kept - 1] != id))
                p->labels[kept++] = id;
        }
        p->num_labels = kept;
    }
    return labels;
}

/* ---- writing ---- */

typedef struct output {
    char path[4096];
    gzFile packed; /* NULL: plain */
    FILE *plain;
    sha256 *sum;
} output;

static output begin_output(const char *folder, const char *name, bool packed, sha256 *sum)
{
    output out = {.sum = sum};
    if (snprintf(out.path, sizeof out.path, "%s/%s", folder, name) >= (int)sizeof out.path)
        die(EXIT_USAGE, "the path of the output folder is too long");
    out.packed = packed ? gzopen(out.path, "wb9") : NULL; /* zlib writes no time and no name */
    out.plain = packed ? NULL : fopen(out.path, "wb");
    if (!out.packed && !out.plain)
        die(EXIT_CANTCREATE, "%s: cannot make it: %s", out.path, strerror(errno));
    return out;
}

static void put(output *out, const char *text)
{
    size_t length = strlen(text);
    sha256_update(out->sum, text, length);
    bool fine = out->packed ? gzwrite(out->packed, text, (unsigned)length) == (int)length
                            : fwrite(text, 1, length, out->plain) == length;
    if (!fine)
        die(EXIT_IO, "%s: cannot write; is the disk full?", out->path);
}

static void end_output(output *out)
{
    if (out->packed ? gzclose(out->packed) != Z_OK : fclose(out->plain) != 0)
        die(EXIT_IO, "%s: cannot write; is the disk full?", out->path);
}

/* {"uid": name, "title": .., "content": ..} and, for rows, the label ids with weight 1. */
static void put_package(output *out, const package *p, bool row)
{
    cJSON *object = cJSON_CreateObject(), *ind = NULL, *rel = NULL;
    char *title = NULL, *content = NULL;
    if (asprintf(&title, row ? "%s (%s)" : "%s", p->name, p->section) < 0 ||
        asprintf(&content, "%s%s%s", p->summary, p->long_text && row ? ". " : "",
                 p->long_text && row ? p->long_text : "") < 0)
        die(EXIT_NOMEM, "no memory for a row");
    bool fine = cJSON_AddStringToObject(object, "uid", p->name) &&
                cJSON_AddStringToObject(object, "title", title) &&
                cJSON_AddStringToObject(object, "content", content);
    if (row) {
        ind = cJSON_AddArrayToObject(object, "target_ind");
        rel = cJSON_AddArrayToObject(object, "target_rel");
        for (size_t k = 0; k < p->num_labels && fine; k++)
            fine = cJSON_AddItemToArray(ind, cJSON_CreateNumber(p->labels[k])) &&
                   cJSON_AddItemToArray(rel, cJSON_CreateNumber(1));
    }
    char *line = fine ? cJSON_PrintUnformatted(object) : NULL;
    if (!line)
        die(EXIT_NOMEM, "no memory for a row");
    put(out, line);
    put(out, "\n");
    cJSON_free(line);
    cJSON_Delete(object);
    free(title);
    free(content);
}

typedef struct counts {
    size_t rows, pairs, filter;
} counts;

static counts write_split(const index_data *index, const char *folder, bool test, sha256 *sum)
{
    counts n = {0};
    output out = begin_output(folder, test ? "tst.json.gz" : "trn.json.gz", true, sum);
    for (size_t i = 0; i < index->count; i++) {
        const package *p = &index->all[i];
        if (p->test != test || p->num_labels == 0)
            continue;
        put_package(&out, p, true);
        n.rows++;
        n.pairs += p->num_labels;
    }
    end_output(&out);
    return n;
}

static size_t write_filter(const index_data *index, const char *folder, bool test, sha256 *sum)
{
    output out =
        begin_output(folder, test ? "filter_labels_test.txt" : "filter_labels_train.txt", false, sum);
    size_t row = 0, pairs = 0;
    for (size_t i = 0; i < index->count; i++) {
        const package *p = &index->all[i];
        if (p->test != test || p->num_labels == 0)
            continue;
        char line[64];
        snprintf(line, sizeof line, "%zu %lu\n", row++, (unsigned long)p->label);
        if (p->label == NO_LABEL)
            continue;
        put(&out, line);
        pairs++;
    }
    end_output(&out);
    return pairs;
}

static void write_labels(const index_data *index, const char *folder, sha256 *sum)
{
    output out = begin_output(folder, "lbl.json.gz", true, sum);
    for (size_t i = 0; i < index->count; i++)
        if (index->all[i].label != NO_LABEL)
            put_package(&out, &index->all[i], false);
    end_output(&out);
}

int main(int argc, char **argv)
{
    bool long_descriptions = argc == 3 && strcmp(argv[1], "--long-descriptions") == 0;
    if (argc != 2 + long_descriptions || argv[argc - 1][0] == '-')
        die(EXIT_USAGE, "usage: debian_packages [--long-descriptions] OUTPUT_FOLDER");
    const char *folder = argv[argc - 1];
    index_data index = read_index();
    if (long_descriptions)
        read_translations(&index);
    uint32_t labels = assign_labels(&index);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        die(EXIT_CANTCREATE, "%s: cannot make the folder: %s", folder, strerror(errno));

    sha256 sum;
    sha256_init(&sum);
    counts train = write_split(&index, folder, false, &sum), test = write_split(&index, folder, true, &sum);
    write_labels(&index, folder, &sum);
    train.filter = write_filter(&index, folder, false, &sum);
    test.filter = write_filter(&index, folder, true, &sum);
    char digest[65];
    sha256_final(&sum, digest);
    printf("packages %zu\nlabels %lu\ntrain_rows %zu\ntrain_pairs %zu\ntrain_filter_pairs %zu\n"
           "test_rows %zu\ntest_pairs %zu\ntest_filter_pairs %zu\nsha256 %s\n",
           index.count, (unsigned long)labels, train.rows, train.pairs, train.filter, test.rows, test.pairs,
           test.filter, digest);
    if (fflush(stdout) != 0)
        die(EXIT_IO, "cannot write to standard output");
    return 0;
}
