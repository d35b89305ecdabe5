/* The typed schema and its values (public part: headroom.h). This room knows names, types and ranges;
 * it does not know what a key does. */
#ifndef HR_CONFIG_CONFIG_H
#define HR_CONFIG_CONFIG_H

#include "base/ctx.h"

/* Values of known keys. Asking for a key that is not in the schema, or with the wrong type, is our own mistake (assert). */
int64_t hr_config_int(const hr_config *config, const char *key);
double hr_config_number(const hr_config *config, const char *key);
bool hr_config_bool(const hr_config *config, const char *key);
const char *hr_config_text(const hr_config *config, const char *key); /* also choices; "" when empty */
/* Index of a choice within the schema's list of allowed words. */
int hr_config_choice(const hr_config *config, const char *key);
hr_ctx *hr_config_ctx(const hr_config *config);
/* 64-bit hash of all keys that influence the result (not threads, paths, logging, checkpoint.every ...). */
uint64_t hr_config_hash(const hr_config *config);

#endif
