//! Replays what fuzzing the printer and the values of options found, and seeds by hand.

#[path = "../../../fuzz/src/cli_properties.rs"]
mod cli;
#[path = "../../../fuzz/src/printer_properties.rs"]
mod printer;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        property(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3, "{folder} holds only {count} inputs");
}

#[test]
fn the_printer_stands_what_fuzzing_found() {
    replay("terminal_printer", printer::terminal_printer);
}

#[test]
fn values_of_options_stand_what_fuzzing_found() {
    replay("cli_values", cli::cli_values);
}
