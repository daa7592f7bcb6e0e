//! End-to-end stories: real servers, real sockets, real homes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod backlog;
mod circles;
mod deletion;
mod files;
mod hostile;
mod kinds;
mod large;
mod members;
mod messages;
mod network;
mod policy;
mod privacy;
mod reconciling;
mod restart;
mod vanish;
