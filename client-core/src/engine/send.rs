//! Payloads become wraps, and wraps find their relays.

use crypto::expiry::outer_expiry;
use crypto::{DeletionSecret, WrapKind};
use rand::seq::SliceRandom;
use wire::{EventId, PublicKey, RelayUrl, Rumor, kinds, limits};

use crate::engine::channel::{Channel, Nip17, Payload, too_large};
use crate::engine::machine::Turn;
use crate::engine::reach::{OwnPlaces, Verdict};
use crate::error::Result;
use crate::store::{
    self, BlobState, EnvelopeRow, OutboxRow, PeerList, PlaceRow, Purpose, RecipientRow, RowRole,
    RowState, SecretPurpose, SentRow, damaged,
};

/// The start of [`RecipientRow::refusal`] where a recipient has no inbox list.
pub(crate) const NO_INBOX: &str = "no_inbox_relays";
/// The start of it where every file server refused the file.
pub(crate) const NO_FILE: &str = "refused";
/// The start of it where the message was taken back before anybody had it.
pub(crate) const CANCELLED: &str = "cancelled";
/// The start of it where it vanished before anybody had it.
pub(crate) const EXPIRED: &str = "expired";

/// A rumor to be sent.
pub(crate) struct Outgoing<'a> {
    pub rumor: &'a Rumor,
    pub conversation: [u8; 16],
    /// Everybody but the sender; the sender alone for a note to oneself.
    pub recipients: &'a [PublicKey],
    pub secret: &'a DeletionSecret,
    pub expires_at: Option<u64>,
    pub as_myself: bool,
    /// Whether the own devices get a copy.
    pub self_copy: bool,
}

impl Turn<'_> {
    /// Seals and wraps a rumor for everybody, and stores it all as intent. Nothing is emitted;
    /// [`Turn::settle`] does that.
    pub fn queue(&mut self, outgoing: Outgoing<'_>) -> Result<()> {
        let rumor = outgoing.rumor;
        let own = self.own();
        store::advance_rollback_counter(self.tx)?;
        SentRow {
            id: rumor.id(),
            kind: rumor.kind(),
            conversation: outgoing.conversation,
            sent_at: self.now,
            expires_at: outgoing.expires_at,
            as_myself: outgoing.as_myself,
            is_here: true,
        }
        .insert(self.tx, outgoing.recipients)?;
        // What says nothing for ever need not be deletable for ever.
        let is_shown = matches!(rumor.kind(), kinds::TEXT | kinds::FILE);
        let erase_after = match (is_shown, outgoing.expires_at) {
            (true, _) => None,
            (false, expires_at) => Some(expires_at.unwrap_or(self.now.saturating_add(30 * 86_400))),
        };
        let secret = outgoing.secret;
        SecretPurpose::Deletion.keep(
            self.tx,
            &rumor.id(),
            secret.expose_secret_bytes(),
            erase_after,
        )?;
        let others: Vec<PublicKey> = outgoing
            .recipients
            .iter()
            .filter(|r| **r != own)
            .copied()
            .collect();
        let mut channel = Nip17 {
            account: self.account,
            keys: self.keys,
        };
        let payloads = channel.for_recipients(rumor, &others, self.now, self.rng)?;
        let mut wraps = Vec::new();
        for payload in payloads {
            let wrap = self.wrap_payload(rumor.id(), &payload, secret, outgoing.expires_at)?;
            wraps.push((payload.inbox, wrap));
        }
        if outgoing.self_copy {
            let mut channel = Nip17 {
                account: self.account,
                keys: self.keys,
            };
            let payload = channel.for_self(rumor, secret, &wraps, self.now, self.rng)?;
            self.wrap_payload(rumor.id(), &payload, secret, outgoing.expires_at)?;
        }
        Ok(())
    }

    fn wrap_payload(
        &mut self,
        message: EventId,
        payload: &Payload,
        secret: &DeletionSecret,
        expires_at: Option<u64>,
    ) -> Result<EventId> {
        store::keep_seal(self.tx, &message, &payload.inbox, &payload.bytes)?;
        self.wrap(message, payload, secret, expires_at, 0)
    }

    /// One wrap for one inbox key: the same bytes for every relay. Its time is random, its
    /// expiry later than the message's own and drawn for it alone.
    fn wrap(
        &mut self,
        message: EventId,
        payload: &Payload,
        secret: &DeletionSecret,
        expires_at: Option<u64>,
        attempt: u32,
    ) -> Result<EventId> {
        let key = secret.wrap_key(&message, &payload.inbox, attempt);
        let outer = expires_at.map(|at| {
            let ttl = at.saturating_sub(self.now);
            outer_expiry(at, ttl, self.rng)
        });
        let dated = WrapKind::Stored.time(self.now, self.rng);
        let wrap = crypto::wrap(
            &key,
            &payload.inbox,
            WrapKind::Stored,
            &payload.bytes,
            dated,
            outer,
            self.rng,
        )
        .map_err(|_| too_large())?;
        EnvelopeRow {
            id: wrap.id(),
            purpose: Purpose::Wrap,
            message: Some(message),
            inbox: payload.inbox,
            attempt,
            target: None,
            json: Some(wrap.json().to_vec()),
            dated_at: dated,
            expires_at: outer,
            is_routed: false,
        }
        .insert(self.tx)?;
        Ok(wrap.id())
    }

    /// Wraps a message anew around the same seal, with the next attempt number, where relays
    /// would refuse the old wrap for its age. The old wrap's id is kept for deletion.
    pub fn wrap_again(&mut self, old: &EnvelopeRow) -> Result<()> {
        let Some(message) = old.message else {
            return Ok(());
        };
        for mut row in OutboxRow::of_event(self.tx, &old.id)? {
            if row.state.is_open() {
                row.state = if row.touched {
                    RowState::GivenUp
                } else {
                    RowState::Cancelled
                };
                row.save(self.tx)?;
            }
        }
        EnvelopeRow::erase_settled(self.tx, &old.id)?;
        let seal = store::seal_of(self.tx, &message, &old.inbox)?;
        let secret = self.deletion_secret(&message)?;
        let (Some(bytes), Some(secret)) = (seal, secret) else {
            return Ok(());
        };
        let expires_at = SentRow::find(self.tx, &message)?.and_then(|sent| sent.expires_at);
        let payload = Payload {
            inbox: old.inbox,
            bytes,
        };
        let attempt = old.attempt.saturating_add(1);
        self.wrap(message, &payload, &secret, expires_at, attempt)?;
        Ok(())
    }

    /// The deletion secret of one of our rumors, as long as it is kept.
    pub fn deletion_secret(&self, message: &EventId) -> Result<Option<DeletionSecret>> {
        let Some(bytes) = SecretPurpose::Deletion.find(self.tx, message)? else {
            return Ok(None);
        };
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        Ok(Some(DeletionSecret::from_secret_bytes(bytes)))
    }

    /// Gives every envelope that has none its relays, as far as they are known; starts look-ups
    /// where they are not.
    pub fn route_all(&mut self) -> Result<()> {
        let mut envelopes = EnvelopeRow::unrouted(self.tx)?;
        if envelopes.is_empty() {
            return Ok(());
        }
        // A self-copy waits for the others: what reached nobody needs no copy.
        let own = self.own();
        envelopes.sort_by_key(|envelope| envelope.inbox == own);
        let places = OwnPlaces::load(self.tx)?;
        for envelope in envelopes {
            self.route(&envelope, &places)?;
        }
        Ok(())
    }

    fn route(&mut self, envelope: &EnvelopeRow, places: &OwnPlaces) -> Result<()> {
        if let Some(message) = &envelope.message
            && envelope.purpose == Purpose::Wrap
            && !self.file_is_there(message)?
        {
            return Ok(());
        }
        if envelope.inbox == self.own() {
            return self.route_own(envelope);
        }
        let list = PeerList::find(self.tx, &envelope.inbox, kinds::INBOX_RELAYS)?;
        let Some(list) = list else {
            return self.need_lists(&envelope.inbox);
        };
        let relays = usable_relays(&list, places);
        if relays.is_empty() {
            let why = "the recipient's list names no relay that may be reached";
            return self.refuse_envelope(envelope, NO_INBOX, why);
        }
        let as_myself = match &envelope.message {
            Some(message) if envelope.purpose == Purpose::Wrap => {
                SentRow::find(self.tx, message)?.is_some_and(|sent| sent.as_myself)
            }
            _ => false,
        };
        let role = if as_myself {
            RowRole::AsMyself
        } else {
            RowRole::Publish
        };
        for (relay, is_own) in relays {
            OutboxRow::insert(self.tx, &envelope.id, &relay, is_own, role, self.now)?;
        }
        EnvelopeRow::mark_routed(self.tx, &envelope.id)
    }

    /// A self-copy goes to the own relays once some recipient's wrap found its way, and nowhere
    /// where none ever will.
    fn route_own(&mut self, envelope: &EnvelopeRow) -> Result<()> {
        let own = self.own();
        if let Some(message) = &envelope.message
            && envelope.purpose == Purpose::Wrap
        {
            let recipients = RecipientRow::of(self.tx, message)?;
            let is_note = recipients.iter().all(|r| r.pubkey == own);
            if !is_note && recipients.iter().all(|r| r.refusal.is_some()) {
                return self.drop_envelope(envelope);
            }
            let wraps = EnvelopeRow::of_message(self.tx, message, Purpose::Wrap)?;
            let waits = |other: &EnvelopeRow| other.inbox != own && other.is_routed;
            if !is_note && !wraps.iter().any(waits) {
                return Ok(());
            }
        }
        let relays = store::own_relays(self.tx)?;
        if relays.is_empty() {
            // A note to oneself is refused by this; another message only has no copy.
            return self.refuse_envelope(envelope, NO_INBOX, "this circle has no inbox relay");
        }
        for relay in relays {
            let role = RowRole::Publish;
            OutboxRow::insert(self.tx, &envelope.id, &relay, true, role, self.now)?;
        }
        EnvelopeRow::mark_routed(self.tx, &envelope.id)
    }

    /// Whether a message's file is at some server, or it has none. Where every server refused it,
    /// the message is refused too.
    fn file_is_there(&mut self, message: &EventId) -> Result<bool> {
        let places = PlaceRow::of_message(self.tx, message)?;
        if places.is_empty() || places.iter().any(|p| p.state == BlobState::Stored) {
            return Ok(true);
        }
        if places.iter().all(|p| p.state == BlobState::Refused) {
            let why = places.first().map(|p| p.detail.clone()).unwrap_or_default();
            for envelope in EnvelopeRow::of_message(self.tx, message, Purpose::Wrap)? {
                self.refuse_envelope(&envelope, NO_FILE, &why)?;
            }
        }
        Ok(false)
    }

    /// Nothing can be sent to this inbox key, for a reason that the user is told.
    pub fn refuse_envelope(&mut self, envelope: &EnvelopeRow, word: &str, why: &str) -> Result<()> {
        if let Some(message) = &envelope.message
            && envelope.purpose == Purpose::Wrap
        {
            RecipientRow::refuse(self.tx, message, &envelope.inbox, &format!("{word}: {why}"))?;
        }
        self.drop_envelope(envelope)
    }

    /// Leaves an envelope without relays, and erases its bytes.
    pub fn drop_envelope(&mut self, envelope: &EnvelopeRow) -> Result<()> {
        EnvelopeRow::mark_routed(self.tx, &envelope.id)?;
        EnvelopeRow::erase_settled(self.tx, &envelope.id)
    }

    /// A newer list of somebody came: what is not sent yet goes where the list says now.
    pub fn reroute(&mut self, inbox: &PublicKey) -> Result<()> {
        let Some(list) = PeerList::find(self.tx, inbox, kinds::INBOX_RELAYS)? else {
            return Ok(());
        };
        let places = OwnPlaces::load(self.tx)?;
        let relays = usable_relays(&list, &places);
        for envelope in store::open_envelopes_for(self.tx, inbox)? {
            let rows = OutboxRow::of_event(self.tx, &envelope.id)?;
            let role = rows.first().map_or(RowRole::Publish, |row| row.role);
            for mut row in rows {
                let is_listed = relays.iter().any(|(relay, _)| *relay == row.relay);
                if row.state == RowState::Queued && !is_listed {
                    row.state = if row.touched {
                        RowState::GivenUp
                    } else {
                        RowState::Cancelled
                    };
                    row.save(self.tx)?;
                }
            }
            for (relay, is_own) in &relays {
                OutboxRow::insert(self.tx, &envelope.id, relay, *is_own, role, self.now)?;
            }
        }
        Ok(())
    }

    /// Rows in random order, so that the order of publishing tells nothing.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(self.rng);
    }
}

/// The relays of a list that may be dialled, at most [`limits::RECIPIENT_RELAYS`], in its order.
pub(crate) fn usable_relays(list: &PeerList, places: &OwnPlaces) -> Vec<(RelayUrl, bool)> {
    let mut usable: Vec<(RelayUrl, bool)> = Vec::new();
    for url in &list.urls {
        let Ok(relay) = RelayUrl::parse(url) else {
            continue;
        };
        if usable.iter().any(|(known, _)| *known == relay) {
            continue;
        }
        if let Verdict::Dial { is_own } = places.relay(&relay)
            && usable.len() < limits::RECIPIENT_RELAYS
        {
            usable.push((relay, is_own));
        }
    }
    usable
}
