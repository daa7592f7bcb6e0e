//! The configuration in force. A reload replaces it as a whole; whoever decides something asks
//! for it anew.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Clock, Config};
use crate::policy::OwnUrls;

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
}

impl Settings {
    /// Of a relay that listens on `port`.
    pub fn new(config: Config, port: u16) -> Self {
        Self {
            port,
            in_force: RwLock::new(Arc::new(InForce::new(config, port))),
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
        *in_force = Arc::new(InForce::new(next, self.port));
        unchanged
    }
}

impl InForce {
    fn new(config: Config, port: u16) -> Self {
        Self {
            own: OwnUrls::new(&config.urls, port),
            config,
        }
    }
}
