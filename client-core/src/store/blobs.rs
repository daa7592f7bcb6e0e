//! Files of messages, and our own blobs on file servers.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::relay_url::Origin;
use wire::{EventId, PublicKey, Sha256};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// The file of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub message: EventId,
    pub author: PublicKey,
    pub blob: Sha256,
    pub cipher_size: Option<u64>,
    pub plain_size: Option<u64>,
    pub plain_hash: Option<Sha256>,
    pub name: String,
    pub mime: String,
    /// Where it can be fetched, as the sender says.
    pub urls: Vec<String>,
}

impl FileRow {
    /// Writes it.
    pub fn insert(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO files (message, author, blob, cipher_size, plain_size, \
                 plain_hash, name, mime, urls) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                self.message.as_bytes(),
                self.author.as_bytes(),
                self.blob.as_bytes(),
                opt_int(self.cipher_size),
                opt_int(self.plain_size),
                self.plain_hash.as_ref().map(Sha256::as_bytes),
                self.name,
                self.mime,
                serde_json::to_string(&self.urls).unwrap_or_default()
            ])?;
        Ok(())
    }

    /// Of a message.
    pub fn find(connection: &Connection, message: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(
                "SELECT message, author, blob, cipher_size, plain_size, plain_hash, name, mime, \
                 urls FROM files WHERE message = ?1",
            )?
            .query_row([message.as_bytes()], |row| {
                let urls: String = row.get(8)?;
                Ok(Self {
                    message: EventId::from_bytes(row.get(0)?),
                    author: PublicKey::from_bytes(row.get(1)?),
                    blob: Sha256::from_bytes(row.get(2)?),
                    cipher_size: row.get::<_, Option<i64>>(3)?.map(uint),
                    plain_size: row.get::<_, Option<i64>>(4)?.map(uint),
                    plain_hash: row.get::<_, Option<_>>(5)?.map(Sha256::from_bytes),
                    name: row.get(6)?,
                    mime: row.get(7)?,
                    urls: serde_json::from_str(&urls).unwrap_or_default(),
                })
            })
            .optional()?)
    }

    /// Erases it.
    pub fn remove(connection: &Connection, message: &EventId) -> Result<()> {
        connection
            .prepare_cached("DELETE FROM files WHERE message = ?1")?
            .execute([message.as_bytes()])?;
        Ok(())
    }
}

/// Where a blob of ours stands at one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// To be uploaded.
    Upload,
    /// It is there.
    Stored,
    /// The server refused it for good.
    Refused,
    /// To be deleted there.
    Remove,
    /// Deleted; to be asked whether it is gone.
    Probe,
    /// 404 or 410.
    Gone,
    /// Still there, or the server refused to delete it.
    Kept,
    /// It was never sent there.
    Never,
}

impl BlobState {
    fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Remove => "remove",
            Self::Probe => "probe",
            Self::Gone => "gone",
            Self::Kept => "kept",
            Self::Never => "never",
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "stored" => Self::Stored,
            "refused" => Self::Refused,
            "remove" => Self::Remove,
            "probe" => Self::Probe,
            "gone" => Self::Gone,
            "kept" => Self::Kept,
            "never" => Self::Never,
            _ => Self::Upload,
        }
    }

    /// Whether something is left to do there.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Upload | Self::Remove | Self::Probe)
    }
}

/// A blob of ours at one file server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub blob: Sha256,
    pub origin: Origin,
    pub message: EventId,
    pub is_own: bool,
    /// Of the ciphertext.
    pub size: u64,
    pub state: BlobState,
    /// The server may have it.
    pub touched: bool,
    /// The end of life that we ask for.
    pub sunset: Option<u64>,
    /// The one that the server granted.
    pub granted: Option<u64>,
    pub last: String,
    pub detail: String,
    pub attempts: u32,
    pub next_at: u64,
    pub lease_until: u64,
}

const PLACE: &str = "blob, origin, message, is_own, size, state, touched, sunset, granted, last, \
                     detail, attempts, next_at, lease_until";

impl PlaceRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let origin: String = row.get(1)?;
        let origin = Origin::parse(&origin).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                1,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })?;
        Ok(Self {
            blob: Sha256::from_bytes(row.get(0)?),
            origin,
            message: EventId::from_bytes(row.get(2)?),
            is_own: row.get(3)?,
            size: uint(row.get(4)?),
            state: BlobState::of_name(&row.get::<_, String>(5)?),
            touched: row.get(6)?,
            sunset: row.get::<_, Option<i64>>(7)?.map(uint),
            granted: row.get::<_, Option<i64>>(8)?.map(uint),
            last: row.get(9)?,
            detail: row.get(10)?,
            attempts: row.get(11)?,
            next_at: uint(row.get(12)?),
            lease_until: uint(row.get(13)?),
        })
    }

    /// Writes it.
    pub fn save(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO blob_places ({PLACE}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
            ))?
            .execute(params![
                self.blob.as_bytes(),
                self.origin.as_str(),
                self.message.as_bytes(),
                self.is_own,
                int(self.size),
                self.state.name(),
                self.touched,
                opt_int(self.sunset),
                opt_int(self.granted),
                self.last,
                self.detail,
                self.attempts,
                int(self.next_at),
                int(self.lease_until)
            ])?;
        Ok(())
    }

    fn many(
        connection: &Connection,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {PLACE} FROM blob_places WHERE {condition}"
        ))?;
        let rows = statement.query_map(parameters, Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// One blob at one server.
    pub fn find(connection: &Connection, blob: &Sha256, origin: &Origin) -> Result<Option<Self>> {
        Ok(Self::many(
            connection,
            "blob = ?1 AND origin = ?2",
            params![blob.as_bytes(), origin.as_str()],
        )?
        .pop())
    }

    /// All servers of a message's blob.
    pub fn of_message(connection: &Connection, message: &EventId) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "message = ?1 ORDER BY origin",
            [message.as_bytes()],
        )
    }

    /// Those with something to do now.
    pub fn due(connection: &Connection, now: u64) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "state IN ('upload', 'remove', 'probe') AND next_at <= ?1 AND lease_until <= ?1 \
             ORDER BY next_at, blob, origin LIMIT 100",
            [int(now)],
        )
    }

    /// Everything with something to do.
    pub fn open(connection: &Connection) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "state IN ('upload', 'remove', 'probe') ORDER BY blob, origin",
            [],
        )
    }

    /// The next time at which [`PlaceRow::due`] finds something.
    pub fn next_due(connection: &Connection) -> Result<Option<u64>> {
        let next: Option<i64> = connection.query_row(
            "SELECT min(max(next_at, lease_until)) FROM blob_places \
             WHERE state IN ('upload', 'remove', 'probe')",
            [],
            |row| row.get(0),
        )?;
        Ok(next.map(uint))
    }

    /// Makes everything due, whatever its back-off says.
    pub fn hurry(connection: &Connection, now: u64) -> Result<()> {
        connection.execute(
            "UPDATE blob_places SET next_at = ?1 WHERE next_at > ?1 \
             AND state IN ('upload', 'remove', 'probe')",
            [int(now)],
        )?;
        Ok(())
    }
}

/// Notes ciphertext in the spool of this home.
pub(crate) fn note_spooled(
    connection: &Connection,
    blob: &Sha256,
    message: &EventId,
) -> Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO spool (blob, message) VALUES (?1, ?2)",
        params![blob.as_bytes(), message.as_bytes()],
    )?;
    Ok(())
}

/// Spooled blobs that no upload needs any more.
pub(crate) fn spool_garbage(connection: &Connection) -> Result<Vec<Sha256>> {
    let mut statement = connection.prepare_cached(
        "SELECT blob FROM spool s WHERE NOT EXISTS (SELECT 1 FROM blob_places p \
         WHERE p.blob = s.blob AND p.state = 'upload')",
    )?;
    let rows = statement.query_map([], |row| row.get(0).map(Sha256::from_bytes))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A blob is no longer in the spool.
pub(crate) fn drop_spooled(connection: &Connection, blob: &Sha256) -> Result<()> {
    connection.execute("DELETE FROM spool WHERE blob = ?1", [blob.as_bytes()])?;
    Ok(())
}
