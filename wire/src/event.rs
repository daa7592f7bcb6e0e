//! Events (NIP-01), decoded but not yet trusted.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::error::DecodeError;
use crate::ids::{EventId, PublicKey, Signature};
use crate::{json, limits};

/// An event whose fields were read but whose id and signature nobody has checked.
///
/// It keeps the JSON that it came in, byte for byte, so that a relay stores and serves what the
/// author signed and sent. [`crate::VerifiedEvent::verify`] makes it trustworthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    json: Bytes,
    id: EventId,
    draft: EventDraft,
    sig: Signature,
}

/// The signed part of an event: everything but id and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventDraft {
    /// Who signs it.
    pub pubkey: PublicKey,
    /// Unix seconds, as its author claims.
    pub created_at: u64,
    /// What it is; see [`crate::kinds`].
    pub kind: u16,
    /// Tags in order.
    pub tags: Tags,
    /// Free content.
    pub content: String,
}

impl EventDraft {
    /// The NIP-01 id: SHA-256 of `[0,pubkey,created_at,kind,tags,content]` without white space.
    pub fn id(&self) -> EventId {
        EventId::from_bytes(sha2::Sha256::digest(self.serialise()).into())
    }

    /// The bytes that the id hashes.
    fn serialise(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160 + self.content.len() + self.content.len() / 16);
        let preimage = (
            0_u8,
            &self.pubkey,
            self.created_at,
            self.kind,
            &self.tags,
            &self.content,
        );
        // Writing to memory cannot fail and these types always serialise; an empty preimage
        // would give an id that matches nothing, so even then no forged event passes.
        if serde_json::to_writer(&mut out, &preimage).is_err() {
            out.clear();
        }
        out
    }
}

/// One event with exactly the fields of NIP-01, for encoding.
#[derive(Serialize)]
struct Fields<'a> {
    id: &'a EventId,
    pubkey: &'a PublicKey,
    created_at: u64,
    kind: u16,
    tags: &'a Tags,
    content: &'a str,
    sig: &'a Signature,
}

/// The same for decoding. A field twice is refused; fields that NIP-01 does not name are noticed
/// and not kept. Written out because serde's `flatten`, which could notice them too, buffers every
/// field first: this runs once for each event that reaches a relay.
struct Decoded {
    id: EventId,
    draft: EventDraft,
    sig: Signature,
    has_more: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Pubkey,
    CreatedAt,
    Kind,
    Tags,
    Content,
    Sig,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Decoded;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Decoded, A::Error> {
                let (mut id, mut pubkey, mut created_at, mut kind) = (None, None, None, None);
                let (mut tags, mut content, mut sig) = (None, None, None);
                let mut has_more = false;
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Id => once(&mut id, &mut map, "id")?,
                        Field::Pubkey => once(&mut pubkey, &mut map, "pubkey")?,
                        Field::CreatedAt => once(&mut created_at, &mut map, "created_at")?,
                        Field::Kind => once(&mut kind, &mut map, "kind")?,
                        Field::Tags => once(&mut tags, &mut map, "tags")?,
                        Field::Content => once(&mut content, &mut map, "content")?,
                        Field::Sig => once(&mut sig, &mut map, "sig")?,
                        Field::Other => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                            has_more = true;
                        }
                    }
                }
                let missing = <A::Error as serde::de::Error>::missing_field;
                Ok(Decoded {
                    id: id.ok_or_else(|| missing("id"))?,
                    draft: EventDraft {
                        pubkey: pubkey.ok_or_else(|| missing("pubkey"))?,
                        created_at: created_at.ok_or_else(|| missing("created_at"))?,
                        kind: kind.ok_or_else(|| missing("kind"))?,
                        tags: tags.ok_or_else(|| missing("tags"))?,
                        content: content.ok_or_else(|| missing("content"))?,
                    },
                    sig: sig.ok_or_else(|| missing("sig"))?,
                    has_more,
                })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Reads a field's value, unless the field was there before.
fn once<'de, T: Deserialize<'de>, A: serde::de::MapAccess<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
    name: &'static str,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(serde::de::Error::duplicate_field(name));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

impl Event {
    /// Reads one event from JSON of at most [`limits::EVENT_BYTES`].
    ///
    /// Fields may come in any order and with white space. Fields that NIP-01 does not name are
    /// dropped (and the JSON written anew without them): nobody signed them, so nobody serves them.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let text = json::gate(&bytes, "event", limits::EVENT_BYTES)?;
        let decoded = serde_json::from_str(text).map_err(|error| refused(&error))?;
        Ok(Self::from_decoded(decoded, bytes))
    }

    /// The same for a part of a frame that passed the gate as a whole.
    pub(crate) fn decode_gated(text: &str, bytes: Bytes) -> Result<Self, DecodeError> {
        if text.len() > limits::EVENT_BYTES {
            let limit = limits::EVENT_BYTES;
            return Err(DecodeError::TooLarge {
                what: "event",
                limit,
            });
        }
        let decoded = serde_json::from_str(text).map_err(|error| refused(&error))?;
        Ok(Self::from_decoded(decoded, bytes))
    }

    fn from_decoded(decoded: Decoded, json: Bytes) -> Self {
        let Decoded {
            id,
            draft,
            sig,
            has_more,
        } = decoded;
        match has_more {
            true => Self::from_signed(draft, id, sig),
            false => Self {
                json,
                id,
                draft,
                sig,
            },
        }
    }

    /// An event from a draft and a signature over [`EventDraft::id`], encoded compactly.
    pub fn from_signature(draft: EventDraft, sig: Signature) -> Self {
        let id = draft.id();
        Self::from_signed(draft, id, sig)
    }

    /// An event from a draft and a signer of its id, which is computed once.
    pub fn sign_with(draft: EventDraft, sign: impl FnOnce(&EventId) -> Signature) -> Self {
        let id = draft.id();
        let sig = sign(&id);
        Self::from_signed(draft, id, sig)
    }

    fn from_signed(draft: EventDraft, id: EventId, sig: Signature) -> Self {
        let fields = Fields {
            id: &id,
            pubkey: &draft.pubkey,
            created_at: draft.created_at,
            kind: draft.kind,
            tags: &draft.tags,
            content: &draft.content,
            sig: &sig,
        };
        let json = serde_json::to_vec(&fields).unwrap_or_default().into();
        Self {
            json,
            id,
            draft,
            sig,
        }
    }

    /// The JSON as it came, or as it was first written.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The claimed id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The claimed author.
    pub fn pubkey(&self) -> PublicKey {
        self.draft.pubkey
    }

    /// The claimed time, Unix seconds.
    pub fn created_at(&self) -> u64 {
        self.draft.created_at
    }

    /// The kind.
    pub fn kind(&self) -> u16 {
        self.draft.kind
    }

    /// The tags.
    pub fn tags(&self) -> &Tags {
        &self.draft.tags
    }

    /// The content.
    pub fn content(&self) -> &str {
        &self.draft.content
    }

    /// The claimed signature.
    pub fn sig(&self) -> &Signature {
        &self.sig
    }

    /// The part that id and signature are made of.
    pub fn draft(&self) -> &EventDraft {
        &self.draft
    }

    /// The time from which nobody may serve it (NIP-40), Unix seconds.
    pub fn expiration(&self) -> Option<u64> {
        self.draft.tags.expiration()
    }
}

/// One tag: a name and values, all text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Tag(Vec<String>);

impl Tag {
    /// From its elements, name first.
    pub fn new<S: Into<String>>(elements: impl IntoIterator<Item = S>) -> Self {
        Self(elements.into_iter().map(Into::into).collect())
    }

    /// The first element, or nothing in an empty tag.
    pub fn name(&self) -> &str {
        self.get(0).unwrap_or_default()
    }

    /// The second element.
    pub fn value(&self) -> Option<&str> {
        self.get(1)
    }

    /// The element at `index`, the name being 0.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(String::as_str)
    }

    /// All elements.
    pub fn elements(&self) -> &[String] {
        &self.0
    }
}

/// The tags of an event, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// No tags.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// All tags in order.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one at the end.
    pub fn push(&mut self, tag: Tag) {
        self.0.push(tag);
    }

    /// The first tag called `name`.
    pub fn find(&self, name: &str) -> Option<&Tag> {
        self.0.iter().find(|tag| tag.name() == name)
    }

    /// The second element of the first tag called `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(Tag::value)
    }

    /// The second elements of all tags called `name`.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |tag| tag.name() == name)
            .filter_map(Tag::value)
    }

    /// The keys of the `p` tags that are well-formed.
    pub fn people(&self) -> impl Iterator<Item = PublicKey> {
        self.values("p")
            .filter_map(|text| PublicKey::from_hex(text).ok())
    }

    /// The `expiration` tag as Unix seconds (NIP-40). A malformed one counts as none.
    pub fn expiration(&self) -> Option<u64> {
        self.value("expiration").and_then(|text| text.parse().ok())
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        Self(tags.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_seq(CappedSeq::<Tag>::new(TAGS))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_seq(CappedSeq::<String>::new(TAG_ELEMENTS))
            .map(Self)
    }
}

/// What a list holds, and how many at most.
type Cap = (&'static str, usize);
const TAGS: Cap = ("tags", limits::TAGS);
const TAG_ELEMENTS: Cap = ("elements of a tag", limits::TAG_ELEMENTS);

fn too_many(what: &str) -> String {
    format!("too many {what}")
}

/// Which rule an event breaks: one of NIP-01, or a cap of ours.
fn refused(error: &serde_json::Error) -> DecodeError {
    let error = error.to_string();
    let mut caps = [TAGS, TAG_ELEMENTS].into_iter();
    match caps.find(|(what, _)| error.starts_with(&too_many(what))) {
        Some((what, limit)) => DecodeError::TooMany { what, limit },
        None => DecodeError::malformed("event"),
    }
}

/// A list that stops at a limit instead of growing with the sender's patience.
struct CappedSeq<T> {
    cap: Cap,
    items: std::marker::PhantomData<T>,
}

impl<T> CappedSeq<T> {
    fn new(cap: Cap) -> Self {
        Self {
            cap,
            items: std::marker::PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for CappedSeq<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list of at most {} items", self.cap.1)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let (what, limit) = self.cap;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == limit {
                return Err(serde::de::Error::custom(too_many(what)));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EventDraft {
        EventDraft {
            pubkey: PublicKey::from_bytes([7; 32]),
            created_at: 1_700_000_000,
            kind: 1059,
            tags: Tags::from_iter([Tag::new(["p", &"ab".repeat(32)])]),
            content: "line\nquote\" back\\slash \u{1} \u{7f} ü".into(),
        }
    }

    #[test]
    fn the_id_hashes_the_compact_nip01_serialisation() {
        let draft = sample();
        let expected = format!(
            "[0,\"{}\",1700000000,1059,[[\"p\",\"{}\"]],\"line\\nquote\\\" back\\\\slash \\u0001 \u{7f} ü\"]",
            "07".repeat(32),
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(draft.serialise()).unwrap(), expected);
    }

    #[test]
    fn original_bytes_are_kept() {
        let event = Event::from_signature(sample(), Signature::from_bytes([1; 64]));
        let text = String::from_utf8(event.json().to_vec()).unwrap();
        let spaced = Bytes::from(text.replace(",\"kind\"", " ,\n \"kind\""));
        let again = Event::decode(spaced.clone()).unwrap();
        assert_eq!(again.json(), &spaced);
        assert_eq!(again.draft(), event.draft());
    }

    #[test]
    fn fields_that_nobody_signed_are_dropped() {
        let event = Event::from_signature(sample(), Signature::from_bytes([1; 64]));
        let text = String::from_utf8(event.json().to_vec()).unwrap();
        let smuggled = text.replacen('{', "{\"note\":[\"unsigned\"],", 1);
        let again = Event::decode(Bytes::from(smuggled)).unwrap();
        assert_eq!(again.json(), event.json());
    }

    #[test]
    fn malformed_events_are_refused() {
        let event = Event::from_signature(sample(), Signature::from_bytes([1; 64]));
        let text = String::from_utf8(event.json().to_vec()).unwrap();
        let spoil = |from: &str, to: &str| {
            let spoiled = text.replace(from, to);
            assert_ne!(spoiled, text, "{from} is not in the sample");
            Event::decode(Bytes::from(spoiled)).unwrap_err()
        };
        spoil("1700000000", "-1");
        spoil("1700000000", "1e3");
        spoil("1700000000", "\"1\"");
        spoil("\"kind\":1059", "\"kind\":65536");
        spoil("\"kind\":1059", "\"kind\":1059,\"kind\":1");
        spoil("[[\"p\"", "[[1");
        spoil("0707", "07");
        spoil("\"p\"", "\"\\ud800\"");
        let upper = text.replace(&"07".repeat(32), &"AB".repeat(32));
        assert!(Event::decode(Bytes::from(upper)).is_err());
        let many = "[\"x\"],".repeat(limits::TAGS + 1);
        let bomb = text.replace("\"tags\":[", &format!("\"tags\":[{many}"));
        assert_eq!(
            Event::decode(Bytes::from(bomb)).unwrap_err().to_string(),
            "there are more than 2000 tags"
        );
        let many = "\"x\",".repeat(limits::TAG_ELEMENTS);
        let bomb = text.replace("[\"p\"", &format!("[{many}\"p\""));
        assert_eq!(
            Event::decode(Bytes::from(bomb)).unwrap_err().to_string(),
            "there are more than 512 elements of a tag"
        );
    }
}
