#include "dataset/arrays.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* ---- sparse rows ---- */

static hr_status begin_array(hr_ctx *ctx, const char *folder, const char *prefix, const char *name,
                             hr_npy_type type, hr_npy_writer *out)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, path, "%s/%s.%s.npy", folder, prefix, name));
    return hr_npy_begin(ctx, path, type, 1, 1, out);
}

hr_status hr_csr_begin(hr_ctx *ctx, const char *folder, const char *prefix, bool values, hr_csr_writer *out)
{
    *out = (hr_csr_writer){.has_values = values};
    int64_t zero = 0;
    hr_status st = begin_array(ctx, folder, prefix, "indptr", HR_NPY_I64, &out->indptr);
    if (st == HR_OK)
        st = begin_array(ctx, folder, prefix, "indices", HR_NPY_U32, &out->indices);
    if (st == HR_OK && values)
        st = begin_array(ctx, folder, prefix, "values", HR_NPY_F32, &out->values);
    if (st == HR_OK)
        st = hr_npy_write(&out->indptr, &zero, 1);
    if (st != HR_OK)
        hr_csr_end(out);
    return st;
}

hr_status hr_csr_add(hr_csr_writer *writer, const uint32_t *indices, const float *values, int64_t count)
{
    HR_TRY(hr_npy_write(&writer->indices, indices, count));
    if (writer->has_values)
        HR_TRY(hr_npy_write(&writer->values, values, count));
    writer->nnz += count;
    writer->rows++;
    return hr_npy_write(&writer->indptr, &writer->nnz, 1);
}

static hr_status both(hr_status first, hr_status second)
{
    return first == HR_OK ? second : first;
}

hr_status hr_csr_end(hr_csr_writer *writer)
{
    hr_status st = hr_npy_end(&writer->indptr);
    st = both(st, hr_npy_end(&writer->indices));
    return both(st, hr_npy_end(&writer->values));
}

/* ---- strings ---- */

hr_status hr_strings_begin(hr_ctx *ctx, const char *folder, const char *prefix, hr_strings_writer *out)
{
    *out = (hr_strings_writer){0};
    hr_status st = begin_array(ctx, folder, prefix, "bytes", HR_NPY_U8, &out->bytes);
    if (st == HR_OK)
        st = begin_array(ctx, folder, prefix, "offsets", HR_NPY_U64, &out->offsets);
    if (st == HR_OK)
        st = hr_npy_write(&out->offsets, &out->used, 1);
    if (st != HR_OK)
        hr_strings_end(out);
    return st;
}

hr_status hr_strings_add(hr_strings_writer *writer, const char *text, size_t length)
{
    HR_TRY(hr_npy_write(&writer->bytes, text, (int64_t)length));
    writer->used += length;
    return hr_npy_write(&writer->offsets, &writer->used, 1);
}

hr_status hr_strings_end(hr_strings_writer *writer)
{
    hr_status st = hr_npy_end(&writer->bytes);
    return both(st, hr_npy_end(&writer->offsets));
}

/* ---- fingerprint ---- */

static hr_status hash_file(hr_ctx *ctx, const char *folder, const char *name, XXH3_state_t *state)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, path, "%s/%s", folder, name));
    if (!hr_path_exists(path))
        return HR_OK;
    hr_map map;
    HR_TRY(hr_map_open(ctx, path, &map));
    XXH3_128bits_update(state, name, strlen(name) + 1);
    XXH3_128bits_update(state, map.data, map.size);
    hr_map_close(&map);
    return HR_OK;
}

hr_status hr_fingerprint(hr_ctx *ctx, const char *folder, const char *const *files, char out[33])
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return hr_fail(ctx, HR_ERR_NOMEM, "%s: no memory for the fingerprint", folder);
    XXH3_128bits_reset(state);
    hr_status st = HR_OK;
    for (size_t i = 0; files[i] && st == HR_OK; i++)
        st = hash_file(ctx, folder, files[i], state);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    XXH3_freeState(state);
    return st;
}
