//! What the client remembers: one SQLCipher database per circle.
//!
//! One input of the engine is one [`Store::transaction`]: either all of it is remembered or
//! nothing. Several processes may have the same database open; transactions wait for each other,
//! and rows that are being worked on are leased (`outbox.lease_until`), so that no two processes
//! publish the same row at once.
//!
//! The tables are in `migrations/`, numbered and never edited after a release. Each noun has a
//! file here with its questions and changes in SQL; what they mean is decided in
//! [`crate::engine`].

mod blobs;
mod contacts;
mod conversations;
mod failure;
mod inbox;
mod journal;
mod lists;
mod messages;
mod outbox;
mod secrets;
mod sent;
mod served;

use std::fs::OpenOptions;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crypto::lock::StoreKey;
use rusqlite::{Connection, TransactionBehavior};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorWord, Result};

pub(crate) use blobs::{BlobState, FileRow, PlaceRow, drop_spooled, note_spooled, spool_garbage};
pub(crate) use contacts::{ContactRow, note_device, pin};
pub(crate) use conversations::ConversationRow;
pub(crate) use failure::damaged;
pub(crate) use inbox::{
    WrapOutcome, WrapRow, bound, drop_pending, is_taken_back, keep_pending, known_wrap,
    mark_place_deleted, note_place, pending_wraps, places_of_rumor,
};
pub(crate) use journal::{JournalRow, note};
pub(crate) use lists::{
    OwnList, PeerList, ServerKind, drop_invite, invite_for, keep_invite, lookup_detail,
    lookups_due, next_refresh, note_lookup, own_file_servers, own_relays,
};
pub(crate) use messages::{MessageRow, drop_kept_rumors, is_known_rumor, keep_rumor, note_rumor};
pub(crate) use outbox::{
    EnvelopeRow, OutboxRow, Purpose, RowRole, RowState, erase_seals, expired_envelopes, keep_seal,
    open_envelopes_for, seal_of,
};
pub(crate) use secrets::SecretPurpose;
pub(crate) use sent::{
    DeletionRow, RecipientRow, SentRow, has_receipt, idempotent, note_receipt, note_receipt_given,
    remember_idempotent,
};
pub(crate) use served::{Source, bound_served};

/// How long a transaction waits for another process's to end.
const BUSY: Duration = Duration::from_secs(10);

/// Schema changes in order; the position is the version.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_reconciling.sql"),
];

/// One circle's database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    erased: bool,
}

/// One transaction; a connection that also notes what must happen after its end.
#[derive(Debug)]
pub struct Tx<'a> {
    connection: &'a Connection,
    erased: std::cell::Cell<bool>,
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Tx<'_> {
    /// Something was erased: after the commit the write-ahead log is emptied too, so that the
    /// bytes are gone from every file.
    pub(crate) fn note_erasure(&self) {
        self.erased.set(true);
    }
}

impl Store {
    /// Opens or creates the database at `path` (mode 0600) under a raw key.
    ///
    /// Fails with `store_damaged` where the file is not a database under this key, and with
    /// `conflict` where it was written by a newer version.
    pub fn open(path: &Path, key: &StoreKey) -> Result<Self> {
        // SQLite would create it with the umask's mode, and its journal files copy the mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // SQLCipher would write its own log to stderr; our errors say what there is to say.
        connection.execute_batch("PRAGMA cipher_log_level = NONE")?;
        let hex = Zeroizing::new(hex::encode(key.expose_secret_bytes()));
        let pragma = Zeroizing::new(format!("PRAGMA key = \"x'{}'\"", hex.as_str()));
        connection.execute_batch(&pragma)?;
        connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
            .map_err(|error| match Error::from(error) {
                full if full.word == ErrorWord::DiskFull => full,
                busy if busy.word == ErrorWord::Conflict => busy,
                _ => damaged(),
            })?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        Self::prepare(connection)
    }

    /// A store that lasts as long as the process. For tests and simulations.
    pub fn in_memory() -> Result<Self> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(connection: Connection) -> Result<Self> {
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF",
        )?;
        let mut store = Self {
            connection,
            erased: false,
        };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&mut self) -> Result<()> {
        let version = |connection: &Connection| {
            connection
                .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
                .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
        };
        if version(&self.connection)? == MIGRATIONS.len() {
            return Ok(());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let from = version(&transaction)?;
        if from > MIGRATIONS.len() {
            return Err(Error::new(
                ErrorWord::Conflict,
                "the store was written by a newer version",
            )
            .hint("update this program"));
        }
        for (script, version) in MIGRATIONS.iter().zip(1_i64..).skip(from) {
            transaction.execute_batch(script)?;
            transaction.pragma_update(None, "user_version", version)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Runs `work` in one transaction that no other process can interleave with: all of it is
    /// committed, or on an error nothing.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tx = Tx {
            connection: &transaction,
            erased: std::cell::Cell::new(false),
        };
        let value = work(&tx)?;
        let erased = tx.erased.get();
        transaction.commit()?;
        self.erased |= erased;
        if self.erased {
            self.empty_log();
        }
        Ok(value)
    }

    /// Empties the write-ahead log. Where another process is reading, the next transaction tries
    /// again; nothing is lost by that.
    fn empty_log(&mut self) {
        let blocked = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
        self.erased = !matches!(blocked, Ok(0));
    }

    /// For questions. They see what was committed before.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Checks every page against its MAC and every table against its rules. Fails with
    /// `store_damaged`.
    pub fn verify(&self) -> Result<()> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .map_err(|_| damaged())?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(damaged())
        }
    }
}

/// A time or size for a column. SQLite counts to 2^63; what is beyond never comes.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The same for what may be absent.
pub(crate) fn opt_int(value: Option<u64>) -> Option<i64> {
    value.map(int)
}

/// A time or size from a column.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Reads a small fact.
pub(crate) fn fact(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    use rusqlite::OptionalExtension;
    Ok(connection
        .prepare_cached("SELECT value FROM facts WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

/// Writes a small fact.
pub(crate) fn set_fact(connection: &Connection, name: &str, value: &[u8]) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)")?
        .execute(rusqlite::params![name, value])?;
    Ok(())
}

/// The counter that tells a restored old copy of the store from the current one: it grows with
/// every transaction that sends. (Its twin outside the database comes with the sessions.)
pub(crate) fn advance_rollback_counter(connection: &Connection) -> Result<u64> {
    let old = fact(connection, "rollback_counter")?
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes);
    let new = old.saturating_add(1);
    set_fact(connection, "rollback_counter", &new.to_be_bytes())?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StoreKey {
        StoreKey::from_secret_bytes([3; 32])
    }

    #[test]
    fn an_error_leaves_nothing_behind() {
        let mut store = Store::in_memory().unwrap();
        let result: Result<()> = store.transaction(|tx| {
            set_fact(tx, "name", b"value")?;
            Err(Error::new(ErrorWord::Internal, "stop"))
        });
        result.unwrap_err();
        assert_eq!(fact(store.connection(), "name").unwrap(), None);
    }

    #[test]
    fn a_full_disk_is_said_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("store.db"), &key()).unwrap();
        store
            .transaction(|tx| set_fact(tx, "name", b"before"))
            .unwrap();
        let pages: i64 = store
            .connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap();
        store
            .connection
            .execute_batch(&format!("PRAGMA max_page_count = {pages}"))
            .unwrap();
        let large = vec![7; 1 << 20];
        let error = store
            .transaction(|tx| {
                set_fact(tx, "name", b"after")?;
                set_fact(tx, "large", &large)
            })
            .unwrap_err();
        assert_eq!((error.word, error.exit), (ErrorWord::DiskFull, 1));
        assert_eq!(
            fact(store.connection(), "name").unwrap().as_deref(),
            Some(b"before".as_slice())
        );
    }

    #[test]
    fn two_processes_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        drop(Store::open(&path, &key()).unwrap());
        let count = || {
            let mut store = Store::open(&path, &key()).unwrap();
            for _ in 0..25 {
                store
                    .transaction(|tx| advance_rollback_counter(tx))
                    .unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(count);
            scope.spawn(count);
        });
        let store = Store::open(&path, &key()).unwrap();
        let value = fact(store.connection(), "rollback_counter")
            .unwrap()
            .unwrap();
        assert_eq!(u64::from_be_bytes(value.try_into().unwrap()), 50);
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_shows_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut store = Store::open(&path, &key()).unwrap();
        let planted = b"planted text that must not be read";
        store
            .transaction(|tx| set_fact(tx, "name", planted))
            .unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(!bytes.windows(planted.len()).any(|part| part == planted));
        }
    }

    #[test]
    fn a_store_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = Store::open(&path, &key()).unwrap();
        store
            .connection
            .execute_batch("PRAGMA user_version = 99")
            .unwrap();
        drop(store);
        let error = Store::open(&path, &key()).unwrap_err();
        assert_eq!(error.word, ErrorWord::Conflict);
    }

    #[test]
    fn a_store_of_an_older_version_is_brought_up_to_date() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection
            .execute_batch(
                "PRAGMA user_version = 1; INSERT INTO facts (name, value) VALUES ('name', x'01')",
            )
            .unwrap();
        let store = Store::prepare(connection).unwrap();
        let version: i64 = store
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(usize::try_from(version), Ok(MIGRATIONS.len()));
        assert_eq!(fact(store.connection(), "name").unwrap(), Some(vec![1]));
        store
            .connection
            .query_row("SELECT count(*) FROM served_wraps", [], |_| Ok(()))
            .unwrap();
    }

    #[test]
    fn secrets_go_by_their_date() {
        let mut store = Store::in_memory().unwrap();
        let owner = wire::EventId::from_bytes([1; 32]);
        store
            .transaction(|tx| {
                SecretPurpose::Deletion.keep(tx, &owner, b"secret", Some(100))?;
                assert!(!SecretPurpose::erase_due(tx, 99)?);
                assert!(SecretPurpose::erase_due(tx, 100)?);
                assert!(SecretPurpose::Deletion.find(tx, &owner)?.is_none());
                Ok(())
            })
            .unwrap();
    }
}
