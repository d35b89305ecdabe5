/* Heads with fan-in for the tests: their forms, their weights at the columns they read, and the exact step in double. */
#ifndef HR_TESTS_HEAD_FAN_FIXTURE_H
#define HR_TESTS_HEAD_FAN_FIXTURE_H

#include "tests/head/fixture.h"

typedef struct form {
    const char *name;
    int64_t fan_in, group; /* group 0: unstructured, so many connections in the mean */
} form;

static const form forms[] = {{"own 1", 1, 1}, {"own 13", 13, 1}, {"own all", 70, 1}, {"shared 16", 16, 16}, {"shared 64", 33, 64},
                             {"shared 32, all", 70, 32}, {"unstructured", 7, 0}};
enum { FORMS = sizeof forms / sizeof *forms };

static inline hr_head_options fan_options(const problem *p, const char *dtype, hr_rounding rounding, form f)
{
    hr_head_options o = options_for(p, dtype, rounding);
    o.segment[0].family = f.group == 0 ? HR_FAMILY_UNSTRUCTURED : HR_FAMILY_FAN_IN;
    o.segment[0].connections = f.group == 0 ? f.fan_in * p->L : 0;
    o.segment[0].fan_in = f.fan_in;
    o.segment[0].group = f.group;
    return o;
}

static inline const hr_tensor *tensor_of(hr_head *head, hr_tensor_list *list, const char *name)
{
    *list = (hr_tensor_list){0};
    hr_head_tensors(head, list);
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->item[i].name, name) == 0)
            return &list->item[i];
    return NULL;
}

/* The real weights of all labels at the columns they read, (L, D); zero elsewhere. */
static inline double *all_weights(hr_head *head)
{
    const hr_head_options *o = hr_head_get_options(head);
    double *w = calloc((size_t)(o->labels * o->dim), sizeof *w);
    int64_t first = 0;
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        hr_tensor_list list;
        char name[HR_TENSOR_NAME_MAX];
        snprintf(name, sizeof name, "head.%d.codes", i);
        const hr_tensor codes = *tensor_of(head, &list, name);
        snprintf(name, sizeof name, "head.%d.scales", i);
        const hr_tensor *scales = tensor_of(head, &list, name);
        const float *scale = scales ? scales->data : NULL;
        snprintf(name, sizeof name, "head.%d.inputs", i);
        const hr_tensor *inputs = tensor_of(head, &list, name);
        const uint16_t *input = inputs ? inputs->data : NULL;
        snprintf(name, sizeof name, "head.%d.starts", i);
        const hr_tensor *starts = tensor_of(head, &list, name);
        const uint32_t *start = starts ? starts->data : NULL;
        const int64_t columns = s->columns > 0 ? s->columns : o->dim - s->first_column, fixed = input ? s->fan_in : columns;
        for (int64_t l = 0; l < s->rows; l++)
            for (int64_t k = 0, width = start ? (int64_t)start[l + 1] - start[l] : fixed; k < width; k++) {
                const int64_t place = start ? start[l] : l * codes.cols;
                const uint8_t *row = (const uint8_t *)codes.data + (size_t)place * s->dtype.bytes;
                const int64_t column = start ? input[start[l] + k] : input ? input[l / (s->group > 1 ? s->group : 1) * width + k] : k;
                w[(first + l) * o->dim + s->first_column + column] =
                    (double)hr_head_alpha(head, i) * hr_dtype_load(s->dtype, row, k, scale ? scale[l] : 1) * ldexp(1, -s->scale_log2);
            }
        first += s->rows;
    }
    return w;
}

/* The gradient G (L, B) and dX (B, D) of the exact step in double. */
static inline void plain(const hr_head_options *o, const problem *p, const double *w, double *g, double *dx)
{
    memset(dx, 0, (size_t)(p->B * p->D) * sizeof *dx);
    for (int64_t l = 0, i = 0; l < p->L; l++)
        for (int64_t b = 0; b < p->B; b++) {
            double z = o->bias_value;
            for (int64_t d = 0; d < p->D; d++)
                z += w[l * p->D + d] * p->x[b * p->D + d];
            const bool y = i < p->npos && p->pos[i] == ((uint64_t)l << 32 | (uint64_t)b);
            i += y;
            const double m = fmax(0, 1 - (y ? 1 : -1) * z);
            const double v = g[l * p->B + b] = o->loss == HR_LOSS_BCE ? 1 / (1 + exp(-z)) - y : -2 * (y ? 1 : -1) * m;
            for (int64_t d = 0; d < p->D; d++)
                dx[b * p->D + d] += v * w[l * p->D + d];
        }
}

#endif
