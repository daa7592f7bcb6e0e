//! A file server for encrypted blobs (Blossom: BUD-01, 02, 11, 12).
//!
//! It knows hashes, sizes, times and one-use keys. What the bytes mean, whose they are and who
//! fetches them, it is never told. A request is answered in this order:
//!
//! 1. [`server`] starts everything and stops it; `connection` bounds what a socket may cost.
//! 2. `routes` reads the path and sets the headers that every answer carries.
//! 3. `authorize` asks for a token for this verb, this blob and this server.
//! 4. [`quota`] says who may store how much at once, `upload`, `download` and `delete` do it.
//! 5. [`storage`] keeps the bytes and the claims, and forgets both for good; `blocking` calls it
//!    where that holds nobody up.
//!
//! [`config`] is the file an operator writes, [`check`] looks at a running server from outside.
//! The rules, each with the test that carries it: `docs/behaviour/file-server.md`.

mod authorize;
mod blocking;
pub mod check;
pub mod config;
mod connection;
mod delete;
mod download;
#[doc(hidden)]
pub mod fuzzing;
pub mod quota;
pub mod range;
mod refusal;
mod routes;
pub mod server;
pub mod storage;
mod upload;

pub use config::{Config, ConfigError, Limits};
pub use server::{Clock, FileServer, StartError};
