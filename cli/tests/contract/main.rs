//! What scripts may rely on: real processes against real servers, and for each command the exit
//! code, the objects on stdout and the error on stderr.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod accounts;
mod circles;
mod contacts;
mod corpus;
mod damage;
mod files;
mod hostile;
mod invitations;
mod messages;
mod offline;
mod pins;
mod programs;
mod sending;
mod servers;
mod streams;
mod support;
mod transcripts;
mod usage;
