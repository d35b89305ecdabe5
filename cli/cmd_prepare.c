/* headroom prepare: raw input to a folder of mapped arrays. */
#include "args.h"
#include "cli.h"
#include "output.h"

static const char usage[] = "headroom prepare INPUT OUTPUT [options]\n"
                            "\n"
                            "  headroom prepare raw/ data/\n"
                            "  headroom prepare train.txt data/ --format xmlrepo --test-input test.txt\n"
                            "  headroom prepare raw/ data/ --vocabulary 100000 --char-ngram-max 0 "
                            "--propensity-a 0.6 --propensity-b 2.6\n"
                            "\n"
                            "Reads INPUT (a folder, or one file of sparse text; plain, .gz, .xz or .zst) and "
                            "makes the folder OUTPUT, which the\n"
                            "other commands use. An OUTPUT that is already a prepared data set is replaced; "
                            "anything else is left alone.\n"
                            "Prints a description of the result.\n";

static hr_status prepare(cli *c, const hr_prepare_options *o, bool as_json)
{
    hr_status st = cli_open(c);
    if (st != HR_OK)
        return st;
    st = cli_report(c, hr_prepare(c->ctx, o));
    if (st != HR_OK)
        return st;
    hr_dataset *dataset;
    st = cli_report(c, hr_dataset_open(c->ctx, o->output, &dataset));
    if (st != HR_OK)
        return st;
    hr_dataset_info info;
    hr_dataset_describe(dataset, &info);
    cli_clear_progress(c);
    print_dataset(&info, as_json);
    hr_dataset_close(dataset);
    return HR_OK;
}

static hr_status run(cli *c, int argc, char **argv)
{
    hr_prepare_options o = hr_prepare_options_default();
    bool as_json = false;
    const arg_option options[] = {
        {"format", ARG_TEXT, &o.format, 0, 0, "NAME", "auto, rawtext, lf or xmlrepo"},
        {"test-input", ARG_TEXT, &o.test_input, 0, 0, "FILE", "xmlrepo: the test file, if INPUT is one file"},
        {"label-names", ARG_TEXT, &o.label_names, 0, 0, "FILE", "xmlrepo: one label name a line"},
        {"name", ARG_TEXT, &o.name, 0, 0, "NAME", "how results call it; default: last part of OUTPUT"},
        {"vocabulary", ARG_INT64, &o.vocabulary, 1, 4e9, "N",
         "most terms kept, by document frequency (200000)"},
        {"min-df", ARG_INT64, &o.min_df, 1, 4e9, "N", "a term must be in so many training texts (2)"},
        {"max-words", ARG_INT, &o.max_words, 1, 1e9, "N", "words of a text that count (300)"},
        {"word-ngrams", ARG_INT, &o.word_ngrams, 1, 2, "N", "1: words; 2: word pairs too (2)"},
        {"char-ngram-min", ARG_INT, &o.char_ngram_min, 0, 16, "N", "shortest piece of a word; 0: none (3)"},
        {"char-ngram-max", ARG_INT, &o.char_ngram_max, 0, 16, "N", "longest piece of a word (4)"},
        {"char-words", ARG_INT, &o.char_words, 0, 1e9, "N",
         "only so many first words of a text give pieces; 0: all (12)"},
        {"no-title-field", ARG_NO, &o.title_field, 0, 0, NULL,
         "words before the TAB are not terms of their own"},
        {"hash-bins", ARG_INT64, &o.hash_bins, 0, 4e9, "N", "hash terms into N bins instead of a vocabulary"},
        {"propensity-a", ARG_NUMBER, &o.propensity_a, 0, 10, "A", "propensity constant A (0.55)"},
        {"propensity-b", ARG_NUMBER, &o.propensity_b, 0, 1e6, "B", "propensity constant B (1.5)"},
        {"json", ARG_FLAG, &as_json, 0, 0, NULL, "the description as JSON"},
    };
    hr_status st =
        args_parse(c, &command_prepare, options, (int)(sizeof options / sizeof *options), &argc, argv);
    if (st != HR_OK || c->done)
        return st;
    if (argc != 2)
        return cli_fail(c, HR_ERR_USAGE, "expected INPUT and OUTPUT, found %d words", argc);
    o.input = argv[0];
    o.output = argv[1];
    return prepare(c, &o, as_json);
}

const command command_prepare = {"prepare", "turn raw texts or features and labels into a data set", usage,
                                 run};
