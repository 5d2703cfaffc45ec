//! What is to be done to one sample: every random number is drawn, nothing is computed yet.
//!
//! ```text
//! section: Canvas (resamplings), then effects | section: Canvas, then effects | ... | erased in the finished sample
//! ```
//!
//! Geometric operations fold into the [`Canvas`] of the current section, and pixel effects queue up behind it. Geometry
//! after an effect opens the next section, because the two don't commute: a border would be brightened, an edge
//! blurred.
//!
//! A recipe exists before any pixel does. So it can tell the decoder which part of the image is needed, and how much
//! smaller it may be decoded. It follows from the sample's random numbers alone, so whoever moves boxes draws it again.

use super::effect::{Effect, Erase};
use super::geometry::{Canvas, Mask, Stage};
use super::moves::Move;
use crate::pixels::Rect;

/// Geometry, then effects on what it leaves.
#[derive(Clone, Debug, PartialEq)]
struct Section {
    canvas: Canvas,
    effects: Vec<Effect>,
}

/// The operations of one sample, in order, with their parameters drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    sections: Vec<Section>,
    /// Rectangles that are painted over in the finished sample.
    erased: Vec<Erase>,
    finished: bool,
    /// Whether this is a mask's: effects are drawn, but not kept.
    mask: bool,
}

impl Recipe {
    /// A recipe that leaves an image of this size as it is.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        let canvas = Canvas::new(width, height);
        Self {
            sections: vec![Section {
                canvas,
                effects: Vec::new(),
            }],
            erased: Vec::new(),
            finished: false,
            mask: false,
        }
    }

    /// The recipe of a mask, which follows an image: geometry with the mask's sampling, and no effects.
    #[must_use]
    pub fn of_mask(mut self, mask: &Mask) -> Self {
        self.mask = true;
        self.last().canvas.sampled_as(mask);
        self
    }

    /// A recipe whose [`moves`](Self::moves) are recorded.
    #[must_use]
    pub fn tracked(width: u32, height: u32) -> Self {
        let mut recipe = Self::new(width, height);
        recipe.last().canvas = Canvas::tracked(width, height);
        recipe
    }

    /// One move per geometric operation, in order; none unless the recipe is tracked.
    pub fn moves(&self) -> impl Iterator<Item = Move> {
        (self.sections.iter())
            .flat_map(|section| section.canvas.moves().unwrap_or_default().iter().copied())
    }

    fn last(&mut self) -> &mut Section {
        let at = self.sections.len() - 1;
        &mut self.sections[at]
    }

    /// Width and height after the operations so far.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.sections[self.sections.len() - 1].canvas.size()
    }

    /// The canvas for the next geometric operation; after an effect, that of a new section.
    pub fn canvas(&mut self) -> &mut Canvas {
        if !self.last().effects.is_empty() {
            let (width, height) = self.size();
            let tracked = self.last().canvas.moves().is_some();
            let next = if tracked {
                Self::tracked(width, height)
            } else {
                Self::new(width, height)
            };
            self.sections.extend(next.sections);
        }
        &mut self.last().canvas
    }

    /// Queues an effect behind the geometry so far.
    pub fn add(&mut self, effect: Effect) {
        if !self.mask {
            self.last().effects.push(effect);
        }
    }

    /// Marks that the values are final from here on, so that erasing paints into the finished sample.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Paints a rectangle over, before or after the sample gets its final values.
    pub fn erase(&mut self, erase: Erase) {
        if self.finished && !self.mask {
            self.erased.push(erase);
        } else {
            self.add(Effect::Erase(erase));
        }
    }

    /// The rectangles to paint over in the finished sample.
    #[must_use]
    pub fn erased(&self) -> &[Erase] {
        &self.erased
    }

    /// The part of the image that the sample is computed from; `None` if nothing of the image shows.
    #[must_use]
    pub fn needed(&self) -> Option<Rect> {
        self.sections[0].canvas.stages()[0].needed()
    }

    /// How many times smaller (1, 2, 4 or 8) the image may be decoded, because the first resampling makes it that much
    /// smaller.
    #[must_use]
    pub fn reduction(&self) -> u32 {
        self.sections[0].canvas.stages()[0].reduction()
    }

    /// Resamplings in order, each with the effects that follow it.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = (&Stage, &[Effect])> {
        let steps: Vec<_> = self.sections.iter().flat_map(Section::steps).collect();
        steps.into_iter()
    }
}

impl Section {
    fn steps(&self) -> impl Iterator<Item = (&Stage, &[Effect])> {
        let stages = self.canvas.stages();
        stages.iter().enumerate().map(|(at, stage)| {
            let last = at + 1 == stages.len();
            (stage, if last { &self.effects[..] } else { &[] })
        })
    }
}
