//! The user's words become a rumor, and the rumor becomes stored intent.

use std::collections::BTreeSet;

use crypto::DeletionSecret;
use wire::rumor::SottoTag;
use wire::{EventDraft, EventId, PublicKey, Rumor, Sha256, Tag, Tags, kinds, limits};

use crate::engine::channel::{Channel as _, Nip17, too_large};
use crate::engine::file_message::{self, FileCipher};
use crate::engine::machine::{Engine, Rng, Step, Turn};
use crate::engine::send::Outgoing;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, ContactRow, ConversationRow, FileRow, MessageRow, SecretPurpose, Store};

/// A message to send: a text or a file.
#[derive(Debug, Clone)]
pub struct Compose {
    /// To whom. The own key makes a note to oneself.
    pub to: PublicKey,
    /// The text; together with `file` it is refused, since they are two messages.
    pub text: Option<String>,
    /// The file, encrypted and spooled already.
    pub file: Option<SpooledFile>,
    /// The message that it answers.
    pub reply_to: Option<EventId>,
    /// How long it lives, seconds; otherwise as the conversation or circle says.
    pub expire_s: Option<u64>,
    /// Let the account key AUTH where a relay insists on it.
    pub as_myself: bool,
    /// The same key never sends twice.
    pub idempotency_key: Option<String>,
}

/// A file that lies encrypted in the spool.
#[derive(Debug, Clone)]
pub struct SpooledFile {
    /// SHA-256 of the ciphertext; also its name in the spool.
    pub blob: Sha256,
    /// Bytes of ciphertext.
    pub cipher_size: u64,
    /// Bytes of the file.
    pub plain_size: u64,
    /// SHA-256 of the file.
    pub plain_hash: Sha256,
    /// Its name, without a path.
    pub name: String,
    /// Its MIME type.
    pub mime: String,
    /// Key and nonce.
    pub cipher: FileCipher,
}

/// A message may live this long, seconds: 10 years. More is a typing error.
const EXPIRE_MAX_SECONDS: u64 = 10 * 366 * 86_400;
/// Own relays that a message names.
const INBOX_HINTS: usize = 3;
/// An idempotency key, bytes.
const IDEMPOTENCY_BYTES: usize = 256;

impl Engine {
    /// Stores a message and everything needed to send it, in one transaction, and starts
    /// sending. Gives the rumor's id.
    ///
    /// With an idempotency key that was used before, the earlier message's id comes back, and
    /// what is left to do for it is taken up.
    ///
    /// Fails, with nothing stored, where the text is too large (`too_large`, exit 2), the
    /// contact is blocked (`blocked`), a file has no file server to go to (`conflict`), or
    /// nothing was given to send (`usage`).
    pub fn send(
        &mut self,
        store: &mut Store,
        compose: Compose,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Step<EventId>> {
        self.turn(store, now, rng, |turn| {
            let id = turn.compose(compose)?;
            turn.settle()?;
            Ok(id)
        })
    }

    /// The message that an idempotency key stands for, if it was used.
    pub fn idempotent(&self, store: &Store, key: &str) -> Result<Option<EventId>> {
        store::idempotent(store.connection(), key)
    }
}

impl Turn<'_> {
    fn compose(&mut self, compose: Compose) -> Result<EventId> {
        if let Some(key) = &compose.idempotency_key {
            if key.is_empty() || key.len() > IDEMPOTENCY_BYTES {
                return Err(Error::new(
                    ErrorWord::Usage,
                    "an idempotency key has 1 to 256 bytes",
                ));
            }
            if let Some(id) = store::idempotent(self.tx, key)? {
                return Ok(id);
            }
        }
        let mut contact = ContactRow::of(self.tx, &compose.to)?;
        if contact.is_blocked {
            return Err(
                Error::new(ErrorWord::Blocked, "the contact is blocked").hint("unblock it first")
            );
        }
        let own = self.own();
        let mut conversation = self.conversation_of(BTreeSet::from([own, compose.to]))?;
        let ttl = compose
            .expire_s
            .or(conversation.expire_s)
            .or(self.config.expire_s);
        let expires_at = self.expiry_of(ttl)?;
        let mut tags = Tags::new();
        tags.push(self.member_tag(&compose.to, &contact)?);
        tags.push(self.inbox_tag()?);
        if let Some(id) = &compose.reply_to {
            tags.push(Tag::new(["e".to_owned(), id.to_hex()]));
        }
        let (kind, content) = match (&compose.text, &compose.file) {
            (Some(text), None) => {
                if text.is_empty() {
                    return Err(Error::new(ErrorWord::Usage, "there is nothing to send"));
                }
                if text.len() > limits::TEXT_BYTES {
                    return Err(too_large());
                }
                (kinds::TEXT, text.clone())
            }
            (None, Some(file)) => {
                let is_foreign = matches!(file.cipher, FileCipher::Foreign(_));
                if is_foreign && file.plain_size > limits::FOREIGN_FILE_BYTES {
                    return Err(Error::new(
                        ErrorWord::TooLarge,
                        "the recipient's client takes files of at most 16 MiB",
                    ));
                }
                let urls = self.upload_urls(file)?;
                file_message::tag(file, &urls, &mut tags);
                let first = urls.first().map(ToString::to_string);
                (kinds::FILE, first.unwrap_or_default())
            }
            _ => {
                return Err(Error::new(
                    ErrorWord::Usage,
                    "a message is a text or a file",
                ));
            }
        };
        let rumor = self.rumor(&mut conversation, kind, content, tags, expires_at)?;
        if !crypto::seal::fits(&rumor) {
            return Err(too_large());
        }
        let secret = DeletionSecret::generate(self.rng);
        self.keep_own_message(&rumor, &conversation, &compose)?;
        if let Some(file) = &compose.file {
            self.keep_own_file(&rumor, file, &secret)?;
        }
        // Whoever is written to is no stranger any more.
        if !contact.is_accepted {
            contact.is_accepted = true;
            contact.save(self.tx, self.now)?;
            self.owe_delivered(&compose.to)?;
        }
        let recipients: Vec<PublicKey> = conversation
            .members
            .iter()
            .filter(|m| **m != own || conversation.members.len() == 1)
            .copied()
            .collect();
        self.queue(Outgoing {
            rumor: &rumor,
            conversation: conversation.id,
            recipients: &recipients,
            secret: &secret,
            expires_at,
            as_myself: compose.as_myself || contact.as_myself,
            self_copy: true,
        })?;
        if let Some(key) = &compose.idempotency_key {
            store::remember_idempotent(self.tx, key, &rumor.id())?;
        }
        Ok(rumor.id())
    }

    /// The NIP-17 conversation of these members, made where it is new.
    pub fn conversation_of(&mut self, members: BTreeSet<PublicKey>) -> Result<ConversationRow> {
        if let Some(known) = ConversationRow::of_members(self.tx, &members)? {
            return Ok(known);
        }
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        ConversationRow::create(self.tx, id, members, self.now)
    }

    /// `["p", key, relay]`: NIP-17's hint tells our other devices where to look for the list.
    fn member_tag(&self, member: &PublicKey, contact: &ContactRow) -> Result<Tag> {
        let mut elements = vec!["p".to_owned(), member.to_hex()];
        let list = store::PeerList::find(self.tx, member, kinds::INBOX_RELAYS)?;
        let listed = list.and_then(|list| list.urls.first().cloned());
        let hint = listed.or_else(|| contact.hints.first().map(ToString::to_string));
        elements.extend(hint);
        Ok(Tag::new(elements))
    }

    /// `["inbox", relay, ...]`: where to look for our own list, so that who never had a link of
    /// ours can answer. Only the recipient reads it.
    fn inbox_tag(&self) -> Result<Tag> {
        let mut elements = vec!["inbox".to_owned()];
        let relays = store::own_relays(self.tx)?;
        elements.extend(relays.iter().take(INBOX_HINTS).map(ToString::to_string));
        Ok(Tag::new(elements))
    }

    fn expiry_of(&self, ttl: Option<u64>) -> Result<Option<u64>> {
        match ttl {
            None => Ok(None),
            Some(ttl) if ttl == 0 || ttl > EXPIRE_MAX_SECONDS => Err(Error::new(
                ErrorWord::Usage,
                "a message lives for at least a second and at most ten years",
            )),
            Some(ttl) => Ok(Some(self.now.saturating_add(ttl))),
        }
    }

    /// A rumor of ours in a conversation: the device's next counter and the exact expiry are
    /// added to its tags.
    pub fn rumor(
        &mut self,
        conversation: &mut ConversationRow,
        kind: u16,
        content: String,
        mut tags: Tags,
        expires_at: Option<u64>,
    ) -> Result<Rumor> {
        let counter = conversation.advance(self.tx)?;
        let device = *self.device.as_bytes();
        tags.push(SottoTag { device, counter }.to_tag());
        if let Some(at) = expires_at {
            tags.push(Tag::new(["expiration".to_owned(), at.to_string()]));
        }
        Ok(Rumor::new(EventDraft {
            pubkey: self.own(),
            created_at: self.now,
            kind,
            tags,
            content,
        }))
    }

    fn keep_own_message(
        &mut self,
        rumor: &Rumor,
        conversation: &ConversationRow,
        compose: &Compose,
    ) -> Result<()> {
        let own = self.own();
        let id = rumor.id();
        store::note_rumor(self.tx, &own, &id)?;
        let seq = store::note(self.tx, "message", &own, &id, None, self.now)?;
        MessageRow {
            seq,
            id,
            author: own,
            conversation: conversation.id,
            is_own: true,
            kind: rumor.kind(),
            text: compose.text.clone().unwrap_or_default(),
            claimed_at: rumor.created_at(),
            shown_at: rumor.created_at(),
            counter: conversation.counter,
            device: Some(*self.device.as_bytes()),
            received_at: self.now,
            expires_at: rumor.tags().expiration(),
            reply_to: compose.reply_to,
            protection: Nip17::PROTECTION.number(),
            is_unread: false,
        }
        .insert(self.tx)
    }

    fn keep_own_file(
        &mut self,
        rumor: &Rumor,
        file: &SpooledFile,
        secret: &DeletionSecret,
    ) -> Result<()> {
        let id = rumor.id();
        let mut urls = vec![rumor.content().to_owned()];
        urls.extend(rumor.tags().values("fallback").map(str::to_owned));
        FileRow {
            message: id,
            author: self.own(),
            blob: file.blob,
            cipher_size: Some(file.cipher_size),
            plain_size: Some(file.plain_size),
            plain_hash: Some(file.plain_hash),
            name: file.name.clone(),
            mime: file.mime.clone(),
            urls,
        }
        .insert(self.tx)?;
        let key = file.cipher.to_stored();
        SecretPurpose::File.keep(self.tx, &id, &key, rumor.tags().expiration())?;
        self.queue_uploads(&id, file, rumor.tags().expiration(), secret)
    }
}
