//! Where geometry takes outlines of objects, cut to the image after each operation as boxes are.

use super::moves::{Move, NEAR};

/// Far beyond any image, and near enough to cut exactly.
const FAR: f64 = 1e8;

/// The corners of a polygon after moves, from an image of a width and height on. A cut polygon may touch itself along the
/// image's border, where it covers nothing.
#[must_use]
pub fn moved_outline(corners: &[[f64; 2]], size: (u32, u32), moves: &[Move]) -> Vec<[f64; 2]> {
    let near = corners
        .iter()
        .map(|corner| corner.map(|at| at.clamp(-FAR, FAR)));
    let mut corners = cut_to(near.collect(), size);
    for step in moves {
        let [g, h, i] = step.matrix.0[2];
        // A perspective looks behind its horizon: only what lies before it is seen.
        corners = cut(corners, |[x, y]| g * x + h * y + i - NEAR);
        for corner in &mut corners {
            *corner = step.place(corner[0], corner[1]);
        }
        corners = cut_to(corners, step.size);
    }
    corners
}

fn cut_to(corners: Vec<[f64; 2]>, (width, height): (u32, u32)) -> Vec<[f64; 2]> {
    let (width, height) = (f64::from(width), f64::from(height));
    let corners = cut(corners, |[x, _]| x);
    let corners = cut(corners, |[x, _]| width - x);
    let corners = cut(corners, |[_, y]| y);
    cut(corners, |[_, y]| height - y)
}

/// What lies on one side of a line: where the distance isn't negative (Sutherland and Hodgman, 1974).
fn cut(corners: Vec<[f64; 2]>, distance: impl Fn([f64; 2]) -> f64) -> Vec<[f64; 2]> {
    if corners.iter().all(|&corner| distance(corner) >= 0.0) {
        return corners;
    }
    let mut left = Vec::with_capacity(corners.len() + 4);
    for (at, &corner) in corners.iter().enumerate() {
        let next = corners[(at + 1) % corners.len()];
        let (here, there) = (distance(corner), distance(next));
        if here >= 0.0 {
            left.push(corner);
        }
        if (here >= 0.0) != (there >= 0.0) {
            let share = here / (here - there);
            left.push([0, 1].map(|axis| corner[axis] + share * (next[axis] - corner[axis])));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Matrix;

    #[test]
    fn an_outline_is_cut_at_each_step() {
        let steps = [
            Move {
                matrix: Matrix::translation(-10.0, -10.0),
                size: (20, 20),
            },
            Move {
                matrix: Matrix::translation(5.0, 5.0),
                size: (40, 40),
            },
        ];
        let square = [[0.0, 15.0], [20.0, 15.0], [20.0, 25.0], [0.0, 25.0]];
        let mut moved = moved_outline(&square, (100, 100), &steps);
        moved.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(
            moved,
            [[5.0, 10.0], [5.0, 20.0], [15.0, 10.0], [15.0, 20.0]]
        );
        let outside = square.map(|[x, y]| [x + 200.0, y]);
        assert!(moved_outline(&outside, (400, 400), &steps).is_empty());
        assert!(moved_outline(&[[f64::NAN; 2]; 3], (400, 400), &steps).is_empty());
    }
}
