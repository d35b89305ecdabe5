/* The log of a run: log.jsonl for machines, one object a line, and a progress line for people. A resumed run first cuts
 * the file back to the state it resumes from, so that no step is told twice. */
#include "trainer/run.h"

#include <stdio.h>

hr_status hr_run_log_open(hr_run *run)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(run->ctx, path, "%s/log.jsonl", run->folder));
    uint64_t bytes;
    HR_TRY(hr_file_append(run->ctx, path, &run->log));
    HR_TRY(hr_file_size(&run->log, &bytes));
    if (bytes < run->log_bytes) /* lost or edited: go on after what there is */
        run->log_bytes = bytes;
    return hr_file_truncate(&run->log, run->log_bytes);
}

hr_status hr_run_log(hr_run *run, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof line - 1)
        return hr_fail(run->ctx, HR_ERR_BUG, "a log line is too long");
    line[n++] = '\n';
    run->log_bytes += (uint64_t)n;
    return hr_file_write(&run->log, line, (size_t)n);
}

void hr_run_progress(hr_run *run)
{
    const double seconds = hr_clock() - run->started, done = (double)(run->step - run->started_step);
    const int64_t epochs = (run->total_steps - 1) / run->steps_per_epoch + 1, epoch = run->step / run->steps_per_epoch + 1;
    const double left = done > 0 ? seconds / done * (double)(run->total_steps - run->step) : 0;
    hr_log(run->ctx, HR_LOG_PROGRESS, "epoch %lld/%lld  step %lld/%lld  %.0f rows/s  %.0f s left",
           (long long)(epoch < epochs ? epoch : epochs), (long long)epochs,
           (long long)run->step, (long long)run->total_steps,
           seconds > 0 ? done * (double)run->spec.head.max_batch / seconds : 0, left);
}
