//! A server that was stopped has let go of its store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sotto_files::storage::DiskStorage;
use sotto_files::{Clock, Config, FileServer};
use tokio::sync::mpsc::unbounded_channel;
use wire::Sha256;
use wire::blob::Verb;

use crate::altered::Altered;
use crate::support::{World, begin_upload, key, sample, until};

#[tokio::test]
async fn f_st_7_a_stop_waits_for_the_sweep_that_is_under_way() {
    let mut config = Config::new("unused");
    config.listen.set_port(0);
    let (begin, mut begun) = unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel();
    let wait = Mutex::new(wait);
    let storage = Arc::new(Altered::sweeping(move || {
        begin.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
    }));
    let held = Arc::downgrade(&storage);
    let server = FileServer::start_with(config, storage, Clock::system());
    let server = server.await.unwrap();
    begun.recv().await.unwrap();
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
