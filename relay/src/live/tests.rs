use secp256k1::{Keypair, SECP256K1, SecretKey};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::{EventDraft, Filter, PublicKey, Signature, Tags};

use super::*;
use crate::config::Config;
use crate::ledger::{Account, Ledger};

const CLIENTS: u64 = 100;

fn note(content: &str) -> VerifiedEvent {
    let key = Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let draft = EventDraft {
        pubkey: PublicKey::from_bytes(key.x_only_public_key().0.serialize()),
        created_at: 1,
        kind: 1,
        tags: Tags::default(),
        content: content.to_owned(),
    };
    let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &key);
    let event = Event::from_signature(draft, Signature::from_bytes(signature.to_byte_array()));
    VerifiedEvent::verify(event).unwrap()
}

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
