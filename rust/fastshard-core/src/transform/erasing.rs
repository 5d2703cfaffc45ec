//! Random erasing (Zhong, Zheng, Kang, Li, Yang, 2020), with torchvision's boxes.

use serde::{Deserialize, Serialize};

use super::effect::{Erase, Paint};
use super::limits::check;
use super::recipe::Recipe;
use crate::error::Result;
use crate::pixels::Rect;
use crate::random::Draws;

/// Paints a random rectangle over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct RandomErasing {
    pub p: f64,
    pub scale: [f64; 2],
    /// Of height to width.
    pub ratio: [f64; 2],
    pub value: Value,
}

/// What the rectangle is painted with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// Noise.
    Random,
    /// A value a channel, or one for all.
    #[serde(untagged)]
    Fixed(Vec<f32>),
}

impl RandomErasing {
    pub(super) fn check(&self) -> Result<()> {
        let Self {
            p,
            scale: [low, high],
            ..
        } = *self;
        check((0.0..=1.0).contains(&p), || {
            format!("RandomErasing: p {p}, expected a probability from 0 to 1")
        })?;
        check(0.0 <= low && low <= high && high <= 1.0, || {
            format!("RandomErasing: scale ({low}, {high}), expected 0 <= low <= high <= 1")
        })?;
        let [low, high] = self.ratio;
        check(0.0 < low && low <= high && high <= 1e6, || {
            format!("RandomErasing: ratio ({low}, {high}), expected 0 < low <= high <= 1e6")
        })
    }

    /// Checks the values against pixels of so many channels, each of them within a range.
    pub(crate) fn check_value(&self, channels: usize, most: Option<f32>) -> Result<()> {
        let Value::Fixed(values) = &self.value else {
            return Ok(());
        };
        check(values.len() == 1 || values.len() == channels, || {
            format!("RandomErasing: value {values:?}, expected one number or {channels}")
        })?;
        let fits = |value: &f32| match most {
            Some(most) => (0.0..=most).contains(value),
            None => value.is_finite(),
        };
        check(values.iter().all(fits), || {
            let limit = most.map_or("finite numbers".to_owned(), |most| format!("0 to {most}"));
            format!("RandomErasing: value {values:?}, expected {limit} at this place of the list")
        })
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        if draws.unit() >= self.p {
            return;
        }
        if let Some(area) = self.area(recipe.size(), draws) {
            let paint = match &self.value {
                Value::Fixed(values) => Paint::Values(values.clone()),
                Value::Random => Paint::Noise(draws.fork()),
            };
            recipe.erase(Erase { area, paint });
        }
    }

    /// Ten tries, as in torchvision; the rectangle must be smaller than the image both ways.
    fn area(&self, (width, height): (u32, u32), draws: &mut Draws) -> Option<Rect> {
        let [log_low, log_high] = self.ratio.map(f64::ln);
        (0..10).find_map(|_| {
            let area = f64::from(width) * f64::from(height);
            let area = area * draws.uniform(self.scale[0], self.scale[1]);
            let aspect = draws.uniform(log_low, log_high).exp();
            let h = (area * aspect).sqrt().round_ties_even() as u32;
            let w = (area / aspect).sqrt().round_ties_even() as u32;
            (h < height && w < width).then(|| Rect {
                y: draws.below(height - h + 1),
                x: draws.below(width - w + 1),
                width: w,
                height: h,
            })
        })
    }
}
