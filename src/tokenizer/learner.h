/* What the learner hands to the writer of a vocabulary. */
#ifndef HR_TOKENIZER_LEARNER_H
#define HR_TOKENIZER_LEARNER_H

#include "tokenizer/terms.h"

/* Terms that a learner keeps count of at least, unless four times the vocabulary is more; about 45 bytes
 * each. */
#define HR_LEARNER_TERMS ((size_t)4 << 20)

typedef struct hr_term_entry {
    uint64_t hash;
    uint32_t df;    /* texts that had it */
    uint32_t text;  /* 1 + the last of them */
    uint32_t where; /* its bytes, in the shard */
    uint16_t length;
    uint8_t kind;
} hr_term_entry;

/* The terms whose hash begins with this shard's bits; slots hold 1 + an index of entries, 0 is empty. */
typedef struct hr_term_shard {
    hr_term_entry *entries;
    uint32_t *slots;
    char *bytes;
    size_t count, capacity, slot_count, bytes_used, bytes_capacity;
} hr_term_shard;

typedef struct hr_vocabulary_source {
    hr_ctx *ctx;
    const hr_text_options *options;
    uint32_t texts;
    const hr_term_shard *shards;
    int num_shards;
    const uint32_t *bin_df; /* (hash_bins), or NULL */
} hr_vocabulary_source;

/* Chooses the vocabulary and writes the model's files. */
hr_status hr_vocabulary_write(const hr_vocabulary_source *from, const char *folder);

/* The slot table of text.slots.npy: a power of two of 64-bit slots, the upper half of a term's hash above,
 * 1 + its id below; 0 is empty. The lower bits of the hash say where the search begins; it goes upwards. */
static inline bool hr_slot_matches(uint64_t slot, uint64_t hash)
{
    return (slot ^ hash) >> 32 == 0;
}

#endif
