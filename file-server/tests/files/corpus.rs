//! Replays `fuzz/corpus` for the file server's decoders.

#[path = "../../../fuzz/src/files_properties.rs"]
mod properties;
#[path = "../../../fuzz/src/replay.rs"]
mod replaying;

use replaying::{inputs, replay};

#[test]
fn range_headers() {
    replay("range_header", properties::range_header);
}

#[test]
fn heads_of_requests() {
    replay("blob_request", properties::blob_request);
}

#[test]
fn records_of_blobs() {
    replay("blob_record", properties::blob_record);
    let decodes = |data: &Vec<u8>| {
        let json = data.get(8..).unwrap_or_default();
        sotto_files::storage::record::Record::decode(json).is_some()
    };
    assert!(inputs("blob_record").iter().any(decodes));
}

#[test]
fn configurations() {
    replay("file_server_config", properties::file_server_config);
    let parses =
        |data: &Vec<u8>| sotto_files::Config::parse(&String::from_utf8_lossy(data), "data").is_ok();
    assert!(inputs("file_server_config").iter().any(parses));
}
