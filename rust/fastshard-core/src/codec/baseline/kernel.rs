//! The choice between the plain code and its copy in AVX2, made once for a thread. Both compute the same samples.

/// The copy of the code that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Kernel {
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if crate::cpu::has_avx2_and_bmi() {
            return Self::Avx2;
        }
        Self::Plain
    }
}
