//! Labels as shares of classes, which is what mixing makes of them.

use crate::error::{Error, Result};
use crate::schema::{Dtype, Field, Kind};

/// How a stored label becomes `classes` floats.
#[derive(Clone, Copy, Debug)]
pub(in crate::pipeline) struct Shares {
    dtype: Dtype,
    /// A class number, or a number for each class already.
    one_hot: bool,
}

impl Shares {
    pub(super) fn new(field: &Field, classes: usize) -> Result<Self> {
        let one_hot = match &field.kind {
            Kind::Class { class_names } if class_names.len() > classes => {
                return Err(Error::option(format!(
                    "num_classes is {classes}, but field {:?} has {} classes",
                    field.name,
                    class_names.len()
                )));
            }
            Kind::Class { .. } => true,
            Kind::Scalar { dtype } if is_integer(*dtype) => true,
            Kind::Tensor { shape, .. } if shape[..] == [classes] => false,
            _ => {
                return Err(Error::option(format!(
                    "field {:?} holds no labels of {classes} classes, expected class numbers or a tensor of shape \
                     [{classes}]",
                    field.name
                )));
            }
        };
        let (dtype, _) = field.fixed().expect("classes, scalars and tensors are");
        Ok(Self { dtype, one_hot })
    }

    /// Writes the shares of one label; a number that is no class is given back.
    pub(in crate::pipeline) fn write(self, stored: &[u8], out: &mut [f32]) -> Result<(), f64> {
        let mut values = stored
            .chunks_exact(self.dtype.size())
            .map(|bytes| value(self.dtype, bytes));
        if !self.one_hot {
            out.iter_mut()
                .zip(values)
                .for_each(|(out, value)| *out = value as f32);
            return Ok(());
        }
        let class = values.next().unwrap_or(f64::NAN);
        if !(0.0..out.len() as f64).contains(&class) {
            return Err(class);
        }
        out.fill(0.0);
        out[class as usize] = 1.0;
        Ok(())
    }
}

fn is_integer(dtype: Dtype) -> bool {
    !matches!(
        dtype,
        Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64
    )
}

fn value(dtype: Dtype, bytes: &[u8]) -> f64 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("chunks of the type's size")
    }
    match dtype {
        Dtype::Bool | Dtype::Uint8 => bytes[0].into(),
        Dtype::Int8 => i8::from_le_bytes(array(bytes)).into(),
        Dtype::Uint16 => u16::from_le_bytes(array(bytes)).into(),
        Dtype::Int16 => i16::from_le_bytes(array(bytes)).into(),
        Dtype::Uint32 => u32::from_le_bytes(array(bytes)).into(),
        Dtype::Int32 => i32::from_le_bytes(array(bytes)).into(),
        Dtype::Uint64 => u64::from_le_bytes(array(bytes)) as f64,
        Dtype::Int64 => i64::from_le_bytes(array(bytes)) as f64,
        Dtype::Float16 => half::f16::from_le_bytes(array(bytes)).into(),
        Dtype::Bfloat16 => half::bf16::from_le_bytes(array(bytes)).into(),
        Dtype::Float32 => f32::from_le_bytes(array(bytes)).into(),
        Dtype::Float64 => f64::from_le_bytes(array(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &str) -> Field {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn batch_labels_become_shares() {
        let class = field(r#"{"name":"y","type":"class","class_names":["a","b"]}"#);
        let mut out = [9.0; 3];
        let shares = Shares::new(&class, 3).unwrap();
        shares.write(&1i64.to_le_bytes(), &mut out).unwrap();
        assert_eq!(out.map(|share| share as u8), [0, 1, 0]);
        assert_eq!(shares.write(&3i64.to_le_bytes(), &mut out), Err(3.0));
        assert_eq!(shares.write(&(-1i64).to_le_bytes(), &mut out), Err(-1.0));
        let hot = field(r#"{"name":"y","type":"tensor","dtype":"uint8","shape":[3]}"#);
        Shares::new(&hot, 3)
            .unwrap()
            .write(&[1, 0, 1], &mut out)
            .unwrap();
        assert_eq!(out.map(|share| share as u8), [1, 0, 1]);
        for (field, classes) in [
            (class, 1),
            (hot, 2),
            (
                field(r#"{"name":"y","type":"scalar","dtype":"float32"}"#),
                3,
            ),
            (field(r#"{"name":"y","type":"text"}"#), 3),
        ] {
            assert!(Shares::new(&field, classes).is_err(), "{field:?}");
        }
    }
}
