/* headroom: the command line tool. This file knows the commands and nothing of what they do. */
#include "args.h"
#include "cli.h"
#include "output.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const command *const commands[] = {
    &command_prepare,  &command_train, &command_eval, &command_predict,
    &command_baseline, &command_plan,  &command_info, &command_config, &command_prune,
};
#define COMMANDS ((int)(sizeof commands / sizeof *commands))

static void print_overview(FILE *out)
{
    fputs("headroom trains classifiers with very many labels in the memory one machine has.\n"
          "\n"
          "  headroom prepare raw/ data/\n"
          "  headroom baseline knn data/\n"
          "  headroom plan dataset=data/ head.dtype=e4m3\n"
          "  headroom train dataset=data/ run=runs/first head.dtype=e4m3\n"
          "  headroom eval runs/first/model data/\n"
          "  headroom predict runs/first/model < texts.txt\n"
          "\n"
          "Commands:\n",
          out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s  %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n'headroom COMMAND --help' has examples and options. Results go to stdout, messages to stderr.\n"
          "Exit status: 0 done, 64 usage, 65 bad data, 66 no input, 69 device missing, 70 our mistake, 71 "
          "memory,\n"
          "73 cannot create, 74 I/O, 75 interrupted (run again to resume), 76 not finite, 77 permission, 78 "
          "configuration.\n",
          out);
}

static const command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

static hr_status unknown_command(cli *c, const char *name)
{
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *nearest = args_nearest(name, names, COMMANDS);
    if (nearest)
        return cli_fail(c, HR_ERR_USAGE, "unknown command '%s'; did you mean '%s'?", name, nearest);
    return cli_fail(c, HR_ERR_USAGE, "unknown command '%s'; 'headroom help' lists those there are", name);
}

static hr_status run_command(cli *c, const char *name, int argc, char **argv)
{
    const command *cmd = find_command(name);
    if (!cmd)
        return unknown_command(c, name);
    c->command = cmd->name;
    return cmd->run(c, argc, argv);
}

/* "headroom help train" is "headroom train --help". */
static hr_status run_help(cli *c, int argc, char **argv)
{
    if (argc == 0) {
        print_overview(stdout);
        return HR_OK;
    }
    char help[] = "--help", *arguments[] = {help};
    return run_command(c, argv[0], 1, arguments);
}

static hr_status run(cli *c, int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return HR_ERR_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "help") == 0 || strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        return run_help(c, argc - 2, argv + 2);
    if (strcmp(first, "--version") == 0 || strcmp(first, "version") == 0) {
        printf("headroom %s\n", hr_version());
        return HR_OK;
    }
    if (first[0] == '-')
        return cli_fail(c, HR_ERR_USAGE,
                        "found '%s' where a command is expected; options come after the command", first);
    return run_command(c, first, argc - 2, argv + 2);
}

/* If 0, 1 or 2 is closed, the next file opened would get that number and be written into. /dev/null takes its
 * place, opened the wrong way round for 0 and 1, so that using them is still an error. */
static void guard_standard_files(void)
{
    static const int modes[3] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", modes[fd]) != fd)
            _exit(HR_ERR_IO);
    }
}

int main(int argc, char **argv)
{
    guard_standard_files();
    signal(SIGPIPE, SIG_IGN);
    cli c = {.threads = -1, .on_terminal = isatty(2) == 1};
    hr_status st = run(&c, argc, argv);
    cli_clear_progress(&c);
    hr_status written = output_flush(&c);
    cli_close(&c);
    return (int)(st != HR_OK ? st : written);
}
