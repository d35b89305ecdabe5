/* headroom predict: texts in, labels out, in constant memory.
 *
 * Lines are gathered into batches as long as more are waiting; when nothing is waiting, what is there is
 * answered at once, so a person at a terminal, or a program at the other end of a pipe, gets an answer for
 * each line. */
#include "args.h"
#include "cli.h"
#include "lines.h"
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_ROWS  256
#define BATCH_BYTES ((size_t)4 << 20) /* a batch is full when it holds this much text */

static const char usage[] = "headroom predict MODEL [FILE ...] [options]\n"
                            "\n"
                            "  headroom predict runs/first/model < texts.txt > labels.tsv\n"
                            "  headroom predict runs/first/model --top 10 --format json texts.txt\n"
                            "  echo 'a text' | headroom predict runs/first/model\n"
                            "\n"
                            "Reads one text a line (UTF-8; 'title TAB body' where the model was trained so) "
                            "from the files, or from standard\n"
                            "input, and prints its best labels.\n"
                            "\n"
                            "tsv: one line for each label: row, rank, score, label id, label name, separated "
                            "by tabs. Rows count from 0, ranks\n"
                            "     from 1. In names, tab, newline and backslash are written \\t, \\n, \\\\.\n"
                            "json: one line for each row: "
                            "{\"row\":0,\"labels\":[{\"id\":17,\"name\":\"cats\",\"score\":0.93}, ...]}\n";

typedef struct batch {
    char *bytes; /* texts end to end */
    size_t used, capacity;
    size_t offset[BATCH_ROWS], length[BATCH_ROWS];
    int rows;
} batch;

typedef struct session {
    cli *c;
    hr_predictor *predictor;
    int top_k;
    bool as_json;
    int64_t row; /* of the first text of the batch */
    batch batch;
    uint32_t *ids; /* (BATCH_ROWS, top_k) */
    float *scores; /* (BATCH_ROWS, top_k) */
} session;

/* ---- printing ---- */

static void print_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const char *escape = name[i] == '\t'   ? "\\t"
                             : name[i] == '\n' ? "\\n"
                             : name[i] == '\r' ? "\\r"
                             : name[i] == '\\' ? "\\\\"
                                               : NULL;
        if (escape)
            fputs(escape, stdout);
        else
            putchar(name[i]);
    }
}

static void print_tsv(const session *s, int64_t row, const uint32_t *ids, const float *scores)
{
    for (int k = 0; k < s->top_k; k++) {
        size_t length;
        const char *name = hr_predictor_label(s->predictor, ids[k], &length);
        printf("%lld\t%d\t%.6g\t%u\t", (long long)row, k + 1, (double)scores[k], ids[k]);
        print_name(name, length);
        putchar('\n');
    }
}

static void print_json(const session *s, int64_t row, const uint32_t *ids, const float *scores)
{
    json j = json_make(stdout, true);
    json_begin(&j, NULL, '{');
    json_int(&j, "row", row);
    json_begin(&j, "labels", '[');
    for (int k = 0; k < s->top_k; k++) {
        size_t length;
        const char *name = hr_predictor_label(s->predictor, ids[k], &length);
        json_begin(&j, NULL, '{');
        json_int(&j, "id", ids[k]);
        json_bytes(&j, "name", name, length);
        json_number(&j, "score", (double)scores[k]);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
}

/* ---- batches ---- */

static hr_status add_text(session *s, const char *text, size_t length)
{
    batch *b = &s->batch;
    if (b->used + length > b->capacity) {
        size_t capacity = b->used + length > BATCH_BYTES ? b->used + length : BATCH_BYTES;
        char *bytes = realloc(b->bytes, capacity);
        if (!bytes)
            return cli_fail(s->c, HR_ERR_NOMEM, "no memory for %zu bytes of text", capacity);
        b->bytes = bytes;
        b->capacity = capacity;
    }
    memcpy(b->bytes + b->used, text, length);
    b->offset[b->rows] = b->used;
    b->length[b->rows++] = length;
    b->used += length;
    return HR_OK;
}

static bool is_full(const batch *b)
{
    return b->rows == BATCH_ROWS || b->used >= BATCH_BYTES;
}

/* Scores and prints the batch, and empties it. */
static hr_status answer(session *s)
{
    batch *b = &s->batch;
    const char *texts[BATCH_ROWS];
    if (b->rows == 0)
        return HR_OK;
    for (int i = 0; i < b->rows; i++)
        texts[i] = b->bytes + b->offset[i];
    hr_status st = hr_predictor_texts(s->predictor, b->rows, texts, b->length, s->top_k, s->ids, s->scores);
    if (st != HR_OK)
        return cli_report(s->c, st);
    for (int i = 0; i < b->rows; i++) {
        size_t at = (size_t)i * (size_t)s->top_k;
        if (s->as_json)
            print_json(s, s->row + i, s->ids + at, s->scores + at);
        else
            print_tsv(s, s->row + i, s->ids + at, s->scores + at);
    }
    s->row += b->rows;
    b->rows = 0;
    b->used = 0;
    return output_flush(s->c);
}

/* ---- input ---- */

static hr_status input_failed(session *s, line_result result, const char *name)
{
    long long row = (long long)s->row + s->batch.rows;
    if (result == LINE_INTERRUPTED)
        return cli_fail(s->c, HR_INTERRUPTED, "interrupted; rows before %lld are answered",
                        (long long)s->row);
    if (result == LINE_TOO_LONG)
        return cli_fail(s->c, HR_ERR_DATA, "%s: the line of row %lld is longer than %zu bytes", name, row,
                        LINE_LIMIT);
    if (result == LINE_NO_MEMORY)
        return cli_fail(s->c, HR_ERR_NOMEM, "%s: no memory for the line of row %lld", name, row);
    return cli_fail(s->c, HR_ERR_IO, "%s: reading failed at row %lld: %s", name, row, strerror(errno));
}

static hr_status answer_lines(session *s, line_reader *reader, const char *name)
{
    for (;;) {
        const char *line;
        size_t length;
        line_result result = lines_next(reader, s->batch.rows == 0, &line, &length);
        hr_status st = HR_OK;
        if (result == LINE_GOT)
            st = add_text(s, line, length);
        else if (result != LINE_NOT_YET && result != LINE_END)
            return input_failed(s, result, name);
        if (st == HR_OK && (result != LINE_GOT || is_full(&s->batch)))
            st = answer(s);
        if (st != HR_OK || result == LINE_END)
            return st;
    }
}

static hr_status answer_file(session *s, const char *path)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_fail(s->c,
                        errno == ENOENT   ? HR_ERR_NOINPUT
                        : errno == EACCES ? HR_ERR_PERMISSION
                                          : HR_ERR_IO,
                        "%s: %s", path, strerror(errno));
    line_reader reader;
    lines_init(&reader, fd);
    hr_status st = answer_lines(s, &reader, standard ? "standard input" : path);
    lines_deinit(&reader);
    if (!standard)
        close(fd);
    return st;
}

/* ---- the command ---- */

static hr_status open_session(session *s, const char *model, bool verify)
{
    hr_status st = cli_open(s->c);
    if (st != HR_OK)
        return st;
    st = cli_report(s->c, hr_predictor_open(s->c->ctx, model, verify, &s->predictor));
    if (st != HR_OK)
        return st;
    hr_predictor_info info;
    hr_predictor_describe(s->predictor, &info);
    if (!info.takes_text)
        return cli_fail(s->c, HR_ERR_USAGE,
                        "%s: this model was not trained on texts; it holds no text features", model);
    if (s->top_k > info.labels)
        s->top_k = (int)info.labels;
    s->ids = calloc((size_t)BATCH_ROWS * (size_t)s->top_k, sizeof *s->ids);
    s->scores = calloc((size_t)BATCH_ROWS * (size_t)s->top_k, sizeof *s->scores);
    if (!s->ids || !s->scores)
        return cli_fail(s->c, HR_ERR_NOMEM, "no memory for %d labels a row", s->top_k);
    return HR_OK;
}

static void close_session(session *s)
{
    free(s->ids);
    free(s->scores);
    free(s->batch.bytes);
    hr_predictor_close(s->predictor);
}

static hr_status predict(session *s, int argc, char **argv, bool verify)
{
    hr_status st = open_session(s, argv[0], verify);
    char standard[] = "-", *only[] = {standard};
    char **files = argc > 1 ? argv + 1 : only;
    int count = argc > 1 ? argc - 1 : 1;
    for (int i = 0; st == HR_OK && i < count; i++)
        st = answer_file(s, files[i]);
    close_session(s);
    return st;
}

static hr_status run(cli *c, int argc, char **argv)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return cli_fail(c, HR_ERR_NOMEM, "no memory to start");
    s->c = c;
    s->top_k = 5;
    const char *format = "tsv";
    bool verify = false;
    const arg_option options[] = {
        {"top", ARG_INT, &s->top_k, 1, 1000, "K", "labels a row (5)"},
        {"format", ARG_TEXT, &format, 0, 0, "NAME", "tsv or json (tsv)"},
        {"verify", ARG_FLAG, &verify, 0, 0, NULL, "check every byte of the model first"},
    };
    hr_status st =
        args_parse(c, &command_predict, options, (int)(sizeof options / sizeof *options), &argc, argv);
    s->as_json = strcmp(format, "json") == 0;
    if (st == HR_OK && !c->done && !s->as_json && strcmp(format, "tsv") != 0)
        st = cli_fail(c, HR_ERR_USAGE, "--format is '%s', expected tsv or json", format);
    else if (st == HR_OK && !c->done && argc == 0)
        st = cli_fail(c, HR_ERR_USAGE, "expected MODEL, found nothing");
    else if (st == HR_OK && !c->done)
        st = predict(s, argc, argv, verify);
    free(s);
    return st;
}

const command command_predict = {"predict", "label texts", usage, run};
