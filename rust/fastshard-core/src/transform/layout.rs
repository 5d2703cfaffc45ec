//! Where channels lie in a batch.

use serde::{Deserialize, Serialize};

/// Where the channels go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Channels last.
    #[default]
    #[serde(rename = "NHWC")]
    Nhwc,
    /// Channels first.
    #[serde(rename = "NCHW")]
    Nchw,
}
