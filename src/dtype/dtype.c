/* Names of formats, and the slow path that handles one number of any of them. */
#include "dtype/dtype.h"

#include <stdio.h>

static const struct {
    const char *name;
    hr_dtype dtype;
} named[] = {
    {"f32", {HR_F32, 8, 23, 4}},  {"bf16", {HR_BF16, 8, 7, 2}}, {"f16", {HR_F16, 5, 10, 2}},
    {"e4m3", {HR_E4M3, 4, 3, 1}}, {"e5m2", {HR_E5M2, 5, 2, 1}}, {"i8r", {HR_I8R, 0, 7, 1}},
};

bool hr_dtype_parse(const char *name, hr_dtype *out)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (strcmp(name, named[i].name) == 0) {
            *out = named[i].dtype;
            return true;
        }
    if (strlen(name) != 4 || name[0] != 'e' || name[2] != 'm')
        return false;
    int x = name[1] - '0', y = name[3] - '0';
    if (x < 2 || y < 1 || x + y > 7)
        return false;
    *out = (hr_dtype){HR_EXMY, x, y, 1};
    return true;
}

const char *hr_dtype_name(hr_dtype dtype, char name[8])
{
    if (dtype.id == HR_EXMY)
        snprintf(name, 8, "e%dm%d", dtype.exp_bits & 7, dtype.man_bits & 7);
    else
        snprintf(name, 8, "%s", named[dtype.id].name);
    return name;
}

hr_grid hr_dtype_grid(hr_dtype dtype)
{
    switch (dtype.id) {
    case HR_BF16: return HR_GRID_BF16;
    case HR_F16: return HR_GRID_F16;
    case HR_E4M3: return HR_GRID_E4M3;
    case HR_E5M2: return HR_GRID_E5M2;
    default: return hr_grid_exmy(dtype.exp_bits, dtype.man_bits);
    }
}

float hr_dtype_round(hr_dtype dtype, hr_rounding rounding, float v, uint16_t draw)
{
    if (dtype.id == HR_F32)
        return v + 0.0f;
    hr_grid g = hr_dtype_grid(dtype);
    switch (rounding) {
    case HR_ROUND_STOCHASTIC: return hr_round_sr(v, draw, g);
    case HR_ROUND_ELMO: return hr_round_elmo(v, draw, g);
    default: return hr_round_nearest(v, g);
    }
}

float hr_dtype_load(hr_dtype dtype, const void *codes, int64_t i, float scale)
{
    switch (dtype.id) {
    case HR_F32: return ((const float *)codes)[i];
    case HR_BF16: return hr_bf16_decode(((const uint16_t *)codes)[i]);
    case HR_F16: return hr_f16_decode(((const uint16_t *)codes)[i]);
    case HR_E4M3: return hr_e4m3_decode(((const uint8_t *)codes)[i]);
    case HR_E5M2: return hr_e5m2_decode(((const uint8_t *)codes)[i]);
    case HR_I8R: return (float)((const int8_t *)codes)[i] * scale;
    default: return hr_exmy_decode(((const uint8_t *)codes)[i], dtype.exp_bits, dtype.man_bits);
    }
}

void hr_dtype_store(hr_dtype dtype, void *codes, int64_t i, float v, float scale)
{
    switch (dtype.id) {
    case HR_F32: ((float *)codes)[i] = v; break;
    case HR_BF16: ((uint16_t *)codes)[i] = hr_bf16_encode(v); break;
    case HR_F16: ((uint16_t *)codes)[i] = hr_f16_encode(v); break;
    case HR_E4M3: ((uint8_t *)codes)[i] = hr_e4m3_encode(v); break;
    case HR_E5M2: ((uint8_t *)codes)[i] = hr_e5m2_encode(v); break;
    case HR_I8R: ((int8_t *)codes)[i] = hr_i8r_round_nearest(v, 1.0f / scale); break;
    default: ((uint8_t *)codes)[i] = hr_exmy_encode(v, dtype.exp_bits, dtype.man_bits); break;
    }
}
