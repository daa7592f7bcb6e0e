//! Every decision of the client, without I/O: (input, now, randomness, store) in, effects out.
//!
//! A message on its way out meets these files in this order:
//!
//! 1. [`compose`]: the user's words become a rumor.
//! 2. `channel`: the rumor becomes envelopes, one payload for each inbox key (NIP-17 today).
//! 3. `send`: payloads become wraps, and wraps find their relays.
//! 4. `lookup`: where a recipient reads, by its signed list.
//! 5. `outbox`: rows are leased, published, retried, settled.
//!
//! And on its way in:
//!
//! 1. `inbox`: each own relay's inbox is read, then watched: `reconcile` compares it with what
//!    that relay served before (`comparison`) and `fetch` asks for what is missing, where the
//!    relay can; else the whole of it is paged.
//! 2. `receive`: bytes -> `Event` -> `VerifiedEvent` -> `Opened`, in a batch, each event apart.
//! 3. `messages`, `file_message`, `deletion`, `receipts`: by kind of rumor; `expiry` and `files`
//!    beside them.
//!
//! `contacts`, `lists`, `joining`, `circles` and `auth` are what the names say; `reading` and `report` answer
//! questions.
//! [`io`] is the contract with the network. [`Engine`] is the whole of it.
//!
//! Every wish and every input is one transaction: intent is stored before an effect is returned,
//! so a crash repeats work and loses nothing.

pub(crate) mod auth;
mod channel;
mod circles;
pub(crate) mod comparison;
pub mod compose;
mod contacts;
mod deletion;
mod expiry;
mod fetch;
pub(crate) mod file_message;
mod files;
mod inbox;
pub mod io;
mod joining;
mod lists;
pub(crate) mod lookup;
mod machine;
mod messages;
mod outbox;
mod reach;
mod reading;
mod receipts;
mod receive;
mod reconcile;
mod report;
mod send;

pub use channel::Protection;
pub use circles::CirclesRefused;
pub use compose::{Compose, SpooledFile};
pub use file_message::FileCipher;
pub use files::{FileFormat, FilePlan};
pub use machine::{Engine, EngineConfig, Rng, Step};
pub use report::{Progress, WaitLevel};
