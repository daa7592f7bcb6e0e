//! The operator's settings: a raw TOML file becomes a checked [`Config`].
//!
//! Each field of the raw sections is declared once, with its documentation and its default; the
//! example file that `sotto-relay init` writes is made from exactly those, so it cannot go stale.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use wire::{PublicKey, RelayUrl, limits};

use crate::acme::Acme;
use crate::budget::Rate;
use crate::forwarded::TrustedProxies;
use crate::policy::{Rules, Work, WorkOf, Writers};

/// Leading zero bits that can be asked for. A core tries some million ids a second: 40 bits are
/// days.
const MOST_WORK: u8 = 40;

/// Everything a running relay was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the program listens. [`crate::Relay::start`] takes a listener and ignores it.
    pub listen: SocketAddr,
    /// Where events are kept.
    pub storage: Storage,
    /// URLs that this relay goes by, besides the loopback names with the port it listens on.
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

/// Tells the time in Unix seconds; tests hand in their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        })
    }

    /// Any other.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now, Unix seconds.
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(..)")
    }
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
    #[error("{key}: {why}")]
    Value {
        /// The key in the file.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Declares a section of the file: field, type, default and documentation in one place.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident { $(
        $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr,
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            /// Each field with its documentation as comments, as TOML.
            fn document(&self, out: &mut String) {
                $(
                    for line in [$($doc),+] {
                        // Writing to a String cannot fail.
                        let _ = writeln!(out, "#{line}");
                    }
                    if let Ok(value) = toml::Value::try_from(&self.$field) {
                        let _ = writeln!(out, "{} = {value}\n", stringify!($field));
                    }
                )+
            }
        }
    };
}

section! {
    /// Where the relay listens and what it is called.
    RawServer {
        /// Address and port. Keep loopback behind a reverse proxy that speaks TLS.
        listen: String = "127.0.0.1:7447".to_owned(),
        /// The folder that holds the events; empty: the platform's data folder.
        data: String = String::new(),
        /// The URLs that clients use, for example ["wss://relay.example"]. Only these, and the
        /// loopback names with the port above, are accepted in AUTH (NIP-42) and vanish requests (NIP-62).
        public_urls: Vec<String> = Vec::new(),
        /// Reverse proxies whose X-Forwarded-For is believed: addresses or ranges, for example
        /// ["127.0.0.1", "::1"]. Per-address limits then hold for the clients behind them.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Name, description, contact and operator's key (hex) as NIP-11 shows them.
        name: String = "Sotto relay".to_owned(),
        /// What the relay is for.
        description: String = "Stores sealed messages for their recipients alone.".to_owned(),
        /// How to reach the operator, for example "mailto:me@example.org".
        contact: String = String::new(),
        /// The operator's public key, 64 hex digits; may stay empty.
        pubkey: String = String::new(),
    }
}

section! {
    /// Who may write what.
    RawPolicy {
        /// "open": everybody may write. "members": only keys listed below, after AUTH; wraps to
        /// a listed key are taken from everybody, without AUTH. "recipients": only wraps to a
        /// listed key and what a listed key signed are taken, from everybody, without AUTH.
        write: String = "open".to_owned(),
        /// The members' public keys, 64 hex digits each.
        members: Vec<String> = Vec::new(),
        /// The kinds that are taken, beside deletions (5) and requests to vanish (62), for example
        /// [1059, 21059, 10050]; empty: any.
        kinds: Vec<u16> = Vec::new(),
        /// Leading zero bits that an event's id must have as proof of work (NIP-13); 0: none.
        pow_bits: u8 = 0,
        /// What needs the work. "wraps": gift wraps of senders who have not authenticated any key.
        /// "everything": all but deletions and requests to vanish.
        pow_of: String = "wraps".to_owned(),
        /// How old a gift wrap may be, in seconds (NIP-59 draws up to two days); 0: any age.
        wrap_past_s: u64 = limits::WRAP_PAST_SECONDS,
        /// How far ahead the time of an event may lie, in seconds.
        future_s: u64 = limits::WRAP_FUTURE_SECONDS,
        /// How many wraps wait for one recipient at most; 0: no limit. New ones are refused.
        wraps_per_recipient: u64 = 1_000_000,
        /// How many bytes of wraps wait for one recipient at most; 0: no limit.
        bytes_per_recipient: u64 = 8 * 1024 * 1024 * 1024,
        /// The largest event, in bytes of JSON; at most 81920.
        event_bytes: u64 = 81_920,
    }
}

section! {
    /// Managing the relay over HTTP.
    RawManagement {
        /// The public keys, 64 hex digits each, that may use the management API (NIP-86) at the
        /// relay's own URLs: members, bans, kinds, addresses, name. Empty: it is off.
        admins: Vec<String> = Vec::new(),
    }
}

section! {
    /// How events are kept.
    RawStore {
        /// "runs", "fjall" or "sled": the index is on disk. "memory": it is rebuilt from the log at
        /// each start. Another choice takes effect at the next start, which builds the index anew.
        index: IndexEngine = IndexEngine::Runs,
        /// The size at which a log segment is closed, in bytes.
        segment_bytes: u64 = 64 * 1024 * 1024,
        /// New events are refused while fewer bytes than this are free on the disk.
        reserve_bytes: u64 = 64 * 1024 * 1024,
    }
}

section! {
    /// What one connection may cost.
    RawLimits {
        /// Open connections altogether.
        connections: usize = 20_000,
        /// Open connections from one address; loopback is exempt.
        connections_per_address: usize = 200,
        /// Open subscriptions of one connection.
        subscriptions: usize = 20,
        /// The most stored events that one filter returns, and the default.
        events_per_filter: usize = 5_000,
        /// The most events that COUNT counts; where more match, it is refused.
        counted_events: usize = 100_000,
        /// The most events of one reconciliation (NIP-77); where more match, it is refused.
        reconciled_events: usize = 50_000,
        /// Events in the reconciliations of all connections together, 40 bytes each.
        reconciled_altogether: usize = 2_000_000,
        /// Reconciliations of one connection at the same time.
        reconciliations: usize = 2,
        /// Seconds that a reconciliation waits for the client's next message.
        reconcile_idle_s: u64 = 30,
        /// Events of one connection being checked or written before it has to wait.
        events_in_flight: usize = 1_024,
        /// Bytes that wait for one slow reader before it is disconnected.
        send_queue_bytes: usize = 4 * 1024 * 1024,
        /// Bytes that the filters of one connection's subscriptions may take in memory: some 2,000
        /// keys or other values.
        filter_bytes: usize = 1024 * 1024,
        /// Bytes that all connections together may make the relay hold: what is not yet sent,
        /// filters, unfinished messages, large buffers, events on their way. Beyond it, those
        /// that hold most are cut off.
        held_bytes: usize = 256 * 1024 * 1024,
        /// AUTH attempts of one connection.
        auth_tries: usize = 20,
        /// Wrong invite codes of one connection.
        join_tries: usize = 5,
        /// Events a minute from one address (an IPv4 address, or a /64 of IPv6), and how many at
        /// once after a rest; 0: no limit. Loopback is exempt from this and the next three.
        address_events_per_minute: u64 = 600,
        /// Events at once from one address after a rest.
        address_events_burst: u64 = 3_000,
        /// Bytes of events a day from one address, of which a quarter may come at once; 0: no limit.
        address_bytes_per_day: u64 = 4 * 1024 * 1024 * 1024,
        /// AUTH attempts a minute from one address; 0: no limit.
        address_auth_per_minute: u64 = 120,
        /// Wrong invite codes an hour from one address; 0: no limit.
        address_wrong_codes_per_hour: u64 = 30,
        /// Seconds until the HTTP request must have arrived.
        header_timeout_s: u64 = 5,
        /// Seconds that one write to a socket may take.
        write_timeout_s: u64 = 30,
        /// Seconds that a message may take from its first byte that was noticed to its last.
        message_timeout_s: u64 = 30,
        /// Seconds of silence before a ping; after twice as many the connection is closed.
        idle_ping_s: u64 = 60,
        /// Seconds that connections have to finish when the relay stops.
        grace_s: u64 = 5,
    }
}

section! {
    /// TLS with certificate files of your own.
    RawTls {
        /// A PEM file with the certificate chain, for example "/etc/sotto/fullchain.pem". With
        /// it the relay speaks TLS itself (wss://). SIGHUP reads it and the key again.
        certificate: String = String::new(),
        /// A PEM file with its private key.
        key: String = String::new(),
    }
}

section! {
    /// TLS with certificates that the relay fetches and renews by itself.
    RawAcme {
        /// The names that the certificate is for, for example ["relay.example"]. The relay must
        /// be reached under each of them on port 443. Empty: nothing is fetched.
        domains: Vec<String> = Vec::new(),
        /// How the authority reaches you, for example "mailto:me@example.org"; may stay empty.
        contact: String = String::new(),
        /// You have read the authority's terms of service and agree.
        agree_to_terms: bool = false,
        /// The directory of the authority.
        directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        /// A PEM file with the root certificates of an authority of your own; empty: the
        /// public ones are trusted.
        directory_roots: String = String::new(),
    }
}

section! {
    /// Metrics for Prometheus, without keys, ids and addresses.
    RawMetrics {
        /// Address and port of a listener of its own, for example "127.0.0.1:7449": there,
        /// GET /metrics answers in Prometheus's text format. Empty: there is none.
        listen: String = String::new(),
        /// The address above need not be loopback. Whoever reaches it reads the metrics.
        beyond_loopback: bool = false,
    }
}

impl RawLimits {
    fn events_per_address(&self) -> Option<Rate> {
        rate(
            self.address_events_per_minute,
            60,
            self.address_events_burst,
        )
    }

    fn bytes_per_address(&self) -> Option<Rate> {
        let most = self.address_bytes_per_day;
        rate(most, 86_400, most / 4)
    }

    fn auth_per_address(&self) -> Option<Rate> {
        let most = self.address_auth_per_minute;
        rate(most, 60, most)
    }

    fn wrong_codes_per_address(&self) -> Option<Rate> {
        let most = self.address_wrong_codes_per_hour;
        rate(most, 3_600, most)
    }
}

fn rate(count: u64, seconds: u64, burst: u64) -> Option<Rate> {
    (count > 0).then_some(Rate {
        count,
        seconds,
        burst,
    })
}

/// The whole file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// `[server]`
    pub server: RawServer,
    /// `[policy]`
    pub policy: RawPolicy,
    /// `[management]`
    pub management: RawManagement,
    /// `[store]`
    pub store: RawStore,
    /// `[limits]`
    pub limits: RawLimits,
    /// `[tls]`
    pub tls: RawTls,
    /// `[acme]`
    pub acme: RawAcme,
    /// `[metrics]`
    pub metrics: RawMetrics,
}

impl Raw {
    /// Reads a file's text; unknown keys are refused.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| malformed(text, &error))
    }

    /// The example file: every key with its documentation and default.
    pub fn example() -> String {
        let raw = Self::default();
        let mut out =
            String::from("# Configuration of sotto-relay. Every value below is the default.\n");
        out.push_str("\n[server]\n");
        raw.server.document(&mut out);
        out.push_str("[policy]\n");
        raw.policy.document(&mut out);
        out.push_str("[management]\n");
        raw.management.document(&mut out);
        out.push_str("[store]\n");
        raw.store.document(&mut out);
        out.push_str("[limits]\n");
        raw.limits.document(&mut out);
        out.push_str("[tls]\n");
        raw.tls.document(&mut out);
        out.push_str("[acme]\n");
        raw.acme.document(&mut out);
        out.push_str("[metrics]\n");
        raw.metrics.document(&mut out);
        out
    }

    /// Checks every value. `data` is the folder used where the file names none.
    pub fn check(self, data: PathBuf) -> Result<Config, ConfigError> {
        let Self {
            server,
            policy,
            management,
            store,
            limits: raw,
            tls,
            acme,
            metrics,
        } = self;
        let tls = tls_of(tls, acme)?;
        let admins = keys("management.admins", &management.admins)?;
        let listen = server
            .listen
            .parse()
            .map_err(|_| refused("server.listen", "not an address with a port"))?;
        let urls = server
            .public_urls
            .iter()
            .map(|text| RelayUrl::parse(text))
            .collect::<Result<_, _>>()
            .map_err(|error| refused("server.public_urls", error))?;
        let trusted_proxies = TrustedProxies::parse(&server.trusted_proxies)
            .map_err(|_| refused("server.trusted_proxies", "not an address or a range"))?;
        let pubkey = match server.pubkey.as_str() {
            "" => None,
            text => Some(key("server.pubkey", text)?),
        };
        let writers = match policy.write.as_str() {
            "open" if policy.members.is_empty() => Writers::Anybody,
            "open" => {
                return Err(refused("policy.members", "listed, but write is \"open\""));
            }
            "members" => Writers::Members(keys("policy.members", &policy.members)?),
            "recipients" => Writers::Recipients(keys("policy.members", &policy.members)?),
            _ => {
                let why = "neither \"open\" nor \"members\" nor \"recipients\"";
                return Err(refused("policy.write", why));
            }
        };
        let work_of = match policy.pow_of.as_str() {
            "wraps" => WorkOf::AnonymousWraps,
            "everything" => WorkOf::Everything,
            _ => {
                let why = "neither \"wraps\" nor \"everything\"";
                return Err(refused("policy.pow_of", why));
            }
        };
        if policy.pow_bits > MOST_WORK {
            return Err(refused(
                "policy.pow_bits",
                "more than 40: nobody can do that",
            ));
        }
        let work = (policy.pow_bits > 0).then_some(Work {
            bits: policy.pow_bits,
            of: work_of,
        });
        let kinds = policy.kinds.into_iter().collect::<BTreeSet<_>>();
        let event_bytes = usize::try_from(policy.event_bytes).unwrap_or(usize::MAX);
        if !(1_024..=limits::EVENT_BYTES).contains(&event_bytes) {
            return Err(refused("policy.event_bytes", "not from 1024 to 81920"));
        }
        if !(64 * 1024..=2 * 1024 * 1024 * 1024).contains(&store.segment_bytes) {
            return Err(refused("store.segment_bytes", "not from 64 KiB to 2 GiB"));
        }
        if raw.send_queue_bytes < 2 * limits::FRAME_BYTES {
            return Err(refused("limits.send_queue_bytes", "less than 262144"));
        }
        if raw.held_bytes < 2 * raw.send_queue_bytes {
            let why = "less than twice send_queue_bytes";
            return Err(refused("limits.held_bytes", why));
        }
        if raw.reconciled_altogether < raw.reconciled_events {
            let why = "less than reconciled_events";
            return Err(refused("limits.reconciled_altogether", why));
        }
        if raw.address_events_per_minute > 0 && raw.address_events_burst == 0 {
            return Err(refused("limits.address_events_burst", "must not be 0"));
        }
        let least = 4 * limits::EVENT_BYTES as u64;
        if raw.address_bytes_per_day > 0 && raw.address_bytes_per_day < least {
            let why = "less than 327680: the largest event would never pass";
            return Err(refused("limits.address_bytes_per_day", why));
        }
        let counts = [
            ("limits.connections", raw.connections),
            (
                "limits.connections_per_address",
                raw.connections_per_address,
            ),
            ("limits.subscriptions", raw.subscriptions),
            ("limits.events_per_filter", raw.events_per_filter),
            ("limits.counted_events", raw.counted_events),
            ("limits.reconciled_events", raw.reconciled_events),
            ("limits.reconciliations", raw.reconciliations),
            ("limits.events_in_flight", raw.events_in_flight),
            ("limits.filter_bytes", raw.filter_bytes),
            ("limits.auth_tries", raw.auth_tries),
            ("limits.join_tries", raw.join_tries),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(refused(name, "must not be 0"));
        }
        let metrics_listen = match metrics.listen.as_str() {
            "" => None,
            text => {
                let address: SocketAddr = text
                    .parse()
                    .map_err(|_| refused("metrics.listen", "not an address with a port"))?;
                if !address.ip().is_loopback() && !metrics.beyond_loopback {
                    let why = "not loopback, and beyond_loopback is not set";
                    return Err(refused("metrics.listen", why));
                }
                Some(address)
            }
        };
        let folder = match server.data.as_str() {
            "" => data,
            folder => PathBuf::from(folder),
        };
        let none_if_zero = |n: u64| (n > 0).then_some(n);
        Ok(Config {
            listen,
            storage: Storage::Disk {
                folder,
                index: store.index,
                segment_bytes: store.segment_bytes,
                reserve_bytes: store.reserve_bytes,
            },
            urls,
            trusted_proxies,
            about: About {
                name: server.name,
                description: server.description,
                contact: server.contact,
                pubkey,
            },
            admins,
            rules: Rules {
                writers,
                kinds: (!kinds.is_empty()).then_some(kinds),
                work,
                wrap_past: none_if_zero(policy.wrap_past_s),
                future: policy.future_s,
                wraps_per_recipient: none_if_zero(policy.wraps_per_recipient),
                bytes_per_recipient: none_if_zero(policy.bytes_per_recipient),
                event_bytes,
            },
            limits: Limits {
                connections: raw.connections,
                connections_per_address: raw.connections_per_address,
                subscriptions: raw.subscriptions,
                events_per_filter: raw.events_per_filter,
                counted_events: raw.counted_events,
                reconciled_events: raw.reconciled_events,
                reconciled_altogether: raw.reconciled_altogether,
                reconciliations: raw.reconciliations,
                reconcile_idle: Duration::from_secs(raw.reconcile_idle_s.max(1)),
                events_in_flight: raw.events_in_flight,
                send_queue_bytes: raw.send_queue_bytes,
                filter_bytes: raw.filter_bytes,
                held_bytes: raw.held_bytes,
                auth_tries: raw.auth_tries,
                join_tries: raw.join_tries,
                events_per_address: raw.events_per_address(),
                bytes_per_address: raw.bytes_per_address(),
                auth_per_address: raw.auth_per_address(),
                wrong_codes_per_address: raw.wrong_codes_per_address(),
                header_timeout: Duration::from_secs(raw.header_timeout_s.max(1)),
                write_timeout: Duration::from_secs(raw.write_timeout_s.max(1)),
                message_timeout: Duration::from_secs(raw.message_timeout_s.max(1)),
                idle_ping: Duration::from_secs(raw.idle_ping_s.max(1)),
                grace: Duration::from_secs(raw.grace_s),
            },
            tls,
            metrics: MetricsAt {
                listen: metrics_listen,
            },
            clock: Clock::system(),
        })
    }
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
        let raw = RawStore::default();
        let limits = RawLimits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7447)),
            storage: Storage::Disk {
                folder: folder.into(),
                index: raw.index,
                segment_bytes: raw.segment_bytes,
                reserve_bytes: raw.reserve_bytes,
            },
            urls: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            about: About {
                name: "Sotto relay".to_owned(),
                ..About::default()
            },
            admins: BTreeSet::new(),
            rules: Rules::default(),
            limits: Limits {
                connections: limits.connections,
                connections_per_address: limits.connections_per_address,
                subscriptions: limits.subscriptions,
                events_per_filter: limits.events_per_filter,
                counted_events: limits.counted_events,
                reconciled_events: limits.reconciled_events,
                reconciled_altogether: limits.reconciled_altogether,
                reconciliations: limits.reconciliations,
                reconcile_idle: Duration::from_secs(limits.reconcile_idle_s),
                events_in_flight: limits.events_in_flight,
                send_queue_bytes: limits.send_queue_bytes,
                filter_bytes: limits.filter_bytes,
                held_bytes: limits.held_bytes,
                auth_tries: limits.auth_tries,
                join_tries: limits.join_tries,
                events_per_address: limits.events_per_address(),
                bytes_per_address: limits.bytes_per_address(),
                auth_per_address: limits.auth_per_address(),
                wrong_codes_per_address: limits.wrong_codes_per_address(),
                header_timeout: Duration::from_secs(limits.header_timeout_s),
                write_timeout: Duration::from_secs(limits.write_timeout_s),
                message_timeout: Duration::from_secs(limits.message_timeout_s),
                idle_ping: Duration::from_secs(limits.idle_ping_s),
                grace: Duration::from_secs(limits.grace_s),
            },
            tls: Tls::Off,
            metrics: MetricsAt::default(),
            clock: Clock::system(),
        }
    }
}

impl Config {
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

fn key(name: &'static str, text: &str) -> Result<PublicKey, ConfigError> {
    PublicKey::from_hex(text).map_err(|error| refused(name, error))
}

fn tls_of(tls: RawTls, acme: RawAcme) -> Result<Tls, ConfigError> {
    let has_files = !tls.certificate.is_empty() || !tls.key.is_empty();
    if acme.domains.is_empty() {
        return match (tls.certificate.is_empty(), tls.key.is_empty()) {
            (true, true) => Ok(Tls::Off),
            (false, false) => Ok(Tls::Files {
                certificate: tls.certificate.into(),
                key: tls.key.into(),
            }),
            (false, true) => Err(refused("tls.key", "missing, and there is a certificate")),
            (true, false) => Err(refused("tls.certificate", "missing, and there is a key")),
        };
    }
    if has_files {
        return Err(refused("acme.domains", "set, and so are certificate files"));
    }
    if !acme.agree_to_terms {
        let why = "must be true: read the authority's terms of service first";
        return Err(refused("acme.agree_to_terms", why));
    }
    let is_name = |name: &String| {
        let parsed = ServerName::try_from(name.as_str());
        matches!(parsed, Ok(ServerName::DnsName(_))) && !name.contains('*')
    };
    if !acme.domains.iter().all(is_name) {
        return Err(refused("acme.domains", "not the name of a host"));
    }
    if !acme.directory.starts_with("https://") {
        return Err(refused("acme.directory", "not an https:// URL"));
    }
    Ok(Tls::Acme(Acme {
        domains: acme.domains,
        contact: acme.contact,
        directory: acme.directory,
        roots: (!acme.directory_roots.is_empty()).then(|| acme.directory_roots.into()),
    }))
}

fn malformed(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).unwrap_or_default().matches('\n').count();
    let key = text.lines().nth(line).and_then(|line| line.split_once('='));
    let named = key.map(|(key, _)| format!("{}: ", key.trim()));
    let told = format!("{}{}", named.unwrap_or_default(), error.message());
    // The library quotes values; no setting and no word of its own is this long.
    let words = told.split_whitespace();
    let words = words.map(|word| if word.len() > 40 { "…" } else { word });
    ConfigError::Malformed {
        line: line + 1,
        why: words.collect::<Vec<_>>().join(" "),
    }
}

fn keys(name: &'static str, texts: &[String]) -> Result<BTreeSet<PublicKey>, ConfigError> {
    texts.iter().map(|text| key(name, text)).collect()
}

fn refused(key: &'static str, why: impl ToString) -> ConfigError {
    ConfigError::Value {
        key,
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default_and_is_accepted() {
        let raw = Raw::parse(&Raw::example()).unwrap();
        assert_eq!(
            toml::to_string(&raw).unwrap(),
            toml::to_string(&Raw::default()).unwrap()
        );
        let config = raw.check(PathBuf::from("/data")).unwrap();
        assert_eq!(config.rules, Rules::default());
    }

    #[test]
    fn unknown_keys_and_nonsense_are_refused_by_name() {
        for (text, name) in [
            ("[server]\nlistne = \"x\"", "listne"),
            ("[servers]", "servers"),
            ("[limits]\nsubscriptions = 0", "limits.subscriptions"),
            ("[server]\nlisten = \"nowhere\"", "server.listen"),
            ("[server]\npublic_urls = [\"http://x\"]", "public_urls"),
            ("[policy]\nwrite = \"some\"", "policy.write"),
            (
                "[policy]\nwrite = \"members\"\nmembers = [\"x\"]",
                "policy.members",
            ),
            ("[policy]\nmembers = [\"x\"]", "policy.members"),
            (
                "[policy]\nwrite = \"recipients\"\nmembers = [\"x\"]",
                "policy.members",
            ),
            ("[policy]\npow_of = \"notes\"", "policy.pow_of"),
            ("[management]\nadmins = [\"x\"]", "management.admins"),
            ("[policy]\npow_bits = 41", "policy.pow_bits"),
            ("[policy]\nkinds = [65536]", "line 2"),
            ("[server]\ntrusted_proxies = [\"proxy\"]", "trusted_proxies"),
            ("[tls]\ncertificate = \"x\"", "tls.key"),
            ("[tls]\nkey = \"x\"", "tls.certificate"),
            ("[acme]\ndomains = [\"a.example\"]", "acme.agree_to_terms"),
            (
                "[acme]\nagree_to_terms = true\ndomains = [\"*.example\"]",
                "acme.domains",
            ),
            (
                "[acme]\nagree_to_terms = true\ndomains = [\"192.0.2.1\"]",
                "acme.domains",
            ),
            (
                "[tls]\ncertificate = \"x\"\nkey = \"x\"\n[acme]\ndomains = [\"a.example\"]",
                "acme.domains",
            ),
            ("[metrics]\nlisten = \"0.0.0.0:7449\"", "metrics.listen"),
            ("[store]\nindex = \"sqlite\"", "index"),
        ] {
            let error = Raw::parse(text)
                .and_then(|raw| raw.check(PathBuf::new()))
                .unwrap_err();
            assert!(error.to_string().contains(name), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_names_its_line_and_repeats_no_key() {
        let key = "ab".repeat(32);
        for bad in [
            format!("members = \"{key}\""),
            format!("members = [\"{key}\", 5]"),
            format!("members = [\"{key}"),
            format!("members = [\"{key}x\"]"),
            format!("{key} = 1"),
        ] {
            let text = format!("[policy]\nwrite = \"members\"\n{bad}\n");
            let error = Raw::parse(&text)
                .and_then(|raw| raw.check(PathBuf::new()))
                .unwrap_err()
                .to_string();
            assert!(!error.contains(&key), "{bad}: {error}");
            let is_named = error.contains("line 3") || error.contains("policy.members");
            assert!(is_named, "{bad}: {error}");
        }
    }
}
