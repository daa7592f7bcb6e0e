//! Logging proxies: what a relay or file server, or somebody on its wire, gets to see.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// One connection as the server's side of the wire saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The HTTP request line and headers, one per line.
    pub head: String,
    /// Text frames (relay) or body bytes as lossy text (file server) from the client.
    pub sent: Vec<String>,
    /// The same from the server.
    pub received: Vec<String>,
}

impl Seen {
    /// The client's frames as JSON.
    pub fn frames(&self) -> Vec<serde_json::Value> {
        self.sent
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok())
            .collect()
    }

    /// The client's frames of one verb.
    pub fn of(&self, verb: &str) -> Vec<serde_json::Value> {
        self.frames()
            .into_iter()
            .filter(|frame| frame[0] == verb)
            .collect()
    }

    /// Events of one kind that the client published here.
    pub fn published(&self, kind: u64) -> Vec<serde_json::Value> {
        self.of("EVENT")
            .into_iter()
            .map(|frame| frame[1].clone())
            .filter(|e| e["kind"] == kind)
            .collect()
    }
}

/// What a proxy makes of a relay behind it.
#[derive(Debug, Clone, Default)]
pub struct Disguise {
    /// The NIPs that its description lists, instead of the relay's own.
    pub nips: Vec<u16>,
    /// What it says to NEG-OPEN and NEG-MSG, in place of the relay: `{}` is the name of the
    /// comparison. Nothing: silence.
    pub compares: Option<String>,
}

/// A proxy in front of one server.
pub struct Tap {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    seen: Mutex<Vec<Seen>>,
    is_down: AtomicBool,
    last_wrap_for: Mutex<Option<String>>,
    disguise: Mutex<Option<Disguise>>,
    hold: Mutex<Option<(&'static str, &'static str)>>,
    holding: tokio::sync::Notify,
    let_go: tokio::sync::Notify,
    cut: tokio::sync::Notify,
}

impl Tap {
    /// A proxy for a relay. It listens at once; connections fail until [`Tap::lead_to`].
    pub async fn relay() -> Self {
        Self::start("ws").await
    }

    /// A proxy for a file server.
    pub async fn files() -> Self {
        Self::start("http").await
    }

    async fn start(scheme: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(None),
            seen: Mutex::default(),
            is_down: AtomicBool::new(false),
            last_wrap_for: Mutex::default(),
            disguise: Mutex::default(),
            hold: Mutex::default(),
            holding: tokio::sync::Notify::new(),
            let_go: tokio::sync::Notify::new(),
            cut: tokio::sync::Notify::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), scheme));
        Self {
            address,
            scheme,
            shared,
            task,
        }
    }

    /// Where clients connect: `ws://127.0.0.1:port` or `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Sets the server behind it.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().expect("not poisoned") = Some(upstream);
    }

    /// Everything seen so far, one entry per connection, in the order they were accepted.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("not poisoned").clone()
    }

    /// Bytes of frames and bodies seen so far: from clients, and to them.
    pub fn bytes(&self) -> (usize, usize) {
        let sum = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        let seen = self.seen();
        let sent = seen.iter().map(|seen| sum(&seen.sent)).sum();
        (sent, seen.iter().map(|seen| sum(&seen.received)).sum())
    }

    /// From now on it passes for another relay.
    pub fn disguise(&self, disguise: Disguise) {
        *self.shared.disguise.lock().expect("not poisoned") = Some(disguise);
    }

    /// Keeps the next frame of this verb that has this in it and comes behind an AUTH, and with it
    /// its connection, until [`Tap::let_go`].
    pub fn hold(&self, verb: &'static str, part: &'static str) {
        *self.shared.hold.lock().expect("not poisoned") = Some((verb, part));
    }

    /// Waits until that frame has come.
    pub async fn holding(&self) {
        self.shared.holding.notified().await;
    }

    /// Passes it on.
    pub fn let_go(&self) {
        self.shared.let_go.notify_one();
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        self.shared
            .seen
            .lock()
            .expect("not poisoned")
            .iter_mut()
            .for_each(|seen| {
                *seen = Seen::default();
            });
    }

    /// Down: new connections are closed at once, open ones are cut.
    pub fn set_down(&self, down: bool) {
        self.shared.is_down.store(down, Ordering::SeqCst);
        if down {
            self.shared.cut.notify_waiters();
        }
    }

    /// Goes down when the next wrap for this key (hex) has reached the server, before the answer
    /// comes back: the relay has it, the client cannot know.
    pub fn cut_after_wrap_for(&self, key: &str) {
        *self.shared.last_wrap_for.lock().expect("not poisoned") = Some(key.to_owned());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, scheme: &'static str) {
    while let Ok((stream, _)) = listener.accept().await {
        let upstream = *shared.upstream.lock().expect("not poisoned");
        let (Some(upstream), false) = (upstream, shared.is_down.load(Ordering::SeqCst)) else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let index = {
                let mut seen = shared.seen.lock().expect("not poisoned");
                seen.push(Seen::default());
                seen.len() - 1
            };
            let cut = shared.cut.notified();
            tokio::pin!(cut);
            cut.as_mut().enable();
            let work = async {
                match scheme {
                    "ws" => relay_connection(stream, upstream, &shared, index).await,
                    _ => files_connection(stream, upstream, &shared, index).await,
                }
            };
            tokio::select! {
                _ = work => {}
                () = cut => {}
            }
        });
    }
}

impl Shared {
    /// Whether this frame is the wrap after which everything goes down.
    fn is_last(&self, frame: &str) -> bool {
        let mut last = self.last_wrap_for.lock().expect("not poisoned");
        let is_it = frame.starts_with("[\"EVENT\"")
            && last
                .as_ref()
                .is_some_and(|key| frame.contains(&format!("\"p\",\"{key}\"")));
        if is_it {
            *last = None;
        }
        is_it
    }

    /// Whether this frame is to be held.
    fn is_held(&self, frame: &str) -> bool {
        let mut hold = self.hold.lock().expect("not poisoned");
        let is_it = hold.is_some_and(|(verb, part)| {
            frame.starts_with(&format!("[\"{verb}\"")) && frame.contains(part)
        });
        if is_it {
            *hold = None;
        }
        is_it
    }

    /// What to say to a frame of a comparison instead of passing it on; `None` passes it on.
    fn answer_to(&self, frame: &str) -> Option<Option<String>> {
        let disguise = self.disguise.lock().expect("not poisoned").clone()?;
        let frame: serde_json::Value = serde_json::from_str(frame).ok()?;
        match frame[0].as_str()? {
            "NEG-OPEN" | "NEG-MSG" => Some(
                disguise
                    .compares
                    .map(|answer| answer.replace("{}", frame[1].as_str().unwrap_or_default())),
            ),
            "NEG-CLOSE" => Some(None),
            _ => None,
        }
    }

    fn description(&self) -> Option<String> {
        let disguise = self.disguise.lock().expect("not poisoned").clone()?;
        let body = serde_json::json!({"name": "another", "supported_nips": disguise.nips});
        let body = body.to_string();
        Some(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    fn note(&self, index: usize, write: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.seen.lock().expect("not poisoned").get_mut(index) {
            write(seen);
        }
    }
}

async fn relay_connection(
    mut stream: TcpStream,
    upstream: SocketAddr,
    shared: &Shared,
    index: usize,
) -> anyhow::Result<()> {
    let mut head = String::new();
    // Browsers and NIP-11 clients speak plain HTTP to the same port; those are passed on raw.
    let mut first = [0_u8; 2048];
    let peeked = stream.peek(&mut first).await?;
    let start = String::from_utf8_lossy(&first[..peeked]).to_ascii_lowercase();
    if !start.contains("upgrade: websocket") {
        if let Some(description) = shared.description() {
            shared.note(index, |seen| seen.head = start.clone());
            // Read, or closing would reset the connection under the answer.
            let _ = stream.read(&mut first).await?;
            stream.write_all(description.as_bytes()).await?;
            return Ok(());
        }
        return files_connection(stream, upstream, shared, index).await;
    }
    #[allow(
        clippy::result_large_err,
        reason = "the callback's type is the library's"
    )]
    let callback = |request: &Request, response: Response| {
        head = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
        }
        Ok(response)
    };
    let client = tokio_tungstenite::accept_hdr_async(stream, callback).await?;
    shared.note(index, |seen| seen.head = head);
    let server = TcpStream::connect(upstream).await?;
    let (server, _) = tokio_tungstenite::client_async(format!("ws://{upstream}"), server).await?;
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let mut is_known = false;
    loop {
        tokio::select! {
            message = from_client.next() => {
                let Some(Ok(message)) = message else { break };
                let mut is_last = false;
                if let Message::Text(text) = &message {
                    shared.note(index, |seen| seen.sent.push(text.to_string()));
                    is_last = shared.is_last(text);
                    is_known |= text.starts_with("[\"AUTH\"");
                    if is_known && shared.is_held(text) {
                        shared.holding.notify_one();
                        shared.let_go.notified().await;
                    }
                    if let Some(answer) = shared.answer_to(text) {
                        if let Some(answer) = answer {
                            pass_down(&mut to_client, Message::text(answer), shared, index).await?;
                        }
                        continue;
                    }
                }
                to_server.send(message).await?;
                if is_last {
                    // The relay must have it in hand before the connection dies.
                    let _ = from_server.next().await;
                    shared.is_down.store(true, Ordering::SeqCst);
                    shared.cut.notify_waiters();
                    break;
                }
            }
            message = from_server.next() => {
                let Some(Ok(message)) = message else { break };
                pass_down(&mut to_client, message, shared, index).await?;
            }
        }
    }
    Ok(())
}

async fn pass_down<S>(
    to_client: &mut S,
    message: Message,
    shared: &Shared,
    index: usize,
) -> anyhow::Result<()>
where
    S: futures_util::Sink<Message> + Unpin,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    if let Message::Text(text) = &message {
        shared.note(index, |seen| seen.received.push(text.to_string()));
    }
    to_client.send(message).await?;
    Ok(())
}

async fn files_connection(
    client: TcpStream,
    upstream: SocketAddr,
    shared: &Shared,
    index: usize,
) -> anyhow::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut head_done = false;
        let mut buffer = vec![0; 65_536];
        loop {
            let count = from_client.read(&mut buffer).await?;
            if count == 0 {
                to_server.shutdown().await?;
                return anyhow::Ok(());
            }
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            shared.note(index, |seen| {
                if head_done {
                    seen.sent.push(text);
                } else if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    seen.head.push_str(head);
                    seen.sent.push(body.to_owned());
                    head_done = true;
                } else {
                    seen.head.push_str(&text);
                }
            });
            to_server.write_all(&buffer[..count]).await?;
        }
    };
    let down = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                to_client.shutdown().await?;
                return anyhow::Ok(());
            }
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            shared.note(index, |seen| seen.received.push(text));
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    let _ = tokio::join!(up, down);
    Ok(())
}
