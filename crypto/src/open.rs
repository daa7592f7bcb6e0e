//! Opening what came: the only door to an [`Opened`] message.
//!
//! Stage 1, [`open_envelope`], needs the inbox key alone and tells which channel is inside.
//! Stage 2, [`open_seal`], makes every check that says who wrote it. A wrap's author is a key
//! used once and proves nothing; a rumor is signed by nobody; only the seal's signature counts,
//! and only for what it holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use wire::{DecodeError, Event, EventId, PublicKey, Rumor, VerifiedEvent, VerifyError, kinds};
use zeroize::Zeroizing;

use crate::content_key::KeyCache;
use crate::deletion::DeletionSecret;
use crate::gift_wrap::{SEAL_BYTE, SESSION_BYTE};
use crate::identity::AccountKey;
use crate::seal::SELF_COPY_WRAPS;

/// Why a wrap was refused for good: one variant per check. None of them passes with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not kind 1059 or 21059.
    #[error("not a gift wrap")]
    WrapKind,
    /// The wrap's content does not decrypt with the inbox key.
    #[error("the wrap is not encrypted for this key")]
    WrapPayload,
    /// The first byte inside names no channel that we know.
    #[error("the wrap holds neither a seal nor a session message")]
    Channel,
    /// The envelope was opened with another inbox key than stage 2 was given.
    #[error("the envelope belongs to another inbox key")]
    Inbox,
    /// The seal is no event.
    #[error("the seal is not an event")]
    SealForm,
    /// The seal is not kind 13.
    #[error("the seal is not of kind 13")]
    SealKind,
    /// The seal has tags, which would be seen by whoever opens the wrap and mean nothing.
    #[error("the seal has tags")]
    SealTags,
    /// The seal's id is not its hash.
    #[error("the seal's id does not match its content")]
    SealId,
    /// The seal's signature does not hold.
    #[error("the seal's signature does not hold")]
    SealSignature,
    /// The seal's content does not decrypt with the inbox key and the seal's author.
    #[error("the seal is not encrypted for this key")]
    SealPayload,
    /// What the seal holds is no rumor.
    #[error("the seal does not hold a message")]
    RumorForm,
    /// The rumor claims an id that is not its hash.
    #[error("the message's id does not match its content")]
    RumorId,
    /// The rumor claims another author than who sealed it.
    #[error("the message claims another author than its seal")]
    RumorAuthor,
    /// A text or file message whose `p` tags do not name the receiving key, and which is not the
    /// receiver's own copy: somebody passed on what was written to others.
    #[error("the message is not addressed to this key")]
    NotAddressed,
}

/// What is known of the wrap that something came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapFacts {
    /// The wrap's id.
    pub id: EventId,
    /// 1059 or 21059.
    pub kind: u16,
    /// The key that it was opened with.
    pub inbox: PublicKey,
    /// The wrap's own expiry, Unix seconds. Counts where the rumor has none.
    pub expiration: Option<u64>,
}

/// A wrap that decrypted with the inbox key: stage 1 of 2. It says nothing yet about who wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// A seal, for [`open_seal`].
    Seal(SealEnvelope),
    /// A message of a forward-secret session. A client without sessions keeps it as pending.
    Session(SessionEnvelope),
}

/// The JSON that claims to be a seal, and where it came in.
#[derive(Clone, PartialEq, Eq)]
pub struct SealEnvelope {
    json: Bytes,
    wrap: WrapFacts,
}

/// The bytes of a session message, and where they came in.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionEnvelope {
    bytes: Bytes,
    wrap: WrapFacts,
}

impl SealEnvelope {
    /// The wrap around it.
    pub fn wrap(&self) -> &WrapFacts {
        &self.wrap
    }
}

impl SessionEnvelope {
    /// The wrap around it.
    pub fn wrap(&self) -> &WrapFacts {
        &self.wrap
    }

    /// The message, its first byte 0x01 included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl std::fmt::Debug for SealEnvelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealEnvelope")
    }
}

impl std::fmt::Debug for SessionEnvelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionEnvelope")
    }
}

/// A message whose author is proved. Nothing but [`open_seal`] makes one.
#[derive(Clone)]
pub struct Opened {
    rumor: Rumor,
    wrap: WrapFacts,
    deletion_secret: Option<DeletionSecret>,
    wraps: Vec<(PublicKey, EventId)>,
}

impl Opened {
    /// The message.
    pub fn rumor(&self) -> &Rumor {
        &self.rumor
    }

    /// Who wrote it: signed the seal, and is named by the rumor.
    pub fn author(&self) -> PublicKey {
        self.rumor.author()
    }

    /// The own key that it came to.
    pub fn inbox(&self) -> PublicKey {
        self.wrap.inbox
    }

    /// The wrap it came in, which deletions on relays name.
    pub fn wrap_id(&self) -> EventId {
        self.wrap.id
    }

    /// The wrap it came in.
    pub fn wrap(&self) -> &WrapFacts {
        &self.wrap
    }

    /// Whether the own account wrote it, here or on another device.
    pub fn is_self_copy(&self) -> bool {
        self.author() == self.inbox()
    }

    /// The message's deletion secret, which only a self-copy brings.
    pub fn deletion_secret(&self) -> Option<&DeletionSecret> {
        self.deletion_secret.as_ref()
    }

    /// The wraps made for others, by inbox key, as a self-copy names them; at most 64.
    pub fn wraps(&self) -> &[(PublicKey, EventId)] {
        &self.wraps
    }

    /// When it vanishes, Unix seconds: the rumor's own expiry, else the wrap's.
    pub fn expiration(&self) -> Option<u64> {
        self.rumor.tags().expiration().or(self.wrap.expiration)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

/// Stage 1: decrypts a verified wrap with the inbox key and tells the channel by its first byte.
///
/// The wrap's id and signature were checked by [`VerifiedEvent::verify`], its size by
/// [`Event::decode`]. Costs one key agreement.
pub fn open_envelope(inbox: &AccountKey, wrap: &VerifiedEvent) -> Result<Envelope, Refusal> {
    if !kinds::is_wrap(wrap.kind()) {
        return Err(Refusal::WrapKind);
    }
    let plaintext = inbox
        .conversation_with(&wrap.pubkey())
        .ok()
        .and_then(|conversation| conversation.decrypt(wrap.content()).ok())
        .ok_or(Refusal::WrapPayload)?;
    let facts = WrapFacts {
        id: wrap.id(),
        kind: wrap.kind(),
        inbox: inbox.public_key(),
        expiration: wrap.expiration(),
    };
    let bytes = Bytes::from(plaintext);
    match bytes.first() {
        Some(&SEAL_BYTE) => Ok(Envelope::Seal(SealEnvelope {
            json: bytes,
            wrap: facts,
        })),
        Some(&SESSION_BYTE) => Ok(Envelope::Session(SessionEnvelope { bytes, wrap: facts })),
        _ => Err(Refusal::Channel),
    }
}

/// Stage 2: opens a seal and checks who wrote what to whom, in this order: seal kind, no tags,
/// seal id, signature, decryption, rumor id (computed where absent), rumor author = seal author,
/// and for text and file messages that they are addressed to the receiving key.
///
/// Other rumor kinds are bound to a conversation by the engine, which knows it. `keys` saves the
/// key agreement with known contacts.
pub fn open_seal(
    inbox: &AccountKey,
    envelope: &SealEnvelope,
    keys: &KeyCache,
) -> Result<Opened, Refusal> {
    let own = inbox.public_key();
    if envelope.wrap.inbox != own {
        return Err(Refusal::Inbox);
    }
    let seal = Event::decode(envelope.json.clone()).map_err(|_| Refusal::SealForm)?;
    if seal.kind() != kinds::SEAL {
        return Err(Refusal::SealKind);
    }
    if !seal.tags().is_empty() {
        return Err(Refusal::SealTags);
    }
    let seal = VerifiedEvent::verify(seal).map_err(|error| match error {
        VerifyError::Id => Refusal::SealId,
        VerifyError::Signature => Refusal::SealSignature,
    })?;
    let author = seal.pubkey();
    let json = match keys.find(&own, &author) {
        Some(key) => key.decrypt(seal.content()),
        None => inbox
            .conversation_with(&author)
            .map_err(|_| Refusal::SealPayload)?
            .decrypt(seal.content()),
    }
    .map_err(|_| Refusal::SealPayload)?;
    let rumor = Rumor::decode(&json).map_err(|error| match error {
        DecodeError::Invalid { what: "rumor id" } => Refusal::RumorId,
        _ => Refusal::RumorForm,
    });
    let is_self_copy = author == own;
    let (mut secret, mut wraps) = (None, Vec::new());
    if is_self_copy {
        // Only here may the plaintext hold a secret; wiping each message would cost as much as
        // decrypting it, and the rumor itself lives on in the store.
        let json = Zeroizing::new(json);
        secret = deletion_secret(&json);
        wraps = named_wraps(&json);
    }
    let rumor = rumor?;
    if rumor.author() != author {
        return Err(Refusal::RumorAuthor);
    }
    let names_people = matches!(rumor.kind(), kinds::TEXT | kinds::FILE);
    if names_people && !is_self_copy && !rumor.tags().people().any(|key| key == own) {
        return Err(Refusal::NotAddressed);
    }
    Ok(Opened {
        deletion_secret: secret,
        wraps,
        rumor,
        wrap: envelope.wrap,
    })
}

/// The field `sotto_d` of a self-copy. One that is malformed counts as none: the message is
/// still the author's, it can only not be taken back from the relays by this device.
fn deletion_secret(json: &[u8]) -> Option<DeletionSecret> {
    #[derive(Deserialize)]
    struct Field {
        sotto_d: Option<String>,
    }
    let field: Field = serde_json::from_slice(json).ok()?;
    let mut bytes = Zeroizing::new([0; 32]);
    let text = Zeroizing::new(field.sotto_d?);
    hex::decode_to_slice(text.as_bytes(), bytes.as_mut_slice()).ok()?;
    Some(DeletionSecret::from_secret_bytes(*bytes))
}

/// The field `sotto_w` of a self-copy. What is malformed in it counts as absent.
fn named_wraps(json: &[u8]) -> Vec<(PublicKey, EventId)> {
    #[derive(Deserialize)]
    struct Field {
        sotto_w: Option<BTreeMap<String, String>>,
    }
    let field = serde_json::from_slice::<Field>(json).ok();
    let entries = field.and_then(|field| field.sotto_w).unwrap_or_default();
    let parse = |(inbox, id): (&String, &String)| {
        Some((
            PublicKey::from_hex(inbox).ok()?,
            EventId::from_hex(id).ok()?,
        ))
    };
    entries
        .iter()
        .filter_map(parse)
        .take(SELF_COPY_WRAPS)
        .collect()
}
