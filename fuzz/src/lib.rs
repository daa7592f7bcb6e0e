//! What must hold for any bytes, one function per fuzz target.
//!
//! The ordinary tests include the same files and replay `corpus/` through them, so that no find is
//! found twice: `wire/tests/corpus.rs`, `crypto/tests/corpus.rs`, `client-core/tests/corpus.rs`,
//! `relay/tests/relay/corpus.rs`, `file-server/tests/files/corpus.rs`,
//! `cli/tests/contract/corpus.rs`.
//!
//! `cargo xtask fuzz --seconds 60 event` fuzzes one target; a crash becomes a file in
//! `corpus/event/` with a name that says what it was.

pub mod cli_properties;
pub mod client_properties;
pub mod crypto_properties;
pub mod file_name_properties;
pub mod files_properties;
pub mod inbox_properties;
pub mod printer_properties;
pub mod relay_properties;
pub mod relay_store_properties;
pub mod wire_properties;
