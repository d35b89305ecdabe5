/* Workers take task numbers from one counter. A region ends when every task is done and every worker has left it. */
#define _GNU_SOURCE 1
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct worker {
    hr_pool *pool;
    int index;
    pthread_t thread;
} worker;

struct hr_pool {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    uint64_t region; /* number of the current region; workers wait for it to change */
    int busy;        /* workers still inside the region */
    bool quit;
    int threads, started;
    void (*fn)(void *, int64_t, int);
    void *arg;
    int64_t tasks;
    _Atomic int64_t next;
    worker workers[];
};

int hr_pool_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}

static void drain(hr_pool *pool, int index)
{
    for (int64_t t; (t = atomic_fetch_add(&pool->next, 1)) < pool->tasks;)
        pool->fn(pool->arg, t, index);
}

static void *work(void *arg)
{
    worker *self = arg;
    hr_pool *pool = self->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->region == seen && !pool->quit)
            pthread_cond_wait(&pool->begin, &pool->lock);
        if (pool->quit)
            break;
        seen = pool->region;
        pthread_mutex_unlock(&pool->lock);
        drain(pool, self->index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

hr_pool *hr_pool_create(int threads)
{
    hr_pool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof(worker));
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    pool->threads = threads;
    for (int i = 1; i < threads; i++) {
        pool->workers[i] = (worker){.pool = pool, .index = i};
        if (pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i]) != 0) {
            hr_pool_destroy(pool);
            return NULL;
        }
        pool->started++;
    }
    return pool;
}

void hr_pool_destroy(hr_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void hr_pool_run(hr_pool *pool, int64_t tasks, void (*fn)(void *arg, int64_t task, int worker), void *arg)
{
    if (pool->threads == 1 || tasks <= 1) {
        for (int64_t t = 0; t < tasks; t++)
            fn(arg, t, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->arg = arg;
    pool->tasks = tasks;
    atomic_store(&pool->next, 0);
    pool->busy = pool->started;
    pool->region++;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    drain(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->end, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
