//! Which arguments of operations are impossible.

use super::Operation;
use crate::error::Result;
use crate::schema::Dtype;
use crate::transform::color::check_effect;
use crate::transform::limits::{MAX_SIDE, check, check_range, check_sides};

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
