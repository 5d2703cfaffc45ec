//! The header of a frame: four bytes that give its length and its coding (ISO/IEC 11172-3, clause 2.4.1.3).
//!
//! A frame lasts a fixed time, so that its length follows from bitrate and sampling rate; one bit adds a byte of
//! padding. Headers without a bitrate (free format) are refused, since they don't tell the length.

/// Bytes of a header.
pub(in crate::codec::audio) const HEADER: usize = 4;
/// Kilobits a second of MPEG 1, and of MPEG 2 and 2.5. Number 0 is free format.
const BITRATES: [[usize; 15]; 2] = [
    [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Hertz of MPEG 1. MPEG 2 has half of these, MPEG 2.5 a quarter.
const SAMPLE_RATES: [usize; 3] = [44_100, 48_000, 32_000];

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "bits of a header, in any combination"
)]
pub(in crate::codec::audio) struct Head {
    /// Whether it is MPEG 1, not 2 or 2.5.
    pub(in crate::codec::audio) first: bool,
    pub(in crate::codec::audio) sample_rate: u32,
    /// The sampling rate as an index into the tables of bands: 0 to 2 for MPEG 1, 3 to 5 for 2, 6 to 8 for 2.5.
    pub(in crate::codec::audio) rate: usize,
    pub(in crate::codec::audio) channels: u16,
    /// Whether the two channels are a middle and a side.
    pub(in crate::codec::audio) middle: bool,
    /// Whether bands may be intensity stereo: one channel and its direction.
    pub(in crate::codec::audio) intensity: bool,
    crc: bool,
    /// Bytes of the frame, header included.
    pub(in crate::codec::audio) length: usize,
}

impl Head {
    /// Reads the header at the start of these bytes. `None` if they are no header of layer III.
    pub(in crate::codec::audio) fn of(bytes: &[u8]) -> Option<Self> {
        let &[0xFF, b, c, d] = bytes.first_chunk::<HEADER>()? else {
            return None;
        };
        let version = b >> 3 & 3;
        if b & 0xE0 != 0xE0 || version == 1 || b >> 1 & 3 != 1 {
            return None;
        }
        let first = version == 3;
        let bitrate = *BITRATES[usize::from(!first)].get(usize::from(c >> 4))?;
        let number = usize::from(c >> 2 & 3);
        let sample_rate = *SAMPLE_RATES.get(number)?;
        let (sample_rate, row) = match version {
            3 => (sample_rate, 0),
            2 => (sample_rate / 2, 1),
            _ => (sample_rate / 4, 2),
        };
        let slots = if first { 144_000 } else { 72_000 };
        let length = slots * bitrate / sample_rate + usize::from(c >> 1 & 1);
        let head = Self {
            first,
            sample_rate: sample_rate as u32,
            rate: 3 * row + number,
            channels: if d >> 6 == 3 { 1 } else { 2 },
            middle: d >> 6 == 1 && d & 0x20 != 0,
            intensity: d >> 6 == 1 && d & 0x10 != 0,
            crc: b & 1 == 0,
            length,
        };
        (bitrate > 0 && length > head.data()).then_some(head)
    }

    /// Whether both can be frames of one file: same version, sampling rate and number of channels.
    pub(in crate::codec::audio) fn is_like(&self, other: &Self) -> bool {
        (self.first, self.sample_rate, self.channels)
            == (other.first, other.sample_rate, other.channels)
    }

    /// Samples a channel that the frame becomes.
    pub(in crate::codec::audio) fn frames(&self) -> u64 {
        576 * self.granules() as u64
    }

    pub(in crate::codec::audio) fn granules(&self) -> usize {
        if self.first { 2 } else { 1 }
    }

    /// Bytes of the side information.
    pub(in crate::codec::audio) fn side_info(&self) -> usize {
        match (self.first, self.channels) {
            (true, 1) => 17,
            (true, _) => 32,
            (false, 1) => 9,
            (false, _) => 17,
        }
    }

    /// The place in the frame of its data, behind header, checksum and side information.
    pub(in crate::codec::audio) fn data(&self) -> usize {
        HEADER + if self.crc { 2 } else { 0 } + self.side_info()
    }

    /// How many bytes before its own data the frame's first granule begins (`main_data_begin`).
    pub(in crate::codec::audio) fn reservoir(&self, frame: &[u8]) -> usize {
        let at = HEADER + if self.crc { 2 } else { 0 };
        let (high, low) = (usize::from(frame[at]), usize::from(frame[at + 1]));
        if self.first {
            high << 1 | low >> 7
        } else {
            high
        }
    }
}
