//! Accept or refuse: every rule of the relay that needs no store, in the order it is applied.
//!
//! Pure: the same event, keys, rules and second give the same verdict, so a model of the relay
//! (`crate::model`) runs exactly this code. The rules' ids are explained in
//! `docs/behaviour/relay.md`.

use std::collections::BTreeSet;

use wire::event::Tags;
use wire::{Event, Filter, OkMessage, PublicKey, Reason, RelayUrl, kinds, limits};

/// How far the clock of an AUTH event may be off, in seconds (NIP-42: about 10 minutes).
const AUTH_WINDOW_SECONDS: u64 = 600;

/// The kinds that are not for everybody's eyes.
pub const GUARDED: [u16; 3] = [kinds::LEGACY_DM, kinds::WRAP, kinds::EPHEMERAL_WRAP];

/// What is accepted from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Who may write.
    pub writers: Writers,
    /// How many seconds old a wrap may be; none: any age.
    pub wrap_past: Option<u64>,
    /// How many seconds ahead the time of an event may lie.
    pub future: u64,
    /// Stored wraps per recipient; none: no limit.
    pub wraps_per_recipient: Option<u64>,
    /// Bytes of stored wraps per recipient; none: no limit.
    pub bytes_per_recipient: Option<u64>,
    /// The largest event, bytes of JSON.
    pub event_bytes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            writers: Writers::Anybody,
            wrap_past: Some(limits::WRAP_PAST_SECONDS),
            future: limits::WRAP_FUTURE_SECONDS,
            wraps_per_recipient: Some(1_000_000),
            bytes_per_recipient: Some(8 * 1024 * 1024 * 1024),
            event_bytes: limits::EVENT_BYTES,
        }
    }
}

impl Rules {
    /// From when on a wrap that arrives at `now` or before can no longer be accepted; a memory
    /// that keeps it away may be dropped then. None where wraps of any age are accepted.
    pub fn wrap_window_end(&self, now: u64) -> Option<u64> {
        self.wrap_past
            .map(|past| now.saturating_add(past).saturating_add(self.future))
    }
}

/// Who may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writers {
    /// Everybody.
    Anybody,
    /// These keys, once authenticated; and everybody who writes a wrap to one of them.
    Members(BTreeSet<PublicKey>),
}

/// What to do with an event that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it and pass it on.
    Store,
    /// Pass it on and forget it (ephemeral kinds, NIP-01).
    Pass,
    /// A deletion request (NIP-09).
    Delete {
        /// Where its sender may write nothing else here: the refusal that it gets unless it
        /// names something stored that is theirs to delete.
        unless_own: Option<Refusal>,
    },
    /// A request to vanish (NIP-62) that names this relay.
    Vanish,
}

/// Why an event, a subscription or an authentication was refused. The text goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// R-SIZE-1
    #[error("the event is larger than this relay takes")]
    TooLarge,
    /// R-KIND-1: seals, and rumors that somebody signed.
    #[error("this kind belongs inside a gift wrap, never on a relay")]
    InnerKind,
    /// R-KIND-2: an AUTH event sent as EVENT.
    #[error("kind 22242 goes into an AUTH message")]
    AuthAsEvent,
    /// R-WRAP-1: not exactly one valid `p`.
    #[error("a gift wrap names exactly one recipient in a p tag")]
    WrapRecipient,
    /// R-WRAP-2: older than the window.
    #[error("the gift wrap is older than this relay accepts")]
    WrapTooOld,
    /// R-TIME-1: dated ahead.
    #[error("the event is dated too far in the future")]
    FromTheFuture,
    /// R-EXP-1: expired on arrival.
    #[error("the event has expired")]
    Expired,
    /// R-PROT-1 without AUTH.
    #[error("this event may only be published by its author")]
    ProtectedNeedsAuth,
    /// R-PROT-1 with another key.
    #[error("this event may only be published by its author")]
    ProtectedFromOther,
    /// R-MEMB-1 without AUTH.
    #[error("only members may write here")]
    MembersNeedAuth,
    /// R-MEMB-1 with a key that is not listed.
    #[error("only members may write here")]
    NotAMember,
    /// R-VAN-1: a vanish request for other relays.
    #[error("the request to vanish does not name this relay")]
    VanishElsewhere,
    /// R-DEL-1: a deletion that names nothing.
    #[error("the deletion names no event")]
    DeletesNothing,
    /// R-DEL-2: the event was deleted before.
    #[error("the event was deleted")]
    Deleted,
    /// R-VAN-2: its author vanished after writing it.
    #[error("its author asked to vanish")]
    Vanished,
    /// R-QUOTA-1
    #[error("the recipient's mailbox is full")]
    MailboxFull,
    /// R-AUTH-2: guarded kinds asked for without AUTH.
    #[error("this subscription could match messages that only their recipient may read")]
    ReadNeedsAuth,
    /// R-AUTH-3: wrong kind.
    #[error("an AUTH event has kind 22242")]
    AuthKind,
    /// R-AUTH-3: another challenge.
    #[error("the challenge is not the one of this connection")]
    AuthChallenge,
    /// R-AUTH-3: another relay's URL.
    #[error("the relay tag names another relay")]
    AuthRelay,
    /// R-AUTH-3: too old or too new.
    #[error("the AUTH event is dated more than 10 minutes from now")]
    AuthTime,
    /// R-AUTH-4
    #[error("too many AUTH attempts on this connection")]
    AuthTries,
}

impl Refusal {
    /// The standard prefix for it (NIP-01, NIP-42).
    pub fn reason(self) -> Reason {
        match self {
            Self::ProtectedNeedsAuth | Self::MembersNeedAuth | Self::ReadNeedsAuth => {
                Reason::AuthRequired
            }
            Self::ProtectedFromOther
            | Self::NotAMember
            | Self::AuthKind
            | Self::AuthChallenge
            | Self::AuthRelay
            | Self::AuthTime => Reason::Restricted,
            Self::AuthTries => Reason::RateLimited,
            Self::Deleted | Self::Vanished | Self::MailboxFull => Reason::Blocked,
            _ => Reason::Invalid,
        }
    }

    /// As OK and CLOSED carry it.
    pub fn message(self) -> OkMessage {
        OkMessage::new(self.reason(), &self.to_string())
    }
}

/// The names that a relay goes by.
#[derive(Debug, Clone, Default)]
pub struct OwnUrls(Vec<RelayUrl>);

impl OwnUrls {
    /// The configured URLs and the loopback names with `port`.
    pub fn new(configured: &[RelayUrl], port: u16) -> Self {
        let loopback = ["127.0.0.1", "localhost", "[::1]"]
            .into_iter()
            .filter_map(|host| RelayUrl::parse(&format!("ws://{host}:{port}")).ok());
        Self(configured.iter().cloned().chain(loopback).collect())
    }

    /// Whether `text` is one of them, in any spelling.
    pub fn contains(&self, text: &str) -> bool {
        RelayUrl::parse(text).is_ok_and(|url| self.0.contains(&url))
    }
}

/// Decides about a verified event. `auth` are the keys that its sender has authenticated.
pub fn judge(
    event: &Event,
    auth: &[PublicKey],
    now: u64,
    rules: &Rules,
    own: &OwnUrls,
) -> Result<Verdict, Refusal> {
    let kind = event.kind();
    if event.json().len() > rules.event_bytes {
        return Err(Refusal::TooLarge);
    }
    if matches!(kind, kinds::SEAL | kinds::TEXT | kinds::FILE) {
        return Err(Refusal::InnerKind);
    }
    if kind == kinds::CLIENT_AUTH {
        return Err(Refusal::AuthAsEvent);
    }
    let recipient = match kinds::is_wrap(kind) {
        true => Some(sole_recipient(event.tags()).ok_or(Refusal::WrapRecipient)?),
        false => None,
    };
    if event.created_at() > now.saturating_add(rules.future) {
        return Err(Refusal::FromTheFuture);
    }
    let is_old = |past: u64| event.created_at().saturating_add(past) < now;
    if recipient.is_some() && rules.wrap_past.is_some_and(is_old) {
        return Err(Refusal::WrapTooOld);
    }
    if is_expired(event, now) {
        return Err(Refusal::Expired);
    }
    if event.tags().find("-").is_some() && !auth.contains(&event.pubkey()) {
        return Err(match auth {
            [] => Refusal::ProtectedNeedsAuth,
            _ => Refusal::ProtectedFromOther,
        });
    }
    // What its author wants gone goes, under every policy (R-DEL-3, R-VAN-1).
    let member = may_write(&rules.writers, auth, recipient);
    match kind {
        kinds::DELETION => {
            let names_something = event
                .tags()
                .iter()
                .any(|tag| matches!(tag.name(), "e" | "a"));
            if !names_something {
                return Err(Refusal::DeletesNothing);
            }
            return Ok(Verdict::Delete {
                unless_own: member.err(),
            });
        }
        kinds::VANISH => {
            let here = |text: &str| text == "ALL_RELAYS" || own.contains(text);
            return match event.tags().values("relay").any(here) {
                true => Ok(Verdict::Vanish),
                false => Err(Refusal::VanishElsewhere),
            };
        }
        _ => {}
    }
    member?;
    match kinds::is_ephemeral(kind) {
        true => Ok(Verdict::Pass),
        false => Ok(Verdict::Store),
    }
}

fn may_write(
    writers: &Writers,
    auth: &[PublicKey],
    recipient: Option<PublicKey>,
) -> Result<(), Refusal> {
    let Writers::Members(members) = writers else {
        return Ok(());
    };
    if recipient.is_some_and(|key| members.contains(&key))
        || auth.iter().any(|key| members.contains(key))
    {
        return Ok(());
    }
    match auth {
        [] => Err(Refusal::MembersNeedAuth),
        _ => Err(Refusal::NotAMember),
    }
}

/// The key in the only `p` tag, if there is exactly one and it is a point of the curve.
pub fn sole_recipient(tags: &Tags) -> Option<PublicKey> {
    let mut named = tags.iter().filter(|tag| tag.name() == "p");
    let only = named.next()?;
    if named.next().is_some() {
        return None;
    }
    PublicKey::from_hex(only.value()?)
        .ok()
        .filter(PublicKey::is_on_curve)
}

/// Whether the event is past its expiration at `now` (NIP-40).
pub fn is_expired(event: &Event, now: u64) -> bool {
    event.expiration().is_some_and(|at| at <= now)
}

/// The read predicate: whether somebody who authenticated `auth` may see the event. History,
/// counts, reconciliations and live delivery all ask it for every event, and nothing else decides.
pub fn may_read(event: &Event, auth: &[PublicKey]) -> bool {
    match event.kind() {
        kinds::WRAP | kinds::EPHEMERAL_WRAP => {
            sole_recipient(event.tags()).is_some_and(|key| auth.contains(&key))
        }
        kinds::LEGACY_DM => {
            auth.contains(&event.pubkey()) || event.tags().people().any(|key| auth.contains(&key))
        }
        _ => true,
    }
}

/// Whether the subscription, count or reconciliation may be opened at all: one that could match guarded kinds waits for
/// AUTH, so that a client never takes silence for an empty inbox.
pub fn may_ask(filters: &[Filter], auth: &[PublicKey]) -> Result<(), Refusal> {
    let could_match_guarded = filters.iter().any(|filter| {
        filter
            .kinds
            .as_ref()
            .is_none_or(|kinds| GUARDED.iter().any(|kind| kinds.contains(kind)))
    });
    match auth {
        [] if could_match_guarded => Err(Refusal::ReadNeedsAuth),
        _ => Ok(()),
    }
}

/// Checks a verified AUTH event (NIP-42); the key that it proves.
pub fn check_auth(
    event: &Event,
    challenge: &str,
    own: &OwnUrls,
    now: u64,
) -> Result<PublicKey, Refusal> {
    if event.kind() != kinds::CLIENT_AUTH {
        return Err(Refusal::AuthKind);
    }
    if event.tags().value("challenge") != Some(challenge) {
        return Err(Refusal::AuthChallenge);
    }
    if !event
        .tags()
        .value("relay")
        .is_some_and(|url| own.contains(url))
    {
        return Err(Refusal::AuthRelay);
    }
    if event.created_at().abs_diff(now) > AUTH_WINDOW_SECONDS {
        return Err(Refusal::AuthTime);
    }
    Ok(event.pubkey())
}
