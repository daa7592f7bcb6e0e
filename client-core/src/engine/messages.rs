//! Messages that came: where they belong, how they are ordered, what strangers may store here.

use crypto::Opened;
use wire::{EventId, PublicKey, RelayUrl, kinds, limits};

use crate::engine::channel::{Channel as _, Nip17};
use crate::engine::file_message;
use crate::engine::machine::Turn;
use crate::engine::receive::room;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, ContactRow, DeletionRow, MessageRow, SecretPurpose, SentRow};

/// A claimed time further ahead than this is not believed, seconds.
const FUTURE_SECONDS: u64 = 15 * 60;
/// Where such a message stands instead: this long after it came, seconds.
const FUTURE_SHOWN_SECONDS: u64 = 5 * 60;
/// Relays that a message may name for its author.
const HINTS: usize = 3;
/// Messages of one stranger, and of all strangers, that are stored.
const REQUESTS_OF_ONE: u64 = 20;
const REQUESTS_OF_ALL: u64 = 1_000;

impl Turn<'_> {
    /// Takes a text or file message that is new. Gives whether it is shown.
    pub fn take_message(
        &mut self,
        relay: &RelayUrl,
        opened: &Opened,
        contact: &ContactRow,
    ) -> Result<bool> {
        let rumor = opened.rumor();
        let author = opened.author();
        let id = rumor.id();
        if rumor.content().len() > limits::TEXT_BYTES {
            return Err(Error::new(ErrorWord::TooLarge, "the message is too large"));
        }
        let is_own = opened.is_self_copy();
        let is_request = !is_own && !contact.is_accepted;
        if is_request {
            let (of_one, of_all) = MessageRow::requests(self.tx, &author)?;
            if of_one >= REQUESTS_OF_ONE || of_all >= REQUESTS_OF_ALL {
                return self.drop_wrap(relay, opened, "too many messages of strangers");
            }
        }
        let expires_at = opened.expiration();
        let is_expired = expires_at.is_some_and(|at| at <= self.now);
        if is_request && is_expired {
            // Not counted as a request, so it may leave nothing that only requests bound.
            return self.drop_wrap(relay, opened, "expired");
        }
        let conversation = self.conversation_of(room(opened)?)?;
        store::note_rumor(self.tx, &author, &id)?;
        if let Some(deletion) = DeletionRow::find(self.tx, &author, &id)?
            && deletion.conversation.is_none_or(|c| c == conversation.id)
        {
            // Its deletion came first.
            if deletion.for_everyone {
                self.clean_rumor(&author, &id)?;
            }
            return Ok(false);
        }
        if is_expired {
            return self.drop_wrap(relay, opened, "expired");
        }
        let file = match rumor.kind() {
            kinds::FILE => Some(file_message::read(rumor)?),
            _ => None,
        };
        let claimed_at = rumor.created_at();
        let shown_at = if claimed_at > self.now.saturating_add(FUTURE_SECONDS) {
            self.now.saturating_add(FUTURE_SHOWN_SECONDS)
        } else {
            claimed_at
        };
        let event = if is_request { "request" } else { "message" };
        let seq = store::note(self.tx, event, &author, &id, None, self.now)?;
        let tag = rumor.sotto_tag();
        let text = match file {
            Some(_) => String::new(),
            None => rumor.content().to_owned(),
        };
        let reply_to = rumor.tags().value("e");
        MessageRow {
            seq,
            id,
            author,
            conversation: conversation.id,
            is_own,
            kind: rumor.kind(),
            text,
            claimed_at,
            shown_at,
            counter: tag.map_or(0, |tag| tag.counter),
            device: tag.map(|tag| tag.device),
            received_at: self.now,
            expires_at,
            reply_to: reply_to.and_then(|text| EventId::from_hex(text).ok()),
            protection: Nip17::PROTECTION.number(),
            is_unread: !is_own,
        }
        .insert(self.tx)?;
        if is_request {
            contact.save(self.tx, self.now)?;
        }
        self.learn_hints(opened)?;
        if let Some((row, cipher)) = file {
            row.insert(self.tx)?;
            SecretPurpose::File.keep(self.tx, &id, &cipher.to_stored(), expires_at)?;
        }
        if is_own {
            self.take_own(opened, conversation.id, expires_at)?;
        } else if contact.is_accepted && tag.is_some() {
            self.owe_receipt(&author, conversation.id, &id, "delivered")?;
        }
        Ok(true)
    }

    /// Where to look for people's lists: a message says so of its author, and a self-copy of
    /// its recipients. Nobody is asked because of it before the user writes to them or accepts
    /// them.
    fn learn_hints(&mut self, opened: &Opened) -> Result<()> {
        let tags = opened.rumor().tags();
        let parse = |text: &String| RelayUrl::parse(text).ok();
        let mut hints: Vec<(PublicKey, Vec<RelayUrl>)> = Vec::new();
        if opened.is_self_copy() {
            for tag in tags.iter().filter(|tag| tag.name() == "p") {
                let key = tag.value().and_then(|key| PublicKey::from_hex(key).ok());
                let relays = tag.elements().iter().skip(2).take(1).filter_map(parse);
                hints.extend(key.map(|key| (key, relays.collect())));
            }
        } else if let Some(tag) = tags.find("inbox") {
            let relays = tag.elements().iter().skip(1).take(HINTS).filter_map(parse);
            hints.push((opened.author(), relays.collect()));
        }
        let own = self.own();
        for (key, relays) in hints {
            let mut contact = ContactRow::of(self.tx, &key)?;
            let is_new = relays.iter().any(|relay| !contact.hints.contains(relay));
            if key != own && is_new {
                contact.add_hints(&relays);
                contact.save(self.tx, self.now)?;
            }
        }
        Ok(())
    }

    /// A message that another device of ours sent: what it takes to take it back here.
    fn take_own(
        &mut self,
        opened: &Opened,
        conversation: [u8; 16],
        expires_at: Option<u64>,
    ) -> Result<()> {
        let own = self.own();
        let rumor = opened.rumor();
        let recipients: Vec<_> = room(opened)?.into_iter().filter(|m| *m != own).collect();
        SentRow {
            id: rumor.id(),
            kind: rumor.kind(),
            conversation,
            sent_at: rumor.created_at(),
            expires_at,
            as_myself: false,
            is_here: false,
        }
        .insert(self.tx, &recipients)?;
        for recipient in &recipients {
            // Whom another device of ours wrote to is no stranger here either.
            let mut contact = ContactRow::of(self.tx, recipient)?;
            if !contact.is_accepted && !contact.is_blocked {
                contact.is_accepted = true;
                contact.save(self.tx, self.now)?;
                self.owe_delivered(recipient)?;
            }
        }
        self.learn_secret(opened)
    }

    /// Keeps the deletion secret that a self-copy brings, for as long as the message lives.
    pub fn learn_secret(&mut self, opened: &Opened) -> Result<()> {
        let id = opened.rumor().id();
        let own = opened.author();
        let Some(secret) = opened.deletion_secret() else {
            return Ok(());
        };
        let is_alive = MessageRow::find(self.tx, &own, &id)?.is_some();
        if !is_alive || SecretPurpose::Deletion.find(self.tx, &id)?.is_some() {
            return Ok(());
        }
        SecretPurpose::Deletion.keep(self.tx, &id, secret.expose_secret_bytes(), None)?;
        self.learn_wraps(opened)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crypto::gift_wrap::past_time;
    use crypto::{AccountKey, OneTimeKey, WrapKind, seal, wrap};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use wire::{EventDraft, Rumor, Tag, Tags};

    use super::*;
    use crate::engine::{Engine, EngineConfig};
    use crate::store::Store;

    /// Requests are bounded by counting the messages that are kept; one that is over before it
    /// comes is not kept, so nothing else of it may stay either.
    #[test]
    fn a_strangers_expired_message_leaves_no_conversation_and_no_rumor() {
        let now = 1_800_000_000;
        let mut rng = StdRng::seed_from_u64(1);
        let account = |n| AccountKey::from_secret_bytes(&[n; 32]).unwrap();
        let (bob, mallory) = (account(2), account(9));
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".to_owned(),
            expire_s: None,
        };
        let mut store = Store::in_memory().unwrap();
        let mut engine = Engine::new(account(2), config, &mut store, &mut rng).unwrap();
        let rumor = Rumor::new(EventDraft {
            pubkey: mallory.public_key(),
            created_at: now - 20,
            kind: kinds::TEXT,
            tags: Tags::from_iter([
                Tag::new(["p".to_owned(), bob.public_key().to_hex()]),
                Tag::new(["expiration".to_owned(), (now - 10).to_string()]),
            ]),
            content: "over".to_owned(),
        });
        let conversation = mallory.conversation_with(&bob.public_key()).unwrap();
        let dated = past_time(now, &mut rng);
        let seal = seal(&mallory, &conversation, &rumor, None, dated, &mut rng).unwrap();
        let key = OneTimeKey::generate(&mut rng);
        let to = bob.public_key();
        let kind = WrapKind::Stored;
        let wrap = wrap(&key, &to, kind, seal.json(), now, None, &mut rng).unwrap();
        let relay = RelayUrl::parse("wss://b.example").unwrap();
        let events = [wrap.json().clone()];
        let step = engine.turn(&mut store, now, &mut rng, |turn| {
            turn.receive(&relay, &events, &BTreeSet::new())
        });
        assert_eq!(step.unwrap().value, 0);
        for table in ["conversations", "known_rumors", "messages", "contacts"] {
            let query = format!("SELECT count(*) FROM {table}");
            let count: i64 = store
                .connection()
                .query_row(&query, [], |row| row.get(0))
                .unwrap();
            assert_eq!(count, 0, "{table}");
        }
    }
}
