//! What must hold for any bytes, one function per fuzz target.
//!
//! The ordinary tests include the same files and replay `corpus/` through them
//! (`wire/tests/corpus.rs`, `crypto/tests/corpus.rs`, `file-server/tests/files/corpus.rs`,
//! `client-core/tests/corpus.rs`,
//! `cli/tests/contract/corpus.rs`), so that no find is found twice.
//!
//! `cargo +nightly fuzz run event` fuzzes one target; a crash becomes a file in `corpus/event/`
//! with a name that says what it was.

pub mod crypto_properties;
pub mod file_name_properties;
pub mod files_properties;
pub mod printer_properties;
pub mod wire_properties;
