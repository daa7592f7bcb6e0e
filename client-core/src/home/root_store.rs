//! `root.db`: the seed and the table of circles.

use std::path::Path;

use crypto::lock::StoreKey;
use crypto::{AccountKey, Seed};
use rand::CryptoRng;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use wire::RelayUrl;
use wire::relay_url::Origin;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorWord, Result};

const VERSION: u32 = 1;
/// Version 1. A later version adds a script of its own and leaves this one alone.
const SCHEMA: &str = "
CREATE TABLE account (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    entropy  BLOB,                -- of the seed words; absent on a device that holds keys only
    name     TEXT,                -- what invites call the person
    current  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE circle (
    idx          INTEGER PRIMARY KEY,    -- NIP-06 account index; never used again
    name         TEXT NOT NULL,          -- empty where removed
    folder       TEXT NOT NULL,          -- 16 hex digits; tells nothing about the key
    secret       BLOB,                   -- the account key; absent where removed
    relays       TEXT NOT NULL,          -- JSON
    file_servers TEXT NOT NULL,          -- JSON
    expire_s     INTEGER,
    made_at      INTEGER NOT NULL,
    removed      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX circle_name ON circle (name) WHERE removed = 0;
CREATE TABLE definitions (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    changed    INTEGER NOT NULL,         -- counts changes of the circle table
    published  INTEGER NOT NULL          -- the change that circle 0 last handed to its outbox
) STRICT;
INSERT INTO definitions VALUES (1, 0, 0);
";

/// One circle, as this home knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircleRow {
    /// NIP-06 account index.
    pub index: u32,
    /// The name; empty where removed.
    pub name: String,
    /// Its folder under `circles/`.
    pub folder: String,
    /// Inbox relays.
    pub relays: Vec<RelayUrl>,
    /// File servers.
    pub file_servers: Vec<Origin>,
    /// How long its messages live, seconds.
    pub expire_s: Option<u64>,
    /// When it was made or last changed, Unix seconds.
    pub made_at: u64,
    /// Whether it is only a mark that keeps the index from being used again.
    pub removed: bool,
}

/// The open database.
#[derive(Debug)]
pub struct RootStore {
    connection: Connection,
}

impl RootStore {
    /// Opens or makes `root.db` at `path`, which exists as a file of mode 0600 (an empty one if
    /// new). `store_damaged` where it is not a database under this key.
    pub fn open(path: &Path, key: &StoreKey) -> Result<Self> {
        let connection = Connection::open(path)?;
        let hex = Zeroizing::new(hex::encode(key.expose_secret_bytes()));
        // SQLCipher would report a wrong key on stderr, in words of its own.
        connection.execute_batch("PRAGMA cipher_log_level = NONE")?;
        let pragma = Zeroizing::new(format!("PRAGMA key = \"x'{}'\"", hex.as_str()));
        connection.execute_batch(&pragma)?;
        connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
            .map_err(|error| match Error::from(error) {
                kept if matches!(kept.word, ErrorWord::DiskFull | ErrorWord::Conflict) => kept,
                _ => damaged(),
            })?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF",
        )?;
        let mut store = Self { connection };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&mut self) -> Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 = transaction.pragma_query_value(None, "user_version", |r| r.get(0))?;
        match version {
            0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
                Ok(())
            }
            VERSION => Ok(()),
            _ => Err(Error::new(
                ErrorWord::Conflict,
                "the account was written by a newer version of Sotto",
            )),
        }
    }

    /// Stores seed and name of a new account.
    pub fn set_account(&mut self, seed: Option<&Seed>, name: Option<&str>) -> Result<()> {
        self.connection.execute(
            "INSERT OR REPLACE INTO account (one, entropy, name, current) VALUES (1, ?1, ?2, 0)",
            params![seed.map(Seed::expose_secret_entropy), name],
        )?;
        Ok(())
    }

    /// The seed, where this home has it.
    pub fn seed(&self) -> Result<Option<Seed>> {
        let entropy: Option<Option<Vec<u8>>> = self
            .connection
            .query_row("SELECT entropy FROM account", [], |row| row.get(0))
            .optional()?;
        let Some(entropy) = entropy.flatten().map(Zeroizing::new) else {
            return Ok(None);
        };
        Seed::from_secret_entropy(&entropy)
            .map(Some)
            .map_err(|_| damaged())
    }

    /// What invites call the person.
    pub fn name(&self) -> Result<Option<String>> {
        let name = self
            .connection
            .query_row("SELECT name FROM account", [], |row| row.get(0))
            .optional()?;
        Ok(name.flatten())
    }

    /// The index of the circle that commands use if none is named.
    pub fn current(&self) -> Result<u32> {
        let current = self
            .connection
            .query_row("SELECT current FROM account", [], |row| row.get(0))
            .optional()?;
        Ok(current.unwrap_or_default())
    }

    /// Sets it.
    pub fn set_current(&mut self, index: u32) -> Result<()> {
        self.connection
            .execute("UPDATE account SET current = ?1", [index])?;
        Ok(())
    }

    /// All circles in order of their index, removed ones included.
    pub fn circles(&self) -> Result<Vec<CircleRow>> {
        let mut statement = self.connection.prepare(
            "SELECT idx, name, folder, relays, file_servers, expire_s, made_at, removed
             FROM circle ORDER BY idx",
        )?;
        let rows = statement.query_map([], circle_of)?;
        rows.map(|row| row.map_err(Error::from)).collect()
    }

    /// The account key of a circle that was not removed.
    pub fn account_key(&self, index: u32) -> Result<AccountKey> {
        let secret: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT secret FROM circle WHERE idx = ?1", [index], |row| {
                row.get(0)
            })
            .optional()?
            .flatten();
        let secret = Zeroizing::new(secret.ok_or_else(damaged)?);
        let bytes: &[u8; 32] = secret.as_slice().try_into().map_err(|_| damaged())?;
        AccountKey::from_secret_bytes(bytes).map_err(|_| damaged())
    }

    /// Adds a circle; `conflict` where the name or the index is taken.
    pub fn add_circle(
        &mut self,
        row: &CircleRow,
        key: Option<&AccountKey>,
        rng: &mut dyn CryptoRng,
    ) -> Result<CircleRow> {
        let mut folder = [0; 8];
        rng.fill_bytes(&mut folder);
        let row = CircleRow {
            folder: hex::encode(folder),
            ..row.clone()
        };
        let secret = key.map(AccountKey::expose_secret_bytes);
        let (relays, file_servers) = servers_json(&row);
        let transaction = self.connection.transaction()?;
        let added = transaction.execute(
            "INSERT INTO circle VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO NOTHING",
            params![
                row.index,
                row.name,
                row.folder,
                secret.as_ref().map(|secret| secret.as_slice()),
                relays,
                file_servers,
                row.expire_s.map(saturated),
                saturated(row.made_at),
                row.removed,
            ],
        )?;
        if added == 0 {
            return Err(Error::new(
                ErrorWord::Conflict,
                "there is a circle of this name already",
            ));
        }
        transaction.execute("UPDATE definitions SET changed = changed + 1", [])?;
        transaction.commit()?;
        Ok(row)
    }

    /// Changes what a circle's definition says; folder and key stay.
    pub fn update_circle(&mut self, row: &CircleRow) -> Result<()> {
        let (relays, file_servers) = servers_json(row);
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "UPDATE circle SET name = ?2, relays = ?3, file_servers = ?4, expire_s = ?5,
                 made_at = ?6, removed = ?7, secret = CASE WHEN ?7 THEN NULL ELSE secret END
             WHERE idx = ?1",
            params![
                row.index,
                row.name,
                relays,
                file_servers,
                row.expire_s.map(saturated),
                saturated(row.made_at),
                row.removed,
            ],
        )?;
        transaction.execute("UPDATE definitions SET changed = changed + 1", [])?;
        transaction.commit()?;
        Ok(())
    }

    /// How often the table changed, if circle 0 has not yet handed that state to its outbox.
    pub fn unpublished(&self) -> Result<Option<i64>> {
        let (changed, published): (i64, i64) =
            self.connection
                .query_row("SELECT changed, published FROM definitions", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
        Ok((changed > published).then_some(changed))
    }

    /// Notes that the state after `change` changes is in circle 0's outbox.
    pub fn set_published(&mut self, change: i64) -> Result<()> {
        self.connection.execute(
            "UPDATE definitions SET published = max(published, ?1)",
            [change],
        )?;
        Ok(())
    }
}

fn circle_of(row: &Row<'_>) -> rusqlite::Result<CircleRow> {
    let relays: String = row.get(3)?;
    let file_servers: String = row.get(4)?;
    let expire_s: Option<i64> = row.get(5)?;
    let made_at: i64 = row.get(6)?;
    Ok(CircleRow {
        index: row.get(0)?,
        name: row.get(1)?,
        folder: row.get(2)?,
        // Written by this program inside an authenticated database.
        relays: serde_json::from_str(&relays).unwrap_or_default(),
        file_servers: serde_json::from_str(&file_servers).unwrap_or_default(),
        expire_s: expire_s.and_then(|seconds| u64::try_from(seconds).ok()),
        made_at: u64::try_from(made_at).unwrap_or_default(),
        removed: row.get(7)?,
    })
}

fn servers_json(row: &CircleRow) -> (String, String) {
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "[]".to_owned());
    (
        json(serde_json::to_string(&row.relays)),
        json(serde_json::to_string(&row.file_servers)),
    )
}

/// SQLite counts with a sign; no time or duration of ours comes near the bound.
fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn damaged() -> Error {
    Error::new(
        ErrorWord::StoreDamaged,
        "root.db is damaged or another home's",
    )
    .hint("restore the account from its seed words, or the home from a backup")
}
