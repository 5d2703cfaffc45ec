//! What is to be done to one sample: every random number is drawn, nothing is computed yet.
//!
//! Geometric operations fold into the [`Canvas`] of the current section, pixel effects queue up behind it. Geometry after
//! an effect opens the next section, because the two don't commute (a border would be brightened, an edge blurred).

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

/// The operations of one sample, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    sections: Vec<Section>,
    /// Painted over in the finished sample.
    erased: Vec<Erase>,
    finished: bool,
    /// Only geometry counts: effects are drawn, and forgotten.
    mask: bool,
}

impl Recipe {
    /// For an untouched image.
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

    /// The same for an image that goes where another one goes, and whose values stay.
    #[must_use]
    pub fn of_mask(mut self, mask: &Mask) -> Self {
        self.mask = true;
        self.last().canvas.sampled_as(mask);
        self
    }

    /// The same, which also notes where places go.
    #[must_use]
    pub fn tracked(width: u32, height: u32) -> Self {
        let mut recipe = Self::new(width, height);
        recipe.last().canvas = Canvas::tracked(width, height);
        recipe
    }

    /// Where places went, operation by operation; nothing unless it is tracked.
    pub fn moves(&self) -> impl Iterator<Item = Move> {
        (self.sections.iter())
            .flat_map(|section| section.canvas.moves().unwrap_or_default().iter().copied())
    }

    fn last(&mut self) -> &mut Section {
        let at = self.sections.len() - 1;
        &mut self.sections[at]
    }

    /// Width and height by now.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.sections[self.sections.len() - 1].canvas.size()
    }

    /// Where geometry goes.
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

    /// Queues an effect on the pixels as they are by then.
    pub fn add(&mut self, effect: Effect) {
        if !self.mask {
            self.last().effects.push(effect);
        }
    }

    /// From here on the sample has its final values.
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

    /// What is painted over in the finished sample.
    #[must_use]
    pub fn erased(&self) -> &[Erase] {
        &self.erased
    }

    /// The part of the image that anything is computed from; `None` if nothing of it shows.
    #[must_use]
    pub fn needed(&self) -> Option<Rect> {
        self.sections[0].canvas.stages()[0].needed()
    }

    /// How many times smaller (1, 2, 4 or 8) the image may be decoded, as it is made at least that much smaller.
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
