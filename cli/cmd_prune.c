/* headroom prune: a trained model with only the largest weights of its head. */
#include "args.h"
#include "cli.h"

#include <stdio.h>

static const char usage[] = "headroom prune MODEL OUTPUT [options]\n"
                            "\n"
                            "  headroom prune runs/first/model small/ --density 0.1\n"
                            "  headroom eval small/ data/\n"
                            "\n"
                            "Copies a model folder, keeping only the largest weights of its dense head, each with 2 bytes for its input. Nothing is\n"
                            "trained again; 'headroom train head.family=fan_in' trains a sparse head from the start.\n";

static hr_status run(cli *c, int argc, char **argv)
{
    double density = 0.1;
    bool as_json = false;
    const arg_option options[] = {
        {"density", ARG_NUMBER, &density, 0, 1, "D", "share of the weights that stay (0.1)"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "the report as JSON"},
    };
    hr_status st = args_parse(c, &command_prune, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    if (argc != 2)
        return cli_fail(c, HR_ERR_USAGE, "expected MODEL and OUTPUT, found %d words", argc);
    hr_prune_report r;
    st = cli_open(c);
    if (st == HR_OK)
        st = cli_report(c, hr_prune_model(c->ctx, argv[0], argv[1], density, &r));
    if (st != HR_OK)
        return st;
    if (as_json)
        printf("{\"weights\": %lld, \"kept\": %lld}\n", (long long)r.weights, (long long)r.kept);
    else
        printf("%s: %lld of %lld weights, %.2f %%\n", argv[1], (long long)r.kept, (long long)r.weights,
               100 * (double)r.kept / (double)r.weights);
    return HR_OK;
}

const command command_prune = {"prune", "keep only the largest weights of a model", usage, run};
