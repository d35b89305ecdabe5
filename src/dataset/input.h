/* Text files read line by line, whatever they are packed with, and the numbers in a line.
 *
 * A line is lent until the next one is asked for: no end of line in it, not NUL-terminated. "\r\n" counts as
 * an end of line, a UTF-8 byte order mark at the start of the file is dropped, and the last line needs no
 * end. */
#ifndef HR_DATASET_INPUT_H
#define HR_DATASET_INPUT_H

#include "dataset/unpack.h"

#define HR_LINE_MAX ((size_t)64 << 20)

typedef struct hr_input {
    hr_ctx *ctx;
    char path[HR_PATH_MAX];
    hr_unpack *unpack; /* NULL: closed */
    char *window;      /* HR_MEM_DATASET; bytes begin .. end - 1 are not given out yet */
    size_t begin, end, capacity;
    bool file_ended;
    const char *line; /* the current line, and where its parsing stands */
    const char *at, *stop;
    int64_t number; /* of the current line; the first is 1 */
} hr_input;

hr_status hr_input_open(hr_ctx *ctx, const char *path, hr_input *out);
/* A zeroed or closed input is fine. */
void hr_input_close(hr_input *input);

/* Moves to the next line; *got = false at the end. The line is [line, stop); `at` is set to its start. */
hr_status hr_input_next(hr_input *input, bool *got);
static inline size_t hr_input_length(const hr_input *input)
{
    return (size_t)(input->stop - input->line);
}

/* Fails with "path:line:column: ..." for the place `at`. */
hr_status hr_input_fail(const hr_input *input, const char *at, const char *format, ...) HR_PRINTF(3, 4);

/* Parsing at `at`, within the line. `what` names the thing in messages: "label id". */
static inline void hr_input_blanks(hr_input *input)
{
    while (input->at < input->stop && (*input->at == ' ' || *input->at == '\t'))
        input->at++;
}
static inline bool hr_input_done(const hr_input *input)
{
    return input->at == input->stop;
}
/* A whole number in [0, limit). */
hr_status hr_input_count(hr_input *input, const char *what, int64_t limit, int64_t *out);
/* A finite decimal number such as -1.5e-3. */
hr_status hr_input_number(hr_input *input, const char *what, float *out);
hr_status hr_input_expect(hr_input *input, char c, const char *where);
/* Blanks, then the end of the line. */
hr_status hr_input_finish(hr_input *input);

/* Finds NAME, NAME.gz, NAME.xz or NAME.zst in a folder; path is "" when there is none. */
hr_status hr_input_find(hr_ctx *ctx, const char *folder, const char *name, char path[HR_PATH_MAX]);

#endif
