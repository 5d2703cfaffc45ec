//! Carrying a warp out: a source pixel, or a blend of four, for each pixel of the output.
//!
//! # Idea
//!
//! A warp's matrix takes the middle of an output pixel to a place in the source. Under an affine matrix, a row of the
//! output is a straight line through the source: from pixel to pixel the place moves by the same step. So places are
//! numbers in fixed point, and the next place costs two additions.
//!
//! Before a row is drawn, [`span`] finds which of its pixels are far from borders, by exact integer divisions:
//!
//! ```text
//! row:    fill | careful | safe .......................... | careful | fill
//! ```
//!
//! - *safe*: all four neighbours are decoded, so the loop asks nothing about borders or padding;
//! - *careful*: a neighbour is missing, and the padding decides what stands for it;
//! - *fill*: with constant padding, nothing of the image shows here, or an earlier warp of the chain has cut it off.
//!
//! Perspectives, and lines too far away for fixed point, are mapped pixel by pixel, with a division each.
//!
//! # Arithmetic
//!
//! A coordinate has 32 fraction bits in 64. It is shifted by half a pixel, since neighbours are counted from the
//! middles of pixels, and by half a unit of a weight, which makes truncation to 11 bits round. The four weights of a
//! pixel are products of two such weights and add up to exactly 2^22, so flat areas stay flat.
//!
//! Pixels of a bilinear warp at a border are blended twice, as in torchvision: what is inside is blended with black,
//! and the result is blended with the fill, in proportion to the weights of what is inside.
//!
//! # Why vector code changes nothing
//!
//! `avx2` blends the same integers without a rounding in between; see there.
//!
//! # Cost
//!
//! No memory beside the output. Nearest: one pixel read for each pixel. Bilinear: four reads and four products a
//! channel.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod fixed;

use std::ops::Range;

use bytemuck::Pod;

use fixed::{BITS, ONE, WEIGHT_BITS, WEIGHT_ONE, WHOLE};

use super::matrix::Matrix;
use super::source::Source;
use super::warp::{Padding, Warp};
use super::{Interpolation, Stage};
use crate::error::{Error, Result};
use crate::pixels::{Depth, Rect};

/// Coordinates from here on are not walked in fixed point: with 32 fraction bits they still fit 64 bits.
const FAR: f64 = (1u64 << 27) as f64;

/// The element type of a pixel.
trait Channel: Pod {
    fn blend(values: [Self; 4], weights: [u32; 4]) -> Self;
    fn to_f64(self) -> f64;
    fn from_f64(value: f64) -> Self;
    fn from_u16(value: u16) -> Self;

    /// Blends the first pixels of a run with vector code, where there is any, and returns how many. Every pixel of the
    /// run has its four neighbours.
    fn blend_run<const N: usize>(
        _pixels: &[[Self; N]],
        _pitch: usize,
        _start: [i64; 2],
        _step: [i64; 2],
        _out: &mut [[Self; N]],
    ) -> usize {
        0
    }
}

impl Channel for u8 {
    #[inline]
    fn blend(values: [Self; 4], weights: [u32; 4]) -> Self {
        let [a, b, c, d] = values.map(u32::from);
        let [wa, wb, wc, wd] = weights;
        let sum = a * wa + b * wb + c * wc + d * wd;
        ((sum + WHOLE / 2) >> (2 * WEIGHT_BITS)) as Self
    }

    fn to_f64(self) -> f64 {
        self.into()
    }

    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn from_u16(value: u16) -> Self {
        value as Self
    }

    #[cfg(target_arch = "x86_64")]
    fn blend_run<const N: usize>(
        pixels: &[[Self; N]],
        pitch: usize,
        start: [i64; 2],
        step: [i64; 2],
        out: &mut [[Self; N]],
    ) -> usize {
        if N != 3 || !crate::cpu::has_avx2() {
            return 0;
        }
        let (pixels, out) = (pixels.as_flattened(), out.as_flattened_mut());
        // SAFETY: the feature was detected.
        #[expect(unsafe_code, reason = "a call to code for a detected feature")]
        unsafe {
            avx2::blend_rgb(pixels, N * pitch, start, step, out)
        }
    }
}

impl Channel for u16 {
    #[inline]
    fn blend(values: [Self; 4], weights: [u32; 4]) -> Self {
        let [a, b, c, d] = values.map(u64::from);
        let [wa, wb, wc, wd] = weights.map(u64::from);
        let sum = a * wa + b * wb + c * wc + d * wd;
        ((sum + u64::from(WHOLE / 2)) >> (2 * WEIGHT_BITS)) as Self
    }

    fn to_f64(self) -> f64 {
        self.into()
    }

    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn from_u16(value: u16) -> Self {
        value
    }
}

/// Draws the pixels `shown` of a warped stage into `out`, which has rows of the stage's view, from `left` and `top` on.
pub(super) fn draw(
    stage: &Stage,
    warp: &Warp,
    shown: Rect,
    source: Source<'_>,
    out: &mut [u8],
    [left, top]: [u32; 2],
) -> Result<()> {
    let run = match (source.format.channels, source.format.depth) {
        (1, Depth::Eight) => draw_as::<u8, 1>,
        (_, Depth::Eight) => draw_as::<u8, 3>,
        (1, Depth::Sixteen) => draw_as::<u16, 1>,
        (_, Depth::Sixteen) => draw_as::<u16, 3>,
    };
    run(stage, warp, shown, source, out, [left, top])
}

fn draw_as<C: Channel, const N: usize>(
    stage: &Stage,
    warp: &Warp,
    shown: Rect,
    source: Source<'_>,
    out: &mut [u8],
    [left, top]: [u32; 2],
) -> Result<()>
where
    [C; N]: Pod,
{
    let misaligned = |_| Error::decode("warp: pixels that are not aligned");
    let out: &mut [[C; N]] = bytemuck::try_cast_slice_mut(out).map_err(misaligned)?;
    let pixels: &[[C; N]] = bytemuck::try_cast_slice(source.pixels).map_err(misaligned)?;
    let picture = Picture::new(pixels, stage.source, source.area, warp);
    let pitch = stage.view.width as usize;
    for row in 0..shown.height {
        let start = (top + row) as usize * pitch + left as usize;
        let out = &mut out[start..][..shown.width as usize];
        picture.row(shown.x, shown.y + row, shown.width, out);
    }
    Ok(())
}

/// The source of a warp. All coordinates count from the first decoded pixel.
struct Picture<'a, C, const N: usize> {
    pixels: &'a [[C; N]],
    pitch: usize,
    /// Where the image begins and ends along x and y; parts of it may not be decoded.
    edges: [[i64; 2]; 2],
    /// Where the decoded part of the image begins and ends along x and y.
    inside: [[i64; 2]; 2],
    /// From the middle of an output pixel to `pixels`, shifted so that truncation finds the right pixel and weights.
    matrix: Matrix,
    warp: &'a Warp,
    fill: [C; N],
    smooth: bool,
}

impl<'a, C: Channel, const N: usize> Picture<'a, C, N> {
    fn new(pixels: &'a [[C; N]], source: Rect, area: Rect, warp: &'a Warp) -> Self {
        let edges = [
            (source.x, source.width, area.x),
            (source.y, source.height, area.y),
        ]
        .map(|(start, length, origin)| {
            let start = i64::from(start) - i64::from(origin);
            [start, start + i64::from(length)]
        });
        let inside = [(edges[0], area.width), (edges[1], area.height)]
            .map(|([from, to], decoded)| [from.max(0), to.min(decoded.into())]);
        let smooth = warp.sampling.interpolation != Interpolation::Nearest;
        // Bilinear neighbours are counted from the middle of a pixel, and half a unit of a weight makes truncation
        // round. For nearest neighbours, a little more than 0 keeps rounding noise from choosing between two pixels.
        let unit = f64::from(WEIGHT_ONE);
        let shift = if smooth { 0.5 / unit - 0.5 } else { 1e-6 };
        let [x, y] = edges.map(|[start, _]| start as f64 + shift);
        let fill = &warp.sampling.fill;
        Self {
            pixels,
            pitch: area.width as usize,
            edges,
            inside,
            matrix: Matrix::translation(x, y) * warp.matrix,
            warp,
            fill: std::array::from_fn(|channel| {
                C::from_u16(fill.get(channel % fill.len().max(1)).copied().unwrap_or(0))
            }),
            smooth,
        }
    }

    /// Fills the row `y` of the output from `x` on.
    fn row(&self, x: u32, y: u32, length: u32, out: &mut [[C; N]]) {
        let line = |matrix: &Matrix| Line::new(matrix, x, y, length);
        if self.warp.is_affine()
            && let Some(line) = line(&self.matrix)
        {
            let mut seen = self.touched(&line, out.len());
            for frame in &self.warp.frames {
                let Some(line) = Line::new(&frame.matrix, x, y, length) else {
                    return self.steps(x, y, out);
                };
                let (width, height) = frame.size;
                let sides = [[0, width.into()], [0, height.into()]];
                seen = common(&seen, &line.within(sides, out.len()));
            }
            self.straight(&line, seen, out);
        } else {
            self.steps(x, y, out);
        }
    }

    /// The pixels of a line that show anything but the fill.
    fn touched(&self, line: &Line, length: usize) -> Range<usize> {
        if self.warp.sampling.padding != Padding::Constant {
            return 0..length;
        }
        let reach = i64::from(self.smooth);
        line.within(self.edges.map(|[from, to]| [from - reach, to]), length)
    }

    /// The pixels of a line whose neighbours are all there.
    fn safe(&self, line: &Line, length: usize) -> Range<usize> {
        let reach = i64::from(self.smooth);
        line.within(self.inside.map(|[from, to]| [from, to - reach]), length)
    }

    fn straight(&self, line: &Line, seen: Range<usize>, out: &mut [[C; N]]) {
        let safe = common(&self.safe(line, out.len()), &seen);
        // An empty range may start anywhere; it must split `seen` in two.
        let safe = if safe.is_empty() {
            seen.start..seen.start
        } else {
            safe
        };
        out[..seen.start].fill(self.fill);
        out[seen.end..].fill(self.fill);
        for at in (seen.start..safe.start).chain(safe.end..seen.end) {
            out[at] = self.careful(line.at(at));
        }
        let [du, dv] = line.step;
        if self.smooth {
            let out = &mut out[safe.clone()];
            let start = line.at(safe.start);
            let done = C::blend_run(self.pixels, self.pitch, start, line.step, out);
            let [mut u, mut v] = line.at(safe.start + done);
            for pixel in &mut out[done..] {
                *pixel = self.blend([u, v]);
                (u, v) = (u + du, v + dv);
            }
        } else {
            let [mut u, mut v] = line.at(safe.start);
            for pixel in &mut out[safe] {
                *pixel = self.pixels[(v >> BITS) as usize * self.pitch + (u >> BITS) as usize];
                (u, v) = (u + du, v + dv);
            }
        }
    }

    /// Fills a row under any matrix, mapping pixel by pixel.
    fn steps(&self, x: u32, y: u32, out: &mut [[C; N]]) {
        let y = f64::from(y) + 0.5;
        for (at, pixel) in out.iter_mut().enumerate() {
            let x = f64::from(x) + at as f64 + 0.5;
            let gone = self.warp.frames.iter().any(|frame| {
                let [u, v] = frame.matrix.map(x, y);
                let (width, height) = frame.size;
                !((0.0..width.into()).contains(&u) && (0.0..height.into()).contains(&v))
            });
            *pixel = if gone {
                self.fill
            } else {
                self.any(self.matrix.map(x, y).map(fixed))
            };
        }
    }

    #[inline]
    fn any(&self, place: [i64; 2]) -> [C; N] {
        let reach = i64::from(self.smooth);
        let safe = (0..2).all(|axis| {
            let [from, to] = self.inside[axis];
            (from..to - reach).contains(&(place[axis] >> BITS))
        });
        if safe && self.smooth {
            self.blend(place)
        } else {
            self.careful(place)
        }
    }

    #[inline]
    fn blend(&self, [u, v]: [i64; 2]) -> [C; N] {
        let at = (v >> BITS) as usize * self.pitch + (u >> BITS) as usize;
        let &[a, b] = self.pixels[at..].first_chunk().expect("a safe place");
        let &[c, d] = self.pixels[at + self.pitch..]
            .first_chunk()
            .expect("a safe place");
        let weights = weights([u, v]);
        let mut blended = [C::zeroed(); N];
        for (channel, value) in blended.iter_mut().enumerate() {
            *value = C::blend([a[channel], b[channel], c[channel], d[channel]], weights);
        }
        blended
    }

    /// The pixel at any place, inside of the image or not.
    fn careful(&self, [u, v]: [i64; 2]) -> [C; N] {
        let [x, y] = [u >> BITS, v >> BITS];
        if !self.smooth {
            return self.find(x, y).unwrap_or(self.fill);
        }
        let found = [
            self.find(x, y),
            self.find(x + 1, y),
            self.find(x, y + 1),
            self.find(x + 1, y + 1),
        ];
        let weights = weights([u, v]);
        let here: u32 = (0..4)
            .filter(|&at| found[at].is_some())
            .map(|at| weights[at])
            .sum();
        let pixels = found.map(|pixel| pixel.unwrap_or([C::zeroed(); N]));
        std::array::from_fn(|channel| {
            let values = pixels.map(|pixel| pixel[channel]);
            if here == WHOLE {
                return C::blend(values, weights);
            }
            let whole = f64::from(WHOLE);
            let sum: f64 = (0..4)
                .map(|at| values[at].to_f64() * f64::from(weights[at]))
                .sum();
            let fill = self.fill[channel].to_f64();
            C::from_f64(((sum / whole - fill) * f64::from(here) / whole + fill).round_ties_even())
        })
    }

    /// The pixel at whole coordinates; outside of the image, the one that the padding puts there, if any.
    fn find(&self, x: i64, y: i64) -> Option<[C; N]> {
        let padding = self.warp.sampling.padding;
        let x = resolve(padding, x, self.edges[0])?.clamp(self.inside[0][0], self.inside[0][1] - 1);
        let y = resolve(padding, y, self.edges[1])?.clamp(self.inside[1][0], self.inside[1][1] - 1);
        self.pixels
            .get(y as usize * self.pitch + x as usize)
            .copied()
    }
}

/// The row or column of the image that shows at `at`; `None` where the fill does.
fn resolve(padding: Padding, at: i64, [from, to]: [i64; 2]) -> Option<i64> {
    let length = to - from;
    let mirrored = |period: i64, again: i64| {
        let at = (at - from).rem_euclid(period.max(1));
        from + at.min(period - again - at).max(0)
    };
    match padding {
        _ if (from..to).contains(&at) => Some(at),
        Padding::Constant => None,
        Padding::Edge => Some(at.clamp(from, to - 1)),
        Padding::Reflect => Some(mirrored(2 * (length - 1), 0)),
        Padding::Symmetric => Some(mirrored(2 * length, 1)),
    }
}

/// Weights of the pixel at a place, of its right neighbour, of the pixel below, and of that one's right neighbour.
#[inline]
fn weights(place: [i64; 2]) -> [u32; 4] {
    let [x, y] = place.map(|at| (at >> (BITS - WEIGHT_BITS)) as u32 & (WEIGHT_ONE - 1));
    let both = x * y;
    let (right, below) = ((x << WEIGHT_BITS) - both, (y << WEIGHT_BITS) - both);
    [WHOLE - right - below - both, right, below, both]
}

/// A coordinate in fixed point, at most [`FAR`] away from 0; NaN becomes the farthest.
#[expect(clippy::manual_clamp, reason = "a clamp keeps what is no number")]
fn fixed(at: f64) -> i64 {
    (at.max(-FAR).min(FAR) * ONE as f64).round() as i64
}

/// The places of a row's pixels along x and y, in fixed point: the first, and the step from each to the next.
struct Line {
    start: [i64; 2],
    step: [i64; 2],
}

impl Line {
    /// The line of a row under an affine matrix; `None` if it leaves the range of fixed point.
    fn new(matrix: &Matrix, x: u32, y: u32, length: u32) -> Option<Self> {
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        let ends = [x, x + f64::from(length)].map(|x| matrix.map(x, y));
        let near = ends.iter().flatten().all(|at| at.abs() < FAR);
        near.then(|| Self {
            start: ends[0].map(fixed),
            step: [matrix.0[0][0], matrix.0[1][0]].map(|step| (step * ONE as f64).round() as i64),
        })
    }

    #[inline]
    fn at(&self, pixel: usize) -> [i64; 2] {
        [0, 1].map(|axis| self.start[axis] + self.step[axis] * pixel as i64)
    }

    /// Which of the first `length` pixels have places inside of `sides`, given in whole pixels along x and y.
    fn within(&self, sides: [[i64; 2]; 2], length: usize) -> Range<usize> {
        let [x, y] = [0, 1].map(|axis| {
            let [from, to] = sides[axis].map(|side| side * ONE);
            span(self.start[axis], self.step[axis], from, to, length)
        });
        common(&x, &y)
    }
}

/// The numbers `i` below `length` with `low <= start + i * step < high`, exactly: divisions round downwards.
fn span(start: i64, step: i64, low: i64, high: i64, length: usize) -> Range<usize> {
    if step < 0 {
        return span(-start, -step, 1 - high, 1 - low, length);
    }
    if step == 0 {
        let all = (low..high).contains(&start);
        return 0..if all { length } else { 0 };
    }
    let first = |from: i64| (-(start - from).div_euclid(step)).clamp(0, length as i64) as usize;
    let (from, to) = (first(low), first(high));
    from..to.max(from)
}

fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests;
