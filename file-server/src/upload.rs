//! `PUT /upload` (BUD-02): from the network to the disk, hashed on the way.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use sha2::Digest as _;
use tokio::time::Instant;
use wire::Sha256;
use wire::blob::Verb;

use crate::authorize;
use crate::blocking::Blocking;
use crate::config::Limits;
use crate::quota::{QuotaError, granted_sunset};
use crate::refusal::Refusal;
use crate::server::Shared;
use crate::storage::{Claim, Staged, StorageError, Stored};

/// When a blob is to be gone, and when it will be (RFC 8594, as BUD-01 uses it).
pub(crate) const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Written to disk at once; a multiple of every file system's block.
const BATCH_BYTES: usize = 128 * 1024;

pub(crate) async fn put(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let token = authorize::token(headers)?;
    let named = authorize::named_blob(&token)?;
    let spent = authorize::authorize(shared, &token, Verb::Upload, &named).await?;
    let size = announced_size(headers)?;
    check_announced_hash(headers, &named)?;
    let asked = asked_sunset(headers, shared.now())?;

    let limits = &shared.config.limits;
    let usage = shared.blocking(|storage| Ok(storage.usage())).await?;
    let permit = shared.quota.admit(token.pubkey(), size, usage, limits)?;

    let staged = shared.storage().stage()?;
    let mut incoming = Incoming::new(staged, shared.calls.clone());
    receive(body, size, limits, &mut incoming).await?;
    let (hash, staged) = incoming.finish().await?;
    if hash != named {
        shared.calls.drop(staged);
        let reason = "the hash of the blob is not the one in the token";
        return Err(Refusal::new(StatusCode::CONFLICT, reason));
    }

    // The transfer may have taken long: what counts is the time at which the claim begins.
    let now = shared.now();
    let claim = Claim {
        owner: token.pubkey(),
        sunset: granted_sunset(asked, now, limits),
    };
    let commit = move || staged.commit(&hash, claim, spent, now);
    let stored = shared.calls.run(commit).await?;
    drop(permit);
    Ok(created(shared, &hash, &stored, claim.sunset))
}

/// `Content-Length` is required: space is set aside before the first byte is taken.
pub(crate) fn announced_size(headers: &HeaderMap) -> Result<u64, Refusal> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .ok_or_else(|| Refusal::new(StatusCode::LENGTH_REQUIRED, "Content-Length is required"))?;
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "Content-Length is no number"))
}

/// BUD-02: a client may say the hash in `X-SHA-256`, too.
fn check_announced_hash(headers: &HeaderMap, named: &Sha256) -> Result<(), Refusal> {
    match headers.get("x-sha-256") {
        Some(value) if value.as_bytes() != named.to_hex().as_bytes() => {
            let reason = "X-SHA-256 is not the hash in the token";
            Err(Refusal::new(StatusCode::CONFLICT, reason))
        }
        _ => Ok(()),
    }
}

/// The end that the client asks for, Unix seconds.
pub(crate) fn asked_sunset(headers: &HeaderMap, now: u64) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(SUNSET) else {
        return Ok(None);
    };
    let refuse = |reason| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let date = value
        .to_str()
        .ok()
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
        .ok_or_else(|| refuse("Sunset is no HTTP date"))?;
    if date.as_secs() <= now {
        return Err(refuse("Sunset lies in the past"));
    }
    Ok(Some(date.as_secs()))
}

/// Takes exactly `size` bytes from the body, no slower than the limits say.
async fn receive(
    mut body: Body,
    size: u64,
    limits: &Limits,
    incoming: &mut Incoming,
) -> Result<(), Refusal> {
    let started = Instant::now();
    let mut received = 0_u64;
    loop {
        // Falling behind the rate by more than the grace ends it, however lively the trickle.
        let due = received / limits.upload_bytes_per_second.max(1);
        let behind = started + limits.upload_grace + Duration::from_secs(due.min(86_400 * 365));
        let deadline = behind.min(Instant::now() + limits.idle_timeout);
        let frame = tokio::time::timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the upload is too slow"))?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the upload was cut off"))?;
        // Trailers say nothing here.
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        received = received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if received > size {
            // HTTP/1 framing rules it out; the promise does not rest on it.
            let reason = "the blob is larger than announced";
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        incoming.take(bytes).await?;
    }
    if received < size {
        let reason = "the blob is smaller than announced";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
    }
    Ok(())
}

/// A blob on its way to the store: gathers bytes into batches, hashes and writes each batch on
/// the threads that may wait.
struct Incoming {
    /// Absent only while a batch is being written, or after a failure.
    sink: Option<Sink>,
    buffer: BytesMut,
    calls: Blocking,
}

struct Sink {
    staged: Box<dyn Staged>,
    hasher: sha2::Sha256,
}

impl Incoming {
    fn new(staged: Box<dyn Staged>, calls: Blocking) -> Self {
        let hasher = sha2::Sha256::new();
        Self {
            sink: Some(Sink { staged, hasher }),
            buffer: BytesMut::new(),
            calls,
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        // Copied rather than kept: a peer that sends single bytes would otherwise make each of
        // them hold a whole network buffer.
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= BATCH_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), StorageError> {
        let batch = self.buffer.split().freeze();
        let mut sink = self.sink.take().ok_or_else(broken)?;
        let write = move || {
            sink.hasher.update(&batch);
            sink.staged.write(&batch)?;
            Ok(sink)
        };
        self.sink = Some(self.calls.run(write).await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<(Sha256, Box<dyn Staged>), StorageError> {
        self.write().await?;
        let sink = self.sink.take().ok_or_else(broken)?;
        let hash = Sha256::from_bytes(sink.hasher.finalize().into());
        Ok((hash, sink.staged))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            self.calls.drop(sink.staged);
        }
    }
}

fn broken() -> StorageError {
    StorageError::Io(std::io::Error::other("the upload failed before"))
}

/// The blob descriptor of BUD-02. It does not say who uploaded.
fn created(shared: &Shared, hash: &Sha256, stored: &Stored, sunset: Option<u64>) -> Response {
    let status = if stored.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let descriptor = serde_json::json!({
        "url": format!("{}/{hash}.bin", shared.origin),
        "sha256": hash,
        "size": stored.blob.size,
        "type": "application/octet-stream",
        "uploaded": stored.blob.uploaded_at,
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (status, json, descriptor.to_string()).into_response();
    if let Some(value) = sunset.and_then(http_date) {
        response.headers_mut().insert(SUNSET, value);
    }
    response
}

/// Unix seconds as an HTTP date; nothing for years that HTTP cannot write.
pub(crate) fn http_date(seconds: u64) -> Option<HeaderValue> {
    const YEAR_9999_ENDS: u64 = 253_402_300_799;
    if seconds > YEAR_9999_ENDS {
        return None;
    }
    let time = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()
}

impl From<QuotaError> for Refusal {
    fn from(error: QuotaError) -> Self {
        let status = match error {
            QuotaError::BlobTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            QuotaError::KeyBusy => StatusCode::TOO_MANY_REQUESTS,
            QuotaError::ServerBusy => StatusCode::SERVICE_UNAVAILABLE,
            QuotaError::NoSpace | QuotaError::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.to_string())
    }
}
