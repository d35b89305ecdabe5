/* Numbers as text. strtod and printf follow the locale of the process, which belongs to the program that uses
 * us; its decimal point is put in before the one and taken out after the other. */
#include "base/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool hr_parse_int(const char *text, size_t length, int64_t *out)
{
    size_t i = 0;
    bool negative = length > 0 && text[0] == '-';
    if (length > 0 && (text[0] == '-' || text[0] == '+'))
        i++;
    if (i == length)
        return false;
    int64_t value = 0;
    for (; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        int digit = text[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *out = value;
    return true;
}

/* Replaces the one point or comma of a number. Locales with a longer decimal point do not occur in practice.
 */
static void swap_point(char *text, char from, char to)
{
    char *at = strchr(text, from);
    if (at)
        *at = to;
}

static char locale_point(void)
{
    return localeconv()->decimal_point[0];
}

bool hr_parse_number(const char *text, size_t length, double *out)
{
    char token[64];
    if (length == 0 || length >= sizeof token)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!strchr("0123456789+-.eE", text[i]) || text[i] == 0)
            return false;
    }
    memcpy(token, text, length);
    token[length] = 0;
    swap_point(token, '.', locale_point());
    char *end;
    double value = strtod(token, &end);
    if (*end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

/* "1e-08" becomes "1e-8", "1e+20" becomes "1e20". */
static void shorten_exponent(char *text)
{
    char *to = strchr(text, 'e');
    if (!to)
        return;
    const char *from = ++to;
    if (*from == '-')
        to++;
    from++;
    while (*from == '0')
        from++;
    memmove(to, from, strlen(from) + 1);
}

void hr_format_number(double value, char *text, size_t bytes)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, bytes, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    swap_point(text, locale_point(), '.');
    shorten_exponent(text);
}

hr_number_text hr_number(double value, int digits)
{
    hr_number_text out;
    snprintf(out.text, sizeof out.text, "%.*g", digits, value);
    swap_point(out.text, locale_point(), '.');
    return out;
}
