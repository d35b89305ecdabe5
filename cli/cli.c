/* Messages, the log, signals, and the way from options to a context and a configuration. */
#include "cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- messages ---- */

void cli_clear_progress(cli *c)
{
    if (c->progress_open)
        fputs("\r\033[K", stderr);
    c->progress_open = false;
}

hr_status cli_fail(cli *c, hr_status status, const char *format, ...)
{
    cli_clear_progress(c);
    fprintf(stderr, "headroom: %s%s", c->command ? c->command : "", c->command ? ": " : "");
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

hr_status cli_report(cli *c, hr_status status)
{
    if (status == HR_OK)
        return HR_OK;
    cli_clear_progress(c);
    const char *message = c->ctx ? hr_ctx_message(c->ctx) : "";
    fprintf(stderr, "headroom: %s\n", *message ? message : hr_status_name(status));
    return status;
}

void cli_say(cli *c, const char *format, ...)
{
    if (c->quiet)
        return;
    cli_clear_progress(c);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* In a file: a line every ten seconds, the first one after ten. */
static bool progress_due(cli *c)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    bool due = c->next_progress != 0 && now.tv_sec >= c->next_progress;
    if (due || c->next_progress == 0)
        c->next_progress = now.tv_sec + 10;
    return due;
}

/* On a terminal a progress line replaces the one before it; in a file some are lines of their own. */
static void show_log(void *user, hr_log_level level, const char *line)
{
    cli *c = user;
    if (c->quiet && level != HR_LOG_WARNING)
        return;
    if (level == HR_LOG_PROGRESS && c->on_terminal) {
        fprintf(stderr, "\r%s\033[K", line);
        fflush(stderr);
        c->progress_open = true;
        return;
    }
    if (level == HR_LOG_PROGRESS && !progress_due(c))
        return;
    cli_clear_progress(c);
    fprintf(stderr, "%s%s\n", level == HR_LOG_WARNING ? "warning: " : "", line);
}

/* ---- signals ---- */

/* A signal handler is told nothing, so these two cannot live in `cli`. */
static hr_ctx *volatile signal_ctx;
static volatile sig_atomic_t signals_seen;

static void on_signal(int number)
{
    if (signals_seen++ && number == SIGINT)
        _exit(HR_INTERRUPTED);
    if (signal_ctx)
        hr_ctx_interrupt(signal_ctx);
}

bool cli_interrupted(void)
{
    return signals_seen != 0;
}

static void watch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; // without SA_RESTART, so that waiting for input ends
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

/* ---- context ---- */

static hr_status context_failed(cli *c, hr_status status, int threads, const char *isa)
{
    if (status == HR_ERR_DEVICE)
        return cli_fail(c, status, "this machine cannot run isa '%s'; 'headroom info' lists those it can",
                        isa);
    if (status == HR_ERR_USAGE)
        return cli_fail(c, status, "threads %d, isa '%s': expected 0 to 1024, and auto, ref, or a level that `headroom info` lists",
                        threads, isa);
    return cli_fail(c, status, "no context: %s", hr_status_name(status));
}

static hr_status create_context(cli *c, int threads, const char *isa)
{
    cli_close(c);
    hr_ctx_options options = hr_ctx_options_default();
    options.threads = threads;
    options.isa = isa;
    options.log = show_log;
    options.log_user = c;
    hr_status st = hr_ctx_create(&options, &c->ctx);
    if (st != HR_OK) {
        c->ctx = NULL;
        return context_failed(c, st, threads, isa);
    }
    signal_ctx = c->ctx;
    if (cli_interrupted())
        hr_ctx_interrupt(c->ctx);
    return HR_OK;
}

hr_status cli_open(cli *c)
{
    watch_signals();
    return create_context(c, c->threads < 0 ? 0 : c->threads, c->isa ? c->isa : "auto");
}

void cli_close(cli *c)
{
    signal_ctx = NULL;
    hr_ctx_destroy(c->ctx);
    c->ctx = NULL;
}

/* ---- configuration ---- */

static hr_status fill_config(cli *c, hr_config *config, const cli_texts *files, char **assignments, int count)
{
    hr_status st = HR_OK;
    for (int i = 0; st == HR_OK && i < files->count; i++)
        st = hr_config_read(config, files->item[i]);
    for (int i = 0; st == HR_OK && i < count; i++)
        st = hr_config_set(config, assignments[i], "command line");
    char text[64];
    if (st == HR_OK && c->threads >= 0) {
        snprintf(text, sizeof text, "threads=%d", c->threads);
        st = hr_config_set(config, text, "command line");
    }
    if (st == HR_OK && c->isa) {
        snprintf(text, sizeof text, "isa=%.50s", c->isa);
        st = hr_config_set(config, text, "command line");
    }
    return cli_report(c, st);
}

static hr_status make_config(cli *c, const cli_texts *files, char **assignments, int count, hr_config **out)
{
    hr_status st = cli_report(c, hr_config_create(c->ctx, out));
    if (st == HR_OK)
        st = fill_config(c, *out, files, assignments, count);
    if (st != HR_OK) {
        hr_config_destroy(*out);
        *out = NULL;
    }
    return st;
}

hr_status cli_open_config(cli *c, const cli_texts *files, char **assignments, int count, hr_config **out)
{
    // the configuration says how many threads its context has: read it once with one thread to learn that
    *out = NULL;
    watch_signals();
    hr_status st = create_context(c, 1, "auto");
    if (st == HR_OK)
        st = make_config(c, files, assignments, count, out);
    if (st != HR_OK)
        return st;
    char isa[16];
    int threads = (int)strtol(hr_config_value(*out, "threads"), NULL, 10);
    snprintf(isa, sizeof isa, "%s", hr_config_value(*out, "isa"));
    hr_config_destroy(*out);
    *out = NULL;

    st = create_context(c, threads, isa);
    if (st == HR_OK)
        st = make_config(c, files, assignments, count, out);
    return st;
}

hr_status cli_need_keys(cli *c, const hr_config *config, bool run)
{
    const char *dataset = hr_config_value(config, "dataset");
    if (*dataset && (!run || *hr_config_value(config, "run")))
        return HR_OK;
    if (*dataset)
        return cli_fail(c, HR_ERR_USAGE, "no run folder; add one: headroom %s dataset=%s run=runs/first", c->command,
                        dataset);
    return cli_fail(c, HR_ERR_USAGE,
                    "no data set; type: headroom %s dataset=FOLDER%s, where FOLDER was made by 'headroom prepare'",
                    c->command, run ? " run=runs/first" : "");
}
