//! Sizes and boxes, with torchvision's arithmetic to the pixel.

use super::Filter;
use super::geometry::Canvas;
use crate::random::Draws;

/// torchvision's `_compute_resized_output_size`: the longer side is truncated, and so bounded by `max_size`.
pub(super) fn shorter_side(width: u32, height: u32, size: u32, max_size: Option<u32>) -> [u32; 2] {
    // Manifests may say anything, 0 included.
    let [short, long] = [width.min(height), width.max(height)].map(|side| u64::from(side.max(1)));
    let scaled =
        |side: u64, by: u64, of: u64| (side * by / of.max(1)).clamp(1, u64::from(u32::MAX)) as u32;
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
pub(super) fn center_crop(canvas: &mut Canvas, width: u32, height: u32) {
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

/// Width and height of an image that is made to fit into (height, width).
pub(super) fn fitted(image: (u32, u32), [height, width]: [u32; 2]) -> (u32, u32) {
    let scale = (f64::from(width) / f64::from(image.0)).min(f64::from(height) / f64::from(image.1));
    let fit = |side: u32, most: u32| ((f64::from(side) * scale).round() as u32).clamp(1, most);
    (fit(image.0, width), fit(image.1, height))
}

pub(super) fn letterbox(
    canvas: &mut Canvas,
    width: u32,
    height: u32,
    fill: &[u16],
    filter: Filter,
) {
    let (w, h) = fitted(canvas.size(), [height, width]);
    canvas.resize(w, h, filter);
    let (left, top) = ((width - w) / 2, (height - h) / 2);
    canvas.pad([left, top, width - w - left, height - h - top], fill);
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest centred box of an allowed ratio.
/// Gives x, y, width, height.
pub(super) fn random_box(
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
    fn an_empty_image_divides_by_nothing() {
        assert_eq!(shorter_side(0, 0, 64, None), [64, 64]);
        assert_eq!(shorter_side(0, 5, 64, Some(70)), [70, 14]);
    }

    #[test]
    fn shorter_sides_are_torchvisions() {
        // torchvision.transforms.functional._compute_resized_output_size
        assert_eq!(shorter_side(500, 375, 256, None), [256, 341]);
        assert_eq!(shorter_side(375, 500, 256, None), [341, 256]);
        assert_eq!(shorter_side(400, 400, 256, None), [256, 256]);
        assert_eq!(shorter_side(1000, 200, 100, Some(300)), [60, 300]);
        assert_eq!(shorter_side(0, 0, 100, None), [100, 100]);
        assert_eq!(shorter_side(0, 200, 100, None), [20_000, 100]);
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
}
