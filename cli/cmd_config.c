/* headroom config: the configuration a run would have, and where each value comes from. */
#include "args.h"
#include "cli.h"
#include "output.h"

#include <string.h>

static const char usage[] = "headroom config [--config FILE] [key=value ...] [options]\n"
                            "\n"
                            "  headroom config\n"
                            "  headroom config --config recipe.yaml head.dtype=bf16 --origins\n"
                            "  headroom config --explain head.dtype\n"
                            "  headroom config --config recipe.yaml > resolved.yaml\n"
                            "\n"
                            "Prints every key with its value, as YAML that 'headroom train --config' reads "
                            "back to the same values.\n";

static void explain(const hr_config_item *item)
{
    printf("%s\n  %s\n", item->key, item->help);
    printf("  type     %s\n", item->type);
    if (*item->allowed)
        printf("  allowed  %s\n", item->allowed);
    printf("  default  %s\n", *item->fallback ? item->fallback : "\"\"");
    printf("  value    %s (%s)\n", *item->value ? item->value : "\"\"", item->origin);
}

static hr_status explain_key(cli *c, hr_config *config, const char *key)
{
    for (int i = 0; i < hr_config_count(config); i++) {
        hr_config_item item = hr_config_entry(config, i);
        if (strcmp(item.key, key) == 0) {
            explain(&item);
            return HR_OK;
        }
    }
    // the library knows best which key is near
    char assignment[256];
    snprintf(assignment, sizeof assignment, "%s=", *key ? key : " ");
    return cli_report(c, hr_config_set(config, assignment, "--explain"));
}

static void print_json(const hr_config *config)
{
    json j = json_make(stdout, false);
    json_begin(&j, NULL, '{');
    for (int i = 0; i < hr_config_count(config); i++) {
        hr_config_item item = hr_config_entry(config, i);
        json_begin(&j, item.key, '{');
        json_text(&j, "value", item.value);
        json_text(&j, "origin", item.origin);
        json_text(&j, "type", item.type);
        json_text(&j, "default", item.fallback);
        json_text(&j, "allowed", item.allowed);
        json_text(&j, "help", item.help);
        json_end(&j, '}');
    }
    json_end(&j, '}');
}

static void print_origins(const hr_config *config)
{
    for (int i = 0; i < hr_config_count(config); i++) {
        hr_config_item item = hr_config_entry(config, i);
        printf("%-26s  %-20s  %s\n", item.key, *item.value ? item.value : "\"\"", item.origin);
    }
}

static hr_status written(cli *c, hr_status st)
{
    return st != HR_OK && output_unread() ? st : cli_report(c, st);
}

static hr_status show(cli *c, hr_config *config, const char *key, bool origins, bool as_json)
{
    if (key)
        return explain_key(c, config, key);
    if (as_json)
        print_json(config);
    else if (origins)
        print_origins(config);
    else
        return written(c, hr_config_write(config, 1));
    return HR_OK;
}

static hr_status run(cli *c, int argc, char **argv)
{
    cli_texts files = {.count = 0};
    const char *key = NULL;
    bool origins = false, as_json = false;
    const arg_option options[] = {
        {"config", ARG_TEXTS, &files, 0, 0, "FILE",
         "configuration to read; may be repeated, the last one wins"},
        {"explain", ARG_TEXT, &key, 0, 0, "KEY", "one key: what it means, its range, default and value"},
        {"origins", ARG_FLAG, &origins, 0, 0, NULL, "a table of values and where they come from"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "everything about every key, as JSON"},
    };
    hr_status st =
        args_parse(c, &command_config, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    hr_config *config;
    st = cli_open_config(c, &files, argv, argc, &config);
    if (st == HR_OK)
        st = show(c, config, key, origins, as_json);
    hr_config_destroy(config);
    return st;
}

const command command_config = {"config", "print the resolved configuration", usage, run};
