/* The rows of schema.def as a table, and the judgement of one value. */
#ifndef HR_CONFIG_SCHEMA_H
#define HR_CONFIG_SCHEMA_H

#include "base/ctx.h"

typedef enum hr_key_type { HR_KEY_INT, HR_KEY_NUMBER, HR_KEY_BOOL, HR_KEY_CHOICE, HR_KEY_TEXT } hr_key_type;

typedef struct hr_key {
    const char *name, *fallback, *allowed, *help;
    hr_key_type type;
    bool result; /* influences the result */
} hr_key;

#define HR_VALUE_MAX 1024 /* bytes of a value, with its NUL */

/* Number of keys: 0 + 1 + 1 ... */
enum {
    HR_KEYS = 0
#define HR_KEY(name, type, fallback, allowed, result, help) +1
#include "config/schema.def"
#undef HR_KEY
};

const hr_key *hr_schema_key(int i);
/* Index of a key, or -1. */
int hr_schema_find(const char *name);
/* Index of the first key "name.something", or -1. */
int hr_schema_section(const char *name);
/* "; did you mean 'head.dtype'?" for an unknown key, or "" when nothing is near. */
void hr_schema_suggest(const char *name, char *text, size_t bytes);

/* Brings `value` into its canonical form ("1e-8", "true"), or fails with HR_ERR_CONFIG, naming `where` and
 * the key. */
hr_status hr_schema_judge(hr_ctx *ctx, int i, const char *value, const char *where,
                          char canonical[HR_VALUE_MAX]);
/* Numbers of a value in canonical form. */
int64_t hr_schema_int(const char *value);
double hr_schema_number(const char *value);
/* Index of `value` in the key's list of words, or -1. */
int hr_schema_choice(const hr_key *key, const char *value);

#endif
