//! Which of two copies of the code runs.

/// Which code runs.
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
