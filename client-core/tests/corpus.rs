//! Replays what fuzzing the client's decoders found, and seeds by hand; then throws random bytes at
//! the names of files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; the slices in the properties are cut at found positions"
)]

use proptest::prelude::*;

#[path = "../../fuzz/src/client_properties.rs"]
mod client;
#[path = "../../fuzz/src/header_lines.rs"]
mod header_lines;
#[path = "../../fuzz/src/inbox_properties.rs"]
mod inbox;
#[path = "../../fuzz/src/file_name_properties.rs"]
mod names;
#[path = "../../fuzz/src/replay.rs"]
mod replaying;

use replaying::{inputs, replay};

#[test]
fn file_names() {
    replay("shown", names::file_name);
}

#[test]
fn answers_of_a_comparison() {
    replay("binary", client::negentropy_answer);
}

#[test]
fn what_relays_say_of_themselves() {
    replay("server_answers", client::relay_document);
}

#[test]
fn answers_of_file_servers() {
    replay("server_answers", client::blob_answer);
}

#[test]
fn file_messages() {
    replay("messages", client::file_message);
}

#[test]
fn pictures() {
    replay("picture", client::picture);
}

#[test]
fn what_comes_to_an_inbox() {
    replay("inbox", inbox::inbox);
}

#[test]
fn sessions_with_a_relay() {
    replay("relay_session", client::relay_session);
}

/// The properties do look at something: of each corpus, some input gets behind the decoder.
#[test]
fn the_corpora_reach_behind_the_decoders() {
    let some = |target: &str, decodes: fn(&[u8]) -> bool| {
        assert!(
            inputs(target).iter().any(|input| decodes(input)),
            "{target}"
        );
    };
    some("server_answers", |data| {
        let document = client_core::runtime::relay_document::RelayDocument::decode(data);
        document.is_ok_and(|document| !document.nips().is_empty())
    });
    some("messages", |data| {
        let rumor = wire::Rumor::decode(data);
        rumor.is_ok_and(|rumor| client_core::fuzzing::file_message(&rumor).is_ok())
    });
    for kind in [
        client_core::media::Kind::Jpeg,
        client_core::media::Kind::Png,
        client_core::media::Kind::WebP,
    ] {
        let is_clean = |data: &Vec<u8>| {
            client_core::media::Kind::of(data) == kind
                && client_core::media::strip(kind, data.clone()).is_ok()
        };
        assert!(inputs("picture").iter().any(is_clean), "{kind:?}");
    }
}

proptest! {
    #[test]
    fn any_name_is_made_safe(data in prop::collection::vec(any::<u8>(), 0..300)) {
        names::file_name(&data);
    }

    #[test]
    fn any_text_is_made_safe(text in "[./\\\\ \\-a-zA-Z:*\u{202e}\u{200b}]{0,260}") {
        names::file_name(text.as_bytes());
    }
}
