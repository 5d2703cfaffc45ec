//! One audio field: from stored bytes to a waveform or a spectrogram in the batch.
//!
//! What a window leaves out is neither decoded nor resampled: the window is drawn first, and each step tells which part of
//! the one before it needs. The result is that of doing everything and cutting.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::sequence::{ListSpec, Sequence};
use super::worker::values_of;
use crate::codec::{AudioFile, AudioHeader, AudioLimits, Waves};
use crate::dataset::{Dataset, Place, not_as_planned};
use crate::error::{Error, Result};
use crate::format::{AudioRanges, Column};
use crate::imaging::Times;
use crate::memory;
use crate::random::{Draws, Key};
use crate::schema::{Dtype, Field, Kind};
use crate::sound::{Kernel, LogMel, LogMelSpec, ResampleSpec, Spectra};

/// Filters for so many pairs of rates are kept.
const MAX_KERNELS: usize = 16;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the units")]
pub enum Span {
    Frames(u64),
    Seconds(f64),
}

impl Span {
    /// In frames, where that can be said.
    fn frames(self, sample_rate: Option<u32>) -> Option<u64> {
        match self {
            Self::Frames(frames) => Some(frames),
            Self::Seconds(seconds) => {
                sample_rate.map(|rate| (seconds * f64::from(rate)).round() as u64)
            }
        }
    }
}

/// Where a window lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// This far behind the start.
    Start(Span),
    /// In the middle.
    Center,
    /// Anywhere.
    Random,
}

/// Which part of a signal is wanted; what it lacks is silence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WindowSpec {
    pub length: Span,
    pub position: Position,
    /// Its place in the user's list, which keys the draw.
    pub place: usize,
}

/// What becomes of an audio field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioSpec {
    /// What is refused.
    pub limits: AudioLimits,
    /// Whether channels become their mean.
    pub mono: bool,
    /// To another rate.
    pub resample: Option<ResampleSpec>,
    /// A part, in frames of that rate.
    pub window: Option<WindowSpec>,
    /// As a spectrogram.
    pub log_mel: Option<LogMelSpec>,
    /// How waveforms of different lengths are put together.
    pub list: Option<ListSpec>,
}

/// The longest window: far more than any sample holds.
const MAX_WINDOW: u64 = 1 << 32;

/// The same, checked against its field.
#[derive(Debug)]
pub(super) struct AudioPlan {
    name: String,
    index: usize,
    spec: AudioSpec,
    window: Option<(u64, Cut)>,
    log_mel: Option<LogMel>,
    /// Shape of every sample, where that is known.
    shape: Option<Vec<usize>>,
    /// What puts samples of different lengths together.
    sequence: Option<Sequence>,
}

/// A window's position, in frames.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Start(u64),
    Center,
    Random(usize),
}

impl Cut {
    /// Where a window of a length starts in so many frames.
    fn start(self, length: u64, frames: u64, key: Key) -> i64 {
        match self {
            Self::Start(start) => start as i64,
            Self::Center => (frames as i64 - length as i64) / 2,
            Self::Random(place) => {
                let places = frames.saturating_sub(length) + 1;
                let drawn = Draws::new(key, place).unit() * places as f64;
                (drawn as u64).min(places - 1) as i64
            }
        }
    }
}

impl AudioPlan {
    /// The plan for a field that holds audio. `keep`: idle slots that stay.
    pub(super) fn new(
        dataset: &Dataset,
        field: &Field,
        spec: &AudioSpec,
        keep: usize,
    ) -> Result<Self> {
        let bad = |what: String| Error::option(format!("field {:?}: {what}", field.name));
        if field.kind != Kind::Audio {
            return Err(bad("it holds no audio".into()));
        }
        let ranges = dataset
            .manifest()
            .ranges
            .audio_ranges
            .get(&field.name)
            .copied();
        let own_rate = ranges.and_then(AudioRanges::sample_rate);
        let rate = spec
            .resample
            .as_ref()
            .map_or(own_rate, |to| Some(to.sample_rate));
        if let Some(resample) = &spec.resample {
            resample.check()?;
        }
        let window = spec
            .window
            .map(|window| place(&window, rate).map_err(|what| bad(what.into())))
            .transpose()?;
        let log_mel = match (&spec.log_mel, rate) {
            (Some(log_mel), Some(rate)) => Some(LogMel::new(log_mel, rate)?),
            (Some(_), None) => return Err(bad(format!("LogMel {NEEDS_RATE}"))),
            (None, _) => None,
        };
        let mut plan = Self {
            name: field.name.clone(),
            index: dataset.field(&field.name)?,
            spec: spec.clone(),
            window,
            log_mel,
            shape: None,
            sequence: None,
        };
        if spec.list.is_none() {
            plan.shape = plan.fixed_shape(ranges)?;
        } else if spec.window.is_some() {
            let what = "a window has one length already: nothing to truncate or to fill up";
            return Err(bad(what.into()));
        }
        if plan.shape.is_none() && spec.mono && plan.log_mel.is_none() {
            let list = spec.list.clone().unwrap_or_default();
            plan.sequence = Some(Sequence::of(
                &field.name,
                (Dtype::Float32, &[]),
                list,
                keep,
            )?);
        }
        Ok(plan)
    }

    /// The shape that all samples share, where they do.
    fn fixed_shape(&self, ranges: Option<AudioRanges>) -> Result<Option<Vec<usize>>> {
        let whole = || {
            let ranges = ranges?;
            let (rate, frames) = (ranges.sample_rate()?, ranges.frames()?);
            match &self.spec.resample {
                Some(to) => Some(Kernel::new(rate, to).ok()?.frames(frames)),
                None => Some(frames),
            }
        };
        let Some(length) = self.window.map(|(length, _)| length).or_else(whole) else {
            return Ok(None);
        };
        let own_channels = ranges.and_then(AudioRanges::channels);
        if !self.spec.mono && own_channels.is_none() {
            return Ok(None);
        }
        let channels = (!self.spec.mono).then_some(own_channels).flatten();
        self.output_shape(channels.map(usize::from), length as usize)
            .map(Some)
    }

    /// The shape of a sample of so many channels (none: a mean of them) and frames.
    fn output_shape(&self, channels: Option<usize>, frames: usize) -> Result<Vec<usize>> {
        let mut shape: Vec<usize> = channels.into_iter().collect();
        match &self.log_mel {
            Some(log_mel) => shape.extend(log_mel.shape(frames)?),
            None => shape.push(frames),
        }
        Ok(shape)
    }

    pub(super) fn sequence(&self) -> Option<&Sequence> {
        self.sequence.as_ref()
    }

    /// The shape of all samples; nothing where they are put together as lists.
    pub(super) fn shape(&self) -> Result<Option<Vec<usize>>> {
        match (&self.shape, &self.sequence) {
            (Some(shape), _) => Ok(Some(shape.clone())),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(Error::option(format!(
                "field {:?} holds audio of different lengths or numbers of channels, which can't be put in one batch: \
                 add Mono(), and RandomWindow, CenterWindow or Window; without a window, waveforms of one channel come \
                 one after the other, or filled up with PadSequence",
                self.name
            ))),
        }
    }

    /// What is wanted of so many frames: where it starts, and its length.
    fn wanted(&self, frames: u64, key: Key) -> (i64, u64) {
        match self.window {
            Some((length, cut)) => (cut.start(length, frames, key), length),
            None => (0, frames),
        }
    }

    /// Refuses what would take too much memory.
    fn check(&self, range: &Range<u64>, header: &AudioHeader) -> Result<()> {
        let most = self.spec.limits.max_samples;
        let channels = if self.spec.mono {
            1
        } else {
            u64::from(header.channels)
        };
        let samples = (range.end - range.start).saturating_mul(channels);
        if samples > most {
            return Err(Error::decode(format!(
                "{samples} samples to decode: expected at most {most} (max_samples)"
            )));
        }
        Ok(())
    }
}

const NEEDS_RATE: &str =
    "needs one sample rate, and the files have several: add Resample before it";

fn place(window: &WindowSpec, rate: Option<u32>) -> Result<(u64, Cut), &'static str> {
    let in_range = |frames: u64| (frames <= MAX_WINDOW).then_some(frames);
    let frames = |span: Span| {
        let frames = span.frames(rate);
        frames.ok_or(
            "a window in seconds needs one sample rate, and the files have several: add Resample",
        )
    };
    let cut = match window.position {
        Position::Start(start) => Cut::Start(
            in_range(frames(start)?).ok_or("a window that starts beyond 4,294,967,296 frames")?,
        ),
        Position::Center => Cut::Center,
        Position::Random => Cut::Random(window.place),
    };
    let length = in_range(frames(window.length)?).filter(|&length| length > 0);
    Ok((
        length.ok_or("a window of no frames, or of more than 4,294,967,296")?,
        cut,
    ))
}

/// One thread's tools for one field.
#[derive(Debug, Default)]
pub(super) struct AudioWorker {
    waves: Waves,
    kernels: HashMap<u32, Kernel>,
    wave: Vec<f32>,
    spectra: Spectra,
    times: Times,
}

impl AudioWorker {
    /// Where the time went since the last call.
    pub(super) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Produces one sample. `out` is asked for memory once its shape is known.
    pub(super) fn run<'a>(
        &mut self,
        plan: &AudioPlan,
        place: &Place<'_>,
        key: Key,
        out: impl FnOnce(&[usize]) -> Result<&'a mut [f32]>,
    ) -> Result<()> {
        let started = Instant::now();
        let (mut file, header) = open(plan, place)?;
        let resample = plan.spec.resample.as_ref();
        let resample = resample.filter(|to| to.sample_rate != header.sample_rate);
        let kernel = match resample {
            Some(to) => Some(kernel(&mut self.kernels, header.sample_rate, to)?),
            None => None,
        };
        let frames = kernel.map_or(header.frames, |kernel| kernel.frames(header.frames));
        let (start, length) = plan.wanted(frames, key);
        let end = start
            .saturating_add_unsigned(length)
            .clamp(0, frames as i64) as u64;
        let there = (start.clamp(0, frames as i64) as u64).min(end)..end;
        let needed = kernel.map_or_else(
            || there.clone(),
            |kernel| kernel.needed(&there, header.frames),
        );
        plan.check(&needed, &header)?;
        plan.check(&(0..length), &header)?;
        file.read(needed.clone(), plan.spec.mono, &mut self.waves)?;
        let decoded = Instant::now();
        self.times.decode += decoded - started;
        let channels = self.waves.channels();
        let shape = plan.output_shape((!plan.spec.mono).then_some(channels), length as usize)?;
        let out = out(&shape)?;
        let silence = (there.start as i64 - start).clamp(0, length as i64) as usize;
        for (channel, out) in out
            .chunks_exact_mut(out.len().max(1) / channels)
            .enumerate()
        {
            let wave = match plan.log_mel {
                Some(_) => {
                    memory::resize(&mut self.wave, length as usize, 0.0)?;
                    &mut self.wave[..]
                }
                None => &mut *out,
            };
            let count = (there.end - there.start) as usize;
            wave[..silence].fill(0.0);
            wave[silence + count..].fill(0.0);
            let (source, wave_out) = (self.waves.channel(channel), &mut wave[silence..][..count]);
            match kernel {
                Some(kernel) => kernel.run(source, needed.start, there.clone(), wave_out),
                None => wave_out.copy_from_slice(source),
            }
            if let Some(log_mel) = &plan.log_mel {
                log_mel.run(&self.wave, &mut self.spectra, out);
            }
        }
        self.times.resample += decoded.elapsed();
        Ok(())
    }
}

/// The filters from a rate, made when first asked for.
fn kernel<'a>(
    kernels: &'a mut HashMap<u32, Kernel>,
    from: u32,
    to: &ResampleSpec,
) -> Result<&'a Kernel> {
    if !kernels.contains_key(&from) {
        if kernels.len() >= MAX_KERNELS {
            kernels.clear();
        }
        kernels.insert(from, Kernel::new(from, to)?);
    }
    Ok(&kernels[&from])
}

/// A row's file, which must be what the dataset says of it.
fn open<'a>(plan: &AudioPlan, place: &Place<'a>) -> Result<(AudioFile<'a>, AudioHeader)> {
    let Column::Audio {
        bytes,
        sample_rate,
        channels,
        frames,
        ..
    } = place.block.column(plan.index)
    else {
        return Err(not_as_planned(&plan.name));
    };
    let stored = (
        sample_rate.value(place.row),
        channels.value(place.row),
        frames.value(place.row),
    );
    let file = AudioFile::open(bytes.value(place.row), Some(stored.2), &plan.spec.limits)?;
    let header = *file.header();
    let found = (header.sample_rate, header.channels, header.frames);
    if found != stored {
        return Err(Error::decode(format!(
            "sample rate, channels and frames are {found:?}, but the dataset says {stored:?}"
        )));
    }
    Ok((file, header))
}

/// One decoded sample of a dataset: `[channels, frames]`.
#[derive(Debug)]
pub struct Sound {
    /// The samples, `float32`, channel after channel.
    pub bytes: Vec<u8>,
    /// Channels and frames.
    pub shape: Vec<usize>,
    /// Frames a second.
    pub sample_rate: u32,
}

/// Decodes one sample of a dataset; nothing if the field holds something else. For looking, not for training.
pub fn read_audio(dataset: &Dataset, row: u64, field: &str) -> Result<Option<Sound>> {
    let place = dataset.locate(row)?;
    let field = &dataset.fields()[dataset.field(field)?];
    if field.kind != Kind::Audio {
        return Ok(None);
    }
    dataset.check(&place)?;
    let plan = AudioPlan::new(dataset, field, &AudioSpec::default(), 0)?;
    let blame = |error| dataset.blame(row, &place, error);
    let (_, header) = open(&plan, &place).map_err(blame)?;
    let (mut samples, mut shape) = (Vec::new(), Vec::new());
    let (grown, found) = (&mut samples, &mut shape);
    let key = Key {
        seed: 0,
        epoch: 0,
        row,
        field: 0,
    };
    AudioWorker::default()
        .run(&plan, &place, key, |shape| {
            *found = shape.to_vec();
            *grown = memory::zeros(values_of(shape))?;
            Ok(&mut grown[..])
        })
        .map_err(blame)?;
    Ok(Some(Sound {
        bytes: memory::copied(bytemuck::cast_slice(&samples))?,
        shape,
        sample_rate: header.sample_rate,
    }))
}
