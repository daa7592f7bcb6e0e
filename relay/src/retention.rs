//! What is forgotten, and when: expired events every second, space when a segment is mostly
//! dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ingest::Ingest;
use crate::store::{EventStore, StoreError, Writer};

/// How often expired events are erased. They are hidden from the exact second on anyway.
const PERIOD: Duration = Duration::from_secs(1);

/// How much a start after a power loss has to replay at most.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How long the rows of dead events, which are keyed hashes and times, stay in the index's files.
const COMPACT_INDEX: Duration = Duration::from_secs(12 * 3_600);
/// Sweeps in one round at most; each erases up to 2,000 events in a few dozen milliseconds.
const SWEEPS: usize = 10;

/// Asks the writer for maintenance until `stop`, and looks after the index beside it.
pub async fn run(ingest: Arc<Ingest>, store: Arc<EventStore>, stop: CancellationToken) {
    let mut checkpoint_at = Instant::now() + CHECKPOINT;
    let mut compact_at = Instant::now() + COMPACT_INDEX;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        report(ingest.maintain().await.map(drop));
        if Instant::now() >= compact_at {
            report(beside(&store, EventStore::compact_index).await);
            compact_at = Instant::now() + COMPACT_INDEX;
        }
        if Instant::now() >= checkpoint_at {
            report(beside(&store, EventStore::checkpoint).await);
            checkpoint_at = Instant::now() + CHECKPOINT;
        }
    }
}

/// Work that blocks, off the tasks.
async fn beside(
    store: &Arc<EventStore>,
    work: fn(&EventStore) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store))
        .await
        .unwrap_or_else(|_| Err(StoreError::Index("maintenance failed".to_owned())))
}

fn report(done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::error!(%error, "maintenance failed");
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
