//! Transforms of whole batches: `MixUp`, `CutMix`, and a random choice among them.
//!
//! They run in place, on the thread that filled the batch's last row, while the others go on with the next batch. A
//! row's partner is the row before it, so only one row has to be saved; see `mix`.
//!
//! The draws' key is (seed, epoch, position of the batch). So they depend on the batch size by nature, but on no
//! thread.
//!
//! Labels are shares of classes and are blended like pixels. `MixUp` weighs both by lambda. `CutMix` clips its box at
//! the borders of the image, and lambda becomes the share of the image outside of the box.

use super::mix::{Rows, beta};
use crate::error::Result;
use crate::pipeline::plan::PlannedField;
use crate::pipeline::spec::{BatchOperation, Mix};
use crate::pixels::Scratch;
use crate::random::{Draws, Key};
use crate::schema::Dtype;
use crate::transform::Layout;

/// Stands for the field in the key of a batch's draws; no schema has so many fields.
const WHOLE_BATCH: u64 = u32::MAX as u64;

#[derive(Clone, Copy)]
enum How {
    Blend,
    Paste,
}

impl BatchOperation {
    fn choose(&self, draws: &mut Draws) -> (How, &Mix) {
        match self {
            Self::Mixup(mix) => (How::Blend, mix),
            Self::Cutmix(mix) => (How::Paste, mix),
            Self::RandomChoice { transforms, p } => transforms[pick(p, draws)].choose(draws),
        }
    }
}

/// Draws an index with probabilities in proportion to the weights.
fn pick(weights: &[f64], draws: &mut Draws) -> usize {
    let mut left = draws.unit() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    // Rounding may leave a little behind the last weight.
    let last = weights.iter().rposition(|weight| *weight > 0.0);
    found.or(last).unwrap_or_default()
}

/// The box `x1, y1, x2, y2` of torchvision's `CutMix`: 1 - lambda of the area, clipped at the borders.
fn random_box([height, width]: [usize; 2], lambda: f64, draws: &mut Draws) -> [usize; 4] {
    let half = 0.5 * (1.0 - lambda).sqrt();
    let mut side = |length: usize| {
        let centre = draws.below(length as u32) as usize;
        let reach = (half * length as f64) as usize;
        [centre.saturating_sub(reach), (centre + reach).min(length)]
    };
    let ([x1, x2], [y1, y2]) = (side(width), side(height));
    [x1, y1, x2, y2]
}

fn height_width(shape: &[usize], layout: Layout) -> [usize; 2] {
    match layout {
        Layout::Nhwc => [shape[0], shape[1]],
        Layout::Nchw => [shape[1], shape[2]],
    }
}

/// A batch whose rows are filled and which is not handed over yet.
pub(super) struct Filled<'a> {
    pub(super) fields: &'a [PlannedField],
    pub(super) layout: Layout,
    /// The rows that did not fail, ascending.
    pub(super) kept: &'a [usize],
    pub(super) seed: u64,
    pub(super) epoch: u64,
    pub(super) position: u64,
}

/// Runs the operations on one batch. `values` gives the memory of a field.
pub(super) fn run<'a>(
    operations: &[BatchOperation],
    batch: &Filled<'a>,
    saved: &mut Scratch,
    values: impl Fn(&PlannedField) -> &'a mut [u8],
) -> Result<()> {
    let key = Key {
        seed: batch.seed,
        epoch: batch.epoch,
        row: batch.position,
        field: WHOLE_BATCH,
    };
    let find = |name: &str| {
        let mut named = batch.fields.iter().filter(|field| field.name == name);
        named.next().expect("checked when the loader was made")
    };
    let rows = |field: &PlannedField| Rows {
        values: values(field),
        size: field.row_bytes,
        kept: batch.kept,
    };
    let layout = batch.layout;
    for (at, operation) in operations.iter().enumerate() {
        let mut draws = Draws::new(key, at);
        let (how, mix) = operation.choose(&mut draws);
        let image = find(&mix.image);
        let dtype = image.dtype.expect("images have one");
        // In single precision, as torch draws it.
        let mut lambda = f64::from(beta(&mut draws, mix.alpha) as f32);
        match how {
            How::Blend => rows(image).blend(saved, dtype, lambda)?,
            How::Paste => {
                let size = height_width(&image.shape, layout);
                let area = random_box(size, lambda, &mut draws);
                rows(image).paste(saved, &runs(&image.shape, layout, dtype, area))?;
                let [x1, y1, x2, y2] = area;
                let share = ((x2 - x1) * (y2 - y1)) as f64 / (size[0] * size[1]) as f64;
                lambda = 1.0 - share;
            }
        }
        rows(find(&mix.label)).blend(saved, Dtype::Float32, lambda)?;
    }
    Ok(())
}

/// The byte ranges of a box in a sample: one for each line, in every plane.
fn runs(
    shape: &[usize],
    layout: Layout,
    dtype: Dtype,
    [x1, y1, x2, y2]: [usize; 4],
) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let [height, width] = height_width(shape, layout);
    let (planes, pixel) = match layout {
        Layout::Nhwc => (1, shape[2] * dtype.size()),
        Layout::Nchw => (shape[0], dtype.size()),
    };
    (0..planes).flat_map(move |plane| {
        (y1..y2).map(move |y| {
            let line = (plane * height + y) * width;
            (line + x1) * pixel..(line + x2) * pixel
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(row: u64) -> Draws {
        let key = Key {
            seed: 5,
            epoch: 1,
            row,
            field: WHOLE_BATCH,
        };
        Draws::new(key, 0)
    }

    #[test]
    fn a_batch_choice_follows_its_weights() {
        let mut counts = [0; 4];
        for row in 0..4000 {
            counts[pick(&[0.0, 3.0, 1.0, 0.0], &mut draws(row))] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!((counts[1] - 3000i32).abs() < 120, "{counts:?}");
    }

    #[test]
    fn batch_boxes_have_their_area_and_stay_inside() {
        let (height, width) = (60, 100);
        for row in 0..2000 {
            let lambda = row as f64 / 2000.0;
            let [x1, y1, x2, y2] = random_box([height, width], lambda, &mut draws(row));
            assert!(x1 <= x2 && x2 <= width && y1 <= y2 && y2 <= height);
            let side = (1.0 - lambda).sqrt();
            assert!((x2 - x1) as f64 <= side * width as f64);
            assert!((y2 - y1) as f64 <= side * height as f64);
        }
        assert_eq!(random_box([9, 9], 1.0, &mut draws(0)).map(|_| 0), [0; 4]);
    }

    #[test]
    fn runs_of_a_batch_box() {
        let nhwc: Vec<_> = runs(&[4, 5, 3], Layout::Nhwc, Dtype::Uint8, [1, 2, 3, 4]).collect();
        assert_eq!(nhwc, [33..39, 48..54]);
        let nchw: Vec<_> = runs(&[2, 4, 5], Layout::Nchw, Dtype::Float32, [1, 3, 3, 4]).collect();
        assert_eq!(nchw, [64..72, 144..152]);
    }
}
