//! Four images in one: fitted to one size, they meet at a random place of a canvas that is twice as wide and as high.
//!
//! Source: Bochkovskiy, Wang, Liao, "`YOLOv4`: Optimal Speed and Accuracy of Object Detection", 2020; sizes and places are
//! those that the YOLO family trains with. A mosaic has no recipe of its own: each image gets one that ends in its
//! [`Tile`], and the canvas one for what follows.

use serde::{Deserialize, Serialize};

use super::boxes::fitted;
use super::geometry::Canvas;
use super::limits::{MAX_SIDE, check};
use super::{Filter, Interpolation};
use crate::error::Result;
use crate::pixels::MAX_PIXELS;
use crate::random::Draws;

/// Joins each image with three others of the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mosaic {
    /// (height, width) that each image is fitted to; the canvas is twice that.
    pub size: [u32; 2],
    /// How likely; else the image comes alone, in the middle of the canvas.
    pub p: f64,
    /// What shows between images.
    pub fill: Vec<u16>,
    /// How images are resized.
    pub interpolation: Interpolation,
}

/// Where one of the images lies: 0 above and left of the place where all meet, 1 above and right, 2 and 3 below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    number: u32,
    /// x and y of that place.
    center: [u32; 2],
}

impl Mosaic {
    pub(super) fn check(&self) -> Result<()> {
        let Self { size, p, .. } = self;
        let [height, width] = self.canvas().map(u64::from);
        let sides = size.iter().all(|side| (2..=MAX_SIDE / 2).contains(side));
        check(sides && height * width <= MAX_PIXELS, || {
            format!(
                "Mosaic: size {size:?}, expected sides of 2 to {} pixels, and a canvas (twice as wide and as high) of at most \
                 {MAX_PIXELS} pixels",
                MAX_SIDE / 2
            )
        })?;
        check((0.0..=1.0).contains(p), || {
            format!("Mosaic: p is {p}, expected a probability from 0 to 1")
        })
    }

    /// (height, width) of the canvas.
    #[must_use]
    pub fn canvas(&self) -> [u32; 2] {
        self.size.map(|side| side.saturating_mul(2))
    }

    /// Where the four images lie this time; nothing if the first one is to come alone.
    #[must_use]
    pub fn draw(&self, draws: &mut Draws) -> Option<[Tile; 4]> {
        if draws.unit() >= self.p {
            return None;
        }
        let [height, width] = self.size;
        let center = [width, height].map(|side| side / 2 + draws.below(side));
        Some([0, 1, 2, 3].map(|number| Tile { number, center }))
    }

    /// An image alone: what a centred crop of `size` shows is its letterbox.
    pub(super) fn alone(&self, canvas: &mut Canvas) {
        self.fit(canvas);
        let (width, height) = canvas.size();
        let before =
            |side: u32, of: u32| (of - side) / 2 + (f64::from(of) / 2.0).round_ties_even() as u32;
        let [h, w] = self.size;
        self.put(canvas, [before(width, w), before(height, h)]);
    }

    fn fit(&self, canvas: &mut Canvas) {
        let (width, height) = fitted(canvas.size(), self.size);
        let filter = Filter {
            interpolation: self.interpolation,
            antialias: true,
        };
        canvas.resize(width, height, filter);
    }

    /// Lays what is there on a canvas.
    fn put(&self, canvas: &mut Canvas, [x, y]: [u32; 2]) {
        let (width, height) = canvas.size();
        let [down, across] = self.canvas();
        canvas.pad([x, y, across - width - x, down - height - y], &self.fill);
    }
}

impl Tile {
    /// Which of the four it is.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    fn is_left(self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn is_above(self) -> bool {
        self.number < 2
    }

    /// Fits an image, and cuts off what would lie outside of the canvas.
    pub fn cut(self, mosaic: &Mosaic, canvas: &mut Canvas) {
        mosaic.fit(canvas);
        let (width, height) = canvas.size();
        let [down, across] = mosaic.canvas();
        let [x, y] = self.center;
        let [w, h] = [
            width.min(if self.is_left() { x } else { across - x }),
            height.min(if self.is_above() { y } else { down - y }),
        ];
        // What stays is the corner that touches the others.
        let left = if self.is_left() { width - w } else { 0 };
        let top = if self.is_above() { height - h } else { 0 };
        canvas.crop(left.into(), top.into(), w, h);
    }

    /// x and y on the canvas of an image of this width and height.
    #[must_use]
    pub fn corner(self, (width, height): (u32, u32)) -> [u32; 2] {
        let [x, y] = self.center;
        [
            if self.is_left() { x - width } else { x },
            if self.is_above() { y - height } else { y },
        ]
    }

    /// Lays what was cut on the canvas.
    pub fn place(self, mosaic: &Mosaic, canvas: &mut Canvas) {
        mosaic.put(canvas, self.corner(canvas.size()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;
    use crate::random::Key;

    fn mosaic(size: [u32; 2], p: f64) -> Mosaic {
        Mosaic {
            size,
            p,
            fill: vec![114],
            interpolation: Interpolation::Bilinear,
        }
    }

    fn draws(row: u64) -> Draws {
        let key = Key {
            seed: 1,
            epoch: 0,
            row,
            field: 0,
        };
        Draws::new(key, 0)
    }

    #[test]
    fn tiles_meet_inside_and_never_leave_the_canvas() {
        for size in [[2, 2], [3, 5], [64, 48], [11, 640]] {
            let mosaic = mosaic(size, 1.0);
            let [down, across] = mosaic.canvas();
            for row in 0..300 {
                let tiles = mosaic.draw(&mut draws(row)).unwrap();
                for (tile, image) in tiles
                    .into_iter()
                    .zip([(1, 1), (700, 3), (3, 700), (90, 60)])
                {
                    let mut canvas = Canvas::new(image.0, image.1);
                    tile.cut(&mosaic, &mut canvas);
                    let (width, height) = canvas.size();
                    let [x, y] = tile.corner((width, height));
                    assert!(width > 0 && height > 0);
                    assert!(x + width <= across && y + height <= down);
                    let [cx, cy] = tile.center;
                    assert!(x == cx || x + width == cx);
                    assert!(y == cy || y + height == cy);
                    tile.place(&mosaic, &mut canvas);
                    assert_eq!(canvas.size(), (across, down));
                }
            }
        }
    }

    #[test]
    fn the_chance_is_kept() {
        let mosaic = mosaic([8, 8], 0.3);
        let joined = (0..4000).filter(|&row| mosaic.draw(&mut draws(row)).is_some());
        assert!((1100..1300).contains(&joined.count()));
    }

    #[test]
    fn refuses_impossible_arguments() {
        for (size, p) in [
            ([1, 8], 1.0),
            ([8, 0], 1.0),
            ([20_000, 8], 1.0),
            ([9000, 9000], 1.0),
            ([8, 8], 1.5),
            ([8, 8], -0.1),
            ([8, 8], f64::NAN),
        ] {
            assert!(
                Operation::Mosaic(mosaic(size, p)).check().is_err(),
                "{size:?} {p}"
            );
        }
    }
}
