//! Replays what fuzzing found, and seeds by hand, through the properties that the fuzz targets
//! check, so that an ordinary test run notices when one of them fails again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; the slices in the properties are cut at found positions"
)]

#[path = "../../fuzz/src/wire_properties.rs"]
mod properties;
#[path = "../../fuzz/src/replay.rs"]
mod replaying;

use replaying::replay;

#[test]
fn events() {
    replay("events", properties::event);
}

#[test]
fn client_frames() {
    replay("client_frame", properties::client_frame);
}

#[test]
fn relay_frames() {
    replay("server_answers", properties::relay_frame);
}

#[test]
fn filters() {
    replay("events", properties::filter);
}

#[test]
fn links() {
    replay("typed", properties::link);
}

#[test]
fn token_headers() {
    replay("http_headers", properties::token_header);
}

#[test]
fn addresses() {
    replay("typed", properties::address);
}

#[test]
fn rumors() {
    replay("messages", properties::rumor);
}

#[test]
fn http_proofs() {
    replay("http_headers", properties::http_proof);
}

/// The properties do look at something: of each corpus, some input decodes.
#[test]
fn the_corpora_reach_behind_the_decoders() {
    let read = |target: &str| -> Vec<Vec<u8>> {
        let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    };
    let some = |target: &str, decodes: fn(Vec<u8>) -> bool| {
        assert!(read(target).into_iter().any(decodes), "{target}");
    };
    some("events", |data| wire::Event::decode(data.into()).is_ok());
    some("client_frame", |data| {
        wire::ClientFrame::decode(&data.into()).is_ok()
    });
    some("server_answers", |data| {
        wire::RelayFrame::decode(&data.into()).is_ok()
    });
    some("typed", |data| {
        wire::Link::parse(&String::from_utf8_lossy(&data)).is_ok()
    });
    some("typed", |data| {
        wire::NamedRelay::parse(&String::from_utf8_lossy(&data)).is_ok_and(|n| n.code.is_some())
    });
    some("messages", |data| {
        wire::Rumor::decode(&data).is_ok_and(|rumor| rumor.sotto_tag().is_some())
    });
    some("http_headers", |data| {
        wire::HttpAuth::from_header(&String::from_utf8_lossy(&data)).is_ok()
    });
    some("http_headers", |data| {
        wire::blob::Token::from_header(&String::from_utf8_lossy(&data)).is_ok()
    });
}
