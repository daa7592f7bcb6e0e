//! Addresses of relays and file servers, in one spelling each.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

use crate::error::DecodeError;
use crate::limits;

/// The URL of a relay: `ws` or `wss`, host and scheme in lower case, no default port, no user,
/// no query, no fragment, no slash at the end. Equal relays compare equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayUrl(String);

/// The origin of a file server: `http` or `https`, host and port, nothing after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// Where an address leads, as far as its spelling tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Loopback: this machine.
    Loopback,
    /// A private range (RFC 1918, RFC 4193): this network.
    Private,
    /// Link-local, multicast, unspecified: never dialled.
    Forbidden,
    /// Anything else. A name may still resolve elsewhere; the dialer asks again with
    /// [`Reach::of_ip`].
    Public,
}

impl Reach {
    /// Of one IP address; IPv4 in IPv6 counts as the IPv4 address.
    pub fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                if ip.is_loopback() {
                    Self::Loopback
                } else if ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
                {
                    Self::Private
                } else if ip.is_link_local()
                    || ip.is_multicast()
                    || ip.is_broadcast()
                    || ip.octets()[0] == 0
                {
                    Self::Forbidden
                } else {
                    Self::Public
                }
            }
            IpAddr::V6(ip) => {
                if ip.is_loopback() {
                    Self::Loopback
                } else if ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() {
                    Self::Forbidden
                } else if ip.is_unique_local() {
                    Self::Private
                } else {
                    Self::Public
                }
            }
        }
    }

    fn of_host(host: Option<Host<&str>>) -> Self {
        match host {
            Some(Host::Ipv4(ip)) => Self::of_ip(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Self::of_ip(IpAddr::V6(ip)),
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => {
                Self::Loopback
            }
            Some(Host::Domain(_)) => Self::Public,
            None => Self::Forbidden,
        }
    }
}

/// What both kinds of address are made of.
fn parse(text: &str, plain: &str, secure: &str, what: &'static str) -> Result<Url, DecodeError> {
    if text.len() > limits::URL_BYTES {
        return Err(DecodeError::TooLarge {
            what,
            limit: limits::URL_BYTES,
        });
    }
    let url = Url::parse(text.trim()).map_err(|_| DecodeError::invalid(what))?;
    // A host in another script, or a path with what has to be escaped, is longer in the one
    // spelling that is kept, and that one has to be read again.
    if spelling(&url).len() > limits::URL_BYTES {
        return Err(DecodeError::TooLarge {
            what,
            limit: limits::URL_BYTES,
        });
    }
    let fine = (url.scheme() == plain || url.scheme() == secure)
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.port() != Some(0);
    if fine {
        Ok(url)
    } else {
        Err(DecodeError::invalid(what))
    }
}

/// The one spelling: what two equal addresses have in common.
fn spelling(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

fn host_of(url: &str) -> Option<Url> {
    Url::parse(url).ok()
}

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The host without port; IPv6 in brackets.
            pub fn host(&self) -> String {
                host_of(&self.0)
                    .and_then(|url| url.host_str().map(str::to_owned))
                    .unwrap_or_default()
            }

            /// The port, the scheme's own where none is named.
            pub fn port(&self) -> u16 {
                host_of(&self.0)
                    .and_then(|url| url.port_or_known_default())
                    .unwrap_or_default()
            }

            /// Whether TLS protects it.
            pub fn is_secure(&self) -> bool {
                self.0.starts_with("wss:") || self.0.starts_with("https:")
            }

            /// Where it leads, by its spelling.
            pub fn reach(&self) -> Reach {
                host_of(&self.0).map_or(Reach::Forbidden, |url| Reach::of_host(url.host()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = DecodeError;
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

address!(RelayUrl);
address!(Origin);

impl RelayUrl {
    /// The path, without a slash at the end; empty where there is none.
    pub fn path(&self) -> String {
        host_of(&self.0)
            .map(|url| url.path().trim_end_matches('/').to_owned())
            .unwrap_or_default()
    }

    /// From text as a person or an event wrote it.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let url = parse(text, "ws", "wss", "relay URL")?;
        Ok(Self(spelling(&url).to_owned()))
    }
}

impl Origin {
    /// From text as a person or an event wrote it: a path other than `/` is refused.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let url = parse(text, "http", "https", "file server URL")?;
        if url.path() != "/" {
            return Err(DecodeError::invalid("file server URL"));
        }
        Ok(Self(spelling(&url).to_owned()))
    }

    /// The origin with its port always named, lower case: the text that upload keys are derived
    /// from (`docs/protocol/files.md`).
    pub fn with_port(&self) -> String {
        let scheme = if self.is_secure() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host(), self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_relay_has_one_spelling() {
        let spellings = [
            "wss://Relay.Example/",
            "wss://relay.example",
            "WSS://relay.example:443",
        ];
        for text in spellings {
            assert_eq!(
                RelayUrl::parse(text).unwrap().as_str(),
                "wss://relay.example"
            );
        }
        assert_eq!(
            RelayUrl::parse("ws://h:7447/a/").unwrap().as_str(),
            "ws://h:7447/a"
        );
    }

    #[test]
    fn an_address_that_is_taken_is_not_too_long_for_itself() {
        for text in [
            format!("wss://h/{}", " a".repeat(100)),
            format!("wss://{}example", "ü.".repeat(70)),
        ] {
            assert!(text.len() <= limits::URL_BYTES);
            assert!(RelayUrl::parse(&text).is_err(), "{text}");
        }
        let long = format!("wss://h/{}", "a".repeat(limits::URL_BYTES - 8));
        let url = RelayUrl::parse(&long).unwrap();
        assert_eq!(RelayUrl::parse(url.as_str()).unwrap(), url);
    }

    #[test]
    fn addresses_that_hide_something_are_refused() {
        let bad = [
            "http://h",
            "wss://u:p@h",
            "wss://h/?q",
            "wss://h/#f",
            "wss://",
            "relay",
            "file:///etc",
        ];
        for text in bad {
            assert!(RelayUrl::parse(text).is_err(), "{text}");
        }
        assert!(Origin::parse("https://h/path").is_err());
        assert_eq!(
            Origin::parse("https://H").unwrap().with_port(),
            "https://h:443"
        );
    }

    #[test]
    fn reach_follows_the_address_ranges() {
        let table = [
            ("ws://127.0.0.1:1", Reach::Loopback),
            ("ws://127.1:1", Reach::Loopback),
            ("ws://localhost", Reach::Loopback),
            ("ws://[::1]:1", Reach::Loopback),
            ("ws://[::ffff:127.0.0.1]", Reach::Loopback),
            ("ws://10.1.2.3", Reach::Private),
            ("ws://192.168.0.9", Reach::Private),
            ("ws://100.64.0.1", Reach::Private),
            ("ws://[fd00::1]", Reach::Private),
            ("ws://169.254.169.254", Reach::Forbidden),
            ("ws://[fe80::1]", Reach::Forbidden),
            ("ws://0.0.0.0", Reach::Forbidden),
            ("ws://224.0.0.1", Reach::Forbidden),
            ("wss://relay.example", Reach::Public),
            ("wss://9.9.9.9", Reach::Public),
        ];
        for (text, reach) in table {
            assert_eq!(RelayUrl::parse(text).unwrap().reach(), reach, "{text}");
        }
    }
}
