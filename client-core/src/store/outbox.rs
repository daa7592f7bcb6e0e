//! Events to publish, and one row for each relay that should have them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{EventId, PublicKey, RelayUrl};

use crate::error::Result;
use crate::store::{int, opt_int, uint};

/// What an event is published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A message for an inbox key.
    Wrap,
    /// A one-time key takes a wrap back.
    Deletion,
    /// Our account deletes wraps addressed to it.
    Cleaning,
    /// Our own list of relays or file servers.
    List,
    /// The circle definitions.
    Circles,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Deletion => "deletion",
            Self::Cleaning => "cleaning",
            Self::List => "list",
            Self::Circles => "circles",
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "deletion" => Self::Deletion,
            "cleaning" => Self::Cleaning,
            "list" => Self::List,
            "circles" => Self::Circles,
            _ => Self::Wrap,
        }
    }
}

/// By which kind of socket a row travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowRole {
    Publish,
    Inbox,
    AsMyself,
}

impl RowRole {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Inbox => "inbox",
            Self::AsMyself => "as_myself",
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "inbox" => Self::Inbox,
            "as_myself" => Self::AsMyself,
            _ => Self::Publish,
        }
    }
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// To be sent, at `next_at`.
    Queued,
    /// Some process is sending it, until `lease_until`.
    Sending,
    /// The relay said OK.
    Accepted,
    /// The relay refused for good, or may not be dialled.
    Refused,
    /// The user took it back before it was sent.
    Cancelled,
    /// Its message vanished before it was sent.
    Expired,
    /// Others took it, and this relay did not answer for days.
    GivenUp,
}

impl RowState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::GivenUp => "given_up",
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "sending" => Self::Sending,
            "accepted" => Self::Accepted,
            "refused" => Self::Refused,
            "cancelled" => Self::Cancelled,
            "expired" => Self::Expired,
            "given_up" => Self::GivenUp,
            _ => Self::Queued,
        }
    }

    /// Whether something may still be sent.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Sending)
    }
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvelopeRow {
    pub id: EventId,
    pub purpose: Purpose,
    /// The rumor in it, or whose wrap is taken back.
    pub message: Option<EventId>,
    /// Whom it is for: names the socket.
    pub inbox: PublicKey,
    pub attempt: u32,
    /// For deletions, the wrap; for lists, the kind is in the event.
    pub target: Option<EventId>,
    pub json: Option<Vec<u8>>,
    /// The time that the event bears.
    pub dated_at: u64,
    pub expires_at: Option<u64>,
    /// Whether it is known which relays should have it.
    pub is_routed: bool,
}

const ENVELOPE: &str =
    "event_id, purpose, message, inbox, attempt, target, json, dated_at, expires_at, is_routed";

impl EnvelopeRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: EventId::from_bytes(row.get(0)?),
            purpose: Purpose::of_name(&row.get::<_, String>(1)?),
            message: row.get::<_, Option<_>>(2)?.map(EventId::from_bytes),
            inbox: PublicKey::from_bytes(row.get(3)?),
            attempt: row.get(4)?,
            target: row.get::<_, Option<_>>(5)?.map(EventId::from_bytes),
            json: row.get(6)?,
            dated_at: uint(row.get(7)?),
            expires_at: row.get::<_, Option<i64>>(8)?.map(uint),
            is_routed: row.get(9)?,
        })
    }

    /// Writes a new one; one that is there stays as it is. Only a request of ours for deletion,
    /// whose bytes were erased when its relay had it, gets them again: another relay is asked the
    /// same in the same second.
    pub fn insert(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(&format!(
                "INSERT INTO envelopes ({ENVELOPE}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT (event_id) DO UPDATE SET json = excluded.json \
                 WHERE json IS NULL AND purpose = 'cleaning'"
            ))?
            .execute(params![
                self.id.as_bytes(),
                self.purpose.name(),
                self.message.as_ref().map(EventId::as_bytes),
                self.inbox.as_bytes(),
                self.attempt,
                self.target.as_ref().map(EventId::as_bytes),
                self.json,
                int(self.dated_at),
                opt_int(self.expires_at),
                self.is_routed
            ])?;
        Ok(())
    }

    /// By event id.
    pub fn find(connection: &Connection, id: &EventId) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!(
                "SELECT {ENVELOPE} FROM envelopes WHERE event_id = ?1"
            ))?
            .query_row([id.as_bytes()], Self::read)
            .optional()?)
    }

    /// Those of one message and purpose, by inbox key and attempt.
    pub fn of_message(
        connection: &Connection,
        message: &EventId,
        purpose: Purpose,
    ) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {ENVELOPE} FROM envelopes WHERE message = ?1 AND purpose = ?2 \
             ORDER BY inbox, attempt"
        ))?;
        let rows = statement.query_map(params![message.as_bytes(), purpose.name()], Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest circle definitions that were to be published.
    pub fn newest_circles(connection: &Connection) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!(
                "SELECT {ENVELOPE} FROM envelopes WHERE purpose = ?1 ORDER BY rowid DESC LIMIT 1"
            ))?
            .query_row([Purpose::Circles.name()], Self::read)
            .optional()?)
    }

    /// Those that nobody knows yet where to send.
    pub fn unrouted(connection: &Connection) -> Result<Vec<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {ENVELOPE} FROM envelopes WHERE is_routed = 0 ORDER BY rowid"
        ))?;
        let rows = statement.query_map([], Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Says that it is known where to send it.
    pub fn mark_routed(connection: &Connection, id: &EventId) -> Result<()> {
        connection
            .prepare_cached("UPDATE envelopes SET is_routed = 1 WHERE event_id = ?1")?
            .execute([id.as_bytes()])?;
        Ok(())
    }

    /// Erases the bytes of envelopes that nobody will send again.
    pub fn erase_settled(connection: &Connection, id: &EventId) -> Result<()> {
        connection
            .prepare_cached(
                "UPDATE envelopes SET json = NULL WHERE event_id = ?1 AND is_routed = 1 \
                 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.event_id = ?1 \
                 AND o.state IN ('queued', 'sending'))",
            )?
            .execute([id.as_bytes()])?;
        Ok(())
    }

    /// Makes a settled event ready to be sent once more, to a relay that lost it.
    pub fn revive(&self, connection: &Connection, relay: &RelayUrl, now: u64) -> Result<()> {
        self.insert(connection)?;
        connection
            .prepare_cached("UPDATE envelopes SET json = ?2 WHERE event_id = ?1")?
            .execute(params![self.id.as_bytes(), self.json])?;
        OutboxRow::insert(connection, &self.id, relay, true, RowRole::Inbox, now)?;
        connection
            .prepare_cached(
                "UPDATE outbox SET state = 'queued', attempts = 0, next_at = ?3 \
                 WHERE event_id = ?1 AND relay = ?2 AND state NOT IN ('queued', 'sending')",
            )?
            .execute(params![self.id.as_bytes(), relay.as_str(), int(now)])?;
        Ok(())
    }

    /// Lists and definitions that a newer one replaces: what is not sent yet is not sent.
    pub fn supersede(connection: &Connection, purpose: Purpose, marker: &EventId) -> Result<()> {
        connection.execute(
            "UPDATE outbox SET state = 'cancelled' WHERE state = 'queued' AND event_id IN \
             (SELECT event_id FROM envelopes WHERE purpose = ?1 AND target = ?2)",
            params![purpose.name(), marker.as_bytes()],
        )?;
        Ok(())
    }
}

/// One event for one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutboxRow {
    pub row: i64,
    pub event_id: EventId,
    pub relay: RelayUrl,
    pub is_own: bool,
    pub role: RowRole,
    pub state: RowState,
    /// The relay may have it.
    pub touched: bool,
    /// How the last try ended: empty, `accepted`, `refused`, `transient`, `unreachable`,
    /// `unknown`.
    pub last: String,
    pub detail: String,
    pub attempts: u32,
    pub next_at: u64,
    pub lease_until: u64,
}

const OUTBOX: &str = "row, event_id, relay, is_own, role, state, touched, last, detail, attempts, \
                      next_at, lease_until";

impl OutboxRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let relay: String = row.get(2)?;
        let relay = RelayUrl::parse(&relay).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                2,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })?;
        Ok(Self {
            row: row.get(0)?,
            event_id: EventId::from_bytes(row.get(1)?),
            relay,
            is_own: row.get(3)?,
            role: RowRole::of_name(&row.get::<_, String>(4)?),
            state: RowState::of_name(&row.get::<_, String>(5)?),
            touched: row.get(6)?,
            last: row.get(7)?,
            detail: row.get(8)?,
            attempts: row.get(9)?,
            next_at: uint(row.get(10)?),
            lease_until: uint(row.get(11)?),
        })
    }

    /// Adds a relay for an event; one that is there already stays as it is.
    pub fn insert(
        connection: &Connection,
        event_id: &EventId,
        relay: &RelayUrl,
        is_own: bool,
        role: RowRole,
        now: u64,
    ) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO outbox (event_id, relay, is_own, role, next_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                event_id.as_bytes(),
                relay.as_str(),
                is_own,
                role.name(),
                int(now)
            ])?;
        Ok(())
    }

    /// Writes what may change.
    pub fn save(&self, connection: &Connection) -> Result<()> {
        connection
            .prepare_cached(
                "UPDATE outbox SET role = ?2, state = ?3, touched = ?4, last = ?5, detail = ?6, \
                 attempts = ?7, next_at = ?8, lease_until = ?9, is_own = ?10 WHERE row = ?1",
            )?
            .execute(params![
                self.row,
                self.role.name(),
                self.state.name(),
                self.touched,
                self.last,
                self.detail,
                self.attempts,
                int(self.next_at),
                int(self.lease_until),
                self.is_own
            ])?;
        Ok(())
    }

    /// By row number.
    pub fn find(connection: &Connection, row: i64) -> Result<Option<Self>> {
        Ok(connection
            .prepare_cached(&format!("SELECT {OUTBOX} FROM outbox WHERE row = ?1"))?
            .query_row([row], Self::read)
            .optional()?)
    }

    fn many(
        connection: &Connection,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<Self>> {
        let mut statement =
            connection.prepare_cached(&format!("SELECT {OUTBOX} FROM outbox WHERE {condition}"))?;
        let rows = statement.query_map(parameters, Self::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All relays of an event.
    pub fn of_event(connection: &Connection, id: &EventId) -> Result<Vec<Self>> {
        Self::many(connection, "event_id = ?1 ORDER BY relay", [id.as_bytes()])
    }

    /// Rows that may be sent now: queued and due, or left by a process that died.
    pub fn due(connection: &Connection, now: u64, limit: u32) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "state IN ('queued', 'sending') AND next_at <= ?1 \
             AND (state = 'queued' OR lease_until <= ?1) ORDER BY next_at, row LIMIT ?2",
            params![int(now), limit],
        )
    }

    /// Everything that may still be sent.
    pub fn open(connection: &Connection) -> Result<Vec<Self>> {
        Self::many(
            connection,
            "state IN ('queued', 'sending') ORDER BY row",
            [],
        )
    }

    /// The next time at which [`OutboxRow::due`] finds something.
    pub fn next_due(connection: &Connection) -> Result<Option<u64>> {
        let next: Option<i64> = connection.query_row(
            "SELECT min(CASE state WHEN 'queued' THEN next_at ELSE lease_until END) FROM outbox \
             WHERE state IN ('queued', 'sending')",
            [],
            |row| row.get(0),
        )?;
        Ok(next.map(uint))
    }

    /// Makes every queued row due, whatever its back-off says.
    pub fn hurry(connection: &Connection, now: u64) -> Result<()> {
        connection.execute(
            "UPDATE outbox SET next_at = ?1 WHERE state IN ('queued', 'sending') \
             AND state = 'queued' AND next_at > ?1",
            [int(now)],
        )?;
        Ok(())
    }
}

/// Keeps the finished seal of a message for one inbox key.
pub(crate) fn keep_seal(
    connection: &Connection,
    message: &EventId,
    inbox: &PublicKey,
    seal: &[u8],
) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO seals (message, inbox, seal) VALUES (?1, ?2, ?3)")?
        .execute(params![message.as_bytes(), inbox.as_bytes(), seal])?;
    Ok(())
}

/// The seal of a message for one inbox key, while it may be needed again.
pub(crate) fn seal_of(
    connection: &Connection,
    message: &EventId,
    inbox: &PublicKey,
) -> Result<Option<Vec<u8>>> {
    Ok(connection
        .prepare_cached("SELECT seal FROM seals WHERE message = ?1 AND inbox = ?2")?
        .query_row(params![message.as_bytes(), inbox.as_bytes()], |row| {
            row.get(0)
        })
        .optional()?)
}

/// Erases the seals of a message, all or that for one inbox key.
pub(crate) fn erase_seals(
    connection: &Connection,
    message: &EventId,
    inbox: Option<&PublicKey>,
) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM seals WHERE message = ?1 AND (?2 IS NULL OR inbox = ?2)")?
        .execute(params![message.as_bytes(), inbox.map(PublicKey::as_bytes)])?;
    Ok(())
}

/// Envelopes for one inbox key that some relay may still be sent.
pub(crate) fn open_envelopes_for(
    connection: &Connection,
    inbox: &PublicKey,
) -> Result<Vec<EnvelopeRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM envelopes e WHERE inbox = ?1 AND is_routed = 1 \
         AND json IS NOT NULL AND EXISTS (SELECT 1 FROM outbox o WHERE o.event_id = e.event_id \
         AND o.state IN ('queued', 'sending')) ORDER BY rowid"
    ))?;
    let rows = statement.query_map([inbox.as_bytes()], EnvelopeRow::read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Wraps of rumors that have expired and may still be sent somewhere.
pub(crate) fn expired_envelopes(connection: &Connection, now: u64) -> Result<Vec<EnvelopeRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM envelopes e WHERE purpose = 'wrap' AND json IS NOT NULL \
         AND EXISTS (SELECT 1 FROM sent s WHERE s.id = e.message AND s.expires_at <= ?1) \
         ORDER BY rowid"
    ))?;
    let rows = statement.query_map([int(now)], EnvelopeRow::read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
