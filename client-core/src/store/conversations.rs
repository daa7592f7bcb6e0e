//! Conversations and their members.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{PublicKey, Sha256};

use crate::error::Result;
use crate::store::{int, uint};

/// A conversation: a random id and members. It is not a peer's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationRow {
    pub id: [u8; 16],
    /// Own messages so far, for the `sotto` tag.
    pub counter: u64,
    /// How long its messages live, where it differs from the circle.
    pub expire_s: Option<u64>,
    /// Everybody, oneself included.
    pub members: BTreeSet<PublicKey>,
}

/// The set of members as NIP-17 tells rooms apart: the author and all `p` tags.
fn members_hash(members: &BTreeSet<PublicKey>) -> Sha256 {
    let all: Vec<u8> = members.iter().flat_map(|m| *m.as_bytes()).collect();
    Sha256::of(&all)
}

impl ConversationRow {
    fn read(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Self> {
        let id: [u8; 16] = row.get(0)?;
        Ok(Self {
            id,
            counter: uint(row.get(1)?),
            expire_s: row.get::<_, Option<i64>>(2)?.map(uint),
            members: Self::members_of(connection, &id)?,
        })
    }

    fn members_of(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<BTreeSet<PublicKey>> {
        connection
            .prepare_cached("SELECT pubkey FROM members WHERE conversation = ?1")?
            .query_map([id], |row| row.get(0).map(PublicKey::from_bytes))?
            .collect()
    }

    /// The NIP-17 conversation of exactly these members.
    pub fn of_members(
        connection: &Connection,
        members: &BTreeSet<PublicKey>,
    ) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(
                "SELECT id, counter, expire_s FROM conversations WHERE members_hash = ?1",
            )?
            .query_row([members_hash(members).as_bytes()], |row| {
                Self::read(connection, row)
            })
            .optional()?)
    }

    /// By id.
    pub fn find(connection: &Connection, id: &[u8; 16]) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached("SELECT id, counter, expire_s FROM conversations WHERE id = ?1")?
            .query_row([id], |row| Self::read(connection, row))
            .optional()?)
    }

    /// All that have messages, the one with the newest message first.
    pub fn all(connection: &Connection) -> Result<Vec<Self>> {
        connection
            .prepare_cached(
                "SELECT c.id, c.counter, c.expire_s FROM conversations c \
                 JOIN (SELECT conversation, max(shown_at) AS newest FROM messages \
                 GROUP BY conversation) m ON m.conversation = c.id ORDER BY m.newest DESC, c.id",
            )?
            .query_map([], |row| Self::read(connection, row))?
            .map(|row| Ok(row?))
            .collect()
    }

    /// A new NIP-17 conversation under a random id.
    pub fn create(
        connection: &Connection,
        id: [u8; 16],
        members: BTreeSet<PublicKey>,
        now: u64,
    ) -> Result<Self> {
        connection
            .prepare_cached(
                "INSERT INTO conversations (id, channel, members_hash, created_at) \
                 VALUES (?1, 'nip17', ?2, ?3)",
            )?
            .execute(params![id, members_hash(&members).as_bytes(), int(now)])?;
        for member in &members {
            connection
                .prepare_cached("INSERT INTO members (conversation, pubkey) VALUES (?1, ?2)")?
                .execute(params![id, member.as_bytes()])?;
        }
        Ok(Self {
            id,
            counter: 0,
            expire_s: None,
            members,
        })
    }

    /// The next counter of this device in it.
    pub fn advance(&mut self, connection: &Connection) -> Result<u64> {
        self.counter = self.counter.saturating_add(1);
        connection
            .prepare_cached("UPDATE conversations SET counter = ?2 WHERE id = ?1")?
            .execute(params![self.id, int(self.counter)])?;
        Ok(self.counter)
    }
}
