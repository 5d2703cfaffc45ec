//! Random rotations, affine maps and perspectives, with torchvision's distributions.

use serde::{Deserialize, Serialize};

use super::Interpolation;
use super::geometry::Canvas;
use super::limits::{MAX_SIDE, check};
use super::matrix::{Affine, Matrix};
use super::recipe::Recipe;
use super::warp::{Padding, Sampling};
use crate::error::Result;
use crate::pixels::MAX_PIXELS;
use crate::random::Draws;

/// torchvision's `RandomRotation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the arguments")]
#[serde(deny_unknown_fields)]
pub struct RandomRotation {
    pub degrees: [f64; 2],
    pub interpolation: Interpolation,
    pub expand: bool,
    /// x and y
    pub center: Option<[f64; 2]>,
    pub fill: Vec<u16>,
    pub padding_mode: Padding,
}

/// torchvision's `RandomAffine`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the arguments")]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    pub degrees: [f64; 2],
    /// Fractions of width and height.
    pub translate: Option<[f64; 2]>,
    pub scale: Option<[f64; 2]>,
    /// Degrees along x, then along y.
    pub shear: Option<[[f64; 2]; 2]>,
    pub interpolation: Interpolation,
    pub fill: Vec<u16>,
    /// x and y
    pub center: Option<[f64; 2]>,
    pub padding_mode: Padding,
}

/// torchvision's `RandomPerspective`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the arguments")]
#[serde(deny_unknown_fields)]
pub struct RandomPerspective {
    pub distortion_scale: f64,
    pub p: f64,
    pub interpolation: Interpolation,
    pub fill: Vec<u16>,
    pub padding_mode: Padding,
}

fn check_interpolation(name: &str, interpolation: Interpolation) -> Result<()> {
    let known = matches!(
        interpolation,
        Interpolation::Nearest | Interpolation::Bilinear
    );
    check(known, || {
        format!("{name}: interpolation {interpolation:?}, expected nearest or bilinear")
    })
}

fn check_ends(name: &str, what: &str, [low, high]: [f64; 2]) -> Result<()> {
    check(low <= high && low.is_finite() && high.is_finite(), || {
        format!("{name}: {what} ({low}, {high}), expected low <= high")
    })
}

fn check_center(name: &str, center: Option<[f64; 2]>) -> Result<()> {
    check(center.iter().flatten().all(|at| at.is_finite()), || {
        format!("{name}: center {center:?}, expected finite x and y")
    })
}

fn sampling(interpolation: Interpolation, padding: Padding, fill: &[u16]) -> Sampling {
    Sampling {
        interpolation,
        padding,
        fill: fill.to_vec(),
    }
}

impl RandomRotation {
    pub(super) fn check(&self) -> Result<()> {
        check_interpolation("RandomRotation", self.interpolation)?;
        check_ends("RandomRotation", "degrees", self.degrees)?;
        check_center("RandomRotation", self.center)
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, draws: &mut Draws) -> Result<()> {
        let degrees = draws.uniform(self.degrees[0], self.degrees[1]);
        let size = canvas.size();
        let output = if self.expand {
            self.expanded(degrees, size)?
        } else {
            size
        };
        let matrix = Matrix::rotation(degrees, self.center, size, output);
        let sampling = sampling(self.interpolation, self.padding_mode, &self.fill);
        canvas.warp(matrix, output, &sampling);
        Ok(())
    }

    /// Turned by 45 degrees, a long thin image becomes a large one: what comes of the largest square is the limit.
    fn expanded(&self, degrees: f64, size: (u32, u32)) -> Result<(u32, u32)> {
        let (width, height) = Matrix::rotated_size(degrees, self.center, size);
        let side = 1.0..=f64::from(MAX_SIDE);
        let fits = side.contains(&width)
            && side.contains(&height)
            && width * height <= 2.1 * MAX_PIXELS as f64;
        check(fits, || {
            format!(
                "RandomRotation(expand=True) of an image of {} x {} (height x width) by {degrees} degrees gives {height} x \
                 {width}, which is too large",
                size.1, size.0
            )
        })?;
        Ok((width as u32, height as u32))
    }
}

impl RandomAffine {
    pub(super) fn check(&self) -> Result<()> {
        const NAME: &str = "RandomAffine";
        check_interpolation(NAME, self.interpolation)?;
        check_ends(NAME, "degrees", self.degrees)?;
        check_center(NAME, self.center)?;
        for ends in self.shear.into_iter().flatten() {
            check_ends(NAME, "shear", ends)?;
        }
        if let Some(scale) = self.scale {
            check_ends(NAME, "scale", scale)?;
            check(scale[0] > 0.0, || {
                format!("{NAME}: scale {scale:?}, expected numbers above 0")
            })?;
        }
        let mut fractions = self.translate.iter().flatten();
        check(fractions.all(|part| (0.0..=1.0).contains(part)), || {
            format!(
                "{NAME}: translate {:?}, expected fractions from 0 to 1",
                self.translate
            )
        })
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, draws: &mut Draws) {
        let size = canvas.size();
        let matrix = Matrix::affine(&self.draw(size, draws), size);
        let sampling = sampling(self.interpolation, self.padding_mode, &self.fill);
        canvas.warp(matrix, size, &sampling);
    }

    /// In torchvision's order.
    fn draw(&self, (width, height): (u32, u32), draws: &mut Draws) -> Affine {
        let mut draw = |[low, high]: [f64; 2]| draws.uniform(low, high);
        let angle = draw(self.degrees);
        let translate = self.translate.map_or([0.0; 2], |[x, y]| {
            let most = [x * f64::from(width), y * f64::from(height)];
            most.map(|most| draw([-most, most]).round_ties_even())
        });
        let scale = self.scale.map_or(1.0, &mut draw);
        let shear = self.shear.map_or([0.0; 2], |ends| ends.map(&mut draw));
        Affine {
            angle,
            translate,
            scale,
            shear,
            center: self.center,
        }
    }
}

impl RandomPerspective {
    pub(super) fn check(&self) -> Result<()> {
        const NAME: &str = "RandomPerspective";
        check_interpolation(NAME, self.interpolation)?;
        for (what, value) in [("distortion_scale", self.distortion_scale), ("p", self.p)] {
            check((0.0..=1.0).contains(&value), || {
                format!("{NAME}: {what} is {value}, expected a number from 0 to 1")
            })?;
        }
        Ok(())
    }

    /// Corners that no perspective moves to where they are drawn, as in an image of one pixel, leave it as it is.
    pub(super) fn apply(&self, recipe: &mut Recipe, draws: &mut Draws) {
        if draws.unit() >= self.p {
            return;
        }
        let size = recipe.size();
        let [from, to] = self.draw(size, draws);
        if let Some(matrix) = Matrix::perspective(from, to) {
            let sampling = sampling(self.interpolation, self.padding_mode, &self.fill);
            recipe.canvas().warp(matrix, size, &sampling);
        }
    }

    /// The corners, clockwise from the upper left one, and where they go.
    fn draw(&self, (width, height): (u32, u32), draws: &mut Draws) -> [[[f64; 2]; 4]; 2] {
        let bound = |side: u32| (self.distortion_scale * f64::from(side / 2)) as u32 + 1;
        let (right, bottom) = (f64::from(width - 1), f64::from(height - 1));
        let from = [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]];
        let mut near = |far: bool, side: u32| {
            let start = if far { side - bound(side) } else { 0 };
            f64::from(start + draws.below(bound(side)))
        };
        let to = [(false, false), (true, false), (true, true), (false, true)]
            .map(|(x, y)| [near(x, width), near(y, height)]);
        [from, to]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;

    #[test]
    fn refuses_impossible_arguments() {
        for json in [
            r#"{"op":"random_rotation","degrees":[9,-9],"interpolation":"nearest","expand":false,"center":null,"fill":[0],"padding_mode":"constant"}"#,
            r#"{"op":"random_rotation","degrees":[0,9],"interpolation":"lanczos","expand":false,"center":null,"fill":[0],"padding_mode":"constant"}"#,
            r#"{"op":"random_affine","degrees":[0,9],"translate":[0,1.5],"scale":null,"shear":null,"interpolation":"nearest","fill":[0],"center":null,"padding_mode":"edge"}"#,
            r#"{"op":"random_affine","degrees":[0,9],"translate":null,"scale":[0,1],"shear":null,"interpolation":"nearest","fill":[0],"center":null,"padding_mode":"edge"}"#,
            r#"{"op":"random_affine","degrees":[0,9],"translate":null,"scale":null,"shear":[[1,0],[0,0]],"interpolation":"nearest","fill":[0],"center":null,"padding_mode":"edge"}"#,
            r#"{"op":"random_perspective","distortion_scale":2,"p":0.5,"interpolation":"bilinear","fill":[0],"padding_mode":"reflect"}"#,
            r#"{"op":"random_perspective","distortion_scale":0.5,"p":-1,"interpolation":"bilinear","fill":[0],"padding_mode":"reflect"}"#,
        ] {
            let operation: Operation = serde_json::from_str(json).unwrap();
            assert!(operation.check().is_err(), "{json}");
        }
        let wrong = r#"{"op":"random_perspective","distortion_scale":0.5,"p":1,"interpolation":"bilinear","fill":[0],"padding_mode":"wrap"}"#;
        assert!(serde_json::from_str::<Operation>(wrong).is_err());
    }
}
