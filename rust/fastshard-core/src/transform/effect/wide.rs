//! Loops compiled a second time for wider registers, chosen when they run.

/// Runs `work`, compiled for AVX2 where the processor has that. Results are the same: nothing is fused or reordered.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn wide<T>(work: impl FnOnce() -> T) -> T {
    #[target_feature(enable = "avx2")]
    fn avx2<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the loops are two to three times faster")]
        // SAFETY: the processor has AVX2, as was just found.
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
pub(super) fn wide<T>(work: impl FnOnce() -> T) -> T {
    work()
}
