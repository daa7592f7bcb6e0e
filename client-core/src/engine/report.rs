//! What became of what was sent or deleted. Built only from what is known.

use std::collections::BTreeMap;

use rusqlite::Connection;
use wire::{EventId, PublicKey};

use crate::engine::machine::{Engine, Op};
use crate::engine::outbox::says_too_large;
use crate::engine::send::{CANCELLED, EXPIRED, NO_INBOX};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{
    self, BlobState, DeletionRow, EnvelopeRow, MessageRow, OutboxRow, PlaceRow, Purpose,
    RecipientRow, RowState, SentRow, Store,
};
use crate::view::{
    DeletedView, ErasedView, OutboxView, PeerErasedView, RecipientView, RelayOutcome, SentView,
    StatusView,
};

/// How far a command waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitLevel {
    /// It is in the outbox.
    Queued,
    /// One relay of each recipient said OK.
    Accepted,
    /// Two did, or all that can be reached.
    Stored,
    /// Each recipient's client said so.
    Delivered,
    /// Each recipient has seen it.
    Read,
}

/// How far something is.
#[derive(Debug, Clone)]
pub enum Progress {
    /// As far as was asked.
    Reached,
    /// Answers are still to come.
    Pending,
    /// It got no further now; the error has the word and the exit code of `cli.md`. What can be
    /// tried again is still in the outbox.
    Failed(Error),
}

/// Where a message stands for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Refused,
    Queued,
    Accepted,
    Stored,
    Delivered,
    Read,
}

/// What is known about a message and one recipient.
struct Fate {
    pubkey: PublicKey,
    stage: Stage,
    /// [`RecipientRow::refusal`].
    refusal: Option<String>,
    /// Latest row of each relay.
    rows: Vec<OutboxRow>,
    is_routed: bool,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Queued => "queued",
            Self::Accepted => "accepted",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

fn starts(refusal: Option<&String>, word: &str) -> bool {
    refusal.is_some_and(|refusal| refusal.starts_with(word))
}

impl Fate {
    fn of(connection: &Connection, sent: &SentRow, recipient: RecipientRow) -> Result<Self> {
        let mut rows: BTreeMap<String, OutboxRow> = BTreeMap::new();
        let mut is_routed = true;
        for envelope in EnvelopeRow::of_message(connection, &sent.id, Purpose::Wrap)? {
            if envelope.inbox != recipient.pubkey {
                continue;
            }
            is_routed &= envelope.is_routed;
            // Attempts come in order, so the last one of each relay stays, unless an earlier one
            // was taken.
            for row in OutboxRow::of_event(connection, &envelope.id)? {
                let key = row.relay.to_string();
                let is_taken = |old: &OutboxRow| old.state == RowState::Accepted;
                if !rows.get(&key).is_some_and(is_taken) {
                    rows.insert(key, row);
                }
            }
        }
        let rows: Vec<OutboxRow> = rows.into_values().collect();
        let has = |status| store::has_receipt(connection, &sent.id, &recipient.pubkey, status);
        let accepted = rows
            .iter()
            .filter(|r| r.state == RowState::Accepted)
            .count();
        let is_away = |r: &&OutboxRow| r.state != RowState::Accepted && r.last != "unreachable";
        let stage = if has("read")? {
            Stage::Read
        } else if has("delivered")? {
            Stage::Delivered
        } else if recipient.refusal.is_some() {
            Stage::Refused
        } else if !sent.is_here {
            Stage::Accepted
        } else if accepted >= 2 || (accepted == 1 && !rows.iter().any(|r| is_away(&r))) {
            Stage::Stored
        } else if accepted == 1 {
            Stage::Accepted
        } else if is_routed && rows.iter().all(|r| r.state == RowState::Refused) {
            Stage::Refused
        } else {
            Stage::Queued
        };
        Ok(Self {
            pubkey: recipient.pubkey,
            stage,
            refusal: recipient.refusal,
            rows,
            is_routed,
        })
    }

    fn all(connection: &Connection, sent: &SentRow) -> Result<Vec<Self>> {
        RecipientRow::of(connection, &sent.id)?
            .into_iter()
            .map(|recipient| Self::of(connection, sent, recipient))
            .collect()
    }

    fn status(&self) -> &'static str {
        if starts(self.refusal.as_ref(), EXPIRED) {
            "expired"
        } else if starts(self.refusal.as_ref(), CANCELLED) {
            "cancelled"
        } else {
            self.stage.name()
        }
    }

    fn view(&self) -> RecipientView {
        let mut relays: Vec<RelayOutcome> = self.rows.iter().map(outcome).collect();
        if let (Some(refusal), true) = (&self.refusal, relays.is_empty()) {
            relays.push(RelayOutcome {
                url: String::new(),
                ok: false,
                detail: refusal.clone(),
            });
            relays.retain(|relay| !relay.url.is_empty());
        }
        RecipientView {
            pubkey: self.pubkey.to_hex(),
            status: self.status(),
            relays,
        }
    }

    /// Whether something is under way that will change what is known.
    fn is_moving(&self, run: &super::machine::Run) -> bool {
        let is_new = |r: &OutboxRow| r.state == RowState::Queued && r.attempts == 0;
        let is_row_moving = |r: &OutboxRow| r.state == RowState::Sending || is_new(r);
        if self.stage == Stage::Refused {
            return false;
        }
        if !self.is_routed {
            return !run.failed_lookups.contains_key(&self.pubkey)
                || run.lookups.contains_key(&self.pubkey);
        }
        self.rows.iter().any(is_row_moving)
    }
}

fn outcome(row: &OutboxRow) -> RelayOutcome {
    let detail = match row.state {
        RowState::Queued if row.attempts == 0 => "queued".to_owned(),
        RowState::Sending if row.attempts <= 1 => "sending".to_owned(),
        RowState::Cancelled | RowState::Expired | RowState::GivenUp if row.detail.is_empty() => {
            row.state.name().to_owned()
        }
        RowState::Accepted if row.detail.is_empty() => "accepted".to_owned(),
        _ => row.detail.clone(),
    };
    RelayOutcome {
        url: row.relay.to_string(),
        ok: row.state == RowState::Accepted,
        detail,
    }
}

/// The status of one of our messages: the lowest of all recipients.
pub(crate) fn sent_status(connection: &Connection, sent: &SentRow) -> Result<&'static str> {
    let fates = Fate::all(connection, sent)?;
    let lowest = fates.iter().min_by_key(|fate| fate.stage);
    Ok(lowest.map_or("queued", Fate::status))
}

pub(crate) fn not_found() -> Error {
    Error::new(ErrorWord::NotFound, "no such message")
}

impl Engine {
    /// What became of one of our messages so far. `not_found` where it is not ours or unknown.
    pub fn sent(&self, store: &Store, id: EventId) -> Result<SentView> {
        let connection = store.connection();
        let sent = SentRow::find(connection, &id)?.ok_or_else(not_found)?;
        let fates = Fate::all(connection, &sent)?;
        let lowest = fates.iter().min_by_key(|fate| fate.stage);
        Ok(SentView {
            id: id.to_hex(),
            ids: Vec::new(),
            conversation: hex::encode(sent.conversation),
            status: lowest.map_or("queued", Fate::status),
            expires_at: sent.expires_at,
            recipients: fates.iter().map(Fate::view).collect(),
        })
    }

    /// Whether a message is as far as `wait` asks, or can get no further now. To be asked after
    /// each input until it is no longer pending.
    pub fn send_state(&self, store: &Store, id: EventId, wait: WaitLevel) -> Result<Progress> {
        let connection = store.connection();
        let sent = SentRow::find(connection, &id)?.ok_or_else(not_found)?;
        if wait == WaitLevel::Queued {
            return Ok(Progress::Reached);
        }
        let wanted = match wait {
            WaitLevel::Queued | WaitLevel::Accepted => Stage::Accepted,
            WaitLevel::Stored => Stage::Stored,
            WaitLevel::Delivered => Stage::Delivered,
            WaitLevel::Read => Stage::Read,
        };
        let fates = Fate::all(connection, &sent)?;
        if !fates.is_empty() && fates.iter().all(|fate| fate.stage >= wanted) {
            return Ok(Progress::Reached);
        }
        let places = PlaceRow::of_message(connection, &id)?;
        let is_there = places.iter().any(|p| p.state == BlobState::Stored);
        if !places.is_empty() && !is_there && fates.iter().any(|f| f.stage == Stage::Queued) {
            return Ok(upload_state(&places));
        }
        let needs_answer = |f: &Fate| f.stage >= Stage::Accepted && wanted >= Stage::Delivered;
        let is_moving = |f: &&Fate| f.stage < wanted && f.is_moving(&self.run);
        if fates.iter().any(|f| is_moving(&f)) || fates.iter().all(needs_answer) {
            return Ok(Progress::Pending);
        }
        Ok(Progress::Failed(self.failure(connection, &fates)?))
    }

    fn failure(&self, connection: &Connection, fates: &[Fate]) -> Result<Error> {
        if fates.iter().any(|fate| fate.stage >= Stage::Accepted) {
            return Ok(Error::new(
                ErrorWord::PartlyDone,
                "not every recipient's relay has taken it as far as was asked",
            ));
        }
        if let Some(fate) = fates.iter().find(|fate| fate.stage == Stage::Queued) {
            let detail = match fate.rows.iter().find(|row| !row.detail.is_empty()) {
                Some(row) => format!("{}: {}", row.relay, row.detail),
                None => store::lookup_detail(connection, &fate.pubkey)?.unwrap_or_default(),
            };
            let is_slow = |row: &OutboxRow| row.detail.starts_with("rate-limited");
            if !fate.rows.is_empty() && fate.rows.iter().all(is_slow) {
                return Ok(Error::new(ErrorWord::RateLimited, detail)
                    .retry_after(30)
                    .hint("it stays in the outbox"));
            }
            return Ok(Error::new(
                ErrorWord::Unreachable,
                format!("no relay of the recipient took it: {detail}"),
            )
            .hint("it stays in the outbox and is tried again by the next command"));
        }
        Ok(refusal(fates))
    }

    /// Whether everything that a deletion asked of servers was tried.
    pub fn deletion_settled(&self, store: &Store, id: EventId) -> Result<bool> {
        let connection = store.connection();
        let is_new = |r: &OutboxRow| r.state == RowState::Queued && r.attempts == 0;
        let mut envelopes = EnvelopeRow::of_message(connection, &id, Purpose::Deletion)?;
        if let Some(deletion) = DeletionRow::find(connection, &self.public_key(), &id)?
            && let Some(notice) = deletion.notice
        {
            envelopes.extend(EnvelopeRow::of_message(connection, &notice, Purpose::Wrap)?);
        }
        for envelope in envelopes {
            let is_lost = self.run.failed_lookups.contains_key(&envelope.inbox);
            if !envelope.is_routed && !is_lost && envelope.inbox != self.public_key() {
                return Ok(false);
            }
            let rows = OutboxRow::of_event(connection, &envelope.id)?;
            if rows
                .iter()
                .any(|r| r.state == RowState::Sending || is_new(r))
            {
                return Ok(false);
            }
        }
        let places = PlaceRow::of_message(connection, &id)?;
        let is_moving = |p: &PlaceRow| p.state.is_open() && (p.attempts == 0 || p.lease_until > 0);
        Ok(!places.iter().any(is_moving))
    }

    /// The report of a deletion as it stands now. `not_found` where nothing of that id was
    /// deleted or has vanished.
    pub fn deleted(&self, store: &Store, id: EventId) -> Result<DeletedView> {
        let connection = store.connection();
        let is_gone = MessageRow::by_id(connection, &id)?.is_none();
        let sent = SentRow::find(connection, &id)?;
        if !is_gone || (sent.is_none() && !DeletionRow::exists(connection, &id)?) {
            return Err(not_found());
        }
        let mut view = DeletedView {
            id: id.to_hex(),
            relays: erased_relays(connection, &id)?,
            file_servers: Vec::new(),
            peers: Vec::new(),
        };
        for place in PlaceRow::of_message(connection, &id)? {
            let erased = matches!(place.state, BlobState::Gone | BlobState::Never);
            let detail = match place.state {
                BlobState::Never => "it never had it".to_owned(),
                BlobState::Gone => "gone".to_owned(),
                _ if place.detail.is_empty() => "not asked yet".to_owned(),
                _ => place.detail,
            };
            view.file_servers.push(ErasedView {
                url: place.origin.to_string(),
                erased,
                detail,
            });
        }
        let own = self.public_key();
        let deletion = DeletionRow::find(connection, &own, &id)?;
        if deletion.is_some_and(|deletion| deletion.for_everyone) {
            for recipient in RecipientRow::of(connection, &id)? {
                if recipient.pubkey == own {
                    continue;
                }
                let confirmed = store::has_receipt(connection, &id, &recipient.pubkey, "deleted")?;
                view.peers.push(PeerErasedView {
                    pubkey: recipient.pubkey.to_hex(),
                    confirmed,
                });
            }
        }
        Ok(view)
    }

    /// How far a deletion is: fails with `unreachable` where no server could be asked, with
    /// `partly_done` where some did not erase.
    pub fn deletion_state(&self, store: &Store, id: EventId) -> Result<Progress> {
        if !self.deletion_settled(store, id)? {
            return Ok(Progress::Pending);
        }
        let view = self.deleted(store, id)?;
        let all: Vec<&ErasedView> = view.relays.iter().chain(&view.file_servers).collect();
        let Some(bad) = all.iter().find(|one| !one.erased) else {
            return Ok(Progress::Reached);
        };
        let detail = format!("{}: {}", bad.url, bad.detail);
        Ok(Progress::Failed(if all.iter().any(|one| one.erased) {
            Error::new(ErrorWord::PartlyDone, detail)
        } else {
            Error::new(ErrorWord::Unreachable, detail).hint("it is tried again by the next command")
        }))
    }

    /// What is known about a message: how it was sent, or, once it is gone, how it was deleted.
    pub fn status(&self, store: &Store, id: EventId) -> Result<StatusView> {
        let connection = store.connection();
        let message = MessageRow::by_id(connection, &id)?;
        let Some(message) = message else {
            return self.deleted(store, id).map(StatusView::Deleted);
        };
        if message.is_own {
            return self.sent(store, id).map(StatusView::Sent);
        }
        Ok(StatusView::Sent(SentView {
            id: id.to_hex(),
            ids: Vec::new(),
            conversation: hex::encode(message.conversation),
            status: "received",
            expires_at: message.expires_at,
            recipients: Vec::new(),
        }))
    }

    /// Everything that waits to be sent, uploads and removals of files too.
    pub fn outbox(&self, store: &Store) -> Result<Vec<OutboxView>> {
        let connection = store.connection();
        let own = self.public_key();
        let mut views: Vec<OutboxView> = Vec::new();
        let item = |envelope: &EnvelopeRow| OutboxView {
            id: envelope.id.to_hex(),
            message: envelope.message.map(|id| id.to_hex()),
            recipient: (envelope.inbox != own).then(|| envelope.inbox.to_hex()),
            relays: Vec::new(),
            attempts: 0,
            next_at: u64::MAX,
        };
        for envelope in EnvelopeRow::unrouted(connection)? {
            let mut view = item(&envelope);
            view.next_at = 0;
            views.push(view);
        }
        for row in OutboxRow::open(connection)? {
            let id = row.event_id.to_hex();
            let index = match views.iter().position(|view| view.id == id) {
                Some(index) => index,
                None => {
                    let Some(envelope) = EnvelopeRow::find(connection, &row.event_id)? else {
                        continue;
                    };
                    views.push(item(&envelope));
                    views.len().saturating_sub(1)
                }
            };
            if let Some(view) = views.get_mut(index) {
                view.attempts = view.attempts.max(row.attempts);
                view.next_at = view.next_at.min(row.next_at);
                view.relays.push(outcome(&row));
            }
        }
        for place in PlaceRow::open(connection)? {
            views.push(OutboxView {
                id: place.blob.to_hex(),
                message: Some(place.message.to_hex()),
                recipient: None,
                relays: vec![RelayOutcome {
                    url: place.origin.to_string(),
                    ok: false,
                    detail: match place.detail.is_empty() {
                        true => "queued".to_owned(),
                        false => place.detail.clone(),
                    },
                }],
                attempts: place.attempts,
                next_at: place.next_at,
            });
        }
        Ok(views)
    }

    /// Whether some operation of this message is unanswered, its self-copy included.
    pub fn is_sending(&self, id: EventId) -> bool {
        self.run.ops.values().any(|op| match op {
            Op::Publish { message, .. } => *message == Some(id),
            Op::Blob { message, .. } => *message == id,
            _ => false,
        })
    }
}

fn upload_state(places: &[PlaceRow]) -> Progress {
    let is_moving =
        |p: &PlaceRow| p.state == BlobState::Upload && (p.attempts == 0 || p.lease_until > 0);
    if places.iter().any(is_moving) {
        return Progress::Pending;
    }
    let detail = places.iter().find(|p| !p.detail.is_empty());
    let detail = detail.map_or_else(String::new, |p| format!("{}: {}", p.origin, p.detail));
    if places.iter().any(|p| p.state == BlobState::Upload) {
        return Progress::Failed(
            Error::new(ErrorWord::Unreachable, detail)
                .hint("it stays in the outbox and is tried again by the next command"),
        );
    }
    Progress::Failed(Error::new(ErrorWord::Refused, detail))
}

/// Everybody refused for good: the reason that helps most.
fn refusal(fates: &[Fate]) -> Error {
    let of = |word: &str| {
        fates
            .iter()
            .find_map(|f| f.refusal.as_ref().filter(|r| r.starts_with(word)).cloned())
    };
    if let Some(detail) = of(NO_INBOX) {
        let detail = detail
            .split_once(": ")
            .map_or("", |(_, why)| why)
            .to_owned();
        return Error::new(ErrorWord::NoInboxRelays, detail)
            .hint("ask for an invite link, or for the relays where the recipient reads");
    }
    if of(EXPIRED).is_some() {
        return Error::new(
            ErrorWord::Expired,
            "the message vanished before it was sent",
        );
    }
    if of(CANCELLED).is_some() {
        return Error::new(
            ErrorWord::Refused,
            "the message was taken back before it was sent",
        );
    }
    let rows = || fates.iter().flat_map(|fate| &fate.rows);
    let detail = rows().find(|row| !row.detail.is_empty()).map_or_else(
        || of("").unwrap_or_default(),
        |row| format!("{}: {}", row.relay, row.detail),
    );
    let starts =
        |words: &[&str]| rows().any(|row| words.iter().any(|word| row.detail.starts_with(word)));
    let error = Error::new(ErrorWord::Refused, detail);
    if starts(&["restricted", "auth-required"]) {
        return error.hint("send it with --as-myself, which shows the relay who sends");
    }
    if rows().any(|row| says_too_large(&row.detail)) {
        return Error::new(ErrorWord::TooLarge, error.detail).hint("send it with --as-file");
    }
    error
}

/// What each relay did about the wraps of a message.
fn erased_relays(connection: &Connection, id: &EventId) -> Result<Vec<ErasedView>> {
    let mut relays: BTreeMap<String, ErasedView> = BTreeMap::new();
    let mut note = |url: String, erased: bool, detail: String| {
        let entry = relays.entry(url.clone()).or_insert_with(|| ErasedView {
            url,
            erased,
            detail: detail.clone(),
        });
        if entry.erased && (!erased || entry.detail == NEVER) {
            entry.erased = erased;
            entry.detail = detail;
        }
    };
    for wrap in EnvelopeRow::of_message(connection, id, Purpose::Wrap)? {
        for row in OutboxRow::of_event(connection, &wrap.id)? {
            // What a relay read and refused it need not have forgotten.
            let (erased, detail) = match (row.touched, row.last.as_str()) {
                (true, _) => (false, "not asked"),
                (false, "refused" | "transient") => (true, REFUSED),
                (false, _) => (true, NEVER),
            };
            note(row.relay.to_string(), erased, detail.to_owned());
        }
    }
    let mut asked: BTreeMap<String, (bool, String)> = BTreeMap::new();
    for deletion in EnvelopeRow::of_message(connection, id, Purpose::Deletion)? {
        for row in OutboxRow::of_event(connection, &deletion.id)? {
            let erased = row.state == RowState::Accepted;
            let detail = match (erased, row.attempts) {
                (true, _) => ACCEPTED.to_owned(),
                (false, 0) => "not asked yet".to_owned(),
                (false, _) => row.detail.clone(),
            };
            let entry = asked
                .entry(row.relay.to_string())
                .or_insert_with(|| (erased, detail.clone()));
            if entry.0 && !erased {
                *entry = (erased, detail);
            }
        }
    }
    for (url, (erased, detail)) in asked {
        relays.insert(
            url.clone(),
            ErasedView {
                url,
                erased,
                detail,
            },
        );
    }
    Ok(relays.into_values().collect())
}

/// A relay that was never sent any of it.
const NEVER: &str = "it never had it";
/// A relay that said OK false to all of it.
const REFUSED: &str = "it refused it, not verifiable";
/// A relay that said OK to the deletion.
const ACCEPTED: &str = "accepted, not verifiable";
