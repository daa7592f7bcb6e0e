//! What happened, in the order in which it happened in this home.

use rusqlite::{Connection, params};
use wire::{EventId, PublicKey};

use crate::error::Result;
use crate::store::int;

/// One happening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalRow {
    pub seq: i64,
    pub kind: String,
    pub rumor: Option<EventId>,
    pub status: Option<String>,
}

/// Appends; gives its number, which is never given twice.
pub(crate) fn note(
    connection: &Connection,
    kind: &'static str,
    author: &PublicKey,
    rumor: &EventId,
    status: Option<&str>,
    now: u64,
) -> Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO journal (type, author, rumor, status, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            kind,
            author.as_bytes(),
            rumor.as_bytes(),
            status,
            int(now)
        ])?;
    Ok(connection.last_insert_rowid())
}

impl JournalRow {
    /// The happenings after `seq`, oldest first.
    pub fn after(connection: &Connection, seq: i64, limit: usize) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(
            "SELECT seq, type, rumor, status FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let rows = statement.query_map(
            params![seq, i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| {
                Ok(Self {
                    seq: row.get(0)?,
                    kind: row.get(1)?,
                    rumor: row.get::<_, Option<_>>(2)?.map(EventId::from_bytes),
                    status: row.get(3)?,
                })
            },
        )?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest number.
    pub fn newest(connection: &Connection) -> Result<i64> {
        Ok(
            connection.query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| {
                row.get(0)
            })?,
        )
    }
}
