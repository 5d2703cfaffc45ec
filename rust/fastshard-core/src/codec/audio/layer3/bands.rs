//! Scale-factor bands: the ranges of lines that share a scale factor (ISO/IEC 11172-3, table B.8; ISO/IEC 13818-3,
//! table B.2).
//!
//! Tables are indexed by sampling rate: 44.1, 48, 32, 22.05, 24, 16, 11.025, 12 and 8 kHz. A long block has 22 bands. A
//! short block has 13, each in three windows, which count as bands of their own here: 39. A mixed block has long bands
//! below line 36 and short ones above.

/// By sampling rate: the first line of each band of a long block, and 576.
#[rustfmt::skip]
pub(super) const LONG: [[usize; 23]; 9] = {
    const LOW: [usize; 23] = [
        0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576,
    ];
    [
        [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 52, 62, 74, 90, 110, 134, 162, 196, 238, 288, 342, 418, 576],
        [0, 4, 8, 12, 16, 20, 24, 30, 36, 42, 50, 60, 72, 88, 106, 128, 156, 190, 230, 276, 330, 384, 576],
        [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 54, 66, 82, 102, 126, 156, 194, 240, 296, 364, 448, 550, 576],
        LOW,
        [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 114, 136, 162, 194, 232, 278, 332, 394, 464, 540, 576],
        LOW,
        LOW,
        LOW,
        [0, 12, 24, 36, 48, 60, 72, 88, 108, 132, 160, 192, 232, 280, 336, 400, 476, 566, 568, 570, 572, 574, 576],
    ]
};

/// By sampling rate: the first line of each band of a short block, in lines of one window, and 192.
#[rustfmt::skip]
const SHORT: [[usize; 14]; 9] = {
    const LOW: [usize; 14] = [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 134, 174, 192];
    [
        [0, 4, 8, 12, 16, 22, 30, 40, 52, 66, 84, 106, 136, 192],
        [0, 4, 8, 12, 16, 22, 28, 38, 50, 64, 80, 100, 126, 192],
        [0, 4, 8, 12, 16, 22, 30, 42, 58, 78, 104, 138, 180, 192],
        [0, 4, 8, 12, 18, 24, 32, 42, 56, 74, 100, 132, 174, 192],
        [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 136, 180, 192],
        LOW,
        LOW,
        LOW,
        [0, 8, 16, 24, 36, 52, 72, 96, 124, 160, 162, 164, 166, 192],
    ]
};

/// Lines of the long part of a mixed block.
pub(super) const MIXED: usize = 36;

/// The bands of a granule, in the order of the data. Each window of a band of short blocks counts as a band.
pub(super) struct Bands {
    /// The first line of each band, and 576 from there on.
    starts: [usize; 40],
    count: usize,
    /// How many bands are long. These come first.
    pub(super) long: usize,
}

impl Bands {
    #[inline(always)]
    pub(super) fn new(rate: usize, short: bool, mixed: bool) -> Self {
        let mut bands = Self {
            starts: [576; 40],
            count: 0,
            long: 0,
        };
        if !short {
            bands.starts[..23].copy_from_slice(&LONG[rate]);
            (bands.count, bands.long) = (22, 22);
            return bands;
        }
        if mixed {
            let long = LONG[rate].iter().take_while(|&&start| start < MIXED);
            for &start in long {
                bands.starts[bands.count] = start;
                bands.count += 1;
            }
            bands.long = bands.count;
        }
        let from = if mixed { MIXED } else { 0 };
        for pair in SHORT[rate].windows(2) {
            let (start, end) = ((3 * pair[0]).max(from), 3 * pair[1]);
            for window in 0..if end > start { 3 } else { 0 } {
                bands.starts[bands.count] = start + window * (end - start) / 3;
                bands.count += 1;
            }
        }
        bands
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The lines of a band.
    #[inline(always)]
    pub(super) fn get(&self, band: usize) -> std::ops::Range<usize> {
        self.starts[band]..self.starts[band + 1]
    }
}
