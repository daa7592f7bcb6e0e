//! Verbs about people: invites and contacts. None of them uses the network.

use wire::{Link, PublicKey};

use super::bound::Client;
use crate::error::Result;
use crate::view::ContactView;

impl Client {
    /// The invite link: key, inbox relays, and the name given at `init`.
    pub fn invite(&self) -> Result<Link> {
        let name = self.unlocked.root.name()?;
        self.engine.invite(&self.store, name)
    }

    /// Adds a contact, or accepts a stranger's request. `who` is a link, a key, or somebody who
    /// is known already.
    pub fn add_contact(&mut self, who: &str, alias: Option<&str>) -> Result<ContactView> {
        let now = self.now();
        let link = match Link::parse(who) {
            Ok(link) => link,
            // An alias, or else the error that says what is wrong with a key.
            Err(_) => Link::new(self.engine.resolve(&self.store, who, now)?),
        };
        let step = self
            .engine
            .add_contact(&mut self.store, &link, alias, now, &mut *self.rng)?;
        // Receipts that are owed now wait in the outbox for the next command that dials.
        Ok(step.value)
    }

    /// All contacts.
    pub fn contacts(&self) -> Result<Vec<ContactView>> {
        self.engine.contacts(&self.store)
    }

    /// One contact.
    pub fn contact(&self, who: &str) -> Result<ContactView> {
        let key = self.resolve(who)?;
        self.engine.contact(&self.store, &key)
    }

    /// Notes that the user compared keys.
    pub fn verify_contact(&mut self, who: &str) -> Result<ContactView> {
        let (key, now) = (self.resolve(who)?, self.now());
        self.engine.verify(&mut self.store, &key, now)
    }

    /// Blocks: nothing is sent to them and nothing of theirs is kept from now on.
    pub fn block_contact(&mut self, who: &str) -> Result<ContactView> {
        let (key, now) = (self.resolve(who)?, self.now());
        self.engine
            .block(&mut self.store, &key, now, &mut *self.rng)
    }

    /// Unblocks.
    pub fn unblock_contact(&mut self, who: &str) -> Result<ContactView> {
        let (key, now) = (self.resolve(who)?, self.now());
        self.engine.unblock(&mut self.store, &key, now)
    }

    /// Forgets a contact and the messages with them in this home. Gives what was forgotten.
    pub fn remove_contact(&mut self, who: &str) -> Result<ContactView> {
        let (key, now) = (self.resolve(who)?, self.now());
        let view = self.engine.contact(&self.store, &key)?;
        self.engine
            .remove_contact(&mut self.store, &key, now, &mut *self.rng)?;
        Ok(view)
    }

    pub(super) fn resolve(&self, who: &str) -> Result<PublicKey> {
        self.engine.resolve(&self.store, who, self.now())
    }
}
