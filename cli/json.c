/* JSON, written piece by piece. */
#include "output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json json_make(FILE *out, bool one_line)
{
    return (json){.out = out, .lines = one_line};
}

static void write_string(json *j, const char *text, size_t length);

/* Comma, line break and key before a value. */
static void start_value(json *j, const char *key)
{
    if (j->depth > 0 && j->filled[j->depth])
        fputc(',', j->out);
    if (j->depth > 0 && !j->lines)
        fprintf(j->out, "\n%*s", 2 * j->depth, "");
    j->filled[j->depth] = true;
    if (!key)
        return;
    write_string(j, key, strlen(key));
    fputs(j->lines ? ":" : ": ", j->out);
}

void json_begin(json *j, const char *key, char bracket)
{
    start_value(j, key);
    fputc(bracket, j->out);
    j->depth++;
    j->filled[j->depth] = false;
}

void json_end(json *j, char bracket)
{
    bool filled = j->filled[j->depth];
    j->depth--;
    if (filled && !j->lines)
        fprintf(j->out, "\n%*s", 2 * j->depth, "");
    fputc(bracket, j->out);
    if (j->depth == 0)
        fputc('\n', j->out);
}

/* Length of the valid UTF-8 sequence at the beginning of `s`, or 0. */
static size_t utf8_length(const unsigned char *s, size_t available)
{
    size_t length = s[0] < 0x80   ? 1
                    : s[0] < 0xc2 ? 0
                    : s[0] < 0xe0 ? 2
                    : s[0] < 0xf0 ? 3
                    : s[0] < 0xf5 ? 4
                                  : 0;
    if (length > available)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : length;
}

static void write_string(json *j, const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', j->out);
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(s + i, length - i);
        if (n == 0)
            fputs("\\ufffd", j->out);
        else if (s[i] == '"' || s[i] == '\\')
            fprintf(j->out, "\\%c", s[i]);
        else if (s[i] < 0x20 || s[i] == 0x7f)
            fprintf(j->out, "\\u%04x", s[i]);
        else
            fwrite(s + i, 1, n, j->out);
        i += n ? n : 1;
    }
    fputc('"', j->out);
}

void json_bytes(json *j, const char *key, const char *text, size_t length)
{
    start_value(j, key);
    write_string(j, text, length);
}

void json_text(json *j, const char *key, const char *text)
{
    json_bytes(j, key, text, strlen(text));
}

void json_int(json *j, const char *key, int64_t value)
{
    start_value(j, key);
    fprintf(j->out, "%lld", (long long)value);
}

void json_size(json *j, const char *key, size_t value)
{
    start_value(j, key);
    fprintf(j->out, "%zu", value);
}

void json_number(json *j, const char *key, double value)
{
    char text[40] = "null";
    for (int digits = 6; isfinite(value) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    start_value(j, key);
    fputs(text, j->out);
}

void json_bool(json *j, const char *key, bool value)
{
    start_value(j, key);
    fputs(value ? "true" : "false", j->out);
}
