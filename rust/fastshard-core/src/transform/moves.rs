//! Where geometry takes places of an image, such as the corners of boxes; with torchvision's arithmetic.
//!
//! A [`Move`] is one operation: a matrix from the image before to the image after, and the size of the image after.
//! Moves are not multiplied as in [`super::geometry`]. A box is clipped to the image after each of them, because what a
//! crop cuts off must not come back when a later operation makes the image larger.
//!
//! A box through a move is the upright box around its four mapped corners. A perspective has a horizon, where the
//! homogeneous coordinate `w` is 0; a division by `w` would throw corners behind it to the other side of the image. So
//! the outline of the box is first cut at `w = NEAR`, in homogeneous coordinates, and only then divided.
//!
//! A box costs four products of a matrix and a vector for each move.

use super::matrix::Matrix;

/// What one operation does to places, in coordinates in which pixel `i` covers `i .. i + 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// From the image before to the image after.
    pub matrix: Matrix,
    /// Width and height of the image after.
    pub size: (u32, u32),
}

/// Left, top, right and bottom of a box, in pixels.
pub type Corners = [f64; 4];

/// A box on its way through a list of moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracked {
    /// The box, clipped to the image.
    pub corners: Corners,
    /// Share of the area that is left: the product of what each clip has left.
    pub visible: f64,
}

impl Tracked {
    /// A box before any move; it may reach outside of the image.
    #[must_use]
    pub fn new(corners: Corners) -> Self {
        Self {
            corners,
            visible: 1.0,
        }
    }

    /// The box around the mapped corners, clipped to the image after the move.
    #[must_use]
    pub fn through(self, step: &Move) -> Self {
        let whole = step.around(self.corners);
        let (width, height) = (f64::from(step.size.0), f64::from(step.size.1));
        let [left, top, right, bottom] = whole;
        let corners = [
            left.clamp(0.0, width),
            top.clamp(0.0, height),
            right.clamp(0.0, width),
            bottom.clamp(0.0, height),
        ];
        let share = if area(whole) > 0.0 {
            area(corners) / area(whole)
        } else {
            0.0
        };
        Self {
            corners,
            visible: self.visible * share,
        }
    }
}

/// Area of a box; never negative, and 0 if a corner is NaN.
#[must_use]
pub fn area([left, top, right, bottom]: Corners) -> f64 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

impl Move {
    /// The move that turns a stored image of this (width, height) upright, by its EXIF orientation. Numbers other than
    /// 2 to 8 leave it as it is.
    #[must_use]
    pub fn upright(orientation: u8, (width, height): (u32, u32)) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        let [x, y] = match orientation {
            2 => [[-1.0, 0.0, w], [0.0, 1.0, 0.0]],
            3 => [[-1.0, 0.0, w], [0.0, -1.0, h]],
            4 => [[1.0, 0.0, 0.0], [0.0, -1.0, h]],
            5 => [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
            6 => [[0.0, -1.0, h], [1.0, 0.0, 0.0]],
            7 => [[0.0, -1.0, h], [-1.0, 0.0, w]],
            8 => [[0.0, 1.0, 0.0], [-1.0, 0.0, w]],
            _ => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        };
        let turned = matches!(orientation, 5..=8);
        Self {
            matrix: Matrix([x, y, [0.0, 0.0, 1.0]]),
            size: if turned {
                (height, width)
            } else {
                (width, height)
            },
        }
    }

    /// The move back from an upright image of this (width, height) to the stored one.
    #[must_use]
    pub fn stored(orientation: u8, upright: (u32, u32)) -> Self {
        // A quarter to the left undoes one to the right; everything else undoes itself.
        let back = match orientation {
            6 => 8,
            8 => 6,
            other => other,
        };
        Self::upright(back, upright)
    }

    /// The box around the mapped corners of a box.
    fn around(&self, [left, top, right, bottom]: Corners) -> Corners {
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        let mut around = [
            f64::INFINITY,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NEG_INFINITY,
        ];
        let mut take = |[x, y, w]: [f64; 3]| {
            let (x, y) = (x / w, y / w);
            around = [
                around[0].min(x),
                around[1].min(y),
                around[2].max(x),
                around[3].max(y),
            ];
        };
        let places = corners.map(|[x, y]| self.matrix.0.map(|[a, b, c]| a * x + b * y + c));
        if places.iter().all(|place| place[2] > NEAR) {
            places.into_iter().for_each(take);
            return around;
        }
        // Part of the box is behind the horizon of a perspective; only the part before it is seen.
        for (at, &place) in places.iter().enumerate() {
            let next = places[(at + 1) % places.len()];
            if place[2] > NEAR {
                take(place);
            }
            if (place[2] > NEAR) != (next[2] > NEAR) {
                let share = (NEAR - place[2]) / (next[2] - place[2]);
                take([0, 1, 2].map(|at| place[at] + share * (next[at] - place[at])));
            }
        }
        around
    }

    /// Maps a place of the image before to the image after.
    #[must_use]
    pub fn place(&self, x: f64, y: f64) -> [f64; 2] {
        self.matrix.map(x, y)
    }
}

/// The smallest homogeneous coordinate that counts as before the horizon of a perspective.
pub(super) const NEAR: f64 = 1e-6;

/// All moves as one matrix from the last image back to the first; `None` if it can't be inverted.
#[must_use]
pub fn way_back(moves: &[Move]) -> Option<Matrix> {
    let forth = moves
        .iter()
        .fold(Matrix::IDENTITY, |all, step| step.matrix * all);
    forth.inverse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(matrix: Matrix, size: (u32, u32)) -> Move {
        Move { matrix, size }
    }

    fn is_close(found: Corners, expected: Corners) -> bool {
        found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn what_a_crop_cuts_off_stays_cut_off() {
        let steps = [
            step(Matrix::translation(-10.0, -10.0), (20, 20)),
            step(Matrix::translation(5.0, 5.0), (40, 40)),
        ];
        let start = Tracked::new([0.0, 15.0, 20.0, 25.0]);
        let moved = steps.iter().fold(start, Tracked::through);
        assert!(is_close(moved.corners, [5.0, 10.0, 15.0, 20.0]));
        assert!((moved.visible - 0.5).abs() < 1e-12);
    }

    #[test]
    fn boxes_outside_and_without_numbers_have_no_area() {
        let steps = step(Matrix::translation(-100.0, 0.0), (50, 50));
        for corners in [[0.0, 0.0, 10.0, 10.0], [f64::NAN; 4], [9.0, 9.0, 3.0, 3.0]] {
            assert!(
                area(Tracked::new(corners).through(&steps).corners) <= 0.0,
                "{corners:?}"
            );
        }
    }

    #[test]
    fn a_horizon_ends_a_box() {
        // Everything right of x = 10 lies behind it.
        let matrix = Matrix([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.1, 0.0, 1.0]]);
        let moved = Tracked::new([0.0, 0.0, 20.0, 5.0]).through(&step(matrix, (30, 30)));
        assert!(is_close(moved.corners, [0.0, 0.0, 30.0, 30.0]));
    }

    #[test]
    fn turns_as_pixels_do() {
        let (width, height) = (3, 2);
        let pixels: Vec<u8> = (0..6).collect();
        for orientation in 1..=8 {
            let mut out = crate::pixels::Scratch::default();
            crate::codec::orient(&pixels, 3, 2, 1, orientation, &mut out).unwrap();
            let upright = Move::upright(orientation, (width, height));
            let back = Move::stored(orientation, upright.size);
            assert_eq!(back.size, (width, height));
            for (at, &pixel) in pixels.iter().enumerate() {
                let start = [(at % 3) as f64 + 0.5, (at / 3) as f64 + 0.5];
                let [x, y] = upright.place(start[0], start[1]);
                let there = y as usize * upright.size.0 as usize + x as usize;
                assert_eq!(out.bytes(6).unwrap()[there], pixel, "{orientation}");
                let [back_x, back_y] = back.place(x, y);
                let distance = (back_x - start[0]).abs() + (back_y - start[1]).abs();
                assert!(distance < 1e-12, "{orientation}");
            }
        }
    }

    #[test]
    fn the_way_back() {
        let turn = Matrix::rotation(33.0, None, (40, 30), (40, 30));
        let steps = [
            step(turn, (40, 30)),
            step(Matrix::translation(3.0, -2.0), (20, 20)),
        ];
        let [x, y] = steps
            .iter()
            .fold([7.0, 9.0], |[x, y], step| step.place(x, y));
        let [x, y] = way_back(&steps).unwrap().map(x, y);
        assert!((x - 7.0).abs() < 1e-9 && (y - 9.0).abs() < 1e-9);
        assert_eq!(way_back(&[step(Matrix([[0.0; 3]; 3]), (1, 1))]), None);
    }
}
