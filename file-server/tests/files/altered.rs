//! A store in memory that does one thing differently.

use sotto_files::storage::{
    Blob, MemoryStorage, ReadBlob, Spent, Staged, Storage, StorageError, Swept, Usage,
};
use wire::Sha256;
use wire::ids::PublicKey;

type Stage = dyn Fn(Box<dyn Staged>) -> Box<dyn Staged> + Send + Sync;

pub struct Altered {
    inner: MemoryStorage,
    stage: Box<Stage>,
    before_sweep: Box<dyn Fn() + Send + Sync>,
}

impl Altered {
    /// What is on its way in goes through `stage`.
    pub fn staging(
        stage: impl Fn(Box<dyn Staged>) -> Box<dyn Staged> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: MemoryStorage::new(),
            stage: Box::new(stage),
            before_sweep: Box::new(|| {}),
        }
    }

    /// A sweep begins when `before` has returned.
    pub fn sweeping(before: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            before_sweep: Box::new(before),
            ..Self::staging(|staged| staged)
        }
    }
}

impl Storage for Altered {
    fn stage(&self) -> Result<Box<dyn Staged>, StorageError> {
        self.inner.stage().map(&self.stage)
    }
    fn find(&self, hash: &Sha256, now: u64) -> Option<Blob> {
        self.inner.find(hash, now)
    }
    fn open(&self, hash: &Sha256, now: u64) -> Result<Box<dyn ReadBlob>, StorageError> {
        self.inner.open(hash, now)
    }
    fn is_spent(&self, hash: &Sha256, token: &Spent) -> Result<bool, StorageError> {
        self.inner.is_spent(hash, token)
    }
    fn release(
        &self,
        hash: &Sha256,
        owner: &PublicKey,
        token: Spent,
        now: u64,
    ) -> Result<(), StorageError> {
        self.inner.release(hash, owner, token, now)
    }
    fn sweep(&self, now: u64) -> Swept {
        (self.before_sweep)();
        self.inner.sweep(now)
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}
