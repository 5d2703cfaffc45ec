//! Transforms of whole batches.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Beyond this a label would be larger than its image.
const MAX_CLASSES: usize = 1 << 20;

/// One entry of a loader's `batch_transforms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum BatchOperation {
    /// Adds each sample and the one before it up, by lambda and 1 - lambda.
    Mixup(Mix),
    /// Pastes a box of the sample before; labels are added up by its area.
    Cutmix(Mix),
    /// One of several.
    RandomChoice {
        /// What there is to choose from.
        transforms: Vec<BatchOperation>,
        /// Their weights; need not add up to 1.
        p: Vec<f64>,
    },
}

/// What is mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// The field of the images.
    pub image: String,
    /// The field of the labels, which become shares of classes.
    pub label: String,
    /// Length of a label.
    pub num_classes: usize,
    /// Lambda is drawn from Beta(alpha, alpha).
    pub alpha: f64,
}

fn check(holds: bool, complaint: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::option(complaint()))
    }
}

impl Mix {
    fn check(&self) -> Result<()> {
        let Self {
            num_classes, alpha, ..
        } = self;
        check((1..=MAX_CLASSES).contains(num_classes), || {
            format!("num_classes is {num_classes}, expected 1 to {MAX_CLASSES}")
        })?;
        check((1e-6..=1e6).contains(alpha), || {
            format!("alpha is {alpha}, expected 1e-6 to 1e6")
        })
    }
}

impl BatchOperation {
    /// Refuses impossible arguments, naming them.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Mixup(mix) | Self::Cutmix(mix) => mix.check(),
            Self::RandomChoice { transforms, p } => {
                let finite = p.iter().all(|p| p.is_finite() && *p >= 0.0);
                let some = p.iter().sum::<f64>() > 0.0;
                check(transforms.len() == p.len() && finite && some, || {
                    format!(
                        "p is {p:?} for {} transforms, expected a weight for each, and not 0 for all",
                        transforms.len()
                    )
                })?;
                transforms.iter().try_for_each(Self::check)
            }
        }
    }

    /// Everything that this may mix.
    pub(super) fn mixes(&self) -> Vec<&Mix> {
        match self {
            Self::Mixup(mix) | Self::Cutmix(mix) => vec![mix],
            Self::RandomChoice { transforms, .. } => {
                transforms.iter().flat_map(Self::mixes).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<BatchOperation> {
        let operation: BatchOperation =
            serde_json::from_str(json).map_err(|error| Error::option(error.to_string()))?;
        operation.check().map(|()| operation)
    }

    const MIX: &str = r#""image":"image","label":"label","num_classes":5,"alpha":1"#;

    #[test]
    fn batch_operations_are_checked() {
        let mixup = format!(r#"{{"op":"mixup",{MIX}}}"#);
        let choice = |p: &str| {
            format!(
                r#"{{"op":"random_choice","transforms":[{mixup},{{"op":"cutmix",{MIX}}}],"p":{p}}}"#
            )
        };
        assert!(parse(&mixup).is_ok());
        assert_eq!(parse(&choice("[1,0]")).unwrap().mixes().len(), 2);
        for json in [
            mixup.replace("\"alpha\":1", "\"alpha\":0"),
            mixup.replace("\"num_classes\":5", "\"num_classes\":0"),
            mixup.replace("\"alpha\":1", "\"alpha\":1,\"beta\":1"),
            choice("[1]"),
            choice("[0,0]"),
            choice("[-1,2]"),
            r#"{"op":"random_choice","transforms":[],"p":[]}"#.into(),
        ] {
            assert!(parse(&json).is_err(), "{json}");
        }
    }
}
