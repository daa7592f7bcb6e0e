//! What we sent and to whom; kept after the message itself is gone.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{EventId, PublicKey};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// One outgoing rumor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentRow {
    pub id: EventId,
    pub kind: u16,
    pub conversation: [u8; 16],
    pub sent_at: u64,
    pub expires_at: Option<u64>,
    /// The account key may AUTH to send it.
    pub as_myself: bool,
    /// Sent from this home; otherwise a self-copy told of it.
    pub is_here: bool,
}

impl SentRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: EventId::from_bytes(row.get(0)?),
            kind: row.get(1)?,
            conversation: row.get(2)?,
            sent_at: uint(row.get(3)?),
            expires_at: row.get::<_, Option<i64>>(4)?.map(uint),
            as_myself: row.get(5)?,
            is_here: row.get(6)?,
        })
    }

    /// By rumor id.
    pub fn find(connection: &Connection, id: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(
                "SELECT id, kind, conversation, sent_at, expires_at, as_myself, is_here \
                 FROM sent WHERE id = ?1",
            )?
            .query_row([id.as_bytes()], Self::read)
            .optional()?)
    }

    /// Writes a new one with its recipients.
    pub fn insert(&self, connection: &Connection, recipients: &[PublicKey]) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO sent (id, kind, conversation, sent_at, expires_at, as_myself, \
                 is_here) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.id.as_bytes(),
                self.kind,
                self.conversation,
                int(self.sent_at),
                opt_int(self.expires_at),
                self.as_myself,
                self.is_here
            ])?;
        for recipient in recipients {
            connection
                .prepare_cached("INSERT INTO recipients (message, pubkey) VALUES (?1, ?2)")?
                .execute(params![self.id.as_bytes(), recipient.as_bytes()])?;
        }
        Ok(())
    }
}

/// One recipient of an outgoing rumor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecipientRow {
    pub pubkey: PublicKey,
    /// Why nothing can be sent to it: `no_inbox_relays: …` and the like.
    pub refusal: Option<String>,
}

impl RecipientRow {
    /// All of a rumor.
    pub fn of(connection: &Connection, message: &EventId) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(
            "SELECT pubkey, refusal FROM recipients WHERE message = ?1 ORDER BY pubkey",
        )?;
        let rows = statement.query_map([message.as_bytes()], |row| {
            Ok(Self {
                pubkey: PublicKey::from_bytes(row.get(0)?),
                refusal: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes that nothing can be sent to one, and why.
    pub fn refuse(
        connection: &Connection,
        message: &EventId,
        pubkey: &PublicKey,
        reason: &str,
    ) -> Result<()> {
        connection
            .prepare_cached(
                "UPDATE recipients SET refusal = ?3 WHERE message = ?1 AND pubkey = ?2",
            )?
            .execute(params![message.as_bytes(), pubkey.as_bytes(), reason])?;
        Ok(())
    }
}

/// The message that an idempotency key stands for.
pub(crate) fn idempotent(connection: &Connection, key: &str) -> Result<Option<EventId>> {
    Ok(connection
        .prepare_cached("SELECT message FROM idempotency WHERE key = ?1")?
        .query_row([key], |row| row.get(0).map(EventId::from_bytes))
        .optional()?)
}

/// Remembers it.
pub(crate) fn remember_idempotent(
    connection: &Connection,
    key: &str,
    message: &EventId,
) -> Result<()> {
    connection.execute(
        "INSERT INTO idempotency (key, message) VALUES (?1, ?2)",
        params![key, message.as_bytes()],
    )?;
    Ok(())
}

/// A peer's receipt; false where it was known.
pub(crate) fn note_receipt(
    connection: &Connection,
    rumor: &EventId,
    peer: &PublicKey,
    status: &str,
    device: Option<&[u8; 16]>,
    now: u64,
) -> Result<bool> {
    let count = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO receipts (rumor, peer, status, device, at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            rumor.as_bytes(),
            peer.as_bytes(),
            status,
            device,
            int(now)
        ])?;
    Ok(count == 1)
}

/// Whether a peer gave this receipt.
pub(crate) fn has_receipt(
    connection: &Connection,
    rumor: &EventId,
    peer: &PublicKey,
    status: &str,
) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM receipts WHERE rumor = ?1 AND peer = ?2 AND status = ?3")?
        .exists(params![rumor.as_bytes(), peer.as_bytes(), status])?)
}

/// Notes a receipt that we give; false where we gave it before.
pub(crate) fn note_receipt_given(
    connection: &Connection,
    rumor: &EventId,
    status: &str,
) -> Result<bool> {
    let count = connection
        .prepare_cached("INSERT OR IGNORE INTO receipts_sent (rumor, status) VALUES (?1, ?2)")?
        .execute(params![rumor.as_bytes(), status])?;
    Ok(count == 1)
}

/// A deletion, made or received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeletionRow {
    /// Where the author may delete it, once known.
    pub conversation: Option<[u8; 16]>,
    /// Everybody is to forget it, not only this home.
    pub for_everyone: bool,
    /// The deletion's own rumor, where we sent one.
    pub notice: Option<EventId>,
}

impl DeletionRow {
    /// The deletion of a rumor, if there is one.
    pub fn find(connection: &Connection, author: &PublicKey, id: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(
                "SELECT conversation, scope = 'everyone', notice FROM deletions \
                 WHERE author = ?1 AND id = ?2",
            )?
            .query_row(params![author.as_bytes(), id.as_bytes()], |row| {
                Ok(Self {
                    conversation: row.get(0)?,
                    for_everyone: row.get(1)?,
                    notice: row.get::<_, Option<_>>(2)?.map(EventId::from_bytes),
                })
            })
            .optional()?)
    }

    /// Whether any deletion names this id.
    pub fn exists(connection: &Connection, id: &EventId) -> Result<bool> {
        Ok(connection
            .prepare_cached("SELECT 1 FROM deletions WHERE id = ?1")?
            .exists([id.as_bytes()])?)
    }

    /// Writes it; one for everyone is never weakened.
    pub fn save(
        &self,
        connection: &Connection,
        author: &PublicKey,
        id: &EventId,
        now: u64,
    ) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO deletions (author, id, conversation, scope, notice, made_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (author, id) DO UPDATE SET \
                 conversation = coalesce(conversation, ?3), \
                 scope = CASE WHEN scope = 'everyone' THEN scope ELSE ?4 END, \
                 notice = coalesce(notice, ?5)",
            )?
            .execute(params![
                author.as_bytes(),
                id.as_bytes(),
                self.conversation,
                if self.for_everyone {
                    "everyone"
                } else {
                    "here"
                },
                self.notice.as_ref().map(EventId::as_bytes),
                int(now)
            ])?;
        Ok(())
    }

    /// How many deletions wait for a message that never came here: of one author, and of all
    /// authors who are not accepted.
    pub fn of_unknown(connection: &Connection, author: &PublicKey) -> Result<(u64, u64)> {
        let (of_author, of_strangers): (i64, i64) = connection
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE author = ?1), count(*) FILTER (WHERE NOT EXISTS \
                 (SELECT 1 FROM contacts c WHERE c.pubkey = d.author AND c.is_accepted = 1)) \
                 FROM deletions d WHERE NOT EXISTS \
                 (SELECT 1 FROM known_rumors k WHERE k.author = d.author AND k.id = d.id)",
            )?
            .query_row([author.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((uint(of_author), uint(of_strangers)))
    }
}
