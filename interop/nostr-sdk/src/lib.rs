//! A foreign client for Sotto's tests: nostr-sdk 0.44.1 as anybody would use it.
//!
//! - [`programs`]: Sotto's own programs, started as processes and spoken to by their command line;
//! - [`foreign`]: the other person, who runs nostr-sdk;
//! - [`file`]: NIP-17 file messages (kind 15), which nostr-sdk leaves to the application.
//!
//! Nothing of Sotto is linked here: what passes is what travels on the wire.

pub mod file;
pub mod foreign;
pub mod programs;
