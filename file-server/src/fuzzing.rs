//! Doors for the fuzz targets (`fuzz/`) to decoders that nobody else calls from outside. No part
//! of what this crate offers, and nothing of it counts on them.

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use wire::Sha256;

use crate::check::answer::Answer;
use crate::range::Wanted;
use crate::{authorize, download, routes, upload};

/// What the head of a request says; nothing where it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The blob that the path names.
    pub blob: Option<Sha256>,
    /// The blob that the token names.
    pub named: Option<Sha256>,
    /// How many bytes an upload announces.
    pub size: Option<u64>,
    /// Until when the upload is to be kept.
    pub sunset: Option<Option<u64>>,
    /// Which part of a blob of the given size is asked for.
    pub wanted: Wanted,
}

/// Reads the head of a request for a blob of `size` bytes, at `now`.
pub fn head(path: &str, headers: &HeaderMap, size: u64, now: u64) -> Head {
    let token = authorize::token(headers).ok();
    Head {
        blob: routes::blob_of(path),
        named: token.and_then(|token| authorize::named_blob(&token).ok()),
        size: upload::announced_size(headers).ok(),
        sunset: upload::asked_sunset(headers, now).ok(),
        wanted: download::wanted(headers, "\"etag\"", size),
    }
}

/// What `check` tells people of an answer to the upload of some blob.
pub fn told(status: StatusCode, headers: HeaderMap, body: Bytes) -> [String; 3] {
    let answer = Answer {
        status,
        headers,
        body,
    };
    let (_, address) = answer.describes(&Sha256::of(b"probe"), 5);
    let (_, origin) = answer.allowed_origin();
    [answer.said(), address, origin]
}

/// A time as the `Sunset` header of an answer says it.
pub fn sunset(seconds: u64) -> Option<String> {
    let value = upload::http_date(seconds)?;
    value.to_str().ok().map(str::to_owned)
}
