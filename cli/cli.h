/* What all commands share: the state of one call of the tool, how it fails, and how it gets a context.
 *
 * Results go to stdout and nothing else does; progress and errors go to stderr. The exit status is the
 * hr_status. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "headroom.h"

#define CLI_MAX_FILES 16

/* Values of an option that may be given several times. */
typedef struct cli_texts {
    const char *item[CLI_MAX_FILES];
    int count;
} cli_texts;

typedef struct cli {
    const char *command; /* name, for messages; NULL before it is known */
    int threads;         /* options that every command takes; -1: not given */
    const char *isa;     /* NULL: not given */
    bool quiet, help;
    bool done;          /* help was printed: nothing is left to do */
    bool on_terminal;   /* stderr is one */
    bool progress_open; /* a progress line stands there without its newline */
    int64_t next_progress; /* in a file: second of the clock before which no progress line is due; 0: none was */
    bool output_failed; /* stdout could not be written, and that was said */
    hr_ctx *ctx;        /* owned; NULL before cli_open */
} cli;

/* One line of the table of commands. */
typedef struct command {
    const char *name, *summary; /* of one line */
    const char *usage;          /* synopsis, examples, explanation; the list of options is added by itself */
    hr_status (*run)(cli *c, int argc, char **argv); /* arguments after the name of the command */
} command;

extern const command command_prepare, command_train, command_eval, command_predict, command_baseline,
    command_plan, command_info, command_config, command_prune;

/* Prints "headroom: command: ..." to stderr and returns `status`. */
hr_status cli_fail(cli *c, hr_status status, const char *format, ...) HR_PRINTF(3, 4);
/* Prints the message of the context for a failed library call, and returns `status`. */
hr_status cli_report(cli *c, hr_status status);
/* A line to stderr for people; nothing when --quiet. */
void cli_say(cli *c, const char *format, ...) HR_PRINTF(2, 3);
/* Ends an unfinished progress line. */
void cli_clear_progress(cli *c);

/* Makes c->ctx with the options given, replacing an older one. */
hr_status cli_open(cli *c);
void cli_close(cli *c);
/* True after a signal asked us to stop. */
bool cli_interrupted(void);

/* HR_ERR_USAGE with what to type when the configuration names no data set or, if asked for, no run folder. */
hr_status cli_need_keys(cli *c, const hr_config *config, bool run);
/* Makes a context and a configuration from files, key=value assignments, --threads and --isa. The context has
 * the threads and isa that the configuration asks for. */
hr_status cli_open_config(cli *c, const cli_texts *files, char **assignments, int count, hr_config **out);

#endif
