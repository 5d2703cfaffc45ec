//! An audio field: the windows and shapes of its samples. `work/audio` carries the plan out.
//!
//! What a window leaves out is neither decoded nor resampled: the window is drawn first, and each step tells which part of
//! the one before it needs. The result is that of doing everything and cutting.

use std::ops::Range;

use super::lists::Sequence;
use crate::codec::AudioHeader;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::format::AudioRanges;
use crate::pipeline::spec::{AudioSpec, Position, Span, WindowSpec};
use crate::random::{Draws, Key};
use crate::schema::{Dtype, Field, Kind};
use crate::sound::{Kernel, LogMel};

/// The longest window: far more than any sample holds.
const MAX_WINDOW: u64 = 1 << 32;

/// The options of an audio field, checked against the field.
#[derive(Debug)]
pub(in crate::pipeline) struct AudioPlan {
    pub(in crate::pipeline) name: String,
    pub(in crate::pipeline) index: usize,
    pub(in crate::pipeline) spec: AudioSpec,
    window: Option<(u64, Cut)>,
    pub(in crate::pipeline) log_mel: Option<LogMel>,
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
    pub(in crate::pipeline) fn new(
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
    pub(in crate::pipeline) fn output_shape(
        &self,
        channels: Option<usize>,
        frames: usize,
    ) -> Result<Vec<usize>> {
        let mut shape: Vec<usize> = channels.into_iter().collect();
        match &self.log_mel {
            Some(log_mel) => shape.extend(log_mel.shape(frames)?),
            None => shape.push(frames),
        }
        Ok(shape)
    }

    pub(in crate::pipeline) fn sequence(&self) -> Option<&Sequence> {
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
    pub(in crate::pipeline) fn wanted(&self, frames: u64, key: Key) -> (i64, u64) {
        match self.window {
            Some((length, cut)) => (cut.start(length, frames, key), length),
            None => (0, frames),
        }
    }

    /// Refuses what would take too much memory.
    pub(in crate::pipeline) fn check(
        &self,
        range: &Range<u64>,
        header: &AudioHeader,
    ) -> Result<()> {
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
