/* Keys that were given and do nothing, because what they belong to is switched off. */
#include "model/model.h"

/* Keys that begin with `keys` do nothing where `by` has the value `off`. */
static const struct {
    const char *keys, *by, *off;
} rules[] = {
    {"head.fan_in", "head.family", "dense"},
    {"head.grouping", "head.group", "1"},
    {"head.dense_", "head.dense_ratio", "0"},
    {"head.slice", "head.dense_ratio", "1"},
    {"head.rewire_", "head.rewire", "none"},
    {"head.prune", "head.rewire", "none"},
    {"head.prune_amount", "head.prune", "threshold"},
    {"head.prune_below", "head.prune", "fraction"},
    {"head.prune_below", "head.prune", "per_label"},
    {"head.grow_init", "head.rewire", "none"},
    {"head.momentum", "head.optimizer", "adam"},
    {"layer.", "layer.width", "0"},
    {"aux.", "aux.weight", "0"},
};

void hr_model_warn_unused(const hr_config *c)
{
    for (int i = 0; i < hr_config_count(c); i++) {
        const hr_config_item item = hr_config_entry(c, i);
        if (strcmp(item.value, item.fallback) == 0)
            continue;
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
            if (strncmp(item.key, rules[r].keys, strlen(rules[r].keys)) == 0 && strcmp(hr_config_value(c, rules[r].by), rules[r].off) == 0) {
                hr_log(hr_config_ctx(c), HR_LOG_WARNING, "%s=%s has no effect with %s=%s", item.key, item.value, rules[r].by, rules[r].off);
                break;
            }
    }
}
