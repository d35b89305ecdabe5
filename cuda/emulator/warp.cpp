/* What the lanes of a warp do together: each leaves its operands and stops; when all are there, the scheduler computes for all. */
#include "cuda/emulator/machine.h"

#include <math.h>
#include <string.h>

/* The running thread waits in `call`. */
static void wait_in(hre_call *call)
{
    hre_thread *thread = hre_current->running;
    thread->call = call;
    thread->state = HRE_WAITS;
    hre_stop();
}

static hre_call new_call(const char *name, hre_op op, hre_where where)
{
    hre_call call = {};
    call.name = name;
    call.op = op;
    call.where = where;
    return call;
}

void hre_meet_block(const char *name, hre_where where)
{
    hre_call call = new_call(name, HRE_BARRIER, where);
    wait_in(&call);
}

void hre_meet_warp(const char *name, hre_where where)
{
    hre_call call = new_call(name, HRE_WARP_BARRIER, where);
    wait_in(&call);
}

uint32_t hre_shuffle(const char *name, uint32_t value, int source, hre_where where)
{
    hre_call call = new_call(name, HRE_SHUFFLE, where);
    call.value = value;
    call.source = source;
    wait_in(&call);
    return call.result;
}

uint32_t hre_ballot(const char *name, bool p, hre_where where)
{
    hre_call call = new_call(name, HRE_BALLOT, where);
    call.value = p;
    wait_in(&call);
    return call.result;
}

void hre_ldmatrix(const char *name, int count, bool trans, uint32_t *r, const void *row, hre_where where)
{
    hre_call call = new_call(name, HRE_LDMATRIX, where);
    call.count = count;
    call.trans = trans;
    call.out = r;
    call.row = static_cast<const unsigned char *>(row);
    wait_in(&call);
}

void hre_mma(const char *name, hre_mma_type type, float *d, const uint32_t *a, const uint32_t *b, hre_where where)
{
    hre_call call = new_call(name, HRE_MMA, where);
    call.type = type;
    call.d = d;
    call.a = a;
    call.b = b;
    wait_in(&call);
}

static void finish_shuffle(hre_call *const *lane)
{
    for (int i = 0; i < HRE_LANES; i++)
        lane[i]->result = lane[lane[i]->source]->value;
}

static void finish_ballot(hre_call *const *lane)
{
    uint32_t bits = 0;
    for (int i = 0; i < HRE_LANES; i++)
        bits |= lane[i]->value << i;
    for (int i = 0; i < HRE_LANES; i++)
        lane[i]->result = bits;
}

static void finish_ldmatrix(hre_machine *m, int warp, hre_call *const *lane)
{
    uint32_t out[HRE_LANES][4] = {};
    const int count = lane[0]->count;
    for (int matrix = 0; matrix < count; matrix++) {
        const unsigned char *row[8];
        for (int r = 0; r < 8; r++) {
            const int from = hrc_ldmatrix_lane(matrix, r);
            row[r] = lane[from]->row;
            hre_check_shared16(m, m->threads[(size_t)(warp * HRE_LANES + from)], lane[from]->name, row[r], lane[from]->where);
        }
        hre_count_matrix(m, row);
        for (int i = 0; i < HRE_LANES; i++)
            for (int e = 0; e < 2; e++) {
                const hrc_place at = lane[i]->trans ? hrc_ldmatrix_trans(i, e) : hrc_ldmatrix(i, e);
                uint16_t element;
                memcpy(&element, row[at.row] + 2 * at.col, 2);
                out[i][matrix] |= (uint32_t)element << 16 * e;
            }
    }
    /* a register may be both address and destination: all are read before one is written */
    for (int i = 0; i < HRE_LANES; i++)
        memcpy(lane[i]->out, out[i], (size_t)count * 4);
}

/* Element i of a fragment whose elements have `bits` bits. */
static float fragment_value(const uint32_t *r, int i, hre_mma_type type)
{
    if (type == HRE_MMA_E4M3)
        return hre_e4m3_value((uint8_t)(r[i / 4] >> i % 4 * 8 & 0xff));
    const uint16_t code = (uint16_t)(r[i / 2] >> i % 2 * 16 & 0xffff);
    return type == HRE_MMA_F16 ? hre_f16_value(code) : hre_bf16_value(code);
}

static void finish_mma(hre_machine *m, hre_call *const *lane)
{
    const hre_mma_type type = lane[0]->type;
    const bool bytes = type == HRE_MMA_E4M3;
    const int depth = bytes ? 32 : 16;
    float a[16][32], b[32][8];
    for (int i = 0; i < HRE_LANES; i++) {
        for (int e = 0; e < (bytes ? 16 : 8); e++) {
            const hrc_place at = bytes ? hrc_mma_a8(i, e) : hrc_mma_a16(i, e);
            a[at.row][at.col] = fragment_value(lane[i]->a, e, type);
        }
        for (int e = 0; e < (bytes ? 8 : 4); e++) {
            const hrc_place at = bytes ? hrc_mma_b8(i, e) : hrc_mma_b16(i, e);
            b[at.row][at.col] = fragment_value(lane[i]->b, e, type);
        }
    }
    for (int i = 0; i < HRE_LANES; i++)
        for (int e = 0; e < 4; e++) {
            const hrc_place at = hrc_mma_c(i, e);
            float sum = lane[i]->d[e];
            for (int k = 0; k < depth; k++)
                sum = fmaf(a[at.row][k], b[k][at.col], sum); /* the product is exact in it */
            lane[i]->d[e] = sum;
        }
    m->counts.mma++;
}

bool hre_together(const hre_call &a, const hre_call &b)
{
    return a.where.line == b.where.line && strcmp(a.where.file, b.where.file) == 0 && strcmp(a.name, b.name) == 0;
}

/* All lanes of a warp are together, or the launch fails. */
static void check_together(hre_machine *m, int warp, hre_call *const *lane)
{
    const hre_thread *threads = &m->threads[(size_t)(warp * HRE_LANES)];
    for (int i = 1; i < HRE_LANES; i++) {
        if (!hre_together(*lane[i], *lane[0]))
            hre_fail(threads[0], lane[0]->where, "%s by lanes that are not together: %s", lane[0]->name, hre_describe(threads[i]).c_str());
    }
}

bool hre_finish_warp(hre_machine *m, int warp)
{
    hre_thread *threads = &m->threads[(size_t)(warp * HRE_LANES)];
    const hre_thread *in = NULL, *out = NULL; /* of a primitive of the warp */
    hre_call *lane[HRE_LANES];
    for (int i = 0; i < HRE_LANES; i++) {
        const bool waits = threads[i].state == HRE_WAITS && threads[i].call->op != HRE_BARRIER;
        lane[i] = threads[i].call;
        const hre_thread *&which = waits ? in : out;
        which = which ? which : &threads[i];
    }
    if (!in)
        return false;
    if (out)
        hre_fail(*in, in->call->where, "%s without all lanes of the warp: %s", in->call->name, hre_describe(*out).c_str());
    check_together(m, warp, lane);
    switch (lane[0]->op) {
    case HRE_SHUFFLE: finish_shuffle(lane); break;
    case HRE_BALLOT: finish_ballot(lane); break;
    case HRE_LDMATRIX: finish_ldmatrix(m, warp, lane); break;
    case HRE_MMA: finish_mma(m, lane); break;
    case HRE_WARP_BARRIER:
    case HRE_BARRIER: break;
    }
    for (int i = 0; i < HRE_LANES; i++)
        threads[i].state = HRE_READY;
    return true;
}
