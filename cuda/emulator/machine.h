/* The emulator's state: a launch, its running block, the threads of that block. Internal to this folder. */
#ifndef HRE_MACHINE_H
#define HRE_MACHINE_H

#include "cuda/device.h"
#include "cuda/emulator/emulator.h"
#include "cuda/emulator/fiber.h"

#include <string>
#include <vector>

enum { HRE_LANES = 32, HRE_MAX_THREADS = 1024, HRE_GUARD = 4096, HRE_MAX_SHARED = 227 * 1024 };
enum { HRE_FILL = 0xff }; /* every byte that a kernel has not written, and the guards */

enum hre_op { HRE_BARRIER, HRE_WARP_BARRIER, HRE_SHUFFLE, HRE_BALLOT, HRE_LDMATRIX, HRE_MMA };

/* A primitive that a thread waits in; it lies on the thread's stack. */
struct hre_call {
    const char *name;
    hre_where where;
    hre_op op;
    uint32_t value, result; /* shuffle; ballot */
    int source;
    int count; /* ldmatrix: matrices */
    bool trans;
    uint32_t *out;
    const unsigned char *row;
    hre_mma_type type; /* mma */
    float *d;
    const uint32_t *a, *b;
};

/* An asynchronous copy that has been asked for: its bytes, kept until they arrive. */
struct hre_pending {
    unsigned char *to;
    unsigned char bytes[16];
    int64_t group;
};

/* A 16-byte access to shared memory since the warp last met. */
struct hre_access {
    hre_where where;
    uint32_t offset;
};

enum hre_state { HRE_READY, HRE_WAITS, HRE_ENDED };

struct hre_thread {
    hre_fiber fiber;
    int index;
    hre_state state;
    hre_call *call; /* what it waits in */
    std::vector<hre_pending> pending;
    int64_t groups; /* committed so far */
    std::vector<hre_access> accesses;
};

struct hre_machine {
    hre_launch launch;
    void (*body)(void *);
    void *argument;
    hre_position here;  /* of the running thread */
    hre_thread *running; /* NULL: the scheduler */
    std::string failure; /* of the running thread */
    std::vector<hre_thread> threads;
    std::vector<unsigned char> memory; /* shared memory between its guards */
    unsigned char *shared;
    std::vector<int> owed; /* for 16 bytes of shared memory each: the thread whose copy will fill them, or -1 */
    char *stacks;
    uint64_t random;
    hre_counts counts;
};

/* The machine whose kernel runs on this thread of the process. A kernel has no parameter for it. */
extern thread_local hre_machine *hre_current;

/* emulator.cpp */
/* Ends the launch with a message. `thread` is the one that is to blame. */
[[noreturn]] void hre_fail(const hre_thread &thread, hre_where where, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What a thread does, for messages. */
std::string hre_describe(const hre_thread &thread);
/* The running thread stops here until the scheduler lets it go on. */
void hre_stop();

/* warp.cpp */
/* The lanes of a warp, all of them waiting or ended, have met and go on: true; they are at a barrier of the block or ended: false.
 * Fails if some are in a primitive of the warp and others never will be. */
bool hre_finish_warp(hre_machine *m, int warp);
/* Two threads wait in the same primitive at the same place of the text. */
bool hre_together(const hre_call &a, const hre_call &b);

/* shared.cpp */
void hre_shared_create(hre_machine *m);
void hre_shared_destroy(hre_machine *m);
void hre_shared_reset(hre_machine *m); /* for a new block */
/* The guards are as they were, or the launch fails: the nearest bytes, after `thread` has run, or (`whole`) all, after its warp has. */
void hre_check_guards(hre_machine *m, const hre_thread &thread, bool whole);
/* 16 bytes at p are shared memory, aligned and not owed to a copy, or the launch fails. */
void hre_check_shared16(hre_machine *m, const hre_thread &thread, const char *name, const void *p, hre_where where);
/* Counts conflicts: of the rows of a matrix, and of the accesses of a warp since it last met, which are then forgotten. */
void hre_count_matrix(hre_machine *m, const unsigned char *const *rows);
void hre_count_accesses(hre_machine *m, int warp);

#endif
