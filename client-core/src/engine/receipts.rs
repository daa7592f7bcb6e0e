//! Receipts (rumor kind 1451): `delivered` and `deleted`, given and taken.
//!
//! At most one per rumor and status, only to accepted contacts, only where the rumor bore the
//! `sotto` tag, never for a receipt. What is owed in one batch travels in one rumor.

use std::collections::BTreeMap;

use crypto::{DeletionSecret, Opened};
use wire::{EventId, PublicKey, Tag, Tags, kinds};

use crate::engine::machine::Turn;
use crate::engine::receive::named_events;
use crate::engine::send::Outgoing;
use crate::error::Result;
use crate::store::{self, ContactRow, ConversationRow, MessageRow, RecipientRow, SentRow};

/// How long a receipt lives, seconds.
const LIFE_SECONDS: u64 = 30 * 86_400;
/// Rumors that one receipt names.
const NAMED: usize = 100;

/// Receipts that this input made due: (whom, conversation, status) to rumors.
pub(crate) type Owed = BTreeMap<(PublicKey, [u8; 16], &'static str), Vec<EventId>>;

impl Turn<'_> {
    /// Owes a receipt, unless it was given before. The caller has checked that the peer is
    /// accepted and that the rumor bore our tag.
    pub fn owe_receipt(
        &mut self,
        peer: &PublicKey,
        conversation: [u8; 16],
        rumor: &EventId,
        status: &'static str,
    ) -> Result<()> {
        if store::note_receipt_given(self.tx, rumor, status)? {
            let key = (*peer, conversation, status);
            self.owed.entry(key).or_default().push(*rumor);
        }
        Ok(())
    }

    /// A stranger was accepted: the messages that came before get their receipts now.
    pub fn owe_delivered(&mut self, peer: &PublicKey) -> Result<()> {
        let both = [self.own(), *peer].into();
        let Some(conversation) = ConversationRow::of_members(self.tx, &both)? else {
            return Ok(());
        };
        for message in MessageRow::in_conversation(self.tx, &conversation.id)? {
            if message.author == *peer && message.device.is_some() {
                self.owe_receipt(peer, conversation.id, &message.id, "delivered")?;
            }
        }
        Ok(())
    }

    /// Turns what is owed into rumors and queues them, at the end of an input.
    pub fn give_receipts(&mut self) -> Result<()> {
        for ((peer, conversation, status), rumors) in std::mem::take(&mut self.owed) {
            let Some(mut conversation) = ConversationRow::find(self.tx, &conversation)? else {
                continue;
            };
            for some in rumors.chunks(NAMED) {
                let mut tags = Tags::from_iter([Tag::new(["p".to_owned(), peer.to_hex()])]);
                for rumor in some {
                    tags.push(Tag::new(["e".to_owned(), rumor.to_hex()]));
                }
                tags.push(Tag::new(["status", status]));
                let expires_at = Some(self.now.saturating_add(LIFE_SECONDS));
                let kind = kinds::RECEIPT;
                let rumor = self.rumor(&mut conversation, kind, String::new(), tags, expires_at)?;
                let secret = DeletionSecret::generate(self.rng);
                self.queue(Outgoing {
                    rumor: &rumor,
                    conversation: conversation.id,
                    recipients: &[peer],
                    secret: &secret,
                    expires_at,
                    as_myself: ContactRow::of(self.tx, &peer)?.as_myself,
                    self_copy: false,
                })?;
            }
        }
        Ok(())
    }

    /// A peer's receipt: counts only for our own messages, and only from who received them.
    pub fn take_receipt(&mut self, opened: &Opened) -> Result<()> {
        let rumor = opened.rumor();
        let peer = opened.author();
        store::note_rumor(self.tx, &peer, &rumor.id())?;
        let status = match rumor.tags().value("status") {
            Some("delivered") => "delivered",
            Some("read") => "read",
            Some("deleted") => "deleted",
            _ => return Ok(()),
        };
        let device = rumor.sotto_tag().map(|tag| tag.device);
        for id in named_events(opened, NAMED) {
            let Some(sent) = SentRow::find(self.tx, &id)? else {
                continue;
            };
            let recipients = RecipientRow::of(self.tx, &id)?;
            let is_shown = matches!(sent.kind, kinds::TEXT | kinds::FILE);
            if !is_shown || !recipients.iter().any(|r| r.pubkey == peer) {
                continue;
            }
            if store::note_receipt(self.tx, &id, &peer, status, device.as_ref(), self.now)? {
                let own = self.own();
                store::note(self.tx, "receipt", &own, &id, Some(status), self.now)?;
            }
        }
        Ok(())
    }
}
