/* Lines come out of one window over the unpacked bytes. When a line is cut by the end of the window, its
 * beginning is moved to the front and more is read behind it; the window grows up to HR_LINE_MAX. */
#include "dataset/input.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define INPUT_WINDOW ((size_t)1 << 18)

hr_status hr_input_open(hr_ctx *ctx, const char *path, hr_input *out)
{
    *out = (hr_input){.ctx = ctx};
    HR_TRY(hr_path_format(ctx, out->path, "%s", path));
    HR_TRY(hr_unpack_open(ctx, path, &out->unpack));
    out->capacity = INPUT_WINDOW;
    out->window = hr_alloc(ctx, HR_MEM_DATASET, out->capacity);
    if (!out->window) {
        hr_input_close(out);
        return HR_ERR_NOMEM;
    }
    return HR_OK;
}

void hr_input_close(hr_input *input)
{
    if (!input->unpack)
        return;
    hr_unpack_close(input->unpack);
    hr_free(input->ctx, input->window);
    *input = (hr_input){.ctx = input->ctx};
}

hr_status hr_input_fail(const hr_input *input, const char *at, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    long long column = at && input->line ? (long long)(at - input->line) + 1 : 1;
    return hr_fail(input->ctx, HR_ERR_DATA, "%s:%lld:%lld: %s", input->path, (long long)input->number, column,
                   text);
}

/* Reads more bytes behind the ones in the window. */
static hr_status fill(hr_input *in)
{
    memmove(in->window, in->window + in->begin, in->end - in->begin);
    in->end -= in->begin;
    in->begin = 0;
    if (in->end == in->capacity) {
        char *wider = hr_realloc(in->ctx, HR_MEM_DATASET, in->window, in->capacity * 2);
        if (!wider)
            return HR_ERR_NOMEM;
        in->window = wider;
        in->capacity *= 2;
    }
    size_t got = 0;
    HR_TRY(hr_unpack_read(in->unpack, in->window + in->end, in->capacity - in->end, &got));
    in->file_ended = got == 0;
    in->end += got;
    return HR_OK;
}

/* Sets the current line to `length` bytes at `begin` and steps over them and `newline` bytes more. */
static void set_line(hr_input *in, size_t length, size_t newline)
{
    in->line = in->at = in->window + in->begin;
    in->stop = in->line + length;
    in->begin += length + newline;
    in->number++;
    if (in->stop > in->line && in->stop[-1] == '\r')
        in->stop--;
    if (in->number == 1 && in->stop - in->line >= 3 && memcmp(in->line, "\xef\xbb\xbf", 3) == 0)
        in->line = in->at = in->line + 3;
}

hr_status hr_input_next(hr_input *in, bool *got)
{
    *got = false;
    in->line = in->at = in->stop = NULL;
    size_t searched = 0; /* bytes from `begin` that hold no newline */
    for (;;) {
        const char *from = in->window + in->begin;
        size_t have = in->end - in->begin;
        const char *newline = have > searched ? memchr(from + searched, '\n', have - searched) : NULL;
        size_t length = newline ? (size_t)(newline - from) : have;
        if (length > HR_LINE_MAX) {
            in->number++;
            return hr_input_fail(in, NULL, "a line of more than %zu bytes; is this a text file?",
                                 HR_LINE_MAX);
        }
        if (newline || (in->file_ended && have > 0)) {
            set_line(in, length, newline ? 1 : 0);
            *got = true;
            return HR_OK;
        }
        if (in->file_ended)
            return HR_OK;
        searched = have;
        HR_TRY(fill(in));
    }
}

/* What stands at the cursor, for messages: "'x'", "byte 0x07" or "the end of the line". */
static const char *found(const hr_input *in, char text[32])
{
    unsigned char c = in->at < in->stop ? (unsigned char)*in->at : 0;
    if (in->at >= in->stop)
        snprintf(text, 32, "the end of the line");
    else if (c > ' ' && c < 127)
        snprintf(text, 32, "'%c'", c);
    else
        snprintf(text, 32, c == ' ' ? "a blank" : "byte 0x%02x", c);
    return text;
}

static bool is_digit(const hr_input *in)
{
    return in->at < in->stop && *in->at >= '0' && *in->at <= '9';
}

hr_status hr_input_count(hr_input *in, const char *what, int64_t limit, int64_t *out)
{
    char seen[32];
    const char *start = in->at;
    if (!is_digit(in))
        return hr_input_fail(in, in->at, "found %s, expected a %s (a whole number)", found(in, seen), what);
    int64_t value = 0;
    for (; is_digit(in); in->at++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *in->at - '0', &value))
            return hr_input_fail(in, start, "%s is too large, expected less than %lld", what,
                                 (long long)limit);
    if (value >= limit)
        return hr_input_fail(in, start, "%s is %lld, expected less than %lld", what, (long long)value,
                             (long long)limit);
    *out = value;
    return HR_OK;
}

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
}

hr_status hr_input_number(hr_input *in, const char *what, float *out)
{
    char seen[32];
    const char *start = in->at, *end = start;
    while (end < in->stop && is_number_char(*end))
        end++;
    if (end == start)
        return hr_input_fail(in, start, "found %s, expected a %s (a finite number)", found(in, seen), what);
    double value = 0;
    if (!hr_parse_number(start, (size_t)(end - start), &value) || !isfinite((float)value))
        return hr_input_fail(in, start, "%s is '%.*s', expected a number that fits a 32-bit float", what,
                             end - start < 40 ? (int)(end - start) : 40, start);
    in->at = end;
    *out = (float)value;
    return HR_OK;
}

hr_status hr_input_expect(hr_input *in, char c, const char *where)
{
    char seen[32];
    if (in->at >= in->stop || *in->at != c)
        return hr_input_fail(in, in->at, "found %s, expected '%c' %s", found(in, seen), c, where);
    in->at++;
    return HR_OK;
}

hr_status hr_input_finish(hr_input *in)
{
    char seen[32];
    hr_input_blanks(in);
    if (in->at < in->stop)
        return hr_input_fail(in, in->at, "found %s, expected the end of the line", found(in, seen));
    return HR_OK;
}

hr_status hr_input_find(hr_ctx *ctx, const char *folder, const char *name, char path[HR_PATH_MAX])
{
    static const char *const endings[] = {"", ".gz", ".xz", ".zst"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        HR_TRY(hr_path_format(ctx, path, "%s/%s%s", folder, name, endings[i]));
        if (hr_path_exists(path) && !hr_path_is_dir(path))
            return HR_OK;
    }
    path[0] = 0;
    return HR_OK;
}
