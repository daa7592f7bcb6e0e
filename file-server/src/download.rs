//! `GET` and `HEAD /<sha256>` (BUD-01). Nobody is asked who they are: whoever knows the hash of a
//! ciphertext was told it, and a signature would tell the server who reads.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use wire::Sha256;

use crate::blocking::Blocking;
use crate::range::{self, Wanted};
use crate::refusal::Refusal;
use crate::server::Shared;
use crate::storage::{Blob, ReadBlob, StorageError};
use crate::upload::{SUNSET, http_date};

/// Read from disk at once, so memory per download is this much, whatever the blob's size.
const PIECE_BYTES: u64 = 128 * 1024;

pub(crate) async fn get(
    shared: &Shared,
    hash: &Sha256,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let now = shared.now();
    let blob = shared.storage().find(hash, now);
    let blob = blob.ok_or_else(Refusal::not_found)?;
    let (status, first, count) = match wanted(headers, &etag(hash), blob.size) {
        Wanted::Whole => (StatusCode::OK, 0, blob.size),
        Wanted::Part { first, last } => {
            let count = last.saturating_sub(first).saturating_add(1);
            (StatusCode::PARTIAL_CONTENT, first, count)
        }
        Wanted::Nothing => return Ok(unsatisfiable(&blob)),
    };
    let wanted_hash = *hash;
    let reader = shared
        .blocking(move |storage| storage.open(&wanted_hash, now))
        .await?;
    let mut response = (
        status,
        Body::from_stream(pieces(reader, first, count, shared.calls.clone())),
    )
        .into_response();
    describe(response.headers_mut(), hash, &blob, count);
    if status == StatusCode::PARTIAL_CONTENT {
        let last = first.saturating_add(count).saturating_sub(1);
        let range = format!("bytes {first}-{last}/{}", blob.size);
        insert(response.headers_mut(), header::CONTENT_RANGE, &range);
    }
    Ok(response)
}

/// Ranges are defined for GET only (RFC 9110, section 14.2).
pub(crate) fn head(shared: &Shared, hash: &Sha256) -> Result<Response, Refusal> {
    let blob = shared.storage().find(hash, shared.now());
    let blob = blob.ok_or_else(Refusal::not_found)?;
    let mut response = StatusCode::OK.into_response();
    describe(response.headers_mut(), hash, &blob, blob.size);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, hash: &Sha256, blob: &Blob, length: u64) {
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(headers, header::ETAG, &etag(hash));
    if let Some(value) = blob.gone_at.and_then(http_date) {
        headers.insert(SUNSET, value);
    }
}

/// A hash is the strongest validator there is.
fn etag(hash: &Sha256) -> String {
    format!("\"{hash}\"")
}

/// What part is asked for. `If-Range` with another validator than ours asks for all of it.
pub(crate) fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let Some(first) = ranges.next() else {
        return Wanted::Whole;
    };
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|value| value.as_bytes() != etag.as_bytes())
    {
        return Wanted::Whole;
    }
    match (first.to_str(), ranges.next()) {
        (Ok(text), None) => range::wanted(text, size),
        _ => Wanted::Nothing,
    }
}

fn unsatisfiable(blob: &Blob) -> Response {
    let reason = "one range inside the blob, or none";
    let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, reason);
    let mut response = refusal.into_response();
    let range = format!("bytes */{}", blob.size);
    insert(response.headers_mut(), header::CONTENT_RANGE, &range);
    response
}

/// Inserts text of ours, which is always a valid header value.
fn insert(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// The bytes from `first`, `count` of them. An error ends the connection before the announced
/// length is reached, so a client never takes a part for the whole.
fn pieces(
    reader: Box<dyn ReadBlob>,
    first: u64,
    count: u64,
    calls: Blocking,
) -> impl futures_util::Stream<Item = Result<Bytes, StorageError>> {
    stream::try_unfold(
        (reader, first, count, calls),
        |(mut reader, at, left, calls)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = move || {
                let length = usize::try_from(left.min(PIECE_BYTES)).unwrap_or(usize::MAX);
                let mut buffer = vec![0; length];
                let read = reader.read_at(at, &mut buffer)?;
                if read == 0 {
                    let kind = std::io::ErrorKind::UnexpectedEof;
                    return Err(StorageError::Io(kind.into()));
                }
                buffer.truncate(read);
                Ok((Bytes::from(buffer), reader))
            };
            let (piece, reader) = calls.run(read).await?;
            let read = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let left = left.saturating_sub(read);
            let next = (reader, at.saturating_add(read), left, calls);
            Ok(Some((piece, next)))
        },
    )
}
