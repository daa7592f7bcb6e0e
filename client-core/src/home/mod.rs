//! The home folder: one account on one machine.
//!
//! ```text
//! lock.json        the data key under PIN, passphrase or key file; there last, so there = ready
//! protection       which of the three, as a word
//! device-secret    32 bytes that a copied lock.json lacks
//! tries            wrong tries, counted before they are made
//! root.db          seed and circles (SQLCipher)
//! circles/<16 hex>/store.db     one database per circle, each under its own key
//! circles/<16 hex>/made         the database was there once: missing, it is damage
//! spool/           ciphertexts on their way
//! unfinished       only while `init` is at work
//! ```
//!
//! Folders have mode 0700, files 0600. Files are opened without following links; those that are
//! replaced are written beside, synced and renamed. See `docs/protocol/home.md`.

pub mod folder;
mod root_store;
mod unlock;
mod ways;

pub use root_store::{CircleRow, RootStore};
pub use unlock::{HomeFolder, Making, Unlocked};
