//! Operations made of operations. All of them draw from the outermost one's random numbers.

use serde::{Deserialize, Serialize};

use super::Operation;
use super::limits::check;
use super::recipe::Recipe;
use crate::error::Result;
use crate::random::Draws;

/// All of a list, or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct RandomApply {
    pub transforms: Vec<Operation>,
    pub p: f64,
}

/// One of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "names and meanings are torchvision's")]
pub struct RandomChoice {
    pub transforms: Vec<Operation>,
    /// Relative weights; without them all are equally likely.
    pub p: Option<Vec<f64>>,
}

fn check_list(name: &str, transforms: &[Operation]) -> Result<()> {
    check(!transforms.is_empty(), || {
        format!("{name}: expected at least one transform")
    })?;
    for (at, transform) in transforms.iter().enumerate() {
        transform.check()?;
        let fits = match transform {
            Operation::Decode(_) | Operation::ToDtype { .. } | Operation::Normalize { .. } => false,
            Operation::Grayscale {
                num_output_channels,
            } => *num_output_channels == 3,
            _ => true,
        };
        check(!matches!(transform, Operation::Mosaic(_)), || {
            format!("{name}: Mosaic can't be in it; it has a probability p of its own")
        })?;
        check(fits, || {
            format!(
                "{name}: transform {at} in it is Decode, ToDtype, Normalize or Grayscale(1), which change the type of \
                 the pixels; that must be the same for all samples"
            )
        })?;
    }
    Ok(())
}

type Size = Option<[u32; 2]>;

fn size_after(transforms: &[Operation], size: Size) -> Size {
    transforms
        .iter()
        .fold(size, |size, transform| transform.output_size(size))
}

impl RandomApply {
    pub(super) fn check(&self) -> Result<()> {
        check((0.0..=1.0).contains(&self.p), || {
            format!(
                "RandomApply: p {}, expected a probability from 0 to 1",
                self.p
            )
        })?;
        check_list("RandomApply", &self.transforms)
    }

    pub(super) fn output_size(&self, input: Size) -> Size {
        let output = size_after(&self.transforms, input);
        match self.p {
            0.0 => input,
            1.0 => output,
            _ => output.filter(|_| output == input),
        }
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) -> Result<()> {
        if draws.unit() < self.p {
            for transform in &self.transforms {
                transform.apply(recipe, draws)?;
            }
        }
        Ok(())
    }
}

impl RandomChoice {
    fn weight(&self, at: usize) -> f64 {
        self.p.as_ref().map_or(1.0, |p| p[at])
    }

    fn total(&self) -> f64 {
        (0..self.transforms.len()).map(|at| self.weight(at)).sum()
    }

    pub(super) fn check(&self) -> Result<()> {
        check_list("RandomChoice", &self.transforms)?;
        let Some(p) = &self.p else { return Ok(()) };
        let fits = p.len() == self.transforms.len() && p.iter().all(|p| p.is_finite() && *p >= 0.0);
        check(fits && self.total() > 0.0, || {
            let count = self.transforms.len();
            format!(
                "RandomChoice: p {p:?}, expected {count} weights of at least 0, not all of them 0"
            )
        })
    }

    pub(super) fn output_size(&self, input: Size) -> Size {
        let possible = (0..self.transforms.len()).filter(|&at| self.weight(at) > 0.0);
        let mut sizes = possible.map(|at| self.transforms[at].output_size(input));
        let first = sizes.next().flatten();
        first.filter(|_| sizes.all(|size| size == first))
    }

    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) -> Result<()> {
        let mut left = draws.unit() * self.total();
        let mut chosen = None;
        for (at, transform) in self.transforms.iter().enumerate() {
            let weight = self.weight(at);
            if weight > 0.0 {
                chosen = Some(transform);
            }
            if left < weight {
                break;
            }
            left -= weight;
        }
        chosen.map_or(Ok(()), |transform| transform.apply(recipe, draws))
    }
}
