//! Folding geometric operations into few resamplings.
//!
//! # Idea
//!
//! Crops, pads, flips, resizes and warps only say where pixels come from. A [`Canvas`] keeps that as numbers, and
//! nothing is computed until all operations have spoken. Mostly a single resampling remains. It computes only the
//! pixels that are shown, and [`Stage::needed`] tells the decoder which part of the file they come from.
//!
//! # A stage
//!
//! ```text
//! input -- crop --> source -- resize or warp --> size -- crop or pad --> view -- flip --> output
//! ```
//!
//! A crop before the resize is hard: it makes `source` smaller, and filters don't see beyond it. A crop after the
//! resize is soft: it only moves `view`, since each output has a window of its own. A `view` that reaches beyond the
//! resized image shows a border.
//!
//! | operation | joins the last stage | opens another one |
//! |---|---|---|
//! | crop, flip | always | never |
//! | pad | if the view is the whole image | else: behind a crop of a resampled image, or behind another pad |
//! | resize | if nothing is resampled yet and no border is shown | else |
//! | warp | if nothing is resampled and no border is shown, or behind a warp that samples alike | else |
//!
//! A warp joins a warp by multiplying the matrices, together with the crops and flips in between. The first warp must
//! show no border, and with padding other than constant it must not be cropped. A warp never joins a resize: a resize
//! averages with a filter as wide as its scale, and a warp only blends neighbours.
//!
//! # Why this is exact
//!
//! An output depends on its own window only, and a flip only changes the order of outputs. So folded crops, pads and
//! flips give the pixels that one operation after the other gives, up to the rounding of sampling points. Joined warps
//! don't: one blend stands for several, and the image stays sharper.
//!
//! # Cost
//!
//! A few numbers an operation; no pixel is touched.

use serde::{Deserialize, Serialize};

use super::matrix::Matrix;
use super::moves::Move;
use super::warp::{Padding, Sampling, Warp};
use super::{Filter, Interpolation};
use crate::pixels::Rect;

/// A rectangle that may reach outside of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct View {
    pub x: i64,
    pub y: i64,
    pub width: u32,
    pub height: u32,
}

impl View {
    fn of_size(width: u32, height: u32) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }
}

/// One stage: a hard crop, at most one resampling, a view of its result, and flips.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The part of the input that exists for this stage: filters don't see beyond it.
    pub source: Rect,
    /// Width and height that `source` is resized to.
    pub size: (u32, u32),
    /// Filter of the resize; `None` where nothing is resized.
    pub filter: Option<Filter>,
    /// Warp in place of a resize; it takes places in an image of `size` to places in `source`.
    pub warp: Option<Warp>,
    /// The part of the resized image that is shown; it may reach beyond the image.
    pub view: View,
    /// Value of the border that the view shows: one for all channels, or one each.
    pub fill: Vec<u16>,
    /// Whether the view is mirrored left to right.
    pub flip_x: bool,
    /// Whether the view is mirrored top to bottom.
    pub flip_y: bool,
}

impl Stage {
    fn new(width: u32, height: u32) -> Self {
        Self {
            source: Rect::of_size(width, height),
            size: (width, height),
            filter: None,
            warp: None,
            view: View::of_size(width, height),
            fill: vec![0],
            flip_x: false,
            flip_y: false,
        }
    }

    /// The part of the resized image that the view shows; `None` if it shows nothing but border.
    #[must_use]
    pub fn shown(&self) -> Option<Rect> {
        let (x0, x1) = overlap(self.view.x, self.view.width, self.size.0)?;
        let (y0, y1) = overlap(self.view.y, self.view.height, self.size.1)?;
        Some(Rect {
            x: x0,
            y: y0,
            width: x1 - x0,
            height: y1 - y0,
        })
    }

    /// The part of the input, within `source`, that the shown pixels are computed from.
    #[must_use]
    pub fn needed(&self) -> Option<Rect> {
        let shown = self.shown()?;
        if let Some(warp) = &self.warp {
            return warp.needed(shown, self.source);
        }
        let Some(filter) = self.filter else {
            return Some(Rect {
                x: self.source.x + shown.x,
                y: self.source.y + shown.y,
                ..shown
            });
        };
        let (x, width) = reach(filter, shown.x, shown.width, self.size.0, self.source.width);
        let (y, height) = reach(
            filter,
            shown.y,
            shown.height,
            self.size.1,
            self.source.height,
        );
        Some(Rect {
            x: self.source.x + x,
            y: self.source.y + y,
            width,
            height,
        })
    }

    /// How many times smaller the input may be decoded: 8, 4 or 2 if an antialiased resize shrinks it at least that
    /// much, else 1.
    #[must_use]
    pub fn reduction(&self) -> u32 {
        let shrinks = |by: u32| {
            self.size.0.saturating_mul(by) <= self.source.width
                && self.size.1.saturating_mul(by) <= self.source.height
        };
        match self.filter {
            Some(filter) if filter.antialias && filter.interpolation != Interpolation::Nearest => {
                [8, 4, 2].into_iter().find(|&by| shrinks(by)).unwrap_or(1)
            }
            _ => 1,
        }
    }

    fn is_whole(&self) -> bool {
        self.view == View::of_size(self.size.0, self.size.1)
    }

    /// Whether the view shows no border.
    fn is_inside(&self) -> bool {
        self.shown()
            .is_some_and(|shown| (shown.width, shown.height) == (self.view.width, self.view.height))
    }

    fn resamples(&self) -> bool {
        self.filter.is_some() || self.warp.is_some()
    }

    /// Makes a view inside the image a hard crop, where nothing resamples.
    fn harden(&mut self) {
        if let (false, true, Some(shown)) = (self.resamples(), self.is_inside(), self.shown()) {
            self.source = Rect {
                x: self.source.x + shown.x,
                y: self.source.y + shown.y,
                ..shown
            };
            self.size = (shown.width, shown.height);
            self.view = View::of_size(shown.width, shown.height);
        }
    }

    /// From the output to the image of `size`: undoes the flips and the crop.
    fn view_matrix(&self) -> Matrix {
        let View {
            x,
            y,
            width,
            height,
        } = self.view;
        Matrix::translation(x as f64, y as f64)
            * Matrix::flip((width, height), self.flip_x, self.flip_y)
    }

    /// The warp so far (at first the identity), if another one with this sampling can join it.
    fn joined(&self, sampling: &Sampling) -> Option<Warp> {
        let Some(warp) = &self.warp else {
            let free = self.filter.is_none() && self.is_whole();
            return free.then(|| Warp::new(Matrix::IDENTITY, sampling.clone()));
        };
        let fits = warp.sampling == *sampling
            && self.is_inside()
            && (sampling.padding == Padding::Constant || self.is_whole());
        fits.then(|| warp.clone())
    }
}

fn overlap(start: i64, length: u32, limit: u32) -> Option<(u32, u32)> {
    let from = start.clamp(0, limit.into());
    let to = (start + i64::from(length)).clamp(0, limit.into());
    (from < to).then_some((from as u32, to as u32))
}

/// The first source pixel, and how many, that the outputs `start .. start + length` of `size` are computed from.
fn reach(filter: Filter, start: u32, length: u32, size: u32, source: u32) -> (u32, u32) {
    let scale = f64::from(source) / f64::from(size);
    let support = filter.interpolation.support()
        * if filter.antialias {
            scale.max(1.0)
        } else {
            1.0
        };
    // One pixel more to either side covers every rounding of the resampler.
    let from = ((f64::from(start) + 0.5) * scale - support).floor() - 1.0;
    let to = ((f64::from(start + length) - 0.5) * scale + support).ceil() + 1.0;
    let (from, to) = (from.max(0.0) as u32, to.min(f64::from(source)) as u32);
    (from, to - from)
}

/// The image as the operations so far will leave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    stages: Vec<Stage>,
    /// One move per operation, if the canvas is tracked.
    moves: Option<Vec<Move>>,
    /// Sampling and fill in place of the operations' own, for a mask.
    mask: Option<Mask>,
}

/// Sampling of an image that follows another one, such as a segmentation mask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Interpolation in place of the operations' own.
    pub interpolation: Interpolation,
    /// Value of borders: one for all channels, or one each.
    pub fill: Vec<u16>,
}

impl Mask {
    /// The sampling of a warp that asks for `asked`.
    fn sampling(&self, asked: &Sampling) -> Sampling {
        let interpolation = match self.interpolation {
            Interpolation::Nearest => Interpolation::Nearest,
            _ => Interpolation::Bilinear,
        };
        Sampling {
            interpolation,
            padding: asked.padding,
            fill: self.fill.clone(),
        }
    }
}

impl Canvas {
    /// An untouched image.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            stages: vec![Stage::new(width, height)],
            moves: None,
            mask: None,
        }
    }

    /// Replaces the interpolation and the fill of all operations that follow.
    pub fn sampled_as(&mut self, mask: &Mask) {
        self.mask = Some(mask.clone());
    }

    /// An untouched image whose [`moves`](Self::moves) are recorded.
    #[must_use]
    pub fn tracked(width: u32, height: u32) -> Self {
        Self {
            moves: Some(Vec::new()),
            ..Self::new(width, height)
        }
    }

    /// One move per operation, in order; `None` unless the canvas is tracked.
    #[must_use]
    pub fn moves(&self) -> Option<&[Move]> {
        self.moves.as_deref()
    }

    /// Records the move of the operation that was just applied.
    fn note(&mut self, matrix: impl FnOnce() -> Matrix) {
        let size = self.size();
        if let Some(moves) = &mut self.moves {
            let matrix = matrix();
            moves.push(Move { matrix, size });
        }
    }

    /// Width and height after the operations so far.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let view = self.stages[self.stages.len() - 1].view;
        (view.width, view.height)
    }

    /// The stages to run, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn last(&mut self) -> &mut Stage {
        let at = self.stages.len() - 1;
        &mut self.stages[at]
    }

    fn next_stage(&mut self) -> &mut Stage {
        let (width, height) = self.size();
        self.stages.push(Stage::new(width, height));
        self.last()
    }

    /// Resizes the image to a width and a height; does nothing if it has them.
    pub fn resize(&mut self, width: u32, height: u32, filter: Filter) {
        let before = self.size();
        if before == (width, height) {
            return;
        }
        let filter = self.mask.as_ref().map_or(filter, |mask| Filter {
            interpolation: mask.interpolation,
            antialias: true,
        });
        self.last().harden();
        let stage = self.last();
        let stage = if !stage.resamples() && stage.is_whole() {
            stage
        } else {
            self.next_stage()
        };
        stage.filter = Some(filter);
        stage.size = (width, height);
        stage.view = View::of_size(width, height);
        self.note(|| {
            let [x, y] = [(width, before.0), (height, before.1)]
                .map(|(to, from)| f64::from(to) / f64::from(from));
            Matrix::scaling(x, y)
        });
    }

    /// Warps to an image of this size. The matrix takes its places to places in the present image, as
    /// [`Matrix::affine`] and its neighbours make it for the present [`size`](Self::size).
    pub fn warp(&mut self, matrix: Matrix, (width, height): (u32, u32), sampling: &Sampling) {
        let before = self.size();
        if before == (width, height) && matrix.is_identity() {
            return;
        }
        let own = self.mask.as_ref().map(|mask| mask.sampling(sampling));
        let sampling = own.as_ref().unwrap_or(sampling);
        self.last().harden();
        let mut warp = self.last().joined(sampling).unwrap_or_else(|| {
            self.next_stage();
            Warp::new(Matrix::IDENTITY, sampling.clone())
        });
        let stage = self.last();
        warp = warp.through(stage.view_matrix());
        if stage.warp.is_some() {
            warp.cut(before);
        }
        stage.warp = Some(warp.through(matrix));
        stage.size = (width, height);
        stage.view = View::of_size(width, height);
        (stage.flip_x, stage.flip_y) = (false, false);
        // A matrix without an inverse flattens the image: nothing is left of any box.
        self.note(|| matrix.inverse().unwrap_or(Matrix::scaling(0.0, 0.0)));
    }

    /// Keeps a rectangle, which must lie inside of the image.
    pub fn crop(&mut self, x: i64, y: i64, width: u32, height: u32) {
        let corner = (x as f64, y as f64);
        let stage = self.last();
        let view = &mut stage.view;
        let x = if stage.flip_x {
            i64::from(view.width) - x - i64::from(width)
        } else {
            x
        };
        let y = if stage.flip_y {
            i64::from(view.height) - y - i64::from(height)
        } else {
            y
        };
        *view = View {
            x: view.x + x,
            y: view.y + y,
            width,
            height,
        };
        self.note(|| Matrix::translation(-corner.0, -corner.1));
    }

    /// Adds a border of so many pixels to the left, top, right and bottom.
    pub fn pad(&mut self, [mut left, mut top, mut right, mut bottom]: [u32; 4], fill: &[u16]) {
        if [left, top, right, bottom] == [0; 4] {
            return;
        }
        let corner = (f64::from(left), f64::from(top));
        let fill = (self.mask.as_ref()).map_or_else(|| fill.to_vec(), |mask| mask.fill.clone());
        self.last().harden();
        let stage = self.last();
        let stage = if stage.is_whole() {
            stage
        } else {
            self.next_stage()
        };
        if stage.flip_x {
            std::mem::swap(&mut left, &mut right);
        }
        if stage.flip_y {
            std::mem::swap(&mut top, &mut bottom);
        }
        stage.fill = fill;
        let view = &mut stage.view;
        *view = View {
            x: view.x - i64::from(left),
            y: view.y - i64::from(top),
            width: view.width + left + right,
            height: view.height + top + bottom,
        };
        self.note(|| Matrix::translation(corner.0, corner.1));
    }

    /// Mirrors left to right.
    pub fn flip_horizontally(&mut self) {
        let stage = self.last();
        stage.flip_x = !stage.flip_x;
        let size = self.size();
        self.note(|| Matrix::flip(size, true, false));
    }

    /// Mirrors top to bottom.
    pub fn flip_vertically(&mut self) {
        let stage = self.last();
        stage.flip_y = !stage.flip_y;
        let size = self.size();
        self.note(|| Matrix::flip(size, false, true));
    }
}
