//! From resampled pixels to the batch: gray, element type, scale, normalisation and layout in one pass.
//!
//! # Idea
//!
//! All of these but gray act on one value at a time. So the whole chain is a table: one entry for each value of each
//! channel, computed once, with the same single-precision steps that torchvision takes on every value.
//!
//! | input | output | what runs |
//! |---|---|---|
//! | 8 bits | `float32`, at most one normalisation, as many channels | the steps, in vector code: see `linear` |
//! | any | the input's own dtype | no change of values |
//! | 8 bits | anything else | a table of 256 entries a channel |
//! | 16 bits | anything else | a table of 65,536 entries a channel |
//!
//! Gray joins channels, and therefore comes first, into a scratch buffer. The layout only decides where a value is
//! written.
//!
//! # Why it is exact
//!
//! A table holds what the steps give for every possible value, and `linear` runs the steps. A test compares both to the
//! bit.
//!
//! # Cost
//!
//! One look-up, or three operations, for each value of the output. The tables of a field are shared by all threads.

use bytemuck::Pod;
use half::{bf16, f16};

use super::Operation;
use super::effect::{Erase, Painted, luma, wide};
use super::layout::Layout;
use super::linear::{Linear, convert};
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat, Scratch};
use crate::schema::Dtype;

/// The value operations of a field, ready to run.
#[derive(Debug)]
pub struct Finish {
    input: PixelFormat,
    gray: bool,
    channels: usize,
    dtype: Dtype,
    layout: Layout,
    table: Table,
    /// The same as arithmetic, where that is quicker than a table: from 8 bits to floats.
    linear: Option<Vec<Linear>>,
}

/// What becomes of each value of each channel: all entries of a channel, then those of the next.
#[derive(Debug)]
enum Table {
    Same,
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    Halves(Vec<f16>),
    Brains(Vec<bf16>),
    Floats(Vec<f32>),
}

/// The steps of one channel: a scale, then normalisations by (mean, deviation).
#[derive(Clone, Debug, Default)]
struct Chain {
    scale: Option<f32>,
    normalize: Vec<(f32, f32)>,
}

impl Chain {
    /// The chain as one scale and one normalisation, if it is no longer than that.
    fn linear(&self) -> Option<Linear> {
        let (mean, std) = match self.normalize[..] {
            [] => (0.0, 1.0),
            [only] => only,
            _ => return None,
        };
        let scale = self.scale.unwrap_or(1.0);
        Some(Linear { scale, mean, std })
    }

    fn apply(&self, value: f32) -> f32 {
        let value = self.scale.map_or(value, |scale| value * scale);
        self.normalize
            .iter()
            .fold(value, |value, (mean, std)| (value - mean) / std)
    }
}

fn misplaced(what: &str, why: &str) -> Error {
    Error::option(format!("{what} {why}"))
}

impl Finish {
    /// Compiles the value operations of a list; the others are passed over.
    pub fn new(operations: &[Operation], input: PixelFormat, layout: Layout) -> Result<Self> {
        let stored = if input.depth == Depth::Eight {
            Dtype::Uint8
        } else {
            Dtype::Uint16
        };
        let (mut gray, mut channels, mut dtype) = (false, input.channels, stored);
        let mut chains = vec![Chain::default(); 3];
        for operation in operations {
            match operation {
                Operation::Grayscale {
                    num_output_channels,
                } => {
                    if dtype != stored {
                        return Err(misplaced("Grayscale", "must come before ToDtype"));
                    }
                    gray |= input.channels == 3;
                    channels = *num_output_channels;
                }
                Operation::ToDtype {
                    dtype: wanted,
                    scale,
                } => {
                    if dtype != stored {
                        return Err(misplaced("ToDtype", "may appear once"));
                    }
                    let factor = scale.then(|| scale_factor(stored, *wanted)).flatten();
                    for chain in &mut chains {
                        chain.scale = factor;
                    }
                    dtype = *wanted;
                }
                Operation::Normalize { mean, std } => {
                    if !matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16) {
                        // Means and deviations are given for values from 0 to 1, so integers are scaled to that range.
                        let factor = scale_factor(stored, Dtype::Float32);
                        for chain in &mut chains {
                            chain.scale = factor;
                        }
                        dtype = Dtype::Float32;
                    }
                    if mean.len() != 1 && mean.len() != channels {
                        let reason = format!("has {} means for {channels} channels", mean.len());
                        return Err(misplaced("Normalize", &reason));
                    }
                    for (channel, chain) in chains.iter_mut().enumerate() {
                        let at = if mean.len() == 1 { 0 } else { channel };
                        chain.normalize.push((mean[at], std[at]));
                    }
                }
                _ => {}
            }
        }
        chains.truncate(channels);
        let floats = input.depth == Depth::Eight && dtype == Dtype::Float32;
        let linear = floats.then(|| chains.iter().map(Chain::linear).collect());
        let table = Table::new(&chains, input.depth, dtype);
        Ok(Self {
            input,
            gray,
            channels,
            dtype,
            layout,
            table,
            linear: linear.flatten(),
        })
    }

    /// Channels of the output.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Element type of the output.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Shape of a sample of this size.
    #[must_use]
    pub fn shape(&self, [height, width]: [u32; 2]) -> Vec<usize> {
        let (height, width) = (height as usize, width as usize);
        match self.layout {
            Layout::Nhwc => vec![height, width, self.channels],
            Layout::Nchw => vec![self.channels, height, width],
        }
    }

    /// Whether `run` would copy the pixels unchanged, so that they may be written to their place at once.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        let placed = self.layout == Layout::Nhwc || self.channels == 1;
        placed
            && !self.gray
            && self.channels == self.input.channels
            && matches!(self.table, Table::Same)
    }

    /// Writes `pixels`, which have the input format, to `out` in the output's channels, dtype and layout.
    pub fn run(&self, pixels: &[u8], scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        let count = pixels.len() / self.input.bytes();
        let (pixels, channels) = if self.gray {
            let gray = scratch.bytes(count * self.input.depth.bytes())?;
            match self.input.depth {
                Depth::Eight => grayscale(pixels, gray),
                Depth::Sixteen => {
                    grayscale::<u16>(bytemuck::cast_slice(pixels), bytemuck::cast_slice_mut(gray));
                }
            }
            (&*gray, 1)
        } else {
            (pixels, self.input.channels)
        };
        if let Some(linear) = self.linear.as_ref().filter(|all| all.len() == channels) {
            convert(linear, self.layout, pixels, bytemuck::cast_slice_mut(out));
            return Ok(());
        }
        match self.input.depth {
            Depth::Eight => self.place(pixels, channels, out),
            Depth::Sixteen => self.place::<u16>(bytemuck::cast_slice(pixels), channels, out),
        }
        Ok(())
    }

    /// Paints a rectangle over in the output of `run`, an image of `width` pixels a row.
    pub fn erase(&self, erase: &Erase, out: &mut [u8], width: u32) {
        match self.dtype {
            Dtype::Uint8 => self.paint(erase, out, width),
            Dtype::Uint16 => self.paint::<u16>(erase, bytemuck::cast_slice_mut(out), width),
            Dtype::Float16 => self.paint::<f16>(erase, bytemuck::cast_slice_mut(out), width),
            Dtype::Bfloat16 => self.paint::<bf16>(erase, bytemuck::cast_slice_mut(out), width),
            _ => self.paint::<f32>(erase, bytemuck::cast_slice_mut(out), width),
        }
    }

    fn paint<T: Copy + Painted>(&self, erase: &Erase, out: &mut [T], width: u32) {
        let (width, channels) = (width as usize, self.channels);
        let plane = out.len() / channels;
        erase.paint(out, channels, |x, y, channel| match self.layout {
            Layout::Nhwc => (y * width + x) * channels + channel,
            Layout::Nchw => channel * plane + y * width + x,
        });
    }

    fn place<S: Pod + Into<usize>>(&self, pixels: &[S], from: usize, out: &mut [u8]) {
        let size = if self.input.depth == Depth::Eight {
            256
        } else {
            65536
        };
        match &self.table {
            Table::Same => self.write(pixels, from, bytemuck::cast_slice_mut(out), |_, value| {
                value
            }),
            Table::Bytes(table) => {
                self.write(pixels, from, out, |c, v: S| table[c * size + v.into()]);
            }
            Table::Words(table) => {
                self.write(pixels, from, bytemuck::cast_slice_mut(out), |c, v: S| {
                    table[c * size + v.into()]
                });
            }
            Table::Halves(table) => {
                self.write(pixels, from, bytemuck::cast_slice_mut(out), |c, v: S| {
                    table[c * size + v.into()]
                });
            }
            Table::Brains(table) => {
                self.write(pixels, from, bytemuck::cast_slice_mut(out), |c, v: S| {
                    table[c * size + v.into()]
                });
            }
            Table::Floats(table) => {
                self.write(pixels, from, bytemuck::cast_slice_mut(out), |c, v: S| {
                    table[c * size + v.into()]
                });
            }
        }
    }

    fn write<S: Copy, T>(
        &self,
        pixels: &[S],
        from: usize,
        out: &mut [T],
        value: impl Fn(usize, S) -> T,
    ) {
        let channels = self.channels;
        let source = |channel: usize| if from == 1 { 0 } else { channel };
        match self.layout {
            Layout::Nchw => {
                let count = pixels.len() / from;
                for (channel, plane) in out.chunks_exact_mut(count).enumerate() {
                    for (out, pixel) in plane.iter_mut().zip(pixels.chunks_exact(from)) {
                        *out = value(channel, pixel[source(channel)]);
                    }
                }
            }
            Layout::Nhwc => {
                for (out, pixel) in out
                    .chunks_exact_mut(channels)
                    .zip(pixels.chunks_exact(from))
                {
                    for (channel, out) in out.iter_mut().enumerate() {
                        *out = value(channel, pixel[source(channel)]);
                    }
                }
            }
        }
    }
}

fn scale_factor(from: Dtype, to: Dtype) -> Option<f32> {
    let max = if from == Dtype::Uint8 { 255.0 } else { 65535.0 };
    match to {
        Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16 => Some((1.0 / max) as f32),
        Dtype::Uint16 if from == Dtype::Uint8 => Some(257.0),
        Dtype::Uint8 if from == Dtype::Uint16 => Some(1.0 / 256.0),
        _ => None,
    }
}

impl Table {
    fn new(chains: &[Chain], depth: Depth, dtype: Dtype) -> Self {
        let stored = if depth == Depth::Eight {
            Dtype::Uint8
        } else {
            Dtype::Uint16
        };
        if dtype == stored {
            return Self::Same;
        }
        let last = if depth == Depth::Eight {
            u16::from(u8::MAX)
        } else {
            u16::MAX
        };
        let values = chains
            .iter()
            .flat_map(|chain| (0..=last).map(|value| chain.apply(f32::from(value))));
        match dtype {
            Dtype::Uint8 => Self::Bytes(values.map(|value| value as u8).collect()),
            Dtype::Uint16 => Self::Words(values.map(|value| value as u16).collect()),
            Dtype::Float16 => Self::Halves(values.map(f16::from_f32).collect()),
            Dtype::Bfloat16 => Self::Brains(values.map(bf16::from_f32).collect()),
            _ => Self::Floats(values.collect()),
        }
    }
}

fn grayscale<T: Pod + Into<f64> + FromFloat>(pixels: &[T], out: &mut [T]) {
    wide(|| {
        for (pixel, out) in pixels.as_chunks::<3>().0.iter().zip(out) {
            *out = T::from_float(luma(pixel.map(|value| value.into() as f32)));
        }
    });
}

trait FromFloat {
    fn from_float(value: f32) -> Self;
}

impl FromFloat for u8 {
    fn from_float(value: f32) -> Self {
        value as Self
    }
}

impl FromFloat for u16 {
    fn from_float(value: f32) -> Self {
        value as Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RGB: PixelFormat = PixelFormat {
        channels: 3,
        depth: Depth::Eight,
    };

    fn finish(json: &str, input: PixelFormat, layout: Layout) -> Result<Finish> {
        let operations: Vec<Operation> = serde_json::from_str(json).unwrap();
        Finish::new(&operations, input, layout)
    }

    #[test]
    fn normalises_channel_by_channel() {
        let json = r#"[{"op":"to_dtype","dtype":"float32","scale":true},{"op":"normalize","mean":[0.5,0.25,0],"std":[0.5,1,2]}]"#;
        for (layout, order) in [
            (Layout::Nhwc, [0, 1, 2, 3, 4, 5]),
            (Layout::Nchw, [0, 2, 4, 1, 3, 5]),
        ] {
            let finish = finish(json, RGB, layout).unwrap();
            let mut out = [0f32; 6];
            finish
                .run(
                    &[255, 0, 255, 0, 255, 51],
                    &mut Scratch::default(),
                    bytemuck::cast_slice_mut(&mut out),
                )
                .unwrap();
            let expected = [1.0, -0.25, 0.5, -1.0, 0.75, 0.1];
            for (at, value) in expected.iter().enumerate() {
                assert!((out[order[at]] - value).abs() < 1e-6, "{layout:?}: {out:?}");
            }
            assert_eq!(
                (finish.dtype(), finish.channels(), finish.is_identity()),
                (Dtype::Float32, 3, false)
            );
        }
    }

    #[test]
    fn arithmetic_and_tables_agree() {
        let json = r#"[{"op":"normalize","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}]"#;
        // Every value in every channel, and a number of pixels that fills no vector.
        let pixels: Vec<u8> = (0..1031 * 3u32).map(|at| (at * 7 / 3) as u8).collect();
        for layout in [Layout::Nhwc, Layout::Nchw] {
            let quick = finish(json, RGB, layout).unwrap();
            let mut table = finish(json, RGB, layout).unwrap();
            assert!(table.linear.take().is_some());
            let run = |finish: &Finish| {
                let mut out = vec![0f32; pixels.len()];
                let bytes = bytemuck::cast_slice_mut(&mut out);
                finish.run(&pixels, &mut Scratch::default(), bytes).unwrap();
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(run(&quick), run(&table));
        }
    }

    #[test]
    fn gray_and_depth() {
        let gray = finish(
            r#"[{"op":"grayscale","num_output_channels":3}]"#,
            RGB,
            Layout::Nhwc,
        )
        .unwrap();
        let mut out = [0; 3];
        gray.run(&[255, 255, 255], &mut Scratch::default(), &mut out)
            .unwrap();
        assert_eq!(out, [254; 3]);
        let wide = finish(
            r#"[{"op":"to_dtype","dtype":"uint16","scale":true}]"#,
            RGB,
            Layout::Nhwc,
        )
        .unwrap();
        let mut out = [0u16; 3];
        wide.run(
            &[0, 1, 255],
            &mut Scratch::default(),
            bytemuck::cast_slice_mut(&mut out),
        )
        .unwrap();
        assert_eq!(out, [0, 257, 65535]);
        assert!(finish("[]", RGB, Layout::Nhwc).unwrap().is_identity());
        assert!(!finish("[]", RGB, Layout::Nchw).unwrap().is_identity());
    }

    #[test]
    fn refuses_misplaced_operations() {
        for json in [
            r#"[{"op":"to_dtype","dtype":"float32","scale":true},{"op":"grayscale","num_output_channels":1}]"#,
            r#"[{"op":"grayscale","num_output_channels":1},{"op":"to_dtype","dtype":"float32","scale":true},{"op":"normalize","mean":[0,0,0],"std":[1,1,1]}]"#,
        ] {
            assert!(finish(json, RGB, Layout::Nhwc).is_err(), "{json}");
        }
    }
}
