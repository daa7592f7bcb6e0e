//! Replays `fuzz/corpus` for the file server's decoders.

#[path = "../../../fuzz/src/files_properties.rs"]
mod properties;

#[test]
fn range_headers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/range_header");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        properties::range_header(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3, "{folder} holds only {count} inputs");
}
