//! Rumors (NIP-59): the unsigned event inside a seal.

use serde::Deserialize;

use crate::error::DecodeError;
use crate::event::{EventDraft, Tag, Tags};
use crate::ids::{EventId, PublicKey};
use crate::{json, limits};

/// An unsigned event with its id. It says nothing about who sent it until the seal around it
/// was checked; `crypto` does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rumor {
    id: EventId,
    draft: EventDraft,
}

impl Rumor {
    /// A rumor of our own; the id is computed.
    pub fn new(draft: EventDraft) -> Self {
        Self {
            id: draft.id(),
            draft,
        }
    }

    /// Reads a rumor from JSON of at most [`limits::EVENT_BYTES`]. A missing id is computed, a
    /// wrong one refused; fields that NIP-01 does not name are left aside.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Fields {
            id: Option<EventId>,
            pubkey: PublicKey,
            created_at: u64,
            kind: u16,
            tags: Tags,
            content: String,
        }
        let text = json::gate(bytes, "rumor", limits::EVENT_BYTES)?;
        let fields: Fields =
            serde_json::from_str(text).map_err(|_| DecodeError::malformed("rumor"))?;
        let rumor = Self::new(EventDraft {
            pubkey: fields.pubkey,
            created_at: fields.created_at,
            kind: fields.kind,
            tags: fields.tags,
            content: fields.content,
        });
        match fields.id {
            Some(claimed) if claimed != rumor.id => Err(DecodeError::invalid("rumor id")),
            _ => Ok(rumor),
        }
    }

    /// Its JSON, id included (NIP-59 asks for it).
    pub fn to_json(&self) -> String {
        let mut fields = self.to_fields();
        fields.insert("id".into(), self.id.to_hex().into());
        serde_json::Value::Object(fields).to_string()
    }

    fn to_fields(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(&self.draft) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        }
    }

    /// SHA-256 of its NIP-01 serialisation.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Who it claims to be from.
    pub fn author(&self) -> PublicKey {
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

    /// The `sotto` tag, if it bears one that we understand.
    pub fn sotto_tag(&self) -> Option<SottoTag> {
        SottoTag::from_tag(self.draft.tags.find("sotto")?)
    }
}

/// `["sotto","1",<device id hex>,<counter>]`: every rumor of ours bears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SottoTag {
    /// The sending device.
    pub device: [u8; 16],
    /// Increases with every rumor of that device in the conversation.
    pub counter: u64,
}

impl SottoTag {
    /// As a tag.
    pub fn to_tag(self) -> Tag {
        Tag::new([
            "sotto".to_owned(),
            "1".to_owned(),
            hex::encode(self.device),
            self.counter.to_string(),
        ])
    }

    /// From a tag; another version or a malformed one gives nothing.
    pub fn from_tag(tag: &Tag) -> Option<Self> {
        if tag.name() != "sotto" || tag.get(1) != Some("1") {
            return None;
        }
        let mut device = [0; 16];
        hex::decode_to_slice(tag.get(2)?, &mut device).ok()?;
        let counter = tag.get(3)?.parse().ok()?;
        Some(Self { device, counter })
    }
}
