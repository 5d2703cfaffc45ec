//! Log-mel spectrograms: torchaudio's `MelSpectrogram`, and a logarithm.
//!
//! ```text
//! wave -> frame: n_fft samples under a Hann window -> real FFT -> magnitude or power of n_fft / 2 + 1 bins
//!      -> sums of bins under n_mels triangles -> floor and logarithm -> minus mean, over deviation
//! ```
//!
//! A triangle touches few bins, so a filter is kept as its first bin and a run of weights, and costs only those bins. A
//! full matrix would be almost all zeros. Filters and the window are computed in double precision once; everything
//! after the transform is single precision.
//!
//! Frames that reach beyond the signal are mirrored at its ends, without doubling the end samples; only `center` makes
//! such frames. Each frame is computed alone, in one thread's buffers, and costs one FFT and a product for each bin and
//! triangle that touch.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The scale on which filters are spaced evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelScale {
    /// O'Shaughnessy's formula, as in HTK.
    Htk,
    /// Linear up to 1 kHz, as in Slaney's Auditory Toolbox.
    Slaney,
}

/// How the weights of filters are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelNorm {
    /// Each filter has an area of one, over frequencies in hertz.
    Slaney,
}

/// The logarithm of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Logarithm {
    /// The natural logarithm.
    Ln,
    /// The logarithm to base 10.
    Log10,
    /// Decibels: ten times the logarithm to base 10.
    Db,
    /// No logarithm, and no floor.
    None,
}

/// Options of a spectrogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are torchaudio's")]
pub struct LogMelSpec {
    pub n_fft: usize,
    pub win_length: usize,
    pub hop_length: usize,
    pub n_mels: usize,
    pub f_min: f64,
    /// Highest frequency in hertz; by default half of the sample rate, in whole hertz.
    pub f_max: Option<f64>,
    /// 1 for magnitudes, 2 for power.
    pub power: u8,
    pub center: bool,
    pub mel_scale: MelScale,
    pub norm: Option<MelNorm>,
    pub log: Logarithm,
    /// Sums below this are raised to it before the logarithm.
    pub floor: f32,
    /// Subtracted at the end: nothing, one number, or one for each filter.
    pub mean: Vec<f32>,
    /// Divides the difference: nothing, one number, or one for each filter.
    pub std: Vec<f32>,
}

const MAX_FFT: usize = 1 << 16;

impl LogMelSpec {
    fn check(&self, sample_rate: u32) -> Result<()> {
        let nyquist = f64::from(sample_rate) / 2.0;
        let top = self.f_max.unwrap_or(nyquist);
        let per_filter = |values: &[f32]| [0, 1, self.n_mels].contains(&values.len());
        let complaint = if !(2..=MAX_FFT).contains(&self.n_fft) {
            format!("n_fft is {}, expected 2 to {MAX_FFT}", self.n_fft)
        } else if !(1..=self.n_fft).contains(&self.win_length) || self.hop_length == 0 {
            format!(
                "win_length is {}, hop_length {}: expected 1 to n_fft, and at least 1",
                self.win_length, self.hop_length
            )
        } else if !(1..=self.n_fft).contains(&self.n_mels) {
            format!("n_mels is {}, expected 1 to n_fft", self.n_mels)
        } else if !(self.f_min >= 0.0 && self.f_min < top && top <= nyquist) {
            format!(
                "f_min is {}, f_max {top}: expected 0 <= f_min < f_max <= {nyquist}, half of the sample rate",
                self.f_min
            )
        } else if !((1..=2).contains(&self.power) && self.floor > 0.0 && self.floor.is_finite()) {
            format!(
                "power is {}, floor {}: expected 1 or 2, and above 0",
                self.power, self.floor
            )
        } else if !per_filter(&self.mean) || !per_filter(&self.std) || self.std.contains(&0.0) {
            "mean and std: expected one number or one for each of n_mels, std not 0".into()
        } else {
            return Ok(());
        };
        Err(Error::option(format!("LogMel: {complaint}")))
    }
}

/// A triangle: the weights of consecutive bins, from `first` on.
#[derive(Debug)]
struct Filter {
    first: usize,
    weights: Vec<f32>,
}

/// A spectrogram, ready to be computed.
pub struct LogMel {
    spec: LogMelSpec,
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    filters: Vec<Filter>,
}

impl std::fmt::Debug for LogMel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.spec.fmt(f)
    }
}

/// One thread's buffers.
#[derive(Debug, Default)]
pub(crate) struct Spectra {
    frame: Vec<f32>,
    bins: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    energies: Vec<f32>,
}

fn to_mel(frequency: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 * (1.0 + frequency / 700.0).log10(),
        MelScale::Slaney if frequency < 1000.0 => frequency * 3.0 / 200.0,
        MelScale::Slaney => 15.0 + (frequency / 1000.0).ln() * 27.0 / 6.4_f64.ln(),
    }
}

fn to_frequency(mel: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 700.0 * (10_f64.powf(mel / 2595.0) - 1.0),
        MelScale::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
        MelScale::Slaney => 1000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp(),
    }
}

/// Triangles whose corners are evenly spaced on the mel scale; each one begins at the middle of the one before.
fn filters(spec: &LogMelSpec, sample_rate: u32) -> Vec<Filter> {
    // Whole numbers of hertz at the top, as torchaudio has it.
    let nyquist = f64::from(sample_rate / 2);
    let top = spec.f_max.unwrap_or(nyquist);
    let bins = spec.n_fft / 2 + 1;
    let [low, high] = [spec.f_min, top].map(|frequency| to_mel(frequency, spec.mel_scale));
    let corner = |at: usize| {
        let mel = low + (high - low) * at as f64 / (spec.n_mels + 1) as f64;
        to_frequency(mel, spec.mel_scale)
    };
    let filter = |at: usize| {
        let (left, middle, right) = (corner(at), corner(at + 1), corner(at + 2));
        let scale = match spec.norm {
            Some(MelNorm::Slaney) => 2.0 / (right - left),
            None => 1.0,
        };
        let weight = |bin: usize| {
            let frequency = nyquist * bin as f64 / (bins - 1) as f64;
            let (up, down) = (
                (frequency - left) / (middle - left),
                (right - frequency) / (right - middle),
            );
            up.min(down).max(0.0) * scale
        };
        let first = (0..bins).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
        let weights = (first..bins).map(weight).take_while(|&weight| weight > 0.0);
        Filter {
            first,
            weights: weights.map(|weight| weight as f32).collect(),
        }
    };
    (0..spec.n_mels).map(filter).collect()
}

impl LogMel {
    /// The spectrogram of signals of this sample rate.
    pub fn new(spec: &LogMelSpec, sample_rate: u32) -> Result<Self> {
        spec.check(sample_rate)?;
        let mut window = vec![0.0; spec.n_fft];
        let left = (spec.n_fft - spec.win_length) / 2;
        for (at, value) in window[left..][..spec.win_length].iter_mut().enumerate() {
            *value = (0.5 - 0.5 * (2.0 * PI * at as f64 / spec.win_length as f64).cos()) as f32;
        }
        Ok(Self {
            fft: RealFftPlanner::new().plan_fft_forward(spec.n_fft),
            window,
            filters: filters(spec, sample_rate),
            spec: spec.clone(),
        })
    }

    /// The shape `[n_mels, time]` of the spectrogram of so many samples.
    pub fn shape(&self, samples: usize) -> Result<[usize; 2]> {
        let (n_fft, hop) = (self.spec.n_fft, self.spec.hop_length);
        let least = if self.spec.center {
            n_fft / 2 + 1
        } else {
            n_fft
        };
        if samples < least {
            return Err(Error::decode(format!(
                "LogMel of {samples} samples, expected at least {least} with n_fft={n_fft}"
            )));
        }
        let padded = if self.spec.center {
            samples + n_fft / 2 * 2
        } else {
            samples
        };
        Ok([self.spec.n_mels, 1 + (padded - n_fft) / hop])
    }

    /// Computes `[n_mels, time]` of the shape that [`Self::shape`] gives.
    pub(crate) fn run(&self, wave: &[f32], spectra: &mut Spectra, out: &mut [f32]) {
        let spec = &self.spec;
        let times = out.len() / spec.n_mels;
        let Spectra {
            frame,
            bins,
            scratch,
            energies,
        } = spectra;
        frame.resize(spec.n_fft, 0.0);
        bins.resize(spec.n_fft / 2 + 1, Complex::default());
        scratch.resize(self.fft.get_scratch_len(), Complex::default());
        let pad = if spec.center { spec.n_fft / 2 } else { 0 };
        for time in 0..times {
            self.cut(wave, (time * spec.hop_length) as i64 - pad as i64, frame);
            self.fft
                .process_with_scratch(frame, bins, scratch)
                .expect("buffers of the sizes that the plan asks for");
            energies.clear();
            energies.extend(bins.iter().map(|bin| {
                let power = bin.norm_sqr();
                if spec.power == 1 { power.sqrt() } else { power }
            }));
            for (mel, filter) in self.filters.iter().enumerate() {
                let energies = &energies[filter.first..][..filter.weights.len()];
                let products = energies.iter().zip(&filter.weights);
                let sum: f32 = products.map(|(energy, weight)| energy * weight).sum();
                out[mel * times + time] = self.value(sum, mel);
            }
        }
    }

    /// Copies a frame of the signal, mirrored at its ends, under the window.
    fn cut(&self, wave: &[f32], start: i64, frame: &mut [f32]) {
        let inside = usize::try_from(start)
            .ok()
            .and_then(|start| wave.get(start..start + frame.len()));
        if let Some(inside) = inside {
            let products = inside.iter().zip(&self.window);
            for (out, (sample, weight)) in frame.iter_mut().zip(products) {
                *out = sample * weight;
            }
            return;
        }
        let last = wave.len() as i64 - 1;
        for ((out, weight), at) in frame.iter_mut().zip(&self.window).zip(start..) {
            let at = at.abs();
            let at = if at > last { 2 * last - at } else { at };
            *out = wave[at as usize] * weight;
        }
    }

    fn value(&self, sum: f32, mel: usize) -> f32 {
        let spec = &self.spec;
        let raised = sum.max(spec.floor);
        let value = match spec.log {
            Logarithm::Ln => raised.ln(),
            Logarithm::Log10 => raised.log10(),
            Logarithm::Db => 10.0 * raised.log10(),
            Logarithm::None => sum,
        };
        let of = |values: &[f32], other: f32| match values {
            [] => other,
            [one] => *one,
            each => each[mel],
        };
        (value - of(&spec.mean, 0.0)) / of(&spec.std, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LogMelSpec {
        serde_json::from_str(
            r#"{"n_fft":400,"win_length":400,"hop_length":160,"n_mels":40,"f_min":0,"f_max":null,"power":2,
            "center":true,"mel_scale":"htk","norm":null,"log":"none","floor":1e-10,"mean":[],"std":[]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_tone_lands_in_its_filter() {
        let mel = LogMel::new(&spec(), 16_000).unwrap();
        let wave: Vec<f32> = (0..16_000)
            .map(|at| (at as f32 * 1000.0 / 16_000.0 * std::f32::consts::TAU).sin())
            .collect();
        let [mels, times] = mel.shape(wave.len()).unwrap();
        assert_eq!([mels, times], [40, 101]);
        let mut out = vec![0.0; mels * times];
        mel.run(&wave, &mut Spectra::default(), &mut out);
        let at = |mel: usize| out[mel * times + 50];
        let loudest = (0..mels).max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap();
        let width = to_mel(8000.0, MelScale::Htk) / 41.0;
        let expected = to_mel(1000.0, MelScale::Htk) / width - 1.0;
        assert!((loudest as f64 - expected).abs() < 1.0);
    }

    #[test]
    fn scales_are_their_own_inverse() {
        for scale in [MelScale::Htk, MelScale::Slaney] {
            for frequency in [0.0, 440.0, 1000.0, 7999.0] {
                let back = to_frequency(to_mel(frequency, scale), scale);
                assert!((back - frequency).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        type Change = fn(&mut LogMelSpec);
        let changes: [Change; 7] = [
            |spec| spec.n_fft = 1,
            |spec| spec.win_length = 401,
            |spec| spec.hop_length = 0,
            |spec| spec.f_max = Some(9000.0),
            |spec| spec.floor = 0.0,
            |spec| spec.mean = vec![0.0; 3],
            |spec| spec.std = vec![0.0],
        ];
        for change in changes {
            let mut bad = spec();
            change(&mut bad);
            assert!(LogMel::new(&bad, 16_000).is_err(), "{bad:?}");
        }
        assert!(LogMel::new(&spec(), 16_000).unwrap().shape(200).is_err());
    }
}
