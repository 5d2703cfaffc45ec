//! Running a stage: source pixels in, a view of the resized image out.
//!
//! | the stage | what runs |
//! |---|---|
//! | warps | [`sample`] |
//! | resizes 8-bit pixels, with any filter but nearest | [`convolve`](super::convolve) |
//! | resizes 16-bit pixels, or takes nearest neighbours | the crate `fast_image_resize` |
//! | only crops, pads or flips | copies of rows |
//!
//! # Coordinates
//!
//! Three rectangles meet here. `stage.source` is the part of the input that filters may see. `source.area` is what the
//! decoder gave, in pixels that it may have made `reduce` times smaller. `shown` is the part of the resized image that
//! the view shows. An output of `shown` is found in the source by the scale of the whole resize, and then counted from
//! the first decoded pixel. So neither the crop nor the decoded part moves a sampling point, but for rounding.
//!
//! # Borders and flips
//!
//! Where the view reaches beyond the resized image, the whole view is filled first. The convolution mirrors as it
//! writes; after all others, the view is mirrored in place.

use fast_image_resize as fir;
use fast_image_resize::images::{CroppedImage, CroppedImageMut, Image as FirImage, ImageRef};

use super::convolve::{Axis, Convolution, Image, Target};
use super::geometry::Stage;
use super::interpolation::{Filter, Interpolation};
use super::sample;
use super::source::Source;
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat, Rect};

/// One thread's resampler, which keeps its intermediate images.
#[derive(Debug, Default)]
pub struct Resampler {
    convolution: Convolution,
    /// For resizes that the convolution can't do: 16 bits, and nearest neighbours.
    resizer: fir::Resizer,
}

fn convolves(filter: Filter, format: PixelFormat) -> bool {
    format.depth == Depth::Eight && filter.interpolation != Interpolation::Nearest
}

fn pixel_type(format: PixelFormat) -> fir::PixelType {
    match (format.channels, format.depth) {
        (1, Depth::Eight) => fir::PixelType::U8,
        (_, Depth::Eight) => fir::PixelType::U8x3,
        (1, Depth::Sixteen) => fir::PixelType::U16,
        (_, Depth::Sixteen) => fir::PixelType::U16x3,
    }
}

fn algorithm(filter: Filter) -> fir::ResizeAlg {
    let kernel = match filter.interpolation {
        Interpolation::Nearest => return fir::ResizeAlg::Nearest,
        Interpolation::Bilinear => fir::FilterType::Bilinear,
        // The parameter of Keys's cubic is -0.5 in PIL and in torchvision with antialiasing, and -0.75 in torch
        // without.
        Interpolation::Bicubic if !filter.antialias => {
            let kernel = fir::Filter::new("cubic -0.75", sharp_cubic, 2.0);
            fir::FilterType::Custom(kernel.expect("a name and a finite support"))
        }
        Interpolation::Bicubic => fir::FilterType::CatmullRom,
        Interpolation::Lanczos => fir::FilterType::Lanczos3,
    };
    if filter.antialias {
        fir::ResizeAlg::Convolution(kernel)
    } else {
        fir::ResizeAlg::Interpolation(kernel)
    }
}

/// Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.75.
fn sharp_cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::decode(format!("resize: {error}"))
}

impl Resampler {
    /// Fills `out`, rows of `stage.view.width` pixels of the source's format.
    pub fn run(&mut self, stage: &Stage, source: Source<'_>, out: &mut [u8]) -> Result<()> {
        let (width, height) = (stage.view.width as usize, stage.view.height as usize);
        let shown = stage.shown();
        if shown.is_none_or(|shown| shown.area() != width * height) {
            fill(out, &stage.fill, source.format);
        }
        match (shown, stage.filter) {
            (Some(shown), Some(filter)) if convolves(filter, source.format) => {
                return self.convolve(stage, filter, shown, source, out);
            }
            (Some(shown), _) => self.draw(stage, shown, source, out)?,
            (None, _) => {}
        }
        mirror(stage, source.format.bytes(), out);
        Ok(())
    }

    /// Resizes the shown part and mirrors it on the way.
    fn convolve(
        &mut self,
        stage: &Stage,
        filter: Filter,
        shown: Rect,
        source: Source<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let size = source.format.bytes();
        let inside = visible(stage, source);
        let [across, down] = axes(stage, filter, shown, source, inside);
        let pitch = source.area.width as usize * size;
        let image = Image {
            pixels: &source.pixels[inside.y as usize * pitch + inside.x as usize * size..],
            pitch,
            width: inside.width as usize,
            channels: source.format.channels,
        };
        let mut left = (i64::from(shown.x) - stage.view.x) as u32;
        let mut top = (i64::from(shown.y) - stage.view.y) as u32;
        if stage.flip_x {
            left = stage.view.width - left - shown.width;
        }
        if stage.flip_y {
            top = stage.view.height - top - shown.height;
        }
        let pitch = stage.view.width as usize * size;
        let mut target = Target {
            pixels: &mut out[top as usize * pitch + left as usize * size..],
            pitch,
        };
        self.convolution.run(image, &across, &down, &mut target)
    }

    /// Frees intermediate memory beyond `keep` bytes, which an unusually large image may have taken.
    pub fn shrink(&mut self, keep: usize) {
        self.convolution.shrink(keep);
    }

    fn draw(
        &mut self,
        stage: &Stage,
        shown: Rect,
        source: Source<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let left = (i64::from(shown.x) - stage.view.x) as u32;
        let top = (i64::from(shown.y) - stage.view.y) as u32;
        if let Some(warp) = &stage.warp {
            return sample::draw(stage, warp, shown, source, out, [left, top]);
        }
        let Some(filter) = stage.filter else {
            copy(stage, shown, source, out, left, top);
            return Ok(());
        };
        let kind = pixel_type(source.format);
        let image = ImageRef::new(source.area.width, source.area.height, source.pixels, kind)
            .map_err(failed)?;
        let reduce = f64::from(source.reduce);
        let inside = visible(stage, source);
        let part = CroppedImage::new(&image, inside.x, inside.y, inside.width, inside.height)
            .map_err(failed)?;
        let mut target = FirImage::from_slice_u8(stage.view.width, stage.view.height, out, kind)
            .map_err(failed)?;
        let mut target = CroppedImageMut::new(&mut target, left, top, shown.width, shown.height)
            .map_err(failed)?;
        let (x, width) = window(stage.source.width, stage.size.0, shown.x, shown.width);
        let (y, height) = window(stage.source.height, stage.size.1, shown.y, shown.height);
        // In decoded pixels, counted from the corner of the visible part.
        let x = (x + f64::from(stage.source.x)) / reduce - f64::from(source.area.x + inside.x);
        let y = (y + f64::from(stage.source.y)) / reduce - f64::from(source.area.y + inside.y);
        let (x, width) = clamp(x, width / reduce, inside.width);
        let (y, height) = clamp(y, height / reduce, inside.height);
        let options = fir::ResizeOptions::new()
            .resize_alg(algorithm(filter))
            .crop(x, y, width, height);
        self.resizer
            .resize(&part, &mut target, &options)
            .map_err(failed)
    }
}

/// The part of the decoded pixels that is in the stage's source, counted from the first decoded pixel.
fn visible(stage: &Stage, source: Source<'_>) -> Rect {
    let Source { area, reduce, .. } = source;
    let x0 = (stage.source.x / reduce).max(area.x);
    let y0 = (stage.source.y / reduce).max(area.y);
    let right = (stage.source.x + stage.source.width).div_ceil(reduce);
    let bottom = (stage.source.y + stage.source.height).div_ceil(reduce);
    let x1 = right.min(area.x + area.width);
    let y1 = bottom.min(area.y + area.height);
    Rect {
        x: x0 - area.x,
        y: y0 - area.y,
        width: x1 - x0,
        height: y1 - y0,
    }
}

/// Both axes of a resize, x and y. `inside` counts from the first decoded pixel.
fn axes(stage: &Stage, filter: Filter, shown: Rect, source: Source<'_>, inside: Rect) -> [Axis; 2] {
    let spans = |rect: Rect| [(rect.x, rect.width), (rect.y, rect.height)];
    let sizes = [stage.size.0, stage.size.1];
    let mirrored = [stage.flip_x, stage.flip_y];
    let corner = [source.area.x, source.area.y];
    let reduce = f64::from(source.reduce);
    [0, 1].map(|side| {
        let (origin, length) = spans(stage.source)[side];
        let (first, outputs) = spans(shown)[side];
        let (from, limit) = spans(inside)[side];
        let scale = f64::from(length) / f64::from(sizes[side]) / reduce;
        let start = f64::from(first) * scale + f64::from(origin) / reduce;
        Axis {
            start: start - f64::from(corner[side] + from),
            scale,
            outputs: outputs as usize,
            limit: limit as usize,
            mirrored: mirrored[side],
            filter,
        }
    })
}

/// Start and length, in source pixels, of `length` outputs from `start` on.
fn window(source: u32, size: u32, start: u32, length: u32) -> (f64, f64) {
    let scale = f64::from(source) / f64::from(size);
    (f64::from(start) * scale, f64::from(length) * scale)
}

/// Clips a window to the pixels: rounding may have put its ends beyond them.
fn clamp(start: f64, length: f64, limit: u32) -> (f64, f64) {
    let start = start.max(0.0);
    (start, length.min(f64::from(limit) - start))
}

fn copy(stage: &Stage, shown: Rect, source: Source<'_>, out: &mut [u8], left: u32, top: u32) {
    let size = source.format.bytes();
    let (from_pitch, to_pitch) = (
        source.area.width as usize * size,
        stage.view.width as usize * size,
    );
    let x = (stage.source.x + shown.x - source.area.x) as usize * size;
    let y = (stage.source.y + shown.y - source.area.y) as usize;
    let (mut length, mut rows) = (shown.width as usize * size, shown.height as usize);
    if length == from_pitch && length == to_pitch {
        // All in one piece: a large copy need not read what it overwrites.
        (length, rows) = (length * rows, 1);
    }
    for row in 0..rows {
        let from = (y + row) * from_pitch + x;
        let to = (top as usize + row) * to_pitch + left as usize * size;
        out[to..to + length].copy_from_slice(&source.pixels[from..from + length]);
    }
}

/// Fills `out` with pixels of one colour: one value for all channels, or one value each.
pub fn fill(out: &mut [u8], values: &[u16], format: PixelFormat) {
    let value = |channel: usize| {
        values[if values.len() == 1 {
            0
        } else {
            channel % values.len()
        }]
    };
    let pixel: Vec<u8> = (0..format.channels)
        .flat_map(|channel| match format.depth {
            Depth::Eight => vec![value(channel) as u8],
            Depth::Sixteen => value(channel).to_ne_bytes().to_vec(),
        })
        .collect();
    for out in out.chunks_exact_mut(pixel.len()) {
        out.copy_from_slice(&pixel);
    }
}

fn mirror(stage: &Stage, size: usize, out: &mut [u8]) {
    let pitch = stage.view.width as usize * size;
    if stage.flip_x {
        for row in out.chunks_exact_mut(pitch) {
            mirror_row(row, size);
        }
    }
    if stage.flip_y {
        let rows = stage.view.height as usize;
        for row in 0..rows / 2 {
            let (above, below) = out.split_at_mut((rows - 1 - row) * pitch);
            above[row * pitch..][..pitch].swap_with_slice(&mut below[..pitch]);
        }
    }
}

fn mirror_row(row: &mut [u8], size: usize) {
    fn swap<const N: usize>(row: &mut [u8]) {
        let (pixels, _) = row.as_chunks_mut::<N>();
        pixels.reverse();
    }
    match size {
        1 => swap::<1>(row),
        2 => swap::<2>(row),
        3 => swap::<3>(row),
        _ => swap::<6>(row),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;
    use crate::random::{Draws, Key, mix};
    use crate::transform::Operation;

    const RGB: PixelFormat = PixelFormat {
        channels: 3,
        depth: Depth::Eight,
    };

    fn photo(width: u32, height: u32) -> Vec<u8> {
        (0..width as usize * height as usize * 3)
            .map(|at| ((at / 3 % width as usize) as u64 + (mix(at as u64) & 31)) as u8)
            .collect()
    }

    fn run(recipe: &Recipe, pixels: &[u8], width: u32, height: u32, only_needed: bool) -> Vec<u8> {
        let mut pixels = pixels.to_vec();
        let (mut width, mut height) = (width, height);
        for (stage, _) in recipe.steps() {
            let whole = Rect::of_size(width, height);
            let area = if only_needed {
                stage.needed().unwrap_or(whole)
            } else {
                whole
            };
            let mut part = Vec::new();
            for y in area.y..area.y + area.height {
                let from = (y * width + area.x) as usize * 3;
                part.extend_from_slice(&pixels[from..from + area.width as usize * 3]);
            }
            let mut out = vec![9; stage.view.width as usize * stage.view.height as usize * 3];
            let source = Source {
                pixels: &part,
                area,
                format: RGB,
                reduce: 1,
            };
            Resampler::default().run(stage, source, &mut out).unwrap();
            (pixels, width, height) = (out, stage.view.width, stage.view.height);
        }
        pixels
    }

    fn operations(json: &str) -> Vec<Operation> {
        serde_json::from_str(json).unwrap()
    }

    /// The folded plan against the obvious twin: each operation on its own, on the whole image.
    #[test]
    fn folding_changes_nothing() {
        let (width, height) = (97, 61);
        let pixels = photo(width, height);
        for json in [
            r#"[{"op":"resize","size":[40],"interpolation":"bilinear","antialias":true},{"op":"center_crop","size":[32,33]}]"#,
            r#"[{"op":"random_resized_crop","size":[24,24],"scale":[0.08,1],"ratio":[0.75,1.33],"interpolation":"bilinear","antialias":true},{"op":"random_horizontal_flip","p":0.5}]"#,
            r#"[{"op":"random_vertical_flip","p":0.5},{"op":"random_horizontal_flip","p":0.5},{"op":"random_crop","size":[50,31]},{"op":"resize","size":[20,70],"interpolation":"bicubic","antialias":true}]"#,
            r#"[{"op":"random_horizontal_flip","p":0.5},{"op":"pad","padding":[3,4,5,6],"fill":[1,2,3]},{"op":"random_crop","size":[60,60]}]"#,
            r#"[{"op":"resize_pad","size":[80,80],"fill":[7],"interpolation":"bilinear"},{"op":"center_crop","size":[70,70]}]"#,
            r#"[{"op":"center_crop","size":[100,50]},{"op":"resize","size":[30,30],"interpolation":"lanczos","antialias":true}]"#,
            r#"[{"op":"center_crop","size":[40,40]},{"op":"pad","padding":[2,2,2,2],"fill":[5]},{"op":"resize","size":[31,33],"interpolation":"nearest","antialias":true},{"op":"resize","size":[64,64],"interpolation":"bilinear","antialias":false}]"#,
        ] {
            for row in 0..40 {
                let key = Key {
                    seed: 3,
                    epoch: 0,
                    row,
                    field: 0,
                };
                let mut folded = Recipe::new(width, height);
                let (mut twin, mut twin_width, mut twin_height) = (pixels.clone(), width, height);
                for (at, operation) in operations(json).iter().enumerate() {
                    operation.check().unwrap();
                    operation
                        .apply(&mut folded, &mut Draws::new(key, at))
                        .unwrap();
                    let mut alone = Recipe::new(twin_width, twin_height);
                    operation
                        .apply(&mut alone, &mut Draws::new(key, at))
                        .unwrap();
                    twin = run(&alone, &twin, twin_width, twin_height, false);
                    (twin_width, twin_height) = alone.size();
                }
                assert_eq!(folded.size(), (twin_width, twin_height), "{json}");
                let whole = run(&folded, &pixels, width, height, false);
                let needed = run(&folded, &pixels, width, height, true);
                // Windows of a resize start at other fractions; the last bit of a weight may round the other way.
                for (name, found) in [("whole", &whole), ("needed", &needed)] {
                    let worst = found
                        .iter()
                        .zip(&twin)
                        .map(|(a, b)| a.abs_diff(*b))
                        .max()
                        .unwrap();
                    assert!(worst <= 1, "{name}: off by {worst} in {json}");
                }
            }
        }
    }

    #[test]
    fn common_chains_need_one_stage() {
        for (json, expected) in [
            (
                r#"[{"op":"resize","size":[40],"interpolation":"bilinear","antialias":true},{"op":"center_crop","size":[32,32]}]"#,
                1,
            ),
            (
                r#"[{"op":"random_crop","size":[50,50]},{"op":"resize","size":[32,32],"interpolation":"bilinear","antialias":true},{"op":"random_horizontal_flip","p":1}]"#,
                1,
            ),
            (
                r#"[{"op":"resize_pad","size":[32,32],"fill":[0],"interpolation":"bilinear"},{"op":"random_crop","size":[20,20]}]"#,
                1,
            ),
            (
                r#"[{"op":"resize","size":[40,40],"interpolation":"bilinear","antialias":true},{"op":"resize","size":[20,20],"interpolation":"bilinear","antialias":true}]"#,
                2,
            ),
        ] {
            let mut canvas = Recipe::new(97, 61);
            for (at, operation) in operations(json).iter().enumerate() {
                let key = Key {
                    seed: 0,
                    epoch: 0,
                    row: 0,
                    field: 0,
                };
                operation
                    .apply(&mut canvas, &mut Draws::new(key, at))
                    .unwrap();
            }
            assert_eq!(canvas.steps().len(), expected, "{json}");
        }
    }
}
