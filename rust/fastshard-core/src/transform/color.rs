//! The operations that draw an effect's parameters.

use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::limits::check;
use super::recipe::Recipe;
use crate::error::Result;
use crate::random::Draws;

/// The largest kernel; a Gaussian of that size flattens any image that a model sees.
const MAX_KERNEL: u32 = 1023;

/// Ranges that factors are drawn from; what has none stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct ColorJitter {
    pub brightness: Option<[f64; 2]>,
    pub contrast: Option<[f64; 2]>,
    pub saturation: Option<[f64; 2]>,
    /// Parts of the circle.
    pub hue: Option<[f64; 2]>,
}

impl ColorJitter {
    pub(super) fn check(&self) -> Result<()> {
        let ranges = [self.brightness, self.contrast, self.saturation];
        let limits = [
            (0.0, f64::MAX),
            (0.0, f64::MAX),
            (0.0, f64::MAX),
            (-0.5, 0.5),
        ];
        let named = ["brightness", "contrast", "saturation", "hue"];
        for ((range, (least, most)), name) in
            ranges.into_iter().chain([self.hue]).zip(limits).zip(named)
        {
            let holds = |[low, high]: [f64; 2]| least <= low && low <= high && high <= most;
            check(range.is_none_or(holds), || {
                format!("ColorJitter: {name} {range:?}, expected {least} <= low <= high <= {most}")
            })?;
        }
        Ok(())
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        let mut draw = |range: Option<[f64; 2]>| range.map(|[low, high]| draws.uniform(low, high));
        let drawn = [
            draw(self.brightness).map(Effect::Brightness),
            draw(self.contrast).map(Effect::Contrast),
            draw(self.saturation).map(Effect::Saturation),
            draw(self.hue).map(Effect::Hue),
        ];
        let mut drawn: Vec<_> = drawn.into_iter().flatten().collect();
        // Any order of some of the four is as likely as any other.
        while !drawn.is_empty() {
            let next = draws.below(drawn.len() as u32) as usize;
            recipe.add(drawn.remove(next));
        }
    }
}

/// A blur whose standard deviation is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Width and height.
    pub kernel_size: [u32; 2],
    /// Range of the standard deviation.
    pub sigma: [f64; 2],
}

impl GaussianBlur {
    pub(super) fn check(&self) -> Result<()> {
        let odd = |side: &u32| side % 2 == 1 && *side <= MAX_KERNEL;
        check(self.kernel_size.iter().all(odd), || {
            format!(
                "GaussianBlur: kernel_size {:?}, expected odd numbers up to {MAX_KERNEL}",
                self.kernel_size
            )
        })?;
        let [low, high] = self.sigma;
        check(0.0 < low && low <= high && high.is_finite(), || {
            format!("GaussianBlur: sigma ({low}, {high}), expected 0 < low <= high")
        })
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        recipe.add(Effect::Blur {
            kernel: self.kernel_size,
            sigma: draws.uniform(self.sigma[0], self.sigma[1]),
        });
    }
}

/// Refuses parameters that an effect can't have.
pub(super) fn check_effect(effect: &Effect) -> Result<()> {
    match effect {
        Effect::Posterize(bits) => check(*bits <= 8, || {
            format!("RandomPosterize: bits {bits}, expected 0 to 8")
        }),
        Effect::Solarize(threshold) => check(*threshold <= 255.0, || {
            format!("RandomSolarize: threshold {threshold}, expected at most 255")
        }),
        Effect::Sharpness(factor) => check(*factor >= 0.0 && factor.is_finite(), || {
            format!("RandomAdjustSharpness: sharpness_factor {factor}, expected at least 0")
        }),
        _ => Ok(()),
    }
}
