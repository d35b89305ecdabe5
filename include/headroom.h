/* headroom: classifiers with very many labels, in the memory one machine has.
 *
 * This is the whole public interface of libheadroom. Read it from top to bottom:
 * a context; a configuration; a data set prepared once; a plan that says what memory
 * a run will take; the training run; the predictor; evaluation and baselines.
 *
 * Every call that can fail returns hr_status. The sentence that goes with a failure is kept
 * in the context: hr_ctx_message(). Nothing here prints, exits or aborts. A context and all that
 * was made from it belong to one thread of control; distinct contexts never meet. Whoever creates
 * an object destroys it; destroying NULL is fine; on failure the output pointer is NULL.
 *
 * Letters: N instances, L labels, D width of the encoder output, B batch, K top-k. Label ids that a
 * user sees are "external": the 0-based line of the label in the data set. */
#ifndef HEADROOM_H
#define HEADROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HR_API __attribute__((visibility("default")))
#define HR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define HR_API
#define HR_PRINTF(f, a)
#endif

/* ---- status ------------------------------------------------------------------------------ */

/* The values are pinned and are also the exit codes of the command line tool. */
typedef enum hr_status {
    HR_OK = 0,
    HR_ERR_USAGE = 64,       /* an argument that makes no sense */
    HR_ERR_DATA = 65,        /* a file whose content is wrong or damaged */
    HR_ERR_NOINPUT = 66,     /* a file or folder that is not there */
    HR_ERR_DEVICE = 69,      /* a device or instruction set that this machine lacks */
    HR_ERR_BUG = 70,         /* our own mistake; please report it */
    HR_ERR_NOMEM = 71,       /* no memory, or the plan says it cannot fit */
    HR_ERR_CANTCREATE = 73,  /* an output that cannot be made */
    HR_ERR_IO = 74,          /* a read, write, sync or rename that failed */
    HR_INTERRUPTED = 75,     /* stopped on request; state saved; run again to resume */
    HR_ERR_NUMERIC = 76,     /* a non-finite number where a finite one is needed */
    HR_ERR_PERMISSION = 77,  /* the system does not allow it */
    HR_ERR_CONFIG = 78       /* an unknown key, or a value out of range */
} hr_status;

HR_API const char *hr_version(void);
/* A short name such as "HR_ERR_DATA"; never NULL. */
HR_API const char *hr_status_name(hr_status status);

/* ---- context ----------------------------------------------------------------------------- */

typedef struct hr_ctx hr_ctx;

typedef enum hr_log_level { HR_LOG_PROGRESS, HR_LOG_INFO, HR_LOG_WARNING } hr_log_level;
/* `line` has no newline and is borrowed until return. A progress line replaces the one before it. */
typedef void hr_log_fn(void *user, hr_log_level level, const char *line);

typedef struct hr_ctx_options {
    int threads;       /* worker threads, 1 to 1024; 0: one for each processor the process may use */
    const char *isa;   /* "auto", or the highest kernel level wanted, a name of hr_isa_level */
    hr_log_fn *log;    /* NULL: silent */
    void *log_user;
} hr_ctx_options;

HR_API hr_ctx_options hr_ctx_options_default(void);
/* options may be NULL. When it fails there is no context to ask for a message; the status is HR_ERR_NOMEM,
 * HR_ERR_USAGE (threads or isa out of range) or HR_ERR_DEVICE (this machine lacks the isa). */
HR_API hr_status hr_ctx_create(const hr_ctx_options *options, hr_ctx **out);
HR_API void hr_ctx_destroy(hr_ctx *ctx);
/* The sentence of the last failure; "" before any. Valid until the next failing call. */
HR_API const char *hr_ctx_message(const hr_ctx *ctx);
HR_API int hr_ctx_threads(const hr_ctx *ctx);
/* The kernel level in use. */
HR_API const char *hr_ctx_isa(const hr_ctx *ctx);
/* The kernel levels, each with all that the one before it has; NULL after the last. x86: "ref", "avx2", "avx512", "avx512vnni",
 * "avx512bf16", "amx" ("auto" does not choose amx, which has not been tested on hardware yet); Arm: "ref", "neon". */
HR_API const char *hr_isa_level(int level);
/* Asks a running call to finish its step, save what has to be saved and return HR_INTERRUPTED.
 * Async-signal-safe, and may be called from any thread. The call that answers with HR_INTERRUPTED clears the request;
 * so does a training run that ends before it sees the request. */
HR_API void hr_ctx_interrupt(hr_ctx *ctx);

/* Memory by kind. Every byte the library allocates has a kind; `hr_plan` predicts the same kinds. */
typedef enum hr_mem_kind {
    HR_MEM_HEAD_WEIGHTS,     /* codes, scales, indices */
    HR_MEM_HEAD_STATE,       /* Kahan compensation, momentum, label permutation, biases */
    HR_MEM_HEAD_SCRATCH,     /* tiles, packed batch, dX partials */
    HR_MEM_ENCODER_WEIGHTS,
    HR_MEM_ENCODER_STATE,    /* Adam moments */
    HR_MEM_ENCODER_SCRATCH,
    HR_MEM_BATCH,            /* one batch: ids, features, positives, X, dX */
    HR_MEM_DATASET,          /* handles and tables of an open data set, and all that `prepare` needs */
    HR_MEM_CHECKPOINT,       /* buffers and directories of files being read or written */
    HR_MEM_EVAL,             /* top-k, metrics; before: label frequencies, label vectors while they are grouped */
    HR_MEM_OTHER,
    HR_MEM_KINDS
} hr_mem_kind;

HR_API const char *hr_mem_kind_name(hr_mem_kind kind);

typedef struct hr_mem_report {
    size_t now[HR_MEM_KINDS], peak[HR_MEM_KINDS]; /* bytes */
    size_t now_total, peak_total;                 /* peak of the sum, not sum of the peaks */
    uint64_t calls;                               /* allocations so far */
    size_t rss_now, rss_peak;                     /* of the whole process, as the system tells; 0: unknown */
    size_t machine;                               /* what the process may use: machine or cgroup limit */
} hr_mem_report;

HR_API void hr_ctx_memory(const hr_ctx *ctx, hr_mem_report *out);

/* ---- configuration ----------------------------------------------------------------------- */

/* A typed set of keys, each with a default, a range and a sentence of help. Values come from the defaults,
 * then from YAML files, then from key=value overrides; the last one wins and its origin is remembered. */
typedef struct hr_config hr_config;

HR_API hr_status hr_config_create(hr_ctx *ctx, hr_config **out);
HR_API void hr_config_destroy(hr_config *config);
/* Reads a YAML file of nested maps. HR_ERR_CONFIG names file, line, key and the nearest known key. */
HR_API hr_status hr_config_read(hr_config *config, const char *path);
/* One override, "head.dtype=e4m3". `origin` (borrowed until return) is remembered for hr_config_entry. */
HR_API hr_status hr_config_set(hr_config *config, const char *assignment, const char *origin);

typedef struct hr_config_item {
    const char *key, *value, *origin; /* origin: "default", "recipe.yaml:12", "command line" */
    const char *type;                 /* "integer", "number", "boolean", "choice", "text" */
    const char *fallback, *allowed, *help;
} hr_config_item;

HR_API int hr_config_count(const hr_config *config);
/* Item i in schema order; its strings belong to the configuration and live until it changes. */
HR_API hr_config_item hr_config_entry(const hr_config *config, int i);
/* The value of a key as text; NULL if there is no such key. */
HR_API const char *hr_config_value(const hr_config *config, const char *key);
/* A long text in YAML that hr_config_read reads back to the same values, written to an open descriptor. */
HR_API hr_status hr_config_write(const hr_config *config, int fd);

/* ---- data sets --------------------------------------------------------------------------- */

/* Turns raw input into a folder of mapped arrays. Training never parses text. All names may be NULL
 * unless said otherwise. Plain, .gz, .xz and .zst files are recognised by content. */
typedef struct hr_prepare_options {
    const char *input;         /* folder, or file for one-file sparse text; needed */
    const char *output;        /* folder to make; replaced only if it is a prepared data set itself; needed */
    const char *format;        /* "auto", "rawtext", "lf", "xmlrepo" */
    const char *test_input;    /* xmlrepo: the test file, if `input` is one file */
    const char *label_names;   /* xmlrepo: a file with one label name a line */
    const char *name;          /* how results call it; default: last part of `output` */
    /* text features */
    int64_t vocabulary;        /* most terms kept, by document frequency; default 200000 */
    int64_t min_df;            /* a term must be in at least so many training texts; default 2 */
    int max_words;             /* words of a text that count; default 300 */
    int word_ngrams;           /* 1: words; 2: word pairs too; default 2 */
    int char_ngram_min, char_ngram_max; /* lengths of character n-grams within a word; 0: none; default 3, 4 */
    int char_words;            /* only so many first words of a text give character n-grams; 0: all; default 12 */
    bool title_field;          /* words before the TAB also count as terms of their own; default true */
    int64_t hash_bins;         /* > 0: no vocabulary, terms are hashed into so many bins */
    double propensity_a, propensity_b; /* Jain et al. 2016; default 0.55, 1.5 */
} hr_prepare_options;

typedef enum hr_split { HR_SPLIT_TRAIN, HR_SPLIT_DEV, HR_SPLIT_TEST, HR_SPLITS } hr_split;
HR_API const char *hr_split_name(hr_split split);

typedef struct hr_dataset_info {
    const char *name, *path;
    char fingerprint[33];           /* hex; changes with any byte of labels or features */
    int64_t labels, features;       /* L; number of sparse features, or width of dense ones */
    bool dense, has_text_model, has_label_names, has_label_features;
    double propensity_a, propensity_b;
    int64_t rows[HR_SPLITS], label_pairs[HR_SPLITS], feature_pairs[HR_SPLITS], filter_pairs[HR_SPLITS];
} hr_dataset_info;

typedef struct hr_dataset hr_dataset;

HR_API hr_prepare_options hr_prepare_options_default(void);
HR_API hr_status hr_prepare(hr_ctx *ctx, const hr_prepare_options *options);
HR_API hr_status hr_dataset_open(hr_ctx *ctx, const char *path, hr_dataset **out);
HR_API void hr_dataset_close(hr_dataset *dataset);
HR_API void hr_dataset_describe(const hr_dataset *dataset, hr_dataset_info *out);

/* ---- plan -------------------------------------------------------------------------------- */

typedef struct hr_plan {
    size_t bytes[HR_MEM_KINDS]; /* what the run will hold at its peak, by kind */
    size_t total;               /* at the same time: the sum of the above, or less */
    size_t mapped;              /* data set files the run will touch: page cache, counted in RSS */
    size_t process;             /* the process before the run */
    size_t machine;             /* memory this process may use (machine or cgroup limit) */
    size_t device;              /* what the run will hold on its device, the device's context included; 0 with device=cpu */
    size_t device_machine;      /* what that device has */
    bool fits;                  /* in both */
} hr_plan;

/* Predicts the memory of hr_train_run(config). Opens the data set, allocates next to nothing. */
HR_API hr_status hr_plan_make(hr_ctx *ctx, const hr_config *config, hr_plan *out);

/* ---- metrics ----------------------------------------------------------------------------- */

#define HR_METRIC_KS 5   /* k = 1, 3, 5, 10, 100 */
#define HR_DECILES 10

/* Definitions: docs/metrics.md. All in [0, 1] except where said. */
typedef struct hr_metrics {
    int64_t rows, labels_counted;       /* instances; labels that took part */
    int k[HR_METRIC_KS];                /* 1, 3, 5, 10, 100; entries beyond the top-k asked for are 0 */
    double precision[HR_METRIC_KS], ndcg[HR_METRIC_KS], psp[HR_METRIC_KS], psndcg[HR_METRIC_KS], recall[HR_METRIC_KS];
    double mrr;                         /* 1/rank of the first hit within the top-k, 0 if none; mean over rows */
    double coverage[HR_METRIC_KS];      /* share of the test labels that some row gets right within k */
    double decile_recall[HR_DECILES][HR_METRIC_KS]; /* R@k over the pairs whose label is in decile i; 0 = most frequent */
    int64_t decile_labels[HR_DECILES], decile_pairs[HR_DECILES];
    double propensity_a, propensity_b;
} hr_metrics;

/* ---- training ---------------------------------------------------------------------------- */

typedef struct hr_train_report {
    int64_t steps, epochs;          /* done in all, by earlier processes of the same run too */
    double seconds;                 /* since this start */
    double best_metric;             /* validation metric of the best model; NaN without validation */
    int64_t best_step;
    bool finished;                  /* false: interrupted, run again to resume */
    hr_mem_report memory;
    size_t device_peak;             /* as hr_plan.device, measured */
    hr_plan plan;
} hr_train_report;

/* Trains as `config` says, in the run folder `config["run"]`; resumes if the folder holds a run.
 * At the end RUN/model is a self-contained model folder (the best by validation).
 * HR_INTERRUPTED after hr_ctx_interrupt: the state is saved. `report` may be NULL. */
HR_API hr_status hr_train_run(hr_ctx *ctx, const hr_config *config, hr_train_report *report);

/* ---- prediction -------------------------------------------------------------------------- */

typedef struct hr_predictor hr_predictor;

typedef struct hr_predictor_info {
    int64_t labels, width;
    const char *head_dtype;
    bool takes_text;       /* the model folder holds its text features */
    size_t mapped;         /* bytes of the files behind it */
} hr_predictor_info;

/* Opens a model folder (or RUN/model). Files are mapped and checked at first touch; `verify_all` checks every byte now. */
HR_API hr_status hr_predictor_open(hr_ctx *ctx, const char *path, bool verify_all, hr_predictor **out);
HR_API void hr_predictor_close(hr_predictor *predictor);
HR_API void hr_predictor_describe(const hr_predictor *predictor, hr_predictor_info *out);
/* Top k labels of `rows` texts (UTF-8, not NUL-terminated: length[i] bytes at text[i]).
 * ids (rows, k) external labels, scores (rows, k), best first; ties: lower id first. k <= L. A score is a probability,
 * or the margin itself of a model trained with loss.type=squared_hinge. */
HR_API hr_status hr_predictor_texts(hr_predictor *predictor, int64_t rows, const char *const *text,
                                    const size_t *length, int k, uint32_t *ids, float *scores);
/* The name of a label; "" when the model has none. `length` may be NULL. Not NUL-terminated: use `length`. */
HR_API const char *hr_predictor_label(const hr_predictor *predictor, uint32_t id, size_t *length);

/* ---- pruning ----------------------------------------------------------------------------- */

typedef struct hr_prune_report {
    int64_t weights, kept; /* of the head: before, after */
} hr_prune_report;

/* Writes a copy of a model folder (or RUN/model) of whose dense head only a share `density` of the weights stay, the largest; of equal
 * ones those of the more frequent labels. Each takes 2 bytes more, for its input. HR_ERR_CONFIG: a density outside (0, 1], or a head that
 * is sparse already. `report` may be NULL. */
HR_API hr_status hr_prune_model(hr_ctx *ctx, const char *model, const char *output, double density, hr_prune_report *report);

/* ---- evaluation and baselines -------------------------------------------------------------- */

typedef struct hr_eval_options {
    hr_split split;                 /* default: test */
    int top_k;                      /* default 5; at most 100 */
    double max_label_share;         /* in (0, 1]: only labels on at most this share of training rows count; 1: all */
    const char *save_predictions;   /* file to write "label:score ..." lines to; NULL: none */
} hr_eval_options;

HR_API hr_eval_options hr_eval_options_default(void);
/* A model folder on a split of a data set. Here and below options may be NULL: the defaults. */
HR_API hr_status hr_eval_model(hr_ctx *ctx, const char *model, const char *dataset, const hr_eval_options *options,
                               hr_metrics *out);
/* Saved predictions of any system: one line a row, "label:score label:score ...", best first or not. */
HR_API hr_status hr_eval_file(hr_ctx *ctx, const char *predictions, const char *dataset, const hr_eval_options *options,
                              hr_metrics *out);

typedef enum hr_baseline_kind { HR_BASELINE_POPULARITY, HR_BASELINE_KNN } hr_baseline_kind;

/* popularity: the most frequent training labels for every row. knn: `neighbours` (default 20) nearest training rows
 * by cosine of the sparse features; each votes for its labels with its squared cosine. */
HR_API hr_status hr_baseline_run(hr_ctx *ctx, const char *dataset, hr_baseline_kind kind, int neighbours,
                                 const hr_eval_options *options, hr_metrics *out);

#ifdef __cplusplus
}
#endif
#endif
