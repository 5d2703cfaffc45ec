//! Masks of single objects as COCO writes them down: polygons, or run-length encodings. What a mask is, pixel by pixel, is
//! what pycocotools makes of it.

mod parse;
mod polygon;
mod runs;
mod write;

pub(crate) use parse::RunsKey;
pub use parse::parse;
pub use polygon::Painter;
pub use runs::Runs;
pub use write::write;

/// Corners of a polygon, x and y.
pub type Outline = Vec<[f64; 2]>;

/// One object's.
#[derive(Clone, Debug, PartialEq)]
pub enum Segmentation {
    /// What any of them covers.
    Polygons(Vec<Outline>),
    /// Pixel by pixel.
    Runs(Runs),
}
