//! The synthesis filter bank (ISO/IEC 11172-3, clause 2.4.3.4): 32 subbands to one signal, eight samples of time at
//! once.
//!
//! # Idea
//!
//! For one sample of each subband, the standard computes a vector V of 64 values, and keeps the last 16 of these
//! vectors. It makes 32 samples out of them, each a sum of 16 products with a window D. Two things make this cheaper
//! here.
//!
//! # The transform
//!
//! `V[i]` is the sum over subbands k of `S[k]` cos((16 + i)(2k + 1) pi/64). The plain discrete cosine transform of 32
//! points is `X[n]`, with cos(n (2k + 1) pi/64). It has all of these values up to their sign, since cosines repeat:
//!
//! | i | `V[i]` |
//! |---|---|
//! | 0 to 15 | `X[16 + i]` |
//! | 16 | 0 |
//! | 17 to 48 | `-X[48 - i]` |
//! | 49 to 63 | `-X[i - 48]` |
//!
//! So only X is computed, by the recursion of B. G. Lee (1984): a transform of n points is two of n/2, of sums and of
//! scaled differences. 32 points take 80 multiplications and 209 additions, where V by its definition takes 2,048
//! multiplications.
//!
//! # The filter
//!
//! Output sample (phase) p of 32 uses `V[p]` of the newest vector and of every second one before it. Of the vectors
//! between, it uses `V[p + 32]`. By the table above these are two rows of X along the time: for p up to 16, row 16 + p
//! and row 16 - p. [`TAPS`] holds the 16 factors of each phase, with the signs from the table: even taps for the first
//! row, odd taps for the second. Phases p and 32 - p use the same rows, so that [`Bank::filter`] computes both with one
//! load of each.
//!
//! # Vectors
//!
//! All steps are the same at each time. So a vector holds eight consecutive times of one row, and neither the transform
//! nor the filter has to move numbers between lanes. A frame has 18 or 36 times. Rows have room for 40, and what the
//! last vector computes beyond the frame isn't used.
//!
//! # Cost
//!
//! 16 multiplications a sample for the filter, and 2.5 for the transform. A [`Bank`] takes 12 KiB, [`TAPS`] 2 KiB.

use std::f64::consts::PI;
use std::sync::LazyLock;

use super::hybrid::SUBBANDS;
use super::lanes::{LANES, Lanes};

/// The most samples of a subband in a frame.
pub(super) const MOST: usize = 36;
/// [`MOST`], up to a multiple of the lanes.
const ROOM: usize = MOST.next_multiple_of(LANES);
/// Times that are kept of the frames before: the 15 that taps reach back, and one to keep rows aligned.
const PAST: usize = 16;

/// Samples of a frame: by subband, all times.
pub(super) type Rows = [[f32; ROOM]; SUBBANDS];

pub(super) const SILENCE: Rows = [[0.0; ROOM]; SUBBANDS];

/// The first half and the centre of the window D, times 65,536 (table B.3). The second half is the mirror image of the
/// first, negated except for every 64th number.
#[rustfmt::skip]
const WINDOW: [i32; 257] = [
    0, -1, -1, -1, -1, -1, -1, -2, -2, -2, -2, -3, -3, -4, -4, -5, -5, -6, -7, -7, -8, -9, -10, -11, -13, -14, -16,
    -17, -19, -21, -24, -26, -29, -31, -35, -38, -41, -45, -49, -53, -58, -63, -68, -73, -79, -85, -91, -97, -104,
    -111, -117, -125, -132, -139, -147, -154, -161, -169, -176, -183, -190, -196, -202, -208, 213, 218, 222, 225, 227,
    228, 228, 227, 224, 221, 215, 208, 200, 189, 177, 163, 146, 127, 106, 83, 57, 29, -2, -36, -72, -111, -153, -197,
    -244, -294, -347, -401, -459, -519, -581, -645, -711, -779, -848, -919, -991, -1064, -1137, -1210, -1283, -1356,
    -1428, -1498, -1567, -1634, -1698, -1759, -1817, -1870, -1919, -1962, -2001, -2032, -2057, -2075, -2085, -2087,
    -2080, -2063, 2037, 2000, 1952, 1893, 1822, 1739, 1644, 1535, 1414, 1280, 1131, 970, 794, 605, 402, 185, -45,
    -288, -545, -814, -1095, -1388, -1692, -2006, -2330, -2663, -3004, -3351, -3705, -4063, -4425, -4788, -5153,
    -5517, -5879, -6237, -6589, -6935, -7271, -7597, -7910, -8209, -8491, -8755, -8998, -9219, -9416, -9585, -9727,
    -9838, -9916, -9959, -9966, -9935, -9863, -9750, -9592, -9389, -9139, -8840, -8492, -8092, -7640, -7134, 6574,
    5959, 5288, 4561, 3776, 2935, 2037, 1082, 70, -998, -2122, -3300, -4533, -5818, -7154, -8540, -9975, -11455,
    -12980, -14548, -16155, -17799, -19478, -21189, -22929, -24694, -26482, -28289, -30112, -31947, -33791, -35640,
    -37489, -39336, -41176, -43006, -44821, -46617, -48390, -50137, -51853, -53534, -55178, -56778, -58333, -59838,
    -61289, -62684, -64019, -65290, -66494, -67629, -68692, -69679, -70590, -71420, -72169, -72835, -73415, -73908,
    -74313, -74630, -74856, -74992, 75038,
];

/// The factors of each phase: at even places for row 16 + phase of the transform, at odd ones for row 16 - phase. For
/// phases above 16, rows are those of 32 - phase.
static TAPS: LazyLock<[[f32; 16]; SUBBANDS]> = LazyLock::new(|| {
    let window = |at: usize| {
        let (mirrored, sign) = if at <= 256 {
            (at, 1)
        } else {
            (512 - at, if at.is_multiple_of(64) { 1 } else { -1 })
        };
        (sign * WINDOW[mirrored]) as f32 / 65_536.0
    };
    std::array::from_fn(|phase| {
        let sign = match phase {
            0..16 => 1.0,
            16 => 0.0,
            _ => -1.0,
        };
        std::array::from_fn(|tap| {
            let at = tap / 2 * 64 + phase;
            if tap % 2 == 0 {
                sign * window(at)
            } else {
                -window(at + 32)
            }
        })
    })
});

/// The filter bank of one channel.
#[derive(Debug)]
pub(super) struct Bank {
    /// The transform X: by row, [`PAST`] times of the frames before, then those of this frame.
    past: [[f32; PAST + ROOM]; SUBBANDS],
    /// The output: by phase, all times.
    phases: Rows,
}

impl Default for Bank {
    fn default() -> Self {
        Self {
            past: [[0.0; PAST + ROOM]; SUBBANDS],
            phases: SILENCE,
        }
    }
}

impl Bank {
    /// Turns `count` samples of each subband into 32 x `count` samples.
    #[inline(always)]
    pub(super) fn run(&mut self, rows: &Rows, count: usize, out: &mut [f32; MOST * SUBBANDS]) {
        let (taps, reciprocals) = (&*TAPS, &*RECIPROCALS);
        for at in (0..count).step_by(LANES) {
            let mut column = [Lanes::ZERO; SUBBANDS];
            for (value, row) in column.iter_mut().zip(rows) {
                *value = Lanes::load(row, at);
            }
            cosines32(&mut column, reciprocals);
            for (value, row) in column.into_iter().zip(&mut self.past) {
                value.store(row, PAST + at);
            }
        }
        for phase in 0..=SUBBANDS / 2 {
            self.filter(taps, phase, count);
        }
        for (at, out) in out.as_chunks_mut::<SUBBANDS>().0[..count]
            .iter_mut()
            .enumerate()
        {
            for (out, phase) in out.iter_mut().zip(&self.phases) {
                *out = phase[at];
            }
        }
        for row in &mut self.past {
            let last: [f32; PAST] = row[count..].first_chunk().copied().unwrap_or_default();
            row[..PAST].copy_from_slice(&last);
        }
    }

    /// Filters a phase, 0 to 16, and the one that uses the same rows.
    #[inline(always)]
    fn filter(&mut self, taps: &[[f32; 16]; SUBBANDS], phase: usize, count: usize) {
        let half = SUBBANDS / 2;
        let (even, odd) = (
            &self.past[(half + phase) % SUBBANDS],
            &self.past[half - phase],
        );
        let mirrored = (SUBBANDS - phase) % SUBBANDS;
        let (taps, mirrored_taps) = (&taps[phase], &taps[mirrored]);
        for at in (0..count).step_by(LANES) {
            let mut sums = [Lanes::ZERO; 2];
            for tap in 0..8 {
                let even = Lanes::load(even, PAST + at - 2 * tap);
                let odd = Lanes::load(odd, PAST + at - 2 * tap - 1);
                for (sum, taps) in sums.iter_mut().zip([taps, mirrored_taps]) {
                    *sum = *sum + even * Lanes::all(taps[2 * tap]);
                    *sum = *sum + odd * Lanes::all(taps[2 * tap + 1]);
                }
            }
            sums[1].store(&mut self.phases[mirrored], at);
            sums[0].store(&mut self.phases[phase], at);
        }
    }
}

/// Lee's factors, 1 / (2 cos((2 at + 1) pi / 2n)), by step of the recursion: n is 32, 16, 8, 4 and 2.
struct Reciprocals([[f32; SUBBANDS / 2]; 5]);

static RECIPROCALS: LazyLock<Reciprocals> = LazyLock::new(|| {
    Reciprocals(std::array::from_fn(|step| {
        std::array::from_fn(|at| {
            let turn = (2 * at + 1) as f64 * PI / f64::from(64 >> step);
            (0.5 / turn.cos()) as f32
        })
    }))
});

macro_rules! cosines {
    ($name:ident, $below:ident, $half:literal, $step:literal) => {
        /// The cosine transform of twice `$half` points: even results are those of the sums, odd ones those of the
        /// differences, each added to the next one.
        #[inline(always)]
        fn $name(values: &mut [Lanes; 2 * $half], by: &Reciprocals) {
            let (mut sums, mut differences) = ([Lanes::ZERO; $half], [Lanes::ZERO; $half]);
            for at in 0..$half {
                let (low, high) = (values[at], values[2 * $half - 1 - at]);
                sums[at] = low + high;
                differences[at] = (low - high) * Lanes::all(by.0[$step][at]);
            }
            $below(&mut sums, by);
            $below(&mut differences, by);
            for at in 0..$half {
                values[2 * at] = sums[at];
                values[2 * at + 1] = match differences.get(at + 1) {
                    Some(next) => differences[at] + *next,
                    None => differences[at],
                };
            }
        }
    };
}

/// The end of the recursion: the transform of one point is that point.
#[inline(always)]
fn cosines1(_: &mut [Lanes; 1], _: &Reciprocals) {}

cosines!(cosines2, cosines1, 1, 4);
cosines!(cosines4, cosines2, 2, 3);
cosines!(cosines8, cosines4, 4, 2);
cosines!(cosines16, cosines8, 8, 1);
cosines!(cosines32, cosines16, 16, 0);
