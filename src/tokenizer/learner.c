/* Learning a vocabulary in bounded memory: document frequencies in hash tables, cut into shards by hash.
 *
 * Texts are gathered into blocks. A block is worked on in two parallel passes: slices of its texts are turned
 * into lists of terms, one list for each shard; then each shard takes its lists, slice by slice. Slices and
 * shards are cut by number alone, so the result is the same for any number of threads, and a shard's table is
 * small enough to stay in cache.
 *
 * A full shard drops its terms of the lowest frequency (1, then 2, ...) until half is free. So a term may be
 * counted low when it is rare at first; with room for many times the vocabulary that concerns terms which
 * would not have been kept. Two terms with the same 64-bit hash count as one. */
#include "tokenizer/learner.h"

#include <string.h>

#define SHARDS      64
#define SLICES      16
#define BLOCK_BYTES ((size_t)256 << 10)
#define BLOCK_TEXTS 2048

typedef struct item {
    uint64_t hash; /* with hash_bins: the bin */
    uint32_t where, text;
    uint16_t length;
    uint8_t kind;
} item;

typedef struct item_list {
    item *items;
    size_t count, capacity;
} item_list;

/* One slice of a block: its words end to end, and its terms by shard. */
typedef struct slice {
    hr_text_learner *learner;
    hr_status status;
    hr_words words;
    char *bytes;
    size_t used, capacity;
    uint32_t text;
    item_list lists[SHARDS];
} slice;

struct hr_text_learner {
    hr_ctx *ctx;
    hr_text_options options;
    size_t shard_limit; /* terms */
    hr_term_shard *shards;
    hr_status shard_status[SHARDS];
    uint32_t *bin_df, *bin_text; /* (hash_bins) document frequency; last text + 1 that had it */
    slice *slices;
    uint32_t texts; /* in all */
    char *block;
    size_t block_used, block_capacity;
    size_t *ends; /* (BLOCK_TEXTS) where each text of the block ends */
    int block_texts;
};

/* ---- create and destroy ---- */

void hr_text_learner_destroy(hr_text_learner *l)
{
    if (!l)
        return;
    for (int s = 0; l->shards && s < SHARDS; s++) {
        hr_free(l->ctx, l->shards[s].entries);
        hr_free(l->ctx, l->shards[s].slots);
        hr_free(l->ctx, l->shards[s].bytes);
    }
    for (int i = 0; l->slices && i < SLICES; i++) {
        for (int s = 0; s < SHARDS; s++)
            hr_free(l->ctx, l->slices[i].lists[s].items);
        hr_words_deinit(l->ctx, &l->slices[i].words);
        hr_free(l->ctx, l->slices[i].bytes);
    }
    hr_free(l->ctx, l->shards);
    hr_free(l->ctx, l->slices);
    hr_free(l->ctx, l->bin_df);
    hr_free(l->ctx, l->bin_text);
    hr_free(l->ctx, l->block);
    hr_free(l->ctx, l->ends);
    hr_free(l->ctx, l);
}

static hr_status make_parts(hr_text_learner *l)
{
    l->shards = HR_ARRAY0(l->ctx, HR_MEM_DATASET, hr_term_shard, SHARDS);
    l->slices = HR_ARRAY0(l->ctx, HR_MEM_DATASET, slice, SLICES);
    l->ends = HR_ARRAY(l->ctx, HR_MEM_DATASET, size_t, BLOCK_TEXTS);
    if (!l->shards || !l->slices || !l->ends)
        return HR_ERR_NOMEM;
    for (int i = 0; i < SLICES; i++) {
        l->slices[i].learner = l;
        HR_TRY(hr_words_init(l->ctx, l->options.max_words, &l->slices[i].words));
    }
    if (l->options.hash_bins > 0) {
        l->bin_df = HR_ARRAY0(l->ctx, HR_MEM_DATASET, uint32_t, l->options.hash_bins);
        l->bin_text = HR_ARRAY0(l->ctx, HR_MEM_DATASET, uint32_t, l->options.hash_bins);
        return l->bin_df && l->bin_text ? HR_OK : HR_ERR_NOMEM;
    }
    return HR_OK;
}

hr_status hr_text_learner_create(hr_ctx *ctx, const hr_text_options *options, hr_text_learner **out)
{
    *out = NULL;
    HR_TRY(hr_text_options_check(ctx, options));
    hr_text_learner *l = HR_NEW(ctx, HR_MEM_DATASET, hr_text_learner);
    if (!l)
        return HR_ERR_NOMEM;
    l->ctx = ctx;
    l->options = *options;
    size_t terms = (size_t)options->vocabulary * 4;
    l->shard_limit = (terms > HR_LEARNER_TERMS ? terms : HR_LEARNER_TERMS) / SHARDS;
    hr_status st = make_parts(l);
    if (st != HR_OK) {
        hr_text_learner_destroy(l);
        return st;
    }
    *out = l;
    return HR_OK;
}

/* ---- first pass: texts to lists of terms ---- */

static void *grown(hr_ctx *ctx, void *block, size_t *capacity, size_t needed, size_t element)
{
    size_t wanted = needed > 2 * *capacity ? needed : 2 * *capacity;
    void *wider = hr_realloc(ctx, HR_MEM_DATASET, block, hr_mul(wanted, element));
    if (wider)
        *capacity = wanted;
    return wider;
}

static void add_item(void *arg, unsigned kind, uint32_t where, uint32_t length)
{
    slice *sl = arg;
    const hr_text_learner *l = sl->learner;
    uint64_t hash = hr_term_hash(kind, sl->words.bytes + where, length);
    if (l->options.hash_bins > 0)
        hash %= (uint64_t)l->options.hash_bins;
    item_list *list = &sl->lists[l->options.hash_bins > 0 ? hash % SHARDS : hash >> 58];
    if (list->count == list->capacity) {
        item *wider = grown(l->ctx, list->items, &list->capacity, 64, sizeof *wider);
        if (!wider) {
            sl->status = HR_ERR_NOMEM;
            return;
        }
        list->items = wider;
    }
    list->items[list->count++] = (item){.hash = hash,
                                        .where = (uint32_t)sl->used + where,
                                        .text = sl->text,
                                        .length = (uint16_t)length,
                                        .kind = (uint8_t)kind};
}

/* Terms of one text; its words are kept behind those of the slice's other texts. */
static void add_text(slice *sl, const char *text, size_t length)
{
    const hr_text_learner *l = sl->learner;
    hr_words_split(&sl->words, text, length);
    if (sl->words.used > sl->capacity - sl->used) {
        char *wider = grown(l->ctx, sl->bytes, &sl->capacity, sl->used + sl->words.used, 1);
        if (!wider) {
            sl->status = HR_ERR_NOMEM;
            return;
        }
        sl->bytes = wider;
    }
    memcpy(sl->bytes + sl->used, sl->words.bytes, sl->words.used);
    hr_terms_each(&sl->words, &l->options, add_item, sl);
    sl->used += sl->words.used;
}

static void do_slice(void *arg, int64_t task, int worker)
{
    (void)worker;
    hr_text_learner *l = arg;
    slice *sl = &l->slices[task];
    sl->status = HR_OK;
    sl->used = 0;
    for (int s = 0; s < SHARDS; s++)
        sl->lists[s].count = 0;
    int first = (int)(task * l->block_texts / SLICES), last = (int)((task + 1) * l->block_texts / SLICES);
    for (int i = first; i < last && sl->status == HR_OK; i++) {
        size_t begin = i ? l->ends[i - 1] : 0;
        sl->text = l->texts + (uint32_t)i + 1;
        add_text(sl, l->block + begin, l->ends[i] - begin);
    }
}

/* ---- second pass: lists to tables ---- */

/* Rebuilds the slots for `capacity` entries; the load stays at most one half. */
static hr_status rebuild_slots(hr_ctx *ctx, hr_term_shard *shard, size_t capacity)
{
    size_t slots = 64;
    while (slots < 2 * capacity)
        slots *= 2;
    if (slots != shard->slot_count) {
        uint32_t *fresh = HR_ARRAY(ctx, HR_MEM_DATASET, uint32_t, slots);
        if (!fresh)
            return HR_ERR_NOMEM;
        hr_free(ctx, shard->slots);
        shard->slots = fresh;
        shard->slot_count = slots;
    }
    memset(shard->slots, 0, slots * sizeof *shard->slots);
    for (size_t i = 0; i < shard->count; i++) {
        size_t at = shard->entries[i].hash & (slots - 1);
        while (shard->slots[at])
            at = (at + 1) & (slots - 1);
        shard->slots[at] = (uint32_t)i + 1;
    }
    return HR_OK;
}

/* Drops the rarest terms until at least half of the room is free; keeps the order of the others. */
static hr_status prune(hr_ctx *ctx, hr_term_shard *shard)
{
    for (uint32_t drop = 1; shard->count > shard->capacity / 2; drop++) {
        size_t kept = 0, used = 0;
        for (size_t i = 0; i < shard->count; i++) {
            hr_term_entry e = shard->entries[i];
            if (e.df <= drop)
                continue;
            memmove(shard->bytes + used, shard->bytes + e.where, e.length);
            e.where = (uint32_t)used;
            used += e.length;
            shard->entries[kept++] = e;
        }
        shard->count = kept;
        shard->bytes_used = used;
    }
    return rebuild_slots(ctx, shard, shard->capacity);
}

/* Makes room for one more entry: a wider table up to the limit, then a pruned one. */
static hr_status make_room(hr_text_learner *l, hr_term_shard *shard)
{
    if (shard->count < shard->capacity)
        return HR_OK;
    if (shard->capacity == l->shard_limit)
        return prune(l->ctx, shard);
    size_t capacity = shard->capacity ? 2 * shard->capacity : 256;
    capacity = capacity < l->shard_limit ? capacity : l->shard_limit;
    hr_term_entry *wider =
        hr_realloc(l->ctx, HR_MEM_DATASET, shard->entries, hr_mul(capacity, sizeof *wider));
    if (!wider)
        return HR_ERR_NOMEM;
    shard->entries = wider;
    shard->capacity = capacity;
    return rebuild_slots(l->ctx, shard, capacity);
}

static hr_status add_entry(hr_text_learner *l, hr_term_shard *shard, const item *it, const char *bytes)
{
    HR_TRY(make_room(l, shard));
    if (shard->bytes_used + it->length > UINT32_MAX)
        return hr_fail(l->ctx, HR_ERR_USAGE,
                       "a vocabulary of %lld terms is too large to learn; use hash_bins",
                       (long long)l->options.vocabulary);
    if (it->length > shard->bytes_capacity - shard->bytes_used) {
        char *wider = grown(l->ctx, shard->bytes, &shard->bytes_capacity, 4096, 1);
        if (!wider)
            return HR_ERR_NOMEM;
        shard->bytes = wider;
    }
    memcpy(shard->bytes + shard->bytes_used, bytes + it->where, it->length);
    shard->entries[shard->count] = (hr_term_entry){.hash = it->hash,
                                                   .df = 1,
                                                   .text = it->text,
                                                   .where = (uint32_t)shard->bytes_used,
                                                   .length = it->length,
                                                   .kind = it->kind};
    shard->bytes_used += it->length;
    shard->count++;
    size_t at = it->hash & (shard->slot_count - 1);
    while (shard->slots[at])
        at = (at + 1) & (shard->slot_count - 1);
    shard->slots[at] = (uint32_t)shard->count;
    return HR_OK;
}

static hr_status count_item(hr_text_learner *l, hr_term_shard *shard, const item *it, const char *bytes)
{
    if (shard->slot_count) {
        size_t mask = shard->slot_count - 1;
        for (size_t at = it->hash & mask; shard->slots[at]; at = (at + 1) & mask) {
            hr_term_entry *e = &shard->entries[shard->slots[at] - 1];
            if (e->hash != it->hash)
                continue;
            e->df += e->text != it->text;
            e->text = it->text;
            return HR_OK;
        }
    }
    return add_entry(l, shard, it, bytes);
}

static void do_shard(void *arg, int64_t task, int worker)
{
    (void)worker;
    hr_text_learner *l = arg;
    hr_status st = HR_OK;
    for (int i = 0; i < SLICES; i++) {
        const slice *sl = &l->slices[i];
        const item_list *list = &sl->lists[task];
        for (size_t k = 0; k < list->count && st == HR_OK; k++) {
            const item *it = &list->items[k];
            if (l->bin_df) {
                l->bin_df[it->hash] += l->bin_text[it->hash] != it->text;
                l->bin_text[it->hash] = it->text;
            } else {
                st = count_item(l, &l->shards[task], it, sl->bytes);
            }
        }
    }
    l->shard_status[task] = st;
}

static hr_status flush(hr_text_learner *l)
{
    hr_parallel_for(l->ctx, SLICES, do_slice, l);
    for (int i = 0; i < SLICES; i++)
        HR_TRY(l->slices[i].status);
    hr_parallel_for(l->ctx, SHARDS, do_shard, l);
    for (int s = 0; s < SHARDS; s++)
        HR_TRY(l->shard_status[s]);
    l->texts += (uint32_t)l->block_texts;
    l->block_texts = 0;
    l->block_used = 0;
    return HR_OK;
}

hr_status hr_text_learner_add(hr_text_learner *l, const char *text, size_t length)
{
    if (l->texts > UINT32_MAX - BLOCK_TEXTS - 1)
        return hr_fail(l->ctx, HR_ERR_DATA, "more than 2^32 texts to learn from");
    if (length > l->block_capacity - l->block_used) {
        size_t needed = hr_add(l->block_used, length);
        char *wider =
            grown(l->ctx, l->block, &l->block_capacity, needed > BLOCK_BYTES ? needed : BLOCK_BYTES, 1);
        if (!wider)
            return HR_ERR_NOMEM;
        l->block = wider;
    }
    if (length > 0)
        memcpy(l->block + l->block_used, text, length);
    l->block_used += length;
    l->ends[l->block_texts++] = l->block_used;
    return l->block_used >= BLOCK_BYTES || l->block_texts == BLOCK_TEXTS ? flush(l) : HR_OK;
}

hr_status hr_text_learner_write(hr_text_learner *l, const char *folder)
{
    HR_TRY(flush(l));
    const hr_vocabulary_source from = {.ctx = l->ctx,
                                       .options = &l->options,
                                       .texts = l->texts,
                                       .shards = l->shards,
                                       .num_shards = SHARDS,
                                       .bin_df = l->bin_df};
    return hr_vocabulary_write(&from, folder);
}
