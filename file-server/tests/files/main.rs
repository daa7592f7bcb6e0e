//! The file server over real sockets and real files. Test names begin with the id of the rule in
//! `docs/behaviour/file-server.md` that they carry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "this whole crate is a test: failing loudly is its purpose, and clippy.toml's \
              allowances do not reach the functions that its tests share"
)]

mod altered;
mod attacks;
mod corpus;
mod deletion;
mod full_disk;
mod program;
mod stopping;
mod sunset;
mod support;
mod transfer;
