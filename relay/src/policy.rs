//! Accept or refuse: every rule of the relay that needs no store, in the order it is applied.
//!
//! Pure: the same event, keys, rules and second give the same verdict, so a model of the relay
//! (`crate::model`) runs exactly this code. The rules' ids are explained in
//! `docs/behaviour/relay.md`.

mod refusal;
mod wish;
mod work;

use std::collections::BTreeSet;

use wire::event::Tags;
use wire::filter::Values;
use wire::{Event, Filter, PublicKey, RelayUrl, kinds, limits};

use crate::curve;
use crate::roster::Roster;

pub use refusal::Refusal;
pub use wish::Wish;
pub use work::{Work, WorkOf, difficulty};

/// How far the clock of an AUTH event may be off, in seconds (NIP-42: about 10 minutes).
pub const AUTH_WINDOW_SECONDS: u64 = 600;

/// The kinds that are not for everybody's eyes.
pub const GUARDED: [u16; 3] = [kinds::LEGACY_DM, kinds::WRAP, kinds::EPHEMERAL_WRAP];

/// Whether the kind is one of them.
pub fn is_guarded(kind: u16) -> bool {
    GUARDED.contains(&kind)
}

/// What is accepted from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Who may write.
    pub writers: Writers,
    /// The kinds that are taken, beside deletions and requests to vanish; none: any.
    pub kinds: Option<BTreeSet<u16>>,
    /// The work that is asked for; none: none.
    pub work: Option<Work>,
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
            kinds: None,
            work: None,
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

impl Writers {
    /// The keys that the configuration lists; none: it lists nobody because everybody may write.
    pub fn listed(&self) -> Option<&BTreeSet<PublicKey>> {
        match self {
            Self::Anybody => None,
            Self::Members(listed) | Self::Recipients(listed) => Some(listed),
        }
    }

    /// Whether the configuration lists the key.
    pub fn lists(&self, key: &PublicKey) -> bool {
        self.listed().is_some_and(|listed| listed.contains(key))
    }
}

/// What a verdict depends on, beside the event, its sender and the hour.
#[derive(Debug, Clone, Copy)]
pub struct Law<'l> {
    /// As configured.
    pub rules: &'l Rules,
    /// As decided at run time.
    pub roster: &'l Roster,
    /// The names that the relay goes by.
    pub own: &'l OwnUrls,
}

/// Who may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writers {
    /// Everybody.
    Anybody,
    /// These keys, once authenticated; and everybody who writes a wrap to one of them.
    Members(BTreeSet<PublicKey>),
    /// Everybody who writes a wrap to one of these keys; and of other events those that one of
    /// them signed. Nobody need authenticate.
    Recipients(BTreeSet<PublicKey>),
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

/// The names that a relay goes by.
#[derive(Debug, Clone, Default)]
pub struct OwnUrls(Vec<RelayUrl>);

impl OwnUrls {
    /// The relay's public URLs and the loopback names with `port`, with TLS or without.
    pub fn new(public: &[RelayUrl], port: u16) -> Self {
        let loopback = ["127.0.0.1", "localhost", "[::1]"]
            .into_iter()
            .flat_map(|host| ["ws", "wss"].map(|scheme| format!("{scheme}://{host}:{port}")))
            .filter_map(|url| RelayUrl::parse(&url).ok());
        Self(public.iter().cloned().chain(loopback).collect())
    }

    /// Whether one of them has this path; `/` is always one.
    pub fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.0.iter().any(|url| url.path() == path)
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
    law: Law<'_>,
) -> Result<Verdict, Refusal> {
    let Law { rules, roster, own } = law;
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
    // Whoever may redeem an invite would otherwise show it to everybody.
    if matches!(kind, kinds::JOIN | kinds::LEAVE) {
        return Err(Refusal::WishNotPassedOn);
    }
    let recipient = match kinds::is_wrap(kind) {
        true => Some(
            sole_recipient(event.tags())
                .filter(curve::is_on_curve)
                .ok_or(Refusal::WrapRecipient)?,
        ),
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
    if is_protected_repost(event) {
        return Err(Refusal::ProtectedRepost);
    }
    if roster.bans_event(&event.id()) {
        return Err(Refusal::BannedEvent);
    }
    // What its author wants gone goes, under every policy (R-DEL-3, R-VAN-1).
    let allowed = match roster.allows_event(&event.id()) {
        true => Ok(()),
        false => may_write(event, auth, recipient, law),
    };
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
                unless_own: allowed.err(),
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
    allowed?;
    match kinds::is_ephemeral(kind) {
        true => Ok(Verdict::Pass),
        false => Ok(Verdict::Store),
    }
}

/// What an operator's choice may forbid, but to take away one's own. Kinds and work play no part for
/// deletions at all: one that is refused because its target is not here yet (R-DEL-2), or not any
/// more where it is imported, would let the target come back.
fn may_write(
    event: &Event,
    auth: &[PublicKey],
    recipient: Option<PublicKey>,
    law: Law<'_>,
) -> Result<(), Refusal> {
    let Law { rules, roster, .. } = law;
    if roster.is_banned(&event.pubkey()) || auth.iter().any(|key| roster.is_banned(key)) {
        return Err(Refusal::Banned);
    }
    if recipient.is_some_and(|key| roster.is_banned(&key)) {
        return Err(Refusal::BannedRecipient);
    }
    let is_deletion = event.kind() == kinds::DELETION;
    if !is_deletion && !roster.takes_kind(event.kind(), rules.kinds.as_ref()) {
        return Err(Refusal::KindNotTaken);
    }
    let lists = |key: &PublicKey| rules.writers.lists(key) || roster.is_member(key);
    match &rules.writers {
        Writers::Anybody => {}
        Writers::Members(_) => {
            if !recipient.is_some_and(|key| lists(&key)) && !auth.iter().any(lists) {
                return Err(match auth {
                    [] => Refusal::MembersNeedAuth,
                    _ => Refusal::NotAMember,
                });
            }
        }
        Writers::Recipients(_) => match recipient {
            Some(key) if !lists(&key) => return Err(Refusal::UnlistedRecipient),
            None if !lists(&event.pubkey()) => return Err(Refusal::UnlistedAuthor),
            _ => {}
        },
    }
    match rules.work {
        _ if is_deletion => Ok(()),
        Some(work) if work.of == WorkOf::Everything => work.check(event),
        // Any other key is drawn in a moment.
        Some(work) if recipient.is_some() && !auth.iter().any(lists) => work.check(event),
        _ => Ok(()),
    }
}

/// Whether it is a repost that carries a protected event (NIP-70): whoever reads it could publish
/// that one elsewhere.
fn is_protected_repost(event: &Event) -> bool {
    if !matches!(event.kind(), kinds::REPOST | kinds::GENERIC_REPOST) {
        return false;
    }
    let carried = Event::decode(event.content().as_bytes().to_vec().into());
    carried.is_ok_and(|carried| carried.tags().find("-").is_some())
}

/// The key in the only `p` tag, if there is exactly one. [`judge`] takes no wrap whose key is not
/// a point of the curve, so whoever asks about a stored one need not take its root again.
pub fn sole_recipient(tags: &Tags) -> Option<PublicKey> {
    let mut named = tags.iter().filter(|tag| tag.name() == "p");
    let only = named.next()?;
    if named.next().is_some() {
        return None;
    }
    PublicKey::from_hex(only.value()?).ok()
}

/// Whether the event is past its expiration at `now` (NIP-40).
pub fn is_expired(event: &Event, now: u64) -> bool {
    event.expiration().is_some_and(|at| at <= now)
}

/// Who may see an event: the read predicate. History, counts, reconciliations and live delivery
/// all ask it for every event, and nothing else decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Everybody, authenticated or not.
    Everybody,
    /// Whoever proved one of these keys.
    Only(Vec<PublicKey>),
}

impl Readers {
    /// Of any event.
    pub fn of(event: &Event) -> Self {
        match event.kind() {
            kinds::WRAP | kinds::EPHEMERAL_WRAP => Self::of_wrap(sole_recipient(event.tags())),
            kinds::LEGACY_DM => {
                let people = event.tags().people();
                Self::Only(people.chain([event.pubkey()]).collect())
            }
            _ => Self::Everybody,
        }
    }

    /// Of a wrap for this recipient; of one without, nobody.
    pub fn of_wrap(recipient: Option<PublicKey>) -> Self {
        Self::Only(recipient.into_iter().collect())
    }

    /// Whether somebody who authenticated `auth` is among them.
    pub fn include(&self, auth: &[PublicKey]) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(keys) => keys.iter().any(|key| auth.contains(key)),
        }
    }
}

/// Whether somebody who authenticated `auth` may see the event.
pub fn may_read(event: &Event, auth: &[PublicKey]) -> bool {
    Readers::of(event).include(auth)
}

/// Whether the subscription, count or reconciliation may be opened at all: one that could match
/// guarded kinds waits for AUTH, and one that asks for the wraps of others alone for theirs, so that
/// a client never takes silence for an empty inbox.
pub fn may_ask(filters: &[Filter], auth: &[PublicKey]) -> Result<(), Refusal> {
    let is_refused = |filter: &Filter| match auth {
        [] => could_match_guarded(filter),
        _ => asks_for_others_wraps_alone(filter, auth),
    };
    match filters.iter().any(is_refused) {
        true => Err(Refusal::ReadNeedsAuth),
        false => Ok(()),
    }
}

/// Whether something may match that is not shown, and would be if another key were proved: then it
/// is not for the relay to say that all of it was sent.
pub fn may_hide(filter: &Filter, auth: &[PublicKey]) -> bool {
    let others = |people: &Values<String>| people.iter().any(|key| !is_proved(key, auth));
    could_match_guarded(filter) && filter.tags.get('p').is_some_and(others)
}

fn could_match_guarded(filter: &Filter) -> bool {
    let guarded = |kinds: &Values<u16>| GUARDED.iter().any(|kind| kinds.contains(kind));
    filter.kinds.as_ref().is_none_or(guarded)
}

fn asks_for_others_wraps_alone(filter: &Filter, auth: &[PublicKey]) -> bool {
    let wraps = |kinds: &Values<u16>| kinds.iter().all(|kind| kinds::is_wrap(*kind));
    let others = |people: &Values<String>| people.iter().all(|key| !is_proved(key, auth));
    let (kinds, people) = (filter.kinds.as_ref(), filter.tags.get('p'));
    // Of nothing nobody has any.
    let is_empty = kinds.is_some_and(Values::is_empty) || people.is_some_and(Values::is_empty);
    !is_empty && kinds.is_some_and(wraps) && people.is_some_and(others)
}

fn is_proved(key: &str, auth: &[PublicKey]) -> bool {
    PublicKey::from_hex(key).is_ok_and(|key| auth.contains(&key))
}

/// What the `OK` says to whoever has proved `key`; mostly nothing. A key that is no member may read
/// what waits for it, so its proof counts; but nothing new is taken for it, which its owner would
/// learn from nobody else.
pub fn caveat(key: &PublicKey, law: Law<'_>) -> String {
    let writers = &law.rules.writers;
    let has_mailbox =
        *writers == Writers::Anybody || writers.lists(key) || law.roster.is_member(key);
    match has_mailbox {
        true => String::new(),
        false => Refusal::NoMailbox.message().text,
    }
}

/// Checks a verified AUTH event (NIP-42); the key that it proves.
pub fn check_auth(
    event: &Event,
    challenge: &str,
    now: u64,
    law: Law<'_>,
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
        .is_some_and(|url| law.own.contains(url))
    {
        return Err(Refusal::AuthRelay);
    }
    if event.created_at().abs_diff(now) > AUTH_WINDOW_SECONDS {
        return Err(Refusal::AuthTime);
    }
    if law.roster.is_banned(&event.pubkey()) {
        return Err(Refusal::AuthBanned);
    }
    Ok(event.pubkey())
}
