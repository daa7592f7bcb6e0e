use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::Filter;

use super::*;
use crate::config::{Config, IndexEngine};
use crate::ledger::{Account, Ledger};
use crate::policy::Rules;
use crate::signed::note;
use crate::store::Opened;
use crate::store::recovery::{self, DiskOptions};

const CLIENTS: u64 = 100;

fn account() -> Arc<Account> {
    Ledger::new(usize::MAX).open(CancellationToken::new())
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(usize::MAX, account()))
}

/// A hundred who ask for notes.
fn crowded() -> (Live, Vec<Arc<Outbox>>) {
    let live = Live::default();
    let outboxes: Vec<_> = (0..CLIENTS).map(|_| outbox()).collect();
    live.change(|fanout, seen| {
        for (client, outbox) in (0..).zip(&outboxes) {
            fanout.connect(client, outbox.clone());
            let notes = Filter::default().with_kinds([1]);
            let id = SubscriptionId::new("notes").unwrap();
            fanout.subscribe(client, id, [notes].into(), seen);
        }
    });
    (live, outboxes)
}

/// The writer has written it; it is a crowd's.
fn leave(live: &Live, event: &VerifiedEvent, seq: u64, sender: &Arc<Outbox>, of: &Arc<Account>) {
    let written = std::iter::once((&**event, Some(seq)));
    let audience = live.pass_on(written, 0, &Metrics::default()).remove(0);
    live.leave(Crowd {
        event: event.clone(),
        seq,
        audience: audience.unwrap(),
        sender: sender.clone(),
        permits: InFlight {
            _own: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
            _all: None,
            held: of.hold(1),
        },
    });
}

/// Serves until the last of `account`'s events has been passed on; what each client then has.
fn served(live: &Live, account: &Account, outboxes: &[Arc<Outbox>]) -> Vec<Vec<String>> {
    let config = Config::in_memory();
    let opened = EventStore::in_memory(config.rules.clone(), &[7; 32]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| live.serve_crowds(&opened.store, &config.clock, &Metrics::default()));
        while account.held() > 0 {
            std::thread::yield_now();
        }
        live.close();
    });
    let frames = outboxes
        .iter()
        .map(|outbox| outbox.take(usize::MAX).unwrap().frames);
    frames.collect()
}

#[test]
fn r_fair_6_whoever_sends_much_to_a_crowd_waits_behind_those_who_send_little() {
    let (live, outboxes) = crowded();
    let (flood, one, account) = (outbox(), outbox(), account());
    for at in 0..50 {
        let note = note(&format!("flood {at}"));
        leave(&live, &note, NOT_STORED, &flood, &account);
    }
    leave(&live, &note("once"), NOT_STORED, &one, &account);
    for frames in served(&live, &account, &outboxes) {
        assert_eq!(frames.len(), 51);
        let place = frames.iter().position(|frame| frame.contains("once"));
        assert!(place.is_some_and(|place| place <= 2), "{place:?}");
    }
}

#[test]
fn r_fair_6_what_was_taken_away_meanwhile_is_not_passed_on() {
    let (live, outboxes) = crowded();
    let (sender, held) = (outbox(), account());
    // The store is empty: it was erased again.
    leave(&live, &note("deleted"), 7, &sender, &held);
    leave(&live, &note("fleeting"), NOT_STORED, &sender, &held);
    let small = Ledger::new(10);
    let gone = small.open(CancellationToken::new());
    leave(&live, &note("cut off"), NOT_STORED, &outbox(), &gone);
    gone.add(100);
    assert!(gone.closed().is_cancelled());
    for frames in served(&live, &held, &outboxes) {
        let [frame] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        assert!(frame.contains("fleeting"));
    }
}

/// Where its index is away, nobody knows whether it was taken away; that is no reason to drop it.
#[test]
fn r_crash_15_what_waits_for_a_crowd_is_passed_on_after_the_index_was_mended() {
    let (live, outboxes) = crowded();
    let account = account();
    let folder = tempfile::tempdir().unwrap();
    let options = DiskOptions {
        folder: folder.path(),
        index: IndexEngine::Runs,
        segment_bytes: 1 << 20,
        reserve_bytes: 0,
    };
    let Opened {
        store, mut writer, ..
    } = recovery::open(&options, Rules::default()).unwrap();
    let note = note("for all");
    let mut transaction = writer.begin(1).unwrap();
    transaction.put(&note).unwrap();
    transaction.commit().unwrap();
    leave(&live, &note, 1, &outbox(), &account);
    store.lose_index();
    let served = || {
        let taken = outboxes.iter().map(|outbox| outbox.take(usize::MAX));
        taken
            .flatten()
            .map(|taken| taken.frames.len())
            .sum::<usize>()
    };
    let before = std::thread::scope(|scope| {
        let config = Config::in_memory();
        let (live, store) = (&live, &store);
        scope.spawn(move || live.serve_crowds(store, &config.clock, &Metrics::default()));
        std::thread::sleep(2 * UNKNOWN);
        let before = (served(), account.held() > 0);
        writer.mend().unwrap();
        while account.held() > 0 {
            std::thread::yield_now();
        }
        live.close();
        before
    });
    assert_eq!(before, (0, true));
    assert_eq!(served(), outboxes.len());
}
