//! How much the writer has to do for an event.

use wire::{Event, kinds};

/// Rows of the index that weigh as much as an ordinary event does with all of its own.
const ROWS: usize = 2;
/// Rows for what a deletion may take away at once, beside those that say so.
pub const FIRST_SLICE: usize = 128;
/// Rows for each id or address that a deletion names.
const ROWS_OF_A_NAME: usize = 3;

/// What the writer has to do for the event, where 1 is what a wrap takes.
pub fn of(event: &Event) -> usize {
    let tags = event.tags().iter().map(|tag| tag.name());
    let rows = match event.kind() {
        kind if kinds::is_wrap(kind) => 0,
        kinds::DELETION => {
            let names = tags.filter(|name| matches!(*name, "e" | "a")).count();
            FIRST_SLICE + ROWS_OF_A_NAME * names
        }
        // Each value of a one-letter tag is looked up by, when it is stored and when it goes.
        _ => tags.filter(|name| name.len() == 1).count(),
    };
    1 + rows / ROWS
}
