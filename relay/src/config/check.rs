//! From a file that was read to settings that make sense.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use wire::{Link, PublicKey, RelayUrl, limits};

use super::file::{Raw, RawAcme, RawLimits, RawMetrics, RawPolicy, RawServer, RawStore, RawTls};
use super::{About, Clock, Config, ConfigError, Limits, MetricsAt, Storage, Tls};
use crate::acme::Acme;
use crate::budget::Rate;
use crate::forwarded::TrustedProxies;
use crate::outbox;
use crate::policy::{Rules, Work, WorkOf, Writers};
use crate::store::query::{MOST_PAGE_BYTES, MOST_PAGE_EVENTS};

/// Leading zero bits that can be asked for. A core tries some million ids a second: 40 bits are
/// days.
const MOST_WORK: u8 = 40;
const NO_KEY: &str = "no public key: npub1… or 64 hex digits";

/// The longest time that a connection may be given: beyond all use, and clocks reach further.
const MOST_SECONDS: u64 = 31_536_000;
const LEAST_SEND_QUEUE: usize = outbox::least_capacity(MOST_PAGE_EVENTS, MOST_PAGE_BYTES);

impl Raw {
    /// Checks every value. `data` is the folder used where the file names none.
    pub fn check(self, data: PathBuf) -> Result<Config, ConfigError> {
        let Self {
            server,
            policy,
            management,
            store,
            limits,
            tls,
            acme,
            metrics,
        } = self;
        let folder = match server.data.as_str() {
            "" => data,
            folder => PathBuf::from(folder),
        };
        let listen = server
            .listen
            .parse()
            .map_err(|_| refused("server.listen", "not an address with a port"))?;
        let urls = (1..)
            .zip(&server.public_urls)
            .map(|(number, text)| {
                let why = |error| format!("entry {number}: {error}");
                RelayUrl::parse(text).map_err(|error| refused("server.public_urls", why(error)))
            })
            .collect::<Result<_, _>>()?;
        let trusted_proxies = TrustedProxies::parse(&server.trusted_proxies)
            .map_err(|_| refused("server.trusted_proxies", "not an address or a range"))?;
        limits.check()?;
        Ok(Config {
            listen,
            storage: store.check(folder)?,
            urls,
            trusted_proxies,
            about: server.about()?,
            admins: keys("management.admins", &management.admins)?,
            rules: policy.check()?,
            limits: limits.in_force(),
            tls: tls.check(acme)?,
            metrics: metrics.check()?,
            clock: Clock::system(),
        })
    }
}

impl RawServer {
    fn about(self) -> Result<About, ConfigError> {
        let pubkey = match self.pubkey.as_str() {
            "" => None,
            text => Some(key(text).ok_or_else(|| refused("server.pubkey", NO_KEY))?),
        };
        Ok(About {
            name: self.name,
            description: self.description,
            contact: self.contact,
            pubkey,
        })
    }
}

impl RawPolicy {
    fn check(self) -> Result<Rules, ConfigError> {
        let event_bytes = usize::try_from(self.event_bytes).unwrap_or(usize::MAX);
        if !(1_024..=limits::EVENT_BYTES).contains(&event_bytes) {
            return Err(refused("policy.event_bytes", "not from 1024 to 81920"));
        }
        let writers = self.writers()?;
        let work = self.work()?;
        let kinds = self.kinds.into_iter().collect::<BTreeSet<_>>();
        let none_if_zero = |n: u64| (n > 0).then_some(n);
        Ok(Rules {
            writers,
            kinds: (!kinds.is_empty()).then_some(kinds),
            work,
            wrap_past: none_if_zero(self.wrap_past_s),
            future: self.future_s,
            wraps_per_recipient: none_if_zero(self.wraps_per_recipient),
            bytes_per_recipient: none_if_zero(self.bytes_per_recipient),
            event_bytes,
        })
    }

    fn writers(&self) -> Result<Writers, ConfigError> {
        match self.write.as_str() {
            "open" if self.members.is_empty() => Ok(Writers::Anybody),
            "open" => Err(refused("policy.members", "listed, but write is \"open\"")),
            "members" => Ok(Writers::Members(keys("policy.members", &self.members)?)),
            "recipients" => Ok(Writers::Recipients(keys("policy.members", &self.members)?)),
            _ => {
                let why = "neither \"open\" nor \"members\" nor \"recipients\"";
                Err(refused("policy.write", why))
            }
        }
    }

    fn work(&self) -> Result<Option<Work>, ConfigError> {
        let of = match self.pow_of.as_str() {
            "wraps" => WorkOf::AnonymousWraps,
            "everything" => WorkOf::Everything,
            _ => {
                let why = "neither \"wraps\" nor \"everything\"";
                return Err(refused("policy.pow_of", why));
            }
        };
        let bits = self.pow_bits;
        if bits > MOST_WORK {
            let why = "more than 40: nobody can do that";
            return Err(refused("policy.pow_bits", why));
        }
        Ok((bits > 0).then_some(Work { bits, of }))
    }
}

impl RawStore {
    fn check(&self, folder: PathBuf) -> Result<Storage, ConfigError> {
        if !(64 * 1024..=2 * 1024 * 1024 * 1024).contains(&self.segment_bytes) {
            return Err(refused("store.segment_bytes", "not from 64 KiB to 2 GiB"));
        }
        Ok(self.in_folder(folder))
    }

    pub(super) fn in_folder(&self, folder: PathBuf) -> Storage {
        Storage::Disk {
            folder,
            index: self.index,
            segment_bytes: self.segment_bytes,
            reserve_bytes: self.reserve_bytes,
        }
    }
}

impl RawLimits {
    fn check(&self) -> Result<(), ConfigError> {
        if self.send_queue_bytes < LEAST_SEND_QUEUE {
            let why =
                format!("less than {LEAST_SEND_QUEUE}: a page of stored events would not fit");
            return Err(refused("limits.send_queue_bytes", why));
        }
        if self.held_bytes < self.send_queue_bytes.saturating_mul(2) {
            let why = "less than twice send_queue_bytes";
            return Err(refused("limits.held_bytes", why));
        }
        if self.reconciled_altogether < self.reconciled_events {
            let why = "less than reconciled_events";
            return Err(refused("limits.reconciled_altogether", why));
        }
        if self.address_events_per_minute > 0 && self.address_events_burst == 0 {
            return Err(refused("limits.address_events_burst", "must not be 0"));
        }
        let least = 4 * limits::EVENT_BYTES as u64;
        if self.address_bytes_per_day > 0 && self.address_bytes_per_day < least {
            let why = "less than 327680: the largest event would never pass";
            return Err(refused("limits.address_bytes_per_day", why));
        }
        let counts = [
            ("limits.connections", self.connections),
            (
                "limits.connections_per_address",
                self.connections_per_address,
            ),
            ("limits.subscriptions", self.subscriptions),
            ("limits.events_per_filter", self.events_per_filter),
            ("limits.counted_events", self.counted_events),
            ("limits.counts", self.counts),
            ("limits.malformed_messages", self.malformed_messages),
            ("limits.reconciled_events", self.reconciled_events),
            ("limits.reconciliations", self.reconciliations),
            ("limits.events_in_flight", self.events_in_flight),
            ("limits.filter_bytes", self.filter_bytes),
            ("limits.auth_tries", self.auth_tries),
            ("limits.join_tries", self.join_tries),
        ];
        for (name, count) in counts {
            match u32::try_from(count) {
                Ok(0) => return Err(refused(name, "must not be 0")),
                Ok(_) => {}
                Err(_) => return Err(refused(name, "more than 4294967295")),
            }
        }
        let times = [
            ("limits.reconcile_idle_s", self.reconcile_idle_s),
            ("limits.header_timeout_s", self.header_timeout_s),
            ("limits.write_timeout_s", self.write_timeout_s),
            ("limits.message_timeout_s", self.message_timeout_s),
            ("limits.idle_ping_s", self.idle_ping_s),
            ("limits.grace_s", self.grace_s),
        ];
        match times.into_iter().find(|(_, time)| *time > MOST_SECONDS) {
            Some((name, _)) => Err(refused(name, "more than 31536000, a year")),
            None => Ok(()),
        }
    }

    /// Times of less than a second would close every connection, so they count as one.
    pub(super) fn in_force(&self) -> Limits {
        let seconds = |seconds: u64| Duration::from_secs(seconds.max(1));
        let events = self.address_events_per_minute;
        let bytes = self.address_bytes_per_day;
        let auth = self.address_auth_per_minute;
        let wrong = self.address_wrong_codes_per_hour;
        Limits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            subscriptions: self.subscriptions,
            events_per_filter: self.events_per_filter,
            counted_events: self.counted_events,
            counts: self.counts,
            malformed_messages: self.malformed_messages,
            reconciled_events: self.reconciled_events,
            reconciled_altogether: self.reconciled_altogether,
            reconciliations: self.reconciliations,
            reconcile_idle: seconds(self.reconcile_idle_s),
            events_in_flight: self.events_in_flight,
            send_queue_bytes: self.send_queue_bytes,
            filter_bytes: self.filter_bytes,
            held_bytes: self.held_bytes,
            auth_tries: self.auth_tries,
            join_tries: self.join_tries,
            events_per_address: rate(events, 60, self.address_events_burst),
            bytes_per_address: rate(bytes, 86_400, bytes / 4),
            auth_per_address: rate(auth, 60, auth),
            wrong_codes_per_address: rate(wrong, 3_600, wrong),
            header_timeout: seconds(self.header_timeout_s),
            write_timeout: seconds(self.write_timeout_s),
            message_timeout: seconds(self.message_timeout_s),
            idle_ping: seconds(self.idle_ping_s),
            grace: Duration::from_secs(self.grace_s),
        }
    }
}

fn rate(count: u64, seconds: u64, burst: u64) -> Option<Rate> {
    (count > 0).then_some(Rate {
        count,
        seconds,
        burst,
    })
}

impl RawMetrics {
    fn check(&self) -> Result<MetricsAt, ConfigError> {
        if self.listen.is_empty() {
            return Ok(MetricsAt::default());
        }
        let address: SocketAddr = self
            .listen
            .parse()
            .map_err(|_| refused("metrics.listen", "not an address with a port"))?;
        if !address.ip().is_loopback() && !self.beyond_loopback {
            let why = "not loopback, and beyond_loopback is not set";
            return Err(refused("metrics.listen", why));
        }
        Ok(MetricsAt {
            listen: Some(address),
        })
    }
}

impl RawTls {
    fn check(self, acme: RawAcme) -> Result<Tls, ConfigError> {
        let has_files = !self.certificate.is_empty() || !self.key.is_empty();
        if acme.domains.is_empty() {
            return match (self.certificate.is_empty(), self.key.is_empty()) {
                (true, true) => Ok(Tls::Off),
                (false, false) => Ok(Tls::Files {
                    certificate: self.certificate.into(),
                    key: self.key.into(),
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
}

/// As the command `user` reads it.
fn key(text: &str) -> Option<PublicKey> {
    Link::parse(text).ok().map(|link| link.pubkey)
}

fn keys(name: &'static str, texts: &[String]) -> Result<BTreeSet<PublicKey>, ConfigError> {
    let numbered = (1..).zip(texts);
    let keys = numbered.map(|(number, text)| {
        // Its place and not its text, which goes to the log after a reload.
        key(text).ok_or_else(|| refused(name, format!("entry {number} is {NO_KEY}")))
    });
    keys.collect()
}

fn refused(key: &'static str, why: impl ToString) -> ConfigError {
    ConfigError::Value {
        line: None,
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
            ("[limits]\nsend_queue_bytes = 524288", "send_queue_bytes"),
            ("[limits]\nidle_ping_s = 9223372036854775807", "idle_ping_s"),
            ("[limits]\ngrace_s = 9223372036854775807", "grace_s"),
            (
                "[limits]\nmessage_timeout_s = 9223372036854775807",
                "message_timeout_s",
            ),
            (
                "[limits]\nheader_timeout_s = 9223372036854775807",
                "header_timeout_s",
            ),
            (
                "[limits]\nevents_in_flight = 2305843009213693952",
                "events_in_flight",
            ),
            (
                "[limits]\nsend_queue_bytes = 9223372036854775807",
                "held_bytes",
            ),
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
