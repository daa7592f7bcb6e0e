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
            own: OwnUrls::new(&config.urls, port),
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
