//! What the relay promises (`docs/behaviour/relay.md`), over real sockets, files and processes.
//! The name of a test begins with the id of the rule that it carries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests may fail loudly, and their numbers are small"
)]

mod attacks;
mod bans;
mod check;
mod contract;
mod corpus;
mod cost;
mod count;
mod crash;
mod damage;
mod deletion;
mod erasure;
mod faulty;
mod files;
mod forwarded;
mod full;
mod guard;
mod histories;
mod limits;
mod management;
mod members;
mod memory;
mod mending;
mod nips;
mod no_room;
mod operator;
mod page;
mod places;
mod plain;
mod power;
mod program;
mod protocol;
mod query;
mod reconcile;
mod recovery;
mod rules;
mod runs;
mod soak;
mod strategies;
mod support;
mod tls;
mod transfer;
mod user;
