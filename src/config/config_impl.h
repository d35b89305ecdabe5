/* What config.c and yaml.c share: the inside of a configuration. No other file includes this. */
#ifndef HR_CONFIG_CONFIG_IMPL_H
#define HR_CONFIG_CONFIG_IMPL_H

#include "base/file.h"
#include "config/config.h"
#include "config/schema.h"

/* "configs/long/path.yaml:12" */
#define HR_ORIGIN_MAX (HR_PATH_MAX + 16)

typedef struct hr_config_slot {
    char *value, *origin; /* both owned; NULL: the default */
} hr_config_slot;

struct hr_config {
    hr_ctx *ctx;
    hr_config_slot *slot; /* (HR_KEYS) */
};

/* Puts a judged value into slot i; the old one is released. */
hr_status hr_config_store(hr_ctx *ctx, hr_config_slot *slot, const char *value, const char *origin);
void hr_config_release(hr_ctx *ctx, hr_config_slot *slots);

/* Reads `path` and what it includes into `slots`, a table of its own. */
hr_status hr_config_read_yaml(hr_ctx *ctx, const char *path, hr_config_slot *slots);

#endif
