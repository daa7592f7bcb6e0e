//! What each of our relays has served for an inbox key: our side of a comparison (NIP-77).

use rusqlite::{Connection, OptionalExtension, params};
use wire::{EventId, PublicKey, RelayUrl};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// One inbox key on one of our relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    id: i64,
    /// Whether the relay's description lists NIP-77; nothing where it was not asked.
    pub lists: Option<bool>,
    /// Where it lists it: not compared before this second. Else: not asked before.
    pub rest_until: u64,
    /// How many comparisons in a row ended with the connection.
    pub breaks: u32,
}

impl Source {
    /// What is known of it; made where it is new.
    pub fn of(connection: &Connection, inbox: &PublicKey, relay: &RelayUrl) -> Result<Self> {
        connection
            .prepare_cached("INSERT OR IGNORE INTO sources (inbox, relay) VALUES (?1, ?2)")?
            .execute(params![inbox.as_bytes(), relay.as_str()])?;
        Ok(connection
            .prepare_cached(
                "SELECT source, lists, rest_until, breaks FROM sources \
                 WHERE inbox = ?1 AND relay = ?2",
            )?
            .query_row(params![inbox.as_bytes(), relay.as_str()], |row| {
                Ok(Self {
                    id: row.get(0)?,
                    lists: row.get(1)?,
                    rest_until: uint(row.get(2)?),
                    breaks: row.get(3)?,
                })
            })?)
    }

    /// Writes what was learnt. Where the relay cannot compare, what it served is not kept.
    pub fn save(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(
                "UPDATE sources SET lists = ?2, rest_until = ?3, breaks = ?4 WHERE source = ?1",
            )?
            .execute(params![
                self.id,
                self.lists,
                int(self.rest_until),
                self.breaks
            ])?;
        if self.lists == Some(false) {
            connection
                .prepare_cached("DELETE FROM served_wraps WHERE source = ?1")?
                .execute([self.id])?;
        }
        Ok(())
    }

    /// Notes a wrap that the relay served. One that it serves after its outer expiry has none for
    /// it, and is kept until it no longer names it.
    pub fn note(
        &self,
        connection: &Connection,
        id: &EventId,
        created_at: u64,
        expires_at: Option<u64>,
        now: u64,
    ) -> Result<()> {
        if self.lists == Some(false) {
            return Ok(());
        }
        connection
            .prepare_cached(
                "INSERT INTO served_wraps (source, wrap_id, created_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (source, wrap_id) DO UPDATE \
                 SET expires_at = ?4 WHERE expires_at IS NOT ?4",
            )?
            .execute(params![
                self.id,
                id.as_bytes(),
                int(created_at),
                opt_int(expires_at.filter(|at| *at > now))
            ])?;
        Ok(())
    }

    /// Whether the relay has served this wrap.
    pub fn has(&self, connection: &Connection, id: &EventId) -> Result<bool> {
        Ok(connection
            .prepare_cached("SELECT 1 FROM served_wraps WHERE source = ?1 AND wrap_id = ?2")?
            .query_row(params![self.id, id.as_bytes()], |_| Ok(()))
            .optional()?
            .is_some())
    }

    /// Everything that the relay may still have at `now`: times and ids, in no order.
    pub fn served(&self, connection: &Connection, now: u64) -> Result<Vec<(u64, EventId)>> {
        let mut statement = connection.prepare_cached(
            "SELECT created_at, wrap_id FROM served_wraps \
             WHERE source = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
        )?;
        let rows = statement.query_map(params![self.id, int(now)], |row| {
            Ok((uint(row.get(0)?), EventId::from_bytes(row.get(1)?)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The relay does not have these any more.
    pub fn forget(&self, connection: &Connection, ids: &[EventId]) -> Result<()> {
        let mut statement = connection
            .prepare_cached("DELETE FROM served_wraps WHERE source = ?1 AND wrap_id = ?2")?;
        for id in ids {
            statement.execute(params![self.id, id.as_bytes()])?;
        }
        Ok(())
    }
}

/// Drops what has expired, what relays that are no longer ours served, and of each other relay
/// what is older than its newest `cap`.
pub(crate) fn bound_served(connection: &Connection, now: u64, cap: u64) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM served_wraps WHERE expires_at <= ?1")?
        .execute([int(now)])?;
    connection
        .prepare_cached(
            "DELETE FROM sources WHERE relay NOT IN (SELECT url FROM servers WHERE kind = 'relay')",
        )?
        .execute([])?;
    let mut statement = connection.prepare_cached("SELECT source FROM sources")?;
    let sources: Vec<i64> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for source in sources {
        let count: i64 = connection
            .prepare_cached("SELECT count(*) FROM served_wraps WHERE source = ?1")?
            .query_row([source], |row| row.get(0))?;
        if uint(count) > cap {
            connection
                .prepare_cached(
                    "DELETE FROM served_wraps WHERE source = ?1 AND wrap_id IN \
                     (SELECT wrap_id FROM served_wraps WHERE source = ?1 \
                     ORDER BY created_at DESC, wrap_id LIMIT -1 OFFSET ?2)",
                )?
                .execute(params![source, int(cap)])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const OWN: PublicKey = PublicKey::from_bytes([1; 32]);

    fn relay(name: &str) -> RelayUrl {
        RelayUrl::parse(&format!("wss://{name}.example")).unwrap()
    }

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 32])
    }

    fn ours(connection: &Connection, names: &[&str]) -> Result<()> {
        connection.execute("DELETE FROM servers", [])?;
        for (position, name) in (0_i64..).zip(names) {
            connection.execute(
                "INSERT INTO servers (kind, url, position) VALUES ('relay', ?1, ?2)",
                params![relay(name).as_str(), position],
            )?;
        }
        Ok(())
    }

    fn ids(source: &Source, connection: &Connection, now: u64) -> Vec<EventId> {
        let mut served = source.served(connection, now).unwrap();
        served.sort_unstable();
        served.into_iter().map(|(_, id)| id).collect()
    }

    #[test]
    fn what_one_relay_served_says_nothing_of_another() {
        let mut store = Store::in_memory().unwrap();
        store
            .transaction(|tx| {
                let [a, b] = ["a", "b"].map(|name| Source::of(tx, &OWN, &relay(name)).unwrap());
                a.note(tx, &id(1), 10, None, 0)?;
                assert!(a.has(tx, &id(1))? && !b.has(tx, &id(1))?);
                assert_eq!(ids(&a, tx, 0), [id(1)]);
                assert!(ids(&b, tx, 0).is_empty());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_has_expired_drops_out_unless_the_relay_serves_it_still() {
        let mut store = Store::in_memory().unwrap();
        store
            .transaction(|tx| {
                ours(tx, &["a"])?;
                let source = Source::of(tx, &OWN, &relay("a"))?;
                source.note(tx, &id(1), 10, Some(100), 50)?;
                source.note(tx, &id(2), 11, Some(200), 50)?;
                assert_eq!(ids(&source, tx, 99), [id(1), id(2)]);
                assert_eq!(ids(&source, tx, 100), [id(2)]);
                // Served at 150 all the same: known from then on.
                source.note(tx, &id(1), 10, Some(100), 150)?;
                bound_served(tx, 1_000, 10)?;
                assert_eq!(ids(&source, tx, 1_000), [id(1)]);
                source.forget(tx, &[id(1)])?;
                assert!(ids(&source, tx, 1_000).is_empty());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_the_relay() {
        let mut store = Store::in_memory().unwrap();
        store
            .transaction(|tx| {
                ours(tx, &["a", "b"])?;
                for name in ["a", "b"] {
                    let source = Source::of(tx, &OWN, &relay(name))?;
                    for n in 0..10 {
                        source.note(tx, &id(n), u64::from(n), None, 0)?;
                    }
                }
                bound_served(tx, 0, 4)?;
                let a = Source::of(tx, &OWN, &relay("a"))?;
                assert_eq!(ids(&a, tx, 0), [id(6), id(7), id(8), id(9)]);
                ours(tx, &["a"])?;
                bound_served(tx, 0, 4)?;
                let left: i64 =
                    tx.query_row("SELECT count(*) FROM served_wraps", [], |row| row.get(0))?;
                assert_eq!(left, 4);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn nothing_is_kept_of_a_relay_that_cannot_compare() {
        let mut store = Store::in_memory().unwrap();
        store
            .transaction(|tx| {
                let mut source = Source::of(tx, &OWN, &relay("a"))?;
                source.note(tx, &id(1), 10, None, 0)?;
                source.lists = Some(false);
                source.rest_until = 77;
                source.save(tx)?;
                assert_eq!(Source::of(tx, &OWN, &relay("a"))?, source);
                source.note(tx, &id(2), 10, None, 0)?;
                assert!(ids(&source, tx, 0).is_empty());
                Ok(())
            })
            .unwrap();
    }
}
