//! The harness of the end-to-end stories: real servers, real clients, and proxies that log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test harness may fail loudly"
)]

pub mod process;
pub mod raw;
pub mod sim;
pub mod tap;
pub mod world;
