//! What is in force and cannot go well, in words that name what to change: said at the start and
//! again at each reload.

use std::net::IpAddr;

use wire::relay_url::Reach;

use crate::config::Tls;
use crate::settings::InForce;
use crate::tls::Validity;

/// Seconds before the end of a certificate from which on it needs somebody to look.
const EXPIRES_SOON: u64 = 7 * 86_400;
const DAY: u64 = 86_400;
/// Files of the store, listeners and the like beside the connections.
const OTHER_FILES: usize = 500;

/// What is around it that the relay cannot choose.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// Where it listens.
    pub ip: IpAddr,
    /// How long the certificate holds that it shows.
    pub certificate: Option<Validity>,
    /// How many files the system lets it have open, connections among them; none: any number.
    pub open_files: Option<u64>,
    /// Unix time, in seconds.
    pub now: u64,
}

/// Of a relay with these settings, there.
pub fn concerns(in_force: &InForce, around: Surroundings) -> Vec<String> {
    let others_come =
        !around.ip.to_canonical().is_loopback() || !in_force.config.trusted_proxies.is_empty();
    let of_others = [
        about_address(in_force),
        about_files(in_force, around.open_files),
    ];
    let certificate = around.certificate;
    let of_certificate =
        certificate.and_then(|validity| about_certificate(in_force, validity, around.now));
    let of_others = of_others.into_iter().flatten().filter(|_| others_come);
    of_others.chain(of_certificate).collect()
}

/// Each connection is an open file.
fn about_files(in_force: &InForce, open_files: Option<u64>) -> Option<String> {
    let connections = in_force.config.limits.connections;
    let needed = u64::try_from(connections.saturating_add(OTHER_FILES)).unwrap_or(u64::MAX);
    let allowed = open_files.filter(|allowed| *allowed < needed)?;
    Some(format!(
        "the system allows {allowed} open files, and limits.connections is {connections}: allow \
         {needed} (LimitNOFILE in a unit of systemd, or ulimit -n), or lower limits.connections"
    ))
}

/// A client proves its key for one of the relay's own URLs (NIP-42). Where others than those on
/// this machine come, one of those has to be an address that they can use.
fn about_address(in_force: &InForce) -> Option<String> {
    let urls = in_force.config.public_urls();
    let has_address = urls.iter().any(|url| url.reach() != Reach::Loopback);
    (!has_address).then(|| {
        "clients on other machines cannot prove their keys, so they cannot read: set \
         server.public_urls to the addresses that they use, for example [\"wss://relay.example\"]"
            .to_owned()
    })
}

fn about_certificate(in_force: &InForce, validity: Validity, now: u64) -> Option<String> {
    let what_to_do = match in_force.config.tls {
        Tls::Acme(_) => "the log says why it was not renewed",
        _ => "renew the files of [tls], then send SIGHUP",
    };
    let left = validity.until.saturating_sub(now);
    // One that lives for days alone is renewed in time as well.
    let is_due = left < EXPIRES_SOON && validity.renew_at() <= now;
    if now < validity.from {
        return Some(
            "the TLS certificate is not valid yet, so clients refuse it: is the clock set by NTP?"
                .to_owned(),
        );
    }
    match (left, left / DAY) {
        (0, _) => Some(format!(
            "the TLS certificate has expired, so clients refuse it: {what_to_do}"
        )),
        (_, 0) if is_due => Some(format!(
            "the TLS certificate expires within a day: {what_to_do}"
        )),
        (_, days) if is_due => Some(format!(
            "the TLS certificate expires in {days} days: {what_to_do}"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn said(config: Config, ip: &str, certificate: Option<Validity>, now: u64) -> Vec<String> {
        said_with(config, ip, certificate, now, None)
    }

    fn said_with(
        config: Config,
        ip: &str,
        certificate: Option<Validity>,
        now: u64,
        open_files: Option<u64>,
    ) -> Vec<String> {
        let in_force = InForce::new(config, 7447, std::sync::Arc::default());
        let around = Surroundings {
            ip: ip.parse().unwrap(),
            certificate,
            open_files,
            now,
        };
        concerns(&in_force, around)
    }

    #[test]
    fn r_warn_3_files_are_too_few_where_others_come() {
        let config = || Config {
            urls: vec!["wss://relay.example".parse().unwrap()],
            ..Config::in_memory()
        };
        for (ip, open_files, is_said) in [
            ("0.0.0.0", Some(20_000), true),
            ("0.0.0.0", Some(20_500), false),
            ("0.0.0.0", None, false),
            ("127.0.0.1", Some(20_000), false),
        ] {
            let found = said_with(config(), ip, None, 0, open_files);
            assert_eq!(found.len(), usize::from(is_said), "{ip} {open_files:?}");
            assert!(found.iter().all(|text| text.contains("limits.connections")));
        }
    }

    #[test]
    fn r_warn_1_an_address_is_missing_where_others_come_and_can_use_none() {
        let config = |urls: &[&str]| Config {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            ..Config::in_memory()
        };
        for (urls, ip, is_said) in [
            (&[][..], "127.0.0.1", false),
            (&[], "::1", false),
            (&[], "::ffff:127.0.0.1", false),
            (&[], "0.0.0.0", true),
            (&[], "192.0.2.2", true),
            (&["ws://127.0.0.1:7447"], "::", true),
            (&["wss://relay.example"], "::", false),
            (&["ws://192.168.1.2:7447"], "0.0.0.0", false),
        ] {
            let found = said(config(urls), ip, None, 0);
            assert_eq!(found.len(), usize::from(is_said), "{urls:?} {ip}");
            assert!(found.iter().all(|text| text.contains("server.public_urls")));
        }
    }

    #[test]
    fn r_warn_2_a_certificate_is_warned_of_in_the_last_week_of_a_long_life() {
        let said = |from: u64, until: u64, now: u64| {
            let validity = Some(Validity {
                from: from * DAY,
                until: until * DAY,
            });
            said(Config::in_memory(), "127.0.0.1", validity, now * DAY)
        };
        assert!(said(10, 100, 92).is_empty());
        assert!(said(10, 100, 94)[0].contains("expires in 6 days"));
        assert!(said(10, 100, 100)[0].contains("has expired"));
        assert!(said(10, 100, 9)[0].contains("not valid yet"));
        // One of six days, which is new.
        assert!(said(10, 16, 11).is_empty());
        assert!(said(10, 16, 15)[0].contains("expires in 1 day"));
    }
}
