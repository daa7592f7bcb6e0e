//! The default index engine: sorted runs, made for what this store asks of an index.
//!
//! The segment log is the truth and is synced before the index hears of a batch, so an index needs
//! no journal of its own. This one keeps the newest rows in memory ([`memory`]); when they have
//! become many, they are written out in order as one file, a *run* ([`run`]), and a list of the
//! runs that count is replaced ([`list`]). A start replays the log from the last run on, at most
//! some tens of thousands of events. Runs of a level are merged into one of the next ([`merge`]),
//! so there are a dozen of them at most, whatever they hold, and a row is written about four times
//! in its life, always sequentially.
//!
//! ```text
//! index/runs        the runs that count, newest first
//! index/<number>.run
//! ```
//!
//! Two threads: one writes what memory hands out, one merges. Readers take a view of both and are never
//! waited for: a file that was merged away stays open until its last reader is done.

mod bloom;
mod engine;
mod list;
mod memory;
mod merge;
mod run;

pub use engine::RunsIndex;

/// A key and its value; none: the row was removed.
type RowRef<'r> = (&'r [u8], Option<&'r [u8]>);
