//! Seals (NIP-59, kind 13): the author signs the rumor, encrypted for one recipient.

use rand::CryptoRng;
use wire::{Event, EventDraft, EventId, PublicKey, Rumor, Tags, kinds, limits};
use zeroize::Zeroizing;

use crate::content_key::{ConversationKey, PayloadError};
use crate::deletion::DeletionSecret;
use crate::identity::AccountKey;

/// The room that `,"sotto_d":"<64 hex>"` takes beside the rumor's fields in a self-copy.
pub const DELETION_FIELD_BYTES: usize = 77;

/// Why no seal was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The rumor names another author, or the conversation key is not the author's. Nothing is
    /// signed in another's name.
    #[error("the rumor's author does not seal it")]
    Author,
    /// A deletion secret was to be sent to somebody else than the author.
    #[error("a deletion secret goes to the author's own devices only")]
    DeletionSecretToOther,
    /// The rumor's JSON does not leave room for [`DELETION_FIELD_BYTES`] within
    /// [`limits::RUMOR_BYTES`]. The same for every recipient, so that a message which can be sent
    /// can be kept.
    #[error("the message is larger than fits into an event")]
    TooLarge,
}

impl From<PayloadError> for SealError {
    fn from(_: PayloadError) -> Self {
        Self::TooLarge
    }
}

/// Whether a rumor fits into a seal, the self-copy's included.
pub fn fits(rumor: &Rumor) -> bool {
    rumor.to_json().len().saturating_add(DELETION_FIELD_BYTES) <= limits::RUMOR_BYTES
}

/// Seals `rumor` for the peer of `conversation`: kind 13, no tags, signed by `author`.
///
/// `created_at` should be [`crate::gift_wrap::past_time`], drawn apart for each seal. `secret` is
/// for the self-copy, whose conversation is that of the author with themselves: it travels as
/// the field `sotto_d` beside the rumor's own and is not part of the rumor's id.
pub fn seal(
    author: &AccountKey,
    conversation: &ConversationKey,
    rumor: &Rumor,
    secret: Option<&DeletionSecret>,
    created_at: u64,
    rng: &mut dyn CryptoRng,
) -> Result<Event, SealError> {
    let own = author.public_key();
    if rumor.author() != own || conversation.own() != own {
        return Err(SealError::Author);
    }
    let json = rumor.to_json();
    if json.len().saturating_add(DELETION_FIELD_BYTES) > limits::RUMOR_BYTES {
        return Err(SealError::TooLarge);
    }
    let content = match secret {
        None => conversation.encrypt(json.as_bytes(), rng)?,
        Some(_) if conversation.peer() != own => return Err(SealError::DeletionSecretToOther),
        Some(secret) => {
            conversation.encrypt(with_deletion_secret(&json, secret).as_bytes(), rng)?
        }
    };
    let draft = EventDraft {
        pubkey: own,
        created_at,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content,
    };
    Ok(author.sign(draft, rng))
}

fn with_deletion_secret(rumor: &str, secret: &DeletionSecret) -> Zeroizing<String> {
    let hex = Zeroizing::new(hex::encode(secret.expose_secret_bytes()));
    let mut json = Zeroizing::new(String::with_capacity(rumor.len() + DELETION_FIELD_BYTES));
    json.push_str(rumor.strip_suffix('}').unwrap_or(rumor));
    json.push_str(",\"sotto_d\":\"");
    json.push_str(&hex);
    json.push_str("\"}");
    json
}

fn with_wraps(rumor: &str, wraps: &[(PublicKey, EventId)]) -> Zeroizing<String> {
    let fields: serde_json::Map<String, serde_json::Value> = wraps
        .iter()
        .map(|(inbox, id)| (inbox.to_hex(), id.to_hex().into()))
        .collect();
    let fields = serde_json::Value::Object(fields).to_string();
    let mut json = Zeroizing::new(String::with_capacity(rumor.len() + fields.len() + 16));
    json.push_str(rumor.strip_suffix('}').unwrap_or(rumor));
    json.push_str(",\"sotto_w\":");
    json.push_str(&fields);
    json.push('}');
    json
}
