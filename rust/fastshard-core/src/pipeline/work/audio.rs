//! Carrying out the plan of an audio field: from stored bytes to a waveform or a spectrogram.

use std::collections::HashMap;
use std::time::Instant;

use crate::codec::{AudioFile, AudioHeader, Waves};
use crate::dataset::{Dataset, Place, not_as_planned};
use crate::error::{Error, Result};
use crate::format::Column;
use crate::imaging::Times;
use crate::memory;
use crate::pipeline::plan::AudioPlan;
use crate::pipeline::spec::AudioSpec;
use crate::random::Key;
use crate::schema::Kind;
use crate::sound::{Kernel, ResampleSpec, Spectra};

/// Most sample rates for which a thread keeps filters.
const MAX_KERNELS: usize = 16;

/// One thread's tools for one field.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct AudioWorker {
    waves: Waves,
    kernels: HashMap<u32, Kernel>,
    wave: Vec<f32>,
    spectra: Spectra,
    times: Times,
}

impl AudioWorker {
    /// The times spent since the last call.
    pub(super) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Produces one sample. `out` is asked for memory once its shape is known.
    pub(in crate::pipeline) fn run<'a>(
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

/// The filters from a rate, made at first use.
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

/// Opens a row's file, which must have the rate, channels and length that the dataset says.
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
    /// Sample rate, in frames per second.
    pub sample_rate: u32,
}

/// Decodes one sample of a dataset; `None` if the field holds no audio. For looking at samples, not for training.
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

/// How many values an array of this shape has.
pub(super) fn values_of(shape: &[usize]) -> usize {
    shape
        .iter()
        .fold(1, |count, &size| count.saturating_mul(size))
}
