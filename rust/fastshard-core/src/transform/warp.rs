//! Warps: rotations, affine maps and perspectives, as one matrix from output to input.
//!
//! # Idea
//!
//! The matrix leads from the output to the input, so that each output pixel is computed once and no holes remain.
//! Consecutive warps that sample alike multiply into one. A chain of them is resampled once and stays sharp.
//!
//! # Frames
//!
//! The product of two matrices forgets what the first warp pushed out of its image, and a second warp could bring it
//! back. So with constant padding, a chain keeps a [`Frame`] for each earlier warp: the matrix from the output to that
//! warp's image, and its size. A pixel whose place is outside of any frame is fill.
//!
//! # The part of the input that is needed
//!
//! An affine matrix takes a rectangle of output pixels to a parallelogram, and a perspective takes one that doesn't
//! cross its horizon to a quadrilateral. Both lie in the box around the four mapped corners. A margin of more than a
//! pixel to each side covers interpolation and rounding. Across a horizon, or where mirrored padding is seen, all of
//! the input is needed.

use serde::{Deserialize, Serialize};

use super::Interpolation;
use super::matrix::Matrix;
use crate::pixels::Rect;

/// What a place outside of the image shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// The fill.
    #[default]
    Constant,
    /// The nearest pixel of the image.
    Edge,
    /// The image mirrored in the middle of its last pixel: `c b | a b c | b a`.
    Reflect,
    /// The image mirrored behind its last pixel: `b a | a b c | c b`.
    Symmetric,
}

/// How a warp finds its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// `Nearest` or `Bilinear`.
    pub interpolation: Interpolation,
    /// What places outside of the image show.
    pub padding: Padding,
    /// Value outside of the image with [`Padding::Constant`]: one for all channels, or one each.
    pub fill: Vec<u16>,
}

/// The image that an earlier warp of the chain made: what lies outside of it is fill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    /// From the output to the frame.
    pub(super) matrix: Matrix,
    /// Width and height.
    pub(super) size: (u32, u32),
}

/// One resampling by a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Warp {
    /// From the output to the source.
    pub matrix: Matrix,
    /// Interpolation, padding and fill.
    pub sampling: Sampling,
    pub(super) frames: Vec<Frame>,
}

impl Warp {
    /// A warp by one matrix, which leads from the output to the source.
    #[must_use]
    pub fn new(matrix: Matrix, sampling: Sampling) -> Self {
        Self {
            matrix,
            sampling,
            frames: Vec::new(),
        }
    }

    /// The same warp behind another map, which takes places of the new output to places of the old one.
    #[must_use]
    pub fn through(mut self, matrix: Matrix) -> Self {
        self.matrix = self.matrix * matrix;
        for frame in &mut self.frames {
            frame.matrix = frame.matrix * matrix;
        }
        self
    }

    /// Whether all matrices are affine, so that equal steps in the output are equal steps in the source.
    pub(super) fn is_affine(&self) -> bool {
        self.matrix.is_affine() && self.frames.iter().all(|frame| frame.matrix.is_affine())
    }

    /// The part of the input that the pixels `shown` of the output are computed from; the input ends at `source`.
    pub(super) fn needed(&self, shown: Rect, source: Rect) -> Option<Rect> {
        let Some([low, high]) = self.reach(shown) else {
            return Some(source);
        };
        let folded = matches!(self.sampling.padding, Padding::Reflect | Padding::Symmetric);
        let sides = [source.width, source.height].map(f64::from);
        if folded && (0..2).any(|axis| low[axis] < 0.0 || high[axis] > sides[axis]) {
            return Some(source);
        }
        let outside = |axis: usize| high[axis] <= 0.0 || low[axis] >= sides[axis];
        if self.sampling.padding == Padding::Constant && (outside(0) || outside(1)) {
            return None;
        }
        let start = |axis: usize| low[axis].clamp(0.0, sides[axis] - 1.0) as u32;
        let end = |axis: usize| (high[axis].clamp(0.0, sides[axis]) as u32).max(start(axis) + 1);
        Some(Rect {
            x: source.x + start(0),
            y: source.y + start(1),
            width: end(0) - start(0),
            height: end(1) - start(1),
        })
    }

    /// The box around the places that these pixels come from, with a margin for interpolation and rounding; `None` where
    /// a perspective looks behind its horizon.
    fn reach(&self, shown: Rect) -> Option<[[f64; 2]; 2]> {
        let middles = |start: u32, length: u32| {
            let start = f64::from(start) + 0.5;
            [start, start + f64::from(length - 1)]
        };
        let (mut low, mut high) = ([f64::MAX; 2], [f64::MIN; 2]);
        let [_, _, [g, h, i]] = self.matrix.0;
        let mut sides = [false; 2];
        for y in middles(shown.y, shown.height) {
            for x in middles(shown.x, shown.width) {
                sides[usize::from(g * x + h * y + i > 0.0)] = true;
                for (axis, place) in self.matrix.map(x, y).into_iter().enumerate() {
                    low[axis] = low[axis].min((place - 0.5).floor() - 1.0);
                    high[axis] = high[axis].max((place + 0.5).ceil() + 1.0);
                }
            }
        }
        let sound = low.iter().chain(&high).all(|end| end.is_finite());
        (sound && sides != [true; 2]).then_some([low, high])
    }

    /// Cuts off what lies outside of the present output, which has this size, for all maps that follow.
    pub(super) fn cut(&mut self, size: (u32, u32)) {
        if self.sampling.padding == Padding::Constant {
            let matrix = Matrix::IDENTITY;
            self.frames.push(Frame { matrix, size });
        }
    }
}
