//! Loops that are compiled a second time for wider registers, and chosen when they run.

/// Runs `work`, compiled for AVX2 and FMA where the processor has them. Results are the same either way: the compiler
/// reorders no floating-point operation, and `mul_add` rounds once everywhere. Without an instruction for it, `mul_add`
/// is a slow call.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(in crate::transform) fn wide<T>(work: impl FnOnce() -> T) -> T {
    #[target_feature(enable = "avx2,fma")]
    fn avx2<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    if crate::cpu::has_avx2_and_fma() {
        #[expect(unsafe_code, reason = "vector code where the processor has it")]
        // SAFETY: the processor has both, as was just found.
        unsafe {
            avx2(work)
        }
    } else {
        work()
    }
}

/// Runs `work`.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(in crate::transform) fn wide<T>(work: impl FnOnce() -> T) -> T {
    work()
}
