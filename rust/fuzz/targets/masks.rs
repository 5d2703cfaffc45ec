//! Segmentations of objects as a dataset holds them: refused, or masks inside of their image, whatever moves them.

#![no_main]

use fastshard_core::mask::{Painter, Segmentation, parse};
use fastshard_core::transform::{Matrix, Move, moved_outline};
use libfuzzer_sys::fuzz_target;

const SIDE: u32 = 40;

fuzz_target!(|text: &[u8]| {
    let Ok(found) = std::str::from_utf8(text).map_err(|_| ()).and_then(|text| parse(text).map_err(|_| ())) else {
        return;
    };
    let perspective = Matrix([[1.5, 0.2, -3.0], [0.1, 0.8, 4.0], [-0.03, 0.01, 1.0]]);
    let moves = [Move { matrix: perspective, size: (SIDE, SIDE) }; 2];
    let mut painter = Painter::default();
    for one in found.into_iter().flatten() {
        match one {
            Segmentation::Polygons(polygons) => {
                for corners in polygons {
                    let moved = moved_outline(&corners, (50, 30), &moves);
                    let inside = |at: f64| (-0.01..=f64::from(SIDE) + 0.01).contains(&at);
                    assert!(moved.iter().flatten().all(|&at| inside(at)));
                    for corners in [corners, moved] {
                        let mut mask = vec![0; (SIDE * SIDE) as usize];
                        painter.paint(&corners, SIDE as usize, &mut mask);
                        assert!(mask.iter().all(|&pixel| pixel < 2));
                    }
                }
            }
            Segmentation::Runs(runs) => {
                let [height, width] = runs.size();
                if u64::from(height) * u64::from(width) > 1 << 20 {
                    continue; // nobody asks for more than an image has
                }
                let mut columns = Vec::new();
                runs.columns(&mut columns).expect("a few pixels");
                let bounds = runs.bounds();
                assert_eq!(bounds.is_some(), columns.contains(&1));
                if let Some([left, top, right, bottom]) = bounds {
                    assert!(left < right && top < bottom);
                    assert!(right <= f64::from(width) && bottom <= f64::from(height));
                }
            }
        }
    }
});
