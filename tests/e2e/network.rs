//! Many seeds of a bad network. Whatever it does, in the end everybody has what was sent to them
//! once, in one order, and nobody has what was taken back.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use client_core::engine::Compose;
use client_core::engine::io::Role;
use crypto::{Envelope, KeyCache, open_envelope, open_seal};
use e2e::sim::{Carried, Sim, Weather};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wire::{EventId, Link, PublicKey, VerifiedEvent};

const PEOPLE: usize = 3;

/// One message as its author meant it.
struct Sent {
    id: EventId,
    from: usize,
    to: usize,
    text: String,
    is_deleted: bool,
    expires_at: Option<u64>,
}

fn compose(to: PublicKey, text: &str, expire_s: Option<u64>) -> Compose {
    Compose {
        to,
        text: Some(text.to_owned()),
        file: None,
        reply_to: None,
        expire_s,
        as_myself: false,
        idempotency_key: None,
    }
}

/// One seed: a storm of sends, deletions, crashes and syncs, then calm, then the questions. How
/// many syncs at its end compared.
fn live_through(seed: u64) -> usize {
    let mut sim = Sim::new(seed, PEOPLE, 2);
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let keys: Vec<PublicKey> = sim.people.iter().map(|p| p.account.public_key()).collect();
    for at in 0..PEOPLE {
        for (other, key) in keys.iter().enumerate().filter(|(other, _)| *other != at) {
            let mut link = Link::new(*key);
            link.relays = vec![sim.relay_of(other)];
            let alias = format!("person{other}");
            sim.wish(at, |engine, store, now, rng| {
                engine.add_contact(store, &link, Some(&alias), now, rng)
            });
        }
    }
    sim.weather = Weather::STORM;
    let mut sent: Vec<Sent> = Vec::new();
    for step in 0..40 {
        let from = rng.random_range(0..PEOPLE);
        match rng.random_range(0..10) {
            0..5 => {
                let to = (from + rng.random_range(1..PEOPLE)) % PEOPLE;
                let expire = rng.random_bool(0.15).then(|| rng.random_range(30..900));
                let text = format!("message {step} of seed {seed}");
                let message = compose(keys[to], &text, expire);
                let id = sim.wish(from, |engine, store, now, rng| {
                    engine.send(store, message, now, rng)
                });
                let expires_at = expire.map(|ttl| sim.now + ttl);
                sent.push(Sent {
                    id,
                    from,
                    to,
                    text,
                    is_deleted: false,
                    expires_at,
                });
            }
            5..7 => {
                sim.wish(from, |engine, store, now, rng| engine.sync(store, now, rng));
            }
            7 => {
                let own = sent.iter_mut().filter(|m| m.from == from && !m.is_deleted);
                let alive: Vec<_> = own.filter(|m| m.expires_at.is_none()).collect();
                if !alive.is_empty() {
                    let count = alive.len();
                    let message = alive.into_iter().nth(rng.random_range(0..count)).unwrap();
                    message.is_deleted = true;
                    let id = message.id;
                    sim.wish(from, |engine, store, now, rng| {
                        engine.delete(store, id, true, now, rng)
                    });
                }
            }
            8 => sim.start(from),
            _ => sim.pass(rng.random_range(1..300)),
        }
        if rng.random_bool(0.7) {
            sim.run();
        }
    }
    // The storm ends. Every retry falls due within a day.
    sim.weather = Weather::CALM;
    for hours in [1, 2, 4, 8, 16] {
        sim.pass(hours * 3_600);
        for at in 0..PEOPLE {
            sim.wish(at, |engine, store, now, rng| engine.flush(store, now, rng));
            sim.run();
            sim.wish(at, |engine, store, now, rng| engine.sync(store, now, rng));
            sim.run();
        }
    }
    ask(&mut sim, &sent, &keys, seed);
    nothing_known_is_fetched(&mut sim, seed)
}

/// When everything is told, a sync that compares brings nothing. How many of them compared.
fn nothing_known_is_fetched(sim: &mut Sim, seed: u64) -> usize {
    let mut compared = 0;
    // The first may bring what the others' last syncs sent.
    for round in 0..2 {
        for at in 0..PEOPLE {
            let before = sim.compared;
            sim.wish(at, |engine, store, now, rng| engine.sync(store, now, rng));
            sim.run();
            let relay = sim.relay_of(at);
            let (received, caught_up) = sim.ask(at, |engine, _, _| {
                (engine.sync_report().received, engine.caught_up(&relay))
            });
            assert!(caught_up, "seed {seed}: person {at} has seen everything");
            if round == 1 && sim.compared > before {
                compared += 1;
                assert_eq!(
                    received, 0,
                    "seed {seed}: person {at} fetches what is known"
                );
            }
        }
    }
    compared
}

fn ask(sim: &mut Sim, sent: &[Sent], keys: &[PublicKey], seed: u64) {
    let now = sim.now;
    let gone = |m: &Sent| m.is_deleted || m.expires_at.is_some_and(|at| at <= now);
    for from in 0..PEOPLE {
        for to in (0..PEOPLE).filter(|to| *to != from) {
            let peer_of = |at: usize| if at == from { keys[to] } else { keys[from] };
            let mut expected: Vec<&str> = sent
                .iter()
                .filter(|m| (m.from, m.to) == (from, to) || (m.from, m.to) == (to, from))
                .filter(|m| !gone(m))
                .map(|m| m.text.as_str())
                .collect();
            expected.sort_unstable();
            let [ours, theirs] = [from, to].map(|at| {
                let peer = peer_of(at);
                sim.ask(at, |engine, store, now| {
                    let list = engine.messages(store, &peer, 1_000, None, now).unwrap();
                    list.into_iter().map(|m| (m.id, m.text)).collect::<Vec<_>>()
                })
            });
            assert_eq!(
                ours, theirs,
                "seed {seed}: both sides see one conversation in one order"
            );
            let mut texts: Vec<&str> = ours.iter().map(|(_, text)| text.as_str()).collect();
            texts.sort_unstable();
            assert_eq!(
                texts, expected,
                "seed {seed}: person {from} and person {to}"
            );
        }
    }
    for message in sent.iter().filter(|m| !gone(m)) {
        let id = message.id;
        let delivered = sim.ask(message.from, |engine, store, _| {
            engine.sent(store, id).unwrap().status
        });
        assert_eq!(delivered, "delivered", "seed {seed}: {}", message.text);
    }
    for at in 0..PEOPLE {
        let outbox = sim.ask(at, |engine, store, _| engine.outbox(store).unwrap());
        assert!(
            outbox.is_empty(),
            "seed {seed}: nothing waits after the storm: {outbox:?}"
        );
    }
    relays_have_nothing_of(
        sim,
        &sent.iter().filter(|m| gone(m)).map(|m| m.id).collect(),
        seed,
    );
    sockets_kept_the_rules(sim, keys, seed);
}

/// Opens every wrap that is left on any relay with its recipient's key: none may hold a message
/// that was deleted or has vanished.
fn relays_have_nothing_of(sim: &mut Sim, gone: &HashSet<EventId>, seed: u64) {
    let left = sim.wraps_left();
    for at in 0..PEOPLE {
        for event in sim.stored_for(at) {
            assert!(left.contains(&event.id()));
            let wrap = VerifiedEvent::verify(event).unwrap();
            let account = &sim.people[at].account;
            let Ok(Envelope::Seal(seal)) = open_envelope(account, &wrap) else {
                panic!("seed {seed}: a wrap that its recipient cannot open");
            };
            let opened = open_seal(account, &seal, &KeyCache::new(0)).unwrap();
            assert!(
                !gone.contains(&opened.rumor().id()),
                "seed {seed}: a relay still has a message that was taken back"
            );
        }
    }
}

/// What one relay could put together from its sockets.
fn sockets_kept_the_rules(sim: &Sim, keys: &[PublicKey], seed: u64) {
    let mut by_socket: BTreeMap<_, Vec<&Carried>> = BTreeMap::new();
    for (at, socket, carried) in &sim.carried {
        by_socket
            .entry((*at, socket.clone()))
            .or_default()
            .push(carried);
    }
    for ((at, socket), carried) in by_socket {
        let auths = |key: &PublicKey| carried.iter().any(|c| **c == Carried::Auth(*key));
        let has_wrap = carried.iter().any(|c| matches!(c, Carried::Event(1059, _)));
        let has_req = carried.iter().any(|c| matches!(c, Carried::Req(_)));
        let is_account = auths(&keys[at]);
        match socket.role {
            Role::Inbox => assert!(!has_wrap, "seed {seed}: a wrap on an inbox socket"),
            Role::Publish => {
                assert!(
                    !is_account && !has_req,
                    "seed {seed}: a publish socket tells who"
                );
            }
            Role::Lookup => {
                assert!(
                    !is_account && !has_wrap,
                    "seed {seed}: a look-up socket tells who"
                );
                for carried in &carried {
                    if let Carried::Req(filter) = carried {
                        let authors = filter.authors.as_ref().map_or(0, |set| set.len());
                        assert_eq!(authors, 1, "seed {seed}: one author per look-up");
                    }
                }
            }
            Role::AsMyself => panic!("seed {seed}: nobody asked for that"),
        }
        for carried in carried {
            if let (Role::Inbox, Carried::Req(filter)) = (socket.role, carried) {
                assert_eq!(filter.since, None, "seed {seed}: no since");
            }
        }
    }
}

#[test]
fn fifty_seeds_of_a_bad_network() {
    let seeds: u64 = if std::env::var_os("SOTTO_SLOW").is_some() {
        2_000
    } else {
        50
    };
    let (next, compared) = (AtomicU64::new(0), AtomicUsize::new(0));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    compared.fetch_add(live_through(seed), Ordering::Relaxed);
                }
            });
        }
    });
    let compared = compared.into_inner();
    assert!(compared > 20, "{compared} syncs compared");
}
