//! The front door: a [`Home`] is a folder; a [`Client`] is bound to one circle of it and has one
//! verb for each thing a person can do.

mod request;

use std::ops::ControlFlow;
use std::path::PathBuf;

use crypto::SecretText;
use wire::relay_url::Origin;
use wire::{Link, RelayUrl};

use crate::error::{Error, ErrorWord, Result};
use crate::view::{
    AccountView, CircleView, ContactView, ConversationView, DeletedView, EventView, MessageView,
    OutboxView, SavedFileView, SentView, ServerView, StatusView, SyncView,
};

pub use crypto::{Argon2Params, WordCount};
pub use request::{
    FileContent, FileSource, FileTarget, InitOptions, NewCircle, Outcome, Protection, RngSource,
    SendRequest, Settings, Transfer, TransferObserver, UnlockWith, WaitLevel,
};

fn unfinished<T>() -> Result<T> {
    Err(Error::new(ErrorWord::Internal, "not joined together yet"))
}

/// A home folder, there or not.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// Names a folder; nothing is read or made.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The folder.
    pub fn path(&self) -> &std::path::Path {
        &self.dir
    }

    /// Whether there is an account in it.
    pub fn exists(&self) -> bool {
        false
    }

    /// Creates keys and stores, and publishes the lists. Where no relay is reachable the account
    /// exists all the same and the outcome carries the error (exit code 3).
    pub async fn init(
        &self,
        _unlock: UnlockWith,
        _options: InitOptions,
        _settings: &Settings,
    ) -> Result<Outcome<AccountView>> {
        unfinished()
    }

    /// Which unlock is expected.
    pub fn protection(&self) -> Result<Protection> {
        unfinished()
    }

    /// Unlocks and binds to a circle: the named one, or the current one.
    pub fn open(
        &self,
        _unlock: UnlockWith,
        _circle: Option<&str>,
        _settings: &Settings,
    ) -> Result<Client> {
        unfinished()
    }

    /// Removes the account and everything in the folder that is Sotto's.
    pub fn remove(&self, _unlock: UnlockWith, _settings: &Settings) -> Result<()> {
        unfinished()
    }

    /// Replaces PIN, passphrase or key file, with a new salt and a new device secret.
    pub fn change_unlock(
        &self,
        _old: UnlockWith,
        _new: UnlockWith,
        _settings: &Settings,
    ) -> Result<()> {
        unfinished()
    }

    /// Whether this opens the home; a wrong PIN counts as a try.
    pub fn check_unlock(&self, _unlock: UnlockWith, _settings: &Settings) -> Result<()> {
        unfinished()
    }
}

/// A home that is open, bound to one circle.
#[derive(Debug)]
pub struct Client {
    warnings: Vec<String>,
}

impl Client {
    /// What the user should know beside the answers; empties the list.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The circle's account.
    pub fn account(&self) -> Result<AccountView> {
        unfinished()
    }

    /// The seed words; 7 where this home has none.
    pub fn export_words(&self) -> Result<SecretText> {
        unfinished()
    }

    /// The circle's key under a passphrase (NIP-49).
    pub fn export_ncryptsec(&mut self, _passphrase: SecretText) -> Result<String> {
        unfinished()
    }

    /// The invite link.
    pub fn invite(&self) -> Result<Link> {
        unfinished()
    }

    /// All circles, in the order of their creation.
    pub fn circles(&self) -> Result<Vec<CircleView>> {
        unfinished()
    }

    /// One circle by name; the bound one without.
    pub fn circle(&self, _name: Option<&str>) -> Result<CircleView> {
        unfinished()
    }

    /// Makes a circle the one that commands use without `--circle`.
    pub fn use_circle(&mut self, _name: &str) -> Result<CircleView> {
        unfinished()
    }

    /// Creates a circle and publishes its lists to its own relays. Warns where a relay or file
    /// server is another circle's already.
    pub async fn create_circle(&mut self, _circle: NewCircle) -> Result<Outcome<CircleView>> {
        unfinished()
    }

    /// Adds an inbox relay and publishes the list.
    pub async fn add_relay(&mut self, _url: RelayUrl) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// Removes an inbox relay and publishes the list.
    pub async fn remove_relay(&mut self, _url: &RelayUrl) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// Adds a file server and publishes the list.
    pub async fn add_file_server(&mut self, _url: Origin) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// Removes a file server and publishes the list.
    pub async fn remove_file_server(&mut self, _url: &Origin) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// The circle's inbox relays.
    pub fn relays(&self) -> Result<Vec<ServerView>> {
        unfinished()
    }

    /// The circle's file servers.
    pub fn file_servers(&self) -> Result<Vec<ServerView>> {
        unfinished()
    }

    /// Whether a relay would do: 3 where it is unreachable, 5 where a check fails.
    pub async fn check_relay(&mut self, _url: &RelayUrl) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// Whether a file server would do: 3 where it is unreachable, 5 where a check fails.
    pub async fn check_file_server(&mut self, _url: &Origin) -> Result<Outcome<ServerView>> {
        unfinished()
    }

    /// Adds a contact, or accepts a stranger's request.
    pub fn add_contact(&mut self, _who: &str, _alias: Option<&str>) -> Result<ContactView> {
        unfinished()
    }

    /// All contacts.
    pub fn contacts(&self) -> Result<Vec<ContactView>> {
        unfinished()
    }

    /// One contact.
    pub fn contact(&self, _who: &str) -> Result<ContactView> {
        unfinished()
    }

    /// Notes that the user compared keys.
    pub fn verify_contact(&mut self, _who: &str) -> Result<ContactView> {
        unfinished()
    }

    /// Blocks.
    pub fn block_contact(&mut self, _who: &str) -> Result<ContactView> {
        unfinished()
    }

    /// Unblocks.
    pub fn unblock_contact(&mut self, _who: &str) -> Result<ContactView> {
        unfinished()
    }

    /// Forgets a contact; the conversation stays.
    pub fn remove_contact(&mut self, _who: &str) -> Result<ContactView> {
        unfinished()
    }

    /// Sends. What was stored is in the outcome's value even where the wait was in vain.
    pub async fn send(&mut self, _request: SendRequest) -> Result<Outcome<SentView>> {
        unfinished()
    }

    /// Fetches everything that waits on the inbox relays.
    pub async fn sync(&mut self) -> Result<Outcome<SyncView>> {
        unfinished()
    }

    /// One entry per conversation, the newest first.
    pub fn inbox(&mut self) -> Result<Vec<ConversationView>> {
        unfinished()
    }

    /// The newest `limit` messages with somebody (before `before`), oldest first.
    pub fn messages(
        &mut self,
        _who: &str,
        _limit: usize,
        _before: Option<&str>,
    ) -> Result<Vec<MessageView>> {
        unfinished()
    }

    /// One message by id or prefix.
    pub fn message(&mut self, _id: &str) -> Result<MessageView> {
        unfinished()
    }

    /// Streams events with a `seq` greater than `from_seq` (only new ones if absent) until
    /// `on_event` breaks or the future is dropped.
    pub async fn watch(
        &mut self,
        _from_seq: Option<i64>,
        _on_event: impl FnMut(EventView) -> ControlFlow<()>,
    ) -> Result<()> {
        unfinished()
    }

    /// Deletes a message here, or for everyone.
    pub async fn delete(
        &mut self,
        _id: &str,
        _for_everyone: bool,
    ) -> Result<Outcome<DeletedView>> {
        unfinished()
    }

    /// The state of a message or of its deletion, after a look at the network if it answers.
    pub async fn status(&mut self, _id: &str) -> Result<StatusView> {
        unfinished()
    }

    /// Fetches and decrypts the files of a message.
    pub async fn fetch_file(
        &mut self,
        _id: &str,
        _target: FileTarget,
    ) -> Result<Vec<SavedFileView>> {
        unfinished()
    }

    /// What is still to be sent.
    pub fn outbox(&self) -> Result<Vec<OutboxView>> {
        unfinished()
    }

    /// Sends what is still to be sent, now.
    pub async fn flush(&mut self) -> Result<Outcome<Vec<OutboxView>>> {
        unfinished()
    }

    /// Cancels an outbox item.
    pub fn cancel(&mut self, _id: &str) -> Result<()> {
        unfinished()
    }

    /// Ends the connections politely.
    pub async fn close(self) {}
}
