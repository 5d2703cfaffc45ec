//! Left and right of a stereo frame (ISO/IEC 11172-3, clause 2.4.3.4; ISO/IEC 13818-3 for MPEG 2).
//!
//! - **Middle and side**: left = (middle + side) / sqrt(2), right = (middle - side) / sqrt(2).
//! - **Intensity**: above the last line that the right channel has, one channel is stored for both. The right channel's
//!   scale factors tell the direction of each band instead: how loud it is on the left and on the right.
//!
//! Both may occur in one frame. Then middle and side hold below the bands with intensity.
//!
//! # Directions
//!
//! MPEG 1 has seven, from right to left: with t = tan(n pi/12), t / (1 + t) on the left and 1 / (1 + t) on the right.
//! MPEG 2 has 31: direction 0 is the middle; odd ones make the left channel quieter, even ones the right channel. A
//! step is 2^(-1/4) or, where the frame says so, 2^(-1/2). A band with any other number isn't stored as intensity.
//!
//! # Bands
//!
//! Bands are walked from the highest to the lowest, as long as the right channel is silent. Each of the three short
//! windows is walked for itself. The highest band has no scale factor, and takes the direction of the band below.

use std::f32::consts::FRAC_1_SQRT_2;
use std::f64::consts::PI;
use std::sync::LazyLock;

use super::bands::Bands;
use super::scale::Factors;

/// How loud left and right are, by a band's scale factor: of MPEG 1, and of MPEG 2 in fine and in coarse steps.
struct Directions {
    first: [(f32, f32); 7],
    second: [[(f32, f32); 31]; 2],
}

static DIRECTIONS: LazyLock<Directions> = LazyLock::new(|| {
    let mut first = [(1.0, 0.0); 7];
    for (at, direction) in first[..6].iter_mut().enumerate() {
        let ratio = (at as f64 * PI / 12.0).tan();
        *direction = ((ratio / (1.0 + ratio)) as f32, (1.0 / (1.0 + ratio)) as f32);
    }
    let second = [-0.25, -0.5].map(|octaves| {
        let mut steps = [(1.0, 1.0); 31];
        for (at, direction) in steps.iter_mut().enumerate() {
            let quiet = (octaves * at.div_ceil(2) as f64).exp2() as f32;
            *direction = if at % 2 == 1 {
                (quiet, 1.0)
            } else {
                (1.0, quiet)
            };
        }
        steps
    });
    Directions { first, second }
});

/// Replaces middle and side by left and right.
#[inline(always)]
pub(super) fn middle(left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let (middle, side) = (*left, *right);
        *left = (middle + side) * FRAC_1_SQRT_2;
        *right = (middle - side) * FRAC_1_SQRT_2;
    }
}

/// What a granule says about intensity stereo.
pub(super) struct Intensity<'a> {
    /// Whether it is MPEG 1.
    pub(super) first: bool,
    /// Whether steps are coarse, in MPEG 2.
    pub(super) coarse: bool,
    /// Whether all other bands are middle and side.
    pub(super) middle: bool,
    /// The scale factors of the right channel: directions.
    pub(super) factors: &'a Factors,
}

impl Intensity<'_> {
    /// How loud left and right are; `None` for a number that stands for no direction.
    fn direction(&self, factor: u8) -> Option<(f32, f32)> {
        let directions = &*DIRECTIONS;
        let steps: &[(f32, f32)] = if self.first {
            &directions.first
        } else {
            &directions.second[usize::from(self.coarse)]
        };
        steps.get(usize::from(factor)).copied()
    }

    /// Computes left and right. A band is intensity stereo if the right channel is silent in it and in all bands above,
    /// of the same window in short blocks. The long bands of a mixed block need silence in all three windows above.
    pub(super) fn apply(&self, bands: &Bands, left: &mut [f32; 576], right: &mut [f32; 576]) {
        let count = bands.count();
        let mut silent = [true; 3];
        for band in (0..count).rev() {
            let range = bands.get(band);
            let short = band >= bands.long;
            if !short && bands.long < count {
                silent = [silent == [true; 3]; 3];
            }
            let window = if short { (band - bands.long) % 3 } else { 0 };
            silent[window] &= right[range.clone()].iter().all(|&line| line == 0.0);
            // The last band has no scale factor, and takes that of the band below, of the same window.
            let named = match (short, count - band) {
                (true, 1..=3) => band - 3,
                (false, 1) => band - 1,
                _ => band,
            };
            let (left, right) = (&mut left[range.clone()], &mut right[range]);
            match self.direction(self.factors[named]) {
                Some(direction) if silent[window] => pan(direction, left, right),
                _ if self.middle => middle(left, right),
                _ => {}
            }
        }
    }
}

/// Splits one channel into left and right.
fn pan(direction: (f32, f32), left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        (*left, *right) = (*left * direction.0, *left * direction.1);
    }
}
