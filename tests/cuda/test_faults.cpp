/* Wrong kernels, each of which the emulator must name. */
#include "check.hpp"

#include "cuda/emulator/sanitizer.h"
#include "gemm.cuh"
#include "reduce.cuh"

#include <fcntl.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

static hre_launch launch_of(const char *kernel, int threads, size_t shared = 0, uint32_t order = 0)
{
    hre_launch launch;
    launch.kernel = kernel;
    launch.threads = threads;
    launch.shared = shared;
    launch.order = order;
    return launch;
}

/* ---- missing barriers ---- */

/* Without its barrier the sum of warps is right if the warp that adds comes last, and reads what nobody wrote if it comes first. */
static void test_missing_barrier_shows()
{
    std::vector<float> x(1000, 1.0f);
    float first = 0, last = 0;
    hre_run(launch_of("reduce_sum", 128, 16, 0), reduce_sum<0>, 1000, x.data(), &first);
    hre_run(launch_of("reduce_sum", 128, 16, 1), reduce_sum<0>, 1000, x.data(), &last);
    CHECK(last == 1000.0f);
    CHECK(isnan(first));
}

/* Neighbours pass values through shared memory; `meet` = 0 forgets the warp's barrier. */
HRC_KERNEL(32, 1) pass_on(int meet, float *out)
{
    volatile float *v = reinterpret_cast<volatile float *>(hrc_shared());
    v[hrc_lane()] = (float)hrc_lane();
    if (meet)
        hrc_sync_warp();
    out[hrc_lane()] = v[(hrc_lane() + 1) % 32];
}

static void test_missing_warp_barrier_shows()
{
    for (int meet = 0; meet < 2; meet++) {
        float up[32], down[32];
        hre_run(launch_of("pass_on", 32, 128, 0), pass_on, meet, up);
        hre_run(launch_of("pass_on", 32, 128, 1), pass_on, meet, down);
        CHECK_EQUAL(memcmp(up, down, sizeof up) == 0, meet);
    }
}

/* A thread that runs ahead through several meetings of its warp, and another that has none. */
HRC_KERNEL(64, 1) run_ahead(float *out)
{
    float *v = reinterpret_cast<float *>(hrc_shared());
    if (hrc_warp() == 0) {
        for (int i = 0; i < 5; i++)
            hrc_sync_warp();
        v[hrc_lane()] = 1;
    } else {
        out[hrc_lane()] = v[hrc_lane()]; /* a barrier is missing before it */
    }
}

static void test_orders_reach_across_meetings()
{
    float up[32], down[32];
    hre_run(launch_of("run_ahead", 64, 128, 0), run_ahead, up);
    hre_run(launch_of("run_ahead", 64, 128, 1), run_ahead, down);
    CHECK(up[0] == 1 && isnan(down[0]));
}

HRC_KERNEL(64, 1) early_return(int leaves)
{
    if (hrc_thread() >= leaves)
        return;
    hrc_sync();
}
HRC_KERNEL(64, 1) two_barriers()
{
    if (hrc_warp() == 0)
        hrc_sync();
    else
        hrc_sync();
}

static void test_barrier_not_reached()
{
    hre_run(launch_of("early_return", 64), early_return, 64);
    for (uint32_t order = 0; order < 3; order++) {
        CHECK_FAILS("kernel early_return, block (0, 0), thread 0|hrc_sync is not reached|thread 32 has ended",
                    hre_run(launch_of("early_return", 64, 0, order), early_return, 32));
        CHECK_FAILS("hrc_sync is not reached|has ended", hre_run(launch_of("early_return", 64, 0, order), early_return, 45));
        CHECK_FAILS("thread 0|test_faults.cpp:|hrc_sync is not reached|thread 32 waits in hrc_sync at test_faults.cpp:",
                    hre_run(launch_of("two_barriers", 64, 0, order), two_barriers));
    }
}

/* ---- lanes that are not together ---- */

HRC_KERNEL(32, 1) half_shuffles(float *out)
{
    float v = 1;
    if (hrc_lane() < 16)
        v = hrc_shuffle_xor(v, 1);
    out[hrc_lane()] = v;
}
HRC_KERNEL(32, 1) shuffle_or_barrier()
{
    if (hrc_lane() == 5)
        hrc_sync();
    else
        hrc_shuffle(1, 0);
}
HRC_KERNEL(32, 1) shuffle_in_two_places()
{
    if (hrc_lane() % 2)
        hrc_shuffle_xor(1, 2);
    else
        hrc_shuffle_xor(1, 2);
}
HRC_KERNEL(32, 1) ballot_or_shuffle()
{
    if (hrc_lane() == 31) { hrc_ballot(true); } else { hrc_shuffle(1, 0); } /* one line */
}
HRC_KERNEL(32, 1) two_shuffles()
{
    hrc_lane() == 9 ? hrc_shuffle_up(1, 1) : hrc_shuffle_xor(1, 1);
}

static void test_divergence()
{
    float out[32];
    for (uint32_t order = 0; order < 3; order++) {
        CHECK_FAILS("kernel half_shuffles|thread 0, test_faults.cpp:|hrc_shuffle_xor without all lanes|thread 16 has ended",
                    hre_run(launch_of("half_shuffles", 32, 0, order), half_shuffles, out));
        CHECK_FAILS("hrc_shuffle without all lanes|thread 5 waits in hrc_sync",
                    hre_run(launch_of("shuffle_or_barrier", 32, 0, order), shuffle_or_barrier));
        CHECK_FAILS("hrc_shuffle_xor by lanes that are not together|thread 1 waits in hrc_shuffle_xor",
                    hre_run(launch_of("shuffle_in_two_places", 32, 0, order), shuffle_in_two_places));
        CHECK_FAILS("hrc_shuffle by lanes that are not together|thread 31 waits in hrc_ballot",
                    hre_run(launch_of("ballot_or_shuffle", 32, 0, order), ballot_or_shuffle));
        CHECK_FAILS("hrc_shuffle_xor by lanes that are not together|thread 9 waits in hrc_shuffle_up",
                    hre_run(launch_of("two_shuffles", 32, 0, order), two_shuffles));
    }
}

/* ---- asynchronous copies ---- */

HRC_KERNEL(32, 1) read_too_early(const float *from, int wait, float *out)
{
    float *to = reinterpret_cast<float *>(hrc_shared()) + 4 * hrc_lane();
    hrc_copy16_async(to, from + 4 * hrc_lane(), 16);
    hrc_copy_commit();
    if (wait)
        hrc_copy_wait<0>();
    for (int i = 0; i < 4; i++)
        out[4 * hrc_lane() + i] = to[i];
}
HRC_KERNEL(32, 1) load_too_early(const float *from)
{
    unsigned char *to = hrc_shared() + 16 * hrc_lane();
    hrc_copy16_async(to, from + 4 * hrc_lane(), 16);
    hrc_copy_wait<0>(); /* of no group: the commit is missing */
    hrc_load16(to);
}
HRC_KERNEL(32, 1) two_copies(const float *from)
{
    hrc_copy16_async(hrc_shared(), from, 16);
    hrc_copy_commit();
}

static void test_missing_wait()
{
    alignas(16) float from[128];
    float out[128];
    for (int i = 0; i < 128; i++)
        from[i] = (float)i;
    hre_run(launch_of("read_too_early", 32, 512), read_too_early, from, 1, out);
    CHECK(memcmp(from, out, sizeof from) == 0);
    hre_run(launch_of("read_too_early", 32, 512), read_too_early, from, 0, out);
    for (float v : out)
        CHECK(isnan(v));
    CHECK_FAILS("thread 0|hrc_load16: byte 0 of shared memory belongs to a copy that thread 0 has not waited for",
                hre_run(launch_of("load_too_early", 32, 512), load_too_early, from));
    CHECK_FAILS("thread 1|hrc_copy16_async: byte 0 of shared memory belongs to a copy that thread 0 has not waited for",
                hre_run(launch_of("two_copies", 32, 16), two_copies, from));
}

template <int FAULT> static void run_gemm(uint32_t order)
{
    enum { SIZE = 64, BYTES = 256 };
    std::vector<unsigned char> memory(2 * SIZE * BYTES + 16, 0);
    std::vector<float> c(SIZE * SIZE);
    unsigned char *a = memory.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16;
    const gemm_args args = {SIZE, SIZE, BYTES, a, a + SIZE * BYTES, BYTES, BYTES, c.data(), SIZE};
    hre_run(launch_of("gemm_nt", GEMM_THREADS, GEMM_SHARED, order), gemm_nt<false, FAULT>, args);
}

static void test_gemm_pipeline()
{
    for (uint32_t order = 2; order < 5; order++)
        run_gemm<0>(order);
    for (uint32_t order = 0; order < 2; order++) { /* a random one may happen to be right */
        run_gemm<0>(order);
        CHECK_FAILS("kernel gemm_nt|gemm.cuh:|hrc_ldmatrix_x4: byte|has not waited for", run_gemm<1>(order));
        CHECK_FAILS("kernel gemm_nt|gemm.cuh:|hrc_ldmatrix_x4: byte|has not waited for", run_gemm<2>(order));
        CHECK_FAILS("kernel gemm_nt|gemm.cuh:|hrc_ldmatrix_x4: byte|has not waited for", run_gemm<3>(order));
    }
}

/* ---- addresses ---- */

enum {
    STORE_FAR,
    STORE16,
    LOAD16,
    LOAD_ODD,
    STORE_ODD,
    GLOBAL_ODD,
    COPY_TO,
    COPY_ODD,
    COPY_FROM_ODD,
    COPY_FROM_SHARED,
    COPY_MUCH,
    COPY_GLOBAL,
    FLOAT_ATOMIC,
    ATOMIC_FAR
};

/* One copy, from start to end. */
HRC_DEVICE void copy_whole(void *shared, const void *global, int bytes)
{
    hrc_copy16_async(shared, global, bytes);
    hrc_copy_commit();
    hrc_copy_wait<0>();
}

/* Shared memory has 512 bytes; one thread goes wrong. */
HRC_KERNEL(64, 1) go_astray(int how, unsigned char *global)
{
    unsigned char *shared = hrc_shared();
    const bool wrong = hrc_thread() == 37;
    switch (how) {
    case STORE_FAR:
        if (wrong)
            shared[600] = 1;
        break;
    case STORE16: hrc_store16(wrong ? shared + 512 : shared, hrc_vec16{}); break;
    case LOAD16: hrc_load16(wrong ? shared - 16 : shared); break;
    case LOAD_ODD: hrc_load16(wrong ? shared + 8 : shared); break;
    case STORE_ODD: hrc_store16(wrong ? shared + 4 : shared, hrc_vec16{}); break;
    case GLOBAL_ODD: hrc_load16(wrong ? global + 4 : global); break;
    case COPY_TO: copy_whole(shared + (wrong ? 512 : 0), global, wrong ? 16 : 0); break;
    case COPY_ODD: copy_whole(shared + (wrong ? 8 : 0), global, 16); break;
    case COPY_FROM_ODD: copy_whole(shared, global + (wrong ? 8 : 0), 16); break;
    case COPY_FROM_SHARED: copy_whole(shared, wrong ? shared + 16 : global, 16); break;
    case COPY_MUCH: copy_whole(shared, global, wrong ? 17 : 16); break;
    case COPY_GLOBAL: copy_whole(wrong ? global : shared, global, 16); break;
    case FLOAT_ATOMIC: hrc_atomic_add(reinterpret_cast<float *>(wrong ? shared : global), 1.0f); break;
    case ATOMIC_FAR: hrc_atomic_add(reinterpret_cast<int32_t *>(wrong ? shared + 512 : global), 1); break;
    }
}

static void check_astray(int how, const char *words)
{
    alignas(16) unsigned char global[64] = {};
    for (uint32_t order = 0; order < 2; order++) {
        hre_launch launch = launch_of("go_astray", 64, 512, order);
        launch.poison_guards = false; /* the sanitizer would end the process before the emulator can speak */
        CHECK_FAILS(words, hre_run(launch, go_astray, how, global));
    }
}

static void test_addresses()
{
    check_astray(STORE_FAR, "kernel go_astray, block (0, 0), thread 32:|its warp has written outside of shared memory|byte 600, of");
    check_astray(STORE16, "thread 37, test_faults.cpp:|hrc_store16: bytes 512 to 527, of shared memory of 512 bytes");
    check_astray(LOAD16, "thread 37, test_faults.cpp:|hrc_load16: bytes -16 to -1, of shared memory of 512 bytes");
    check_astray(LOAD_ODD, "thread 37, test_faults.cpp:|hrc_load16: the address is not aligned to 16 bytes but 8 above");
    check_astray(STORE_ODD, "thread 37, test_faults.cpp:|hrc_store16: the address is not aligned to 16 bytes but 4 above");
    check_astray(GLOBAL_ODD, "thread 37, test_faults.cpp:|hrc_load16: the address is not aligned");
    check_astray(COPY_TO, "thread 37, test_faults.cpp:|hrc_copy16_async: bytes 512 to 527");
    check_astray(COPY_ODD, "thread 37, test_faults.cpp:|hrc_copy16_async: the address is not aligned");
    check_astray(COPY_FROM_ODD, "thread 37, test_faults.cpp:|hrc_copy16_async: the address is not aligned");
    check_astray(COPY_FROM_SHARED, "thread 37, test_faults.cpp:|hrc_copy16_async: the source is in shared memory");
    check_astray(COPY_MUCH, "thread 37, test_faults.cpp:|hrc_copy16_async: 17 bytes of 16");
    check_astray(COPY_GLOBAL, "thread 37, test_faults.cpp:|hrc_copy16_async: the address is not in shared memory");
    check_astray(FLOAT_ATOMIC, "thread 37, test_faults.cpp:|hrc_atomic_add of float: not for shared memory");
    check_astray(ATOMIC_FAR, "thread 37, test_faults.cpp:|hrc_atomic_add: bytes 512 to 515");
}

/* A write just outside is found when its thread stops, and says which. */
HRC_KERNEL(64, 1) store_beside(int at)
{
    if (hrc_thread() == 41)
        hrc_shared()[at] = 1;
    hrc_sync();
}

static void test_store_beside()
{
    for (int at : {-64, -1, 100, 163}) {
        hre_launch launch = launch_of("store_beside", 64, 100);
        launch.poison_guards = false;
        const std::string words = "thread 41, test_faults.cpp:|a write outside of shared memory before here: byte " + std::to_string(at);
        CHECK_FAILS(words.c_str(), hre_run(launch, store_beside, at));
    }
    hre_run(launch_of("store_beside", 64, 100), store_beside, 99);
}

/* With the address sanitizer the process ends; it is another one here. */
static void test_sanitizer_watches()
{
    if (!HRE_ASAN)
        return;
    for (int at : {-1, 100}) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            const int null = open("/dev/null", O_WRONLY);
            dup2(null, 2);
            hre_run(launch_of("store_beside", 64, 100), store_beside, at);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    }
}

/* `at`: where row 3 of matrix 2 lies. */
HRC_KERNEL(32, 1) load_rows(const unsigned char *global, int at)
{
    uint32_t r[4];
    const unsigned char *row = hrc_shared() + 16 * hrc_lane();
    if (hrc_lane() == 19)
        row = at == -1000 ? global : hrc_shared() + at;
    hrc_ldmatrix_x4(r, row);
}

static void load_rows_at(int at, size_t shared)
{
    alignas(16) unsigned char global[16] = {};
    hre_run(launch_of("load_rows", 32, shared), load_rows, global, at);
}

static void test_ldmatrix_rows()
{
    load_rows_at(496, 512);
    for (int odd = 1; odd < 16; odd++)
        CHECK_FAILS("thread 19, test_faults.cpp:|hrc_ldmatrix_x4: the address is not aligned to 16 bytes", load_rows_at(odd, 512));
    CHECK_FAILS("thread 19|hrc_ldmatrix_x4: bytes 512 to 527, of shared memory of 512 bytes", load_rows_at(512, 512));
    CHECK_FAILS("thread 19|hrc_ldmatrix_x4: bytes -16 to -1, of shared memory of 512 bytes", load_rows_at(-16, 512));
    CHECK_FAILS("thread 31|hrc_ldmatrix_x4: bytes 496 to 511, of shared memory of 504 bytes", load_rows_at(0, 504));
    CHECK_FAILS("thread 19|hrc_ldmatrix_x4: the address is not in shared memory", load_rows_at(-1000, 512));
}

/* ---- launches ---- */

HRC_KERNEL(1024, 1) read_unwritten(float *out)
{
    const float *v = reinterpret_cast<const float *>(hrc_shared());
    if (hrc_thread() == 0) {
        out[hrc_block()] = v[0];
        reinterpret_cast<float *>(hrc_shared())[0] = 1; /* which the next block must not see */
    }
}

static void test_launches()
{
    float out[3] = {};
    hre_launch launch = launch_of("read_unwritten", 1024, HRE_ASAN ? 4 : 232448);
    launch.blocks = 3;
    hre_run(launch, read_unwritten, out);
    for (float v : out)
        CHECK(isnan(v));
    CHECK_FAILS("kernel read_unwritten|not 1056", hre_run(launch_of("read_unwritten", 1056), read_unwritten, out));
    CHECK_FAILS("kernel read_unwritten|not 48", hre_run(launch_of("read_unwritten", 48), read_unwritten, out));
    CHECK_FAILS("kernel read_unwritten|232449 bytes", hre_run(launch_of("read_unwritten", 32, 232449), read_unwritten, out));
    launch.blocks = 0;
    CHECK_EQUAL(hre_run(launch, read_unwritten, out).barriers, 0);
}

int main()
{
    const check_case cases[] = {
        {"a missing barrier shows", test_missing_barrier_shows},
        {"a missing barrier of a warp shows", test_missing_warp_barrier_shows},
        {"orders reach across meetings", test_orders_reach_across_meetings},
        {"barriers not reached", test_barrier_not_reached},
        {"divergence", test_divergence},
        {"missing waits", test_missing_wait},
        {"pipeline of copies", test_gemm_pipeline},
        {"addresses", test_addresses},
        {"stores beside shared memory", test_store_beside},
        {"the sanitizer watches", test_sanitizer_watches},
        {"rows of ldmatrix", test_ldmatrix_rows},
        {"launches", test_launches},
    };
    return check_run(cases);
}
