//! What must hold for any bytes, one function per decoder, and which decoders share a target.
//!
//! The ordinary tests include the same files and replay `corpus/` through them, so that no find is
//! found twice: `wire/tests/corpus.rs`, `crypto/tests/corpus.rs`, `client-core/tests/corpus.rs`,
//! `relay/tests/relay/corpus.rs`, `file-server/tests/files/corpus.rs`,
//! `cli/tests/contract/corpus.rs`.
//!
//! `cargo xtask fuzz --seconds 60 events` fuzzes one target; a crash becomes a file in
//! `corpus/events/` with a name that says what it was.

pub mod cli_properties;
pub mod client_properties;
pub mod crypto_properties;
pub mod file_name_properties;
pub mod files_properties;
pub mod header_lines;
pub mod inbox_properties;
pub mod printer_properties;
pub mod relay_properties;
pub mod relay_store_properties;
pub mod wire_properties;

/// What holds for any bytes, or it panics.
pub type Property = fn(&[u8]);

/// Every target by its name, with its decoders by theirs, in the order of the manifest. Those
/// that read the same sort of bytes at about the same speed share a target, and each input goes to
/// all of them (`docs/decisions/0013-decoders-that-share-a-fuzz-target.md`). `cargo xtask` reads
/// this table too, as text.
pub const TARGETS: [(&str, &[(&str, Property)]); 18] = [
    (
        "client_frame",
        &[("client_frame", wire_properties::client_frame)],
    ),
    (
        "negentropy_query",
        &[("negentropy_query", relay_properties::negentropy_query)],
    ),
    (
        "events",
        &[
            ("signed_event", relay_properties::signed_event),
            ("event", wire_properties::event),
            ("filter", wire_properties::filter),
        ],
    ),
    (
        "signed_bodies",
        &[
            ("management_request", relay_properties::management_request),
            ("circles", crypto_properties::circles),
        ],
    ),
    (
        "http_headers",
        &[
            ("forwarded", relay_properties::forwarded),
            ("http_proof", wire_properties::http_proof),
            ("token_header", wire_properties::token_header),
            ("range_header", files_properties::range_header),
        ],
    ),
    (
        "blob_request",
        &[("blob_request", files_properties::blob_request)],
    ),
    ("inbox", &[("inbox", inbox_properties::inbox)]),
    (
        "messages",
        &[
            ("rumor", wire_properties::rumor),
            ("file_message", client_properties::file_message),
            ("nip44_payload", crypto_properties::nip44_payload),
        ],
    ),
    (
        "wrap_chain",
        &[("wrap_chain", crypto_properties::wrap_chain)],
    ),
    (
        "relay_session",
        &[("relay_session", client_properties::relay_session)],
    ),
    (
        "server_answers",
        &[
            ("relay_frame", wire_properties::relay_frame),
            ("relay_document", client_properties::relay_document),
            ("blob_answer", client_properties::blob_answer),
            ("relay_check", relay_properties::relay_check),
            ("files_check", files_properties::files_check),
        ],
    ),
    (
        "binary",
        &[
            ("negentropy_answer", client_properties::negentropy_answer),
            ("runs_index", relay_store_properties::runs_index),
            ("file_cipher", crypto_properties::file_cipher),
        ],
    ),
    (
        "shown",
        &[
            ("terminal_printer", printer_properties::terminal_printer),
            ("file_name", file_name_properties::file_name),
            ("status_page", relay_properties::status_page),
        ],
    ),
    (
        "typed",
        &[
            ("address", wire_properties::address),
            ("link", wire_properties::link),
            ("typed_secret", crypto_properties::typed_secret),
            ("cli_values", cli_properties::cli_values),
        ],
    ),
    ("picture", &[("picture", client_properties::picture)]),
    (
        "log_segment",
        &[("log_segment", relay_store_properties::log_segment)],
    ),
    (
        "own_files",
        &[
            ("log_record", relay_store_properties::log_record),
            ("roster_file", relay_properties::roster_file),
            ("import_lines", relay_properties::import_lines),
            ("blob_record", files_properties::blob_record),
            ("home_files", crypto_properties::home_files),
        ],
    ),
    (
        "configs",
        &[
            ("relay_config", relay_properties::relay_config),
            ("file_server_config", files_properties::file_server_config),
        ],
    ),
];

/// The decoders of a target. Asked for while a target is compiled, which fails for an unknown name.
pub const fn decoders(target: &str) -> &'static [(&'static str, Property)] {
    let mut at = 0;
    while !is_same(TARGETS[at].0, target) {
        at += 1;
    }
    TARGETS[at].1
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// The program of a target, which is called as the target is: each input goes to each decoder.
#[macro_export]
macro_rules! target {
    () => {
        const DECODERS: &[(&str, $crate::Property)] = $crate::decoders(env!("CARGO_BIN_NAME"));

        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            for (_, property) in DECODERS {
                property(data);
            }
        });
    };
}
