//! What a relay says of itself (NIP-11), over a connection of its own.

use std::collections::BTreeSet;

use serde::Deserialize;
use wire::RelayUrl;
use wire::relay_url::Origin;

use super::file_link::{DownloadError, FileLink};

/// The largest description that is read.
const DOCUMENT_BYTES: usize = 64 * 1024;

/// The parts of the description that somebody here asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RelayDocument {
    #[serde(default)]
    supported_nips: Vec<serde_json::Value>,
    /// What it refuses.
    #[serde(default)]
    pub limitation: Limitation,
}

/// What a relay refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Limitation {
    /// The longest frame, bytes.
    pub max_message_length: Option<u64>,
    /// Whether it serves only who has paid.
    pub payment_required: Option<bool>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The relay answered with something else.
    #[error("none ({0})")]
    Other(String),
    /// It is no such document.
    #[error("not a NIP-11 document")]
    Malformed,
}

impl RelayDocument {
    /// Asks a relay. `is_own` says whether the user's own configuration names it.
    pub async fn read(files: &FileLink, url: &RelayUrl, is_own: bool) -> Result<Self, NoDocument> {
        let (scheme, rest) = url.as_str().split_once("://").unwrap_or_default();
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).unwrap_or((rest, "/")),
            None => (rest, "/"),
        };
        let scheme = if scheme == "wss" { "https" } else { "http" };
        let origin = Origin::parse(&format!("{scheme}://{authority}"))
            .map_err(|_| NoDocument::Other("not a web address".to_owned()))?;
        let accept = "application/nostr+json";
        let document = files
            .document(&origin, path, is_own, accept, DOCUMENT_BYTES)
            .await;
        let bytes = document.map_err(|error| match error {
            DownloadError::Forbidden(why) | DownloadError::Unreachable(why) => {
                NoDocument::Unreachable(why)
            }
            error => NoDocument::Other(error.to_string()),
        })?;
        Self::decode(&bytes)
    }

    /// Reads what a relay answered.
    pub fn decode(json: &[u8]) -> Result<Self, NoDocument> {
        serde_json::from_slice(json).map_err(|_| NoDocument::Malformed)
    }

    /// The NIPs that it lists.
    pub fn nips(&self) -> BTreeSet<u16> {
        let numbers = self.supported_nips.iter().filter_map(|nip| nip.as_u64());
        numbers.filter_map(|nip| u16::try_from(nip).ok()).collect()
    }
}
