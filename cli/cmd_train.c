/* headroom train: the plan, the run, and what it took. */
#include "args.h"
#include "cli.h"
#include "output.h"

#include <math.h>

static const char usage[] = "headroom train [--config FILE] [key=value ...] [options]\n"
                            "\n"
                            "  headroom train dataset=data/ run=runs/first\n"
                            "  headroom train dataset=data/ run=runs/second head.dtype=bf16 train.epochs=30\n"
                            "  headroom train --config recipe.yaml seed=7\n"
                            "\n"
                            "Trains a model in the folder run=; the model folder is RUN/model. Values come "
                            "from the defaults, then from each\n"
                            "--config file, then from key=value; 'headroom config' lists the keys. Before it "
                            "starts it prints the memory it will\n"
                            "need, and refuses (exit status 71) what does not fit. SIGINT, SIGTERM, SIGHUP "
                            "and SIGUSR1 save the state and stop\n"
                            "(exit status 75); the same command again continues, to the same bits.\n";

static void print_report(const char *run, const hr_train_report *r, bool as_json)
{
    if (!as_json) {
        printf("%s\t%lld steps\t%lld epochs\t%.1f s\t", r->finished ? "finished" : "interrupted",
               (long long)r->steps, (long long)r->epochs, r->seconds);
        if (isfinite(r->best_metric))
            printf("best %.4f at step %lld\t", r->best_metric, (long long)r->best_step);
        printf(r->finished ? "%s/model\n" : "%s\n", run);
        return;
    }
    json j = json_make(stdout, false);
    json_begin(&j, NULL, '{');
    json_text(&j, "run", run);
    json_bool(&j, "finished", r->finished);
    json_int(&j, "steps", r->steps);
    json_int(&j, "epochs", r->epochs);
    json_number(&j, "seconds", r->seconds);
    json_number(&j, "best_metric", r->best_metric);
    json_int(&j, "best_step", r->best_step);
    json_plan(&j, "plan", &r->plan);
    json_memory(&j, "memory", &r->memory);
    json_size(&j, "device_peak", r->device_peak);
    json_end(&j, '}');
}

static hr_status check_plan(cli *c, const hr_config *config, bool force, hr_plan *plan)
{
    hr_status st = cli_report(c, hr_plan_make(c->ctx, config, plan));
    if (st != HR_OK)
        return st;
    if (!c->quiet)
        print_memory_table(stderr, plan, NULL, 0);
    if (plan->fits)
        return HR_OK;
    if (force) {
        cli_say(c, "this does not fit into the memory available; going on because of --force");
        return HR_OK;
    }
    if (plan->device > plan->device_machine)
        return cli_fail(c, HR_ERR_NOMEM, "the head needs %s on the device, which has %s; a smaller head.dtype needs less", human_bytes(plan->device).text,
                        human_bytes(plan->device_machine).text);
    return cli_fail(c, HR_ERR_NOMEM,
                    "the run needs %s and %s are available; smaller values of encoder.dim or train.batch, or a "
                    "smaller head.dtype, need less; --force goes on all the same",
                    human_bytes(plan_whole(plan)).text, human_bytes(plan->machine).text);
}

static hr_status train(cli *c, const hr_config *config, bool force, bool as_json)
{
    hr_plan plan;
    hr_status st = cli_need_keys(c, config, true);
    if (st == HR_OK)
        st = check_plan(c, config, force, &plan);
    if (st != HR_OK)
        return st;
    hr_train_report report = {.best_metric = NAN};
    st = hr_train_run(c->ctx, config, &report);
    if (st != HR_OK && st != HR_INTERRUPTED)
        return cli_report(c, st);
    cli_clear_progress(c);
    if (!c->quiet)
        print_memory_table(stderr, &plan, &report.memory, report.device_peak);
    print_report(hr_config_value(config, "run"), &report, as_json);
    if (st == HR_INTERRUPTED)
        cli_say(c, "interrupted; the state is saved, the same command continues");
    return st;
}

static hr_status run(cli *c, int argc, char **argv)
{
    cli_texts files = {.count = 0};
    bool force = false, as_json = false;
    const arg_option options[] = {
        {"config", ARG_TEXTS, &files, 0, 0, "FILE",
         "configuration to read; may be repeated, the last one wins"},
        {"force", ARG_FLAG, &force, 0, 0, NULL, "start although the plan says it does not fit"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "the report as JSON"},
    };
    hr_status st =
        args_parse(c, &command_train, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    hr_config *config;
    st = cli_open_config(c, &files, argv, argc, &config);
    if (st == HR_OK)
        st = train(c, config, force, as_json);
    hr_config_destroy(config);
    return st;
}

const command command_train = {"train", "train a model, or continue a run", usage, run};
