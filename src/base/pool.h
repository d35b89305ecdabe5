/* A small thread pool. The calling thread is worker 0; the others sleep between regions. */
#ifndef HR_BASE_POOL_H
#define HR_BASE_POOL_H

#include <stdint.h>

typedef struct hr_pool hr_pool;

/* Processors this process may run on, at least 1. */
int hr_pool_processors(void);
/* NULL when memory or threads run out. */
hr_pool *hr_pool_create(int threads);
void hr_pool_destroy(hr_pool *pool);
void hr_pool_run(hr_pool *pool, int64_t tasks, void (*fn)(void *arg, int64_t task, int worker), void *arg);

#endif
