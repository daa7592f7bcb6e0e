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

/// Every target by its name, in the order of the manifest.
pub const TARGETS: [(&str, fn(&[u8])); 40] = [
    ("client_frame", wire_properties::client_frame),
    ("negentropy_query", relay_properties::negentropy_query),
    ("signed_event", relay_properties::signed_event),
    ("management_request", relay_properties::management_request),
    ("forwarded", relay_properties::forwarded),
    ("status_page", relay_properties::status_page),
    ("event", wire_properties::event),
    ("filter", wire_properties::filter),
    ("log_segment", relay_store_properties::log_segment),
    ("log_record", relay_store_properties::log_record),
    ("runs_index", relay_store_properties::runs_index),
    ("roster_file", relay_properties::roster_file),
    ("relay_config", relay_properties::relay_config),
    ("import_lines", relay_properties::import_lines),
    ("relay_session", client_properties::relay_session),
    ("inbox", inbox_properties::inbox),
    ("negentropy_answer", client_properties::negentropy_answer),
    ("relay_frame", wire_properties::relay_frame),
    ("rumor", wire_properties::rumor),
    ("wrap_chain", crypto_properties::wrap_chain),
    ("file_message", client_properties::file_message),
    ("blob_answer", client_properties::blob_answer),
    ("relay_document", client_properties::relay_document),
    ("address", wire_properties::address),
    ("http_proof", wire_properties::http_proof),
    ("blob_request", files_properties::blob_request),
    ("token_header", wire_properties::token_header),
    ("blob_record", files_properties::blob_record),
    ("file_server_config", files_properties::file_server_config),
    ("range_header", files_properties::range_header),
    ("link", wire_properties::link),
    ("nip44_payload", crypto_properties::nip44_payload),
    ("file_cipher", crypto_properties::file_cipher),
    ("circles", crypto_properties::circles),
    ("home_files", crypto_properties::home_files),
    ("typed_secret", crypto_properties::typed_secret),
    ("picture", client_properties::picture),
    ("file_name", file_name_properties::file_name),
    ("terminal_printer", printer_properties::terminal_printer),
    ("cli_values", cli_properties::cli_values),
];
