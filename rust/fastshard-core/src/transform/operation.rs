//! The operations as a user lists them, and what each does to one sample.

use serde::{Deserialize, Serialize};

use super::geometry::Canvas;
use super::{Filter, Interpolation};
use crate::codec::MAX_PIXELS;
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat};
use crate::random::Draws;
use crate::schema::Dtype;

/// The largest side of an output; far beyond any model's input, well below what overflows.
const MAX_SIDE: u32 = 1 << 15;

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
    Grayscale {
        num_output_channels: usize,
    },
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
}

/// Channels of a decoded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Three channels.
    Rgb,
    /// One.
    Gray,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Rgb,
            dtype: Dtype::Uint8,
            exif_orientation: false,
            max_pixels: MAX_PIXELS,
        }
    }
}

impl DecodeOptions {
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

fn check(holds: bool, complaint: impl FnOnce() -> String) -> Result<()> {
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

impl Operation {
    /// Refuses impossible arguments, naming them.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Decode(options) => check(
                matches!(options.dtype, Dtype::Uint8 | Dtype::Uint16),
                || {
                    format!(
                        "Decode: dtype {}, expected uint8 or uint16",
                        options.dtype.name()
                    )
                },
            ),
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
            Self::RandomHorizontalFlip { p } | Self::RandomVerticalFlip { p } => {
                check((0.0..=1.0).contains(p), || {
                    format!("flip: p {p}, expected a probability from 0 to 1")
                })
            }
            Self::Grayscale {
                num_output_channels: n,
            } => check(matches!(n, 1 | 3), || {
                format!("Grayscale: num_output_channels {n}, expected 1 or 3")
            }),
            Self::ToDtype { dtype, .. } => check(
                matches!(
                    dtype,
                    Dtype::Uint8 | Dtype::Uint16 | Dtype::Float16 | Dtype::Float32
                ),
                || {
                    format!(
                        "ToDtype: dtype {}, expected uint8, uint16, float16 or float32",
                        dtype.name()
                    )
                },
            ),
            Self::Normalize { mean, std } => check(
                mean.len() == std.len()
                    && matches!(mean.len(), 1 | 3)
                    && std.iter().all(|&s| s.is_finite() && s != 0.0),
                || {
                    format!(
                        "Normalize: mean {mean:?} and std {std:?}, expected as many of each as channels and no zero std"
                    )
                },
            ),
        }
    }

    /// Whether it moves pixels, and so belongs before those that change values.
    #[must_use]
    pub fn is_geometric(&self) -> bool {
        !matches!(
            self,
            Self::Decode(_)
                | Self::Grayscale { .. }
                | Self::ToDtype { .. }
                | Self::Normalize { .. }
        )
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
            } => input.map(|[height, width]| [height + top + bottom, width + left + right]),
            _ => input,
        }
    }

    /// Applies a geometric operation to one sample's canvas.
    pub fn apply(&self, canvas: &mut Canvas, draws: &mut Draws) -> Result<()> {
        let (width, height) = canvas.size();
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
                canvas.resize(
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
                    canvas,
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
            } => canvas.pad([*left, *top, *right, *bottom], fill),
            Self::CenterCrop { size: [h, w] } => center_crop(canvas, *w, *h),
            Self::RandomCrop { size: [h, w] } => {
                check(*w <= width && *h <= height, || {
                    format!(
                        "RandomCrop of {h} x {w} (height x width) from an image of {height} x {width}"
                    )
                })?;
                let (x, y) = (draws.below(width - w + 1), draws.below(height - h + 1));
                canvas.crop(x.into(), y.into(), *w, *h);
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
                canvas.crop(x.into(), y.into(), crop_width, crop_height);
                canvas.resize(
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
                    canvas.flip_horizontally();
                }
            }
            Self::RandomVerticalFlip { p } => {
                if draws.unit() < *p {
                    canvas.flip_vertically();
                }
            }
            Self::Decode(_)
            | Self::Grayscale { .. }
            | Self::ToDtype { .. }
            | Self::Normalize { .. } => {}
        }
        Ok(())
    }
}

/// torchvision's `_compute_resized_output_size`: the longer side is truncated, and so bounded by `max_size`.
fn shorter_side(width: u32, height: u32, size: u32, max_size: Option<u32>) -> [u32; 2] {
    let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
    let scaled =
        |side: u64, by: u64, of: u64| (side * by / of).clamp(1, u64::from(u32::MAX)) as u32;
    let (mut new_short, mut new_long) = (size, scaled(size.into(), long, short));
    if let Some(most) = max_size.filter(|&most| new_long > most) {
        (new_short, new_long) = (scaled(most.into(), new_short.into(), new_long.into()), most);
    }
    if width <= height {
        [new_long, new_short]
    } else {
        [new_short, new_long]
    }
}

/// torchvision's `center_crop`: rounds half to even, pads with zeros where the image is smaller.
fn center_crop(canvas: &mut Canvas, width: u32, height: u32) {
    let (image_width, image_height) = canvas.size();
    let (lack_x, lack_y) = (
        width.saturating_sub(image_width),
        height.saturating_sub(image_height),
    );
    if lack_x > 0 || lack_y > 0 {
        canvas.pad(
            [
                lack_x / 2,
                lack_y / 2,
                lack_x.div_ceil(2),
                lack_y.div_ceil(2),
            ],
            &[0],
        );
    }
    let (image_width, image_height) = canvas.size();
    let middle = |outer: u32, inner: u32| (f64::from(outer - inner) / 2.0).round_ties_even() as i64;
    canvas.crop(
        middle(image_width, width),
        middle(image_height, height),
        width,
        height,
    );
}

fn letterbox(canvas: &mut Canvas, width: u32, height: u32, fill: &[u16], filter: Filter) {
    let (image_width, image_height) = canvas.size();
    let scale = (f64::from(width) / f64::from(image_width))
        .min(f64::from(height) / f64::from(image_height));
    let fit = |side: u32, most: u32| ((f64::from(side) * scale).round() as u32).clamp(1, most);
    let (w, h) = (fit(image_width, width), fit(image_height, height));
    canvas.resize(w, h, filter);
    let (left, top) = ((width - w) / 2, (height - h) / 2);
    canvas.pad([left, top, width - w - left, height - h - top], fill);
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest centred box of an allowed ratio.
/// Gives x, y, width, height.
fn random_box(
    width: u32,
    height: u32,
    scale: [f64; 2],
    ratio: [f64; 2],
    draws: &mut Draws,
) -> [u32; 4] {
    let (w, h) = (f64::from(width), f64::from(height));
    let (log_low, log_high) = (ratio[0].ln(), ratio[1].ln());
    for _ in 0..10 {
        let area = w * h * draws.uniform(scale[0], scale[1]);
        let aspect = draws.uniform(log_low, log_high).exp();
        let crop_width = (area * aspect).sqrt().round_ties_even();
        let crop_height = (area / aspect).sqrt().round_ties_even();
        if (1.0..=w).contains(&crop_width) && (1.0..=h).contains(&crop_height) {
            let (crop_width, crop_height) = (crop_width as u32, crop_height as u32);
            let y = draws.below(height - crop_height + 1);
            let x = draws.below(width - crop_width + 1);
            return [x, y, crop_width, crop_height];
        }
    }
    let (crop_width, crop_height) = if w / h < ratio[0] {
        (w, (w / ratio[0]).round_ties_even())
    } else if w / h > ratio[1] {
        ((h * ratio[1]).round_ties_even(), h)
    } else {
        (w, h)
    };
    let (crop_width, crop_height) = (
        (crop_width as u32).clamp(1, width),
        (crop_height as u32).clamp(1, height),
    );
    [
        (width - crop_width) / 2,
        (height - crop_height) / 2,
        crop_width,
        crop_height,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn shorter_sides_are_torchvisions() {
        // torchvision.transforms.functional._compute_resized_output_size
        assert_eq!(shorter_side(500, 375, 256, None), [256, 341]);
        assert_eq!(shorter_side(375, 500, 256, None), [341, 256]);
        assert_eq!(shorter_side(400, 400, 256, None), [256, 256]);
        assert_eq!(shorter_side(1000, 200, 100, Some(300)), [60, 300]);
    }

    #[test]
    fn random_boxes_stay_inside_and_vary() {
        let mut areas = Vec::new();
        for row in 0..2000 {
            let mut draws = Draws::new(
                Key {
                    seed: 1,
                    epoch: 0,
                    row,
                    field: 0,
                },
                0,
            );
            let [x, y, w, h] = random_box(500, 375, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut draws);
            assert!(w > 0 && h > 0 && x + w <= 500 && y + h <= 375);
            areas.push(f64::from(w * h) / (500.0 * 375.0));
        }
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        // 20,000 draws of torchvision.transforms.v2.RandomResizedCrop.make_params on this size average 0.4348.
        assert!((0.425..0.445).contains(&mean), "mean area {mean}");
    }

    #[test]
    fn impossible_ratios_fall_back_to_the_centre() {
        let mut draws = Draws::new(
            Key {
                seed: 1,
                epoch: 0,
                row: 0,
                field: 0,
            },
            0,
        );
        assert_eq!(
            random_box(1000, 10, [0.5, 1.0], [0.75, 4.0 / 3.0], &mut draws),
            [493, 0, 13, 10]
        );
        assert_eq!(
            random_box(10, 1000, [0.5, 1.0], [0.75, 4.0 / 3.0], &mut draws),
            [0, 493, 10, 13]
        );
    }

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
