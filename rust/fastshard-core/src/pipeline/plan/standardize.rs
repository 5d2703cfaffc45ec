//! Columns of a table brought to mean 0 and deviation 1, right where they were gathered to.

use crate::error::{Error, Result};
use crate::pipeline::spec::Standardize;
use crate::schema::{Dtype, Field};

/// Means and factors of the elements of a row.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Scale {
    mean: Vec<f32>,
    factor: Vec<f32>,
}

impl Scale {
    pub(super) fn new(field: &Field, asked: &Standardize) -> Result<Self> {
        let Some((Dtype::Float32, shape)) = field.fixed() else {
            return Err(Error::option(format!(
                "Standardize for field {:?}: expected a float32 field",
                field.name
            )));
        };
        let elements = shape.iter().product::<usize>();
        let spread = |values: &[f64], what| match *values {
            [value] => Ok(vec![value; elements]),
            _ if values.len() == elements => Ok(values.to_vec()),
            _ => Err(Error::option(format!(
                "Standardize for field {:?}: {} values of {what}, expected 1 or {elements}",
                field.name,
                values.len()
            ))),
        };
        let (mean, std) = (spread(&asked.mean, "mean")?, spread(&asked.std, "std")?);
        let factor = |std: &f64| if *std == 0.0 { 1.0 } else { 1.0 / std };
        Ok(Self {
            mean: mean.iter().map(|&mean| mean as f32).collect(),
            factor: std.iter().map(|std| factor(std) as f32).collect(),
        })
    }

    /// For whole rows, as they lie in a batch.
    pub(in crate::pipeline) fn apply(&self, rows: &mut [u8]) {
        for row in bytemuck::cast_slice_mut::<u8, f32>(rows).chunks_exact_mut(self.mean.len()) {
            for ((value, mean), factor) in row.iter_mut().zip(&self.mean).zip(&self.factor) {
                *value = (*value - mean) * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_it_says() {
        let field: Field =
            serde_json::from_str(r#"{"name":"x","type":"tensor","dtype":"float32","shape":[2]}"#)
                .unwrap();
        let asked = Standardize {
            mean: vec![1.0, -2.0],
            std: vec![2.0, 0.0],
        };
        let mut rows = [3.0f32, 5.0, 1.0, -2.0];
        Scale::new(&field, &asked)
            .unwrap()
            .apply(bytemuck::cast_slice_mut(&mut rows));
        let expected = [1.0f32, 7.0, 0.0, 0.0];
        assert_eq!(rows.map(f32::to_bits), expected.map(f32::to_bits));
        let short = Standardize {
            mean: vec![0.0; 3],
            std: vec![1.0],
        };
        assert!(Scale::new(&field, &short).is_err());
    }
}
