//! What can be read: conversations, messages, and what happened. Nothing is shown from its exact
//! expiry on, whether or not it was erased already.

use rusqlite::Connection;
use wire::{EventId, PublicKey, kinds};

use crate::engine::machine::Engine;
use crate::engine::report::{not_found, sent_status};
use crate::error::Result;
use crate::store::{ContactRow, ConversationRow, FileRow, JournalRow, MessageRow, SentRow, Store};
use crate::view::{ConversationView, EventView, FileView, MessageView};

impl Engine {
    /// All conversations that have messages, the newest first.
    pub fn conversations(&self, store: &Store, now: u64) -> Result<Vec<ConversationView>> {
        let connection = store.connection();
        let own = self.public_key();
        let mut views = Vec::new();
        for conversation in ConversationRow::all(connection)? {
            let last = MessageRow::page(connection, &conversation.id, 1, None, now)?.pop();
            let Some(last) = last else { continue };
            let others: Vec<&PublicKey> =
                conversation.members.iter().filter(|m| **m != own).collect();
            let contact = match others.as_slice() {
                [one] => ContactRow::find(connection, one)?,
                _ => None,
            };
            let last = self.view(connection, &last)?;
            views.push(ConversationView {
                conversation: hex::encode(conversation.id),
                alias: contact.as_ref().and_then(|contact| contact.alias.clone()),
                members: others.iter().map(|m| m.to_hex()).collect(),
                unread: MessageRow::unread(connection, &conversation.id, now)?,
                request: match others.as_slice() {
                    [_] => contact.is_none_or(|contact| !contact.is_accepted),
                    _ => last.request,
                },
                last: Some(last),
            });
        }
        Ok(views)
    }

    /// The newest `limit` messages with somebody, oldest first, and marks them read. With
    /// `before`, those that stand before it. Nothing where there never was a conversation.
    pub fn messages(
        &self,
        store: &Store,
        who: &PublicKey,
        limit: usize,
        before: Option<EventId>,
        now: u64,
    ) -> Result<Vec<MessageView>> {
        let connection = store.connection();
        let both = [self.public_key(), *who].into();
        let Some(conversation) = ConversationRow::of_members(connection, &both)? else {
            return Ok(Vec::new());
        };
        let before = match before {
            Some(id) => Some(MessageRow::by_id(connection, &id)?.ok_or_else(not_found)?),
            None => None,
        };
        let page = MessageRow::page(connection, &conversation.id, limit, before.as_ref(), now)?;
        let mut views = Vec::with_capacity(page.len());
        for message in page {
            message.mark_read(connection)?;
            views.push(self.view(connection, &message)?);
        }
        Ok(views)
    }

    /// One message, and marks it read. `not_found` where it is unknown or gone.
    pub fn message(&self, store: &Store, id: EventId, now: u64) -> Result<MessageView> {
        let connection = store.connection();
        let message = MessageRow::by_id(connection, &id)?
            .filter(|message| message.expires_at.is_none_or(|at| at > now))
            .ok_or_else(not_found)?;
        message.mark_read(connection)?;
        self.view(connection, &message)
    }

    /// What happened after `seq`, oldest first. A message that is gone meanwhile is named by its
    /// id alone.
    pub fn events_after(
        &self,
        store: &Store,
        seq: i64,
        limit: usize,
        now: u64,
    ) -> Result<Vec<EventView>> {
        let connection = store.connection();
        let mut views = Vec::new();
        for row in JournalRow::after(connection, seq, limit)? {
            let kind = match row.kind.as_str() {
                "receipt" => "receipt",
                "delete" => "delete",
                "expire" => "expire",
                "request" => "request",
                _ => "message",
            };
            let message = match (&row.rumor, kind) {
                (Some(id), "message" | "request") => MessageRow::by_id(connection, id)?
                    .filter(|message| message.expires_at.is_none_or(|at| at > now)),
                _ => None,
            };
            let message = match message {
                Some(message) => Some(self.view(connection, &message)?),
                None => None,
            };
            views.push(EventView {
                seq: row.seq,
                kind,
                id: match &message {
                    Some(_) => None,
                    None => row.rumor.map(|id| id.to_hex()),
                },
                message,
                status: row.status,
            });
        }
        Ok(views)
    }

    /// The number of the newest happening; 0 where nothing happened yet.
    pub fn newest_event(&self, store: &Store) -> Result<i64> {
        JournalRow::newest(store.connection())
    }

    fn view(&self, connection: &Connection, message: &MessageRow) -> Result<MessageView> {
        let contact = ContactRow::find(connection, &message.author)?;
        let file = FileRow::find(connection, &message.id)?;
        let is_voice = file.as_ref().is_some_and(|f| f.mime.starts_with("audio/"));
        let status = if message.is_own {
            match SentRow::find(connection, &message.id)? {
                Some(sent) => sent_status(connection, &sent)?,
                None => "queued",
            }
        } else {
            "received"
        };
        let is_accepted = contact.as_ref().is_some_and(|c| c.is_accepted);
        Ok(MessageView {
            seq: message.seq,
            id: message.id.to_hex(),
            circle: self.config.circle_name.clone(),
            conversation: hex::encode(message.conversation),
            direction: if message.is_own { "out" } else { "in" },
            from: message.author.to_hex(),
            from_alias: contact.and_then(|contact| contact.alias),
            kind: match (message.kind, is_voice) {
                (kinds::FILE, true) => "voice",
                (kinds::FILE, false) => "file",
                _ => "text",
            },
            text: message.text.clone(),
            files: file
                .map(|file| FileView {
                    name: file.name,
                    size: file.plain_size,
                    mime: file.mime,
                    sha256: file.plain_hash.map(|hash| hash.to_hex()),
                })
                .into_iter()
                .collect(),
            sent_at: message.claimed_at,
            received_at: message.received_at,
            expires_at: message.expires_at,
            reply_to: message.reply_to.map(|id| id.to_hex()),
            reactions: Vec::new(),
            edited: false,
            status,
            request: !message.is_own && !is_accepted,
            forward_secret: message.protection > 0,
        })
    }
}
