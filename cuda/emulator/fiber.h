/* Fibers: a function on a stack of its own that can stop in the middle and go on later. All fibers of a caller run on the caller's
 * thread, one at a time, and come back to where they were resumed. The address sanitizer is told of each change of stacks. */
#ifndef HRE_FIBER_H
#define HRE_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) || defined(HRE_UCONTEXT)
#define HRE_FIBER_UCONTEXT 1
#include <ucontext.h>
#else
#define HRE_FIBER_UCONTEXT 0
#endif

struct hre_fiber {
    void (*entry)(void *);
    void *argument;
    char *stack;
    size_t stack_bytes;
    bool ended;
#if HRE_FIBER_UCONTEXT
    ucontext_t own, caller;
#else
    void *own, *caller; /* stack pointers; what else must be kept is on the stacks */
#endif
    /* for the address sanitizer: the frames it keeps for either side, and the caller's stack */
    void *own_frames, *caller_frames;
    const void *caller_stack;
    size_t caller_stack_bytes;
};

/* The fiber will call entry(argument) when it is first resumed. It may be prepared again at any time, also if it never ended: what
 * was on its stack is then forgotten, without destructors. */
void hre_fiber_prepare(hre_fiber *fiber, char *stack, size_t bytes, void (*entry)(void *), void *argument);
/* Runs the fiber until it yields or ends. */
void hre_fiber_resume(hre_fiber *fiber);
/* Back to the one that resumed `fiber`, which is the one that is running. */
void hre_fiber_yield(hre_fiber *fiber);

/* `count` stacks of `bytes` each, with an unreadable page below each; NULL if there is no memory. */
char *hre_stacks_create(size_t count, size_t bytes);
void hre_stacks_destroy(char *stacks, size_t count, size_t bytes);
/* The `i`th of them. */
char *hre_stack(char *stacks, size_t bytes, size_t i);

#endif
