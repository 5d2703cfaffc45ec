//! Polygons as pixels, by pycocotools' rule, so that a mask is the one that COCO's tools evaluate against.
//!
//! # The rule
//!
//! The boundary is drawn on a grid five times as fine as the pixels: corners are rounded to it, and edges step along
//! their longer axis, as Bresenham would draw them. Where the boundary steps over the line through the middles of a
//! column of pixels, it toggles every pixel of that column from there down. What is toggled an odd number of times is
//! inside.
//!
//! # Idea
//!
//! pycocotools walks over every step of the boundary. Here, only those steps are looked up that cross the middle of a
//! column:
//!
//! - a *flat* edge steps along x, so the step at a middle is known, and its height is computed from the slope;
//! - a *steep* edge steps along y, so the step is guessed from the slope, and corrected by the same rounding as walking
//!   has.
//!
//! # Memory
//!
//! ```text
//! toggles    a byte a pixel, row by row: 1 where the column toggles from here down
//! line       a byte a column: whether the column is inside, in the present row
//! ```
//!
//! A sweep over the rows from the first to the last toggle xors each row into `line`, writes what is inside, and sets
//! the toggles back to 0. So nothing is cleared for the next polygon.
//!
//! # Why it equals walking
//!
//! Both compute the place of a step with the same floating-point expression, and only steps over a middle toggle
//! anything. A test compares it with a walk over every step.
//!
//! # Cost
//!
//! An edge costs one look-up for each column of the image that it crosses, however far away its ends are. The sweep
//! costs the box around the polygon, within the image.

/// Steps of the fine grid per pixel.
const FINE: i64 = 5;
/// The middle of a column is between this step and the next.
const MIDDLE: i64 = 2;
/// Far beyond any image; corners farther out are moved here.
const FAR: f64 = 1e8;

/// Paints polygons, and keeps its memory from one to the next.
#[derive(Debug, Default)]
pub struct Painter {
    /// A byte for each pixel: whether its column toggles there. All 0 between polygons.
    toggles: Vec<u8>,
    line: Vec<u8>,
}

/// The toggles of one polygon.
struct Canvas<'a> {
    toggles: &'a mut [u8],
    width: i64,
    height: i64,
    /// First and last column and row in which something is toggled.
    columns: [usize; 2],
    rows: [usize; 2],
}

impl Painter {
    /// Sets the pixels that a polygon covers to 1, in a mask of `width` pixels a row.
    pub fn paint(&mut self, corners: &[[f64; 2]], width: usize, out: &mut [u8]) {
        if width == 0 || out.is_empty() {
            return;
        }
        let height = out.len() / width;
        self.toggles.resize(out.len(), 0);
        let mut canvas = Canvas {
            toggles: &mut self.toggles,
            width: width as i64,
            height: height as i64,
            columns: [width, 0],
            rows: [height, 0],
        };
        let corners: Vec<[i64; 2]> = corners.iter().map(|corner| corner.map(fine)).collect();
        for (at, &corner) in corners.iter().enumerate() {
            canvas.edge(corner, corners[(at + 1) % corners.len()]);
        }
        let ([left, right], [top, bottom]) = (canvas.columns, canvas.rows);
        if left > right {
            return;
        }
        self.line.clear();
        self.line.resize(right + 1 - left, 0);
        for row in top..=bottom.min(height - 1) {
            let cells = row * width + left..=row * width + right;
            let toggles = &mut self.toggles[cells.clone()];
            for ((line, toggle), out) in self.line.iter_mut().zip(toggles).zip(&mut out[cells]) {
                *line ^= std::mem::take(toggle);
                *out |= *line;
            }
        }
    }
}

/// The nearest place of the fine grid. The cast truncates towards 0, as in pycocotools, so negative numbers round
/// differently.
fn fine(place: f64) -> i64 {
    (FINE as f64 * place.clamp(-FAR, FAR) + 0.5) as i64
}

impl Canvas<'_> {
    /// An edge between two places of the fine grid.
    fn edge(&mut self, from: [i64; 2], to: [i64; 2]) {
        let [across, down] = [0, 1].map(|axis| (from[axis] - to[axis]).abs());
        let axis = usize::from(across < down);
        let (start, end) = if from[axis] > to[axis] {
            (to, from)
        } else {
            (from, to)
        };
        if start[0] == end[0] {
            return; // passes no middle
        }
        if across >= down {
            self.flat(start, end);
        } else {
            self.steep(start, end);
        }
    }

    /// The columns of the image whose middles are between two steps.
    fn between(&self, low: i64, high: i64) -> std::ops::Range<i64> {
        let first = (low - MIDDLE + FINE - 1).div_euclid(FINE).max(0);
        let last = (high - MIDDLE - 1).div_euclid(FINE).min(self.width - 1);
        first..last + 1
    }

    /// An edge from left to right that steps along x.
    fn flat(&mut self, [x, y]: [i64; 2], end: [i64; 2]) {
        let slope = (end[1] - y) as f64 / (end[0] - x) as f64;
        let at = |step: i64| (y as f64 + slope * step as f64 + 0.5) as i64;
        for column in self.between(x, end[0]) {
            let step = FINE * column + MIDDLE - x;
            self.toggle(column, at(step).min(at(step + 1)));
        }
    }

    /// An edge from top to bottom that steps along y.
    fn steep(&mut self, [x, y]: [i64; 2], end: [i64; 2]) {
        let steps = end[1] - y;
        let slope = (end[0] - x) as f64 / steps as f64;
        let at = |step: i64| (x as f64 + slope * step as f64 + 0.5) as i64;
        for column in self.between(x.min(end[0]), x.max(end[0])) {
            let middle = FINE * column + MIDDLE;
            let passed = |step: i64| (at(step) > middle) == (slope > 0.0);
            // The guess may be off by rounding; the loops correct it.
            let guess = ((middle as f64 + 0.5 - x as f64) / slope) as i64;
            let mut step = guess.clamp(1, steps);
            while step > 1 && passed(step - 1) {
                step -= 1;
            }
            while step < steps && !passed(step) {
                step += 1;
            }
            self.toggle(column, y + step - 1);
        }
    }

    /// Toggles a column from a step of the fine grid down.
    fn toggle(&mut self, column: i64, step: i64) {
        let row = (step as f64 + 0.5) / FINE as f64 - 0.5;
        let row = row.clamp(0.0, self.height as f64).ceil() as i64;
        let (column, cell) = (column as usize, row * self.width + column);
        self.columns = [self.columns[0].min(column), self.columns[1].max(column)];
        self.rows = [
            self.rows[0].min(row as usize),
            self.rows[1].max(row as usize),
        ];
        if let Some(cell) = self.toggles.get_mut(cell as usize) {
            *cell ^= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as it is defined: every step of the boundary, one after the other.
    fn walked(corners: &[[f64; 2]], width: usize, height: usize) -> Vec<u8> {
        let corners: Vec<[i64; 2]> = corners.iter().map(|corner| corner.map(fine)).collect();
        let mut steps: Vec<[i64; 2]> = Vec::new();
        for (at, &[x0, y0]) in corners.iter().enumerate() {
            let [x1, y1] = corners[(at + 1) % corners.len()];
            let (dx, dy) = ((x1 - x0).abs(), (y1 - y0).abs());
            let flip = (dx >= dy && x0 > x1) || (dx < dy && y0 > y1);
            let [[xs, ys], [xe, ye]] = if flip {
                [[x1, y1], [x0, y0]]
            } else {
                [[x0, y0], [x1, y1]]
            };
            let count = dx.max(dy);
            for step in 0..=count {
                let step = if flip { count - step } else { step };
                let part = |from: i64, to: i64, of: i64| {
                    let slope = (to - from) as f64 / of as f64;
                    (from as f64 + slope * step as f64 + 0.5) as i64
                };
                steps.push(if dx >= dy {
                    [xs + step, part(ys, ye, dx)]
                } else {
                    [part(xs, xe, dy), ys + step]
                });
            }
        }
        let mut out = vec![0; width * height];
        for pair in steps.windows(2) {
            let ([u, v], [before_u, before_v]) = (pair[1], pair[0]);
            let least = u.min(before_u);
            let column = least.div_euclid(5);
            if u == before_u || least.rem_euclid(5) != 2 || !(0..width as i64).contains(&column) {
                continue;
            }
            let row = (v.min(before_v) as f64 + 0.5) / 5.0 - 0.5;
            let row = row.clamp(0.0, height as f64).ceil() as usize;
            for row in row..height {
                out[row * width + column as usize] ^= 1;
            }
        }
        out
    }

    proptest! {
        #[test]
        fn looking_up_crossings_is_walking(
            corners in proptest::collection::vec([-30.0..60.0, -30.0..60.0], 0..9),
            (width, height) in (1usize..40, 1usize..40),
        ) {
            let mut out = vec![0; width * height];
            let mut painter = Painter::default();
            painter.paint(&corners, width, &mut out);
            prop_assert_eq!(&out, &walked(&corners, width, height));
            // Nothing is left over for the next one.
            let mut again = vec![0; width * height];
            painter.paint(&[], width, &mut again);
            prop_assert!(again.iter().all(|&pixel| pixel == 0));
            painter.paint(&corners, width, &mut again);
            prop_assert_eq!(again, out);
        }
    }

    #[test]
    fn far_corners_take_no_time() {
        let mut out = vec![0; 64 * 48];
        let far = [
            [-1e300, -1e300],
            [1e300, -1e300],
            [1e300, 1e300],
            [-1e300, 1e300],
        ];
        Painter::default().paint(&far, 64, &mut out);
        assert!(out.iter().all(|&pixel| pixel == 1));
        Painter::default().paint(
            &[[f64::NAN, 3.0], [5.0, f64::INFINITY], [9.0, 9.0]],
            64,
            &mut out,
        );
    }
}
