//! The configuration and the roster in force. A reload, or a change of the roster, replaces them
//! as a whole; whoever decides something asks anew.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{About, Clock, Config};
use crate::policy::{Law, OwnUrls};
use crate::roster::Roster;

/// What everything in a running relay goes by.
#[derive(Debug)]
pub struct Settings {
    port: u16,
    in_force: RwLock<Arc<InForce>>,
}

/// One configuration, and what follows from it. It stays as it is for whoever holds it.
#[derive(Debug)]
pub struct InForce {
    /// As it was checked.
    pub config: Config,
    /// The names that the relay goes by.
    pub own: OwnUrls,
    /// What was decided at run time.
    pub roster: Arc<Roster>,
}

impl Settings {
    /// Of a relay that listens on `port`.
    pub fn new(config: Config, port: u16, roster: Arc<Roster>) -> Self {
        Self {
            port,
            in_force: RwLock::new(Arc::new(InForce::new(config, port, roster))),
        }
    }

    /// What holds at this moment.
    pub fn get(&self) -> Arc<InForce> {
        self.in_force
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells the time.
    pub fn clock(&self) -> Clock {
        self.get().config.clock.clone()
    }

    /// Puts `next` in force, except for what a running relay cannot change: that stays as it
    /// was, and its names in the file are returned.
    pub fn replace(&self, mut next: Config) -> Vec<&'static str> {
        let mut in_force = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let unchanged = next.keep_fixed(&in_force.config);
        *in_force = Arc::new(InForce::new(next, self.port, in_force.roster.clone()));
        unchanged
    }

    /// Puts a roster in force; the one before, where this is another.
    pub fn enlist(&self, roster: Arc<Roster>) -> Option<Arc<Roster>> {
        let mut in_force = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = in_force.roster.clone();
        if Arc::ptr_eq(&before, &roster) {
            return None;
        }
        *in_force = Arc::new(InForce::new(in_force.config.clone(), self.port, roster));
        Some(before)
    }
}

impl InForce {
    pub(crate) fn new(config: Config, port: u16, roster: Arc<Roster>) -> Self {
        Self {
            own: OwnUrls::new(&config.public_urls(), port),
            config,
            roster,
        }
    }

    /// What verdicts go by.
    pub fn law(&self) -> Law<'_> {
        Law {
            rules: &self.config.rules,
            roster: &self.roster,
            own: &self.own,
        }
    }

    /// Texts of the file that are not shown, since others were given at run time: where each stands
    /// in the file, and the method of the management API that gives it back.
    pub fn overridden(&self) -> Vec<(&'static str, &'static str)> {
        let About {
            name, description, ..
        } = &self.config.about;
        let given = [
            (self.roster.name(), name, ("server.name", "changerelayname")),
            (
                self.roster.description(),
                description,
                ("server.description", "changerelaydescription"),
            ),
        ];
        let wins = given
            .into_iter()
            .filter(|(given, of_file, _)| given.is_some_and(|given| given != *of_file));
        wins.map(|(_, _, names)| names).collect()
    }

    /// What the relay says of itself.
    pub fn about(&self) -> About {
        let About {
            name, description, ..
        } = &self.config.about;
        About {
            name: self.roster.name().unwrap_or(name).to_owned(),
            description: self.roster.description().unwrap_or(description).to_owned(),
            ..self.config.about.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::Acme;
    use crate::config::Tls;

    #[test]
    fn r_url_1_the_names_of_a_fetched_certificate_are_the_relays_own() {
        let mut config = Config::in_memory();
        config.urls = vec!["wss://relay.example/inbox".parse().unwrap()];
        config.tls = Tls::Acme(Acme {
            domains: vec!["relay.example".to_owned(), "Mail.example".to_owned()],
            contact: String::new(),
            directory: "https://authority.example".to_owned(),
            roots: None,
        });
        let in_force = InForce::new(config, 7447, Arc::default());
        for url in [
            "wss://relay.example/inbox",
            "wss://relay.example",
            "wss://relay.example:443/",
            "wss://mail.example",
            "wss://localhost:7447",
        ] {
            assert!(in_force.own.contains(url), "{url}");
        }
        for url in ["ws://relay.example", "wss://other.example"] {
            assert!(!in_force.own.contains(url), "{url}");
        }
        let told: Vec<_> = in_force.config.public_urls();
        let told: Vec<_> = told.iter().map(|url| url.as_str()).collect();
        let wanted = [
            "wss://relay.example/inbox",
            "wss://relay.example",
            "wss://mail.example",
        ];
        assert_eq!(told, wanted);
    }
}
