/* Launches: blocks one after another, and in a block the order of its threads. */
#include "cuda/emulator/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>

enum { STACK_BYTES = 256 * 1024 };

thread_local hre_machine *hre_current;

const hre_position &hre_here()
{
    return hre_current->here;
}

/* "file.cuh:12" */
static std::string place(hre_where where)
{
    const char *slash = strrchr(where.file, '/');
    return std::string(slash ? slash + 1 : where.file) + ":" + std::to_string(where.line);
}

std::string hre_describe(const hre_thread &thread)
{
    std::string text = "thread " + std::to_string(thread.index);
    if (thread.state == HRE_WAITS)
        return text + " waits in " + thread.call->name + " at " + place(thread.call->where);
    return text + (thread.state == HRE_ENDED ? " has ended" : " runs");
}

void hre_fail(const hre_thread &thread, hre_where where, const char *format, ...)
{
    hre_machine *m = hre_current;
    char text[400], message[800];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(message, sizeof message, "kernel %s, block (%d, %d), thread %d%s%s: %s", m->launch.kernel, m->here.block, m->here.block_y,
             thread.index, where.file ? ", " : "", where.file ? place(where).c_str() : "", text);
    if (!m->running)
        throw hre_error(message);
    /* exceptions do not cross stacks: the scheduler throws it */
    m->failure = message;
    for (;;)
        hre_fiber_yield(&m->running->fiber);
}

void hre_stop()
{
    hre_machine *m = hre_current;
    hre_fiber_yield(&m->running->fiber);
}

/* A number below n, from the launch's order. */
static size_t random_below(hre_machine *m, size_t n)
{
    /* splitmix64 */
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (size_t)((z ^ z >> 31) % n);
}

/* The numbers 0 .. n - 1 in the launch's order. */
static std::vector<int> ordered(hre_machine *m, int n)
{
    std::vector<int> order((size_t)n);
    for (int i = 0; i < n; i++)
        order[(size_t)i] = m->launch.order == 1 ? n - 1 - i : i;
    for (size_t i = (size_t)n; m->launch.order > 1 && i > 1; i--)
        std::swap(order[i - 1], order[random_below(m, i)]);
    return order;
}

static void run_thread(void *thread)
{
    hre_machine *m = hre_current;
    m->body(m->argument);
    static_cast<hre_thread *>(thread)->state = HRE_ENDED;
}

static void resume(hre_machine *m, hre_thread *thread)
{
    m->running = thread;
    m->here.thread = thread->index;
    hre_fiber_resume(&thread->fiber);
    m->running = NULL;
    if (!m->failure.empty())
        throw hre_error(m->failure);
    hre_check_guards(m, *thread, false);
}

/* Runs the lanes of a warp that can run, each until it stops; false if there was none. */
static bool run_lanes(hre_machine *m, int warp)
{
    bool ran = false;
    for (int lane : ordered(m, HRE_LANES)) {
        hre_thread *thread = &m->threads[(size_t)(warp * HRE_LANES + lane)];
        if (thread->state == HRE_READY) {
            resume(m, thread);
            ran = true;
        }
    }
    return ran;
}

/* Runs all warps until every thread has ended or is at a barrier of the block. */
static void run_to_barrier(hre_machine *m)
{
    std::vector<int> warps = ordered(m, m->launch.threads / HRE_LANES);
    while (!warps.empty()) {
        /* in a random order warps take turns; else each runs as far as it can */
        const size_t next = m->launch.order > 1 ? random_below(m, warps.size()) : 0;
        const int warp = warps[next];
        const bool ran = run_lanes(m, warp);
        hre_check_guards(m, m->threads[(size_t)(warp * HRE_LANES)], true);
        hre_count_accesses(m, warp);
        if (!ran || !hre_finish_warp(m, warp))
            warps.erase(warps.begin() + (ptrdiff_t)next);
    }
}

/* All threads are at one barrier and go on: true; all have ended: false. */
static bool pass_barrier(hre_machine *m)
{
    const hre_thread *waiting = NULL, *ended = NULL;
    for (const hre_thread &thread : m->threads) {
        const hre_thread *&which = thread.state == HRE_ENDED ? ended : waiting;
        which = which ? which : &thread;
    }
    if (!waiting)
        return false;
    const hre_call *call = waiting->call;
    if (ended)
        hre_fail(*waiting, call->where, "%s is not reached by all threads of the block: %s", call->name, hre_describe(*ended).c_str());
    for (const hre_thread &thread : m->threads)
        if (!hre_together(*thread.call, *call))
            hre_fail(*waiting, call->where, "%s is not reached by all threads of the block: %s", call->name, hre_describe(thread).c_str());
    for (hre_thread &thread : m->threads)
        thread.state = HRE_READY;
    m->counts.barriers++;
    return true;
}

static void run_block(hre_machine *m, int block, int block_y)
{
    m->here.block = block;
    m->here.block_y = block_y;
    hre_shared_reset(m);
    for (size_t i = 0; i < m->threads.size(); i++) {
        hre_thread *thread = &m->threads[i];
        thread->index = (int)i;
        thread->state = HRE_READY;
        thread->groups = 0;
        thread->pending.clear();
        thread->accesses.clear();
        hre_fiber_prepare(&thread->fiber, hre_stack(m->stacks, STACK_BYTES, i), STACK_BYTES, run_thread, thread);
    }
    do
        run_to_barrier(m);
    while (pass_barrier(m));
}

static void check_launch(const hre_launch &launch)
{
    if (launch.threads < HRE_LANES || launch.threads > HRE_MAX_THREADS || launch.threads % HRE_LANES != 0)
        throw hre_error(std::string("kernel ") + launch.kernel + ": a block has whole warps and up to 1024 threads, not " +
                        std::to_string(launch.threads));
    if (launch.blocks < 0 || launch.blocks_y < 0)
        throw hre_error(std::string("kernel ") + launch.kernel + ": a negative number of blocks");
    if (launch.shared > HRE_MAX_SHARED)
        throw hre_error(std::string("kernel ") + launch.kernel + ": " + std::to_string(launch.shared) +
                        " bytes of shared memory; no device has more than 232448");
}

/* What a launch holds goes with it, however it ends. */
struct machine_owner {
    hre_machine m;
    hre_machine *outer;

    machine_owner(const hre_launch &launch, void (*body)(void *), void *argument) : m(), outer(hre_current)
    {
        m.launch = launch;
        m.body = body;
        m.argument = argument;
        m.random = launch.order;
        m.threads.resize((size_t)launch.threads);
        m.stacks = hre_stacks_create(m.threads.size(), STACK_BYTES);
        if (!m.stacks)
            throw hre_error("no memory for the stacks of a block");
        hre_shared_create(&m);
        m.here = {0, launch.threads, 0, 0, launch.blocks, launch.blocks_y, m.shared};
        hre_current = &m;
    }
    ~machine_owner()
    {
        hre_current = outer;
        hre_shared_destroy(&m);
        hre_stacks_destroy(m.stacks, m.threads.size(), STACK_BYTES);
    }
    machine_owner(const machine_owner &) = delete;
    machine_owner &operator=(const machine_owner &) = delete;
};

hre_counts hre_run_threads(const hre_launch &launch, void (*thread)(void *), void *argument)
{
    check_launch(launch);
    machine_owner owner(launch, thread, argument);
    hre_machine *m = &owner.m;
    for (int i : ordered(m, launch.blocks * launch.blocks_y))
        run_block(m, i % launch.blocks, i / launch.blocks);
    return m->counts;
}
