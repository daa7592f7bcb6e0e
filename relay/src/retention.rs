//! What is forgotten, and when: expired events every second, space when a segment is mostly
//! dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ingest::Ingest;
use crate::store::{EventStore, StoreError};

/// How often expired events are erased. They are hidden from the exact second on anyway.
const PERIOD: Duration = Duration::from_secs(1);

/// How much a start after a power loss has to replay at most.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How long the rows of dead events, which are keyed hashes and times, stay in the index's files.
const COMPACT_INDEX: Duration = Duration::from_secs(12 * 3_600);

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
