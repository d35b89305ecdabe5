/* HR_INLINE: functions in headers that the device runs too. The same text, and so the same bits, on both (docs/numerics.md): compiled for a
 * device without contraction to fused multiply-adds (-fmad=false), as for the processor (-ffp-contract=off). */
#ifndef HR_BASE_INLINE_H
#define HR_BASE_INLINE_H

#ifdef __CUDACC__
#define HR_INLINE static __host__ __device__ __forceinline__
#else
#define HR_INLINE static inline
#endif

#endif
