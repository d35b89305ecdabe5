/* headroom plan: the memory a run would need, before anything is allocated. */
#include "args.h"
#include "cli.h"
#include "output.h"

static const char usage[] = "headroom plan [--config FILE] [key=value ...] [options]\n"
                            "\n"
                            "  headroom plan dataset=data/\n"
                            "  headroom plan dataset=data/ head.dtype=bf16 encoder.dim=768 --json\n"
                            "\n"
                            "Prints the memory that 'headroom train' with the same words would hold at its "
                            "peak, by kind. Exit status 71 if it\n"
                            "does not fit into this machine.\n";

static hr_status run(cli *c, int argc, char **argv)
{
    cli_texts files = {.count = 0};
    bool as_json = false;
    const arg_option options[] = {
        {"config", ARG_TEXTS, &files, 0, 0, "FILE",
         "configuration to read; may be repeated, the last one wins"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "the table as JSON, in bytes"},
    };
    hr_status st =
        args_parse(c, &command_plan, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    hr_config *config;
    hr_plan plan;
    st = cli_open_config(c, &files, argv, argc, &config);
    if (st == HR_OK)
        st = cli_need_keys(c, config, false);
    if (st == HR_OK)
        st = cli_report(c, hr_plan_make(c->ctx, config, &plan));
    hr_config_destroy(config);
    if (st != HR_OK)
        return st;

    if (as_json) {
        json j = json_make(stdout, false);
        json_plan(&j, NULL, &plan);
    } else {
        print_memory_table(stdout, &plan, NULL, 0);
    }
    if (plan.device > plan.device_machine)
        return cli_fail(c, HR_ERR_NOMEM, "the head needs %s on the device, which has %s", human_bytes(plan.device).text,
                        human_bytes(plan.device_machine).text);
    if (!plan.fits)
        return cli_fail(c, HR_ERR_NOMEM, "the run needs %s, this does not fit into the %s available; 'headroom train --force' would "
                        "start all the same",
                        human_bytes(plan_whole(&plan)).text, human_bytes(plan.machine).text);
    return HR_OK;
}

const command command_plan = {"plan", "say how much memory a run would need", usage, run};
