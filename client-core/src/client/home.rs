//! A home as a face sees it: made, opened, re-locked, removed.

use std::path::{Path, PathBuf};

use crypto::{SecretText, Seed};
use rand::CryptoRng;
use wire::limits;

use super::bound::Client;
use super::request::{InitOptions, Outcome, Protection, Settings, UnlockWith};
use crate::error::{Error, ErrorWord, Result};
use crate::home::{CircleRow, HomeFolder};
use crate::view::AccountView;

/// The name of circle 0.
pub const FIRST_CIRCLE: &str = "personal";

/// A home folder, there or not.
#[derive(Debug, Clone)]
pub struct Home {
    folder: HomeFolder,
}

impl Home {
    /// Names a folder; nothing is read or made.
    pub fn at(dir: PathBuf) -> Self {
        Self {
            folder: HomeFolder::at(dir),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether there is an account in it.
    pub fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Creates keys and stores, and publishes the lists. With [`InitOptions::restore`] the
    /// account comes from its words, and its circles from its relays, before anything is
    /// published.
    ///
    /// Where no relay is reachable the account exists all the same and the outcome carries the
    /// error (exit code 3). Fails with `conflict` where there is an account.
    pub async fn init(
        &self,
        unlock: UnlockWith,
        options: InitOptions,
        settings: &Settings,
    ) -> Result<Outcome<AccountView>> {
        check_options(&options)?;
        let mut rng = (settings.rng)();
        let words = options.restore.as_ref();
        let seed = match words {
            Some(words) => Seed::from_words(words)
                .map_err(|error| Error::new(ErrorWord::BadWords, error.to_string()))?,
            None => Seed::generate(&mut *rng, options.words),
        };
        self.make(&unlock, &options, &seed, settings, &mut *rng)?;
        let mut client = self.open(unlock, None, settings)?;
        let restored = words.is_some();
        let error = client.announce(&options.invites, restored).await?;
        let shown = options.show_words.then(|| seed.expose_secret_words());
        let view = AccountView {
            words: shown.map(|words: SecretText| words.expose_secret().to_owned()),
            ..client.account()?
        };
        client.close().await;
        Ok(Outcome { value: view, error })
    }

    fn make(
        &self,
        unlock: &UnlockWith,
        options: &InitOptions,
        seed: &Seed,
        settings: &Settings,
        rng: &mut dyn CryptoRng,
    ) -> Result<()> {
        let key = seed
            .account_key(0)
            .map_err(|error| Error::new(ErrorWord::BadWords, error.to_string()))?;
        let mut making = self.folder.make(unlock, options.argon2, rng)?;
        let root = &mut making.unlocked.root;
        root.set_account(Some(seed), options.name.as_deref())?;
        // A restored circle is older than any definition that its relays may hold.
        let is_restored = options.restore.is_some();
        let row = CircleRow {
            index: 0,
            name: FIRST_CIRCLE.to_owned(),
            folder: String::new(),
            relays: options.relays.clone(),
            file_servers: options.file_servers.clone(),
            expire_s: None,
            made_at: if is_restored { 0 } else { settings.clock.now() },
            removed: false,
        };
        root.add_circle(&row, Some(&key), rng)?;
        if is_restored && let Some(change) = root.unpublished()? {
            // Nothing is published before it was read what is there.
            root.set_published(change)?;
        }
        making.finish().map(drop)
    }

    /// Which unlock is expected; 7 where there is no account.
    pub fn protection(&self) -> Result<Protection> {
        self.folder.protection()
    }

    /// Unlocks and binds to a circle: the named one, or the current one. Nothing is dialled.
    pub fn open(
        &self,
        unlock: UnlockWith,
        circle: Option<&str>,
        settings: &Settings,
    ) -> Result<Client> {
        let protection = self.protection()?;
        let unlocked = self.folder.unlock(&unlock, settings.clock.now())?;
        Client::new(unlocked, protection, circle, settings.clone())
    }

    /// Removes the account and everything in the folder that is Sotto's. Nothing is told to any
    /// server. `unlock` must open it.
    pub fn remove(&self, unlock: UnlockWith, settings: &Settings) -> Result<()> {
        self.folder.remove(&unlock, settings.clock.now())
    }

    /// Replaces PIN, passphrase or key file, with a new salt and a new device secret.
    pub fn change_unlock(
        &self,
        old: UnlockWith,
        new: UnlockWith,
        settings: &Settings,
    ) -> Result<()> {
        let mut rng = (settings.rng)();
        self.folder
            .change(&old, &new, settings.clock.now(), &mut *rng)
    }

    /// Whether this opens the home; a wrong PIN counts as a try. `conflict` where a PIN is
    /// checked and the account has none.
    pub fn check_unlock(&self, unlock: UnlockWith, settings: &Settings) -> Result<()> {
        let asks_pin = !matches!(unlock, UnlockWith::KeyFile(_));
        if asks_pin && self.protection()? == Protection::KeyFile {
            return Err(Error::new(
                ErrorWord::Conflict,
                "this account has no PIN: it opens with a key file",
            ));
        }
        self.folder.check(&unlock, settings.clock.now())
    }
}

fn check_options(options: &InitOptions) -> Result<()> {
    if options
        .name
        .as_ref()
        .is_some_and(|name| name.is_empty() || name.len() > limits::NAME_BYTES)
    {
        return Err(Error::new(
            ErrorWord::Usage,
            format!("a name has 1 to {} bytes", limits::NAME_BYTES),
        ));
    }
    if options.restore.is_some() && options.relays.is_empty() {
        return Err(
            Error::new(ErrorWord::Usage, "restoring needs a relay of the account")
                .hint("name one with --relay"),
        );
    }
    check_servers(options.relays.len(), options.file_servers.len())
}

/// How many relays or file servers a circle may have.
pub(super) fn check_servers(relays: usize, file_servers: usize) -> Result<()> {
    use crypto::circles::SERVERS;
    if relays > SERVERS || file_servers > SERVERS {
        return Err(Error::new(
            ErrorWord::Usage,
            format!("a circle has at most {SERVERS} relays and {SERVERS} file servers"),
        ));
    }
    Ok(())
}
