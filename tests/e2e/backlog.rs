//! A mailbox that has waited for long, read by a new device through whole processes.

use std::path::Path;

use crypto::AccountKey;
use e2e::process::{Server, sotto};
use e2e::raw::{RawClient, account, sealed, text, wrapped};
use wire::{Event, PublicKey, RelayUrl};

/// What a sync may hold at most, however much waits.
const MEMORY_KIB: u64 = 64 * 1024;

/// Makes `count` events on all cores and publishes them.
fn publish(url: &str, count: u64, make: impl Fn(u64) -> Event + Sync) {
    const PART: u64 = 2_000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = RelayUrl::parse(url).unwrap();
    for from in (0..count).step_by(2_000) {
        let until = count.min(from + PART);
        let half = from + (until - from) / 2;
        let events = std::thread::scope(|scope| {
            let later = scope.spawn(|| (half..until).map(&make).collect::<Vec<Event>>());
            let mut events: Vec<Event> = (from..half).map(&make).collect();
            events.extend(later.join().unwrap());
            events
        });
        runtime.block_on(async {
            RawClient::connect(&url).await.publish_all(&events).await;
        });
    }
}

/// Everything in one home: made, written to, synced twice. Gives the most memory of both syncs.
fn read_backlog(folder: &Path, relay: &Server, name: &str, count: u64, is_ours: bool) -> [u64; 2] {
    let home = folder.join(name);
    let (made, _) = sotto(&home, &["init", "--relay", &relay.url]);
    let to = PublicKey::from_hex(made["pubkey"].as_str().unwrap()).unwrap();
    let cleo: AccountKey = account();
    let key = cleo.public_key().to_hex();
    sotto(&home, &["contact", "add", &key, "--alias", "cleo"]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    publish(&relay.url, count, |n| {
        let at = now - 150_000 + n % 150_000;
        match is_ours {
            true => sealed(
                &cleo,
                &to,
                &text(&cleo, &to, &format!("message {n}"), at),
                at,
            ),
            // Addressed to us and sealed for nobody: refused, and asked back.
            false => wrapped(&to, format!("{{\"n\":{n}}}").as_bytes(), at),
        }
    });
    let (first, peak) = sotto(&home, &["sync"]);
    assert_eq!(first["received"], count, "{first}");
    assert_eq!(first["new"], if is_ours { count } else { 0 });
    let (again, second) = sotto(&home, &["sync"]);
    assert_eq!(again["new"], 0);
    [peak, second]
}

#[test]
fn a_backlog_is_read_in_flat_memory() {
    // A hundred thousand in slow mode. The bound is the same: what is read is not gathered.
    let is_slow = std::env::var_os("SOTTO_SLOW").is_some();
    let counts: &[u64] = if is_slow {
        &[20_000, 100_000]
    } else {
        &[4_000]
    };
    let folder = tempfile::tempdir().unwrap();
    let relay = Server::start("sotto-relay", &folder.path().join("relay"));
    for count in counts {
        for (name, is_ours) in [("ours", true), ("nobodys", false)] {
            let name = format!("{name}-{count}");
            let peaks = read_backlog(folder.path(), &relay, &name, *count, is_ours);
            for peak in peaks {
                assert!(peak < MEMORY_KIB, "{name}: {peak} KiB");
            }
        }
    }
}
