//! A server on port 0 in a folder of its own, people who sign tokens, and a plain HTTP client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_files::storage::DiskStorage;
use sotto_files::{Clock, Config, FileServer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::blob::{Token, Verb};
use wire::ids::{PublicKey, Signature};
use wire::{Event, EventDraft, Sha256, Tag, Tags};

/// Awaited conditions give up after this; nothing is asserted about how long anything takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server, its folder and its clock.
pub struct World {
    pub server: FileServer,
    pub folder: Arc<TempDir>,
    pub clock: TestClock,
    pub config: Config,
}

/// Starts at the real time, since tokens are checked against it, and moves when told.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config::new(folder.path().join("data"));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.limits.keep_free_bytes = 0;
        // Tests advance the clock and await the effect, so the sweeper looks often.
        config.limits.sweep_interval = Duration::from_millis(20);
        change(&mut config);
        let clock = TestClock(Arc::new(AtomicU64::new(real_now())));
        let server = launch(&config, &clock).await;
        Self {
            server,
            folder,
            clock,
            config,
        }
    }

    /// Stops the server and starts another on the same folder.
    pub async fn restart(self) -> Self {
        let Self {
            server,
            folder,
            clock,
            config,
        } = self;
        server.stop().await;
        let server = launch(&config, &clock).await;
        Self {
            server,
            folder,
            clock,
            config,
        }
    }

    pub fn data(&self) -> &Path {
        &self.config.data
    }

    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// A token for this server.
    pub fn token(&self, key: &Keypair, verb: Verb, hash: &Sha256) -> String {
        TokenDraft::new(verb, hash, self.clock.now()).sign(key)
    }

    pub async fn put(&self, key: &Keypair, body: &[u8]) -> Answer {
        let token = self.token(key, Verb::Upload, &Sha256::of(body));
        self.put_with(&token, body, &[]).await
    }

    pub async fn put_until(&self, key: &Keypair, body: &[u8], sunset: u64) -> Answer {
        let token = self.token(key, Verb::Upload, &Sha256::of(body));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(sunset);
        let date = httpdate::fmt_http_date(time);
        self.put_with(&token, body, &[("Sunset", &date)]).await
    }

    pub async fn put_with(&self, token: &str, body: &[u8], more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("Authorization", token)];
        headers.extend_from_slice(more);
        self.ask("PUT", "/upload", &headers, body).await
    }

    pub async fn get(&self, hash: &Sha256) -> Answer {
        self.ask("GET", &format!("/{hash}"), &[], b"").await
    }

    pub async fn head(&self, hash: &Sha256) -> Answer {
        self.ask("HEAD", &format!("/{hash}"), &[], b"").await
    }

    pub async fn range(&self, hash: &Sha256, range: &str) -> Answer {
        let path = format!("/{hash}");
        self.ask("GET", &path, &[("Range", range)], b"").await
    }

    pub async fn delete(&self, key: &Keypair, hash: &Sha256) -> Answer {
        let token = self.token(key, Verb::Delete, hash);
        self.delete_with(&token, hash).await
    }

    pub async fn delete_with(&self, token: &str, hash: &Sha256) -> Answer {
        let path = format!("/{hash}");
        self.ask("DELETE", &path, &[("Authorization", token)], b"")
            .await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        ask(self.server.address(), method, path, headers, body)
            .await
            .unwrap()
    }

    /// Every file under the data folder that contains `needle`.
    pub fn files_with(&self, needle: &[u8]) -> Vec<String> {
        files_with(self.data(), needle)
    }
}

async fn launch(config: &Config, clock: &TestClock) -> FileServer {
    let storage = DiskStorage::open(&config.data).unwrap();
    let time = clock.clone();
    FileServer::start_with(
        config.clone(),
        Arc::new(storage),
        Clock::new(move || time.now()),
    )
    .await
    .unwrap()
}

pub fn real_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn reason(&self) -> &str {
        self.header("x-reason")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request on a connection of its own. The path goes out exactly as given.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == "PUT" {
        // Said for an empty body, too.
        request = request.header("Content-Length", body.len());
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Sends bytes as they are and returns everything the server says until it closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is the peer's right.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Opens an upload and sends the head and `part` of a body of `size` bytes.
pub async fn begin_upload(address: SocketAddr, token: &str, size: usize, part: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n\
         Content-Length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(part).await.unwrap();
    stream
}

/// A key made of a number.
pub fn key(n: u8) -> Keypair {
    let secret = SecretKey::from_slice(&[n; 32]).unwrap();
    Keypair::from_secret_key(SECP256K1, &secret)
}

pub fn pubkey(key: &Keypair) -> PublicKey {
    PublicKey::from_bytes(key.x_only_public_key().0.serialize())
}

/// A token before it is signed; tests spoil one part each.
pub struct TokenDraft {
    pub kind: u16,
    pub created_at: u64,
    pub tags: Vec<Tag>,
}

impl TokenDraft {
    pub fn new(verb: Verb, hash: &Sha256, now: u64) -> Self {
        Self {
            kind: wire::kinds::BLOB_AUTH,
            created_at: now,
            tags: vec![
                Tag::new(["t", verb.as_str()]),
                Tag::new(["x".to_owned(), hash.to_hex()]),
                Tag::new(["server", "127.0.0.1"]),
                Tag::new(["expiration".to_owned(), (now + 300).to_string()]),
            ],
        }
    }

    pub fn without(mut self, name: &str) -> Self {
        self.tags.retain(|tag| tag.name() != name);
        self
    }

    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.tags.push(Tag::new([name, value]));
        self
    }

    pub fn instead(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    /// Two tokens with the same tags still differ: each has a number of its own.
    pub fn sign(self, key: &Keypair) -> String {
        Token::header(&self.event(key))
    }

    pub fn event(self, key: &Keypair) -> Event {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed).to_string();
        let draft = EventDraft {
            pubkey: pubkey(key),
            created_at: self.created_at,
            kind: self.kind,
            tags: Tags::from_iter(
                self.tags
                    .into_iter()
                    .chain([Tag::new(["serial".to_owned(), serial])]),
            ),
            content: "Blob".into(),
        };
        let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), key);
        Event::from_signature(draft, Signature::from_bytes(*signature.as_ref()))
    }
}

/// Bytes that look like ciphertext: no two samples share a window of 16 bytes.
pub fn sample(seed: u64, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 32);
    let mut block = Sha256::of(&seed.to_le_bytes());
    while out.len() < size {
        block = Sha256::of(block.as_bytes());
        out.extend_from_slice(block.as_bytes());
    }
    out.truncate(size);
    out
}

/// Every file under `root` that contains `needle`.
pub fn files_with(root: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for path in all_files(root) {
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        if bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

pub fn all_files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(root) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Asks until the answer is yes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
