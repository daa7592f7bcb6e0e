//! The relay: stores sealed envelopes and hands them to their recipients, over WebSocket.
//!
//! An event travels one way through the stages, one file each:
//!
//! 1. [`listener`] accepts the connection (over [`tls`], with certificates from files or by
//!    [`acme`]), [`door`] answers its HTTP request (people get a [`page`]), [`connection`] turns
//!    the socket into frames; what it makes the relay hold is on its account in the [`ledger`].
//! 2. [`ingest`] checks the signature on a worker thread and asks [`policy`], which is pure.
//! 3. One writer thread ([`pipeline`], [`store`]) commits everything that has queued: the log is
//!    synced first, then the index.
//! 4. [`live`] passes it on to open subscriptions, which [`fanout`] finds, and only then the senders
//!    are told (before it where those are a crowd);
//!    [`history`] serves what is stored, [`count`] counts it, [`reconcile`] compares it.
//! 5. [`retention`] erases what has expired.
//!
//! Who may write is in the configuration and in the [`roster`], which changes at run time:
//! [`admission`] lets keys join by invite, [`management`] is for administrators, [`enforcement`]
//! carries out what a change means.
//!
//! Under a flood, [`turns`] and [`lanes`] keep the way free for who asks for little.
//!
//! [`policy::Readers`] alone decides who sees an event, on every path out. [`model`] is the
//! whole relay without sockets. All of them go by [`settings`], which a reload replaces, and are
//! counted in [`metrics`]; what of them others are told is in [`told`]. [`stated`] reads what other relays say to the command `check`. What is
//! promised is listed in `docs/behaviour/relay.md`.

pub mod acme;
pub mod addresses;
pub mod admission;
pub mod budget;
mod concerns;
pub mod config;
pub mod connection;
pub mod count;
mod curve;
pub mod door;
pub mod enforcement;
pub mod exposition;
pub mod fanout;
pub mod forwarded;
pub mod history;
pub mod https;
pub mod ingest;
pub mod json_lines;
pub mod lanes;
pub mod ledger;
pub mod listener;
pub mod live;
pub mod management;
mod metered;
pub mod metrics;
pub mod model;
pub mod nip11;
pub mod outbox;
pub mod page;
pub mod pipeline;
pub mod policy;
pub mod reconcile;
pub mod retention;
pub mod roster;
pub mod server;
pub mod settings;
#[cfg(test)]
mod signed;
pub mod stated;
pub mod store;
pub mod summary;
pub mod tls;
pub mod told;
pub mod turns;
mod usage;

pub use config::Config;
pub use server::{Relay, ServerError, run};
