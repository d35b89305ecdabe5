/* Work on partials of dX that waits, so that it is done one panel of columns after the other over many tiles: then x, dX and the
 * partials it is summed with, a panel of each, stay in the cache. */
#include "head/segment.h"

hr_deferred *hr_defer(hr_tile_scratch *scratch, const hrk_table *k, const hr_packed *x, hr_deferred_kind kind, float *to,
                      float *from)
{
    hr_backlog *b = &scratch->backlog;
    if (b->count == HR_BACKLOG_ITEMS)
        hr_backlog_flush(scratch, k, x);
    hr_deferred *d = &b->item[b->count++];
    *d = (hr_deferred){.kind = kind, .to = to, .from = from};
    return d;
}

void hr_backlog_flush(hr_tile_scratch *scratch, const hrk_table *k, const hr_packed *x)
{
    hr_backlog *b = &scratch->backlog;
    const int64_t size = x->rows * HRK_DP, panels = b->count ? x->dim_padded / HRK_DP : 0;
    for (int i = 0; i < b->count; i++)
        if (b->item[i].kind == HR_DEFER_LISTS)
            b->item[i].seg->family->prepare(&b->item[i], scratch);
    for (int64_t panel = 0; panel < panels; panel++) {
        for (int i = 0; i < b->count; i++) {
            const hr_deferred *d = &b->item[i];
            switch (d->kind) {
            case HR_DEFER_ZERO: memset(d->to + panel * size, 0, (size_t)size * sizeof(float)); break;
            case HR_DEFER_DRAIN: k->drain(size, d->from + panel * size, d->to + panel * size); break;
            case HR_DEFER_LISTS: d->seg->family->panel(d, panel, scratch); break;
            }
        }
    }
    b->count = 0;
    b->labels = 0;
}
