//! Deleting: here, and for both.
//!
//! For both means: (a) a wrapped kind 5 to everybody; (b) what is not sent yet is never sent;
//! (c) each wrap is taken back by its own one-time key on every relay that may have it; (d) so
//! is each blob; (e) the recipient's client deletes its wrap on its relays. What is known of
//! each is in [`crate::view::DeletedView`], and nothing else.

use crypto::{DeletionSecret, OneTimeKey, Opened};
use wire::relay_url::Origin;
use wire::{EventDraft, EventId, PublicKey, RelayUrl, Tag, Tags, kinds};

use crate::engine::machine::{Engine, Rng, Step, Turn};
use crate::engine::receive::{named_events, room};
use crate::engine::send::{CANCELLED, EXPIRED, Outgoing};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{
    self, BlobState, ContactRow, ConversationRow, DeletionRow, EnvelopeRow, FileRow, MessageRow,
    OutboxRow, PlaceRow, Purpose, RecipientRow, RowRole, RowState, SecretPurpose, SentRow, Store,
};

/// Messages that one deletion names.
const NAMED: usize = 100;
/// Deletions of one author that wait for messages that never came: of contacts, of strangers.
const WAITING_OF_CONTACT: u64 = 1_000;
const WAITING_OF_STRANGER: u64 = 50;
/// The same of all strangers together.
const WAITING_OF_STRANGERS: u64 = 1_000;

impl Engine {
    /// Deletes a message: text, keys and file rows go here at once.
    ///
    /// With `for_everyone` it is taken back from the recipients, the relays and the file servers
    /// too, as far as they may have it: `deleted` reports what became of that. Unsent rows of it
    /// are never sent. Only the author can do that (`refused` otherwise). A message that is
    /// deleted already is deleted further where that is possible; `not_found` where there is
    /// none.
    pub fn delete(
        &mut self,
        store: &mut Store,
        id: EventId,
        for_everyone: bool,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| {
            turn.delete(&id, for_everyone)?;
            turn.settle()
        })
    }
}

impl Turn<'_> {
    fn delete(&mut self, id: &EventId, for_everyone: bool) -> Result<()> {
        let own = self.own();
        let Some(message) = MessageRow::by_id(self.tx, id)? else {
            let before = DeletionRow::find(self.tx, &own, id)?;
            if for_everyone && before.is_some_and(|deletion| !deletion.for_everyone) {
                return Err(Error::new(
                    ErrorWord::Conflict,
                    "it was deleted here before, and the keys to take it back with it",
                ));
            }
            // Deleted or expired before: what was begun goes on by itself.
            if DeletionRow::exists(self.tx, id)? || SentRow::find(self.tx, id)?.is_some() {
                return Ok(());
            }
            return Err(Error::new(ErrorWord::NotFound, "no such message"));
        };
        if for_everyone && message.author != own {
            return Err(Error::new(
                ErrorWord::Refused,
                "only its author can delete a message for everyone",
            )
            .hint("leave out --for-everyone to delete it here"));
        }
        let mut deletion = DeletionRow {
            conversation: Some(message.conversation),
            for_everyone,
            notice: None,
        };
        if message.author == own {
            let was_sent = self.take_back(&message, for_everyone, RowState::Cancelled)?;
            let is_here = SentRow::find(self.tx, id)?.is_none_or(|sent| sent.is_here);
            if for_everyone && !is_here {
                // The wrap of our own copy is another device's; the account may delete it too.
                self.clean_rumor(&own, id)?;
            }
            if for_everyone && was_sent {
                deletion.notice = Some(self.notify_deleted(&message)?);
            }
        }
        deletion.save(self.tx, &message.author, id, self.now)?;
        self.erase(&message, "delete")
    }

    /// Text, file row and keys of a message go from this home, now.
    pub fn erase(&mut self, message: &MessageRow, event: &'static str) -> Result<()> {
        let (author, id) = (&message.author, &message.id);
        FileRow::remove(self.tx, id)?;
        SecretPurpose::File.erase(self.tx, id)?;
        SecretPurpose::Deletion.erase(self.tx, id)?;
        store::erase_seals(self.tx, id, None)?;
        message.remove(self.tx)?;
        store::note(self.tx, event, author, id, None, self.now)?;
        self.tx.note_erasure();
        Ok(())
    }

    /// Everything of one of our messages that is still to be sent is not; and with
    /// `from_servers`, what may be on relays and file servers is taken back. Says whether any
    /// recipient's relay may have it.
    pub fn take_back(
        &mut self,
        message: &MessageRow,
        from_servers: bool,
        unsent: RowState,
    ) -> Result<bool> {
        let id = &message.id;
        let own = self.own();
        let sent = SentRow::find(self.tx, id)?;
        let is_here = sent.is_none_or(|sent| sent.is_here);
        let secret = self.deletion_secret(id)?;
        let mut was_sent = !is_here;
        for wrap in EnvelopeRow::of_message(self.tx, id, Purpose::Wrap)? {
            self.cancel_rows(&wrap, unsent)?;
            let rows = OutboxRow::of_event(self.tx, &wrap.id)?;
            let relays: Vec<(RelayUrl, bool)> = rows
                .iter()
                .filter(|row| row.touched)
                .map(|row| (row.relay.clone(), row.is_own))
                .collect();
            was_sent |= !relays.is_empty() && wrap.inbox != own;
            let is_elsewhere = !is_here && rows.is_empty();
            if from_servers
                && let Some(secret) = &secret
                && (is_elsewhere || !relays.is_empty())
            {
                let key = secret.wrap_key(id, &wrap.inbox, wrap.attempt);
                self.queue_deletion(&key, &wrap, &relays)?;
            }
        }
        for recipient in RecipientRow::of(self.tx, id)? {
            if !was_sent && recipient.refusal.is_none() {
                let word = if unsent == RowState::Expired {
                    EXPIRED
                } else {
                    CANCELLED
                };
                RecipientRow::refuse(self.tx, id, &recipient.pubkey, word)?;
            }
        }
        self.take_back_blobs(message, secret.as_ref(), from_servers)?;
        Ok(was_sent)
    }

    /// A kind 5 by the wrap's own key. Where the relays are known it goes there and nowhere
    /// else; otherwise (another device of ours sent the wrap) to the recipient's relays.
    fn queue_deletion(
        &mut self,
        key: &OneTimeKey,
        wrap: &EnvelopeRow,
        relays: &[(RelayUrl, bool)],
    ) -> Result<()> {
        let event = key.sign(deletion_draft(&[wrap.id], self.now), self.rng);
        EnvelopeRow {
            id: event.id(),
            purpose: Purpose::Deletion,
            message: wrap.message,
            inbox: wrap.inbox,
            attempt: 0,
            target: Some(wrap.id),
            json: Some(event.json().to_vec()),
            dated_at: self.now,
            expires_at: None,
            is_routed: !relays.is_empty(),
        }
        .insert(self.tx)?;
        for (relay, is_own) in relays {
            let role = RowRole::Publish;
            OutboxRow::insert(self.tx, &event.id(), relay, *is_own, role, self.now)?;
        }
        Ok(())
    }

    /// (d): blobs that may be at a server are deleted there by their own keys.
    fn take_back_blobs(
        &mut self,
        message: &MessageRow,
        secret: Option<&DeletionSecret>,
        from_servers: bool,
    ) -> Result<()> {
        let mut places = PlaceRow::of_message(self.tx, &message.id)?;
        if places.is_empty() && from_servers {
            // Sent by another device of ours: the servers are those that the message names.
            if let (Some(file), Some(secret)) = (FileRow::find(self.tx, &message.id)?, secret) {
                places = self.foreign_places(&file, secret)?;
            }
        }
        for mut place in places {
            place.state = match (place.touched, from_servers) {
                (false, _) => BlobState::Never,
                (true, true) => BlobState::Remove,
                (true, false) => continue,
            };
            place.attempts = 0;
            place.next_at = self.now;
            place.last.clear();
            place.detail.clear();
            place.save(self.tx)?;
        }
        Ok(())
    }

    /// The places of a blob that another device of ours uploaded, with the keys of its claims.
    fn foreign_places(&mut self, file: &FileRow, secret: &DeletionSecret) -> Result<Vec<PlaceRow>> {
        let reach = crate::engine::reach::OwnPlaces::load(self.tx)?;
        let mut places = Vec::new();
        for url in &file.urls {
            let Ok(url) = wire::blob::BlobUrl::parse(url) else {
                continue;
            };
            let origin: Origin = url.origin;
            let crate::engine::reach::Verdict::Dial { is_own } = reach.origin(&origin) else {
                continue;
            };
            self.keep_upload_key(&file.blob, &origin, secret)?;
            places.push(PlaceRow {
                blob: file.blob,
                origin,
                message: file.message,
                is_own,
                size: file.cipher_size.unwrap_or(0),
                state: BlobState::Remove,
                touched: true,
                sunset: None,
                granted: None,
                last: String::new(),
                detail: String::new(),
                attempts: 0,
                next_at: self.now,
                lease_until: 0,
            });
        }
        Ok(places)
    }

    /// (a): a wrapped kind 5 to the recipients and to the own devices. Gives its rumor id.
    fn notify_deleted(&mut self, message: &MessageRow) -> Result<EventId> {
        let own = self.own();
        let missing = || Error::new(ErrorWord::Internal, "the conversation is gone");
        let mut conversation =
            ConversationRow::find(self.tx, &message.conversation)?.ok_or_else(missing)?;
        let recipients: Vec<PublicKey> = conversation
            .members
            .iter()
            .filter(|m| **m != own || conversation.members.len() == 1)
            .copied()
            .collect();
        let mut tags = Tags::new();
        for recipient in &recipients {
            tags.push(Tag::new(["p".to_owned(), recipient.to_hex()]));
        }
        tags.push(Tag::new(["e".to_owned(), message.id.to_hex()]));
        tags.push(Tag::new(["k".to_owned(), message.kind.to_string()]));
        let sent = SentRow::find(self.tx, &message.id)?;
        let kind = kinds::DELETION;
        let expires_at = message.expires_at;
        let rumor = self.rumor(&mut conversation, kind, String::new(), tags, expires_at)?;
        store::note_rumor(self.tx, &own, &rumor.id())?;
        let secret = DeletionSecret::generate(self.rng);
        self.queue(Outgoing {
            rumor: &rumor,
            conversation: conversation.id,
            recipients: &recipients,
            secret: &secret,
            expires_at,
            as_myself: sent.is_some_and(|sent| sent.as_myself),
            self_copy: true,
        })?;
        Ok(rumor.id())
    }

    /// A deletion that came. It acts on messages of its own author, in the conversation that it
    /// was written in, now or when they come.
    pub fn take_deletion(&mut self, opened: &Opened, contact: &ContactRow) -> Result<()> {
        let author = opened.author();
        let rumor = opened.rumor();
        store::note_rumor(self.tx, &author, &rumor.id())?;
        // The room is named by `p` tags; clients that leave them out mean the two of us.
        let mut members = room(opened)?;
        members.insert(self.own());
        for id in named_events(opened, NAMED) {
            if store::is_known_rumor(self.tx, &author, &id)? {
                self.delete_known(opened, contact, &id)?;
            } else {
                self.delete_ahead(opened, contact, &id, &members)?;
            }
        }
        Ok(())
    }

    fn delete_known(&mut self, opened: &Opened, contact: &ContactRow, id: &EventId) -> Result<()> {
        let author = opened.author();
        store::drop_kept_rumors(self.tx, self.now, Some((&author, id)))?;
        let Some(message) = MessageRow::find(self.tx, &author, id)? else {
            // Gone from here already, by expiry or by our own hand; the wrap may still lie.
            let deleted = DeletionRow::find(self.tx, &author, id)?;
            if deleted.is_some() || !opened.is_self_copy() {
                self.clean_rumor(&author, id)?;
            }
            return Ok(());
        };
        let conversation = ConversationRow::find(self.tx, &message.conversation)?;
        let mut members = room(opened)?;
        members.insert(self.own());
        if conversation.is_none_or(|conversation| conversation.members != members) {
            return Ok(());
        }
        DeletionRow {
            conversation: Some(message.conversation),
            for_everyone: true,
            notice: None,
        }
        .save(self.tx, &author, id, self.now)?;
        if message.is_own {
            // Another device of ours deletes it for everybody and sees to the servers.
            self.take_back(&message, false, RowState::Cancelled)?;
        }
        self.erase(&message, "delete")?;
        self.clean_rumor(&author, id)?;
        if contact.is_accepted && message.device.is_some() && !message.is_own {
            self.owe_receipt(&author, message.conversation, id, "deleted")?;
        }
        Ok(())
    }

    /// A deletion that came before its message is remembered by (author, rumor id).
    fn delete_ahead(
        &mut self,
        opened: &Opened,
        contact: &ContactRow,
        id: &EventId,
        members: &std::collections::BTreeSet<PublicKey>,
    ) -> Result<()> {
        let author = opened.author();
        let is_known = contact.is_accepted || opened.is_self_copy();
        let (of_author, of_strangers) = DeletionRow::of_unknown(self.tx, &author)?;
        let is_full = if is_known {
            of_author >= WAITING_OF_CONTACT
        } else {
            of_author >= WAITING_OF_STRANGER || of_strangers >= WAITING_OF_STRANGERS
        };
        if is_full {
            return Ok(());
        }
        let conversation = self.conversation_of(members.clone())?;
        DeletionRow {
            conversation: Some(conversation.id),
            for_everyone: true,
            notice: None,
        }
        .save(self.tx, &author, id, self.now)?;
        if contact.is_accepted && opened.rumor().sotto_tag().is_some() && !opened.is_self_copy() {
            self.owe_receipt(&author, conversation.id, id, "deleted")?;
        }
        Ok(())
    }

    /// (e): asks our own relays, by the account key, to drop every wrap that brought a rumor.
    pub fn clean_rumor(&mut self, author: &PublicKey, id: &EventId) -> Result<()> {
        for (wrap, relay) in store::places_of_rumor(self.tx, author, id)? {
            if let Ok(relay) = RelayUrl::parse(&relay) {
                self.clean(&relay, &wrap)?;
            }
        }
        Ok(())
    }

    /// Asks one of our relays to drop one wrap that is addressed to us. Several of one input
    /// become one event.
    pub fn clean(&mut self, relay: &RelayUrl, wrap: &EventId) -> Result<()> {
        if store::mark_place_deleted(self.tx, wrap, relay.as_str())? {
            self.cleaning.entry(relay.clone()).or_default().push(*wrap);
        }
        Ok(())
    }

    /// Signs what [`Turn::clean`] gathered.
    pub fn queue_cleaning(&mut self) -> Result<()> {
        let own = self.own();
        for (relay, wraps) in std::mem::take(&mut self.cleaning) {
            for some in wraps.chunks(NAMED) {
                let draft = deletion_draft(some, self.now);
                let event = self.account.sign(draft, self.rng);
                EnvelopeRow {
                    id: event.id(),
                    purpose: Purpose::Cleaning,
                    message: None,
                    inbox: own,
                    attempt: 0,
                    target: None,
                    json: Some(event.json().to_vec()),
                    dated_at: self.now,
                    expires_at: None,
                    is_routed: true,
                }
                .insert(self.tx)?;
                let role = RowRole::Inbox;
                OutboxRow::insert(self.tx, &event.id(), &relay, true, role, self.now)?;
            }
        }
        Ok(())
    }

    /// What a self-copy tells of the wraps that another device of ours made, so that they can be
    /// taken back from here. Nothing is sent for them.
    pub fn learn_wraps(&mut self, opened: &Opened) -> Result<()> {
        let own = self.own();
        for (inbox, wrap) in opened.wraps() {
            if *inbox == own {
                continue;
            }
            EnvelopeRow {
                id: *wrap,
                purpose: Purpose::Wrap,
                message: Some(opened.rumor().id()),
                inbox: *inbox,
                attempt: 0,
                target: None,
                json: None,
                dated_at: opened.rumor().created_at(),
                expires_at: None,
                is_routed: true,
            }
            .insert(self.tx)?;
        }
        Ok(())
    }
}

/// A NIP-09 request for wraps, of whoever signs it.
fn deletion_draft(wraps: &[EventId], now: u64) -> EventDraft {
    let mut tags: Tags = wraps
        .iter()
        .map(|wrap| Tag::new(["e".to_owned(), wrap.to_hex()]))
        .collect();
    tags.push(Tag::new(["k".to_owned(), kinds::WRAP.to_string()]));
    EventDraft {
        pubkey: PublicKey::from_bytes([0; 32]),
        created_at: now,
        kind: kinds::DELETION,
        tags,
        content: String::new(),
    }
}
