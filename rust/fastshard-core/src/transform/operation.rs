//! The operations as a user lists them, and what each does to one sample.

use serde::{Deserialize, Serialize};

use super::augment::{AutoAugment, RandAugment, TrivialAugmentWide};
use super::boxes::{center_crop, letterbox, random_box, shorter_side};
use super::color::{ColorJitter, GaussianBlur, check_effect};
use super::effect::Effect;
use super::erasing::RandomErasing;
use super::mosaic::Mosaic;
use super::nested::{RandomApply, RandomChoice};
use super::random_warp::{RandomAffine, RandomPerspective, RandomRotation};
use super::recipe::Recipe;
use super::{Filter, Interpolation, Mask};
use crate::codec::MAX_PIXELS;
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat};
use crate::random::Draws;
use crate::schema::Dtype;

/// The largest side of an output; far beyond any model's input, well below what overflows.
pub(super) const MAX_SIDE: u32 = 1 << 15;
/// Of what earlier operations made: whatever is added to it fits in 32 bits.
const MAX_CANVAS: u32 = 1 << 28;

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

/// How encoded images become pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecodeOptions {
    /// RGB or gray.
    pub mode: Mode,
    /// `uint8` or `uint16`.
    pub dtype: Dtype,
    /// Turn the image as its EXIF data says.
    pub exif_orientation: bool,
    /// Refuse larger images from their header.
    pub max_pixels: u64,
    /// Decode JPEGs 2, 4 or 8 times smaller where they are to be made at least that much smaller.
    pub scaled: bool,
}

/// Channels of a decoded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Three channels.
    Rgb,
    /// One.
    Gray,
    /// One: numbers in a palette.
    Palette,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Rgb,
            dtype: Dtype::Uint8,
            exif_orientation: false,
            max_pixels: MAX_PIXELS,
            scaled: true,
        }
    }
}

impl DecodeOptions {
    fn check(&self) -> Result<()> {
        let wide = self.dtype == Dtype::Uint16 && self.mode != Mode::Palette;
        check(self.dtype == Dtype::Uint8 || wide, || {
            format!(
                "Decode: dtype {}, expected uint8, or uint16 where it isn't numbers in a palette",
                self.dtype.name()
            )
        })
    }

    /// The pixels that come out.
    #[must_use]
    pub fn format(&self) -> PixelFormat {
        PixelFormat {
            channels: if self.mode == Mode::Rgb { 3 } else { 1 },
            depth: if self.dtype == Dtype::Uint16 {
                Depth::Sixteen
            } else {
                Depth::Eight
            },
        }
    }
}

pub(super) fn check(holds: bool, complaint: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::option(complaint()))
    }
}

fn check_sides(name: &str, sides: &[u32]) -> Result<()> {
    check(
        sides.iter().all(|side| (1..=MAX_SIDE).contains(side)),
        || format!("{name}: size {sides:?}, expected sides of 1 to {MAX_SIDE} pixels"),
    )
}

fn check_range(name: &str, what: &str, [low, high]: [f64; 2], most: f64) -> Result<()> {
    check(low > 0.0 && low <= high && high <= most, || {
        format!("{name}: {what} ({low}, {high}), expected 0 < low <= high <= {most}")
    })
}

fn check_dtype(dtype: Dtype) -> Result<()> {
    let fits = matches!(
        dtype,
        Dtype::Uint8 | Dtype::Uint16 | Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32
    );
    check(fits, || {
        format!(
            "ToDtype: dtype {}, expected uint8, uint16, float16, bfloat16 or float32",
            dtype.name()
        )
    })
}

fn check_normalize(mean: &[f32], std: &[f32]) -> Result<()> {
    let fits = mean.len() == std.len()
        && matches!(mean.len(), 1 | 3)
        && std.iter().all(|&s| s.is_finite() && s != 0.0);
    check(fits, || {
        format!(
            "Normalize: mean {mean:?} and std {std:?}, expected as many of each as channels and no zero std"
        )
    })
}

impl Operation {
    /// Refuses impossible arguments, naming them.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Decode(options) => options.check(),
            Self::Resize { size, max_size, .. } => {
                check(matches!(size.len(), 1 | 2), || {
                    format!("Resize: size {size:?}, expected one or two numbers")
                })?;
                check_sides("Resize", size)?;
                check_sides("Resize max_size", max_size.as_slice())?;
                check(
                    max_size.is_none_or(|most| size.len() == 1 && most > size[0]),
                    || {
                        format!(
                            "Resize: max_size {max_size:?} must be larger than a single size, got size {size:?}"
                        )
                    },
                )
            }
            Self::ResizePad { size, .. } => check_sides("ResizePad", size),
            Self::CenterCrop { size } => check_sides("CenterCrop", size),
            Self::RandomCrop { size } => check_sides("RandomCrop", size),
            Self::RandomResizedCrop {
                size, scale, ratio, ..
            } => {
                check_sides("RandomResizedCrop", size)?;
                check_range("RandomResizedCrop", "scale", *scale, 1.0)?;
                check_range("RandomResizedCrop", "ratio", *ratio, 1e6)
            }
            Self::Pad { padding, .. } => {
                check(padding.iter().all(|&side| side <= MAX_SIDE), || {
                    format!("Pad: padding {padding:?}, expected at most {MAX_SIDE} pixels a side")
                })
            }
            Self::RandomRotation(rotation) => rotation.check(),
            Self::RandomAffine(affine) => affine.check(),
            Self::RandomPerspective(perspective) => perspective.check(),
            Self::ColorJitter(jitter) => jitter.check(),
            Self::GaussianBlur(blur) => blur.check(),
            Self::RandomErasing(erasing) => erasing.check(),
            Self::RandAugment(augment) => augment.check(),
            Self::TrivialAugmentWide(augment) => augment.check(),
            Self::AutoAugment(augment) => augment.check(),
            Self::RandomApply(list) => list.check(),
            Self::RandomChoice(list) => list.check(),
            Self::Mosaic(mosaic) => mosaic.check(),
            Self::Follow(follow) => check(false, || {
                format!(
                    "Follow({:?}): only loaders have another field to follow",
                    follow.field
                )
            }),
            Self::RandomGrayscale { p }
            | Self::RandomInvert { p }
            | Self::RandomPosterize { p, .. }
            | Self::RandomSolarize { p, .. }
            | Self::RandomAutocontrast { p }
            | Self::RandomEqualize { p }
            | Self::RandomAdjustSharpness { p, .. }
            | Self::RandomHorizontalFlip { p }
            | Self::RandomVerticalFlip { p } => {
                if let Some((_, effect)) = self.chance() {
                    check_effect(&effect)?;
                }
                check((0.0..=1.0).contains(p), || {
                    format!("p is {p}, expected a probability from 0 to 1")
                })
            }
            Self::Grayscale {
                num_output_channels: n,
            } => check(matches!(n, 1 | 3), || {
                format!("Grayscale: num_output_channels {n}, expected 1 or 3")
            }),
            Self::ToDtype { dtype, .. } => check_dtype(*dtype),
            Self::Normalize { mean, std } => check_normalize(mean, std),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_impossible_arguments() {
        for json in [
            r#"{"op":"center_crop","size":[0,5]}"#,
            r#"{"op":"resize","size":[1,2,3],"interpolation":"bilinear","antialias":true}"#,
            r#"{"op":"resize","size":[64],"max_size":32,"interpolation":"bilinear","antialias":true}"#,
            r#"{"op":"random_resized_crop","size":[9,9],"scale":[1,0.5],"ratio":[1,1],"interpolation":"bilinear","antialias":true}"#,
            r#"{"op":"random_horizontal_flip","p":1.5}"#,
            r#"{"op":"grayscale","num_output_channels":2}"#,
            r#"{"op":"to_dtype","dtype":"int64","scale":true}"#,
            r#"{"op":"normalize","mean":[0.5],"std":[0]}"#,
            r#"{"op":"decode","dtype":"float32"}"#,
        ] {
            let operation: Operation = serde_json::from_str(json).unwrap();
            assert!(operation.check().is_err(), "{json}");
        }
        assert!(
            serde_json::from_str::<Operation>(r#"{"op":"center_crop","size":[1,1],"x":1}"#)
                .is_err()
        );
    }
}
