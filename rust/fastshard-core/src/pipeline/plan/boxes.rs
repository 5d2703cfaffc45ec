//! A field of boxes: the options of a loader, checked against the field.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::pipeline::spec::BoxSpec;
use crate::schema::{BoxFormat, Field, Kind};

/// What is done to a field of boxes.
#[derive(Debug)]
pub(in crate::pipeline) struct Boxes {
    pub(in crate::pipeline) spec: BoxSpec,
    pub(in crate::pipeline) stored: (BoxFormat, bool),
    /// The field of their image.
    pub(in crate::pipeline) image: usize,
    /// The same among those that are loaded.
    pub(in crate::pipeline) loaded: Option<usize>,
}

impl Boxes {
    pub(super) fn new(
        dataset: &Dataset,
        field: &Field,
        spec: BoxSpec,
        loaded: Option<usize>,
    ) -> Result<Option<Self>> {
        let Kind::Boxes {
            image,
            format,
            normalized,
        } = &field.kind
        else {
            return Ok(None);
        };
        let limits = [spec.min_size, spec.min_area, spec.min_visible];
        if limits.iter().any(|&limit| !(0.0..=1e9).contains(&limit)) || spec.min_visible > 1.0 {
            return Err(Error::option(format!(
                "field {:?}: min_size, min_area and min_visible are {limits:?}, expected numbers of at least 0, the last at \
                 most 1",
                field.name
            )));
        }
        Ok(Some(Self {
            spec,
            stored: (*format, *normalized),
            image: dataset.field(image)?,
            loaded,
        }))
    }
}
