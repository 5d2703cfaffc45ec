//! Where the geometry of an image takes places and boxes.

use crate::codec::Header;
use crate::schema::BoxFormat;
use crate::transform::{Corners, Move, Tracked};

/// Where the places of an image of a width and height go.
#[derive(Clone, Debug)]
pub(crate) struct Moves {
    pub(crate) size: (u32, u32),
    pub(crate) steps: Vec<Move>,
}

impl Moves {
    /// Nothing is done.
    pub(crate) fn none(size: (u32, u32)) -> Self {
        let steps = Vec::new();
        Self { size, steps }
    }

    /// From an image that is turned upright back to the one that is stored.
    pub(crate) fn to_stored(header: &Header) -> Self {
        let stored = (header.width, header.height);
        let size = Move::upright(header.orientation, stored).size;
        let steps = vec![Move::stored(header.orientation, size)];
        Self { size, steps }
    }

    /// Whether nothing is done.
    pub(crate) fn is_none(&self) -> bool {
        self.steps.is_empty()
    }

    /// Width and height of the image that comes out.
    pub(crate) fn end(&self) -> (u32, u32) {
        self.steps.last().map_or(self.size, |step| step.size)
    }

    pub(crate) fn box_of(&self, values: [f32; 4], stored: (BoxFormat, bool)) -> Tracked {
        let start = Tracked::new(corners(values, stored, self.size));
        self.steps.iter().fold(start, Tracked::through)
    }

    /// Moves boxes, four numbers each, and cuts them to the image.
    pub(crate) fn move_boxes(&self, numbers: &mut [f32], stored: (BoxFormat, bool)) {
        if self.is_none() {
            return; // not even rounded
        }
        for values in numbers.as_chunks_mut().0 {
            *values = self::numbers(self.box_of(*values, stored).corners, stored, self.end());
        }
    }

    /// Moves points. Each has `per_point` numbers, of which the first two are x and y.
    pub(crate) fn move_points(&self, numbers: &mut [f32], per_point: usize) {
        for point in numbers.chunks_exact_mut(per_point) {
            let end = self.place([point[0], point[1]].map(f64::from), false);
            [point[0], point[1]] = end.map(|value| value as f32);
        }
    }

    /// Where a place goes; `normalized`: in shares of width and height.
    pub(super) fn place(&self, [x, y]: [f64; 2], normalized: bool) -> [f64; 2] {
        let of = |size| if normalized { sides(size) } else { [1.0; 2] };
        let ([width, height], [to_width, to_height]) = (of(self.size), of(self.end()));
        let start = [x * width, y * height];
        let [x, y] = (self.steps.iter()).fold(start, |[x, y], step| step.place(x, y));
        [x / to_width, y / to_height]
    }
}

/// In pixels of an image of this width and height.
fn corners(values: [f32; 4], (format, normalized): (BoxFormat, bool), size: (u32, u32)) -> Corners {
    let [a, b, c, d] = values.map(f64::from);
    let [x, y] = if normalized { sides(size) } else { [1.0; 2] };
    let [left, top, right, bottom] = match format {
        BoxFormat::Xyxy => [a, b, c, d],
        BoxFormat::Xywh => [a, b, a + c, b + d],
        BoxFormat::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
    };
    [left * x, top * y, right * x, bottom * y]
}

/// The other way round.
pub(crate) fn numbers(
    corners: Corners,
    (format, normalized): (BoxFormat, bool),
    size: (u32, u32),
) -> [f32; 4] {
    let [x, y] = if normalized { sides(size) } else { [1.0; 2] };
    let [left, top, right, bottom] = corners;
    let [left, top, right, bottom] = [left / x, top / y, right / x, bottom / y];
    let (width, height) = (right - left, bottom - top);
    let numbers = match format {
        BoxFormat::Xyxy => [left, top, right, bottom],
        BoxFormat::Xywh => [left, top, width, height],
        BoxFormat::Cxcywh => [left + width / 2.0, top + height / 2.0, width, height],
    };
    numbers.map(|number| number as f32)
}

fn sides((width, height): (u32, u32)) -> [f64; 2] {
    [f64::from(width), f64::from(height)]
}
