//! One error type for every face of the client: a stable word, an exit code, and advice.

use std::fmt;

/// The stable words of `sotto.error/1`. Scripts match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorWord {
    /// The request itself makes no sense.
    Usage,
    /// A malformed key or link.
    BadKey,
    /// Seed words that are none.
    BadWords,
    /// A PIN, passphrase or key file is needed.
    Locked,
    /// The wrong one was given.
    PinWrong,
    /// Too many wrong tries; wait.
    PinLocked,
    /// The own inbox relay refused the account's AUTH.
    AuthRefused,
    /// A relay or file server could not be reached.
    Unreachable,
    /// `--timeout` or `--wait` ran out.
    Timeout,
    /// Some of it was done.
    PartlyDone,
    /// A key is not the one that was trusted.
    KeyChanged,
    /// No such contact, message, circle, file or account.
    NotFound,
    /// The state does not allow it: a name taken, an account that is there already.
    Conflict,
    /// The recipient has no inbox relay list.
    NoInboxRelays,
    /// The contact is blocked.
    Blocked,
    /// The message has expired.
    Expired,
    /// Relays or file servers refused for good.
    Refused,
    /// Too large for the way it was to be sent.
    TooLarge,
    /// Too fast for a server.
    RateLimited,
    /// A signature, hash or file is not what it should be.
    Integrity,
    /// The local store is damaged.
    StoreDamaged,
    /// The disk is full.
    DiskFull,
    /// Ctrl-C.
    Interrupted,
    /// A bug or an unforeseen failure of the system.
    Internal,
}

impl ErrorWord {
    /// The word as scripts see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::BadKey => "bad_key",
            Self::BadWords => "bad_words",
            Self::Locked => "locked",
            Self::PinWrong => "pin_wrong",
            Self::PinLocked => "pin_locked",
            Self::AuthRefused => "auth_refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::PartlyDone => "partly_done",
            Self::KeyChanged => "key_changed",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::NoInboxRelays => "no_inbox_relays",
            Self::Blocked => "blocked",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Integrity => "integrity",
            Self::StoreDamaged => "store_damaged",
            Self::DiskFull => "disk_full",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// The exit code that the word usually means; [`Error::exit`] may differ (a text that is too
    /// large is a usage error, a file that is too large for the peer is a refusal).
    pub fn exit(self) -> u8 {
        match self {
            Self::DiskFull | Self::Internal => 1,
            Self::Usage | Self::BadKey | Self::BadWords => 2,
            Self::Unreachable => 3,
            Self::Locked | Self::PinWrong | Self::AuthRefused => 4,
            Self::PartlyDone => 5,
            Self::KeyChanged => 6,
            Self::NotFound => 7,
            Self::PinLocked | Self::RateLimited => 8,
            Self::Conflict => 9,
            Self::NoInboxRelays
            | Self::Blocked
            | Self::Expired
            | Self::Refused
            | Self::TooLarge => 10,
            Self::Integrity | Self::StoreDamaged => 11,
            Self::Timeout => 124,
            Self::Interrupted => 130,
        }
    }
}

/// What went wrong, for people and for scripts. Texts name rules and places, never secrets,
/// and never quote what a peer or server sent without the printer that makes it harmless.
#[derive(Debug, Clone)]
pub struct Error {
    /// The stable word.
    pub word: ErrorWord,
    /// The exit code.
    pub exit: u8,
    /// One sentence: what happened.
    pub detail: String,
    /// One sentence: what to do about it.
    pub hint: Option<String>,
    /// Seconds until it makes sense to try again, after wrong PINs and rate limits.
    pub retry_after_s: Option<u64>,
}

/// Results of the client.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its word's usual exit code.
    pub fn new(word: ErrorWord, detail: impl Into<String>) -> Self {
        Self {
            word,
            exit: word.exit(),
            detail: detail.into(),
            hint: None,
            retry_after_s: None,
        }
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code than the word's usual one.
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// When to try again, in seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let word = match error.kind() {
            // A limit on the size of files (EFBIG) leaves no more room than a full disk does.
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => ErrorWord::DiskFull,
            std::io::ErrorKind::NotFound => ErrorWord::NotFound,
            _ => ErrorWord::Internal,
        };
        Self::new(word, error.to_string())
    }
}
