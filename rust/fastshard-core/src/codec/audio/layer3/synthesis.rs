//! The filter bank: 32 subbands to one signal, for eight samples of time at a time.
//!
//! A cosine transform across the subbands (B. G. Lee's, 1984), and of what it gives a filter of sixteen taps along the time
//! for each of the 32 phases of the output.

use std::f64::consts::PI;
use std::sync::LazyLock;

use super::hybrid::SUBBANDS;
use super::lanes::{LANES, Lanes};

/// Samples of a subband in a frame, and up to a multiple of the lanes.
pub(super) const MOST: usize = 36;
const ROOM: usize = MOST.next_multiple_of(LANES);
/// What is remembered of the frames before: the filter's length, and one to keep rows aligned.
const PAST: usize = 16;

/// Of each subband, sample after sample.
pub(super) type Rows = [[f32; ROOM]; SUBBANDS];

pub(super) const SILENCE: Rows = [[0.0; ROOM]; SUBBANDS];

/// The filter, times 65,536 (ISO/IEC 11172-3, table B.3): the second half is the first one mirrored, and upside down but
/// for every 64th.
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

/// Each phase's taps: those at even places are of one row of the transform, those at odd ones of another.
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
    past: [[f32; PAST + ROOM]; SUBBANDS],
    /// Of the output: sample after sample of each phase.
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
    /// Takes so many samples of each subband, and gives 32 times as many.
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

    /// One phase and the one that uses the same rows.
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

/// Half the reciprocals of the cosines by which a transform becomes two of half as many points: of 32 points, 16 and so on.
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
        /// The cosine transform of so many points.
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

/// Of one point.
#[inline(always)]
fn cosines1(_: &mut [Lanes; 1], _: &Reciprocals) {}

cosines!(cosines2, cosines1, 1, 4);
cosines!(cosines4, cosines2, 2, 3);
cosines!(cosines8, cosines4, 4, 2);
cosines!(cosines16, cosines8, 8, 1);
cosines!(cosines32, cosines16, 16, 0);
