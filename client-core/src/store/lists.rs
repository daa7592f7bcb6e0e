//! Servers: our own, and those that other people's signed lists name.

use rusqlite::{Connection, OptionalExtension, params};
use wire::relay_url::Origin;
use wire::{EventId, InviteCode, PublicKey, RelayUrl};

use crate::error::Result;
use crate::store::{Tx, fact, int, set_fact, uint};

/// What a server of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// An inbox relay.
    Relay,
    /// A file server.
    File,
}

impl ServerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::File => "file",
        }
    }

    /// The addresses, in order.
    pub fn urls(self, connection: &Connection) -> Result<Vec<String>> {
        let mut statement = connection
            .prepare_cached("SELECT url FROM servers WHERE kind = ?1 ORDER BY position")?;
        let rows = statement.query_map([self.name()], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes them anew.
    pub fn replace(self, connection: &Connection, urls: &[String]) -> Result<()> {
        connection.execute("DELETE FROM servers WHERE kind = ?1", [self.name()])?;
        let mut statement = connection.prepare_cached(
            "INSERT OR IGNORE INTO servers (kind, url, position) VALUES (?1, ?2, ?3)",
        )?;
        for (position, url) in (0_i64..).zip(urls) {
            statement.execute(params![self.name(), url, position])?;
        }
        Ok(())
    }
}

/// Our own inbox relays, in order.
pub(crate) fn own_relays(connection: &Connection) -> Result<Vec<RelayUrl>> {
    let urls = ServerKind::Relay.urls(connection)?;
    Ok(urls
        .iter()
        .filter_map(|u| RelayUrl::parse(u).ok())
        .collect())
}

/// Our own file servers, in order.
pub(crate) fn own_file_servers(connection: &Connection) -> Result<Vec<Origin>> {
    let urls = ServerKind::File.urls(connection)?;
    Ok(urls.iter().filter_map(|u| Origin::parse(u).ok()).collect())
}

/// Keeps the code that lets us join one of our own relays.
pub(crate) fn keep_invite(
    connection: &Connection,
    relay: &RelayUrl,
    code: &InviteCode,
) -> Result<()> {
    set_fact(connection, &invite_fact(relay), code.expose().as_bytes())
}

/// The code that is kept for a relay.
pub(crate) fn invite_for(connection: &Connection, relay: &RelayUrl) -> Result<Option<InviteCode>> {
    let kept = fact(connection, &invite_fact(relay))?;
    let text = kept.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| InviteCode::parse(&text).ok()))
}

/// It was redeemed, or is worth nothing.
pub(crate) fn drop_invite(tx: &Tx<'_>, relay: &RelayUrl) -> Result<()> {
    tx.prepare_cached("DELETE FROM facts WHERE name = ?1")?
        .execute([invite_fact(relay)])?;
    tx.note_erasure();
    Ok(())
}

fn invite_fact(relay: &RelayUrl) -> String {
    format!("invite {relay}")
}

/// What is known of one of our own published lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnList {
    /// The newest event, ours or another device's.
    pub event_id: Option<EventId>,
    pub created_at: u64,
    /// The addresses in it.
    pub base: Vec<String>,
    /// The event itself.
    pub json: Option<Vec<u8>>,
    /// What we have differs from it, or nobody has it.
    pub is_dirty: bool,
    /// Some relay answered what it has; before that nothing is published.
    pub was_read: bool,
}

impl OwnList {
    /// Of kind 10050 or 10063.
    pub fn load(connection: &Connection, kind: u16) -> Result<Self> {
        Ok(connection
            .prepare_cached(
                "SELECT event_id, created_at, base, is_dirty, was_read, json FROM own_lists \
                 WHERE kind = ?1",
            )?
            .query_row([kind], |row| {
                let base: String = row.get(2)?;
                Ok(Self {
                    event_id: row.get::<_, Option<_>>(0)?.map(EventId::from_bytes),
                    created_at: uint(row.get(1)?),
                    base: serde_json::from_str(&base).unwrap_or_default(),
                    is_dirty: row.get(3)?,
                    was_read: row.get(4)?,
                    json: row.get(5)?,
                })
            })
            .optional()?
            .unwrap_or_default())
    }

    /// Writes it.
    pub fn save(&self, connection: &Connection, kind: u16) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO own_lists \
                 (kind, event_id, created_at, base, is_dirty, was_read, json) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                kind,
                self.event_id.as_ref().map(EventId::as_bytes),
                int(self.created_at),
                serde_json::to_string(&self.base).unwrap_or_default(),
                self.is_dirty,
                self.was_read,
                self.json
            ])?;
        Ok(())
    }
}

/// The newest verified list of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerList {
    pub event_id: EventId,
    pub created_at: u64,
    /// As written, in order.
    pub urls: Vec<String>,
}

impl PeerList {
    /// Of kind 10050 or 10063, if one is known.
    pub fn find(connection: &Connection, pubkey: &PublicKey, kind: u16) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(
                "SELECT event_id, created_at, urls FROM peer_lists \
                 WHERE pubkey = ?1 AND kind = ?2",
            )?
            .query_row(params![pubkey.as_bytes(), kind], |row| {
                let urls: String = row.get(2)?;
                Ok(Self {
                    event_id: EventId::from_bytes(row.get(0)?),
                    created_at: uint(row.get(1)?),
                    urls: serde_json::from_str(&urls).unwrap_or_default(),
                })
            })
            .optional()?)
    }

    /// Writes it; whether it is newer is for the caller to know.
    pub fn save(&self, connection: &Connection, pubkey: &PublicKey, kind: u16) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO peer_lists (pubkey, kind, event_id, created_at, urls) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                pubkey.as_bytes(),
                kind,
                self.event_id.as_bytes(),
                int(self.created_at),
                serde_json::to_string(&self.urls).unwrap_or_default()
            ])?;
        Ok(())
    }
}

/// Notes a look-up that was answered, and when to look again.
pub(crate) fn note_lookup(
    connection: &Connection,
    pubkey: &PublicKey,
    now: u64,
    refresh_at: u64,
    detail: &str,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO lookups (pubkey, looked_at, refresh_at, detail) \
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            pubkey.as_bytes(),
            int(now),
            int(refresh_at),
            detail
        ])?;
    Ok(())
}

/// What the last look-up for somebody found out, in words.
pub(crate) fn lookup_detail(connection: &Connection, pubkey: &PublicKey) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT detail FROM lookups WHERE pubkey = ?1")?
        .query_row([pubkey.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// Accepted contacts whose lists were looked up and are due again; a few at a time, since many at
/// once would tell a relay who belongs together.
pub(crate) fn lookups_due(connection: &Connection, now: u64) -> Result<Vec<PublicKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT l.pubkey FROM lookups l JOIN contacts c ON c.pubkey = l.pubkey \
         WHERE l.refresh_at <= ?1 AND c.is_accepted = 1 AND c.is_blocked = 0 \
         ORDER BY l.refresh_at LIMIT 3",
    )?;
    let rows = statement.query_map([int(now)], |row| row.get(0).map(PublicKey::from_bytes))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the next of them is due.
pub(crate) fn next_refresh(connection: &Connection) -> Result<Option<u64>> {
    let next: Option<i64> = connection.query_row(
        "SELECT min(l.refresh_at) FROM lookups l JOIN contacts c ON c.pubkey = l.pubkey \
         WHERE c.is_accepted = 1 AND c.is_blocked = 0",
        [],
        |row| row.get(0),
    )?;
    Ok(next.map(uint))
}
