//! People: who they are to us.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{PublicKey, RelayUrl, limits};

use crate::error::Result;
use crate::store::int;

/// A person that this circle knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContactRow {
    pub pubkey: PublicKey,
    pub alias: Option<String>,
    /// The user added it by name; others are strangers who wrote, or keys only written to.
    pub is_added: bool,
    /// Messages of theirs are no requests: added, or written to.
    pub is_accepted: bool,
    pub is_verified: bool,
    pub is_blocked: bool,
    pub as_myself: bool,
    /// Understands Sotto's formats.
    pub is_sotto: bool,
    pub hints: Vec<RelayUrl>,
}

const COLUMNS: &str = "pubkey, alias, is_added, is_accepted, is_verified, is_blocked, as_myself, \
                       is_sotto, hints";

impl ContactRow {
    /// Somebody of whom nothing is known.
    pub fn stranger(pubkey: PublicKey) -> Self {
        Self {
            pubkey,
            alias: None,
            is_added: false,
            is_accepted: false,
            is_verified: false,
            is_blocked: false,
            as_myself: false,
            is_sotto: false,
            hints: Vec::new(),
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let hints: String = row.get(8)?;
        Ok(Self {
            pubkey: PublicKey::from_bytes(row.get(0)?),
            alias: row.get(1)?,
            is_added: row.get(2)?,
            is_accepted: row.get(3)?,
            is_verified: row.get(4)?,
            is_blocked: row.get(5)?,
            as_myself: row.get(6)?,
            is_sotto: row.get(7)?,
            hints: serde_json::from_str(&hints).unwrap_or_default(),
        })
    }

    /// Adds relays to look at, at most [`limits::LINK_RELAYS`], the newest first.
    pub fn add_hints(&mut self, hints: &[RelayUrl]) {
        let mut all = hints.to_vec();
        all.extend(self.hints.iter().filter(|h| !hints.contains(h)).cloned());
        all.truncate(limits::LINK_RELAYS);
        self.hints = all;
    }

    /// The row of `pubkey`, if there is one.
    pub fn find(connection: &Connection, pubkey: &PublicKey) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM contacts WHERE pubkey = ?1"))?
            .query_row([pubkey.as_bytes()], Self::read)
            .optional()?)
    }

    /// The row of `pubkey`, or a stranger.
    pub fn of(connection: &Connection, pubkey: &PublicKey) -> Result<Self> {
        Ok(Self::find(connection, pubkey)?.unwrap_or_else(|| Self::stranger(*pubkey)))
    }

    /// Who bears an alias.
    pub fn by_alias(connection: &Connection, alias: &str) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM contacts WHERE alias = ?1"))?
            .query_row([alias], Self::read)
            .optional()?)
    }

    /// Everybody whom the user added or blocked, by alias, then key.
    pub fn listed(connection: &Connection) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "is_added = 1 OR is_blocked = 1 ORDER BY alias IS NULL, alias, pubkey",
        )
    }

    fn many(connection: &Connection, condition: &str) -> Result<Vec<Self>> {
        let mut statement =
            connection.prepare(&format!("SELECT {COLUMNS} FROM contacts WHERE {condition}"))?;
        let rows = statement.query_map([], Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes the row.
    pub fn save(&self, connection: &Connection, now: u64) -> Result<()> {
        let hints = serde_json::to_string(&self.hints).unwrap_or_default();
        connection
            .prepare_cached(
                "INSERT INTO contacts (pubkey, alias, is_added, is_accepted, is_verified, \
                 is_blocked, as_myself, is_sotto, hints, first_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT (pubkey) DO UPDATE SET alias = ?2, is_added = ?3, is_accepted = ?4, \
                 is_verified = ?5, is_blocked = ?6, as_myself = ?7, is_sotto = ?8, hints = ?9",
            )?
            .execute(params![
                self.pubkey.as_bytes(),
                self.alias,
                self.is_added,
                self.is_accepted,
                self.is_verified,
                self.is_blocked,
                self.as_myself,
                self.is_sotto,
                hints,
                int(now)
            ])?;
        Ok(())
    }

    /// Forgets a person. Their messages are another matter.
    pub fn remove(connection: &Connection, pubkey: &PublicKey) -> Result<()> {
        connection.execute(
            "DELETE FROM contacts WHERE pubkey = ?1",
            [pubkey.as_bytes()],
        )?;
        Ok(())
    }
}

/// Notes that a device of somebody was heard; at most 64 of one account.
pub(crate) fn note_device(
    connection: &Connection,
    account: &PublicKey,
    device: &[u8; 16],
    now: u64,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO devices (account, device, heard_at) SELECT ?1, ?2, ?3 \
             WHERE (SELECT count(*) FROM devices WHERE account = ?1) < 64 \
             ON CONFLICT (account, device) DO UPDATE SET heard_at = ?3",
        )?
        .execute(params![account.as_bytes(), device, int(now)])?;
    Ok(())
}

/// Pins the list key that an invite named, unless one is pinned.
pub(crate) fn pin(
    connection: &Connection,
    account: &PublicKey,
    list_key: &PublicKey,
    now: u64,
) -> Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO pins (account, list_key, pinned_at, source) \
         VALUES (?1, ?2, ?3, 'invite')",
        params![account.as_bytes(), list_key.as_bytes(), int(now)],
    )?;
    Ok(())
}
