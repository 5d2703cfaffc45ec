//! What list fields have to do with boxes.

use super::boxes::Boxes;

/// What a list field has to do with boxes.
#[derive(Debug)]
pub(in crate::pipeline) enum Role {
    /// It holds them.
    Boxes(Boxes),
    /// It says something of each box of a loaded field; `points`: of their places.
    Along { boxes: usize, points: bool },
    /// It says what each of them covers.
    Masks(Masks),
}

impl Role {
    /// The loaded field of boxes that it says something of.
    pub(in crate::pipeline) fn told_of(&self) -> Option<usize> {
        match self {
            Self::Boxes(_) => None,
            Self::Along { boxes, .. } => Some(*boxes),
            Self::Masks(masks) => Some(masks.boxes),
        }
    }
}

/// Instance masks: one of each box of a loaded field.
#[derive(Debug)]
pub(in crate::pipeline) struct Masks {
    /// The boxes, among the fields that are loaded.
    pub(in crate::pipeline) boxes: usize,
    pub(in crate::pipeline) normalized: bool,
    /// (height, width) of the finished image.
    pub(in crate::pipeline) size: [usize; 2],
}
