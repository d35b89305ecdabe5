/* Lines of a descriptor, in constant memory, without waiting when told not to: what lets `predict` answer one
 * typed line at once and a million piped ones in batches. */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_LIMIT ((size_t)16 << 20) /* bytes of the longest line */

typedef enum line_result {
    LINE_GOT,     /* a line; it lives until the next call */
    LINE_NOT_YET, /* nothing to read at the moment */
    LINE_END,     /* no more lines */
    LINE_TOO_LONG,
    LINE_INTERRUPTED, /* a signal came while waiting */
    LINE_FAILED,      /* errno says why */
    LINE_NO_MEMORY
} line_result;

typedef struct line_reader {
    int fd;
    char *buffer; /* owned */
    size_t capacity, begin, end, searched;
    bool at_end;
} line_reader;

void lines_init(line_reader *r, int fd);
void lines_deinit(line_reader *r); /* the descriptor stays open */
/* The next line without its newline (LF or CR LF). `wait`: wait for it; else LINE_NOT_YET if it is not there.
 */
line_result lines_next(line_reader *r, bool wait, const char **line, size_t *length);

#endif
