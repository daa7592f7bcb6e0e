//! The relay as a whole: accepts connections, counts them, and stops in good order.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wire::limits;

use crate::config::{Config, Storage};
use crate::connection::Connection;
use crate::history::History;
use crate::ingest::{Ingest, Live};
use crate::policy::OwnUrls;
use crate::reconcile::Reconciliations;
use crate::store::recovery::{self, DiskOptions};
use crate::store::{EventStore, Opened, StoreError};
use crate::{nip11, retention};

/// KiB of events being checked or written, all connections together.
const IN_FLIGHT_KIB: usize = 64 * 1024;
/// Bytes of an HTTP request's head.
const HEAD_BYTES: usize = 8 * 1024;
/// What a WebSocket reads at a time. The library's default would cost 128 KiB per connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Why the relay could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network or the system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Nothing can be stored any more; what was acknowledged is on disk.
    #[error("the writer failed; restart the relay")]
    Writer,
}

/// What every connection shares.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) live: Arc<Live>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) history: History,
    pub(crate) reconciliations: Arc<Reconciliations>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    clients: AtomicU64,
}

/// A running relay.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let relay = sotto_relay::Relay::start(listener, sotto_relay::Config::in_memory()).await?;
/// println!("{}", relay.url());
/// relay.stop().await?;
/// # Ok(()) }
/// ```
pub struct Relay {
    address: SocketAddr,
    stop: CancellationToken,
    /// A relay that is dropped stops too, only nobody waits for it.
    _stop_when_dropped: DropGuard,
    running: tokio::task::JoinHandle<Result<(), ServerError>>,
    warnings: Vec<String>,
}

/// Runs a relay on `listener` until `stop` is done, then finishes what is in flight.
pub async fn run(
    listener: TcpListener,
    config: Config,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let mut relay = Relay::start(listener, config).await?;
    let ended = tokio::select! {
        () = stop => None,
        ended = &mut relay.running => Some(ended),
    };
    match ended {
        Some(ended) => ended.unwrap_or(Err(ServerError::Writer)),
        None => relay.stop().await,
    }
}

impl Relay {
    /// Opens the store and starts serving in the background. Fails where another server uses
    /// the same data, or the data is damaged.
    pub async fn start(listener: TcpListener, config: Config) -> Result<Self, ServerError> {
        let address = listener.local_addr()?;
        raise_file_limit();
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || open(&opening))
            .await
            .map_err(|_| ServerError::Writer)??;
        let Opened {
            store,
            writer,
            warnings,
        } = opened;
        let own = OwnUrls::new(&config.urls, address.port());
        let stop = CancellationToken::new();
        let live = Arc::new(Live::starting_at(writer.seq()));
        let died = stop.clone();
        let ingest = Arc::new(Ingest::start(
            writer,
            live.clone(),
            config.rules.clone(),
            own,
            config.clock.clone(),
            move || died.cancel(),
        )?);
        let readers = std::thread::available_parallelism().map_or(2, usize::from) * 2;
        let history = History {
            store,
            clock: config.clock.clone(),
            most: config.limits.events_per_filter,
            readers: Arc::new(Semaphore::new(readers)),
        };
        let shared = Arc::new(Shared {
            reconciliations: Arc::new(Reconciliations::new(&history, &config.limits)),
            history,
            live,
            ingest,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_KIB)),
            stop: stop.clone(),
            addresses: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.limits.connections)),
            tasks: TaskTracker::new(),
            clients: AtomicU64::new(1),
            config,
        });
        Ok(Self {
            address,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            running: tokio::spawn(serve(listener, shared)),
            warnings,
        })
    }

    /// The URL for clients on this machine.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        format!("ws://{host}:{}", self.address.port())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What cannot be promised on this machine's file system, and what was mended at the start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Waits until the relay ends by itself, because its writer failed.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
    }

    /// Stops accepting, answers what is in flight, closes every connection and the store.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.running.await.unwrap_or(Err(ServerError::Writer))
    }
}

/// One descriptor per connection: the soft limit (often 1,024) is raised to the hard one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::warn!("the limit of open files could not be raised");
    }
}

/// Opens the store that the configuration names. Blocks.
pub fn open(config: &Config) -> Result<Opened, StoreError> {
    match &config.storage {
        Storage::Memory => {
            let mut secret = [0; 32];
            SysRng
                .try_fill_bytes(&mut secret)
                .map_err(|_| StoreError::Damaged("the system gives no random bytes"))?;
            EventStore::in_memory(config.rules.clone(), &secret)
        }
        Storage::Disk {
            folder,
            index,
            segment_bytes,
            reserve_bytes,
        } => recovery::open(
            &DiskOptions {
                folder,
                index: *index,
                segment_bytes: *segment_bytes,
                reserve_bytes: *reserve_bytes,
            },
            config.rules.clone(),
        ),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Result<(), ServerError> {
    // Any path: behind a proxy a relay may have one of its own.
    let router = Router::new().fallback(root).with_state(shared.clone());
    let retention = tokio::spawn(retention::run(
        shared.ingest.clone(),
        shared.history.store.clone(),
        shared.stop.clone(),
    ));
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => accept(&shared, &router, stream, peer.ip()),
            Err(error) => {
                // Out of file descriptors, or the peer left already; neither ends the relay.
                tracing::warn!(kind = ?error.kind(), "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    shared.tasks.close();
    let patience = shared.config.limits.grace * 2 + Duration::from_secs(1);
    if tokio::time::timeout(patience, shared.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not finish in time");
    }
    // Ends with the token; its share of the threads has to be given back.
    let _ = retention.await;
    finish(shared).await
}

/// Works off what is queued and closes the store.
async fn finish(shared: Arc<Shared>) -> Result<(), ServerError> {
    let ingest = shared.ingest.clone();
    let store = shared.history.store.clone();
    let close = move || {
        let is_whole = ingest.finish();
        store.close()?;
        match is_whole {
            true => Ok(()),
            false => Err(ServerError::Writer),
        }
    };
    tokio::task::spawn_blocking(close)
        .await
        .unwrap_or(Err(ServerError::Writer))
}

/// A connection's place in the counts, given back when the last clone is dropped.
struct Slot {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self
            .shared
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

impl Slot {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Self> {
        let permit = shared.slots.clone().try_acquire_owned().ok()?;
        let address = match ip.to_canonical() {
            // A reverse proxy on this machine, or its user.
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(IpAddr::V4(ip)),
            // One household has a /64.
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Some(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
        };
        if let Some(address) = address {
            let mut addresses = shared
                .addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = addresses.entry(address).or_default();
            if *count >= shared.config.limits.connections_per_address {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            shared: shared.clone(),
            address,
            _permit: permit,
        })
    }
}

fn accept(shared: &Arc<Shared>, router: &Router, stream: TcpStream, ip: IpAddr) {
    let Some(slot) = Slot::take(shared, ip) else {
        // Closing is all that a full house can afford.
        return;
    };
    // Frames are small and answers are awaited.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let slot = Arc::new(slot);
    let router = router.clone();
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(slot.clone());
        let mut router = router.clone();
        async move { tower::Service::call(&mut router, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.config.limits.header_timeout)
        .max_headers(64)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    let stop = shared.stop.clone();
    let whole = shared.config.limits.header_timeout * 2;
    shared.tasks.spawn(async move {
        // An HTTP exchange is over in moments; an upgrade ends this future and goes on elsewhere.
        tokio::select! {
            _ = tokio::time::timeout(whole, connection) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Any request: a WebSocket, the relay's document, or a page for people.
async fn root(State(shared): State<Arc<Shared>>, request: HttpRequest<Body>) -> Response {
    let (mut parts, _) = request.into_parts();
    let wants = |name, text: &str| {
        let values = parts.headers.get_all(name).iter();
        let mut texts = values.filter_map(|value| value.to_str().ok());
        texts.any(|value| value.to_ascii_lowercase().contains(text))
    };
    if wants(header::UPGRADE, "websocket") {
        let slot = parts.extensions.remove::<Arc<Slot>>();
        return match WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
            Ok(upgrade) => websocket(shared, slot, upgrade),
            Err(rejection) => rejection.into_response(),
        };
    }
    let (content_type, body) = match wants(header::ACCEPT, "application/nostr+json") {
        true => (
            "application/nostr+json",
            nip11::document(&shared.config).to_string(),
        ),
        false => ("text/plain; charset=utf-8", nip11::page(&shared.config)),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let star = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, star.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, star);
    response
}

fn websocket(shared: Arc<Shared>, slot: Option<Arc<Slot>>, upgrade: WebSocketUpgrade) -> Response {
    let mut challenge = [0; 32];
    if SysRng.try_fill_bytes(&mut challenge).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let tasks = shared.tasks.clone();
    let token = tasks.token();
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(limits::FRAME_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
        .on_upgrade(move |socket| async move {
            let client = shared.clients.fetch_add(1, Ordering::Relaxed);
            let connection = Connection::new(shared.clone(), client, hex::encode(challenge));
            connection.serve(socket).await;
            drop((slot, token));
        })
}
