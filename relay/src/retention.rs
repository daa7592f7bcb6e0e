//! What is forgotten, and when: expired events every second, space when a segment is mostly
//! dead.

use std::sync::Arc;
use std::time::Duration;

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
    rounds(
        [PERIOD, CHECKPOINT, COMPACT_INDEX],
        &stop,
        || {
            let ingest = ingest.clone();
            async move { ingest.maintain().await.map(drop) }
        },
        || beside(store.clone(), EventStore::checkpoint),
        || beside(store.clone(), EventStore::compact_index),
    )
    .await;
}

/// The three kinds of work, each at its own pace: to rewrite a large index takes minutes, and what
/// expires meanwhile is erased all the same.
async fn rounds<M, L, C>(
    [period, checkpoints, compactions]: [Duration; 3],
    stop: &CancellationToken,
    maintain: impl Fn() -> M,
    checkpoint: impl Fn() -> L,
    compact: impl Fn() -> C,
) where
    M: Future<Output = Result<(), StoreError>>,
    L: Future<Output = Result<(), StoreError>>,
    C: Future<Output = Result<(), StoreError>>,
{
    tokio::join!(
        every(period, stop, maintain),
        every(checkpoints, stop, checkpoint),
        every(compactions, stop, compact),
    );
}

/// Works again and again, with a pause before each time. What has begun when it is stopped is
/// waited for.
async fn every<F: Future<Output = Result<(), StoreError>>>(
    pause: Duration,
    stop: &CancellationToken,
    work: impl Fn() -> F,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        report(work().await);
    }
}

/// Work that blocks, off the tasks.
async fn beside(
    store: Arc<EventStore>,
    work: fn(&EventStore) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    tokio::task::spawn_blocking(move || work(&store))
        .await
        .unwrap_or_else(|_| Err(StoreError::Index("maintenance failed".to_owned())))
}

fn report(done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::error!(%error, "maintenance failed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn r_gone_2_what_expires_is_erased_while_the_index_is_rewritten() {
        let (stop, go_on) = (&CancellationToken::new(), &Notify::new());
        let (begun, sweeps) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let maintain = move || async move {
            if begun.load(Ordering::Relaxed) > 0 && sweeps.fetch_add(1, Ordering::Relaxed) == 2 {
                stop.cancel();
                go_on.notify_one();
            }
            Ok(())
        };
        let compact = move || async move {
            begun.fetch_add(1, Ordering::Relaxed);
            go_on.notified().await;
            Ok(())
        };
        let pauses = [Duration::from_millis(1); 3];
        // With the sweeps behind the compaction this would not end.
        let rounds = rounds(pauses, stop, maintain, || async { Ok(()) }, compact);
        let ended = tokio::time::timeout(Duration::from_secs(60), rounds).await;
        assert!(ended.is_ok(), "nothing was erased meanwhile");
    }
}
