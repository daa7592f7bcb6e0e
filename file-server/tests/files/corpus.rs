//! Replays `fuzz/corpus` for the file server's decoders.

#[path = "../../../fuzz/src/header_lines.rs"]
mod header_lines;
#[path = "../../../fuzz/src/files_properties.rs"]
mod properties;
#[path = "../../../fuzz/src/replay.rs"]
mod replaying;

use replaying::{inputs, replay};

#[test]
fn range_headers() {
    replay("http_headers", properties::range_header);
}

#[test]
fn heads_of_requests() {
    replay("blob_request", properties::blob_request);
}

#[test]
fn what_check_reads_of_any_server() {
    replay("server_answers", properties::files_check);
}

#[test]
fn records_of_blobs() {
    replay("own_files", properties::blob_record);
    let decodes = |data: &Vec<u8>| {
        let json = data.get(8..).unwrap_or_default();
        sotto_files::storage::record::Record::decode(json).is_some()
    };
    assert!(inputs("own_files").iter().any(decodes));
}

#[test]
fn configurations() {
    replay("configs", properties::file_server_config);
    let parses =
        |data: &Vec<u8>| sotto_files::Config::parse(&String::from_utf8_lossy(data), "data").is_ok();
    assert!(inputs("configs").iter().any(parses));
}
