//! Calls that may wait for the disk, each on a thread that may wait.

use std::io;

use tokio_util::task::TaskTracker;

use crate::storage::StorageError;

/// Runs such calls and knows which of them are under way. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocking(TaskTracker);

impl Blocking {
    /// Runs `call` to its end, even if nobody waits for it any more. Its panic, or the end of the
    /// runtime, is an error.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let counted = self.0.token();
        // The count goes out with the result: one that nobody takes may hold the store, too, and
        // is dropped before it.
        let ended = tokio::task::spawn_blocking(move || (call(), counted)).await;
        match ended {
            Ok((result, _counted)) => result,
            Err(error) => Err(StorageError::Io(io::Error::other(error))),
        }
    }

    /// Drops `value` where erasing what it wrote holds nobody up.
    pub(crate) fn drop<T: Send + 'static>(&self, value: T) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let counted = self.0.token();
                runtime.spawn_blocking(move || {
                    drop(value);
                    drop(counted);
                });
            }
            Err(_) => drop(value),
        }
    }

    /// Returns when none is under way and, unless more are begun, none holds the store.
    pub(crate) async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
