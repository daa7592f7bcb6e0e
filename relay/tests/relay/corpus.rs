//! Replays `fuzz/corpus` for the relay's decoders: what fuzzing found, and seeds by hand.

#[path = "../../../fuzz/src/relay_properties.rs"]
mod properties;
#[path = "../../../fuzz/src/replay.rs"]
mod replaying;
#[path = "../../../fuzz/src/relay_store_properties.rs"]
mod store;

use replaying::{inputs, replay};

#[test]
fn messages_of_negentropy() {
    replay("negentropy_query", properties::negentropy_query);
}

#[test]
fn events_that_somebody_signs() {
    replay("events", properties::signed_event);
}

#[test]
fn requests_to_manage() {
    replay("signed_bodies", properties::management_request);
    let changes = |data: &Vec<u8>| {
        let body = data.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
        let request = sotto_relay::management::Request::decode(body);
        request.is_ok_and(|request| request.call().is_ok())
    };
    assert!(inputs("signed_bodies").iter().any(changes));
}

#[test]
fn headers_of_proxies() {
    replay("http_headers", properties::forwarded);
}

#[test]
fn pages_for_people() {
    replay("shown", properties::status_page);
}

#[test]
fn what_check_reads_of_any_relay() {
    replay("server_answers", properties::relay_check);
    let is_tried = |data: &Vec<u8>| {
        let stated = sotto_relay::stated::Stated::decode(data);
        stated.is_some_and(|stated| stated.too_much().is_ok() && stated.missing_nips().is_empty())
    };
    assert!(inputs("server_answers").iter().any(is_tried));
    let is_certificate = |data: &Vec<u8>| sotto_relay::tls::validity_of(data).is_ok();
    assert!(inputs("server_answers").iter().any(is_certificate));
}

#[test]
fn rosters() {
    replay("own_files", properties::roster_file);
    let decodes = |data: &Vec<u8>| sotto_relay::roster::Roster::decode(data).is_ok();
    assert!(inputs("own_files").iter().any(decodes));
}

#[test]
fn configurations() {
    replay("configs", properties::relay_config);
    let parses = |data: &Vec<u8>| {
        let raw = sotto_relay::config::Raw::parse(&String::from_utf8_lossy(data));
        raw.is_ok_and(|raw| raw.check("data".into()).is_ok())
    };
    assert!(inputs("configs").iter().any(parses));
}

#[test]
fn lines_to_import() {
    replay("own_files", properties::import_lines);
}

#[test]
fn records_of_the_log() {
    replay("own_files", store::log_record);
}

#[test]
fn whole_logs() {
    replay("log_segment", store::log_segment);
}

#[test]
fn runs_of_the_index() {
    replay("binary", store::runs_index);
}
