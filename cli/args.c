/* Options: one table for all commands, one for the command at hand, and the nearest name when none fits. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTIONS    64
#define COMMON_OPTIONS 4

static void common_options(cli *c, arg_option common[COMMON_OPTIONS])
{
    common[0] = (arg_option){
        "threads", ARG_INT, &c->threads, 0, 1024, "N", "worker threads; 0: one for each processor"};
    common[1] = (arg_option){
        "isa", ARG_TEXT, &c->isa, 0, 0, "LEVEL", "highest kernel level: auto, or one that `headroom info` lists"};
    common[2] =
        (arg_option){"quiet", ARG_FLAG, &c->quiet, 0, 0, NULL, "no progress, only warnings and errors"};
    common[3] = (arg_option){"help", ARG_FLAG, &c->help, 0, 0, NULL, "this page"};
}

/* ---- the nearest word ---- */

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein distance; words longer than the table are cut. */
static int edit_distance(const char *a, const char *b)
{
    int row[33];
    int n = (int)strnlen(b, 32);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; a[i] && i < 32; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smaller(change, smaller(row[j], row[j + 1]) + 1);
        }
    }
    return row[n];
}

const char *args_nearest(const char *word, const char *const *words, int count)
{
    const char *best = NULL;
    int distance = smaller(3, (int)strlen(word) / 3 + 1) + 1;
    for (int i = 0; i < count; i++) {
        int d = edit_distance(word, words[i]);
        // the beginning of a word is near, however long the rest is
        if (strlen(word) >= 3 && strncmp(word, words[i], strlen(word)) == 0)
            d = 0;
        if (d < distance) {
            distance = d;
            best = words[i];
        }
    }
    return best;
}

/* ---- one option ---- */

static hr_status unknown_option(cli *c, const char *name, const arg_option *options, int count)
{
    const char *names[MAX_OPTIONS];
    for (int i = 0; i < count; i++)
        names[i] = options[i].name;
    const char *nearest = args_nearest(name, names, count);
    if (nearest)
        return cli_fail(c, HR_ERR_USAGE, "unknown option '--%s'; did you mean '--%s'?", name, nearest);
    bool has_keys = false;
    for (int i = 0; i < count; i++)
        has_keys = has_keys || strcmp(names[i], "config") == 0;
    return cli_fail(c, HR_ERR_USAGE, "unknown option '--%s'; 'headroom %s --help' lists those there are%s", name,
                    c->command, has_keys ? ", and keys are written key=value" : "");
}

/* A whole token as a number; decimal digits, point and exponent only. */
static bool read_number(const char *text, bool whole, double *out)
{
    size_t length = strlen(text);
    if (length == 0 || length != strspn(text, whole ? "0123456789+-" : "0123456789+-.eE"))
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == 0 && isfinite(*out);
}

static hr_status read_int64(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno || *end ? HR_ERR_USAGE : HR_OK;
}

static hr_status set_number(cli *c, const arg_option *o, const char *value)
{
    double number;
    int64_t whole = 0;
    bool is_whole = o->type != ARG_NUMBER;
    if (!read_number(value, is_whole, &number) || (is_whole && read_int64(value, &whole) != HR_OK))
        return cli_fail(c, HR_ERR_USAGE, "--%s is '%s', expected a %snumber", o->name, value,
                        is_whole ? "whole " : "");
    if (number < o->low)
        return cli_fail(c, HR_ERR_USAGE, "--%s is %s, it must be at least %g", o->name, value, o->low);
    if (number > o->high)
        return cli_fail(c, HR_ERR_USAGE, "--%s is %s, it must be at most %.15g", o->name, value, o->high);
    if (o->type == ARG_INT)
        *(int *)o->target = (int)whole;
    else if (o->type == ARG_INT64)
        *(int64_t *)o->target = whole;
    else
        *(double *)o->target = number;
    return HR_OK;
}

static hr_status set_option(cli *c, const arg_option *o, const char *value)
{
    cli_texts *texts = o->target;
    switch (o->type) {
    case ARG_FLAG:
    case ARG_NO:
        *(bool *)o->target = o->type == ARG_FLAG;
        return HR_OK;
    case ARG_TEXT:
        *(const char **)o->target = value;
        return HR_OK;
    case ARG_TEXTS:
        if (texts->count == CLI_MAX_FILES)
            return cli_fail(c, HR_ERR_USAGE, "--%s is given more than %d times", o->name, CLI_MAX_FILES);
        texts->item[texts->count++] = value;
        return HR_OK;
    default:
        return set_number(c, o, value);
    }
}

static bool takes_value(const arg_option *o)
{
    return o->type != ARG_FLAG && o->type != ARG_NO;
}

/* argv[*i] begins with "--"; *i moves to the value if that is a word of its own. */
static hr_status read_option(cli *c, const arg_option *options, int count, int argc, char **argv, int *i)
{
    char name[64];
    const char *word = argv[*i] + 2, *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    length = length < sizeof name ? length : sizeof name - 1;
    memcpy(name, word, length);
    name[length] = 0;

    const arg_option *o = NULL;
    for (int j = 0; j < count; j++) {
        if (strcmp(options[j].name, name) == 0)
            o = &options[j];
    }
    if (!o)
        return unknown_option(c, name, options, count);
    if (!takes_value(o) && equals)
        return cli_fail(c, HR_ERR_USAGE, "--%s takes no value", o->name);
    if (!takes_value(o))
        return set_option(c, o, NULL);
    if (!equals && *i + 1 == argc)
        return cli_fail(c, HR_ERR_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    return set_option(c, o, equals ? equals + 1 : argv[++*i]);
}

/* ---- help ---- */

static void print_options(const arg_option *options, int count)
{
    for (int i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", options[i].name, options[i].value ? " " : "",
                 options[i].value ? options[i].value : "");
        printf("  %-24s  %s\n", left, options[i].help);
    }
}

static void print_help(const command *cmd, const arg_option *own, int count, const arg_option *common)
{
    fputs(cmd->usage, stdout);
    printf("\nOptions:\n");
    print_options(own, count);
    print_options(common, COMMON_OPTIONS);
}

/* ---- the whole line ---- */

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != 0;
}

hr_status args_parse(cli *c, const command *cmd, const arg_option *options, int count, int *argc, char **argv)
{
    arg_option all[MAX_OPTIONS];
    memcpy(all, options, (size_t)count * sizeof *options);
    common_options(c, all + count);

    int kept = 0;
    bool options_over = false;
    for (int i = 0; i < *argc; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0) {
            options_over = true;
        } else if (!options_over && strcmp(argv[i], "-h") == 0) {
            c->help = true;
        } else if (!options_over && is_option(argv[i])) {
            if (argv[i][1] != '-')
                return cli_fail(c, HR_ERR_USAGE, "unknown option '%s'; options are written with two dashes",
                                argv[i]);
            hr_status st = read_option(c, all, count + COMMON_OPTIONS, *argc, argv, &i);
            if (st != HR_OK)
                return st;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    if (c->help) {
        print_help(cmd, options, count, all + count);
        c->done = true;
    }
    return HR_OK;
}

hr_status args_split(cli *c, const char *name, hr_split *out)
{
    for (int s = 0; s < HR_SPLITS; s++) {
        if (strcmp(name, hr_split_name((hr_split)s)) == 0) {
            *out = (hr_split)s;
            return HR_OK;
        }
    }
    return cli_fail(c, HR_ERR_USAGE, "--split is '%s', expected train, dev or test", name);
}
