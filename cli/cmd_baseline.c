/* headroom baseline: what a model has to beat. */
#include "args.h"
#include "cli.h"
#include "output.h"

#include <string.h>

static const char usage[] = "headroom baseline popularity|knn DATASET [options]\n"
                            "\n"
                            "  headroom baseline popularity data/\n"
                            "  headroom baseline knn data/ --neighbours 50 --json\n"
                            "\n"
                            "popularity: the most frequent training labels, for every row. knn: the nearest "
                            "training rows by cosine of their\n"
                            "sparse features; each votes for its labels with its squared cosine. Prints what "
                            "'headroom eval' prints.\n";

static hr_status choose_kind(cli *c, int argc, char **argv, hr_baseline_kind *out)
{
    if (argc != 2)
        return cli_fail(c, HR_ERR_USAGE, "expected popularity or knn, and DATASET; found %d words", argc);
    *out = strcmp(argv[0], "knn") == 0 ? HR_BASELINE_KNN : HR_BASELINE_POPULARITY;
    if (*out == HR_BASELINE_POPULARITY && strcmp(argv[0], "popularity") != 0)
        return cli_fail(c, HR_ERR_USAGE, "found '%s', expected popularity or knn", argv[0]);
    return HR_OK;
}

static hr_status run(cli *c, int argc, char **argv)
{
    hr_eval_options o = hr_eval_options_default();
    const char *split = "test";
    int neighbours = 20;
    bool as_json = false;
    const arg_option options[] = {
        {"neighbours", ARG_INT, &neighbours, 1, 1000, "N", "knn: training rows that vote (20)"},
        {"split", ARG_TEXT, &split, 0, 0, "NAME", "train, dev or test (test)"},
        {"top", ARG_INT, &o.top_k, 1, 100, "K", "length of the rankings (5)"},
        {"max-label-share", ARG_NUMBER, &o.max_label_share, 0, 1, "S",
         "labels on more than this share of training rows do not count (1)"},
        {"save", ARG_TEXT, &o.save_predictions, 0, 0, "FILE", "write the rankings to this file"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "JSON, in full precision"},
    };
    hr_status st =
        args_parse(c, &command_baseline, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    hr_baseline_kind kind = HR_BASELINE_POPULARITY;
    hr_metrics m;
    st = choose_kind(c, argc, argv, &kind);
    if (st == HR_OK)
        st = args_split(c, split, &o.split);
    if (st == HR_OK)
        st = cli_open(c);
    if (st == HR_OK)
        st = cli_report(c, hr_baseline_run(c->ctx, argv[1], kind, neighbours, &o, &m));
    if (st == HR_OK) {
        cli_clear_progress(c);
        print_metrics(&m, as_json);
    }
    return st;
}

const command command_baseline = {"baseline", "measure popularity or nearest neighbours", usage, run};
