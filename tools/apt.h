/* Reading what apt prints, for tools: run a command, cut its output into stanzas and fields. A tool may stop
 * the process with a sentence; its exit codes are those of headroom.h. */
#ifndef HR_TOOLS_APT_H
#define HR_TOOLS_APT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPER "/usr/lib/apt/apt-helper"

enum {
    EXIT_USAGE = 64,
    EXIT_DATA = 65,
    EXIT_NOINPUT = 66,
    EXIT_DEVICE = 69,
    EXIT_NOMEM = 71,
    EXIT_CANTCREATE = 73,
    EXIT_IO = 74
};

static inline _Noreturn __attribute__((format(printf, 2, 3))) void die(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("debian_packages: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(code);
}

static inline void *grow(void *block, size_t count, size_t size)
{
    void *wider = reallocarray(block, count ? count : 1, size);
    if (!wider)
        die(EXIT_NOMEM, "no memory for %zu times %zu bytes", count, size);
    return wider;
}

/* ---- running apt ---- */

/* What a command prints, NUL-terminated; dies when it fails. */
static inline char *run(char *const argv[])
{
    int ends[2];
    if (pipe(ends) != 0)
        die(EXIT_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        die(EXIT_IO, "cannot start %s: %s", argv[0], strerror(errno));
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0, capacity = 1 << 20;
    char *text = grow(NULL, capacity, 1);
    for (ssize_t got; (got = read(ends[0], text + used, capacity - used - 1)) != 0;) {
        if (got < 0 && errno != EINTR)
            die(EXIT_IO, "cannot read from %s: %s", argv[0], strerror(errno));
        used += got > 0 ? (size_t)got : 0;
        if (capacity - used < 4096)
            text = grow(text, capacity *= 2, 1);
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        die(EXIT_DEVICE, "cannot run %s; this tool needs a Debian system with apt", argv[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die(EXIT_IO, "%s failed", argv[0]);
    text[used] = 0;
    return text;
}

/* ---- stanzas: "Key: value" lines, continued by lines that begin with a blank, parted by empty lines ---- */

/* Cuts the next stanza off *text; NULL at the end. */
static inline char *next_stanza(char **text)
{
    char *begin = *text + strspn(*text, "\n");
    if (!*begin)
        return NULL;
    char *end = strstr(begin, "\n\n");
    *text = end ? end + 2 : begin + strlen(begin);
    if (end)
        *end = 0;
    return begin;
}

/* A line of a stanza becomes a key and a value, continuation lines included; both NUL-terminated in place. */
static inline bool next_field(char **stanza, char **key, char **value)
{
    char *line = *stanza;
    if (!line || !*line)
        return false;
    char *end = line;
    do {
        end += strcspn(end, "\n");
        if (!*end)
            break;
        end++;
    } while (*end == ' ' || *end == '\t');
    *stanza = end;
    if (end > line && end[-1] == '\n')
        end[-1] = 0;
    char *colon = strchr(line, ':');
    if (!colon)
        die(EXIT_DATA, "the index has a line without ':': %.60s", line);
    *colon = 0;
    *key = line;
    *value = colon + 1 + strspn(colon + 1, " \t");
    return true;
}

typedef struct field {
    const char *key;
    char *value; /* "" when absent */
} field;

static inline void read_fields(char *stanza, field *fields, size_t count)
{
    static char empty[1];
    for (size_t i = 0; i < count; i++)
        fields[i].value = empty;
    for (char *key, *value; next_field(&stanza, &key, &value);)
        for (size_t i = 0; i < count; i++)
            if (strcmp(fields[i].key, key) == 0)
                fields[i].value = value;
}

#endif
