//! Values of COCO's entries that are more than a number or a text: checked where they are read, so that a message has
//! their place.

use std::path::{Component, Path};

use serde::Deserialize;

/// The most keypoints of an annotation: annotations without any take as much room, too.
const MAX_KEYPOINTS: usize = 256;

/// A box as x1, y1, x2, y2.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub(super) struct Corners(pub(super) [f32; 4]);

impl TryFrom<Vec<f64>> for Corners {
    type Error = String;

    fn try_from(numbers: Vec<f64>) -> Result<Self, String> {
        let [x, y, width, height] = numbers[..] else {
            let count = numbers.len();
            return Err(format!("{count} numbers, expected 4: x, y, width, height"));
        };
        if width < 0.0 || height < 0.0 {
            return Err(format!(
                "{numbers:?} (x, y, width, height): a box can't be smaller than nothing"
            ));
        }
        let corners = [x, y, x + width, y + height].map(|number| number as f32);
        if corners.iter().all(|number| number.is_finite()) {
            Ok(Self(corners))
        } else {
            Err(format!("{numbers:?}: too large for float32"))
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Area(pub(super) f32);

impl TryFrom<f64> for Area {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        let area = number as f32;
        if area.is_finite() && area >= 0.0 {
            Ok(Self(area))
        } else {
            Err(format!("{number}, expected a float32 that isn't negative"))
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Crowd(pub(super) u8);

impl TryFrom<i64> for Crowd {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            0 | 1 => Ok(Self(number as u8)),
            _ => Err(format!("{number}, expected 0 or 1")),
        }
    }
}

/// Of an image: a whole number of pixels. What is none says nothing, since not every tool fills it in.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
pub(super) struct Side(pub(super) u32);

impl From<serde_json::Value> for Side {
    fn from(value: serde_json::Value) -> Self {
        let number = value.as_f64().filter(|number| number.fract().abs() <= 0.0);
        let pixels = number.filter(|number| (1.0..=f64::from(u32::MAX)).contains(number));
        Self(pixels.map_or(0, |pixels| pixels as u32))
    }
}

/// x, y and visibility of each.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub(super) struct Keypoints(pub(super) Vec<f32>);

impl TryFrom<Vec<f64>> for Keypoints {
    type Error = String;

    fn try_from(numbers: Vec<f64>) -> Result<Self, String> {
        let count = numbers.len();
        if !count.is_multiple_of(3) || count > 3 * MAX_KEYPOINTS {
            return Err(format!(
                "{count} numbers, expected x, y and visibility of {MAX_KEYPOINTS} keypoints at most"
            ));
        }
        let values: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(Self(values)),
            Some(_) => Err("a number too large for float32".into()),
        }
    }
}

/// The path of a file below the folder of the images, without `.` and doubled slashes.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Inside(pub(super) String);

impl TryFrom<String> for Inside {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let inside = Path::new(&name)
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => None,
            });
        match inside.collect::<Option<Vec<_>>>() {
            Some(parts) if !parts.is_empty() && !name.contains('\0') => Ok(Self(parts.join("/"))),
            _ => Err(format!(
                "{name:?} may leave the source folder; expected a path below it, without \"..\""
            )),
        }
    }
}
