/* Configuration files: a small, strict part of YAML, read with libyaml.
 *
 * Maps within maps, or dotted keys, down to scalars. A key may be given once. Lists, anchors, aliases, tags
 * and further documents are refused: each has surprised somebody. The first key may be `base: other.yaml`, a
 * file beside or below this one that is read before the rest, so that this file's values win. */
#include "config/config_impl.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define MAX_FILE_BYTES ((size_t)1 << 20)
#define MAX_INCLUDES   8
#define MAX_LEVELS     3

typedef struct reader {
    hr_ctx *ctx;
    const char *path;
    hr_config_slot *slots;
    int includes; /* how many files deep we are */
    yaml_parser_t parser;
    bool any_key;              /* this file has shown a key */
    int key_line[HR_KEYS];     /* where a key was given in this file; 0: not yet */
    int section_line[HR_KEYS]; /* the same for a section, at the index of its first key */
} reader;

/* One event, copied out so that libyaml's memory is released at once. */
typedef struct token {
    yaml_event_type_t type;
    int line, column;
    bool plain;
    char text[HR_VALUE_MAX];
} token;

#define FAIL(r, at, ...) fail_at((r), (at)->line, (at)->column, __VA_ARGS__)

static hr_status HR_PRINTF(4, 5) fail_at(reader *r, int line, int column, const char *format, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return hr_fail(r->ctx, HR_ERR_CONFIG, "%s: line %d, column %d: %s", r->path, line, column, sentence);
}

/* ---- tokens ---- */

static hr_status syntax_error(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return hr_fail(r->ctx, HR_ERR_NOMEM, "%s: no memory to read it", r->path);
    const char *problem = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_READER_ERROR)
        return hr_fail(r->ctx, HR_ERR_CONFIG, "%s: byte %zu: %s", r->path, p->problem_offset, problem);
    return fail_at(r, (int)p->problem_mark.line + 1, (int)p->problem_mark.column + 1,
                   "not valid YAML: %s%s%s", problem, p->context ? ", " : "", p->context ? p->context : "");
}

static hr_status copy_scalar(reader *r, const yaml_event_t *event, token *out)
{
    size_t length = event->data.scalar.length;
    if (length >= sizeof out->text)
        return FAIL(r, out, "a value of %zu bytes, at most %zu are allowed", length, sizeof out->text - 1);
    if (memchr(event->data.scalar.value, 0, length))
        return FAIL(r, out, "a value with a zero byte");
    memcpy(out->text, event->data.scalar.value, length);
    out->text[length] = 0;
    out->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.tag)
        return FAIL(r, out, "tags such as !!str are not used here; write the value alone");
    if (event->data.scalar.anchor)
        return FAIL(r, out, "anchors (&name) are not used here; write the value where it is needed");
    return HR_OK;
}

static hr_status judge_event(reader *r, const yaml_event_t *event, token *out)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return copy_scalar(r, event, out);
    case YAML_ALIAS_EVENT:
        return FAIL(r, out, "aliases (*name) are not used here; write the value out");
    case YAML_SEQUENCE_START_EVENT:
        return FAIL(
            r, out,
            "a list where a single value is expected; several numbers are written as one text, \"0.5,0.75\"");
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor || event->data.mapping_start.tag)
            return FAIL(r, out, "anchors (&name) and tags (!name) are not used here");
        return HR_OK;
    default:
        return HR_OK;
    }
}

static hr_status next_token(reader *r, token *out)
{
    yaml_event_t event;
    if (!yaml_parser_parse(&r->parser, &event))
        return syntax_error(r);
    out->type = event.type;
    out->line = (int)event.start_mark.line + 1;
    out->column = (int)event.start_mark.column + 1;
    out->plain = false;
    out->text[0] = 0;
    hr_status st = judge_event(r, &event, out);
    yaml_event_delete(&event);
    return st;
}

/* ---- keys and values ---- */

static hr_status unknown_key(reader *r, const token *key, const char *name)
{
    char suggestion[256];
    hr_schema_suggest(name, suggestion, sizeof suggestion);
    return FAIL(r, key, "unknown key '%.80s'%s", name, suggestion);
}

static hr_status set_value(reader *r, const token *key, const char *name, const token *value)
{
    int i = hr_schema_find(name);
    if (i < 0)
        return unknown_key(r, key, name);
    if (r->key_line[i])
        return FAIL(r, key, "%s was already given on line %d; keep one of the two", name, r->key_line[i]);
    r->key_line[i] = key->line;
    if (value->plain && (strcmp(value->text, "~") == 0 || strcmp(value->text, "null") == 0))
        return FAIL(r, value,
                    "%s has no value; leave the line out for the default, or write \"\" for an empty text",
                    name);

    char where[HR_ORIGIN_MAX], canonical[HR_VALUE_MAX];
    snprintf(where, sizeof where, "%s:%d", r->path, key->line);
    HR_TRY(hr_schema_judge(r->ctx, i, value->text, where, canonical));
    return hr_config_store(r->ctx, &r->slots[i], canonical, where);
}

static hr_status enter_section(reader *r, const token *key, const char *name)
{
    int first = hr_schema_section(name);
    if (first < 0 && hr_schema_find(name) >= 0)
        return FAIL(r, key, "%s takes a single value, found a map", name);
    if (first < 0)
        return unknown_key(r, key, name);
    if (r->section_line[first])
        return FAIL(r, key, "section '%s' was already given on line %d; join the two", name,
                    r->section_line[first]);
    r->section_line[first] = key->line;
    return HR_OK;
}

static hr_status read_file(hr_ctx *ctx, const char *path, int includes, hr_config_slot *slots);

/* base: a relative path below the folder of this file. */
static hr_status read_base(reader *r, const token *key, const token *value)
{
    const char *base = value->text;
    if (value->type != YAML_SCALAR_EVENT || !*base)
        return FAIL(r, key, "base needs the name of a configuration file");
    if (r->any_key)
        return FAIL(r, key, "base must be the first key of the file, because the other keys override it");
    bool upwards = strcmp(base, "..") == 0 || strncmp(base, "../", 3) == 0 || strstr(base, "/../");
    size_t length = strlen(base);
    upwards = upwards || (length >= 3 && strcmp(base + length - 3, "/..") == 0);
    if (base[0] == '/' || upwards)
        return FAIL(r, value, "base is '%.80s', it must be a path beside or below this file, without '..'",
                    base);
    if (r->includes + 1 > MAX_INCLUDES)
        return FAIL(r, key, "base files are nested more than %d deep; does one include itself?",
                    MAX_INCLUDES);

    char path[HR_PATH_MAX];
    const char *slash = strrchr(r->path, '/');
    int folder = slash ? (int)(slash - r->path + 1) : 0;
    HR_TRY(hr_path_format(r->ctx, path, "%.*s%s", folder, r->path, base));
    return read_file(r->ctx, path, r->includes + 1, r->slots);
}

/* The keys of one map, whose start has been read, up to its end. `prefix` is "" or "section.". */
static hr_status read_map(reader *r, const char *prefix, int level)
{
    for (;;) {
        token key, value;
        char name[2 * HR_VALUE_MAX];
        HR_TRY(next_token(r, &key));
        if (key.type == YAML_MAPPING_END_EVENT)
            return HR_OK;
        if (key.type != YAML_SCALAR_EVENT)
            return FAIL(r, &key, "expected a key, found a map");
        HR_TRY(next_token(r, &value));
        int n = snprintf(name, sizeof name, "%s%s", prefix, key.text);
        if (n >= HR_VALUE_MAX)
            return FAIL(r, &key, "unknown key '%.80s...'", name);

        if (level == 1 && strcmp(name, "base") == 0) {
            HR_TRY(read_base(r, &key, &value));
        } else if (value.type == YAML_SCALAR_EVENT) {
            HR_TRY(set_value(r, &key, name, &value));
        } else {
            HR_TRY(enter_section(r, &key, name));
            if (level == MAX_LEVELS)
                return FAIL(r, &key, "maps are nested more than %d deep", MAX_LEVELS);
            snprintf(name + n, sizeof name - (size_t)n, ".");
            HR_TRY(read_map(r, name, level + 1));
        }
        r->any_key = true;
    }
}

/* ---- files ---- */

static hr_status read_stream(reader *r)
{
    token t;
    HR_TRY(next_token(r, &t));
    HR_TRY(next_token(r, &t));
    if (t.type == YAML_STREAM_END_EVENT)
        return HR_OK; // empty, or comments only
    HR_TRY(next_token(r, &t));
    if (t.type != YAML_MAPPING_START_EVENT)
        return FAIL(r, &t, "expected 'key: value', found '%.80s'", t.text);
    HR_TRY(read_map(r, "", 1));
    HR_TRY(next_token(r, &t));
    HR_TRY(next_token(r, &t));
    if (t.type != YAML_STREAM_END_EVENT)
        return FAIL(r, &t, "a second document; a configuration is one");
    return HR_OK;
}

static hr_status read_text(hr_ctx *ctx, const char *path, int includes, const char *text, size_t length,
                           hr_config_slot *slots)
{
    reader r = {.ctx = ctx, .path = path, .includes = includes, .slots = slots};
    if (!yaml_parser_initialize(&r.parser))
        return hr_fail(ctx, HR_ERR_NOMEM, "%s: no memory to read it", path);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
    hr_status st = read_stream(&r);
    yaml_parser_delete(&r.parser);
    return st;
}

static hr_status read_file(hr_ctx *ctx, const char *path, int includes, hr_config_slot *slots)
{
    char *text;
    size_t length;
    HR_TRY(hr_file_slurp(ctx, path, MAX_FILE_BYTES, &text, &length));
    hr_status st = read_text(ctx, path, includes, text, length, slots);
    hr_free(ctx, text);
    return st;
}

hr_status hr_config_read_yaml(hr_ctx *ctx, const char *path, hr_config_slot *slots)
{
    return read_file(ctx, path, 0, slots);
}
