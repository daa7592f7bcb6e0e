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
    replay("event", properties::event);
}

#[test]
fn client_frames() {
    replay("client_frame", properties::client_frame);
}

#[test]
fn relay_frames() {
    replay("relay_frame", properties::relay_frame);
}

#[test]
fn filters() {
    replay("filter", properties::filter);
}

#[test]
fn links() {
    replay("link", properties::link);
}

#[test]
fn token_headers() {
    replay("token_header", properties::token_header);
}

#[test]
fn addresses() {
    replay("address", properties::address);
}

#[test]
fn rumors() {
    replay("rumor", properties::rumor);
}

#[test]
fn http_proofs() {
    replay("http_proof", properties::http_proof);
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
    some("event", |data| wire::Event::decode(data.into()).is_ok());
    some("client_frame", |data| {
        wire::ClientFrame::decode(&data.into()).is_ok()
    });
    some("relay_frame", |data| {
        wire::RelayFrame::decode(&data.into()).is_ok()
    });
    some("link", |data| {
        wire::Link::parse(&String::from_utf8_lossy(&data)).is_ok()
    });
    some("address", |data| {
        wire::NamedRelay::parse(&String::from_utf8_lossy(&data)).is_ok_and(|n| n.code.is_some())
    });
    some("rumor", |data| {
        wire::Rumor::decode(&data).is_ok_and(|rumor| rumor.sotto_tag().is_some())
    });
    some("http_proof", |data| {
        wire::HttpAuth::from_header(&String::from_utf8_lossy(&data)).is_ok()
    });
    some("token_header", |data| {
        wire::blob::Token::from_header(&String::from_utf8_lossy(&data)).is_ok()
    });
}
