//! Which addresses may be dialled at all, by their spelling. The dialer asks again with the IP
//! address that a name leads to.

use std::collections::BTreeSet;

use rusqlite::Connection;
use wire::RelayUrl;
use wire::relay_url::{Origin, Reach};

use crate::error::Result;
use crate::store;

/// What the user's own configuration names: only through it is loopback or a private network
/// open, so a peer's list cannot make us knock on doors at home.
pub(crate) struct OwnPlaces {
    hosts: BTreeSet<String>,
    loopback: bool,
    private: bool,
}

/// What may be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Dial it; `is_own` says whether it may lead to loopback or a private network.
    Dial { is_own: bool },
    /// Never.
    Never,
}

impl OwnPlaces {
    /// From the own relays and file servers.
    pub fn load(connection: &Connection) -> Result<Self> {
        let mut places = Self {
            hosts: BTreeSet::new(),
            loopback: false,
            private: false,
        };
        for relay in store::own_relays(connection)? {
            places.add(relay.host(), relay.reach());
        }
        for origin in store::own_file_servers(connection)? {
            places.add(origin.host(), origin.reach());
        }
        Ok(places)
    }

    fn add(&mut self, host: String, reach: Reach) {
        self.hosts.insert(host);
        self.loopback |= reach == Reach::Loopback;
        self.private |= reach == Reach::Private;
    }

    fn judge(&self, host: &str, reach: Reach, is_secure: bool) -> Verdict {
        let is_own = self.hosts.contains(host)
            || (reach == Reach::Loopback && self.loopback)
            || (reach == Reach::Private && self.private);
        match reach {
            Reach::Forbidden => Verdict::Never,
            _ if is_own => Verdict::Dial { is_own: true },
            // Without TLS only where the user said so by naming the host.
            Reach::Public if is_secure => Verdict::Dial { is_own: false },
            _ => Verdict::Never,
        }
    }

    /// Of a relay.
    pub fn relay(&self, url: &RelayUrl) -> Verdict {
        self.judge(&url.host(), url.reach(), url.is_secure())
    }

    /// Of a file server.
    pub fn origin(&self, origin: &Origin) -> Verdict {
        self.judge(&origin.host(), origin.reach(), origin.is_secure())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(own: &[&str]) -> OwnPlaces {
        let mut places = OwnPlaces {
            hosts: BTreeSet::new(),
            loopback: false,
            private: false,
        };
        for url in own {
            let url = RelayUrl::parse(url).unwrap();
            places.add(url.host(), url.reach());
        }
        places
    }

    fn verdict(own: &[&str], url: &str) -> Verdict {
        places(own).relay(&RelayUrl::parse(url).unwrap())
    }

    #[test]
    fn a_peer_cannot_make_us_knock_at_home() {
        let public = ["wss://relay.example"];
        let never = [
            "ws://127.0.0.1:1",
            "wss://localhost",
            "ws://192.168.0.1",
            "wss://169.254.169.254",
            "ws://other.example",
        ];
        for url in never {
            assert_eq!(verdict(&public, url), Verdict::Never, "{url}");
        }
        let other = verdict(&public, "wss://other.example");
        assert_eq!(other, Verdict::Dial { is_own: false });
    }

    #[test]
    fn a_home_network_works_where_the_user_named_a_host_in_it() {
        let home = ["ws://192.168.0.9:7447"];
        let yes = Verdict::Dial { is_own: true };
        assert_eq!(verdict(&home, "ws://192.168.0.44"), yes);
        assert_eq!(verdict(&home, "ws://127.0.0.1:7447"), Verdict::Never);
        assert_eq!(verdict(&home, "ws://169.254.0.9"), Verdict::Never);
        let loopback = ["ws://127.0.0.1:7447"];
        assert_eq!(verdict(&loopback, "ws://localhost:9"), yes);
    }
}
