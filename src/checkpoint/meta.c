/* Key-values of a checkpoint, and the names of element types. */
#include "checkpoint/internal.h"

#include <assert.h>
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
    [HR_T_F8_E5M2] = "F8_E5M2", [HR_T_I8] = "I8",     [HR_T_U8] = "U8",   [HR_T_U32] = "U32",
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
