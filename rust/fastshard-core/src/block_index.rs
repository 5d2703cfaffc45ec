//! Which block a row lies in.

use crate::format::Manifest;

/// The blocks of all shards, found by row without a search.
#[derive(Clone, Debug)]
pub(crate) struct BlockIndex {
    /// First row, shard and block of each block, in order.
    pub(crate) starts: Vec<(u64, u32, u32)>,
    /// The block of every row whose number is a multiple of `1 << shift`.
    guide: Vec<u32>,
    shift: u32,
}

impl BlockIndex {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut starts = Vec::new();
        let mut row = 0;
        for (shard, entry) in manifest.shards.iter().enumerate() {
            for (block, entry) in entry.blocks.iter().enumerate() {
                starts.push((row, shard as u32, block as u32));
                row += entry.rows;
            }
        }
        let (guide, shift) = guide(&starts, row);
        Self {
            starts,
            guide,
            shift,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The number of the block that an existing row lies in, and the row's place in it.
    pub(crate) fn find(&self, row: u64) -> (usize, usize) {
        let mut at = self.guide[(row >> self.shift) as usize] as usize;
        // Blocks mostly are as long as the guide's steps or longer.
        while self.starts.get(at + 1).is_some_and(|next| next.0 <= row) {
            at += 1;
        }
        (at, (row - self.starts[at].0) as usize)
    }
}

/// Steps of about half a block, so that there are about as many as there are blocks, whatever a manifest says.
fn guide(starts: &[(u64, u32, u32)], rows: u64) -> (Vec<u32>, u32) {
    let shift = (rows / starts.len().max(1) as u64 / 2).max(1).ilog2();
    let mut at = 0;
    let block = |number: u64| {
        while (starts.get(at + 1)).is_some_and(|next| next.0 <= number << shift) {
            at += 1;
        }
        at as u32
    };
    let steps = rows.div_ceil(1 << shift);
    ((0..steps).map(block).collect(), shift)
}
