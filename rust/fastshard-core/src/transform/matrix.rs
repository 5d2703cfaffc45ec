//! Projective maps of the plane, and torchvision's way of making them.
//!
//! Coordinates are continuous: pixel `i` covers `i .. i + 1` and has its centre at `i + 0.5`. A warp's matrix takes a
//! place in the output to the place in the input that shows there. Sizes are (width, height) here.
//!
//! A place (x, y) is the vector (x, y, 1); the image (u, v, w) of it is the place (u / w, v / w). Affine maps have the
//! last row (0, 0, 1), so `w` is 1. Maps are composed by multiplying matrices, in double precision.
//!
//! torchvision computes `affine` and `rotate` around the middle of the image; `around_middle` moves their matrices to
//! the corner. A perspective has eight unknown entries, for which its four pairs of points give eight linear equations.

use std::ops::Mul;

/// A 3 x 3 matrix; `a * b` maps by `b` first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix(pub [[f64; 3]; 3]);

/// The arguments of torchvision's `affine`. Angles are in degrees, positive is clockwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Angle of the rotation, in degrees.
    pub angle: f64,
    /// Shift to the right and down, in pixels.
    pub translate: [f64; 2],
    /// Factor of both sides; larger than 1 enlarges.
    pub scale: f64,
    /// Shear along x and y, in degrees.
    pub shear: [f64; 2],
    /// The point that stays in place, x and y from the upper left corner; `None` is the middle.
    pub center: Option<[f64; 2]>,
}

impl Default for Affine {
    fn default() -> Self {
        Self {
            angle: 0.0,
            translate: [0.0; 2],
            scale: 1.0,
            shear: [0.0; 2],
            center: None,
        }
    }
}

impl Mul for Matrix {
    type Output = Self;

    fn mul(self, Self(b): Self) -> Self {
        Self(self.0.map(|row| {
            [0, 1, 2].map(|column| (0..3).map(|at| row[at] * b[at][column]).sum::<f64>())
        }))
    }
}

impl Matrix {
    /// The map that moves nothing.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// Moves by `x` to the right and `y` down.
    #[must_use]
    pub fn translation(x: f64, y: f64) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
    }

    /// Stretches away from the upper left corner.
    #[must_use]
    pub fn scaling(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])
    }

    /// Mirrors an image of this size; its own inverse.
    #[must_use]
    pub fn flip((width, height): (u32, u32), flip_x: bool, flip_y: bool) -> Self {
        let axis = |flip: bool, side: u32| {
            if flip {
                (-1.0, f64::from(side))
            } else {
                (1.0, 0.0)
            }
        };
        let ((a, x), (d, y)) = (axis(flip_x, width), axis(flip_y, height));
        Self([[a, 0.0, x], [0.0, d, y], [0.0, 0.0, 1.0]])
    }

    /// torchvision's `affine` of an image of this size, output to input.
    #[must_use]
    pub fn affine(parts: &Affine, size: (u32, u32)) -> Self {
        Self::around_middle(inverse_affine(parts, size), size, size)
    }

    /// torchvision's `rotate` by degrees counter-clockwise, output to input; `output` is the size of the result.
    #[must_use]
    pub fn rotation(
        degrees: f64,
        center: Option<[f64; 2]>,
        size: (u32, u32),
        output: (u32, u32),
    ) -> Self {
        let matrix = inverse_affine(&rotated(degrees, center), size);
        Self::around_middle(matrix, size, output)
    }

    /// The size that torchvision's `rotate` gives with `expand`.
    #[must_use]
    pub fn rotated_size(
        degrees: f64,
        center: Option<[f64; 2]>,
        (width, height): (u32, u32),
    ) -> (f64, f64) {
        if center.is_none() && (degrees.rem_euclid(180.0) - 90.0).abs() < 1e-9 {
            return (height.into(), width.into());
        }
        let matrix = inverse_affine(&rotated(degrees, center), (width, height));
        let (x, y) = (0.5 * f64::from(width), 0.5 * f64::from(height));
        let corners = [[-x, -y], [-x, y], [x, y], [x, -y]].map(|[x, y]| matrix.map(x, y));
        let length = |axis: usize, half: f64| {
            // Noise in the last bits must not add a row. torchvision itself drops all but four decimal digits.
            let ends = corners.map(|corner| ((corner[axis] + half) * 1e7).round());
            let ends = ends.map(|end| (end / 1e3).trunc() / 1e4);
            let most = ends.into_iter().fold(f64::MIN, f64::max).ceil();
            most - ends.into_iter().fold(f64::MAX, f64::min).floor()
        };
        (length(0, x), length(1, y))
    }

    /// torchvision's perspective that moves four points to four others; `None` where none does.
    #[must_use]
    pub fn perspective(from: [[f64; 2]; 4], to: [[f64; 2]; 4]) -> Option<Self> {
        let mut rows = [[0.0; 9]; 8];
        for (at, ([x, y], [u, v])) in to.into_iter().zip(from).enumerate() {
            rows[2 * at] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
            rows[2 * at + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
        }
        let [a, b, c, d, e, f, g, h] = solve(rows)?;
        Some(Self([[a, b, c], [d, e, f], [g, h, 1.0]]))
    }

    /// Maps a place; under a warp's matrix, to where it comes from.
    #[must_use]
    pub fn map(&self, x: f64, y: f64) -> [f64; 2] {
        let [u, v, w] = self.0.map(|[a, b, c]| a * x + b * y + c);
        [u / w, v / w]
    }

    /// The inverse, by cofactors; `None` if the matrix is singular.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        let [[a, b, c], [d, e, f], [g, h, i]] = self.0;
        let cofactors = [
            [e * i - f * h, c * h - b * i, b * f - c * e],
            [f * g - d * i, a * i - c * g, c * d - a * f],
            [d * h - e * g, b * g - a * h, a * e - b * d],
        ];
        let determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0];
        let inverse = cofactors.map(|row| row.map(|value| value / determinant));
        (inverse.iter().flatten().all(|value| value.is_finite())).then_some(Self(inverse))
    }

    /// Whether equal steps stay equal steps: the last row is (0, 0, 1).
    #[must_use]
    pub fn is_affine(&self) -> bool {
        let [a, b, c] = self.0[2];
        (a, b, c) == (0.0, 0.0, 1.0)
    }

    /// Whether this is the identity, up to rounding.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        let entries = self
            .0
            .iter()
            .flatten()
            .zip(Self::IDENTITY.0.iter().flatten());
        entries.into_iter().all(|(a, b)| (a - b).abs() < 1e-9)
    }

    /// From coordinates around the middles of input and output to those from their corners.
    fn around_middle(matrix: Self, input: (u32, u32), output: (u32, u32)) -> Self {
        let half = |side: u32| 0.5 * f64::from(side);
        Self::translation(half(input.0), half(input.1))
            * matrix
            * Self::translation(-half(output.0), -half(output.1))
    }
}

/// The arguments of `affine` that rotate as `rotate` does: their angles have opposite signs.
fn rotated(degrees: f64, center: Option<[f64; 2]>) -> Affine {
    Affine {
        angle: -degrees.rem_euclid(360.0),
        center,
        ..Affine::default()
    }
}

/// The inverse of translate * center * rotate * scale * shear y * shear x * center^-1, around the middle of the image.
fn inverse_affine(parts: &Affine, (width, height): (u32, u32)) -> Matrix {
    let [cx, cy] = parts.center.map_or([0.0; 2], |[x, y]| {
        [x - 0.5 * f64::from(width), y - 0.5 * f64::from(height)]
    });
    let [tx, ty] = parts.translate;
    let angle = parts.angle.to_radians();
    let [shear_x, shear_y] = parts.shear.map(f64::to_radians);
    let a = (angle - shear_y).cos() / shear_y.cos();
    let b = -(a * shear_x.tan() + angle.sin());
    let c = (angle - shear_y).sin() / shear_y.cos();
    let d = angle.cos() - c * shear_x.tan();
    let scale = parts.scale;
    // The determinant of a, b, c, d is 1.
    let inverse = Matrix([
        [d / scale, -b / scale, 0.0],
        [-c / scale, a / scale, 0.0],
        [0.0, 0.0, 1.0],
    ]);
    Matrix::translation(cx, cy) * inverse * Matrix::translation(-cx - tx, -cy - ty)
}

/// Gaussian elimination with partial pivoting; the last column is the right side.
fn solve(mut rows: [[f64; 9]; 8]) -> Option<[f64; 8]> {
    for column in 0..8 {
        let pivot = (column..8).max_by(|&a, &b| {
            let size = |row: usize| rows[row][column].abs();
            size(a).total_cmp(&size(b))
        })?;
        rows.swap(column, pivot);
        let pivot = rows[column];
        if pivot[column].abs() < 1e-9 {
            return None;
        }
        for (at, row) in rows.iter_mut().enumerate() {
            if at != column {
                let factor = row[column] / pivot[column];
                for (value, pivot) in row.iter_mut().zip(pivot) {
                    *value -= factor * pivot;
                }
            }
        }
    }
    Some(std::array::from_fn(|at| rows[at][8] / rows[at][at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: Matrix, expected: [[f64; 3]; 3]) {
        for (a, b) in found.0.iter().flatten().zip(expected.iter().flatten()) {
            assert!((a - b).abs() < 1e-9, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn a_quarter_turn_swaps_the_sides() {
        for degrees in [90.0, -90.0, 450.0] {
            assert_eq!(Matrix::rotated_size(degrees, None, (6, 3)), (3.0, 6.0));
        }
        let size = Matrix::rotated_size(270.0, Some([2.5, 1.5]), (5, 3));
        assert_eq!(size, (3.0, 5.0), "noise must not add a row");
        // Counter-clockwise: the upper left corner of the result shows the upper right one of the image.
        let turn = Matrix::rotation(90.0, None, (5, 3), (3, 5));
        assert_close(turn, [[0.0, -1.0, 5.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        assert!((turn * turn * turn * turn).is_affine());
        assert!(Matrix::rotation(360.0, Some([1.0, 2.0]), (5, 3), (5, 3)).is_identity());
    }

    #[test]
    fn the_center_stays() {
        let parts = Affine {
            angle: 33.0,
            scale: 1.7,
            shear: [20.0, -10.0],
            center: Some([3.0, 11.0]),
            ..Affine::default()
        };
        let [x, y] = Matrix::affine(&parts, (40, 30)).map(3.0, 11.0);
        assert!((x - 3.0).abs() < 1e-9 && (y - 11.0).abs() < 1e-9);
    }

    #[test]
    fn perspective_takes_points_to_points() {
        let from = [[0.0, 0.0], [9.0, 0.0], [9.0, 7.0], [0.0, 7.0]];
        let to = [[1.0, 2.0], [8.0, 1.0], [7.0, 7.0], [2.0, 5.0]];
        let matrix = Matrix::perspective(from, to).unwrap();
        for ([x, y], [u, v]) in to.into_iter().zip(from) {
            let found = matrix.map(x, y);
            assert!((found[0] - u).abs() < 1e-9 && (found[1] - v).abs() < 1e-9);
        }
        assert_eq!(Matrix::perspective([[0.0; 2]; 4], [[0.0; 2]; 4]), None);
    }
}
