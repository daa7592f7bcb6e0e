//! Secrets: apart from everything else, erased by date or with what they belong to.

use rusqlite::{Connection, OptionalExtension, params};
use wire::EventId;
use zeroize::Zeroizing;

use crate::error::Result;
use crate::store::{int, opt_int};

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretPurpose {
    /// The deletion secret of one of our rumors, 32 bytes.
    Deletion,
    /// Key and nonce of a message's file, as JSON.
    File,
    /// The key of a blob's claim at one file server, 32 bytes; its owner hashes both.
    Upload,
}

impl SecretPurpose {
    fn name(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::File => "file",
            Self::Upload => "upload",
        }
    }

    /// Keeps a secret until it is erased, or until `erase_after` (Unix seconds).
    pub fn keep(
        self,
        connection: &Connection,
        owner: &EventId,
        value: &[u8],
        erase_after: Option<u64>,
    ) -> Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO secrets (purpose, owner, value, erase_after) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                self.name(),
                owner.as_bytes(),
                value,
                opt_int(erase_after)
            ])?;
        Ok(())
    }

    /// The secret of `owner`.
    pub fn find(
        self,
        connection: &Connection,
        owner: &EventId,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(connection
            .prepare_cached("SELECT value FROM secrets WHERE purpose = ?1 AND owner = ?2")?
            .query_row(params![self.name(), owner.as_bytes()], |row| {
                row.get::<_, Vec<u8>>(0).map(Zeroizing::new)
            })
            .optional()?)
    }

    /// Erases it.
    pub fn erase(self, connection: &Connection, owner: &EventId) -> Result<()> {
        connection
            .prepare_cached("DELETE FROM secrets WHERE purpose = ?1 AND owner = ?2")?
            .execute(params![self.name(), owner.as_bytes()])?;
        Ok(())
    }

    /// Erases all whose date has come; says whether there were any.
    pub fn erase_due(connection: &Connection, now: u64) -> Result<bool> {
        let count = connection
            .prepare_cached("DELETE FROM secrets WHERE erase_after <= ?1")?
            .execute([int(now)])?;
        Ok(count > 0)
    }
}
