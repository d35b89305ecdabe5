/* Work on partials of dX that waits, so that it is done some panels of columns after the other over many tiles: then x, dX and the
 * partials it is summed with, a few panels of each, stay in the cache. */
#include "head/segment.h"

hr_deferred *hr_defer(hr_tile_scratch *scratch, const hrk_table *k, hr_deferred_kind kind, float *to, float *from)
{
    hr_backlog *b = &scratch->backlog;
    if (b->count == HR_BACKLOG_ITEMS)
        hr_backlog_flush(scratch, k);
    hr_deferred *d = &b->item[b->count++];
    *d = (hr_deferred){.kind = kind, .to = to, .from = from};
    return d;
}

/* Panels [first, end) of the batch for one item. */
static void run(const hr_deferred *d, const hrk_table *k, int64_t first, int64_t end, hr_tile_scratch *scratch)
{
    const int64_t size = scratch->whole->rows * HRK_DP;
    if (d->kind == HR_DEFER_ZERO) {
        memset(d->to + first * size, 0, (size_t)((end - first) * size) * sizeof(float));
    } else if (d->kind == HR_DEFER_DRAIN) {
        k->drain((end - first) * size, d->from + first * size, d->to + first * size);
    } else { /* in panels of the segment's slice */
        const int64_t begin = d->seg->first_column / HRK_DP, all = d->step.x->dim_padded / HRK_DP;
        const int64_t low = first > begin ? first - begin : 0, high = end - begin < all ? end - begin : all;
        if (low < high)
            d->seg->family->lists_panels(d, low, high, scratch);
    }
}

void hr_backlog_flush(hr_tile_scratch *scratch, const hrk_table *k)
{
    enum { STRIPS = 16 };
    hr_backlog *b = &scratch->backlog;
    const int64_t panels = b->count ? scratch->whole->dim_padded / HRK_DP : 0, strip = (panels + STRIPS - 1) / STRIPS;
    for (int i = 0; i < b->count; i++)
        if (b->item[i].kind == HR_DEFER_LISTS)
            b->item[i].seg->family->lists_begin(&b->item[i], scratch);
    for (int64_t panel = 0; panel < panels; panel += strip)
        for (int i = 0; i < b->count; i++)
            run(&b->item[i], k, panel, panel + strip < panels ? panel + strip : panels, scratch);
    for (int i = 0; i < b->count; i++)
        if (b->item[i].kind == HR_DEFER_LISTS)
            b->item[i].seg->family->lists_end(&b->item[i], scratch);
    b->count = 0;
    b->labels = 0;
}
