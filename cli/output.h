/* Results: tables for people, JSON for programs. Commands print to stdout with printf; output_flush() finds
 * out whether all of it arrived. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "cli.h"

#include <stdio.h>

/* "1.50 GiB" */
typedef struct bytes_text {
    char text[24];
} bytes_text;
bytes_text human_bytes(size_t bytes);

/* HR_ERR_IO, with a message the first time, if something did not reach stdout. No message when the reader of a pipe
 * has gone: 'headroom config | head' is no mistake. */
hr_status output_flush(cli *c);
/* Stdout is a pipe that nobody reads any more. */
bool output_unread(void);

/* ---- JSON ---- */

#define JSON_DEPTH 8

/* Writes one JSON value; keys are NULL inside arrays and at the top. */
typedef struct json {
    FILE *out;
    bool lines; /* all on one line */
    int depth;
    bool filled[JSON_DEPTH + 1];
} json;

json json_make(FILE *out, bool one_line);
void json_begin(json *j, const char *key, char bracket); /* '{' or '[' */
void json_end(json *j, char bracket);                    /* '}' or ']'; a newline after the last one */
void json_text(json *j, const char *key, const char *text);
void json_bytes(json *j, const char *key, const char *text, size_t length); /* invalid UTF-8 becomes U+FFFD */
void json_int(json *j, const char *key, int64_t value);
void json_size(json *j, const char *key, size_t value);
void json_number(json *j, const char *key, double value); /* shortest that reads back; null if not finite */
void json_bool(json *j, const char *key, bool value);

/* ---- what several commands print ---- */

void print_metrics(const hr_metrics *m, bool as_json);
/* `measured` may be NULL. */
/* The whole process at its peak, what hr_plan.fits compares with the machine. */
size_t plan_whole(const hr_plan *plan);
void print_memory_table(FILE *out, const hr_plan *plan, const hr_mem_report *measured, size_t device_peak);
void json_plan(json *j, const char *key, const hr_plan *plan);
void json_memory(json *j, const char *key, const hr_mem_report *memory);
void print_dataset(const hr_dataset_info *info, bool as_json);

#endif
