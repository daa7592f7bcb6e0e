//! Who is behind a reverse proxy: `X-Forwarded-For`, believed as far as the proxies are trusted.
//!
//! Each proxy appends whom it got the request from, so the header is read from its end: what a
//! trusted proxy added is believed, and the first address that is not a trusted proxy's own is
//! the client. Whatever stands before it the client may have written.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The header, in the form that proxies add to.
const HEADER: &str = "x-forwarded-for";

/// Addresses whose word is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// What a trusted proxy sent is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trusted proxy sent an X-Forwarded-For that is no list of addresses")]
pub struct Unreadable;

impl TrustedProxies {
    /// Each an address, or a range such as `10.0.0.0/8`; or the text that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let parse = |text: &String| {
            let range = text.parse::<IpNet>().ok();
            range.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        texts
            .iter()
            .map(|text| parse(text).ok_or_else(|| text.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|range| range.contains(&ip))
    }

    /// The client of a request that came from `peer`, who is trusted: the last address in the
    /// headers that is not trusted itself, or else the first of all. `peer` where there are
    /// none: then the proxy asks for itself.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> Result<IpAddr, Unreadable> {
        let mut client = peer;
        // Several headers are one list in their order.
        for value in headers.get_all(HEADER).iter().rev() {
            let value = value.to_str().map_err(|_| Unreadable)?;
            for hop in value.rsplit(',') {
                client = address(hop.trim()).ok_or(Unreadable)?;
                if !self.contains(client) {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }
}

/// An address, in brackets or with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let plain = bare.parse().ok();
    let ip: Option<IpAddr> = plain.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        TrustedProxies::parse(&texts).unwrap()
    }

    fn client(trusted: &TrustedProxies, values: &[&str]) -> Result<IpAddr, Unreadable> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        trusted.client(&headers, "127.0.0.1".parse().unwrap())
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let proxies = trusted(&["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"]);
        for (values, wanted) in [
            (vec![], "127.0.0.1"),
            (vec!["192.0.2.1"], "192.0.2.1"),
            // What the client wrote itself is not believed.
            (vec!["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (vec!["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
            (vec!["nonsense, 192.0.2.1"], "192.0.2.1"),
            (vec!["127.0.0.1, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),
            (vec!["192.0.2.1", "10.1.2.3, 10.9.9.9"], "192.0.2.1"),
            (vec!["192.0.2.1,2001:db8:1::7"], "192.0.2.1"),
            (vec!["2001:db8:9::1"], "2001:db8:9::1"),
            (vec!["[2001:db8:9::1]:443"], "2001:db8:9::1"),
            (vec!["[2001:db8:9::1]"], "2001:db8:9::1"),
            (vec!["192.0.2.1:9999"], "192.0.2.1"),
            (vec!["::ffff:192.0.2.1"], "192.0.2.1"),
            // Nobody but proxies: the first of them asks.
            (vec!["10.1.2.3, 10.9.9.9"], "10.1.2.3"),
        ] {
            let wanted: IpAddr = wanted.parse().unwrap();
            assert_eq!(client(&proxies, &values), Ok(wanted), "{values:?}");
        }
        for bad in [
            "nonsense",
            "",
            "192.0.2.1, ",
            "unknown",
            "192.0.2.1 192.0.2.2",
        ] {
            assert_eq!(client(&proxies, &[bad]), Err(Unreadable), "{bad:?}");
        }
    }

    #[test]
    fn ranges_and_addresses_are_trusted_and_nothing_else() {
        let proxies = trusted(&["192.0.2.0/24", "2001:db8::1"]);
        for (ip, wanted) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("::ffff:192.0.2.7", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
        ] {
            assert_eq!(proxies.contains(ip.parse().unwrap()), wanted, "{ip}");
        }
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0"] {
            assert!(TrustedProxies::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
