//! One HTTP request on one connection that is closed after it (RFC 9112).
//!
//! Nothing is kept between two requests: no connection, no cookie, no name of a page.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use wire::relay_url::Origin;

use super::Timeouts;
use super::dialer::{DialError, Dialer, Target};
use super::relay_link::USER_AGENT;

/// What a request carries.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// Makes requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub dialer: Dialer,
    pub timeouts: Timeouts,
}

impl Http {
    /// One request on one connection. `moved` counts the request's own bytes: as long as they
    /// flow, the server may take its time.
    pub async fn ask(&self, ask: Ask<'_>, moved: &AtomicU64) -> Result<Answer, Failure> {
        let target = Target::file_server(ask.origin, ask.is_own);
        let connection = self.dialer.dial(&target).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(256 * 1024)
            .max_headers(64)
            .handshake::<_, Body>(TokioIo::new(connection))
            .await
            .map_err(|_| Failure::unreachable("the connection broke"))?;
        // Aborted with the answer, so a transfer that is dropped leaves no connection behind.
        let driver = Abort(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .body(ask.body)
            .map_err(|_| Failure::unreachable("the request could not be written"))?;
        *request.headers_mut() = ask.headers;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::HOST, host_header(ask.origin)?);
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let mut seen = 0;
        let mut since = Instant::now();
        loop {
            let tick = since + self.timeouts.transfer;
            tokio::select! {
                answer = &mut answer => {
                    return match answer {
                        Ok(response) => Ok(Answer { response, _driver: driver }),
                        Err(_) => Err(Failure::unreachable("the connection broke")),
                    };
                }
                () = tokio::time::sleep_until(tick) => {
                    let now = moved.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(Failure::unreachable("the file server did not answer in time"));
                    }
                    seen = now;
                    since = Instant::now();
                }
            }
        }
    }
}

/// A request that is not sent yet.
pub(super) struct Ask<'a> {
    pub method: Method,
    pub origin: &'a Origin,
    pub path: String,
    pub is_own: bool,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A response and the task that reads it.
pub(super) struct Answer {
    pub response: Response<Incoming>,
    _driver: Abort,
}

pub(super) struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The address may not be dialled.
    Forbidden(String),
    /// No connection, or it broke before a whole answer.
    Unreachable(String),
}

impl Failure {
    pub fn unreachable(why: &str) -> Self {
        Self::Unreachable(why.to_owned())
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Forbidden(why) => Self::Forbidden(why.to_owned()),
            DialError::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn host_header(origin: &Origin) -> Result<HeaderValue, Failure> {
    let standard = if origin.is_secure() { 443 } else { 80 };
    let host = if origin.port() == standard {
        origin.host()
    } else {
        format!("{}:{}", origin.host(), origin.port())
    };
    HeaderValue::from_str(&host).map_err(|_| Failure::unreachable("not a host name"))
}
