//! The side information of a frame: how its granules are coded (ISO/IEC 11172-3, clauses 2.4.1.7 and 2.4.2.7).

use super::bands::LONG;
use super::bits::Bits;
use super::head::Head;

/// The kind of a channel's transforms in a granule (`block_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Block {
    #[default]
    Long,
    Start,
    Short,
    /// Short, except for the two lowest subbands, which are long.
    Mixed,
    Stop,
}

impl Block {
    pub(super) fn is_short(self) -> bool {
        matches!(self, Self::Short | Self::Mixed)
    }
}

/// One channel of one granule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Bits of the scale factors and the Huffman codes.
    pub(super) length: usize,
    /// Gain of all lines, in quarters of an octave.
    pub(super) gain: i32,
    /// The lengths of the scale factors (`scalefac_compress`).
    pub(super) compress: usize,
    pub(super) block: Block,
    /// Whether the two lowest subbands have the window of a long block, whatever the others have.
    pub(super) mixed: bool,
    /// What each short window is quieter by, in quarters of an octave.
    pub(super) window_gain: [i32; 3],
    /// The line where each region of pairs ends, and the number of its Huffman table.
    pub(super) regions: [(usize, u8); 3],
    /// Whether higher bands get more gain than their scale factors say (`preflag`).
    pub(super) emphasis: bool,
    /// The shift that turns scale factors into quarters of an octave: 1 or 2.
    pub(super) shift: u32,
    /// Whether quads have codes of four bits each.
    pub(super) quads: bool,
}

/// A frame's side information.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side {
    /// Bytes before the frame's data at which its granules begin.
    pub(super) reservoir: usize,
    /// By channel: which groups of scale factors the second granule shares with the first (`scfsi`).
    pub(super) shared: [[bool; 4]; 2],
    /// By granule and channel.
    pub(super) parts: [[Part; 2]; 2],
}

/// The longest side information, and room behind it.
const ROOM: usize = 32 + 8;

impl Side {
    pub(super) fn read(head: &Head, frame: &[u8]) -> Result<Self, &'static str> {
        let mut bytes = [0; ROOM];
        let place = frame.get(head.data() - head.side_info()..head.data());
        let found = place.ok_or("ends within its header")?;
        bytes[..found.len()].copy_from_slice(found);
        let mut bits = Bits::new(&bytes, 0);
        let channels = usize::from(head.channels);
        let mut side = Self {
            reservoir: bits.take(if head.first { 9 } else { 8 }) as usize,
            ..Self::default()
        };
        bits.take(match (head.first, channels) {
            (true, 1) => 5,
            (true, _) => 3,
            (false, channels) => channels as u32,
        });
        if head.first {
            for shared in &mut side.shared[..channels] {
                *shared = [0; 4].map(|_: u8| bits.flag());
            }
        }
        for granule in &mut side.parts[..head.granules()] {
            for (channel, part) in granule[..channels].iter_mut().enumerate() {
                *part = Part::read(&mut bits, head)?;
                // The factors of this channel are directions of intensity stereo.
                part.emphasis &= head.first || channel == 0 || !head.intensity;
            }
        }
        Ok(side)
    }
}

impl Part {
    /// Whether both have the same transforms.
    pub(super) fn alike(&self, other: &Self) -> bool {
        (self.block, self.mixed) == (other.block, other.mixed)
    }

    fn read(bits: &mut Bits<'_, ROOM>, head: &Head) -> Result<Self, &'static str> {
        let length = bits.take(12) as usize;
        let pairs = 2 * bits.take(9) as usize;
        if pairs > 576 {
            return Err("more than 576 lines in a granule");
        }
        let mut part = Self {
            length,
            gain: bits.take(8) as i32 - 210,
            compress: bits.take(if head.first { 4 } else { 9 }) as usize,
            ..Self::default()
        };
        let ends = if bits.flag() {
            part.switched(bits, head)?
        } else {
            let tables = [0; 3].map(|_: u8| bits.take(5) as u8);
            let first = bits.take(4) as usize + 1;
            let second = first + bits.take(3) as usize + 1;
            let bands = &LONG[head.rate];
            [
                (bands[first], tables[0]),
                (bands.get(second).copied().unwrap_or(576), tables[1]),
                (576, tables[2]),
            ]
        };
        part.regions = ends.map(|(end, table)| (end.min(pairs), table));
        part.emphasis = if head.first {
            bits.flag()
        } else {
            part.compress >= 500
        };
        part.shift = 1 + bits.take(1);
        part.quads = bits.flag();
        Ok(part)
    }

    /// Reads what a granule with another block than a plain long one says in place of its regions. Their ends are fixed
    /// then.
    fn switched(
        &mut self,
        bits: &mut Bits<'_, ROOM>,
        head: &Head,
    ) -> Result<[(usize, u8); 3], &'static str> {
        let kind = bits.take(2);
        self.mixed = bits.flag();
        self.block = match (kind, self.mixed) {
            (1, _) => Block::Start,
            (2, false) => Block::Short,
            (2, true) => Block::Mixed,
            (3, _) => Block::Stop,
            _ => return Err("a granule of no type"),
        };
        let tables = [0; 2].map(|_: u8| bits.take(5) as u8);
        self.window_gain = [0; 3].map(|_: u8| 8 * bits.take(3) as i32);
        // MPEG 2.5 isn't in the standard: its ends are those that other decoders use.
        let bands = &LONG[head.rate];
        let end = match self.block {
            _ if head.first || (head.rate < 6 && self.block.is_short()) => 36,
            Block::Short => bands[6],
            _ => bands[8],
        };
        Ok([(end, tables[0]), (576, tables[1]), (576, 0)])
    }
}
