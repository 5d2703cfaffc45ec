//! Options of lists, and of what belongs to boxes.

use serde::{Deserialize, Serialize};

use crate::schema::BoxFormat;

/// How batches have their boxes, and which they leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxSpec {
    /// What the four numbers are, and whether they are shares of width and height; by default as they are stored.
    #[serde(default)]
    pub format: Option<(BoxFormat, bool)>,
    /// The least width and height, in pixels of the finished image.
    #[serde(default)]
    pub min_size: f64,
    /// The least area.
    #[serde(default)]
    pub min_area: f64,
    /// The least share of a box that cropping left.
    #[serde(default)]
    pub min_visible: f64,
}

/// A text field that becomes masks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskSpec {
    /// The field of the boxes that they belong to, one each.
    pub boxes: String,
    /// Whether polygons are in shares of width and height; by default if boxes are.
    #[serde(default)]
    pub normalized: Option<bool>,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the ends")]
pub enum End {
    Left,
    Right,
}

/// Cuts lists that are longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Elements that stay.
    pub length: usize,
    /// The end that goes.
    pub side: End,
}

/// Fills lists up to one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadSequence {
    /// What they are filled up with.
    pub value: serde_json::Number,
    /// The length; by default that of a batch's longest list.
    pub length: Option<usize>,
    /// By default, a multiple of this.
    pub multiple_of: usize,
    /// The end that is filled up.
    pub side: End,
    /// Whether batches tell elements from what was filled up.
    pub mask: bool,
}

/// What becomes of a list field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ListSpec {
    pub truncate: Option<Truncate>,
    /// Without: lists lie one after the other.
    pub pad: Option<PadSequence>,
    /// Of boxes.
    #[serde(default)]
    pub boxes: Option<BoxSpec>,
    /// Of texts that become masks of boxes.
    #[serde(default)]
    pub masks: Option<MaskSpec>,
}
