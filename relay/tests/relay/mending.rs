//! An index that fails while the relay runs, and what the relay makes of it by itself.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use sotto_relay::Relay;
use sotto_relay::config::{IndexEngine, Storage};
use wire::{Event, EventId, RelayFrame};

use crate::files;
use crate::full::note_of;
use crate::program::SmallDisk;
use crate::support::{Client, PATIENCE, ids, person, start, subscription};

/// The index lies on a small disk of its own here, so that it is the index that meets the end.
#[tokio::test]
async fn r_full_6_an_index_that_failed_is_opened_again_once_there_is_room() {
    // That of runs keeps in memory what it cannot write, and goes on by itself.
    for engine in [IndexEngine::Fjall, IndexEngine::Sled] {
        let Some(disk) = SmallDisk::new() else {
            // Only root can make one.
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        files::open(&data, engine).store.close().unwrap();
        std::fs::remove_dir_all(data.join("index")).unwrap();
        let index = disk.0.path().join("index");
        std::fs::create_dir(&index).unwrap();
        std::os::unix::fs::symlink(&index, data.join("index")).unwrap();

        let mut config = files::config(&data, engine);
        config.limits.filter_bytes = 4_000;
        let relay = start(config.clone()).await;
        let mut client = Client::connect(&relay.url()).await;
        let late = note_of(100_000, 400);
        let live = live_until(&relay, late.id()).await;
        let first = note_of(0, 400);
        client.put(&first).await;
        let (mut kept, mut refused) = (vec![first.id()], 0);
        for number in 1..450 {
            let note = note_of(number, 400);
            match client.publish(&note).await {
                (true, _) => kept.push(note.id()),
                (false, text) => {
                    assert!(text.contains("disk is full"), "{engine:?}: {text}");
                    refused += 1;
                }
            }
            if refused > 20 {
                break;
            }
        }
        assert!(refused > 20 && kept.len() > 20, "{engine:?}: {refused}");
        // See R-FULL-4 for sled.
        if engine != IndexEngine::Sled {
            let found = all(&mut client).await;
            assert!(kept.iter().all(|id| found.contains(id)), "{engine:?}");
        } else {
            // What was closed so holds nothing up afterwards. Now and then it does read.
            for number in 0..100 {
                let filter = wire::Filter::default().with_kinds([1]);
                let id = subscription(&number.to_string());
                match client.ask(&id, &[filter]).await {
                    Ok(_) => client.send(wire::ClientFrame::close(&id)).await,
                    Err(text) => assert!(text.starts_with("error:"), "{number}: {text}"),
                }
            }
        }
        disk.grow();
        let mut tries = 0;
        while let (false, text) = client.publish(&late).await {
            tries += 1;
            assert!(tries < 100, "{engine:?}: {text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        kept.push(late.id());
        let found = all(&mut client).await;
        assert!(kept.iter().all(|id| found.contains(id)), "{engine:?}");
        // What the index missed is here as well now, and nobody was told of it when it came.
        let seen = tokio::time::timeout(PATIENCE, live).await;
        let seen = seen.expect("the last one was not delivered").unwrap();
        let differ: Vec<_> = seen.symmetric_difference(&found).collect();
        assert!(differ.is_empty(), "{engine:?}: {differ:?}");
        client.put(&person(1).deletion(&first)).await;
        relay.stop().await.unwrap();
        let relay = start(config).await;
        let mut client = Client::connect(&relay.url()).await;
        let after = all(&mut client).await;
        assert!(!after.contains(&first.id()), "{engine:?}");
        assert_eq!(after.len(), found.len() - 1, "{engine:?}");
        relay.stop().await.unwrap();
    }
}

async fn all(client: &mut Client) -> BTreeSet<EventId> {
    let filter = wire::Filter::default().with_kinds([1]);
    let found = client.fetch(filter).await.unwrap();
    ids(&found).into_iter().collect()
}

/// Every note that a subscriber of a relay sees until `last` comes.
async fn live_until(relay: &Relay, last: EventId) -> tokio::task::JoinHandle<BTreeSet<EventId>> {
    let mut client = Client::connect(&relay.url()).await;
    let filter = wire::Filter::default().with_kinds([1]);
    let stored = client.ask(&subscription("live"), &[filter]).await;
    assert!(stored.unwrap().is_empty());
    tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while !seen.contains(&last) {
            // While nothing is taken there is nothing to see, for as long as that lasts.
            match client.receive_some_time().await {
                Some(RelayFrame::Event(_, event)) => drop(seen.insert(event.id())),
                Some(_) => {}
                None => panic!("the relay closed the connection"),
            }
        }
        seen
    })
}

/// Changes every byte of every file.
fn spoil(folder: &Path) {
    for path in files::files(folder) {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x55).collect();
        file.write_all_at(&other, 0).unwrap();
    }
}

/// Below the reserve too, where nothing new is taken and all else goes on.
#[tokio::test]
async fn r_crash_15_an_index_that_is_found_damaged_is_built_anew_while_the_relay_runs() {
    let with_room = IndexEngine::ON_DISK.map(|engine| (engine, 0));
    let without = [(IndexEngine::Runs, u64::MAX)];
    for (engine, reserve) in with_room.into_iter().chain(without) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let notes: Vec<Event> = (0..300).map(|number| note_of(number, 40)).collect();
        let mut opened = files::open(&data, engine);
        files::write(&mut opened, &notes);
        opened.store.compact_index().unwrap();
        opened.store.close().unwrap();
        drop(opened);
        let wanted: BTreeSet<EventId> = ids(&notes).into_iter().collect();

        let mut config = files::config(&data, engine);
        if let Storage::Disk { reserve_bytes, .. } = &mut config.storage {
            *reserve_bytes = reserve;
        }
        let relay = start(config).await;
        let mut client = Client::connect(&relay.url()).await;
        let mut closed = Client::connect(&relay.url()).await;
        spoil(&data.join("index"));
        let filter = || wire::Filter::default().with_kinds([1]);
        let refused = closed.ask(&subscription("x"), &[filter()]).await;
        assert!(refused.unwrap_err().starts_with("error:"), "{engine:?}");
        let mut failed = 0;
        loop {
            match client.fetch(filter()).await {
                Ok(found) if found.len() == notes.len() => break,
                Ok(found) => panic!("{engine:?}: {} events are missing", 300 - found.len()),
                Err(text) => assert!(text.starts_with("error:"), "{engine:?}: {text}"),
            }
            failed += 1;
            assert!(failed < 200, "{engine:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(all(&mut client).await, wanted, "{engine:?}");
        client.put(&person(1).deletion(&notes[0])).await;
        let again = client.publish(&notes[0]).await;
        assert!(again.1.starts_with("blocked:"), "{engine:?}: {again:?}");
        if reserve == 0 {
            client.put(&note_of(301, 0)).await;
            // Nothing comes to a subscription after CLOSED.
            closed.fetch(filter()).await.unwrap();
            assert!(closed.aside.is_empty(), "{engine:?}");
        }
        relay.stop().await.unwrap();
    }
}
