//! What the processor can do beyond what this program was compiled for, asked here and nowhere else.
//!
//! Every kernel in vector code has a plain twin that gives the same bits. So the choice between them changes how long a
//! kernel takes, and nothing else. The standard library asks the processor once and remembers the answer; a call here
//! costs a load and a branch.

/// Whether the processor has AVX2.
#[inline]
#[must_use]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Whether the processor has AVX2, and BMI1 and BMI2, which decoders of variable-length codes use.
#[inline]
#[must_use]
pub(crate) fn has_avx2_and_bmi() -> bool {
    has_avx2() && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2")
}

/// Whether the processor has AVX2, and fused multiply-add.
#[inline]
#[must_use]
pub(crate) fn has_avx2_and_fma() -> bool {
    has_avx2() && is_x86_feature_detected!("fma")
}
