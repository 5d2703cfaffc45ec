//! What happens to waveforms between their codec and a batch: resampling, spectrograms.
//!
//! Both work on one channel at a time and know nothing of files; a range of the result needs a range of the input, which
//! they tell.

mod mel;
mod resample;

pub(crate) use mel::Spectra;
pub use mel::{LogMel, LogMelSpec, Logarithm, MelNorm, MelScale};
pub use resample::{Kernel, ResampleSpec};
