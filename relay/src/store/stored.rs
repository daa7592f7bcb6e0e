//! An event as the log keeps it: first what decides about it, in a fixed form, then its JSON as it
//! came. So a query asks the filter and the read predicate without parsing anything.
//!
//! ```text
//!  0  [u8; 32]  id
//! 32  [u8; 32]  author
//! 64  u32       where in the JSON the recipient's 64 hex digits begin; 0: nowhere
//! 68  u16       kind
//! 70  [0xff; 2]
//! 72  u64       created_at, Unix seconds
//! 80            the JSON
//! ```
//!
//! Integers are big-endian. None of these rows of 16 bytes can be mistaken for the header of a
//! record where a scan steps over damage: the first four are hashes and keys, which nobody can
//! choose to that extent, and the last has 0xff where a header has zeros. That is also why the
//! recipient, whose bytes a sender chooses freely, is only pointed at.

use bytes::Bytes;
use memchr::memmem;
use wire::{Event, EventId, Filter, PublicKey, kinds};

use super::keys::take;
use crate::policy::{self, Readers};

/// Bytes before the JSON.
pub const PRELUDE: usize = 80;
const MARK: [u8; 2] = [0xff; 2];

/// An event that was verified before it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    body: Bytes,
    id: EventId,
    author: PublicKey,
    created_at: u64,
    kind: u16,
    recipient: Option<PublicKey>,
}

impl Stored {
    /// As it will be written.
    pub fn of(event: &Event) -> Self {
        let json = event.json();
        let recipient = match event.kind() {
            kinds::WRAP => policy::sole_recipient(event.tags()),
            _ => None,
        };
        let place = recipient
            .and_then(|key| memmem::find(json, key.to_hex().as_bytes()))
            .and_then(|place| u32::try_from(place).ok())
            .unwrap_or(0);
        let mut body = Vec::with_capacity(PRELUDE + json.len());
        body.extend(event.id().as_bytes());
        body.extend(event.pubkey().as_bytes());
        body.extend(place.to_be_bytes());
        body.extend(event.kind().to_be_bytes());
        body.extend(MARK);
        body.extend(event.created_at().to_be_bytes());
        body.extend_from_slice(json);
        Self {
            body: body.into(),
            id: event.id(),
            author: event.pubkey(),
            created_at: event.created_at(),
            kind: event.kind(),
            recipient: recipient.filter(|_| place > 0),
        }
    }

    /// From a record's body whose checksum held; nothing where it has another form.
    pub fn from_body(body: Bytes) -> Option<Self> {
        let mut bytes: &[u8] = &body;
        let input = &mut bytes;
        let id = EventId::from_bytes(take(input).ok()?);
        let author = PublicKey::from_bytes(take(input).ok()?);
        let place = u32::from_be_bytes(take(input).ok()?);
        let kind = u16::from_be_bytes(take(input).ok()?);
        let mark: [u8; 2] = take(input).ok()?;
        let created_at = u64::from_be_bytes(take(input).ok()?);
        let json = *input;
        let recipient = match place {
            0 => None,
            place => {
                let digits = json.get(usize::try_from(place).ok()?..)?.get(..64)?;
                Some(PublicKey::from_hex(std::str::from_utf8(digits).ok()?).ok()?)
            }
        };
        (mark == MARK).then_some(Self {
            id,
            author,
            created_at,
            kind,
            recipient,
            body,
        })
    }

    /// The body of its record.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The event's JSON, byte for byte as its author's client sent it.
    pub fn json(&self) -> Bytes {
        self.body.slice(PRELUDE.min(self.body.len())..)
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its time, Unix seconds.
    pub fn created_at(&self) -> u64 {
        self.created_at
    }

    /// Its time and id, as negentropy compares them.
    pub fn item(&self) -> (u64, EventId) {
        (self.created_at, self.id)
    }

    /// The event with all its parts; nothing only where the log was written by other hands.
    pub fn event(&self) -> Option<Event> {
        Event::decode(self.json()).ok()
    }

    /// Whether the filter asks for it and somebody who authenticated `auth` may see it. Parses the
    /// JSON only where the filter names a tag, or a legacy message's readers are in it.
    pub fn is_for(&self, filter: &Filter, auth: &[PublicKey]) -> bool {
        if !self.may_match(filter) {
            return false;
        }
        let readers = match (self.kind, self.recipient) {
            (kinds::WRAP, Some(recipient)) => Some(Readers::of_wrap(Some(recipient))),
            (kinds::WRAP | kinds::EPHEMERAL_WRAP | kinds::LEGACY_DM, _) => None,
            _ => Some(Readers::Everybody),
        };
        match readers {
            Some(readers) if !readers.include(auth) => false,
            Some(_) if self.matches_tags(filter) => true,
            _ => self
                .event()
                .is_some_and(|event| filter.matches(&event) && policy::may_read(&event, auth)),
        }
    }

    /// Whether everything in the filter but its tags matches.
    fn may_match(&self, filter: &Filter) -> bool {
        filter.ids.as_ref().is_none_or(|set| set.contains(&self.id))
            && filter
                .authors
                .as_ref()
                .is_none_or(|set| set.contains(&self.author))
            && filter
                .kinds
                .as_ref()
                .is_none_or(|set| set.contains(&self.kind))
            && filter.since.is_none_or(|since| self.created_at >= since)
            && filter.until.is_none_or(|until| self.created_at <= until)
    }

    /// Whether the filter's tags match as far as can be told without the JSON; false is no answer.
    fn matches_tags(&self, filter: &Filter) -> bool {
        filter.tags.iter().all(|(letter, wanted)| {
            *letter == 'p'
                && self
                    .recipient
                    .is_some_and(|key| wanted.contains(&key.to_hex()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{EventDraft, Signature, Tag, Tags};

    fn wrap(spell: impl Fn(String) -> String) -> Event {
        let draft = EventDraft {
            pubkey: PublicKey::from_bytes([7; 32]),
            created_at: 1_700_000_000,
            kind: kinds::WRAP,
            tags: Tags::from_iter([Tag::new(["p", &"ab".repeat(32)])]),
            content: "x".repeat(100),
        };
        let event = Event::from_signature(draft, Signature::from_bytes([1; 64]));
        let json = String::from_utf8(event.json().to_vec()).unwrap();
        Event::decode(spell(json).into()).unwrap()
    }

    #[test]
    fn what_decides_is_read_back_without_the_json() {
        let stored = Stored::of(&wrap(|json| json));
        let again = Stored::from_body(stored.body().clone()).unwrap();
        assert_eq!(again, stored);
        assert_eq!(again.recipient, Some(PublicKey::from_bytes([0xab; 32])));
        for cut in 0..PRELUDE {
            assert_eq!(Stored::from_body(stored.body().slice(..cut)), None);
        }
    }

    #[test]
    fn a_recipient_spelled_with_escapes_is_found_in_the_json() {
        let event = wrap(|json| json.replacen("\"abab", "\"\\u0061bab", 1));
        let stored = Stored::of(&event);
        assert_eq!(stored.recipient, None);
        let filter = Filter::default().with_tag('p', ["ab".repeat(32)]);
        assert!(stored.is_for(&filter, &[PublicKey::from_bytes([0xab; 32])]));
        assert!(!stored.is_for(&filter, &[PublicKey::from_bytes([0xac; 32])]));
        assert!(!stored.is_for(&filter, &[]));
    }
}
