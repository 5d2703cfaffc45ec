//! From middle and side, or from a sum and its direction, to left and right.

use std::f32::consts::FRAC_1_SQRT_2;
use std::f64::consts::PI;
use std::sync::LazyLock;

use super::bands::Bands;
use super::scale::Factors;

/// How loud left and right are, by a band's factor: of MPEG 1, and of MPEG 2 in fine and in coarse steps. Where there is
/// nothing, the band isn't stored that way.
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

/// Left and right of middle and side.
#[inline(always)]
pub(super) fn middle(left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let (middle, side) = (*left, *right);
        *left = (middle + side) * FRAC_1_SQRT_2;
        *right = (middle - side) * FRAC_1_SQRT_2;
    }
}

/// What intensity stereo needs to know of its frame.
pub(super) struct Intensity<'a> {
    pub(super) first: bool,
    /// Of MPEG 2, whether steps are coarse.
    pub(super) coarse: bool,
    /// Whether what isn't stored that way is middle and side.
    pub(super) middle: bool,
    /// The right channel's, which tell directions.
    pub(super) factors: &'a Factors,
}

impl Intensity<'_> {
    fn direction(&self, factor: u8) -> Option<(f32, f32)> {
        let directions = &*DIRECTIONS;
        let steps: &[(f32, f32)] = if self.first {
            &directions.first
        } else {
            &directions.second[usize::from(self.coarse)]
        };
        steps.get(usize::from(factor)).copied()
    }

    /// Bands of which the right channel, and all above it, are silent are stored as a sum; each short window has its own
    /// last band. Of a mixed block's long bands that holds where all windows above are silent.
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
            // The last band's isn't stored: it is that of the one before it.
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

fn pan(direction: (f32, f32), left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        (*left, *right) = (*left * direction.0, *left * direction.1);
    }
}
