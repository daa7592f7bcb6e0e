//! The relay as a whole: opened, served, reloaded, and stopped in good order.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::acme::{AcmeError, Renewal};
use crate::addresses::Addresses;
use crate::concerns::Surroundings;
use crate::config::{Config, Storage, Tls};
use crate::history::History;
use crate::ingest::Ingest;
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::management::UsedProofs;
use crate::metrics::Metrics;
use crate::reconcile::Reconciliations;
use crate::roster::{Roster, RosterError, RosterFile};
use crate::settings::Settings;
use crate::store::recovery::{self, DiskOptions};
use crate::store::{EventStore, Opened, StoreError};
use crate::tls::{Certificate, Certificates, TlsError};
use crate::turns::Gate;
use crate::{concerns, enforcement, exposition, listener, retention, summary};

/// KiB of events being checked or written, all connections together.
const IN_FLIGHT_KIB: usize = 64 * 1024;

/// Why the relay could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The roster could not be read.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The certificate files are not in order.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The folder of fetched certificates is not in order.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The address for metrics is not to be had.
    #[error("metrics.listen {0}: {1}")]
    Metrics(SocketAddr, std::io::Error),
    /// The network or the system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Nothing can be stored any more; what was acknowledged is on disk.
    #[error("the writer failed; restart the relay")]
    Writer,
}

/// What every connection shares.
pub struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) roster: Arc<RosterFile>,
    /// Banned events that could not be erased yet. Held while a roster is put in force.
    pub(crate) enforcing: tokio::sync::Mutex<Vec<wire::EventId>>,
    pub(crate) used_proofs: UsedProofs,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) certificates: Arc<Certificates>,
    /// None where the relay speaks no TLS itself.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Unix seconds.
    pub(crate) started_at: u64,
    pub(crate) live: Arc<Live>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) history: History,
    pub(crate) reconciliations: Arc<Reconciliations>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) stop: CancellationToken,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tasks: TaskTracker,
    pub(crate) clients: AtomicU64,
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
    metrics_address: Option<SocketAddr>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
    ledger: Arc<Ledger>,
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
        let metrics_listener = match config.metrics.listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| ServerError::Metrics(address, error))?,
            ),
            None => None,
        };
        let metrics_address = metrics_listener
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        let certificates = Arc::new(Certificates::default());
        if let Tls::Files { certificate, key } = &config.tls {
            certificates.show(Certificate::from_files(certificate, key)?);
        }
        let tls = match config.tls {
            Tls::Off => None,
            Tls::Files { .. } | Tls::Acme(_) => Some(certificates.server()?.into()),
        };
        let opening = config.clone();
        let opening = move || {
            let opened = open(&opening)?;
            let roster = open_roster(&opening)?;
            Ok::<_, ServerError>((opened, roster))
        };
        let (opened, roster) = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|_| ServerError::Writer)??;
        let Opened {
            store,
            mut writer,
            mut warnings,
        } = opened;
        let metrics = Arc::new(Metrics::default());
        let enlisted = roster.get();
        writer.follow(config.rules.clone(), enlisted.clone());
        let banned: Vec<_> = enlisted.banned_events().keys().copied().collect();
        let settings = Arc::new(Settings::new(config, address.port(), enlisted));
        let config = &settings.get().config;
        let stop = CancellationToken::new();
        let live = Arc::new(Live::starting_at(writer.seq()));
        let died = stop.clone();
        let ingest = Arc::new(Ingest::start(
            writer,
            live.clone(),
            settings.clone(),
            metrics.clone(),
            move || died.cancel(),
        )?);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let lanes = Lanes::new()?;
        let history = History {
            store,
            clock: config.clock.clone(),
            most: config.limits.events_per_filter,
            metrics: metrics.clone(),
            readers: Gate::new(cores * 2, cores),
            lanes: lanes.clone(),
            errand: Arc::default(),
        };
        let shared = Arc::new(Shared {
            reconciliations: Arc::new(Reconciliations::new(&history, &config.limits)),
            history,
            live,
            ingest,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_KIB)),
            lanes,
            ledger: Ledger::new(config.limits.held_bytes),
            stop: stop.clone(),
            addresses: Arc::default(),
            tasks: TaskTracker::new(),
            clients: AtomicU64::new(1),
            settings: settings.clone(),
            certificates: certificates.clone(),
            tls,
            metrics: metrics.clone(),
            started_at: config.clock.now(),
            roster: Arc::new(roster),
            enforcing: tokio::sync::Mutex::default(),
            used_proofs: UsedProofs::default(),
        });
        // What was banned while the relay was away, or shortly before it crashed.
        shared.ingest.erase(banned).await?;
        if let (Tls::Acme(acme), Storage::Disk { folder, .. }) = (&config.tls, &config.storage) {
            let renewal = Renewal::new(acme.clone(), folder, certificates.clone())?;
            if certificates.validity().is_none() {
                let warning = "there is no certificate yet: the first one is being fetched";
                warnings.push(warning.to_owned());
            }
            let clock = config.clock.clone();
            tokio::spawn(renewal.run(clock, metrics.clone(), stop.clone()));
        }
        if let Some(listener) = metrics_listener {
            tokio::spawn(exposition::serve(listener, shared.clone()));
        }
        Ok(Self {
            address,
            metrics_address,
            settings,
            metrics,
            certificates,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            ledger: shared.ledger.clone(),
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
        let scheme = match self.settings.get().config.tls {
            Tls::Off => "ws",
            Tls::Files { .. } | Tls::Acme(_) => "wss",
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// Bytes that all connections together make it hold beyond what each takes anyway.
    pub fn held(&self) -> usize {
        self.ledger.held()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where metrics are to be had, if they are on.
    pub fn metrics_url(&self) -> Option<String> {
        let address = self.metrics_address?;
        Some(format!("http://{address}/metrics"))
    }

    /// What is counted, on or not.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What cannot be promised on this machine's file system, and what was mended at the start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is in force at the moment and cannot go well: no address for clients, too few open
    /// files, a certificate that has expired or soon will. Another configuration changes it.
    pub fn concerns(&self) -> Vec<String> {
        let in_force = self.settings.get();
        let around = Surroundings {
            ip: self.address.ip(),
            certificate: self.certificates.validity(),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            now: in_force.config.clock.now(),
        };
        concerns::concerns(&in_force, around)
    }

    /// Puts another configuration in force: rules, limits and what the relay says of itself hold
    /// from now on, for new connections at least, and certificate files are read again. Where
    /// those are not in order, nothing changes. What cannot change while it runs stays as it
    /// was; the names of such settings that differ are returned.
    pub fn reload(&self, config: Config) -> Result<Vec<&'static str>, TlsError> {
        let has_files = matches!(self.settings.get().config.tls, Tls::Files { .. });
        if let (true, Tls::Files { certificate, key }) = (has_files, &config.tls) {
            self.certificates
                .show(Certificate::from_files(certificate, key)?);
        }
        self.metrics.reloads.add("done");
        Ok(self.settings.replace(config))
    }

    /// Texts of the configuration that others win over; see [`crate::settings::InForce::overridden`].
    pub fn overridden(&self) -> Vec<(&'static str, &'static str)> {
        self.settings.get().overridden()
    }

    /// The roster in force: members, bans and invites as they were decided at run time.
    pub fn roster(&self) -> Arc<Roster> {
        self.settings.get().roster.clone()
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

/// The roster of the data that the configuration names. Blocks.
pub fn open_roster(config: &Config) -> Result<RosterFile, RosterError> {
    match &config.storage {
        Storage::Memory => Ok(RosterFile::in_memory()),
        Storage::Disk { folder, .. } => RosterFile::open(folder),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Result<(), ServerError> {
    let retention = tokio::spawn(retention::run(
        shared.ingest.clone(),
        shared.history.store.clone(),
        shared.stop.clone(),
    ));
    let watching = tokio::spawn(enforcement::watch(shared.clone()));
    let over = CancellationToken::new();
    let summary = tokio::spawn(summary::run(shared.metrics.clone(), over.clone()));
    listener::serve(listener, shared.clone()).await;
    shared.tasks.close();
    let patience = shared.settings.get().config.limits.grace * 2 + Duration::from_secs(1);
    if tokio::time::timeout(patience, shared.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not finish in time");
    }
    // Ends with the token; its share of the threads has to be given back.
    let _ = retention.await;
    let _ = watching.await;
    let finished = finish(shared).await;
    // Everything is counted by now.
    over.cancel();
    let _ = summary.await;
    finished
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
