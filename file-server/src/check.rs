//! Looks at a running file server from outside: a probe blob of random bytes under fresh random
//! keys is stored, read, protected from a stranger, deleted, and gone. Nothing of it stays.

pub(crate) mod answer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::HeaderValue;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rand::CryptoRng;
use rustls::pki_types::ServerName;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use wire::blob::{Token, Verb};
use wire::ids::{PublicKey, Signature};
use wire::relay_url::Origin;
use wire::{Event, Sha256};

use self::answer::Answer;

/// Small enough for every server, large enough for ranges.
const PROBE_BYTES: usize = 4_096;
/// An answer longer than this is none of ours.
const ANSWER_BYTES: usize = 64 * 1024;
const TOKEN_SECONDS: u64 = 300;

/// One question to the server and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was asked; stable.
    pub name: &'static str,
    /// Whether the answer was right.
    pub ok: bool,
    /// The answer, for people.
    pub detail: String,
}

/// All answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    schema: &'static str,
    /// The server that was looked at.
    pub url: Origin,
    /// Whether every answer was right.
    pub ok: bool,
    /// In the order in which they were asked.
    pub checks: Vec<Check>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody answers there, or not in time, or not in HTTP.
    #[error("{0}")]
    Unreachable(String),
}

/// Asks everything. `now` is Unix seconds; each request may take `timeout`. `rng` gives keys,
/// probe and signatures.
pub async fn check(
    url: &Origin,
    now: u64,
    timeout: Duration,
    rng: &mut (dyn CryptoRng + Send),
) -> Result<Report, CheckError> {
    let mut probe = vec![0; PROBE_BYTES];
    rng.fill_bytes(&mut probe);
    let probe = Bytes::from(probe);
    let hash = Sha256::of(&probe);
    let owner = fresh_key(rng);
    let stranger = fresh_key(rng);
    let mut token = |key: &Keypair, verb, hash: &Sha256| sign(key, verb, hash, url, now, rng);
    let wrong = token(&owner, Verb::Upload, &Sha256::of(b"another"));
    let upload = token(&owner, Verb::Upload, &hash);
    let foreign = token(&stranger, Verb::Delete, &hash);
    let delete = token(&owner, Verb::Delete, &hash);

    let peer = Peer { url, timeout };
    let path = format!("/{hash}");
    let mut checks = Vec::new();
    let mut note = |name, ok, detail: String| checks.push(Check { name, ok, detail });

    let answer = peer.head(&path).await?;
    note("reachable", answer.status == 404, answer.said());

    let answer = peer.put(None, &probe).await?;
    note("upload_needs_token", answer.status == 401, answer.said());

    let answer = peer.put(Some(&wrong), &probe).await?;
    let refused = answer.status.is_client_error();
    note("hash_mismatch_refused", refused, answer.said());

    let answer = peer.put(Some(&upload), &probe).await?;
    note("upload", answer.status == 201, answer.said());
    let size = u64::try_from(PROBE_BYTES).unwrap_or(0);
    let (named, detail) = answer.describes(&hash, size);
    note("descriptor", named, detail);

    let answer = peer.put(Some(&upload), &probe).await?;
    let refused = answer.status == 401;
    note("token_works_once", refused, answer.said());

    let answer = peer.head(&path).await?;
    let right = answer.status == 200 && answer.header(header::CONTENT_LENGTH) == "4096";
    note("head", right, answer.said());

    let answer = peer.get(&path, None).await?;
    let right = answer.status == 200 && answer.body == probe;
    note("get", right, answer.said());
    let harmless = answer.header(header::X_CONTENT_TYPE_OPTIONS) == "nosniff"
        && answer.header(header::CONTENT_TYPE) == "application/octet-stream"
        && answer
            .header(header::CONTENT_SECURITY_POLICY)
            .contains("sandbox");
    let detail = "octet-stream, nosniff and a sandbox policy keep browsers from running blobs";
    note("headers", harmless, detail.to_owned());
    let (origin, detail) = answer.allowed_origin();
    note("cors", origin == "*", detail);

    let answer = peer.get(&path, Some("bytes=100-199")).await?;
    let right = answer.status == 206 && probe.get(100..200) == Some(&answer.body);
    note("range", right, answer.said());

    let answer = peer.delete(&path, &foreign).await?;
    note(
        "stranger_cannot_delete",
        answer.status == 403,
        answer.said(),
    );

    let answer = peer.delete(&path, &delete).await?;
    note("delete", answer.status.is_success(), answer.said());

    let answer = peer.head(&path).await?;
    let gone = answer.status == 404 || answer.status == 410;
    note("gone", gone, answer.said());

    let listing = format!("/list/{}", owner.x_only_public_key().0);
    let answer = peer.get(&listing, None).await?;
    let refused = !answer.status.is_success();
    note("no_listing", refused, answer.said());

    Ok(Report {
        schema: "sotto.fileserver/1",
        url: url.clone(),
        ok: checks.iter().all(|check| check.ok),
        checks,
    })
}

/// A key that nobody ever saw.
fn fresh_key(rng: &mut (dyn CryptoRng + Send)) -> Keypair {
    loop {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        // All but about one in 2^128 draws are keys.
        if let Ok(secret) = SecretKey::from_slice(&secret) {
            return Keypair::from_secret_key(SECP256K1, &secret);
        }
    }
}

/// A signed token as a header value.
fn sign(
    key: &Keypair,
    verb: Verb,
    hash: &Sha256,
    url: &Origin,
    now: u64,
    rng: &mut (dyn CryptoRng + Send),
) -> HeaderValue {
    let pubkey = PublicKey::from_bytes(key.x_only_public_key().0.serialize());
    let draft = Token::draft(
        pubkey,
        verb,
        hash,
        url,
        now,
        now.saturating_add(TOKEN_SECONDS),
    );
    let mut auxiliary = [0; 32];
    rng.fill_bytes(&mut auxiliary);
    let message = secp256k1::Message::from_digest(*draft.id().as_bytes());
    let signature = SECP256K1.sign_schnorr_with_aux_rand(message.as_ref(), key, &auxiliary);
    let event = Event::from_signature(draft, Signature::from_bytes(*signature.as_ref()));
    // Base64 is a valid header value; were it not, the server would refuse an empty one.
    HeaderValue::from_str(&Token::header(&event)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

struct Peer<'a> {
    url: &'a Origin,
    timeout: Duration,
}

impl Peer<'_> {
    async fn head(&self, path: &str) -> Result<Answer, CheckError> {
        self.ask(self.request(Method::HEAD, path, None), Bytes::new())
            .await
    }

    async fn get(&self, path: &str, range: Option<&'static str>) -> Result<Answer, CheckError> {
        let mut request = self.request(Method::GET, path, None);
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        self.ask(request, Bytes::new()).await
    }

    async fn put(&self, token: Option<&HeaderValue>, body: &Bytes) -> Result<Answer, CheckError> {
        let request = self.request(Method::PUT, "/upload", token);
        self.ask(request, body.clone()).await
    }

    async fn delete(&self, path: &str, token: &HeaderValue) -> Result<Answer, CheckError> {
        let request = self.request(Method::DELETE, path, Some(token));
        self.ask(request, Bytes::new()).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&HeaderValue>,
    ) -> hyper::http::request::Builder {
        let host = format!("{}:{}", self.url.host(), self.url.port());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONNECTION, "close");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        request
    }

    /// One request on a connection of its own.
    async fn ask(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, CheckError> {
        let request = request.body(Full::new(body)).map_err(unreachable)?;
        let exchange = async {
            let address = (self.url.host(), self.url.port());
            let host = address.0.trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect((host.as_str(), address.1))
                .await
                .map_err(unreachable)?;
            if self.url.is_secure() {
                exchange(secure(&host, stream).await?, request).await
            } else {
                exchange(stream, request).await
            }
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| CheckError::Unreachable("no answer in time".to_owned()))?
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(unreachable)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(unreachable)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| CheckError::Unreachable(error.to_string()))?;
    connection.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

/// TLS with the roots that browsers trust, and nothing to resume.
async fn secure(
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CheckError> {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unreachable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(host.to_owned()).map_err(unreachable)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(unreachable)
}

fn unreachable(error: impl std::error::Error) -> CheckError {
    CheckError::Unreachable(error.to_string())
}
