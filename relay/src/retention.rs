//! What is forgotten, and when: expired events every second, space when a segment is mostly
//! dead.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ingest::Ingest;
use crate::store::{StoreError, Writer};

/// How often expired events are erased. They are hidden from the exact second on anyway.
const PERIOD: Duration = Duration::from_secs(1);

/// Sweeps in one round at most; each erases up to 2,000 events in a few dozen milliseconds.
const SWEEPS: usize = 10;

/// Asks the writer for maintenance until `stop`.
pub async fn run(ingest: Arc<Ingest>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if let Err(error) = ingest.maintain().await {
            tracing::error!(%error, "maintenance failed");
        }
    }
}

/// One round on the writer's thread; how many events went.
pub fn maintain(writer: &mut Writer, now: u64) -> Result<usize, StoreError> {
    let mut erased = 0;
    for _ in 0..SWEEPS {
        match writer.sweep(now)? {
            0 => break,
            count => erased += count,
        }
    }
    // One segment a round, so that events never wait long behind it.
    writer.compact_one(now, false)?;
    Ok(erased)
}
