use std::time::Duration;

use secp256k1::{Keypair, SECP256K1, SecretKey};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::{EventDraft, Signature, Tags};

use super::*;
use crate::config::Config;
use crate::ledger::{Account, Ledger};
use crate::roster::Roster;
use crate::store::EventStore;

/// How many events flood the relay: many more than may wait for the writer.
const FLOOD: usize = AHEAD * 8;

fn note(content: &str) -> Event {
    let key = Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let draft = EventDraft {
        pubkey: PublicKey::from_bytes(key.x_only_public_key().0.serialize()),
        created_at: config().clock.now(),
        kind: 1,
        tags: Tags::default(),
        content: content.to_owned(),
    };
    let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &key);
    Event::from_signature(draft, Signature::from_bytes(signature.to_byte_array()))
}

fn config() -> Config {
    Config::in_memory()
}

fn job(event: &Event, share: &Arc<Share>, outbox: &Arc<Outbox>, account: &Arc<Account>) -> Job {
    let one = Arc::new(Semaphore::new(1));
    Job {
        event: event.clone(),
        auth: [].into(),
        share: share.clone(),
        purpose: Purpose::Publish {
            outbox: outbox.clone(),
            permits: InFlight {
                _own: one.try_acquire_owned().unwrap(),
                _all: None,
                held: account.hold(1),
            },
        },
    }
}

/// Waits until the checkers take no more of what `share` pays for; how much is left.
fn left_unchecked(share: &Arc<Share>) -> usize {
    loop {
        let before = Arc::strong_count(share);
        thread::sleep(Duration::from_millis(100));
        if Arc::strong_count(share) == before {
            return before - 1;
        }
    }
}

#[test]
fn r_fair_5_while_the_writer_is_busy_events_wait_in_fair_order() {
    let opened = EventStore::in_memory(config().rules.clone(), &[7; 32]).unwrap();
    let live = Arc::new(Live::default());
    let settings = Arc::new(Settings::new(config(), 0, Arc::new(Roster::default())));
    let ingest = Ingest::start(
        opened.writer,
        live.clone(),
        settings,
        Arc::default(),
        || panic!("the writer ended"),
    )
    .unwrap();
    let account = Ledger::new(usize::MAX).open(CancellationToken::new());
    // The answers to both go one way, to see their order.
    let outbox = Arc::new(Outbox::new(usize::MAX, account.clone()));
    let (flood, other) = (Arc::<Share>::default(), Arc::<Share>::default());
    let (event, late) = (note("again and again"), note("once"));
    // The writer cannot deliver meanwhile.
    live.change(|_, _| {
        for _ in 0..FLOOD {
            ingest.submit(job(&event, &flood, &outbox, &account));
        }
        assert!(left_unchecked(&flood) > FLOOD / 2);
        ingest.submit(job(&late, &other, &outbox, &account));
    });
    assert!(ingest.finish());
    let answers = outbox.take(usize::MAX).unwrap().frames;
    assert_eq!(answers.len(), FLOOD + 1);
    let late = late.id().to_hex();
    let place = answers.iter().position(|answer| answer.contains(&late));
    assert!(place.is_some_and(|place| place < FLOOD / 2), "{place:?}");
}
