//! One HTTP connection per transfer to or from a file server (Blossom, BUD-01, 02, 11, 12).
//!
//! A connection is used once and closed, redirects are not followed, nothing but what a transfer
//! needs is in its headers, and a GET is never signed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use sha2::{Digest as _, Sha256 as Hasher};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;
use wire::Sha256;
use wire::blob::BlobUrl;
use wire::relay_url::Origin;

use super::Timeouts;
use super::dialer::{Dialer, plain_words};
use super::http::{Answer, Ask, Failure, Http, empty};
use super::http_date;
use crate::engine::io::BlobOutcome;

/// The largest answer that is read besides a blob.
const ANSWER_BYTES: usize = 16 * 1024;
/// The longest `X-Reason` that is kept, bytes.
const REASON_BYTES: usize = 512;
/// How much is read from the disk or written to it at once.
const STEP_BYTES: usize = 64 * 1024;

/// Told of bytes as they pass.
pub type ByteObserver = Arc<dyn Fn(u64) + Send + Sync>;

/// Talks to file servers. Cheap to clone; keeps no connection.
#[derive(Debug, Clone)]
pub struct FileLink {
    http: Http,
}

/// What is uploaded.
#[derive(Debug)]
pub struct Upload {
    /// To which server.
    pub origin: Origin,
    /// Whether the user's own configuration names it.
    pub is_own: bool,
    /// SHA-256 of the ciphertext.
    pub blob: Sha256,
    /// Bytes of the ciphertext.
    pub size: u64,
    /// The `Authorization` header.
    pub authorization: String,
    /// The wished end of life, Unix seconds.
    pub sunset: Option<u64>,
}

/// Why a blob did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The server does not have it (any more): 404 or 410.
    #[error("the file server does not have the file")]
    Absent,
    /// The address may not be dialled.
    #[error("{0}")]
    Forbidden(String),
    /// No connection, or it broke. What came is kept and the next try goes on behind it.
    #[error("{0}")]
    Unreachable(String),
    /// Another answer. The reason is the server's: untrusted.
    #[error("the file server answered {status} {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `X-Reason`, cut.
        reason: String,
    },
    /// More or other bytes than the message named. What came was thrown away.
    #[error("the file server sent other bytes than the message names")]
    Integrity,
    /// The local disk.
    #[error("{0}")]
    Local(String, bool),
}

impl FileLink {
    /// A link over this dialer.
    pub fn new(dialer: Dialer, timeouts: Timeouts) -> Self {
        Self {
            http: Http { dialer, timeouts },
        }
    }

    /// `PUT /upload` of a spooled file (BUD-02).
    pub async fn upload(
        &self,
        upload: &Upload,
        file: std::fs::File,
        progress: Option<ByteObserver>,
    ) -> BlobOutcome {
        let moved = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&moved);
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), STEP_BYTES);
        let stream = stream.map(move |step| {
            if let Ok(step) = &step {
                let length = u64::try_from(step.len()).unwrap_or_default();
                let done = counter.fetch_add(length, Ordering::Relaxed);
                if let Some(progress) = &progress {
                    progress(done.saturating_add(length));
                }
            }
            step.map(Frame::data)
        });
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(upload.size));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        let sunset = upload.sunset.map(http_date::format);
        let texts = [
            ("x-sha-256", Some(upload.blob.to_hex())),
            ("authorization", Some(upload.authorization.clone())),
            ("sunset", sunset),
        ];
        if let Err(outcome) = insert_texts(&mut headers, texts) {
            return outcome;
        }
        let request = Ask {
            method: Method::PUT,
            origin: &upload.origin,
            path: "/upload".to_owned(),
            is_own: upload.is_own,
            headers,
            body: http_body_util::BodyExt::boxed(StreamBody::new(stream)),
        };
        match self.http.ask(request, &moved).await {
            Ok(answer) => stored(answer, upload, self.http.timeouts.transfer).await,
            Err(failure) => outcome_of_failure(failure),
        }
    }

    /// `DELETE /<hash>` (BUD-12).
    pub async fn remove(&self, url: &BlobUrl, is_own: bool, authorization: &str) -> BlobOutcome {
        let mut headers = HeaderMap::new();
        let texts = [("authorization", Some(authorization.to_owned()))];
        if let Err(outcome) = insert_texts(&mut headers, texts) {
            return outcome;
        }
        self.about_blob(Method::DELETE, url, is_own, headers).await
    }

    /// `HEAD /<hash>` (BUD-01).
    pub async fn probe(&self, url: &BlobUrl, is_own: bool) -> BlobOutcome {
        self.about_blob(Method::HEAD, url, is_own, HeaderMap::new())
            .await
    }

    async fn about_blob(
        &self,
        method: Method,
        url: &BlobUrl,
        is_own: bool,
        headers: HeaderMap,
    ) -> BlobOutcome {
        let request = Ask {
            method,
            origin: &url.origin,
            path: format!("/{}", url.hash),
            is_own,
            headers,
            body: empty(),
        };
        match self.http.ask(request, &AtomicU64::new(0)).await {
            Ok(answer) => outcome_of(answer.response.status(), answer.response.headers()),
            Err(failure) => outcome_of_failure(failure),
        }
    }

    /// `GET /<hash>` into `file`, going on behind the bytes that are there already. At most
    /// `size` bytes are read where the message names a size, and `limit` in any case; the whole
    /// is checked against the hash, and `file` is emptied if it does not hold.
    pub async fn download(
        &self,
        url: &BlobUrl,
        is_own: bool,
        size: Option<u64>,
        limit: u64,
        file: std::fs::File,
        progress: Option<ByteObserver>,
    ) -> Result<u64, DownloadError> {
        let mut file = tokio::fs::File::from_std(file);
        let limit = size.unwrap_or(limit).min(limit);
        let (mut hasher, mut have) = hash_of(&mut file).await?;
        if size == Some(have) && Sha256::from_bytes(hasher.clone().finalize().into()) == url.hash {
            return Ok(have);
        }
        if have >= limit {
            restart(&mut file, &mut hasher, &mut have).await?;
        }
        let answer = self.get(url, is_own, have).await?;
        let (status, headers) = (answer.response.status(), answer.response.headers());
        match status {
            StatusCode::OK => restart(&mut file, &mut hasher, &mut have).await?,
            StatusCode::PARTIAL_CONTENT if have > 0 && continues_at(headers, have) => {}
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                restart(&mut file, &mut hasher, &mut have).await?;
                return Err(DownloadError::Unreachable(
                    "the file server could not go on where it stopped".to_owned(),
                ));
            }
            _ => return Err(refusal(status, headers)),
        }
        let mut body = answer.response.into_body();
        let was_announced = body.size_hint().exact().is_some();
        // A length that is already too large costs not a byte.
        if body.size_hint().lower() > limit.saturating_sub(have) {
            restart(&mut file, &mut hasher, &mut have).await?;
            return Err(DownloadError::Integrity);
        }
        loop {
            let next = tokio::time::timeout(self.http.timeouts.transfer, body.frame()).await;
            let frame = match next {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) => return broken(&mut file, "the connection broke").await,
                Err(_) => return broken(&mut file, "the file server fell silent").await,
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            have = have.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            if have > limit {
                restart(&mut file, &mut hasher, &mut have).await?;
                return Err(DownloadError::Integrity);
            }
            file.write_all(data).await.map_err(local)?;
            hasher.update(data);
            if let Some(progress) = &progress {
                progress(have);
            }
        }
        file.flush().await.map_err(local)?;
        if size.is_some_and(|size| have < size) {
            if !was_announced {
                return broken(&mut file, "the file server sent only a part").await;
            }
            // The answer was whole and the blob is not: the server's copy is cut off.
            restart(&mut file, &mut hasher, &mut have).await?;
            return Err(DownloadError::Integrity);
        }
        if Sha256::from_bytes(hasher.clone().finalize().into()) != url.hash {
            restart(&mut file, &mut hasher, &mut have).await?;
            return Err(DownloadError::Integrity);
        }
        Ok(have)
    }

    /// A small document from a server, such as a relay's own description (NIP-11): at most
    /// `limit` bytes, status 200.
    pub async fn document(
        &self,
        origin: &Origin,
        path: &str,
        is_own: bool,
        accept: &'static str,
        limit: usize,
    ) -> Result<Bytes, DownloadError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let request = Ask {
            method: Method::GET,
            origin,
            path: path.to_owned(),
            is_own,
            headers,
            body: empty(),
        };
        let answer = self.http.ask(request, &AtomicU64::new(0)).await?;
        let status = answer.response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, answer.response.headers()));
        }
        let body = http_body_util::Limited::new(answer.response.into_body(), limit).collect();
        match tokio::time::timeout(self.http.timeouts.transfer, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            _ => Err(DownloadError::Unreachable(
                "the document did not come, or is too large".to_owned(),
            )),
        }
    }

    async fn get(&self, url: &BlobUrl, is_own: bool, have: u64) -> Result<Answer, DownloadError> {
        let mut headers = HeaderMap::new();
        if have > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-"))
        {
            headers.insert(header::RANGE, range);
        }
        let request = Ask {
            method: Method::GET,
            origin: &url.origin,
            path: format!("/{}", url.hash),
            is_own,
            headers,
            body: empty(),
        };
        Ok(self.http.ask(request, &AtomicU64::new(0)).await?)
    }
}

impl From<Failure> for DownloadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Forbidden(why) => Self::Forbidden(why),
            Failure::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

fn outcome_of_failure(failure: Failure) -> BlobOutcome {
    match failure {
        Failure::Forbidden(why) => BlobOutcome::Forbidden(why),
        Failure::Unreachable(why) => BlobOutcome::Unreachable(why),
    }
}

fn insert_texts<const N: usize>(
    headers: &mut HeaderMap,
    texts: [(&'static str, Option<String>); N],
) -> Result<(), BlobOutcome> {
    for (name, text) in texts {
        let Some(text) = text else { continue };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| BlobOutcome::Unreachable("a header could not be written".to_owned()))?;
        value.set_sensitive(name == "authorization");
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// The answer to an upload. A server that names another hash than ours stored something else.
async fn stored(answer: Answer, upload: &Upload, timeout: Duration) -> BlobOutcome {
    let (parts, body) = answer.response.into_parts();
    let outcome = outcome_of(parts.status, &parts.headers);
    if !matches!(outcome, BlobOutcome::Done { .. }) {
        return match outcome {
            // An upload is not about something that could be absent.
            BlobOutcome::Absent => BlobOutcome::Refused {
                status: parts.status.as_u16(),
                reason: "no uploads here".to_owned(),
            },
            other => other,
        };
    }
    let body = http_body_util::Limited::new(body, ANSWER_BYTES).collect();
    let body = tokio::time::timeout(timeout, body).await;
    let named = match body {
        Ok(Ok(body)) => described(&body.to_bytes()),
        // The status said that it is stored; what the server adds to that is not needed.
        _ => None,
    };
    match named {
        Some(named) if named != upload.blob => BlobOutcome::Refused {
            status: parts.status.as_u16(),
            reason: "the file server stored other bytes".to_owned(),
        },
        _ => outcome,
    }
}

/// The hash in a blob descriptor (BUD-02).
pub(crate) fn described(json: &[u8]) -> Option<Sha256> {
    #[derive(serde::Deserialize)]
    struct Descriptor {
        sha256: Sha256,
    }
    let descriptor = serde_json::from_slice::<Descriptor>(json).ok()?;
    Some(descriptor.sha256)
}

pub(crate) fn outcome_of(status: StatusCode, headers: &HeaderMap) -> BlobOutcome {
    match status {
        status if status.is_success() => BlobOutcome::Done {
            sunset: headers
                .get("sunset")
                .and_then(|value| value.to_str().ok())
                .and_then(http_date::parse),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => BlobOutcome::Absent,
        status => BlobOutcome::Refused {
            status: status.as_u16(),
            reason: reason_of(status, headers),
        },
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> DownloadError {
    match outcome_of(status, headers) {
        BlobOutcome::Absent => DownloadError::Absent,
        BlobOutcome::Refused { status, reason } => DownloadError::Refused { status, reason },
        // 2xx other than 200 and 206: not a blob.
        _ => DownloadError::Refused {
            status: status.as_u16(),
            reason: "not a file".to_owned(),
        },
    }
}

fn reason_of(status: StatusCode, headers: &HeaderMap) -> String {
    if status.is_redirection() {
        return "redirects are not followed".to_owned();
    }
    let reason = headers.get("x-reason").map(HeaderValue::as_bytes);
    let reason = String::from_utf8_lossy(reason.unwrap_or_default());
    let cut: String = reason.chars().take(REASON_BYTES).collect();
    if cut.is_empty() {
        status.canonical_reason().unwrap_or_default().to_owned()
    } else {
        cut
    }
}

pub(crate) fn continues_at(headers: &HeaderMap, have: u64) -> bool {
    headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("bytes "))
        .and_then(|text| text.split_once('-'))
        .and_then(|(start, _)| start.trim().parse::<u64>().ok())
        == Some(have)
}

/// Hash and length of what is in the file already; the place is then its end.
async fn hash_of(file: &mut tokio::fs::File) -> Result<(Hasher, u64), DownloadError> {
    file.rewind().await.map_err(local)?;
    let mut hasher = Hasher::new();
    let mut have = 0_u64;
    let mut buffer = vec![0; STEP_BYTES];
    loop {
        let count = file.read(&mut buffer).await.map_err(local)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            return Ok((hasher, have));
        };
        hasher.update(part);
        have = have.saturating_add(u64::try_from(count).unwrap_or_default());
    }
}

async fn restart(
    file: &mut tokio::fs::File,
    hasher: &mut Hasher,
    have: &mut u64,
) -> Result<(), DownloadError> {
    file.set_len(0).await.map_err(local)?;
    file.rewind().await.map_err(local)?;
    *hasher = Hasher::new();
    *have = 0;
    Ok(())
}

/// Keeps what came, for the next try.
async fn broken(file: &mut tokio::fs::File, why: &str) -> Result<u64, DownloadError> {
    file.flush().await.map_err(local)?;
    Err(DownloadError::Unreachable(why.to_owned()))
}

fn local(error: io::Error) -> DownloadError {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    DownloadError::Local(plain_words(&error), is_full)
}
