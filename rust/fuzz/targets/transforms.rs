//! A list of operations, as Python hands it over: refused, or sound for images of every size.

#![no_main]

use fastshard_core::pixels::Rect;
use fastshard_core::random::{Draws, Key};
use fastshard_core::transform::{DecodeOptions, Finish, Layout, Operation, Recipe};
use libfuzzer_sys::fuzz_target;

const SIZES: [(u32, u32); 4] = [(1, 1), (64, 48), (65_535, 3), (20_000, 4000)];

fuzz_target!(|text: &[u8]| {
    let Ok(operations) = serde_json::from_slice::<Vec<Operation>>(text) else {
        return;
    };
    if operations.iter().any(|operation| operation.check().is_err()) {
        return;
    }
    let options = match operations.first() {
        Some(Operation::Decode(options)) => *options,
        _ => DecodeOptions::default(),
    };
    let _ = Finish::new(&operations, options.format(), Layout::Nchw);
    for (width, height) in SIZES {
        plan(&operations, width, height);
    }
});

fn plan(operations: &[Operation], width: u32, height: u32) {
    let key = Key { seed: 1, epoch: 2, row: 3, field: 4 };
    let mut recipe = Recipe::new(width, height);
    let mut known = Some([height, width]);
    for (at, operation) in operations.iter().enumerate() {
        if operation.apply(&mut recipe, &mut Draws::new(key, at)).is_err() {
            return;
        }
        known = operation.output_size(known);
    }
    // A rotation that expands has no size of its own; one that is told beforehand must come true.
    let size = [recipe.size().1, recipe.size().0];
    assert_eq!(known.unwrap_or(size), size);
    if let Some(Rect { x, y, width: w, height: h }) = recipe.needed() {
        assert!(x + w <= width && y + h <= height && w > 0 && h > 0);
    }
    assert!(matches!(recipe.reduction(), 1 | 2 | 4 | 8));
}
