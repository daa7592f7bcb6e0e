//! What a failing store means for the user.

use rusqlite::ffi::ErrorCode;

use crate::error::{Error, ErrorWord};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                Self::new(ErrorWord::DiskFull, "the disk is full; nothing was changed")
                    .hint("free some space and try again")
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::new(
                ErrorWord::Conflict,
                "another process is using the store; nothing was changed",
            )
            .hint("try again when the other command has ended"),
            // Of what was written, not of the store: one event of a batch, for example.
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Self::new(
                    ErrorWord::Integrity,
                    format!("the store refused it: {error}"),
                )
            }
            Some(ErrorCode::CannotOpen) => {
                Self::new(ErrorWord::NotFound, "the store cannot be opened")
            }
            _ => Self::new(ErrorWord::Internal, format!("the store failed: {error}")),
        }
    }
}

/// The file is there and is not what was written: another key, or changed bytes.
pub(crate) fn damaged() -> Error {
    Error::new(
        ErrorWord::StoreDamaged,
        "the store is damaged or was written under another key",
    )
    .hint("restore it from a backup, or restore the account from its words")
}
