/* Key-values of a checkpoint, and the names of element types. */
#include "checkpoint/internal.h"

#include "base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

void hr_meta_set(hr_meta *meta, const char *key, const char *format, ...)
{
    int i = 0;
    while (i < meta->count && strcmp(meta->item[i].key, key) != 0)
        i++;
    assert(i < HR_META_MAX && strlen(key) < HR_META_KEY);
    if (i == HR_META_MAX)
        return;
    if (i == meta->count)
        snprintf(meta->item[meta->count++].key, HR_META_KEY, "%s", key);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(meta->item[i].value, HR_META_VALUE, format, args);
    va_end(args);
    assert(n >= 0 && n < HR_META_VALUE);
    (void)n;
}

void hr_meta_set_number(hr_meta *meta, const char *key, double value)
{
    char text[64] = "nan";
    if (!isnan(value))
        hr_format_number(value, text, sizeof text);
    hr_meta_set(meta, key, "%s", text);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "-0x1.8p-3" */
static bool parse_hex(const char *text, double *out)
{
    const bool negative = *text == '-';
    const char *at = text + negative;
    uint64_t digits = 0;
    int64_t exponent, places = 0;
    bool point = false;
    if (at[0] != '0' || at[1] != 'x' || hex_digit(at[2]) < 0)
        return false;
    for (at += 2; hex_digit(*at) >= 0 || (*at == '.' && !point); at++) {
        if (digits >> 53)
            return false;
        if (*at != '.')
            digits = digits * 16 + (uint64_t)hex_digit(*at);
        places += point;
        point = point || *at == '.';
    }
    if (*at != 'p' || !hr_parse_int(at + 1, strlen(at + 1), &exponent) || exponent < -2000 || exponent > 2000)
        return false;
    *out = ldexp(negative ? -(double)digits : (double)digits, (int)(exponent - 4 * places));
    return isfinite(*out);
}

bool hr_meta_parse_number(const char *text, double *out)
{
    if (strcmp(text, "nan") == 0 || strcmp(text, "-nan") == 0) {
        *out = NAN;
        return true;
    }
    return hr_parse_number(text, strlen(text), out) || parse_hex(text, out);
}

const char *hr_meta_get(const hr_meta *meta, const char *key)
{
    for (int i = 0; i < meta->count; i++)
        if (strcmp(meta->item[i].key, key) == 0)
            return meta->item[i].value;
    return NULL;
}

char *hr_manifest_sum(char *text)
{
    char *at = strstr(text, "\"" HR_MANIFEST_SUM "\"");
    at = at ? strchr(at + sizeof HR_MANIFEST_SUM + 1, '"') : NULL;
    return at && strlen(at) > 9 && at[9] == '"' ? at + 1 : NULL;
}

static const char *const type_names[] = {
    [HR_T_F32] = "F32",         [HR_T_BF16] = "BF16", [HR_T_F16] = "F16", [HR_T_F8_E4M3] = "F8_E4M3",
    [HR_T_F8_E5M2] = "F8_E5M2", [HR_T_I8] = "I8",     [HR_T_U8] = "U8",   [HR_T_U16] = "U16", [HR_T_U32] = "U32",
};
enum { TYPES = sizeof type_names / sizeof *type_names };

const char *hr_tensor_type_name(hr_tensor_type type)
{
    return type_names[type];
}

int hr_tensor_type_parse(const char *name)
{
    for (int i = 0; i < TYPES; i++)
        if (strcmp(name, type_names[i]) == 0)
            return i;
    return -1;
}
