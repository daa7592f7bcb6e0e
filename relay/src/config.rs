//! The operator's settings: a TOML [`file`](self::file) becomes a [checked](self::check) [`Config`].

mod check;
mod clock;
mod file;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::{PublicKey, RelayUrl};

pub use self::clock::Clock;
pub use self::file::Raw;
use self::file::{RawLimits, RawStore};
use crate::acme::Acme;
use crate::budget::Rate;
use crate::forwarded::TrustedProxies;
use crate::policy::Rules;

/// Everything a running relay was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the program listens. [`crate::Relay::start`] takes a listener and ignores it.
    pub listen: SocketAddr,
    /// Where events are kept.
    pub storage: Storage,
    /// The URLs that the operator names; see [`Config::public_urls`].
    pub urls: Vec<RelayUrl>,
    /// Whose word about their clients' addresses is taken.
    pub trusted_proxies: TrustedProxies,
    /// What NIP-11 says about the operator.
    pub about: About,
    /// Who may manage the relay over HTTP (NIP-86).
    pub admins: BTreeSet<PublicKey>,
    /// What is accepted from whom.
    pub rules: Rules,
    /// Whether the relay speaks TLS itself.
    pub tls: Tls,
    /// What one connection may cost.
    pub limits: Limits,
    /// What the operator may count.
    pub metrics: MetricsAt,
    /// What time it is.
    pub clock: Clock,
}

/// Whether the relay speaks TLS itself, and with whose certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// It does not: a reverse proxy may.
    Off,
    /// With the operator's own.
    Files {
        /// The chain, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// With one that it fetches.
    Acme(Acme),
}

/// Where metrics are to be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsAt {
    /// An address of this machine; none: nowhere.
    pub listen: Option<SocketAddr>,
}

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In memory; gone when the relay stops. For tests and models.
    Memory,
    /// In a folder that one server at a time uses.
    Disk {
        /// The folder; made with mode 0700 where it is absent.
        folder: PathBuf,
        /// Which index engine.
        index: IndexEngine,
        /// A segment of the log is closed when it has this many bytes.
        segment_bytes: u64,
        /// New events are refused while the disk has fewer free bytes than this, so that a
        /// deletion always finds room.
        reserve_bytes: u64,
    },
}

/// The index engines behind [`crate::store::Index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexEngine {
    /// Sorted runs of our own, on disk.
    Runs,
    /// fjall, on disk.
    Fjall,
    /// sled, on disk.
    Sled,
    /// In memory: rebuilt from the log at each start.
    Memory,
}

impl std::fmt::Display for IndexEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runs => "runs",
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            Self::Memory => "memory",
        })
    }
}

impl IndexEngine {
    /// Every engine, the default first; tests go through them.
    pub const ALL: [Self; 4] = [Self::Runs, Self::Fjall, Self::Sled, Self::Memory];
    /// Those that keep files.
    pub const ON_DISK: [Self; 3] = [Self::Runs, Self::Fjall, Self::Sled];
}

/// What NIP-11 says about the operator; empty texts are left out.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The relay's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How to reach the operator.
    pub contact: String,
    /// The operator's public key.
    pub pubkey: Option<PublicKey>,
}

/// What one connection may cost. Counts and sizes of frames and filters themselves are in
/// [`wire::limits`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections altogether.
    pub connections: usize,
    /// Open connections from one address; loopback is exempt.
    pub connections_per_address: usize,
    /// Open subscriptions of one connection.
    pub subscriptions: usize,
    /// The `limit` that a filter without one gets, and the most that any gets.
    pub events_per_filter: usize,
    /// The most events that COUNT counts.
    pub counted_events: usize,
    /// Counts of one connection at the same time.
    pub counts: usize,
    /// The most events of one reconciliation (NIP-77).
    pub reconciled_events: usize,
    /// Events in the reconciliations of all connections together, 40 bytes each.
    pub reconciled_altogether: usize,
    /// Reconciliations of one connection at the same time.
    pub reconciliations: usize,
    /// How long a reconciliation waits for the client's next message.
    pub reconcile_idle: Duration,
    /// Events of one connection that are being checked or written.
    pub events_in_flight: usize,
    /// Bytes waiting to be sent to one connection before it is dropped as a slow reader.
    pub send_queue_bytes: usize,
    /// Bytes that the filters of one connection's subscriptions may take.
    pub filter_bytes: usize,
    /// Bytes that all connections together may make the relay hold.
    pub held_bytes: usize,
    /// AUTH attempts of one connection.
    pub auth_tries: usize,
    /// Malformed messages of one connection.
    pub malformed_messages: usize,
    /// Wrong invite codes of one connection.
    pub join_tries: usize,
    /// Events from one address; loopback is exempt from this and what follows. None: no limit.
    pub events_per_address: Option<Rate>,
    /// Bytes of events from one address.
    pub bytes_per_address: Option<Rate>,
    /// Proofs of keys from one address.
    pub auth_per_address: Option<Rate>,
    /// Wrong invite codes from one address.
    pub wrong_codes_per_address: Option<Rate>,
    /// How long the HTTP request may take to arrive.
    pub header_timeout: Duration,
    /// How long one write to a socket may take.
    pub write_timeout: Duration,
    /// How long a message that has begun may take to arrive.
    pub message_timeout: Duration,
    /// A silent connection is asked for a sign of life after this time, and closed after twice it.
    pub idle_ping: Duration,
    /// How long connections are given to finish when the relay stops.
    pub grace: Duration,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of another type.
    #[error("line {line}: {why}")]
    Malformed {
        /// Where in the file.
        line: usize,
        /// What is wrong there, without anything that could be a key: it goes to the log.
        why: String,
    },
    /// A value that makes no sense.
    #[error("{}{key}: {why}", at_line(*line))]
    Value {
        /// Where in the file, once that is known.
        line: Option<usize>,
        /// The key in the file.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl ConfigError {
    /// With the line that the text of the file has for it.
    pub fn at_line_of(self, text: &str) -> Self {
        match self {
            Self::Value { key, why, .. } => Self::Value {
                line: file::line_of(text, key),
                key,
                why,
            },
            other => other,
        }
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

impl Config {
    /// The defaults with everything in memory: for tests and embedding.
    pub fn in_memory() -> Self {
        Self {
            storage: Storage::Memory,
            ..Self::on_disk(PathBuf::new())
        }
    }

    /// The defaults with the data in `folder`.
    pub fn on_disk(folder: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7447)),
            storage: RawStore::default().in_folder(folder.into()),
            urls: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            about: About {
                name: "Sotto relay".to_owned(),
                ..About::default()
            },
            admins: BTreeSet::new(),
            rules: Rules::default(),
            limits: RawLimits::default().in_force(),
            tls: Tls::Off,
            metrics: MetricsAt::default(),
            clock: Clock::system(),
        }
    }
}

impl Config {
    /// The URLs that this relay goes by, besides the loopback names with the port it listens on:
    /// those that the operator names, and those of the names that it fetches a certificate for,
    /// each once.
    pub fn public_urls(&self) -> Vec<RelayUrl> {
        let mut urls = self.urls.clone();
        if let Tls::Acme(acme) = &self.tls {
            // An authority checks a name on port 443, which is that of wss:// too.
            let names = acme.domains.iter().map(|name| format!("wss://{name}"));
            for url in names.filter_map(|url| RelayUrl::parse(&url).ok()) {
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    }

    /// Takes what cannot change while a relay runs from the `running` configuration; the names
    /// of the settings that differed.
    pub(crate) fn keep_fixed(&mut self, running: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        if keep(&mut self.listen, &running.listen) {
            kept.push("server.listen");
        }
        if keep(&mut self.storage, &running.storage) {
            kept.push("server.data or [store]");
        }
        // Other files are read; another way of getting a certificate is another listener.
        let are_files = |tls: &Tls| matches!(tls, Tls::Files { .. });
        if !(are_files(&self.tls) && are_files(&running.tls)) && keep(&mut self.tls, &running.tls) {
            kept.push("[tls] or [acme]");
        }
        if keep(&mut self.metrics, &running.metrics) {
            kept.push("[metrics]");
        }
        let altogether = &mut self.limits.reconciled_altogether;
        if keep(altogether, &running.limits.reconciled_altogether) {
            kept.push("limits.reconciled_altogether");
        }
        if keep(&mut self.limits.held_bytes, &running.limits.held_bytes) {
            kept.push("limits.held_bytes");
        }
        self.clock = running.clock.clone();
        kept
    }
}

/// Puts `old` in the place of `new`; whether that was a change.
fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
    let differs = new != old;
    if differs {
        *new = old.clone();
    }
    differs
}
