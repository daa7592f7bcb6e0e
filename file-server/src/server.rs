//! Starts a file server, keeps it swept, and stops it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::relay_url::Origin;

use crate::blocking::Blocking;
use crate::config::Config;
use crate::quota::Quota;
use crate::storage::{DiskStorage, Storage, StorageError};
use crate::{connection, routes};

/// Tells the time in Unix seconds. Tests hand in their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The operating system's.
    pub fn system() -> Self {
        Self::new(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs())
        })
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken.
    #[error("{0} is in use by another program")]
    PortBusy(SocketAddr),
    /// The data folder is taken.
    #[error("another server uses this data folder")]
    DataBusy,
    /// The store could not be opened.
    #[error("the data folder cannot be used: {0}")]
    Storage(StorageError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// By which a token may call this server.
    pub(crate) names: Vec<String>,
    /// With which the URL of a blob begins.
    pub(crate) origin: String,
    pub(crate) quota: Arc<Quota>,
    /// Wakes the sweeper before its time.
    pub(crate) sweep: Notify,
    /// The calls to the store, and what else may wait for the disk.
    pub(crate) calls: Blocking,
    storage: Arc<dyn Storage>,
    clock: Clock,
}

impl Shared {
    pub(crate) fn now(&self) -> u64 {
        (self.clock.0)()
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Runs a call that may wait for the disk where it holds nobody up.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let storage = Arc::clone(&self.storage);
        self.calls.run(move || call(&*storage)).await
    }
}

/// A running file server. Dropping it lets it stop by itself; [`FileServer::stop`] waits for that.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl FileServer {
    /// Opens `config.data`, listens on `config.listen` and serves until it is stopped. When this
    /// returns, the server answers.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data = config.data.clone();
        let calls = Blocking::default();
        let opened = calls.run(move || DiskStorage::open(&data)).await;
        let storage = opened.map_err(|error| match error {
            StorageError::Busy => StartError::DataBusy,
            other => StartError::Storage(other),
        })?;
        Self::start_with(config, Arc::new(storage), Clock::system()).await
    }

    /// The same with a store and a clock of the caller's; `config.data` is not looked at.
    pub async fn start_with(
        config: Config,
        storage: Arc<dyn Storage>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let wanted = config.listen;
        let listen_error = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => StartError::PortBusy(wanted),
            _ => StartError::Listen(wanted, error),
        };
        let listener = TcpListener::bind(wanted).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(run(listener, address, config, storage, clock, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL at which a program on this machine reaches it.
    pub fn url(&self) -> String {
        local_url(self.address)
    }

    /// Stops taking connections, lets transfers under way finish within the configured time, cuts
    /// off those that have not, and returns when the server has let go of the store: another may
    /// open it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // The task ends by itself; had it panicked, there would be nothing left to wait for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves on `listener` until `stop` resolves and transfers under way are done.
async fn run(
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    storage: Arc<dyn Storage>,
    clock: Clock,
    stop: impl Future<Output = ()>,
) {
    let origin = match &config.public_url {
        Some(url) => url.as_str().to_owned(),
        None => local_url(address),
    };
    let shared = Arc::new(Shared {
        names: config.server_names(address.port()),
        origin,
        quota: Arc::default(),
        sweep: Notify::new(),
        calls: Blocking::default(),
        config,
        storage,
        clock,
    });
    let sweeper = tokio::spawn(sweep(Arc::clone(&shared)));
    let router = routes::router(Arc::clone(&shared));
    connection::serve(listener, router, &shared.config.limits, stop).await;
    sweeper.abort();
    // What is aborted is the waiting for a sweep; the sweep itself is one of the calls.
    let _ = sweeper.await;
    shared.calls.ended().await;
}

/// Erases what has expired or was deleted, every so often and when somebody asks.
async fn sweep(shared: Arc<Shared>) {
    loop {
        let now = shared.now();
        let swept = shared.blocking(move |storage| Ok(storage.sweep(now))).await;
        match swept {
            Ok(swept) if swept.failed > 0 => {
                tracing::error!(
                    failed = swept.failed,
                    "erasing failed and will be tried again"
                );
            }
            Ok(swept) if swept.erased > 0 => tracing::debug!(erased = swept.erased, "swept"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a sweep failed and will be tried again"),
        }
        let pause = tokio::time::sleep(shared.config.limits.sweep_interval);
        tokio::select! {
            () = pause => {}
            () = shared.sweep.notified() => {}
        }
    }
}

fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let local = format!("http://{}", SocketAddr::new(ip, address.port()));
    // One spelling, as clients write it: a default port is not named.
    Origin::parse(&local).map_or(local, |origin| origin.to_string())
}
