//! All client decisions: one engine, many faces.
//!
//! Read in this order:
//!
//! 1. [`client`]: the front door. A [`client::Home`] is a folder; a [`client::Client`] is bound to
//!    one circle of it and has one verb for each thing a person can do.
//! 2. [`engine`]: every decision. It takes (input, now, randomness, store) and returns effects; it
//!    never opens a socket and never reads a clock, so a seed replays any test.
//! 3. [`store`]: what is remembered, in SQLCipher; one input is one transaction.
//! 4. [`runtime`]: effects become network, and the network's answers become inputs.
//! 5. [`home`]: the folder: the lock, the tries, the circles' table.
//! 6. [`media`]: taking place and camera out of pictures before they are sent.
//! 7. [`view`]: plain read models, in the shape of the command line's objects; [`error`]: the
//!    stable words.

pub mod client;
pub mod clock;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod home;
pub mod media;
pub mod runtime;
pub mod store;
pub mod view;

/// What a face needs to name people, places and secrets, so that it imports this crate alone.
pub use crypto::SecretText;
pub use error::{Error, ErrorWord, Result};
pub use wire::relay_url::Origin;
pub use wire::{InviteCode, Link, NamedRelay, PublicKey, RelayUrl, limits};
