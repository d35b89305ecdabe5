/* headroom info: what this machine, a data set or a model is. */
#include "args.h"
#include "cli.h"
#include "output.h"

#include <string.h>
#include <unistd.h>

static const char usage[] = "headroom info [DATASET | MODEL] [options]\n"
                            "\n"
                            "  headroom info\n"
                            "  headroom info data/\n"
                            "  headroom info runs/first/model --verify\n"
                            "\n"
                            "Without a folder: version, kernel levels this machine can run, threads and "
                            "memory. With one: what it holds.\n";

/* Levels are tried by making a context with each. */
static bool can_run(const char *isa)
{
    hr_ctx_options options = hr_ctx_options_default();
    options.threads = 1;
    options.isa = isa;
    hr_ctx *ctx;
    bool yes = hr_ctx_create(&options, &ctx) == HR_OK;
    if (yes)
        hr_ctx_destroy(ctx);
    return yes;
}

static void print_machine(const cli *c, bool as_json)
{
    hr_mem_report memory;
    hr_ctx_memory(c->ctx, &memory);
    if (as_json) {
        json j = json_make(stdout, false);
        json_begin(&j, NULL, '{');
        json_text(&j, "version", hr_version());
        json_text(&j, "isa", hr_ctx_isa(c->ctx));
        json_begin(&j, "isa_levels", '[');
        for (int i = 0; hr_isa_level(i); i++) {
            if (can_run(hr_isa_level(i)))
                json_text(&j, NULL, hr_isa_level(i));
        }
        json_end(&j, ']');
        json_int(&j, "threads", hr_ctx_threads(c->ctx));
        json_size(&j, "memory", memory.machine);
        json_end(&j, '}');
        return;
    }
    printf("headroom        %s\n", hr_version());
    printf("isa             %s (can run:", hr_ctx_isa(c->ctx));
    for (int i = 0; hr_isa_level(i); i++)
        if (can_run(hr_isa_level(i)))
            printf(" %s", hr_isa_level(i));
    printf(")\nthreads         %d\n", hr_ctx_threads(c->ctx));
    printf("memory          %s (limit of the machine or the cgroup)\n", human_bytes(memory.machine).text);
}

static void print_model(const char *path, const hr_predictor_info *info, bool as_json)
{
    if (as_json) {
        json j = json_make(stdout, false);
        json_begin(&j, NULL, '{');
        json_text(&j, "path", path);
        json_int(&j, "labels", info->labels);
        json_int(&j, "width", info->width);
        json_text(&j, "head_dtype", info->head_dtype);
        json_bool(&j, "takes_text", info->takes_text);
        json_size(&j, "mapped", info->mapped);
        json_end(&j, '}');
        return;
    }
    printf("model           %s\n", path);
    printf("labels          %lld\n", (long long)info->labels);
    printf("width           %lld\n", (long long)info->width);
    printf("head            %s\n", info->head_dtype);
    printf("takes text      %s\n", info->takes_text ? "yes" : "no");
    printf("files           %s\n", human_bytes(info->mapped).text);
}

/* Tries the folder as a data set, then as a model. */
static hr_status describe(cli *c, const char *path, bool verify, bool as_json)
{
    if (access(path, F_OK) != 0)
        return cli_fail(c, HR_ERR_NOINPUT, "%s: there is no such folder", path);
    hr_dataset *dataset;
    hr_status st = hr_dataset_open(c->ctx, path, &dataset);
    if (st == HR_OK) {
        hr_dataset_info info;
        hr_dataset_describe(dataset, &info);
        print_dataset(&info, as_json);
        hr_dataset_close(dataset);
        return HR_OK;
    }
    char as_dataset[512];
    snprintf(as_dataset, sizeof as_dataset, "%s", hr_ctx_message(c->ctx));
    hr_predictor *predictor;
    st = hr_predictor_open(c->ctx, path, verify, &predictor);
    if (st == HR_ERR_NOINPUT)
        return cli_fail(c, st, "%s is neither a data set that 'headroom prepare' made, nor a model or a run", path);
    if (st != HR_OK)
        return cli_fail(c, st, "%s is neither a data set (%s) nor a model (%s)", path, as_dataset,
                        hr_ctx_message(c->ctx));
    hr_predictor_info info;
    hr_predictor_describe(predictor, &info);
    print_model(path, &info, as_json);
    hr_predictor_close(predictor);
    return HR_OK;
}

static hr_status run(cli *c, int argc, char **argv)
{
    bool as_json = false, verify = false;
    const arg_option options[] = {
        {"verify", ARG_FLAG, &verify, 0, 0, NULL, "a model: check every byte against its checksums"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "JSON"},
    };
    hr_status st =
        args_parse(c, &command_info, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    if (argc > 1)
        return cli_fail(c, HR_ERR_USAGE, "expected one folder or none, found %d words", argc);
    st = cli_open(c);
    if (st != HR_OK)
        return st;
    if (argc == 1)
        return describe(c, argv[0], verify, as_json);
    print_machine(c, as_json);
    return HR_OK;
}

const command command_info = {"info", "describe this machine, a data set or a model", usage, run};
