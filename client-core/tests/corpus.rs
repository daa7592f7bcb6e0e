//! Replays what fuzzing file names found, and seeds by hand; then throws random bytes at them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

#[path = "../../fuzz/src/file_name_properties.rs"]
mod properties;

#[test]
fn file_names() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/file_name");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        properties::file_name(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3, "{folder} holds only {count} inputs");
}

proptest! {
    #[test]
    fn any_name_is_made_safe(data in prop::collection::vec(any::<u8>(), 0..300)) {
        properties::file_name(&data);
    }

    #[test]
    fn any_text_is_made_safe(text in "[./\\\\ \\-a-zA-Z:*\u{202e}\u{200b}]{0,260}") {
        properties::file_name(text.as_bytes());
    }
}
