//! Replays what fuzzing the printer found, and seeds by hand.

#[path = "../../../fuzz/src/printer_properties.rs"]
mod properties;

#[test]
fn the_printer_stands_what_fuzzing_found() {
    let folder = format!(
        "{}/../fuzz/corpus/terminal_printer",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        properties::terminal_printer(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3);
}
