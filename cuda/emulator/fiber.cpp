/* Changing stacks: by hand on x86-64, where makecontext's system calls would cost more than the kernels that are emulated; by
 * ucontext elsewhere. */
#include "cuda/emulator/fiber.h"
#include "cuda/emulator/sanitizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The fiber that is being entered for the first time: its first function has no other way to learn of it. */
static thread_local hre_fiber *entered;

static void run_fiber()
{
    hre_fiber *fiber = entered;
    hre_asan_finish_switch(NULL, &fiber->caller_stack, &fiber->caller_stack_bytes);
    fiber->entry(fiber->argument);
    fiber->ended = true;
    hre_fiber_yield(fiber);
    abort(); /* an ended fiber was resumed */
}

#if HRE_FIBER_UCONTEXT

static void set_entry(hre_fiber *fiber)
{
    getcontext(&fiber->own);
    fiber->own.uc_stack.ss_sp = fiber->stack;
    fiber->own.uc_stack.ss_size = fiber->stack_bytes;
    fiber->own.uc_link = NULL;
    makecontext(&fiber->own, run_fiber, 0);
}
static void enter(hre_fiber *fiber)
{
    swapcontext(&fiber->caller, &fiber->own);
}
static void leave(hre_fiber *fiber)
{
    swapcontext(&fiber->own, &fiber->caller);
}

#else

/* void hre_change_stack(void **save, void *load): keeps the registers that a called function must keep. */
extern "C" void hre_change_stack(void **save, void *load);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl hre_change_stack\n"
        ".hidden hre_change_stack\n"
        ".type hre_change_stack, @function\n"
        "hre_change_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size hre_change_stack, . - hre_change_stack\n");

/* The stack as hre_change_stack would have left it: six registers, then the return address, and above it the one that run_fiber
 * would return to; at a function's first instruction the stack pointer is 8 below a multiple of 16. */
static void set_entry(hre_fiber *fiber)
{
    uint64_t *top = reinterpret_cast<uint64_t *>(fiber->stack + fiber->stack_bytes / 16 * 16);
    memset(top - 8, 0, 8 * sizeof *top);
    top[-2] = reinterpret_cast<uint64_t>(run_fiber);
    fiber->own = top - 8;
}
static void enter(hre_fiber *fiber)
{
    hre_change_stack(&fiber->caller, fiber->own);
}
static void leave(hre_fiber *fiber)
{
    hre_change_stack(&fiber->own, fiber->caller);
}

#endif

void hre_fiber_prepare(hre_fiber *fiber, char *stack, size_t bytes, void (*entry)(void *), void *argument)
{
    fiber->entry = entry;
    fiber->argument = argument;
    fiber->stack = stack;
    fiber->stack_bytes = bytes;
    fiber->ended = false;
    fiber->own_frames = NULL;
    hre_asan_unpoison(stack, bytes); /* frames that were left behind */
    set_entry(fiber);
}

void hre_fiber_resume(hre_fiber *fiber)
{
    entered = fiber;
    hre_asan_start_switch(&fiber->caller_frames, fiber->stack, fiber->stack_bytes);
    enter(fiber);
    hre_asan_finish_switch(fiber->caller_frames, NULL, NULL);
}

void hre_fiber_yield(hre_fiber *fiber)
{
    hre_asan_start_switch(fiber->ended ? NULL : &fiber->own_frames, fiber->caller_stack, fiber->caller_stack_bytes);
    leave(fiber);
    hre_asan_finish_switch(fiber->own_frames, &fiber->caller_stack, &fiber->caller_stack_bytes);
}

enum { PAGE = 4096 };

char *hre_stack(char *stacks, size_t bytes, size_t i)
{
    return stacks + i * (bytes + PAGE) + PAGE;
}

char *hre_stacks_create(size_t count, size_t bytes)
{
    void *p = mmap(NULL, count * (bytes + PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *stacks = static_cast<char *>(p);
    for (size_t i = 0; i < count; i++)
        if (mprotect(hre_stack(stacks, bytes, i) - PAGE, PAGE, PROT_NONE) != 0) {
            munmap(p, count * (bytes + PAGE));
            return NULL;
        }
    return stacks;
}

void hre_stacks_destroy(char *stacks, size_t count, size_t bytes)
{
    for (size_t i = 0; stacks && i < count; i++)
        hre_asan_unpoison(hre_stack(stacks, bytes, i), bytes);
    if (stacks)
        munmap(stacks, count * (bytes + PAGE));
}
