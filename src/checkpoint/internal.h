/* What the writer and the reader of checkpoints share. Private to src/checkpoint. */
#ifndef HR_CHECKPOINT_INTERNAL_H
#define HR_CHECKPOINT_INTERNAL_H

#include "checkpoint/checkpoint.h"

#define HR_CHECKPOINT_FORMAT "headroom-checkpoint"
#define HR_MANIFEST          "manifest.json"

enum { HR_CHECKPOINT_VERSION = 1, HR_CRC_BLOCK = 1 << 20, HR_CHECKPOINT_FILES_MAX = 128, HR_FILE_NAME_MAX = 64,
       HR_HEADER_ALIGN = 4096 };

/* The manifest's own checksum is its first entry: CRC-32C of the text with eight zeros in that place. */
#define HR_MANIFEST_SUM "manifest_crc32c"
/* Where the eight digits stand in the text of a manifest; NULL: nowhere. */
char *hr_manifest_sum(char *text);

/* A number of the meta: decimal, "nan", or hexadecimal as printf's "%a" writes it in the "C" locale. */
bool hr_meta_parse_number(const char *text, double *out);

/* The name of a safetensors element type, and back; -1: unknown. */
const char *hr_tensor_type_name(hr_tensor_type type);
int hr_tensor_type_parse(const char *name);

#endif
