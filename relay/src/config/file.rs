//! The file as the operator writes it: every key with its documentation and its default.
//!
//! Each field is declared once; the example file that `sotto-relay init` writes is made from
//! exactly those, so it cannot go stale. What the values mean is checked in [`super::check`].

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use wire::kinds::SOTTO;
use wire::limits;

use super::{ConfigError, IndexEngine};

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
                        let line = line.replace("wire::kinds::SOTTO", &format!("{SOTTO:?}"));
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
        /// The folder that holds the events; empty: the platform's data folder, on Linux
        /// ~/.local/share/sotto-relay of the user that runs the relay.
        data: String = String::new(),
        /// The URLs that clients use, for example ["wss://relay.example"]. Only these, wss:// with
        /// each name of acme.domains, and the loopback names with the port above are accepted in
        /// AUTH (NIP-42) and vanish requests (NIP-62).
        public_urls: Vec<String> = Vec::new(),
        /// Reverse proxies whose X-Forwarded-For is believed: addresses or ranges, for example
        /// ["127.0.0.1", "::1"]. Per-address limits then hold for the clients behind them.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Name, description, contact and operator's key as NIP-11 shows them.
        name: String = "Sotto relay".to_owned(),
        /// What the relay is for.
        description: String = "Stores sealed messages for their recipients alone.".to_owned(),
        /// How to reach the operator, for example "mailto:me@example.org".
        contact: String = String::new(),
        /// The operator's public key, as npub1... or 64 hex digits; may stay empty.
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
        /// The members' public keys, each as npub1... or 64 hex digits.
        members: Vec<String> = Vec::new(),
        /// The kinds that are taken, beside deletions (5) and requests to vanish (62); empty: any.
        /// Sotto needs wire::kinds::SOTTO.
        kinds: Vec<u16> = Vec::new(),
        /// Leading zero bits that an event's id must have as proof of work (NIP-13); 0: none.
        pow_bits: u8 = 0,
        /// What needs the work. "wraps": gift wraps of senders who have not proved a member's key.
        /// "everything": all but deletions and requests to vanish.
        pow_of: String = "wraps".to_owned(),
        /// How old a gift wrap may be, in seconds (NIP-59 draws up to two days); 0: any age. A wrap's
        /// deletion is remembered for so long. Where this is made longer later, whoever has kept a
        /// wrap that was deleted before can send it again.
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
        /// The public keys, each as npub1... or 64 hex digits, that may use the management API (NIP-86) at the
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
        /// Counts of one connection at the same time.
        counts: usize = 4,
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
        /// AUTH attempts of one connection. As many more are refused, and the next one ends it.
        auth_tries: usize = 20,
        /// Malformed messages of one connection; one more ends it.
        malformed_messages: usize = 50,
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
        /// it the relay speaks TLS itself (wss://). SIGHUP reads it and the key again. Begin both
        /// with /: other paths start at the folder that the relay was started in, / under systemd.
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
        /// A PEM file with the root certificates of an authority of your own, by its whole path;
        /// empty: the public ones are trusted.
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
}

/// What the library calls numbers, and what people do.
const NUMBERS: [(&str, &str); 4] = [
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
];

/// The line, from 1, on which a file sets a key such as `policy.members`; none where it does not.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let (section, name) = key.split_once('.')?;
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut current = "";
    let line = text.lines().position(|line| {
        let line = line.trim();
        let header = line
            .strip_prefix('[')
            .and_then(|line| line.split(']').next());
        if let Some(header) = header.map(str::trim).filter(is_word) {
            current = header;
        }
        let set = line.split_once('=').map_or("", |(key, _)| key.trim());
        (current == section && set == name) || (current.is_empty() && set == key)
    });
    line.map(|index| index + 1)
}

fn malformed(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).unwrap_or_default().matches('\n').count();
    let key = text.lines().nth(line).and_then(|line| line.split_once('='));
    let named = key.map(|(key, _)| format!("{}: ", key.trim()));
    let told = format!("{}{}", named.unwrap_or_default(), error.message());
    let told = NUMBERS.iter().fold(told, |told, (type_name, words)| {
        told.replace(
            &format!("expected {type_name}"),
            &format!("expected {words}"),
        )
    });
    // The library quotes values; no setting and no word of its own is this long.
    let words = told.split_whitespace();
    let words = words.map(|word| if word.len() > 40 { "…" } else { word });
    ConfigError::Malformed {
        line: line + 1,
        why: words.collect::<Vec<_>>().join(" "),
    }
}
