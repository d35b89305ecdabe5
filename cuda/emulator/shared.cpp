/* Shared memory: its bounds, asynchronous copies into it, and the conflicts of its banks. */
#include "cuda/emulator/machine.h"
#include "cuda/emulator/sanitizer.h"

#include <string.h>
#include <algorithm>

enum { ALIGNMENT = 1024 };

static bool guards_poisoned(const hre_machine *m)
{
    return HRE_ASAN && m->launch.poison_guards;
}

static unsigned char *end_of(const hre_machine *m)
{
    return m->shared + m->launch.shared;
}

void hre_shared_create(hre_machine *m)
{
    m->memory.assign(m->launch.shared + 2 * HRE_GUARD + ALIGNMENT, HRE_FILL);
    const uintptr_t first = reinterpret_cast<uintptr_t>(m->memory.data()) + HRE_GUARD;
    m->shared = m->memory.data() + HRE_GUARD + (ALIGNMENT - first % ALIGNMENT) % ALIGNMENT;
    m->owed.assign(m->launch.shared / 16 + 1, -1);
    if (guards_poisoned(m)) {
        hre_asan_poison(m->shared - HRE_GUARD, HRE_GUARD);
        hre_asan_poison(end_of(m), HRE_GUARD);
    }
}

void hre_shared_destroy(hre_machine *m)
{
    if (guards_poisoned(m))
        hre_asan_unpoison(m->memory.data(), m->memory.size());
}

void hre_shared_reset(hre_machine *m)
{
    memset(m->shared, HRE_FILL, m->launch.shared);
    std::fill(m->owed.begin(), m->owed.end(), -1);
}

/* The place of the first of `bytes` bytes that changed, or NULL. */
static const unsigned char *changed(const unsigned char *p, size_t bytes)
{
    if (p[0] == HRE_FILL && memcmp(p, p + 1, bytes - 1) == 0)
        return NULL;
    while (*p == HRE_FILL)
        p++;
    return p;
}

void hre_check_guards(hre_machine *m, const hre_thread &thread, bool whole)
{
    if (guards_poisoned(m))
        return; /* the sanitizer watches them, and forbids to look */
    const size_t bytes = whole ? HRE_GUARD : 64; /* the nearest are cheap enough for every stop of a thread */
    const unsigned char *before = changed(m->shared - bytes, bytes), *after = changed(end_of(m), bytes);
    const hre_where nowhere = {NULL, 0};
    if (before || after)
        hre_fail(thread, thread.state == HRE_WAITS ? thread.call->where : nowhere,
                 "%s before here: byte %td, of shared memory of %zu bytes",
                 whole ? "its warp has written outside of shared memory" : "a write outside of shared memory",
                 (before ? before : after) - m->shared, m->launch.shared);
}

/* Where p lies: in shared memory or what is around it. */
static bool near_shared(const hre_machine *m, const void *p)
{
    const uintptr_t a = reinterpret_cast<uintptr_t>(p), shared = reinterpret_cast<uintptr_t>(m->shared);
    return a >= shared - HRE_GUARD && a < shared + m->launch.shared + HRE_GUARD;
}

static void check_aligned(const hre_thread &thread, const char *name, const void *p, int bytes, hre_where where)
{
    const unsigned rest = (unsigned)(reinterpret_cast<uintptr_t>(p) % (unsigned)bytes);
    if (rest != 0)
        hre_fail(thread, where, "%s: the address is not aligned to %d bytes but %u above", name, bytes, rest);
}

/* Bytes at p, near shared memory, are in it and no copy owes them. */
static void check_inside(hre_machine *m, const hre_thread &thread, const char *name, const void *p, int bytes, hre_where where)
{
    const ptrdiff_t offset = static_cast<const unsigned char *>(p) - m->shared;
    if (offset < 0 || offset + bytes > (ptrdiff_t)m->launch.shared)
        hre_fail(thread, where, "%s: bytes %td to %td, of shared memory of %zu bytes", name, offset, offset + bytes - 1, m->launch.shared);
    const int owed = m->owed[(size_t)offset / 16];
    if (owed >= 0)
        hre_fail(thread, where, "%s: byte %td of shared memory belongs to a copy that thread %d has not waited for", name, offset, owed);
}

void hre_check_shared16(hre_machine *m, const hre_thread &thread, const char *name, const void *p, hre_where where)
{
    if (!near_shared(m, p))
        hre_fail(thread, where, "%s: the address is not in shared memory", name);
    check_aligned(thread, name, p, 16, where);
    check_inside(m, thread, name, p, 16, where);
}

static void note_access(hre_machine *m, const void *p, hre_where where)
{
    if (m->launch.count_conflicts)
        m->running->accesses.push_back({where, (uint32_t)(static_cast<const unsigned char *>(p) - m->shared)});
}

void hre_check_access(const char *name, const void *p, int bytes, hre_where where)
{
    hre_machine *m = hre_current;
    check_aligned(*m->running, name, p, bytes, where);
    if (!near_shared(m, p))
        return;
    check_inside(m, *m->running, name, p, bytes, where);
    if (bytes == 16)
        note_access(m, p, where);
}

void hre_check_global(const char *name, const void *p, hre_where where)
{
    if (near_shared(hre_current, p))
        hre_fail(*hre_current->running, where, "%s: not for shared memory", name);
}

void hre_copy(const char *name, void *shared, const void *global, int bytes, hre_where where)
{
    hre_machine *m = hre_current;
    hre_thread *thread = m->running;
    hre_check_shared16(m, *thread, name, shared, where);
    check_aligned(*thread, name, global, 16, where);
    if (near_shared(m, global))
        hre_fail(*thread, where, "%s: the source is in shared memory", name);
    if (bytes < 0 || bytes > 16)
        hre_fail(*thread, where, "%s: %d bytes of 16", name, bytes);
    hre_pending copy = {static_cast<unsigned char *>(shared), {}, thread->groups};
    if (bytes > 0)
        memcpy(copy.bytes, global, (size_t)bytes);
    thread->pending.push_back(copy);
    m->owed[(size_t)(copy.to - m->shared) / 16] = thread->index;
    memset(copy.to, HRE_FILL, 16);
    note_access(m, shared, where);
}

void hre_commit()
{
    hre_current->running->groups++;
}

void hre_wait(int groups)
{
    hre_machine *m = hre_current;
    hre_thread *thread = m->running;
    size_t left = 0;
    for (const hre_pending &copy : thread->pending) {
        if (copy.group >= thread->groups - groups) {
            thread->pending[left++] = copy;
            continue;
        }
        memcpy(copy.to, copy.bytes, 16);
        m->owed[(size_t)(copy.to - m->shared) / 16] = -1;
    }
    thread->pending.resize(left);
}

/* How often shared memory is asked for n <= 8 aligned pieces of 16 bytes: they fall on 8 groups of 4 banks, each of which gives
 * one piece at a time, to all that want it. */
static int passes(const uint32_t *offset, int n)
{
    int most = 0;
    for (uint32_t bank = 0; bank < 8; bank++) {
        int pieces = 0;
        for (int i = 0; i < n; i++) {
            const bool known = std::find(offset, offset + i, offset[i]) != offset + i;
            pieces += offset[i] / 16 % 8 == bank && !known;
        }
        most = std::max(most, pieces);
    }
    return most;
}

void hre_count_matrix(hre_machine *m, const unsigned char *const *rows)
{
    if (!m->launch.count_conflicts)
        return;
    uint32_t offset[8];
    for (int i = 0; i < 8; i++)
        offset[i] = (uint32_t)(rows[i] - m->shared);
    m->counts.ldmatrix_phases++;
    m->counts.ldmatrix_conflicts += passes(offset, 8) - 1;
}

/* The k-th accesses of eight lanes: those of one line of the text are a phase. */
static void count_phase(hre_machine *m, hre_thread *lane, size_t k)
{
    bool done[8] = {};
    for (int i = 0; i < 8; i++) {
        uint32_t offset[8];
        int n = 0;
        for (int j = i; j < 8; j++) {
            if (done[j] || k >= lane[j].accesses.size())
                continue;
            if (n > 0 && lane[j].accesses[k].where.line != lane[i].accesses[k].where.line)
                continue;
            if (n == 0 && j > i)
                break; /* lane i has been counted, or has no such access */
            offset[n++] = lane[j].accesses[k].offset;
            done[j] = true;
        }
        if (n > 0) {
            m->counts.access_phases++;
            m->counts.access_conflicts += passes(offset, n) - 1;
        }
    }
}

void hre_count_accesses(hre_machine *m, int warp)
{
    if (!m->launch.count_conflicts)
        return;
    for (int first = 0; first < HRE_LANES; first += 8) {
        hre_thread *lane = &m->threads[(size_t)(warp * HRE_LANES + first)];
        size_t most = 0;
        for (int i = 0; i < 8; i++)
            most = std::max(most, lane[i].accesses.size());
        for (size_t k = 0; k < most; k++)
            count_phase(m, lane, k);
        for (int i = 0; i < 8; i++)
            lane[i].accesses.clear();
    }
}
