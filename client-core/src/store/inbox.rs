//! Wraps that came: what became of each, and where it lies.

use rusqlite::{Connection, OptionalExtension, params};
use wire::{EventId, PublicKey, RelayUrl};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// What became of a wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrapOutcome {
    /// It held a rumor that was taken, now or before.
    Opened,
    /// A check of the opening failed for good.
    Refused,
    /// It waits for something, with its bytes.
    Pending,
    /// It was sound and not wanted: blocked, expired, over a stranger's bound.
    Dropped,
}

impl WrapOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Refused => "refused",
            Self::Pending => "pending",
            Self::Dropped => "dropped",
        }
    }
}

/// A wrap as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrapRow {
    pub id: EventId,
    pub inbox: PublicKey,
    pub outcome: WrapOutcome,
    pub reason: String,
    pub rumor: Option<(PublicKey, EventId)>,
    pub expires_at: Option<u64>,
}

impl WrapRow {
    /// Writes what became of it.
    pub fn save(&self, connection: &Connection, now: u64) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO wraps \
                 (wrap_id, inbox, outcome, reason, author, rumor, expires_at, seen_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (wrap_id) DO UPDATE SET \
                 outcome = ?3, reason = ?4, author = ?5, rumor = ?6",
            )?
            .execute(params![
                self.id.as_bytes(),
                self.inbox.as_bytes(),
                self.outcome.name(),
                self.reason,
                self.rumor.as_ref().map(|(author, _)| author.as_bytes()),
                self.rumor.as_ref().map(|(_, id)| id.as_bytes()),
                opt_int(self.expires_at),
                int(now)
            ])?;
        Ok(())
    }
}

/// The outer expiry of a wrap that is known; nothing where it is new.
pub(crate) fn known_wrap(connection: &Connection, id: &EventId) -> Result<Option<Option<u64>>> {
    Ok(connection
        .prepare_cached("SELECT expires_at FROM wraps WHERE wrap_id = ?1")?
        .query_row([id.as_bytes()], |row| {
            Ok(row.get::<_, Option<i64>>(0)?.map(uint))
        })
        .optional()?)
}

/// Notes that a known wrap lies on a relay; whether that is new.
pub(crate) fn note_place(connection: &Connection, id: &EventId, relay: &RelayUrl) -> Result<bool> {
    let count = connection
        .prepare_cached("INSERT OR IGNORE INTO wrap_places (wrap_id, relay) VALUES (?1, ?2)")?
        .execute(params![id.as_bytes(), relay.as_str()])?;
    Ok(count == 1)
}

/// Whether what a wrap brought was deleted for everyone.
pub(crate) fn is_taken_back(connection: &Connection, id: &EventId) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 FROM wraps w JOIN deletions d ON d.author = w.author AND d.id = w.rumor \
             WHERE w.wrap_id = ?1 AND d.scope = 'everyone'",
        )?
        .query_row([id.as_bytes()], |_| Ok(()))
        .optional()?
        .is_some())
}

/// The wraps that brought a rumor and the relays that they lie on, as far as nobody asked there
/// for their deletion yet.
pub(crate) fn places_of_rumor(
    connection: &Connection,
    author: &PublicKey,
    rumor: &EventId,
) -> Result<Vec<(EventId, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT p.wrap_id, p.relay FROM wraps w JOIN wrap_places p ON p.wrap_id = w.wrap_id \
         WHERE w.author = ?1 AND w.rumor = ?2 AND p.is_deleted = 0 ORDER BY p.relay, p.wrap_id",
    )?;
    let rows = statement.query_map(params![author.as_bytes(), rumor.as_bytes()], |row| {
        Ok((EventId::from_bytes(row.get(0)?), row.get(1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Marks that the deletion of a wrap was asked of a relay; false where it was before.
pub(crate) fn mark_place_deleted(
    connection: &Connection,
    id: &EventId,
    relay: &str,
) -> Result<bool> {
    let count = connection
        .prepare_cached(
            "UPDATE wrap_places SET is_deleted = 1 \
             WHERE wrap_id = ?1 AND relay = ?2 AND is_deleted = 0",
        )?
        .execute(params![id.as_bytes(), relay])?;
    Ok(count == 1)
}

/// Keeps the bytes of a wrap that waits, at most `cap` of them.
pub(crate) fn keep_pending(
    connection: &Connection,
    wrap: &WrapRow,
    bytes: &[u8],
    now: u64,
    cap: u64,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO pending_wraps \
             (wrap_id, inbox, reason, bytes, received_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            wrap.id.as_bytes(),
            wrap.inbox.as_bytes(),
            wrap.reason,
            bytes,
            int(now),
            opt_int(wrap.expires_at)
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM pending_wraps WHERE wrap_id IN (SELECT wrap_id FROM pending_wraps \
             ORDER BY received_at DESC, wrap_id LIMIT -1 OFFSET ?1)",
        )?
        .execute([int(cap)])?;
    Ok(())
}

/// The wraps that wait, oldest first.
pub(crate) fn pending_wraps(connection: &Connection) -> Result<Vec<(EventId, Vec<u8>)>> {
    let mut statement = connection
        .prepare_cached("SELECT wrap_id, bytes FROM pending_wraps ORDER BY received_at, wrap_id")?;
    let rows = statement.query_map([], |row| {
        Ok((EventId::from_bytes(row.get(0)?), row.get(1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A pending wrap waits no longer.
pub(crate) fn drop_pending(connection: &Connection, id: &EventId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM pending_wraps WHERE wrap_id = ?1")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// Drops pending wraps whose outer expiry or `oldest` arrival has passed, and what is remembered
/// of refused and unwanted wraps beyond `cap`: those would be looked at again if a relay still
/// had them, which is all the harm.
pub(crate) fn bound(
    connection: &Connection,
    own: &PublicKey,
    now: u64,
    oldest: u64,
    cap: u64,
) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM pending_wraps WHERE expires_at <= ?1 OR received_at < ?2")?
        .execute(params![int(now), int(oldest)])?;
    connection
        .prepare_cached(
            "DELETE FROM wraps WHERE wrap_id IN (SELECT wrap_id FROM wraps \
             WHERE outcome IN ('refused', 'dropped') \
             ORDER BY seen_at DESC, wrap_id LIMIT -1 OFFSET ?1)",
        )?
        .execute([int(cap)])?;
    // Strangers can make any number of sound rumors that leave no message. What is remembered of
    // the oldest goes; should a relay still have them, they are taken again, to no effect.
    connection
        .prepare_cached(
            "DELETE FROM wraps WHERE wrap_id IN (SELECT wrap_id FROM wraps w \
             WHERE outcome = 'opened' AND author <> ?2 \
             AND author NOT IN (SELECT pubkey FROM contacts WHERE is_accepted = 1) \
             AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.author = w.author AND m.id = w.rumor) \
             ORDER BY seen_at DESC, wrap_id LIMIT -1 OFFSET ?1)",
        )?
        .execute(params![int(cap), own.as_bytes()])?;
    connection
        .prepare_cached(
            "DELETE FROM known_rumors AS k WHERE author <> ?1 \
             AND author NOT IN (SELECT pubkey FROM contacts WHERE is_accepted = 1) \
             AND NOT EXISTS (SELECT 1 FROM wraps w WHERE w.author = k.author AND w.rumor = k.id) \
             AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.author = k.author AND m.id = k.id) \
             AND NOT EXISTS (SELECT 1 FROM deletions d WHERE d.author = k.author AND d.id = k.id)",
        )?
        .execute([own.as_bytes()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, is_known_rumor, note_rumor};

    fn count(connection: &Connection, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_strangers_leave_behind_is_bounded_and_contacts_are_not_touched() {
        let mut store = Store::in_memory().unwrap();
        let [own, friend, stranger] = [1, 2, 3].map(|n| PublicKey::from_bytes([n; 32]));
        store
            .transaction(|tx| {
                tx.execute(
                    "INSERT INTO contacts (pubkey, is_accepted, first_at) VALUES (?1, 1, 0)",
                    [friend.as_bytes()],
                )?;
                for (author, n) in [own, friend, stranger]
                    .iter()
                    .flat_map(|a| (0..20).map(move |n| (a, n)))
                {
                    let mut id = *author.as_bytes();
                    id[0] = n;
                    let id = EventId::from_bytes(id);
                    note_rumor(tx, author, &id)?;
                    WrapRow {
                        id,
                        inbox: own,
                        outcome: WrapOutcome::Opened,
                        reason: String::new(),
                        rumor: Some((*author, id)),
                        expires_at: None,
                    }
                    .save(tx, u64::from(n))?;
                }
                bound(tx, &own, 100, 0, 5)?;
                assert_eq!(count(tx, "wraps"), 20 + 20 + 5);
                assert_eq!(count(tx, "known_rumors"), 20 + 20 + 5);
                let mut newest = *stranger.as_bytes();
                newest[0] = 19;
                assert!(is_known_rumor(tx, &stranger, &EventId::from_bytes(newest))?);
                Ok(())
            })
            .unwrap();
    }
}
