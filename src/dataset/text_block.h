/* A block of texts on its way to become feature rows: gathered one by one, turned into features in parallel,
 * written in order. */
#ifndef HR_DATASET_TEXT_BLOCK_H
#define HR_DATASET_TEXT_BLOCK_H

#include "dataset/arrays.h"
#include "tokenizer/text_features.h"

typedef struct hr_text_block hr_text_block;

/* Borrows the model until destroyed. */
hr_status hr_text_block_create(hr_ctx *ctx, const hr_text_model *model, hr_text_block **out);
void hr_text_block_destroy(hr_text_block *block);
hr_status hr_text_block_add(hr_text_block *block, const char *text, size_t length);
bool hr_text_block_is_full(const hr_text_block *block);
/* Writes the features of all gathered texts and empties the block. */
hr_status hr_text_block_flush(hr_text_block *block, hr_csr_writer *writer);

#endif
