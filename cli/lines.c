/* Lines of a descriptor: one buffer that grows to the longest line. */
#include "lines.h"

#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_CAPACITY ((size_t)1 << 16)

void lines_init(line_reader *r, int fd)
{
    *r = (line_reader){.fd = fd};
}

void lines_deinit(line_reader *r)
{
    free(r->buffer);
    r->buffer = NULL;
}

static line_result cut_line(line_reader *r, size_t length, size_t with_newline, const char **line,
                            size_t *out)
{
    *line = r->buffer + r->begin;
    r->begin += with_newline;
    r->searched = r->begin;
    if (length > 0 && (*line)[length - 1] == '\r')
        length--;
    *out = length;
    return LINE_GOT;
}

/* Makes room for more bytes: moves what is left to the front, or grows. */
static line_result make_room(line_reader *r)
{
    if (r->begin > 0) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->searched -= r->begin;
        r->begin = 0;
    }
    if (r->end < r->capacity)
        return LINE_GOT;
    if (r->capacity >= LINE_LIMIT)
        return LINE_TOO_LONG;
    size_t capacity = r->capacity ? 2 * r->capacity : FIRST_CAPACITY;
    char *buffer = realloc(r->buffer, capacity);
    if (!buffer)
        return LINE_NO_MEMORY;
    r->buffer = buffer;
    r->capacity = capacity;
    return LINE_GOT;
}

static line_result read_more(line_reader *r, bool wait)
{
    struct pollfd ready = {.fd = r->fd, .events = POLLIN};
    if (!wait && poll(&ready, 1, 0) == 0)
        return LINE_NOT_YET;
    line_result room = make_room(r);
    if (room != LINE_GOT)
        return room;
    ssize_t got = read(r->fd, r->buffer + r->end, r->capacity - r->end);
    if (got < 0)
        return errno == EINTR ? (cli_interrupted() ? LINE_INTERRUPTED : LINE_GOT) : LINE_FAILED;
    r->end += (size_t)got;
    r->at_end = got == 0;
    return LINE_GOT;
}

line_result lines_next(line_reader *r, bool wait, const char **line, size_t *length)
{
    for (;;) {
        if (cli_interrupted())
            return LINE_INTERRUPTED;
        char *newline =
            r->end > r->searched ? memchr(r->buffer + r->searched, '\n', r->end - r->searched) : NULL;
        if (newline) {
            size_t n = (size_t)(newline - (r->buffer + r->begin));
            return cut_line(r, n, n + 1, line, length);
        }
        r->searched = r->end;
        if (r->at_end && r->begin == r->end)
            return LINE_END;
        if (r->at_end)
            return cut_line(r, r->end - r->begin, r->end - r->begin, line, length);
        line_result more = read_more(r, wait);
        if (more != LINE_GOT)
            return more;
    }
}
