/* Options of a command: a table of names, types and targets, filled from argv. Long options only, as
 * "--name value" or "--name=value"; "--" ends them. Numbers are whole tokens. Every command also takes
 * --threads, --isa, --quiet and --help. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "cli.h"

typedef enum arg_type {
    ARG_FLAG,   /* bool *: true */
    ARG_NO,     /* bool *: false, for "--no-something" */
    ARG_INT,    /* int * */
    ARG_INT64,  /* int64_t * */
    ARG_NUMBER, /* double * */
    ARG_TEXT,   /* const char ** */
    ARG_TEXTS   /* cli_texts *, may be repeated */
} arg_type;

typedef struct arg_option {
    const char *name; /* without dashes */
    arg_type type;
    void *target;
    double low, high;  /* range of numbers, inclusive */
    const char *value; /* what help calls the value: "FILE", "N" */
    const char *help;
} arg_option;

/* Fills targets; what is not an option is moved to the front of argv, *argc of them. On --help it prints the
 * page and sets c->done. */
hr_status args_parse(cli *c, const command *cmd, const arg_option *options, int count, int *argc,
                     char **argv);

/* Of `count` words, the one nearest to `word`, or NULL if none is near. */
const char *args_nearest(const char *word, const char *const *words, int count);

/* The value of --split. */
hr_status args_split(cli *c, const char *name, hr_split *out);

#endif
