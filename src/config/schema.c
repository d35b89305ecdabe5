/* The schema table and the judgement of one value: type, whole token, range, list of words. */
#include "config/schema.h"

#include "base/number.h"

#include <stdio.h>
#include <string.h>

#define KEY_TYPE_INT    HR_KEY_INT
#define KEY_TYPE_NUMBER HR_KEY_NUMBER
#define KEY_TYPE_BOOL   HR_KEY_BOOL
#define KEY_TYPE_CHOICE HR_KEY_CHOICE
#define KEY_TYPE_TEXT   HR_KEY_TEXT

static const hr_key schema[HR_KEYS] = {
#define HR_KEY(name, type, fallback, allowed, result, help)                                                  \
    {name, fallback, allowed, help, KEY_TYPE_##type, (result) != 0},
#include "config/schema.def"
#undef HR_KEY
};

const hr_key *hr_schema_key(int i)
{
    return &schema[i];
}

int hr_schema_find(const char *name)
{
    for (int i = 0; i < HR_KEYS; i++) {
        if (strcmp(schema[i].name, name) == 0)
            return i;
    }
    return -1;
}

int hr_schema_section(const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < HR_KEYS; i++) {
        if (strncmp(schema[i].name, name, length) == 0 && schema[i].name[length] == '.')
            return i;
    }
    return -1;
}

/* ---- the nearest key ---- */

#define LONGEST_NAME 64

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein distance, one row of the table at a time; longer names are cut. */
static int edit_distance(const char *a, const char *b)
{
    int row[LONGEST_NAME + 1];
    int n = smaller((int)strnlen(b, LONGEST_NAME), LONGEST_NAME);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; a[i] && i < LONGEST_NAME; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smaller(change, smaller(row[j], row[j + 1]) + 1);
        }
    }
    return row[n];
}

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static int append(char *text, size_t bytes, int used, const char *before, const char *name)
{
    if (used < 0 || (size_t)used >= bytes)
        return used;
    return used + snprintf(text + used, bytes - (size_t)used, "%s'%s'", before, name);
}

/* Right last part, wrong or missing section: names up to three keys that end in it. */
static int suggest_section(const char *name, char *text, size_t bytes)
{
    int found = 0, used = 0;
    for (int i = 0; i < HR_KEYS && found < 3; i++) {
        if (strcmp(last_part(schema[i].name), last_part(name)) == 0)
            used = append(text, bytes, used, found++ ? " or " : "; did you mean ", schema[i].name);
    }
    return used;
}

void hr_schema_suggest(const char *name, char *text, size_t bytes)
{
    text[0] = 0;
    int used = suggest_section(name, text, bytes);
    if (used == 0) {
        // without a section, compare with last parts: "dtpye" is near "head.dtype"
        bool bare = !strchr(name, '.');
        int best = -1, distance = smaller(3, (int)strlen(name) / 3 + 1) + 1;
        for (int i = 0; i < HR_KEYS; i++) {
            int d = edit_distance(name, schema[i].name);
            if (bare)
                d = smaller(d, edit_distance(name, last_part(schema[i].name)));
            if (d < distance) {
                distance = d;
                best = i;
            }
        }
        if (best >= 0)
            used = append(text, bytes, 0, "; did you mean ", schema[best].name);
    }
    if (used > 0 && (size_t)used + 1 < bytes)
        snprintf(text + used, bytes - (size_t)used, "?");
}

/* ---- values ---- */

int64_t hr_schema_int(const char *value)
{
    int64_t out = 0;
    hr_parse_int(value, strlen(value), &out);
    return out;
}

double hr_schema_number(const char *value)
{
    double out = 0;
    hr_parse_number(value, strlen(value), &out);
    return out;
}

int hr_schema_choice(const hr_key *key, const char *value)
{
    size_t length = strlen(value);
    int index = 0;
    for (const char *word = key->allowed; word; index++) {
        const char *bar = strchr(word, '|');
        size_t word_length = bar ? (size_t)(bar - word) : strlen(word);
        if (length == word_length && memcmp(word, value, length) == 0)
            return index;
        word = bar ? bar + 1 : NULL;
    }
    return -1;
}

/* -1: below the range "low..high", 1: above, 0: inside. Either end may be missing. */
static int compare_range(const char *range, double value)
{
    const char *dots = strstr(range, "..");
    double bound;
    if (!dots)
        return 0;
    if (hr_parse_number(range, (size_t)(dots - range), &bound) && value < bound)
        return -1;
    if (hr_parse_number(dots + 2, strlen(dots + 2), &bound) && value > bound)
        return 1;
    return 0;
}

static hr_status check_range(hr_ctx *ctx, const hr_key *key, double value, const char *found,
                             const char *where)
{
    int side = compare_range(key->allowed, value);
    if (side == 0)
        return HR_OK;
    const char *dots = strstr(key->allowed, "..");
    if (side < 0)
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is %s, it must be at least %.*s", where, key->name, found,
                       (int)(dots - key->allowed), key->allowed);
    return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is %s, it must be at most %s", where, key->name, found,
                   dots + 2);
}

static hr_status judge_int(hr_ctx *ctx, const hr_key *key, const char *value, const char *where,
                           char *canonical)
{
    int64_t number;
    if (!hr_parse_int(value, strlen(value), &number))
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is '%.80s', expected a whole number such as %s", where,
                       key->name, value, key->fallback);
    snprintf(canonical, HR_VALUE_MAX, "%lld", (long long)number);
    return check_range(ctx, key, (double)number, canonical, where);
}

static hr_status judge_number(hr_ctx *ctx, const hr_key *key, const char *value, const char *where,
                              char *canonical)
{
    double number;
    if (!hr_parse_number(value, strlen(value), &number))
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is '%.80s', expected a finite number such as %s", where,
                       key->name, value, key->fallback);
    hr_format_number(number == 0 ? 0 : number, canonical, HR_VALUE_MAX);
    return check_range(ctx, key, number, canonical, where);
}

static hr_status judge_bool(hr_ctx *ctx, const hr_key *key, const char *value, const char *where,
                            char *canonical)
{
    static const char *const words[2][3] = {{"false", "no", "off"}, {"true", "yes", "on"}};
    for (int truth = 0; truth < 2; truth++) {
        for (int i = 0; i < 3; i++) {
            if (strcmp(value, words[truth][i]) == 0) {
                snprintf(canonical, HR_VALUE_MAX, "%s", words[truth][0]);
                return HR_OK;
            }
        }
    }
    return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is '%.80s', expected true, false, yes, no, on or off", where,
                   key->name, value);
}

static hr_status judge_choice(hr_ctx *ctx, const hr_key *key, const char *value, const char *where,
                              char *canonical)
{
    if (hr_schema_choice(key, value) < 0)
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s is '%.80s', expected one of %s", where, key->name, value,
                       key->allowed);
    memcpy(canonical, value, strlen(value) + 1); // its length was checked
    return HR_OK;
}

/* Length of the UTF-8 sequence at `s` (NUL-terminated), or 0 when there is none. Overlong forms and
 * surrogates are refused, as YAML does. */
static int utf8_length(const unsigned char *s)
{
    int length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : length;
}

/* Text that YAML can hold on one line: UTF-8 without control characters, line separators or byte order marks.
 */
static bool is_plain_text(const char *value)
{
    const unsigned char *s = (const unsigned char *)value;
    while (*s) {
        int length = utf8_length(s);
        if (length == 0 || *s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0))
            return false;
        if (length == 3 && ((s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9)) ||
                            (s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf) ||
                            (s[0] == 0xef && s[1] == 0xbf && s[2] >= 0xbe)))
            return false;
        s += length;
    }
    return true;
}

hr_status hr_schema_judge(hr_ctx *ctx, int i, const char *value, const char *where,
                          char canonical[HR_VALUE_MAX])
{
    const hr_key *key = &schema[i];
    if (strlen(value) >= HR_VALUE_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: %s has %zu bytes, at most %d are allowed", where, key->name,
                       strlen(value), HR_VALUE_MAX - 1);
    switch (key->type) {
    case HR_KEY_INT:
        return judge_int(ctx, key, value, where, canonical);
    case HR_KEY_NUMBER:
        return judge_number(ctx, key, value, where, canonical);
    case HR_KEY_BOOL:
        return judge_bool(ctx, key, value, where, canonical);
    case HR_KEY_CHOICE:
        return judge_choice(ctx, key, value, where, canonical);
    case HR_KEY_TEXT:
        break;
    }
    if (!is_plain_text(value))
        return hr_fail(ctx, HR_ERR_CONFIG,
                       "%s: %s must be UTF-8 text on one line, without control characters", where, key->name);
    memcpy(canonical, value, strlen(value) + 1); // its length was checked
    return HR_OK;
}
