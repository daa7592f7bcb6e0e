//! Bytes that came become, stage by stage, messages that are believed.
//!
//! bytes -> `Event` -> `VerifiedEvent` -> `Envelope` -> `Opened` -> stored rumor. Each type is
//! made by one gate only. A batch is opened first; then changes to conversations apply until
//! nothing changes any more (sessions will bring some; NIP-17 has none); then the messages. One
//! bad event costs nothing but itself: each is applied within a savepoint.

use std::collections::BTreeSet;

use bytes::Bytes;
use crypto::open::Refusal;
use crypto::{Envelope, Opened, open_envelope, open_seal};
use wire::{Event, EventId, PublicKey, RelayUrl, VerifiedEvent, kinds, limits};

use crate::engine::machine::Turn;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, ContactRow, Source, WrapOutcome, WrapRow};

/// Refused wraps that are remembered, so that they are not opened again.
const REFUSED_KEPT: u64 = 10_000;
/// Wraps that wait for something.
const PENDING_KEPT: u64 = 2_000;
/// How long a wrap may wait, seconds.
const PENDING_SECONDS: u64 = 30 * 86_400;

/// What stage 1 made of one event.
enum Stage {
    /// Not for us, not a wrap, or forged: nothing of it is kept, since whoever forged it chose
    /// its id, and a remembered id would shut out the true event.
    Ignored,
    /// Known before.
    Known(EventId),
    /// Sound; a rumor whose author is proved.
    Opened(Box<Opened>),
    /// Stored as refused or pending.
    Kept,
}

impl Turn<'_> {
    /// Takes a batch of raw events from one inbox relay. Gives the number of new messages.
    /// `repeated` are wraps that this round has counted already.
    pub fn receive(
        &mut self,
        relay: &RelayUrl,
        events: &[Bytes],
        repeated: &BTreeSet<EventId>,
    ) -> Result<u64> {
        let source = Source::of(self.tx, &self.own(), relay)?;
        let mut opened = Vec::new();
        for bytes in events {
            let Ok(event) = Event::decode(bytes.clone()) else {
                continue;
            };
            let (id, kind) = (event.id(), event.kind());
            let (created_at, expires_at) = (event.created_at(), event.expiration());
            let stage = self.open(relay, event)?;
            // Ephemeral ones are stored nowhere, so no relay will name them again.
            if kind == kinds::WRAP && !matches!(stage, Stage::Ignored) {
                source.note(self.tx, &id, created_at, expires_at, self.now)?;
            }
            match stage {
                Stage::Ignored => {}
                Stage::Known(id) if repeated.contains(&id) => {}
                Stage::Known(_) | Stage::Kept => {
                    self.run.received = self.run.received.saturating_add(1);
                }
                Stage::Opened(one) => {
                    self.run.received = self.run.received.saturating_add(1);
                    opened.push(*one);
                }
            }
        }
        let new = self.apply_batch(relay, opened)?;
        self.run.new = self.run.new.saturating_add(new);
        Ok(new)
    }

    /// Keeps what is remembered of unwanted wraps within its bound.
    pub fn bound_inbox(&mut self) -> Result<()> {
        let oldest = self.now.saturating_sub(PENDING_SECONDS);
        store::bound(self.tx, &self.own(), self.now, oldest, REFUSED_KEPT)
    }

    /// Stage 1: verify, decrypt, check. Nothing of a forged event is believed, not even
    /// its id.
    fn open(&mut self, relay: &RelayUrl, event: Event) -> Result<Stage> {
        let own = self.own();
        if !kinds::is_wrap(event.kind()) || !event.tags().people().any(|p| p == own) {
            return Ok(Stage::Ignored);
        }
        if let Some(expires_at) = store::known_wrap(self.tx, &event.id())? {
            let is_new_here = store::note_place(self.tx, &event.id(), relay)?;
            let has_expired = expires_at.is_some_and(|at| at <= self.now);
            // The relay serves what it should have dropped, or what was deleted before this copy
            // was seen: now our account asks for it.
            if has_expired || (is_new_here && store::is_taken_back(self.tx, &event.id())?) {
                self.clean(relay, &event.id())?;
            }
            return Ok(Stage::Known(event.id()));
        }
        let Ok(wrap) = VerifiedEvent::verify(event) else {
            return Ok(Stage::Ignored);
        };
        let mut row = WrapRow {
            id: wrap.id(),
            inbox: own,
            outcome: WrapOutcome::Refused,
            reason: String::new(),
            rumor: None,
            expires_at: wrap.expiration(),
        };
        if wrap.expiration().is_some_and(|at| at <= self.now) {
            row.outcome = WrapOutcome::Dropped;
            "expired".clone_into(&mut row.reason);
            self.keep_wrap(relay, &row)?;
            self.clean(relay, &row.id)?;
            return Ok(Stage::Kept);
        }
        let envelope = match open_envelope(self.account, &wrap) {
            Ok(envelope) => envelope,
            Err(refusal) => return self.refuse(relay, row, refusal),
        };
        match envelope {
            Envelope::Session(_) => {
                row.outcome = WrapOutcome::Pending;
                "a session that this version does not know".clone_into(&mut row.reason);
                self.keep_wrap(relay, &row)?;
                store::keep_pending(self.tx, &row, wrap.json(), self.now, PENDING_KEPT)?;
                Ok(Stage::Kept)
            }
            Envelope::Seal(seal) => match open_seal(self.account, &seal, self.keys) {
                Ok(opened) => Ok(Stage::Opened(Box::new(opened))),
                Err(refusal) => self.refuse(relay, row, refusal),
            },
        }
    }

    /// A final refusal: the reason is kept, and our account asks the relay to drop the wrap,
    /// since nobody will ever read it.
    fn refuse(&mut self, relay: &RelayUrl, mut row: WrapRow, refusal: Refusal) -> Result<Stage> {
        row.reason = refusal.to_string();
        self.keep_wrap(relay, &row)?;
        // A wrap of a newer version may be readable to another device of ours.
        if !matches!(refusal, Refusal::Channel | Refusal::WrapPayload) {
            self.clean(relay, &row.id)?;
        }
        Ok(Stage::Kept)
    }

    fn keep_wrap(&mut self, relay: &RelayUrl, row: &WrapRow) -> Result<()> {
        row.save(self.tx, self.now)?;
        store::note_place(self.tx, &row.id, relay)?;
        Ok(())
    }

    /// Stages 2 and 3: changes to conversations to a fixed point, then messages. What waited is
    /// tried again while something changes.
    fn apply_batch(&mut self, relay: &RelayUrl, opened: Vec<Opened>) -> Result<u64> {
        let mut batch = opened;
        let mut new = 0_u64;
        loop {
            let changed = self.apply_changes(&batch);
            for one in std::mem::take(&mut batch) {
                new = new.saturating_add(u64::from(self.apply_apart(relay, &one)?));
            }
            if !changed {
                return Ok(new);
            }
            batch = self.retry_pending()?;
        }
    }

    /// Changes to conversations. NIP-17 knows none: a room is the set of its members.
    fn apply_changes(&mut self, _batch: &[Opened]) -> bool {
        false
    }

    /// Wraps that wait, as far as they open now.
    fn retry_pending(&mut self) -> Result<Vec<Opened>> {
        let mut opened = Vec::new();
        for (id, bytes) in store::pending_wraps(self.tx)? {
            let wrap = Event::decode(Bytes::from(bytes))
                .ok()
                .and_then(|event| VerifiedEvent::verify(event).ok());
            let Some(wrap) = wrap else {
                store::drop_pending(self.tx, &id)?;
                continue;
            };
            if let Ok(Envelope::Seal(seal)) = open_envelope(self.account, &wrap)
                && let Ok(one) = open_seal(self.account, &seal, self.keys)
            {
                store::drop_pending(self.tx, &id)?;
                opened.push(one);
            }
        }
        Ok(opened)
    }

    /// Applies one rumor within a savepoint: if it fails in a way that is its own fault, it
    /// alone is undone and refused. Gives whether a message is new.
    fn apply_apart(&mut self, relay: &RelayUrl, opened: &Opened) -> Result<bool> {
        self.tx.execute_batch("SAVEPOINT one")?;
        let effects = self.effects.len();
        match self.apply(relay, opened) {
            Ok(is_new) => {
                self.tx.execute_batch("RELEASE one")?;
                Ok(is_new)
            }
            Err(error) if is_ours(&error) => Err(error),
            Err(error) => {
                self.tx.execute_batch("ROLLBACK TO one; RELEASE one")?;
                self.effects.truncate(effects);
                let row = self.wrap_row(opened, WrapOutcome::Refused, &error.detail);
                self.keep_wrap(relay, &row)?;
                Ok(false)
            }
        }
    }

    fn wrap_row(&self, opened: &Opened, outcome: WrapOutcome, reason: &str) -> WrapRow {
        WrapRow {
            id: opened.wrap_id(),
            inbox: opened.inbox(),
            outcome,
            reason: reason.to_owned(),
            rumor: Some((opened.author(), opened.rumor().id())),
            expires_at: opened.wrap().expiration,
        }
    }

    fn apply(&mut self, relay: &RelayUrl, opened: &Opened) -> Result<bool> {
        let author = opened.author();
        let id = opened.rumor().id();
        let row = self.wrap_row(opened, WrapOutcome::Opened, "");
        self.keep_wrap(relay, &row)?;
        if store::is_known_rumor(self.tx, &author, &id)? {
            // Another wrap of it: an attempt, a second relay's own, a repetition. It goes with
            // the message where that is deleted already.
            return self.known_again(opened).map(|()| false);
        }
        let contact = ContactRow::of(self.tx, &author)?;
        if contact.is_blocked {
            return self.drop_wrap(relay, opened, "blocked");
        }
        self.note_sender(&contact, opened)?;
        match opened.rumor().kind() {
            kinds::TEXT | kinds::FILE => self.take_message(relay, opened, &contact),
            kinds::DELETION => self.take_deletion(opened, &contact).map(|()| false),
            // Whoever got a message of ours is no stranger.
            kinds::RECEIPT if !contact.is_accepted => self.drop_wrap(relay, opened, "a stranger"),
            kinds::RECEIPT => self.take_receipt(opened).map(|()| false),
            _ => {
                const KEPT_OF_ONE: u64 = 50;
                let expires_at = opened.expiration();
                let is_alive = expires_at.is_none_or(|at| at > self.now);
                let rumor = opened.rumor();
                if is_alive && store::keep_rumor(self.tx, rumor, self.now, expires_at, KEPT_OF_ONE)?
                {
                    store::note_rumor(self.tx, &author, &id)?;
                    return Ok(false);
                }
                self.drop_wrap(relay, opened, "no room for kinds that are not known")
            }
        }
    }

    /// Sound and not wanted.
    pub fn drop_wrap(&mut self, relay: &RelayUrl, opened: &Opened, reason: &str) -> Result<bool> {
        let row = self.wrap_row(opened, WrapOutcome::Dropped, reason);
        self.keep_wrap(relay, &row)?;
        Ok(false)
    }

    /// What a rumor tells about its sender: that it speaks Sotto, and with which device. Keys of
    /// accepted contacts are kept; a stranger's are not, so that a flood of them evicts nobody.
    fn note_sender(&mut self, contact: &ContactRow, opened: &Opened) -> Result<()> {
        if !contact.is_accepted {
            return Ok(());
        }
        // A bad key cannot have signed a seal.
        let _ = self.keys.remember(self.account, &contact.pubkey);
        let Some(tag) = opened.rumor().sotto_tag() else {
            return Ok(());
        };
        if !contact.is_sotto {
            let mut contact = contact.clone();
            contact.is_sotto = true;
            contact.save(self.tx, self.now)?;
        }
        store::note_device(self.tx, &contact.pubkey, &tag.device, self.now)
    }

    /// A rumor that is known came in one more wrap.
    fn known_again(&mut self, opened: &Opened) -> Result<()> {
        let author = opened.author();
        let id = opened.rumor().id();
        self.learn_secret(opened)?;
        let deletion = store::DeletionRow::find(self.tx, &author, &id)?;
        if deletion.is_some_and(|deletion| deletion.for_everyone) {
            self.clean_rumor(&author, &id)?;
        }
        Ok(())
    }
}

/// Whether an error is the store's or the machine's and not of the event that was applied.
fn is_ours(error: &Error) -> bool {
    matches!(
        error.word,
        ErrorWord::DiskFull | ErrorWord::StoreDamaged | ErrorWord::Conflict | ErrorWord::Internal
    )
}

/// The members of the room that a rumor was written in (NIP-17): its author and its `p` tags.
/// Fails where there are more than [`MEMBERS`].
pub(crate) fn room(opened: &Opened) -> Result<BTreeSet<PublicKey>> {
    let rumor = opened.rumor();
    let mut members: BTreeSet<PublicKey> = rumor.tags().people().take(limits::TAGS).collect();
    members.insert(opened.author());
    if members.len() > MEMBERS {
        return Err(Error::new(
            ErrorWord::Refused,
            "the message names more members than a NIP-17 room may have",
        ));
    }
    Ok(members)
}

/// Members of a room that came by NIP-17.
const MEMBERS: usize = 50;

/// The ids that a rumor's `e` tags name, at most `cap`.
pub(crate) fn named_events(opened: &Opened, cap: usize) -> Vec<EventId> {
    let mut ids: Vec<EventId> = Vec::new();
    for text in opened.rumor().tags().values("e") {
        if let Ok(id) = EventId::from_hex(text)
            && !ids.contains(&id)
            && ids.len() < cap
        {
            ids.push(id);
        }
    }
    ids
}
