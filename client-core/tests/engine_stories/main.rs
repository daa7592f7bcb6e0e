//! Stories about the engine: several of them, a scripted network between them, no sockets, no
//! clock, no real randomness. What the network saw is asserted as well as what people read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may fail loudly"
)]

mod bad_input;
mod compared;
mod deleting;
mod delivery;
mod erasing;
mod files;
mod joining;
mod lists;
mod network;
mod privacy;
mod reading;
mod reconciling;
mod vanishing;
