//! A server that was stopped has let go of its store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sotto_files::storage::{
    DiskStorage, MemoryStorage, ReadBlob, Spent, Staged, Storage, StorageError, Swept, Usage,
};
use sotto_files::{Clock, Config, FileServer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wire::Sha256;
use wire::blob::Verb;
use wire::ids::PublicKey;

use crate::support::{World, begin_upload, key, sample, until};

/// A store whose sweeps say when they begin and end when they are told to.
struct LongSweeps {
    inner: MemoryStorage,
    begun: UnboundedSender<()>,
    go_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Storage for LongSweeps {
    fn stage(&self) -> Result<Box<dyn Staged>, StorageError> {
        self.inner.stage()
    }
    fn find(&self, hash: &Sha256, now: u64) -> Option<sotto_files::storage::Blob> {
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
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        self.inner.sweep(now)
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

async fn next(begun: &mut UnboundedReceiver<()>) {
    begun.recv().await.unwrap();
}

#[tokio::test]
async fn f_st_7_a_stop_waits_for_the_sweep_that_is_under_way() {
    let mut config = Config::new("unused");
    config.listen.set_port(0);
    let (begin, mut begun) = unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel();
    let storage = Arc::new(LongSweeps {
        inner: MemoryStorage::new(),
        begun: begin,
        go_on: Mutex::new(wait),
    });
    let held = Arc::downgrade(&storage);
    let server = FileServer::start_with(config, storage, Clock::system());
    let server = server.await.unwrap();
    next(&mut begun).await;
    let mut stopping = std::pin::pin!(server.stop());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut stopping).await;
    assert!(early.is_err(), "stopped in the middle of a sweep");
    go_on.send(()).unwrap();
    stopping.await;
    assert!(held.upgrade().is_none(), "the store is still held");
}

#[tokio::test]
async fn f_st_7_a_transfer_that_takes_too_long_for_a_stop_is_cut_off() {
    let world = World::with(|config| {
        config.limits.stop_timeout = Duration::from_millis(100);
    })
    .await;
    let blob = sample(1, 200_000);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let part = &blob[..150_000];
    let upload = begin_upload(world.server.address(), &token, blob.len(), part).await;
    until("the upload is under way", async || {
        !world.files_with(&blob[..64]).is_empty()
    })
    .await;
    let World { server, folder, .. } = world;
    server.stop().await;
    let data = folder.path().join("data");
    assert!(crate::support::files_with(&data, &blob[..64]).is_empty());
    DiskStorage::open(&data).unwrap();
    drop(upload);
}
