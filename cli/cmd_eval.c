/* headroom eval: a model, or saved predictions of any system, against a split of a data set. */
#include "args.h"
#include "cli.h"
#include "output.h"

static const char usage[] =
    "headroom eval MODEL DATASET [options]\n"
    "headroom eval --predictions FILE DATASET [options]\n"
    "\n"
    "  headroom eval runs/first/model data/\n"
    "  headroom eval runs/first/model data/ --split dev --top 100 --json\n"
    "  headroom eval runs/first/model data/ --max-label-share 0.01 --save predictions.txt\n"
    "  headroom eval --predictions theirs.txt data/\n"
    "\n"
    "Prints P, nDCG, PSP, PSnDCG, R and coverage at 1, 3, 5, 10, 100 as far as --top reaches, MRR, and R by "
    "frequency of\n"
    "the label. Definitions: docs/metrics.md. A file of predictions has one line a row, 'label:score "
    "label:score ...', in\n"
    "any order; --save writes such a file, best label first.\n";

static hr_status evaluate(cli *c, int argc, char **argv, const char *predictions, const hr_eval_options *o,
                          hr_metrics *m)
{
    if (predictions && argc != 1)
        return cli_fail(c, HR_ERR_USAGE, "expected DATASET beside --predictions, found %d words", argc);
    if (!predictions && argc != 2)
        return cli_fail(c, HR_ERR_USAGE, "expected MODEL and DATASET, found %d words", argc);
    hr_status st = cli_open(c);
    if (st != HR_OK)
        return st;
    if (predictions)
        return cli_report(c, hr_eval_file(c->ctx, predictions, argv[0], o, m));
    return cli_report(c, hr_eval_model(c->ctx, argv[0], argv[1], o, m));
}

static hr_status run(cli *c, int argc, char **argv)
{
    hr_eval_options o = hr_eval_options_default();
    const char *predictions = NULL, *split = "test";
    bool as_json = false;
    const arg_option options[] = {
        {"predictions", ARG_TEXT, &predictions, 0, 0, "FILE", "evaluate this file instead of a model"},
        {"split", ARG_TEXT, &split, 0, 0, "NAME", "train, dev or test (test)"},
        {"top", ARG_INT, &o.top_k, 1, 100, "K", "length of the rankings (5)"},
        {"max-label-share", ARG_NUMBER, &o.max_label_share, 0, 1, "S",
         "labels on more than this share of training rows do not count (1)"},
        {"save", ARG_TEXT, &o.save_predictions, 0, 0, "FILE", "write the rankings to this file"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "JSON, in full precision"},
    };
    hr_status st =
        args_parse(c, &command_eval, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    hr_metrics m;
    st = args_split(c, split, &o.split);
    if (st == HR_OK)
        st = evaluate(c, argc, argv, predictions, &o, &m);
    if (st == HR_OK) {
        cli_clear_progress(c);
        print_metrics(&m, as_json);
    }
    return st;
}

const command command_eval = {"eval", "measure a model or a file of predictions", usage, run};
