/* What every cmocka test needs, in the order cmocka wants it. */
#ifndef HR_TESTS_CHECK_H
#define HR_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/ctx.h"

/* A context for tests: `threads` workers, kernel level `isa` ("auto", "ref", ...). */
static inline hr_ctx *check_ctx(int threads, const char *isa)
{
    hr_ctx_options o = hr_ctx_options_default();
    o.threads = threads;
    o.isa = isa;
    hr_ctx *ctx = NULL;
    assert_int_equal(hr_ctx_create(&o, &ctx), HR_OK);
    return ctx;
}

/* Destroys a context that must have nothing left. */
static inline void check_ctx_empty(hr_ctx *ctx)
{
    hr_mem_report m;
    hr_ctx_memory(ctx, &m);
    assert_int_equal(m.now_total, 0);
    hr_ctx_destroy(ctx);
}

#define check_ok(ctx, call)                                                                                            \
    do {                                                                                                               \
        hr_status check_status = (call);                                                                               \
        if (check_status != HR_OK)                                                                                     \
            fail_msg("%s: %s: %s", #call, hr_status_name(check_status), hr_ctx_message(ctx));                          \
    } while (0)

#endif
