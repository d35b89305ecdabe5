/* What the emulator tells the address sanitizer; nothing where there is none. */
#ifndef HRE_SANITIZER_H
#define HRE_SANITIZER_H

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

enum { HRE_ASAN = 1 };
inline void hre_asan_poison(const void *p, size_t bytes)
{
    __asan_poison_memory_region(p, bytes);
}
inline void hre_asan_unpoison(const void *p, size_t bytes)
{
    __asan_unpoison_memory_region(p, bytes);
}
inline void hre_asan_start_switch(void **frames, const void *stack, size_t bytes)
{
    __sanitizer_start_switch_fiber(frames, stack, bytes);
}
inline void hre_asan_finish_switch(void *frames, const void **old_stack, size_t *old_bytes)
{
    __sanitizer_finish_switch_fiber(frames, old_stack, old_bytes);
}

#else

enum { HRE_ASAN = 0 };
inline void hre_asan_poison(const void *, size_t)
{
}
inline void hre_asan_unpoison(const void *, size_t)
{
}
inline void hre_asan_start_switch(void **, const void *, size_t)
{
}
inline void hre_asan_finish_switch(void *, const void **, size_t *)
{
}

#endif

#endif
