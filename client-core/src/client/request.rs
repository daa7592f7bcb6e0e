//! What a face hands to the front door, and what it gets back.

use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Argon2Params, SecretText, WordCount};
use rand::CryptoRng;
use rand::rngs::SysRng;
use wire::relay_url::Origin;
use wire::{InviteCode, RelayUrl};

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::runtime::Timeouts;
use crate::runtime::dialer::Dialer;

pub use crate::engine::WaitLevel;

/// What opens a home.
#[derive(Debug, Clone)]
pub enum UnlockWith {
    /// Digits, typed or read from `--pin-file`. White space around them does not count.
    Pin(SecretText),
    /// A passphrase in the PIN's place.
    Passphrase(SecretText),
    /// A file of 32 to 4,096 bytes. `init` creates it where it is not there yet.
    KeyFile(PathBuf),
}

/// Which of them a home expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A PIN.
    Pin,
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
}

impl Protection {
    /// As `account show` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key_file",
        }
    }

    /// The reverse of [`Protection::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pin, Self::Passphrase, Self::KeyFile]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// What `init` needs to know.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// What invites call the person; at most 64 bytes. Published nowhere else.
    pub name: Option<String>,
    /// Inbox relays of the circle `personal`; may be none, to be added later.
    pub relays: Vec<RelayUrl>,
    /// Codes that let the account join some of those relays.
    pub invites: Vec<(RelayUrl, InviteCode)>,
    /// File servers of the circle `personal`.
    pub file_servers: Vec<Origin>,
    /// How many words a new seed has.
    pub words: WordCount,
    /// The words of an account that exists: it is restored from its relays, which must be named.
    pub restore: Option<SecretText>,
    /// Whether the answer carries the words.
    pub show_words: bool,
    /// How much work a PIN costs. Tests pass less than the default.
    pub argon2: Argon2Params,
}

/// Told how far a transfer is. Bytes count the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Up or down.
    pub is_upload: bool,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Called from the tasks that transfer.
pub type TransferObserver = Arc<dyn Fn(Transfer) + Send + Sync>;

/// Makes the randomness of one client; called once per [`Client`](super::Client).
pub type RngSource = Arc<dyn Fn() -> Box<dyn CryptoRng + Send> + Send + Sync>;

/// What the world is like. The default is the system clock, the operating system's randomness,
/// the open network, and 30 seconds.
#[derive(Clone)]
pub struct Settings {
    /// How long a verb that touches the network may take in all.
    pub timeout: Duration,
    /// How long the network may keep silent.
    pub timeouts: Timeouts,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: RngSource,
    /// Opens the connections; the default one trusts the web's root certificates.
    pub dialer: Option<Dialer>,
    /// Told how far transfers are.
    pub on_transfer: Option<TransferObserver>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            timeouts: Timeouts::default(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(|| Box::new(rand::rand_core::UnwrapErr(SysRng))),
            dialer: None,
            on_transfer: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What was done, and the error beside it when it was done only partly (the object on stdout
/// *and* the error on stderr).
#[derive(Debug, Clone)]
#[must_use]
pub struct Outcome<T> {
    /// What was stored or done.
    pub value: T,
    /// Why it is not all that was asked for.
    pub error: Option<Error>,
}

impl<T> Outcome<T> {
    /// Done in full.
    pub fn done(value: T) -> Self {
        Self { value, error: None }
    }

    /// Done in part.
    pub fn partly(value: T, error: Error) -> Self {
        Self {
            value,
            error: Some(error),
        }
    }
}

/// One file to send.
pub struct FileSource {
    /// Where its bytes come from.
    pub content: FileContent,
    /// Its name for the recipient; a path's own base name if absent, `stdin` for a reader.
    pub name: Option<String>,
}

/// Where a file's bytes come from.
pub enum FileContent {
    /// A file on this machine.
    Path(PathBuf),
    /// A stream of unknown length; it is copied into the spool, encrypted, before it is sent.
    Reader(Box<dyn Read + Send>),
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").finish_non_exhaustive()
    }
}

/// What `send` needs to know.
#[derive(Debug)]
pub struct SendRequest {
    /// Alias, npub, nprofile, hex key or invite link.
    pub to: String,
    /// The text. With [`SendRequest::as_file`] it is sent as a text file instead.
    pub text: Option<String>,
    /// One message each, after the text.
    pub files: Vec<FileSource>,
    /// Send the text as a file, because it is too long or no text.
    pub as_file: bool,
    /// What that file is called.
    pub name: Option<String>,
    /// Leave location and camera metadata in pictures.
    pub keep_metadata: bool,
    /// The message that is answered: its id, or 8 or more of its first characters.
    pub reply_to: Option<String>,
    /// Vanishes after so many seconds; the circle's or conversation's own if absent.
    pub expire_s: Option<u64>,
    /// Let the account's key AUTH on the recipient's relays.
    pub as_myself: bool,
    /// What counts as done.
    pub wait: WaitLevel,
    /// How long to wait for that; the settings' timeout if absent.
    pub wait_for: Option<Duration>,
    /// Sending again under the same key gives the first message's state and sends nothing.
    pub idempotency_key: Option<String>,
}

impl SendRequest {
    /// A text to somebody, accepted by at least one relay.
    pub fn text(to: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            text: Some(text.into()),
            files: Vec::new(),
            as_file: false,
            name: None,
            keep_metadata: false,
            reply_to: None,
            expire_s: None,
            as_myself: false,
            wait: WaitLevel::Accepted,
            wait_for: None,
            idempotency_key: None,
        }
    }
}

/// Where a fetched file goes.
pub enum FileTarget {
    /// Into a folder, under a safe name that is not taken.
    Folder(PathBuf),
    /// To exactly this path.
    Path {
        /// Where.
        path: PathBuf,
        /// Whether to replace what is there.
        force: bool,
    },
    /// To a stream, once it was checked in full.
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for FileTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileTarget")
    }
}

/// A new circle, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct NewCircle {
    /// Its name.
    pub name: String,
    /// Its own inbox relays; at least one.
    pub relays: Vec<RelayUrl>,
    /// Codes that let the circle's account join some of them.
    pub invites: Vec<(RelayUrl, InviteCode)>,
    /// Its own file servers.
    pub file_servers: Vec<Origin>,
    /// How long its messages live, seconds.
    pub expire_s: Option<u64>,
}
