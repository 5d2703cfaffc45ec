//! What to pack and how.

use serde::{Deserialize, Serialize};

use crate::error::{Error, OnError, Result};
use crate::format::check_provenance;
use crate::imaging::ImagePlan;
use crate::schema::{Dtype, Field, Kind, check_fields};
use crate::transform::{DecodeOptions, Layout, Mode, Operation};

/// How images are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encode {
    /// The bytes as they came.
    Original,
    /// JPEG of a chosen quality.
    Jpeg,
    /// PNG, without loss.
    Png,
    /// Pixels, as a tensor.
    Raw,
}

/// Which JPEGs are re-coded, without loss, so that parts of them can be decoded alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seekable {
    /// None.
    No,
    /// Those that decode faster for it: progressive ones and those of more than a few tiles.
    Auto,
    /// All that can be.
    Yes,
}

/// What becomes of ICC, EXIF and other metadata in JPEGs that are re-coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// It stays.
    Keep,
    /// It goes, but for an EXIF segment that turns the image.
    Drop,
}

/// How thoroughly images are looked at that are stored as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Header and end of the file; pixels only where those don't settle it.
    Header,
    /// Every pixel is decoded.
    Decode,
}

/// Which way round images lay when their annotations were made, where their EXIF data turns them. What annotations say
/// of an image's size goes first, if that tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Annotated {
    /// As stored, unless others of the source are known to be upright: then it must be said.
    #[default]
    Auto,
    /// As stored.
    Stored,
    /// Turned, as most programs show them.
    Upright,
}

/// The options of a pack.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the public function")]
pub struct PackSpec {
    pub fields: Vec<Field>,
    pub ops: Vec<Operation>,
    pub encode: Encode,
    /// Which JPEGs are re-coded, without loss, to be seekable.
    pub seekable: Seekable,
    pub metadata: Metadata,
    #[serde(default)]
    pub annotated: Annotated,
    pub quality: u8,
    pub max_pixels: u64,
    pub check: Check,
    pub shard_size: u64,
    /// 0: as many as there are cores for this process.
    pub num_threads: usize,
    pub on_error: OnError,
    pub overwrite: bool,
    pub shuffle_seed: Option<u64>,
    pub provenance: serde_json::Value,
}

impl PackSpec {
    /// Refuses impossible options.
    pub fn check(&self) -> Result<()> {
        check_fields(&self.fields)?;
        check_provenance(&self.provenance).map_err(|what| {
            Error::option(format!(
                "{what}: pack from fewer files, or from a folder that holds them"
            ))
        })?;
        let option = |holds: bool, complaint: String| {
            if holds {
                Ok(())
            } else {
                Err(Error::option(complaint))
            }
        };
        option(
            (1..=100).contains(&self.quality),
            format!("quality is {}, expected 1 to 100", self.quality),
        )?;
        option(
            self.shard_size >= 1 << 16,
            format!(
                "shard_size is {} bytes, expected at least 64 KiB",
                self.shard_size
            ),
        )?;
        option(
            self.num_threads <= 1024,
            format!("num_threads is {}, expected at most 1024", self.num_threads),
        )?;
        option(
            self.max_pixels >= 1,
            format!("max_pixels is {}, expected at least 1", self.max_pixels),
        )?;
        option(
            self.encode != Encode::Original || self.ops.is_empty(),
            "images that are changed can't be stored as they came: encode must be jpeg, png or raw"
                .into(),
        )?;
        let has = |kind: &Kind| self.fields.iter().any(|field| &field.kind == kind);
        option(
            self.encode == Encode::Original || has(&Kind::Image) || !has(&Kind::Audio),
            "encode, resize, resize_pad and gray are for images; audio is stored as it came".into(),
        )?;
        let boxes = self
            .fields
            .iter()
            .any(|field| matches!(field.kind, Kind::Boxes { .. }));
        option(
            self.annotated == Annotated::Auto || boxes,
            "annotated is for images with boxes, and there are none".into(),
        )?;
        self.operations(3).iter().try_for_each(Operation::check)
    }

    /// The operations behind a decoding to this many channels, unless they begin with a decoding of their own.
    pub(crate) fn operations(&self, channels: usize) -> Vec<Operation> {
        let (asked, rest) = match &self.ops[..] {
            [Operation::Decode(options), rest @ ..] => (Some(*options), rest),
            rest => (None, rest),
        };
        let mode = if channels == 1 { Mode::Gray } else { Mode::Rgb };
        let asked = asked.unwrap_or(DecodeOptions {
            mode,
            ..DecodeOptions::default()
        });
        let decode = DecodeOptions {
            max_pixels: self.max_pixels,
            // What is stored is looked at for years: every pixel counts.
            scaled: false,
            ..asked
        };
        std::iter::once(Operation::Decode(decode))
            .chain(rest.iter().cloned())
            .collect()
    }

    /// The fields of the dataset: with raw pixels, image fields become tensors of this (height, width).
    pub(crate) fn stored_fields(&self, size: Option<[u32; 2]>) -> Result<Vec<Field>> {
        if self.encode != Encode::Raw {
            return Ok(self.fields.clone());
        }
        let plan = ImagePlan::encoded("image", 0, &self.operations(3), Layout::Nhwc, size)?;
        let stored = |field: &Field| -> Result<Field> {
            if field.kind != Kind::Image {
                return Ok(field.clone());
            }
            let kind = Kind::Tensor {
                dtype: Dtype::Uint8,
                shape: plan.shape()?,
                class_names: None,
            };
            Ok(Field {
                name: field.name.clone(),
                kind,
            })
        };
        self.fields.iter().map(stored).collect()
    }
}
