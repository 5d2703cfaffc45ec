//! The operations as a user lists them, and what each does to one sample.

mod arguments;

use serde::{Deserialize, Serialize};

use super::augment::{AutoAugment, RandAugment, TrivialAugmentWide};
use super::boxes::{center_crop, letterbox, random_box, shorter_side};
use super::color::{ColorJitter, GaussianBlur};
use super::decode::DecodeOptions;
use super::effect::Effect;
use super::erasing::RandomErasing;
use super::limits::{MAX_CANVAS, check, check_sides};
use super::mosaic::Mosaic;
use super::nested::{RandomApply, RandomChoice};
use super::random_warp::{RandomAffine, RandomPerspective, RandomRotation};
use super::recipe::Recipe;
use super::{Filter, Interpolation, Mask};
use crate::error::Result;
use crate::random::Draws;
use crate::schema::Dtype;

/// Going where another field's image goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The other field.
    pub field: String,
    /// How this one is sampled, and its values left alone; without, all of the list is done to it.
    pub mask: Option<Mask>,
}

/// One entry of a field's transform list. Sizes are (height, width), as in torchvision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub enum Operation {
    Decode(DecodeOptions),
    Resize {
        /// Exact (height, width), or one number: the shorter side.
        size: Vec<u32>,
        #[serde(default)]
        max_size: Option<u32>,
        interpolation: Interpolation,
        antialias: bool,
    },
    /// Fits the image into the size and centres it on the fill (letterbox).
    ResizePad {
        size: [u32; 2],
        fill: Vec<u16>,
        interpolation: Interpolation,
    },
    /// left, top, right, bottom
    Pad {
        padding: [u32; 4],
        fill: Vec<u16>,
    },
    CenterCrop {
        size: [u32; 2],
    },
    RandomCrop {
        size: [u32; 2],
    },
    RandomResizedCrop {
        size: [u32; 2],
        scale: [f64; 2],
        ratio: [f64; 2],
        interpolation: Interpolation,
        antialias: bool,
    },
    RandomHorizontalFlip {
        p: f64,
    },
    RandomVerticalFlip {
        p: f64,
    },
    RandomRotation(RandomRotation),
    RandomAffine(RandomAffine),
    RandomPerspective(RandomPerspective),
    Grayscale {
        num_output_channels: usize,
    },
    RandomGrayscale {
        p: f64,
    },
    RandomInvert {
        p: f64,
    },
    RandomPosterize {
        bits: u32,
        p: f64,
    },
    RandomSolarize {
        threshold: f64,
        p: f64,
    },
    RandomAutocontrast {
        p: f64,
    },
    RandomEqualize {
        p: f64,
    },
    RandomAdjustSharpness {
        sharpness_factor: f64,
        p: f64,
    },
    ColorJitter(ColorJitter),
    GaussianBlur(GaussianBlur),
    RandomErasing(RandomErasing),
    RandAugment(RandAugment),
    TrivialAugmentWide(TrivialAugmentWide),
    AutoAugment(AutoAugment),
    RandomApply(RandomApply),
    RandomChoice(RandomChoice),
    /// With three other images of the dataset.
    Mosaic(Mosaic),
    /// What another field's list does to its image, with the same random numbers.
    Follow(Follow),
    ToDtype {
        dtype: Dtype,
        scale: bool,
    },
    Normalize {
        mean: Vec<f32>,
        std: Vec<f32>,
    },
}

impl Operation {
    /// An effect without random parameters, and its probability.
    fn chance(&self) -> Option<(f64, Effect)> {
        Some(match *self {
            Self::RandomGrayscale { p } => (p, Effect::Grayscale),
            Self::RandomInvert { p } => (p, Effect::Invert),
            Self::RandomPosterize { bits, p } => (p, Effect::Posterize(bits)),
            Self::RandomSolarize { threshold, p } => (p, Effect::Solarize(threshold)),
            Self::RandomAutocontrast { p } => (p, Effect::Autocontrast),
            Self::RandomEqualize { p } => (p, Effect::Equalize),
            Self::RandomAdjustSharpness {
                sharpness_factor,
                p,
            } => (p, Effect::Sharpness(sharpness_factor)),
            _ => return None,
        })
    }

    /// Leaves everything as it is, and is neither random nor an effect.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Pad {
            padding: [0; 4],
            fill: vec![0],
        }
    }

    /// The operations in it, or just itself.
    #[must_use]
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::RandomApply(RandomApply { transforms, .. })
            | Self::RandomChoice(RandomChoice { transforms, .. }) => {
                transforms.iter().flat_map(Self::parts).collect()
            }
            _ => vec![self],
        }
    }

    /// Whether it moves pixels, by what the image's size says and nothing else.
    #[must_use]
    pub fn is_fixed_geometry(&self) -> bool {
        matches!(
            self,
            Self::Resize { .. }
                | Self::ResizePad { .. }
                | Self::CenterCrop { .. }
                | Self::Pad { .. }
        )
    }

    /// Whether it does nothing but move pixels.
    #[must_use]
    pub fn is_geometry(&self) -> bool {
        let moves = |part: &Self| {
            matches!(
                part,
                Self::RandomCrop { .. }
                    | Self::RandomResizedCrop { .. }
                    | Self::RandomHorizontalFlip { .. }
                    | Self::RandomVerticalFlip { .. }
                    | Self::RandomRotation(_)
                    | Self::RandomAffine(_)
                    | Self::RandomPerspective(_)
            )
        };
        let fits = |part: &Self| part.is_fixed_geometry() || moves(part);
        self.parts().into_iter().all(fits)
    }

    /// Whether it, or anything in it, makes images smaller or larger by resampling.
    #[must_use]
    pub fn resizes(&self) -> bool {
        let resizes = |part: &&Self| {
            matches!(
                part,
                Self::Resize { .. }
                    | Self::ResizePad { .. }
                    | Self::RandomResizedCrop { .. }
                    | Self::Mosaic(_)
            )
        };
        self.parts().iter().any(resizes)
    }

    /// Whether it changes pixel values, and so needs pixels of 8 bits.
    #[must_use]
    pub fn is_effect(&self) -> bool {
        let changes = |part: &Self| {
            part.chance().is_some()
                || matches!(
                    part,
                    Self::ColorJitter(_)
                        | Self::GaussianBlur(_)
                        | Self::RandomErasing(_)
                        | Self::RandAugment(_)
                        | Self::TrivialAugmentWide(_)
                        | Self::AutoAugment(_)
                )
        };
        // A list has gray images turn up in it, which those at its top level leave to the end.
        let gray = |part: &Self| matches!(part, Self::Grayscale { .. });
        self.parts()
            .into_iter()
            .any(|part| changes(part) || (gray(part) && !gray(self)))
    }

    /// The value of what comes in from outside of the image.
    #[must_use]
    pub fn fill(&self) -> Option<&[u16]> {
        match self {
            Self::Pad { fill, .. } | Self::ResizePad { fill, .. } => Some(fill),
            Self::Mosaic(mosaic) => Some(&mosaic.fill),
            Self::RandomRotation(rotation) => Some(&rotation.fill),
            Self::RandomAffine(affine) => Some(&affine.fill),
            Self::RandomPerspective(perspective) => Some(&perspective.fill),
            Self::RandAugment(RandAugment { look, .. })
            | Self::TrivialAugmentWide(TrivialAugmentWide { look, .. })
            | Self::AutoAugment(AutoAugment { look, .. }) => Some(&look.fill),
            _ => None,
        }
    }

    /// (height, width) of the result, given those of the input where all inputs share them.
    #[must_use]
    pub fn output_size(&self, input: Option<[u32; 2]>) -> Option<[u32; 2]> {
        match self {
            Self::Resize { size, max_size, .. } => match size[..] {
                [height, width] => Some([height, width]),
                _ => input.map(|[height, width]| shorter_side(width, height, size[0], *max_size)),
            },
            Self::ResizePad { size, .. }
            | Self::CenterCrop { size }
            | Self::RandomCrop { size }
            | Self::RandomResizedCrop { size, .. } => Some(*size),
            Self::Pad {
                padding: [left, top, right, bottom],
                ..
            } => input.map(|[height, width]| {
                let sum = |side: u32, border: [u32; 2]| {
                    side.saturating_add(border[0]).saturating_add(border[1])
                };
                [sum(height, [*top, *bottom]), sum(width, [*left, *right])]
            }),
            Self::RandomApply(list) => list.output_size(input),
            Self::RandomChoice(list) => list.output_size(input),
            Self::Mosaic(mosaic) => Some(mosaic.canvas()),
            Self::RandomRotation(RandomRotation { expand: true, .. }) => None,
            _ => input,
        }
    }

    /// Adds the operation, with its random numbers drawn, to one sample's recipe.
    pub fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) -> Result<()> {
        let (width, height) = recipe.size();
        check(width.max(height) <= MAX_CANVAS, || {
            format!(
                "an image of {height} x {width} (height x width), expected sides of at most {MAX_CANVAS} pixels"
            )
        })?;
        match self {
            Self::Resize {
                size,
                max_size,
                interpolation,
                antialias,
            } => {
                let [h, w] = match size[..] {
                    [h, w] => [h, w],
                    _ => shorter_side(width, height, size[0], *max_size),
                };
                check_sides("Resize (for this image)", &[h, w])?;
                recipe.canvas().resize(
                    w,
                    h,
                    Filter {
                        interpolation: *interpolation,
                        antialias: *antialias,
                    },
                );
            }
            Self::ResizePad {
                size: [h, w],
                fill,
                interpolation,
            } => {
                letterbox(
                    recipe.canvas(),
                    *w,
                    *h,
                    fill,
                    Filter {
                        interpolation: *interpolation,
                        antialias: true,
                    },
                );
            }
            Self::Pad {
                padding: [left, top, right, bottom],
                fill,
            } => recipe.canvas().pad([*left, *top, *right, *bottom], fill),
            Self::CenterCrop { size: [h, w] } => center_crop(recipe.canvas(), *w, *h),
            Self::RandomCrop { size: [h, w] } => {
                check(*w <= width && *h <= height, || {
                    format!(
                        "RandomCrop of {h} x {w} (height x width) from an image of {height} x {width}"
                    )
                })?;
                let (x, y) = (draws.below(width - w + 1), draws.below(height - h + 1));
                recipe.canvas().crop(x.into(), y.into(), *w, *h);
            }
            Self::RandomResizedCrop {
                size: [h, w],
                scale,
                ratio,
                interpolation,
                antialias,
            } => {
                let [x, y, crop_width, crop_height] =
                    random_box(width, height, *scale, *ratio, draws);
                recipe
                    .canvas()
                    .crop(x.into(), y.into(), crop_width, crop_height);
                recipe.canvas().resize(
                    *w,
                    *h,
                    Filter {
                        interpolation: *interpolation,
                        antialias: *antialias,
                    },
                );
            }
            Self::RandomHorizontalFlip { p } => {
                if draws.unit() < *p {
                    recipe.canvas().flip_horizontally();
                }
            }
            Self::RandomVerticalFlip { p } => {
                if draws.unit() < *p {
                    recipe.canvas().flip_vertically();
                }
            }
            // Whoever joins images draws before, and comes here where this one stays alone.
            Self::Mosaic(mosaic) => mosaic.alone(recipe.canvas()),
            Self::RandomRotation(rotation) => rotation.apply(recipe.canvas(), draws)?,
            Self::RandomAffine(affine) => affine.apply(recipe.canvas(), draws),
            Self::RandomPerspective(perspective) => perspective.apply(recipe, draws),
            _ => self.apply_to_pixels(recipe, draws)?,
        }
        Ok(())
    }

    fn apply_to_pixels(&self, recipe: &mut Recipe, draws: &mut Draws) -> Result<()> {
        match self {
            Self::ColorJitter(jitter) => jitter.apply(recipe, draws),
            Self::GaussianBlur(blur) => blur.apply(recipe, draws),
            Self::RandomErasing(erasing) => erasing.apply(recipe, draws),
            Self::RandAugment(augment) => augment.apply(recipe, draws),
            Self::TrivialAugmentWide(augment) => augment.apply(recipe, draws),
            Self::AutoAugment(augment) => augment.apply(recipe, draws),
            Self::RandomApply(list) => list.apply(recipe, draws)?,
            Self::RandomChoice(list) => list.apply(recipe, draws)?,
            Self::Grayscale {
                num_output_channels,
            } => recipe.add(match num_output_channels {
                1 => Effect::Luma,
                _ => Effect::Grayscale,
            }),
            Self::ToDtype { .. } | Self::Normalize { .. } => recipe.finish(),
            // Decoding comes before anything else.
            _ => {
                if let Some((p, effect)) = self.chance()
                    && draws.unit() < p
                {
                    recipe.add(effect);
                }
            }
        }
        Ok(())
    }
}
