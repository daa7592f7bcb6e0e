//! Messages that live, rumors that were known, and rumors that we do not understand.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{EventId, PublicKey, Rumor};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// A living message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MessageRow {
    /// Its place in the journal.
    pub seq: i64,
    pub id: EventId,
    pub author: PublicKey,
    pub conversation: [u8; 16],
    pub is_own: bool,
    pub kind: u16,
    pub text: String,
    /// As the author claims.
    pub claimed_at: u64,
    /// Where it stands in the order.
    pub shown_at: u64,
    pub counter: u64,
    /// The sending device, where the sender told.
    pub device: Option<[u8; 16]>,
    pub received_at: u64,
    pub expires_at: Option<u64>,
    pub reply_to: Option<EventId>,
    /// 0 plain, 1 forward-secret, 2 post-quantum.
    pub protection: u8,
    pub is_unread: bool,
}

const COLUMNS: &str = "seq, id, author, conversation, is_own, kind, text, claimed_at, shown_at, \
                       counter, device, received_at, expires_at, reply_to, protection, is_unread";

impl MessageRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            id: EventId::from_bytes(row.get(1)?),
            author: PublicKey::from_bytes(row.get(2)?),
            conversation: row.get(3)?,
            is_own: row.get(4)?,
            kind: row.get(5)?,
            text: row.get(6)?,
            claimed_at: uint(row.get(7)?),
            shown_at: uint(row.get(8)?),
            counter: uint(row.get(9)?),
            device: row.get(10)?,
            received_at: uint(row.get(11)?),
            expires_at: row.get::<_, Option<i64>>(12)?.map(uint),
            reply_to: row.get::<_, Option<_>>(13)?.map(EventId::from_bytes),
            protection: row.get(14)?,
            is_unread: row.get(15)?,
        })
    }

    /// Writes a new one.
    pub fn insert(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(&format!(
                "INSERT INTO messages ({COLUMNS}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
            ))?
            .execute(params![
                self.seq,
                self.id.as_bytes(),
                self.author.as_bytes(),
                self.conversation,
                self.is_own,
                self.kind,
                self.text,
                int(self.claimed_at),
                int(self.shown_at),
                int(self.counter),
                self.device,
                int(self.received_at),
                opt_int(self.expires_at),
                self.reply_to.as_ref().map(EventId::as_bytes),
                self.protection,
                self.is_unread,
            ])?;
        Ok(())
    }

    /// By author and id.
    pub fn find(connection: &Connection, author: &PublicKey, id: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM messages WHERE author = ?1 AND id = ?2"
            ))?
            .query_row(params![author.as_bytes(), id.as_bytes()], Self::read)
            .optional()?)
    }

    /// By id. Ids hash the author, so two authors never share one.
    pub fn by_id(connection: &Connection, id: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM messages WHERE id = ?1"))?
            .query_row([id.as_bytes()], Self::read)
            .optional()?)
    }

    /// The newest `limit` of a conversation that are visible at `now`, oldest first; with
    /// `before`, only what stands before it in the order.
    pub fn page(
        connection: &Connection,
        conversation: &[u8; 16],
        limit: usize,
        before: Option<&Self>,
        now: u64,
    ) -> Result<Vec<Self>> {
        let (time, counter, id) = before.map_or((i64::MAX, i64::MAX, [0xff; 32]), |m| {
            (int(m.shown_at), int(m.counter), *m.id.as_bytes())
        });
        let mut rows = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM messages WHERE conversation = ?1 \
                 AND (shown_at, counter, id) < (?2, ?3, ?4) \
                 AND (expires_at IS NULL OR expires_at > ?5) \
                 ORDER BY shown_at DESC, counter DESC, id DESC LIMIT ?6"
            ))?
            .query_map(
                params![
                    conversation,
                    time,
                    counter,
                    id,
                    int(now),
                    i64::try_from(limit).unwrap_or(i64::MAX)
                ],
                Self::read,
            )?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// All whose exact expiry has come.
    pub fn expired(connection: &Connection, now: u64) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM messages WHERE expires_at <= ?1 ORDER BY expires_at, seq"
        ))?;
        let rows = statement.query_map([int(now)], Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The next exact expiry.
    pub fn next_expiry(connection: &Connection) -> Result<Option<u64>> {
        let next: Option<i64> = connection.query_row(
            "SELECT min(expires_at) FROM messages WHERE expires_at IS NOT NULL",
            [],
            |row| row.get(0),
        )?;
        Ok(next.map(uint))
    }

    /// All of a conversation.
    pub fn in_conversation(connection: &Connection, conversation: &[u8; 16]) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM messages WHERE conversation = ?1 ORDER BY seq"
        ))?;
        let rows = statement.query_map([conversation], Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Incoming ones that nobody has looked at.
    pub fn unread(connection: &Connection, conversation: &[u8; 16], now: u64) -> Result<u64> {
        let count: i64 = connection
            .prepare_cached(
                "SELECT count(*) FROM messages WHERE conversation = ?1 AND is_unread = 1 \
                 AND (expires_at IS NULL OR expires_at > ?2)",
            )?
            .query_row(params![conversation, int(now)], |row| row.get(0))?;
        Ok(uint(count))
    }

    /// Somebody has looked at it.
    pub fn mark_read(&self, connection: &Connection) -> Result<()> {
        if self.is_unread {
            connection
                .prepare_cached("UPDATE messages SET is_unread = 0 WHERE seq = ?1")?
                .execute([self.seq])?;
        }
        Ok(())
    }

    /// Removes the row.
    pub fn remove(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached("DELETE FROM messages WHERE seq = ?1")?
            .execute([self.seq])?;
        Ok(())
    }

    /// Incoming messages of one author; and of all strangers, who have a contact row each.
    pub fn requests(connection: &Connection, author: &PublicKey) -> Result<(u64, u64)> {
        let of_author: i64 = connection
            .prepare_cached("SELECT count(*) FROM messages WHERE author = ?1")?
            .query_row([author.as_bytes()], |row| row.get(0))?;
        let of_all: i64 = connection
            .prepare_cached(
                "SELECT count(*) FROM contacts c JOIN messages m ON m.author = c.pubkey \
                 WHERE c.is_accepted = 0",
            )?
            .query_row([], |row| row.get(0))?;
        Ok((uint(of_author), uint(of_all)))
    }

    /// Ids between two (both included), of messages living, sent or deleted; at most two.
    pub fn ids_between(
        connection: &Connection,
        low: &EventId,
        high: &EventId,
    ) -> Result<Vec<EventId>> {
        let mut statement = connection.prepare_cached(
            "SELECT id FROM messages WHERE id BETWEEN ?1 AND ?2 \
             UNION SELECT id FROM sent WHERE kind IN (14, 15) AND id BETWEEN ?1 AND ?2 \
             UNION SELECT id FROM deletions WHERE id BETWEEN ?1 AND ?2 LIMIT 2",
        )?;
        let rows = statement.query_map(params![low.as_bytes(), high.as_bytes()], |row| {
            row.get(0).map(EventId::from_bytes)
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Notes a rumor for ever. Gives false where it was known already.
pub(crate) fn note_rumor(
    connection: &Connection,
    author: &PublicKey,
    id: &EventId,
) -> Result<bool> {
    let new = connection
        .prepare_cached("INSERT OR IGNORE INTO known_rumors (author, id) VALUES (?1, ?2)")?
        .execute(params![author.as_bytes(), id.as_bytes()])?;
    Ok(new == 1)
}

/// Whether a rumor was taken before.
pub(crate) fn is_known_rumor(
    connection: &Connection,
    author: &PublicKey,
    id: &EventId,
) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM known_rumors WHERE author = ?1 AND id = ?2")?
        .exists(params![author.as_bytes(), id.as_bytes()])?)
}

/// Keeps a rumor of an unknown kind, at most `cap` of one author and 20 times that of all. Gives
/// false where that is reached.
pub(crate) fn keep_rumor(
    connection: &Connection,
    rumor: &Rumor,
    now: u64,
    expires_at: Option<u64>,
    cap: u64,
) -> Result<bool> {
    let (of_author, of_all): (i64, i64) = connection
        .prepare_cached("SELECT count(*) FILTER (WHERE author = ?1), count(*) FROM kept_rumors")?
        .query_row([rumor.author().as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if uint(of_author) >= cap || uint(of_all) >= cap.saturating_mul(20) {
        return Ok(false);
    }
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO kept_rumors (author, id, kind, json, received_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            rumor.author().as_bytes(),
            rumor.id().as_bytes(),
            rumor.kind(),
            rumor.to_json(),
            int(now),
            opt_int(expires_at)
        ])?;
    Ok(true)
}

/// Erases kept rumors that have expired, and those that an author took back.
pub(crate) fn drop_kept_rumors(
    connection: &Connection,
    now: u64,
    deleted: Option<(&PublicKey, &EventId)>,
) -> Result<()> {
    match deleted {
        Some((author, id)) => connection
            .prepare_cached("DELETE FROM kept_rumors WHERE author = ?1 AND id = ?2")?
            .execute(params![author.as_bytes(), id.as_bytes()])?,
        None => connection
            .prepare_cached("DELETE FROM kept_rumors WHERE expires_at <= ?1")?
            .execute([int(now)])?,
    };
    Ok(())
}
