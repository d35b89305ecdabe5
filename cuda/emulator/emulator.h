/* An emulator of the CUDA execution model: runs a grid of blocks of a kernel (device.h) on the CPU and reports its mistakes.
 *
 *     hre_launch launch;
 *     launch.kernel = "sum";
 *     launch.threads = 128;
 *     launch.blocks = 4;
 *     hre_run(launch, sum_kernel, n, x, out);
 *
 * Each thread of a block is a fiber; all run on the calling thread, one at a time. A thread runs until it meets others (a barrier, a
 * warp's primitive). A warp runs as far as it can before the next one starts, so that launches in two orders, `order` = 0 and 1, run
 * every two threads between two of their meetings in both orders: results that differ show a missing barrier. Blocks run one after
 * another.
 *
 * hre_run throws hre_error, whose message names kernel, block, thread, place in the text and mistake, on
 *   lanes of a warp in different primitives, or some of them in none (ended, or at a barrier);
 *   a barrier that some thread of the block does not reach, or threads that meet in different barriers;
 *   a 16-byte access, a row of ldmatrix or either side of an asynchronous copy that is not aligned to 16 bytes;
 *   such an access to shared memory that leaves it, a row of ldmatrix or destination of a copy elsewhere;
 *   such an access to a destination of an asynchronous copy that has not been waited for by the thread that asked for it;
 *   any write of a kernel that changed the bytes around shared memory (found when the thread next meets others).
 * Plain accesses (p[i]) are not seen. Shared memory that nobody wrote, destinations of copies before their wait, and bytes around
 * shared memory hold 0xff, which is NaN in f32, f16, bf16 and e4m3: a wrong read gives a wrong result. With -fsanitize=address the
 * sanitizer reports plain accesses around shared memory, and ends the process (`poison_guards`).
 *
 * A launch leaves global memory as it is when it fails; other threads of the process may launch at the same time. */
#ifndef HRE_EMULATOR_H
#define HRE_EMULATOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdexcept>
#include <string>

struct hre_error : std::runtime_error {
    explicit hre_error(const std::string &message) : std::runtime_error(message)
    {
    }
};

struct hre_launch {
    const char *kernel = "kernel"; /* for messages */
    int threads = 32;              /* in a block: a multiple of 32 up to 1024 */
    int blocks = 1, blocks_y = 1;
    size_t shared = 0;            /* bytes of shared memory, up to 227 KiB */
    uint32_t order = 0;           /* of threads and blocks. 0: ascending, 1: descending, else: random, from this seed */
    bool count_conflicts = false; /* of shared memory banks; costs time */
    bool poison_guards = true;    /* with the address sanitizer, let it watch what is around shared memory */
};

/* What a launch did. A phase is what reaches shared memory at once: the eight rows of a matrix of ldmatrix, or the 16-byte accesses of
 * eight neighbouring lanes (0-7, 8-15, ...). Conflicts are the further passes that phases took because they wanted different words of
 * a bank; 0 is ideal. The 16-byte accesses of lanes belong together if they are the same in number since the warp last met and stand
 * in the same line of the text. */
struct hre_counts {
    int64_t barriers, mma;
    int64_t ldmatrix_phases, ldmatrix_conflicts; /* with count_conflicts only */
    int64_t access_phases, access_conflicts;     /* hrc_load16, hrc_store16 and hrc_copy16_async on shared memory; likewise */
};

hre_counts hre_run_threads(const hre_launch &launch, void (*thread)(void *), void *argument);

template <typename... Params, typename... Args>
hre_counts hre_run(const hre_launch &launch, void (*kernel)(Params...), Args... args)
{
    auto thread = [&] { kernel(static_cast<Params>(args)...); };
    return hre_run_threads(
        launch, [](void *argument) { (*static_cast<decltype(thread) *>(argument))(); }, &thread);
}

#endif
