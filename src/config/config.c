/* A configuration: for each key of the schema a value and where it came from.
 *
 * A slot without a value stands for the default. Files are read into a table of their own (yaml.c) which is
 * merged only when all of it was good, so a failing call leaves the configuration as it was. */
#include "config/config_impl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

hr_status hr_config_create(hr_ctx *ctx, hr_config **out)
{
    *out = NULL;
    hr_config *config = HR_NEW(ctx, HR_MEM_OTHER, hr_config);
    if (!config)
        return HR_ERR_NOMEM;
    config->ctx = ctx;
    config->slot = HR_ARRAY0(ctx, HR_MEM_OTHER, hr_config_slot, HR_KEYS);
    if (!config->slot) {
        hr_config_destroy(config);
        return HR_ERR_NOMEM;
    }
    *out = config;
    return HR_OK;
}

void hr_config_destroy(hr_config *config)
{
    if (!config)
        return;
    hr_config_release(config->ctx, config->slot);
    hr_free(config->ctx, config);
}

void hr_config_release(hr_ctx *ctx, hr_config_slot *slots)
{
    for (int i = 0; slots && i < HR_KEYS; i++) {
        hr_free(ctx, slots[i].value);
        hr_free(ctx, slots[i].origin);
    }
    hr_free(ctx, slots);
}

hr_status hr_config_store(hr_ctx *ctx, hr_config_slot *slot, const char *value, const char *origin)
{
    hr_config_slot fresh = {hr_strdup(ctx, HR_MEM_OTHER, value), hr_strdup(ctx, HR_MEM_OTHER, origin)};
    if (!fresh.value || !fresh.origin) {
        hr_free(ctx, fresh.value);
        hr_free(ctx, fresh.origin);
        return HR_ERR_NOMEM;
    }
    hr_free(ctx, slot->value);
    hr_free(ctx, slot->origin);
    *slot = fresh;
    return HR_OK;
}

hr_status hr_config_read(hr_config *config, const char *path)
{
    hr_ctx *ctx = config->ctx;
    hr_config_slot *slots = HR_ARRAY0(ctx, HR_MEM_OTHER, hr_config_slot, HR_KEYS);
    if (!slots)
        return HR_ERR_NOMEM;
    hr_status st = hr_config_read_yaml(ctx, path, slots);
    for (int i = 0; st == HR_OK && i < HR_KEYS; i++) {
        if (!slots[i].value)
            continue;
        hr_config_slot old = config->slot[i];
        config->slot[i] = slots[i];
        slots[i] = old;
    }
    hr_config_release(ctx, slots);
    return st;
}

hr_status hr_config_set(hr_config *config, const char *assignment, const char *origin)
{
    hr_ctx *ctx = config->ctx;
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: found '%.80s', expected key=value such as head.dtype=e4m3",
                       origin, assignment);
    char key[HR_VALUE_MAX], canonical[HR_VALUE_MAX], suggestion[256];
    size_t length = (size_t)(equals - assignment);
    length = length < sizeof key ? length : sizeof key - 1;
    memcpy(key, assignment, length);
    key[length] = 0;
    int i = hr_schema_find(key);
    if (i < 0) {
        hr_schema_suggest(key, suggestion, sizeof suggestion);
        return hr_fail(ctx, HR_ERR_CONFIG, "%s: unknown key '%.80s'%s", origin, key, suggestion);
    }
    HR_TRY(hr_schema_judge(ctx, i, equals + 1, origin, canonical));
    return hr_config_store(ctx, &config->slot[i], canonical, origin);
}

/* ---- looking ---- */

int hr_config_count(const hr_config *config)
{
    (void)config;
    return HR_KEYS;
}

static const char *slot_value(const hr_config *config, int i)
{
    return config->slot[i].value ? config->slot[i].value : hr_schema_key(i)->fallback;
}

hr_config_item hr_config_entry(const hr_config *config, int i)
{
    static const char *const types[] = {"integer", "number", "boolean", "choice", "text"};
    const hr_key *key = hr_schema_key(i);
    return (hr_config_item){
        .key = key->name,
        .value = slot_value(config, i),
        .origin = config->slot[i].origin ? config->slot[i].origin : "default",
        .type = types[key->type],
        .fallback = key->fallback,
        .allowed = key->allowed,
        .help = key->help,
    };
}

const char *hr_config_value(const hr_config *config, const char *key)
{
    int i = hr_schema_find(key);
    return i < 0 ? NULL : slot_value(config, i);
}

static const char *known_value(const hr_config *config, const char *key, hr_key_type type)
{
    int i = hr_schema_find(key);
    assert(i >= 0 && hr_schema_key(i)->type == type);
    (void)type;
    return i < 0 ? "" : slot_value(config, i);
}

int64_t hr_config_int(const hr_config *config, const char *key)
{
    return hr_schema_int(known_value(config, key, HR_KEY_INT));
}

double hr_config_number(const hr_config *config, const char *key)
{
    return hr_schema_number(known_value(config, key, HR_KEY_NUMBER));
}

bool hr_config_bool(const hr_config *config, const char *key)
{
    return strcmp(known_value(config, key, HR_KEY_BOOL), "true") == 0;
}

const char *hr_config_text(const hr_config *config, const char *key)
{
    int i = hr_schema_find(key);
    assert(i >= 0 && (hr_schema_key(i)->type == HR_KEY_TEXT || hr_schema_key(i)->type == HR_KEY_CHOICE));
    return i < 0 ? "" : slot_value(config, i);
}

int hr_config_choice(const hr_config *config, const char *key)
{
    const char *value = known_value(config, key, HR_KEY_CHOICE);
    return hr_schema_choice(hr_schema_key(hr_schema_find(key)), value);
}

hr_ctx *hr_config_ctx(const hr_config *config)
{
    return config->ctx;
}

/* FNV-1a over "key=value\n" of each key that influences the result, in schema order. */
uint64_t hr_config_hash(const hr_config *config)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < HR_KEYS; i++) {
        const hr_key *key = hr_schema_key(i);
        if (!key->result)
            continue;
        const char *parts[4] = {key->name, "=", slot_value(config, i), "\n"};
        for (int p = 0; p < 4; p++) {
            for (const char *c = parts[p]; *c; c++)
                hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        }
    }
    return hash;
}

/* ---- writing ---- */

/* A text value in double quotes; the judge let no control characters in. Other types need no quotes. */
static void quote(const hr_key *key, const char *value, char *out)
{
    bool text = key->type == HR_KEY_TEXT;
    if (text)
        *out++ = '"';
    for (; *value; value++) {
        if (text && (*value == '"' || *value == '\\'))
            *out++ = '\\';
        *out++ = *value;
    }
    if (text)
        *out++ = '"';
    *out = 0;
}

/* An origin on one line: what is not printable ASCII becomes '?', so that no file name can end the comment.
 */
static void clean_origin(const char *origin, char *out, size_t bytes)
{
    size_t n = 0;
    for (; origin[n] && n + 1 < bytes; n++)
        out[n] = origin[n] >= 0x20 && origin[n] < 0x7f ? origin[n] : '?';
    out[n] = 0;
}

static hr_status write_key(const hr_config *config, int i, hr_file *file)
{
    const hr_key *key = hr_schema_key(i);
    const char *dot = strchr(key->name, '.');
    char value[2 * HR_VALUE_MAX + 2], origin[HR_ORIGIN_MAX] = "";
    char line[sizeof value + sizeof origin + 256];
    quote(key, slot_value(config, i), value);
    if (config->slot[i].origin)
        clean_origin(config->slot[i].origin, origin, sizeof origin);
    int n = snprintf(line, sizeof line, "%s%s: %s%s%s\n", dot ? "  " : "", dot ? dot + 1 : key->name, value,
                     *origin ? "  # " : "", origin);
    return hr_file_write(file, line, (size_t)n);
}

/* "section:" before the first key of a section; schema.def keeps the keys of a section together. */
static hr_status write_section(int i, hr_file *file)
{
    const char *name = hr_schema_key(i)->name, *dot = strchr(name, '.');
    size_t length = dot ? (size_t)(dot - name) : 0;
    if (!dot || (i > 0 && strncmp(hr_schema_key(i - 1)->name, name, length + 1) == 0))
        return HR_OK;
    char line[80];
    int n = snprintf(line, sizeof line, "%.*s:\n", (int)length, name);
    return hr_file_write(file, line, (size_t)n);
}

hr_status hr_config_write(const hr_config *config, int fd)
{
    hr_file file = {.ctx = config->ctx, .fd = fd, .path = "configuration"};
    for (int i = 0; i < HR_KEYS; i++) {
        HR_TRY(write_section(i, &file));
        HR_TRY(write_key(config, i, &file));
    }
    return HR_OK;
}
