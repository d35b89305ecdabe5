/* What the benches share: clocks, and what the machine can do, measured: the yardsticks beside every figure. */
#ifndef HR_BENCH_MACHINE_H
#define HR_BENCH_MACHINE_H

#include "base/ctx.h"

#include <stdbool.h>

/* Processor time of the calling thread, of the process, and time on the wall. On a machine that others use too, the first is
 * the one to trust for one thread. */
typedef struct bench_time {
    double wall, thread, process;
} bench_time;
bench_time bench_now(void);
/* The median of n; sorts them. */
double bench_median(double *t, int n);

/* Whether `name` is one of the comma-separated names; NULL names all. */
bool bench_listed(const char *names, const char *name);

/* Name of the processor, "unknown" where the system does not say. */
void bench_cpu_name(char name[64]);
/* Multiply-adds that never leave the registers, on all threads of the context, GF/s; 0 where there is no such loop. */
double bench_peak_gflops(hr_ctx *ctx);
/* Reading memory from front to back, all threads, GB/s. */
double bench_read_gbs(hr_ctx *ctx);

#endif
