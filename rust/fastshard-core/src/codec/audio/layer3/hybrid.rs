//! Spectral lines to samples of subbands (ISO/IEC 11172-3, clause 2.4.3.4): order, aliases, and the inverse modified
//! cosine transform (IMDCT), for eight subbands at a time.
//!
//! # Idea
//!
//! A long block transforms the 18 lines of a subband to 36 samples, and multiplies these by a window. The first 18 are
//! added to what the granule before has left, the other 18 are left for the next one. A short block transforms three
//! times 6 lines to 12 samples each, which overlap in the middle of the 36.
//!
//! Fast algorithms have many steps of few operations. Here all subbands of a granule have the same transform, so that
//! eight of them fill a vector. The two lowest of a mixed block are computed a second time. Then the plain sum is
//! simple and regular: each line times its cosines.
//!
//! # Half of the sums
//!
//! Sample i of 36 is a sum of lines k times cos(pi/72 (2i + 19)(2k + 1)). Each half is its own mirror image before it
//! is multiplied by the window:
//!
//! - sample 17 - i is minus sample i, for the first 18;
//! - sample 53 - i is sample i, for the others.
//!
//! So 9 sums of 18 products make each half: 324 multiplications a subband instead of 648, and 36 for the window. A
//! short block has 3 x 6 x 12 = 216, with the window in its table.
//!
//! # Tables
//!
//! [`Tables::long`] has 9 cosines by line and by half, [`Tables::short`] 12 by line, and [`Tables::windows`] one window
//! of 36 for each kind of long block: 6 KiB in all. Numbers are computed in double precision and rounded once.
//!
//! # Silence
//!
//! High subbands are often silent. The caller knows the line from which on all are zero, so that subbands above aren't
//! transformed, eight at a time.

use std::f64::consts::PI;
use std::sync::LazyLock;

use super::bands::{Bands, MIXED};
use super::lanes::{LANES, Lanes};
use super::side::Block;

pub(super) const SUBBANDS: usize = 32;
/// Lines of a subband in a granule, and samples.
pub(super) const LENGTH: usize = 18;
/// Samples of a granule: by time, all subbands.
pub(super) type Samples = [[f32; SUBBANDS]; LENGTH];

struct Tables {
    /// By line and by half of the 36 samples: the cosines of the half's first nine. The other nine are their mirror
    /// image.
    long: [[[f32; 9]; 2]; LENGTH],
    /// Windows of long, start and stop blocks.
    windows: [[f32; 36]; 3],
    /// By line, the cosines of the 12 samples of a short block, times the window.
    short: [[f32; 12]; 6],
    /// Factors against aliases, by distance from the border of two subbands: of a line itself (`cs` in the standard),
    /// and of its mirror image in the other subband (`ca`).
    own: [f32; 8],
    other: [f32; 8],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let cosine = |points: usize, line: usize, at: usize| {
        let turn = ((2 * at + 1 + points / 2) * (2 * line + 1)) as f64;
        (PI / (2 * points) as f64 * turn).cos()
    };
    let sine = |points: usize, at: usize| (PI / points as f64 * (at as f64 + 0.5)).sin();
    let mut tables = Tables {
        long: [[[0.0; 9]; 2]; LENGTH],
        windows: [[0.0; 36]; 3],
        short: [[0.0; 12]; 6],
        own: [0.0; 8],
        other: [0.0; 8],
    };
    for (line, halves) in tables.long.iter_mut().enumerate() {
        for (half, cosines) in halves.iter_mut().enumerate() {
            for (at, out) in cosines.iter_mut().enumerate() {
                *out = cosine(36, line, half * 18 + at) as f32;
            }
        }
    }
    for (line, cosines) in tables.short.iter_mut().enumerate() {
        for (at, out) in cosines.iter_mut().enumerate() {
            *out = (cosine(12, line, at) * sine(12, at)) as f32;
        }
    }
    for at in 0..36 {
        let long = sine(36, at) as f32;
        let start = match at {
            0..18 => long,
            18..24 => 1.0,
            24..30 => sine(12, at - 18) as f32,
            _ => 0.0,
        };
        tables.windows[0][at] = long;
        tables.windows[1][at] = start;
        tables.windows[2][35 - at] = start;
    }
    let leaks = [
        -0.6, -0.535, -0.33, -0.185, -0.095, -0.041, -0.0142, -0.0037,
    ];
    for (at, leak) in leaks.into_iter().enumerate() {
        let length = f64::hypot(1.0, leak);
        tables.own[at] = (1.0 / length) as f32;
        tables.other[at] = (leak / length) as f32;
    }
    tables
});

/// Sorts the lines of short blocks by frequency. The data have them window after window in each band; afterwards the
/// three windows of each frequency are neighbours.
#[inline(always)]
pub(super) fn order(bands: &Bands, lines: &mut [f32; 576]) {
    let mut ordered = *lines;
    for band in (bands.long..bands.count()).step_by(3) {
        let (first, last) = (bands.get(band), bands.get(band + 2));
        let width = first.len();
        for at in 0..width {
            for window in 0..3 {
                ordered[first.start + 3 * at + window] = lines[first.start + window * width + at];
            }
        }
        debug_assert_eq!(first.start + 3 * width, last.end);
    }
    *lines = ordered;
}

/// Reduces the aliases between neighbouring subbands, by 8 butterflies at each border (table B.9). Short blocks have
/// none, mixed ones only between their long subbands. Returns how many subbands may not be silent.
#[inline(always)]
pub(super) fn leaks(block: Block, lines: &mut [f32; 576], end: usize) -> usize {
    let used = end.div_ceil(LENGTH);
    let last = match block {
        Block::Short => return used,
        Block::Mixed => MIXED / LENGTH,
        _ => (used + 1).min(SUBBANDS),
    };
    let tables = &*TABLES;
    for subband in 1..last {
        let (below, above) = lines.split_at_mut(subband * LENGTH);
        let below = &mut below[subband * LENGTH - 8..];
        let above = &mut above[..8];
        for at in 0..8 {
            let (low, high) = (below[7 - at], above[at]);
            below[7 - at] = low * tables.own[at] - high * tables.other[at];
            above[at] = high * tables.own[at] + low * tables.other[at];
        }
    }
    used.max(last)
}

/// Transforms lines to the samples that they add to this granule (`now`) and to the next one (`later`). `mixed`: the
/// two lowest subbands have the transform and the window of a long block. `used`: subbands from this one on are silent.
#[inline(always)]
pub(super) fn transform(
    block: Block,
    mixed: bool,
    lines: &[f32; 576],
    used: usize,
    now: &mut Samples,
    later: &mut Samples,
) {
    let mut turned = [[0.0; SUBBANDS]; LENGTH];
    for (subband, lines) in lines.as_chunks::<LENGTH>().0[..used].iter().enumerate() {
        for (turned, line) in turned.iter_mut().zip(lines) {
            turned[subband] = *line;
        }
    }
    let tables = &*TABLES;
    for at in (0..SUBBANDS).step_by(LANES) {
        if at >= used {
            for sample in now.iter_mut().chain(later.iter_mut()) {
                Lanes::ZERO.store(sample, at);
            }
        } else if block.is_short() {
            short(tables, &turned, at, now, later);
        } else {
            let window = match block {
                Block::Start => 1,
                Block::Stop => 2,
                _ => 0,
            };
            long(tables, &tables.windows[window], &turned, at, now, later);
        }
    }
    if mixed {
        let (mut long_now, mut long_later) = ([[0.0; SUBBANDS]; LENGTH], [[0.0; SUBBANDS]; LENGTH]);
        long(
            tables,
            &tables.windows[0],
            &turned,
            0,
            &mut long_now,
            &mut long_later,
        );
        for at in 0..LENGTH {
            now[at][..MIXED / LENGTH].copy_from_slice(&long_now[at][..MIXED / LENGTH]);
            later[at][..MIXED / LENGTH].copy_from_slice(&long_later[at][..MIXED / LENGTH]);
        }
    }
}

/// Transforms a long block of eight subbands, from `subband` on.
#[inline(always)]
fn long(
    tables: &Tables,
    window: &[f32; 36],
    lines: &Samples,
    subband: usize,
    now: &mut Samples,
    later: &mut Samples,
) {
    for (half, out) in [now, later].into_iter().enumerate() {
        let mut sums = [Lanes::ZERO; 9];
        for (lines, cosines) in lines.iter().zip(&tables.long) {
            let line = Lanes::load(lines, subband);
            for (sum, cosine) in sums.iter_mut().zip(&cosines[half]) {
                *sum = *sum + line * Lanes::all(*cosine);
            }
        }
        // The mirror image of the first half is negated.
        let sign = if half == 0 { -1.0 } else { 1.0 };
        for (at, sum) in sums.into_iter().enumerate() {
            let (here, there) = (window[18 * half + at], window[18 * half + 17 - at]);
            (sum * Lanes::all(here)).store(&mut out[at], subband);
            (sum * Lanes::all(sign * there)).store(&mut out[17 - at], subband);
        }
    }
}

/// Transforms the three short blocks of eight subbands, from `subband` on. They start at samples 6, 12 and 18 of the
/// 36.
#[inline(always)]
fn short(tables: &Tables, lines: &Samples, subband: usize, now: &mut Samples, later: &mut Samples) {
    let mut sums = [Lanes::ZERO; 36];
    for window in 0..3 {
        for (line, cosines) in tables.short.iter().enumerate() {
            let line = Lanes::load(&lines[3 * line + window], subband);
            for (sum, cosine) in sums[6 + 6 * window..].iter_mut().zip(cosines) {
                *sum = *sum + line * Lanes::all(*cosine);
            }
        }
    }
    for at in 0..LENGTH {
        sums[at].store(&mut now[at], subband);
        sums[at + LENGTH].store(&mut later[at], subband);
    }
}
