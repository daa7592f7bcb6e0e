//! Replays what fuzzing the printer and the values of options found, and seeds by hand.

#[path = "../../../fuzz/src/cli_properties.rs"]
mod cli;
#[path = "../../../fuzz/src/printer_properties.rs"]
mod printer;
#[path = "../../../fuzz/src/replay.rs"]
mod replaying;

use replaying::replay;

#[test]
fn the_printer_stands_what_fuzzing_found() {
    replay("shown", printer::terminal_printer);
}

#[test]
fn values_of_options_stand_what_fuzzing_found() {
    replay("typed", cli::cli_values);
}
