//! Automatic augmentation: operations and their magnitudes drawn from a space or from a learnt table.
//!
//! [`AutoAugment`] (Cubuk, Zoph, Mané, Vasudevan, Le, 2019), [`RandAugment`] (Cubuk, Zoph, Shlens, Le, 2020) and
//! [`TrivialAugmentWide`] (Müller, Hutter, 2021), with torchvision's magnitudes and probabilities.

mod action;
mod policies;

use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::limits::check;
use super::recipe::Recipe;
use super::{Affine, Interpolation, Matrix, Padding, Sampling};
use crate::error::Result;
use crate::random::Draws;
use action::Action::{
    self, AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Invert, Posterize, Rotate,
    Sharpness, ShearX, ShearY, Solarize, TranslateX, TranslateY,
};
pub use policies::Policy;

/// What is drawn from, all alike.
const ACTIONS: [Action; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

/// The largest magnitudes.
#[derive(Debug)]
struct Space {
    shear: f32,
    /// Pixels, or a part of the side.
    shift: Shift,
    degrees: f32,
    /// Added to or taken from a factor of 1.
    factor: f32,
    /// Bits taken away.
    bits: f32,
}

#[derive(Debug)]
enum Shift {
    Pixels(f32),
    Part(f64),
}

const USUAL: Space = Space {
    shear: 0.3,
    shift: Shift::Part(150.0 / 331.0),
    degrees: 30.0,
    factor: 0.9,
    bits: 4.0,
};

const WIDE: Space = Space {
    shear: 0.99,
    shift: Shift::Pixels(32.0),
    degrees: 135.0,
    factor: 0.99,
    bits: 6.0,
};

/// `torch.linspace` in single precision: from the nearer end.
fn linspace(start: f32, end: f32, steps: u32, at: u32) -> f32 {
    let step = (end - start) / (steps - 1) as f32;
    if at < steps / 2 {
        start + step * at as f32
    } else {
        end - step * (steps - 1 - at) as f32
    }
}

impl Space {
    /// The magnitude at place `at` of `bins`; none for actions without one.
    fn magnitude(
        &self,
        action: Action,
        bins: u32,
        at: u32,
        (width, height): (u32, u32),
    ) -> Option<f32> {
        let shift = |side: u32| match self.shift {
            Shift::Pixels(pixels) => pixels,
            Shift::Part(part) => (part * f64::from(side)) as f32,
        };
        let up_to = |end| Some(linspace(0.0, end, bins, at));
        match action {
            ShearX | ShearY => up_to(self.shear),
            TranslateX => up_to(shift(width)),
            TranslateY => up_to(shift(height)),
            Rotate => up_to(self.degrees),
            Brightness | Color | Contrast | Sharpness => up_to(self.factor),
            Posterize => {
                let step = (f64::from(bins - 1) / f64::from(self.bits)) as f32;
                Some((8.0 - at as f32 / step).round_ties_even())
            }
            Solarize => Some(linspace(1.0, 0.0, bins, at)),
            Identity | AutoContrast | Equalize | Invert => None,
        }
    }

    /// Draws the sign, if there is one, and adds the action.
    fn act(
        &self,
        action: Action,
        bins: u32,
        at: u32,
        look: &Look,
        recipe: &mut Recipe,
        draws: &mut Draws,
    ) {
        let Some(magnitude) = self.magnitude(action, bins, at, recipe.size()) else {
            return look.act(action, 0.0, recipe);
        };
        let signed = !matches!(action, Posterize | Solarize);
        let negative = signed && draws.unit() < 0.5;
        let magnitude = f64::from(magnitude);
        look.act(
            action,
            if negative { -magnitude } else { magnitude },
            recipe,
        );
    }
}

/// How moved images look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Of pixels between pixels.
    pub interpolation: Interpolation,
    /// Of what comes in from outside.
    pub fill: Vec<u16>,
}

impl Look {
    fn check(&self, name: &str) -> Result<()> {
        check(
            matches!(
                self.interpolation,
                Interpolation::Nearest | Interpolation::Bilinear
            ),
            || {
                format!(
                    "{name}: interpolation {:?}, expected nearest or bilinear",
                    self.interpolation
                )
            },
        )
    }

    fn act(&self, action: Action, magnitude: f64, recipe: &mut Recipe) {
        let effect = match action {
            Identity => return,
            ShearX | ShearY | TranslateX | TranslateY | Rotate => {
                return autoaugment_geometry(action, magnitude, self, recipe);
            }
            Brightness => Effect::Brightness(1.0 + magnitude),
            Color => Effect::Saturation(1.0 + magnitude),
            Contrast => Effect::Contrast(1.0 + magnitude),
            Sharpness => Effect::Sharpness(1.0 + magnitude),
            Posterize => Effect::Posterize(magnitude as u32),
            Solarize => Effect::Solarize(255.0 * magnitude),
            AutoContrast => Effect::Autocontrast,
            Equalize => Effect::Equalize,
            Invert => Effect::Invert,
        };
        recipe.add(effect);
    }
}

fn autoaugment_geometry(action: Action, magnitude: f64, look: &Look, recipe: &mut Recipe) {
    let size = recipe.size();
    let shear = |shear: [f64; 2]| {
        let shear = shear.map(|part| part.atan().to_degrees());
        let center = Some([0.0, 0.0]);
        let parts = Affine {
            shear,
            center,
            ..Affine::default()
        };
        Matrix::affine(&parts, size)
    };
    let matrix = match action {
        TranslateX => return shift(recipe, magnitude as i64, 0, &look.fill),
        TranslateY => return shift(recipe, 0, magnitude as i64, &look.fill),
        ShearX => shear([magnitude, 0.0]),
        ShearY => shear([0.0, magnitude]),
        _ => Matrix::rotation(magnitude, None, size, size),
    };
    let sampling = Sampling {
        interpolation: look.interpolation,
        padding: Padding::Constant,
        fill: look.fill.clone(),
    };
    recipe.canvas().warp(matrix, size, &sampling);
}

/// Moves by whole pixels, which needs no resampling.
fn shift(recipe: &mut Recipe, x: i64, y: i64, fill: &[u16]) {
    let (width, height) = recipe.size();
    let (wide, high) = (x.unsigned_abs() as u32, y.unsigned_abs() as u32);
    let before = |by: i64, length: u32| if by > 0 { length } else { 0 };
    let canvas = recipe.canvas();
    let (left, top) = (before(x, wide), before(y, high));
    canvas.pad([left, top, wide - left, high - top], fill);
    canvas.crop((wide - left).into(), (high - top).into(), width, height);
}

fn check_bins(name: &str, bins: u32) -> Result<()> {
    check((2..=1000).contains(&bins), || {
        format!("{name}: num_magnitude_bins {bins}, expected 2 to 1000")
    })
}

/// So many actions, one magnitude for all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct RandAugment {
    pub num_ops: u32,
    pub magnitude: u32,
    pub num_magnitude_bins: u32,
    #[serde(flatten)]
    pub look: Look,
}

impl RandAugment {
    pub(super) fn check(&self) -> Result<()> {
        check(self.num_ops <= 100, || {
            format!(
                "RandAugment: num_ops {}, expected at most 100",
                self.num_ops
            )
        })?;
        check_bins("RandAugment", self.num_magnitude_bins)?;
        check(self.magnitude < self.num_magnitude_bins, || {
            format!(
                "RandAugment: magnitude {}, expected less than num_magnitude_bins, {}",
                self.magnitude, self.num_magnitude_bins
            )
        })?;
        self.look.check("RandAugment")
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        for _ in 0..self.num_ops {
            let action = ACTIONS[draws.below(ACTIONS.len() as u32) as usize];
            USUAL.act(
                action,
                self.num_magnitude_bins,
                self.magnitude,
                &self.look,
                recipe,
                draws,
            );
        }
    }
}

/// One action, any magnitude.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct TrivialAugmentWide {
    pub num_magnitude_bins: u32,
    #[serde(flatten)]
    pub look: Look,
}

impl TrivialAugmentWide {
    pub(super) fn check(&self) -> Result<()> {
        check_bins("TrivialAugmentWide", self.num_magnitude_bins)?;
        self.look.check("TrivialAugmentWide")
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        let action = ACTIONS[draws.below(ACTIONS.len() as u32) as usize];
        let at = draws.below(self.num_magnitude_bins);
        WIDE.act(
            action,
            self.num_magnitude_bins,
            at,
            &self.look,
            recipe,
            draws,
        );
    }
}

/// One of 25 pairs of actions that were learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct AutoAugment {
    pub policy: Policy,
    #[serde(flatten)]
    pub look: Look,
}

impl AutoAugment {
    pub(super) fn check(&self) -> Result<()> {
        self.look.check("AutoAugment")
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        let pairs = self.policy.pairs();
        for (action, p, at) in pairs[draws.below(pairs.len() as u32) as usize] {
            if draws.unit() < p {
                USUAL.act(action, policies::BINS, at, &self.look, recipe, draws);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.linspace(0, 32, 31)` and others, whose whole numbers decide by how many pixels an image moves.
    #[test]
    fn magnitudes_are_torchs() {
        let shifts = |space: &Space, bins, side| {
            let at = |at| space.magnitude(TranslateX, bins, at, (side, 1)).unwrap() as u32;
            (0..bins).map(at).collect::<Vec<_>>()
        };
        assert_eq!(shifts(&WIDE, 31, 224)[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(shifts(&WIDE, 31, 224)[14..17], [14, 16, 17]);
        assert_eq!(
            shifts(&USUAL, 10, 224),
            [0, 11, 22, 33, 45, 56, 67, 78, 90, 101]
        );
        let bits = |space: &Space, bins| {
            let at = |at| space.magnitude(Posterize, bins, at, (1, 1)).unwrap() as u32;
            (0..bins).map(at).collect::<Vec<_>>()
        };
        assert_eq!(bits(&USUAL, 10), [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]);
    }
}
