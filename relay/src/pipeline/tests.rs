//! What is taken away in slices.

use secp256k1::{Keypair, SECP256K1, SecretKey};
use wire::{EventDraft, EventId, PublicKey, Signature, Tag, Tags, kinds};

use super::*;
use crate::policy::Rules;
use crate::store::{EventStore, Opened};

const NOW: u64 = 1_700_000_000;
/// Less than there is to do.
const BUDGET: usize = 50;

fn key(number: u8) -> Keypair {
    Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[number; 32]).unwrap())
}

fn public(key: &Keypair) -> PublicKey {
    PublicKey::from_bytes(key.x_only_public_key().0.serialize())
}

fn signed(key: &Keypair, kind: u16, tags: &[[&str; 2]], content: &str) -> VerifiedEvent {
    let draft = EventDraft {
        pubkey: public(key),
        created_at: NOW,
        kind,
        tags: tags.iter().map(|tag| Tag::new(*tag)).collect::<Tags>(),
        content: content.to_owned(),
    };
    let sign = |id: &EventId| {
        let signature = SECP256K1.sign_schnorr_no_aux_rand(id.as_bytes(), key);
        Signature::from_bytes(signature.to_byte_array())
    };
    VerifiedEvent::verify(wire::Event::sign_with(draft, sign)).unwrap()
}

/// A note that has more rows than one slice takes.
fn wide_note(key: &Keypair, content: &str) -> VerifiedEvent {
    let values: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let tags: Vec<[&str; 2]> = values.iter().map(|value| ["t", value]).collect();
    signed(key, 1, &tags, content)
}

fn relay() -> Opened {
    EventStore::in_memory(Rules::default(), &[7; 32]).unwrap()
}

fn store(relay: &mut Opened, event: &VerifiedEvent) -> Answer {
    let jobs = [(event.clone(), Verdict::Store)];
    write_all(&mut relay.writer, &jobs, NOW).remove(0)
}

fn is_here(relay: &Opened, event: &VerifiedEvent) -> bool {
    relay.store.contains(&event.id()).unwrap()
}

/// One slice; the answer if that was all.
fn slice(relay: &mut Opened, request: &VerifiedEvent, verdict: Verdict) -> Option<Answer> {
    let jobs = [(request.clone(), verdict)];
    write_some(&mut relay.writer, &jobs, BUDGET, NOW).remove(0)
}

fn rest(relay: &mut Opened, request: &VerifiedEvent, verdict: Verdict) -> Answer {
    for _ in 0..100 {
        if let Some(answer) = slice(relay, request, verdict) {
            return answer;
        }
    }
    panic!("it does not end");
}

const DELETE: Verdict = Verdict::Delete { unless_own: None };

#[test]
fn r_fair_8_a_deletion_goes_on_slice_by_slice_and_counts_as_one() {
    let (mut relay, author) = (relay(), key(1));
    let notes: Vec<_> = (0..5).map(|n| wide_note(&author, &n.to_string())).collect();
    for note in &notes {
        assert!(store(&mut relay, note).accepted);
    }
    let ids: Vec<String> = notes.iter().map(|note| note.id().to_hex()).collect();
    let absent = wide_note(&author, "later");
    let absent_id = absent.id().to_hex();
    let mut tags: Vec<[&str; 2]> = ids.iter().map(|id| ["e", id]).collect();
    tags.push(["e", &absent_id]);
    let request = signed(&author, kinds::DELETION, &tags, "");
    // Somebody who may write nothing else.
    let verdict = Verdict::Delete {
        unless_own: Some(Refusal::Banned),
    };
    assert_eq!(slice(&mut relay, &request, verdict), None);
    let here = notes.iter().filter(|note| is_here(&relay, note)).count();
    assert_eq!(here, 4);
    // Others go on in between, and what went stays away.
    assert!(store(&mut relay, &signed(&key(2), 1, &[], "beside it")).accepted);
    assert_eq!(store(&mut relay, &notes[0]).refusal, Some(Refusal::Deleted));
    let answer = rest(&mut relay, &request, verdict);
    assert!(answer.accepted && answer.deliver.is_some(), "{answer:?}");
    assert!(!notes.iter().any(|note| is_here(&relay, note)));
    assert_eq!(store(&mut relay, &absent).refusal, Some(Refusal::Deleted));
    assert!(is_here(&relay, &request));
}

#[test]
fn r_fair_8_a_deletion_of_wraps_in_slices_is_shown_to_nobody() {
    // Of one of these counts the last slice finds nothing left but the names.
    let counts = 20..32_u8;
    let cases = counts.flat_map(|count| [(count, Rules::default().wrap_past), (count, None)]);
    for (count, wrap_past) in cases {
        let rules = Rules {
            wrap_past,
            ..Rules::default()
        };
        let mut relay = EventStore::in_memory(rules, &[7; 32]).unwrap();
        let owner = key(1);
        let to = public(&owner).to_hex();
        let wraps: Vec<_> = (0..count)
            .map(|n| signed(&key(2), kinds::WRAP, &[["p", &to]], &n.to_string()))
            .collect();
        for wrap in &wraps {
            assert!(store(&mut relay, wrap).accepted);
        }
        let ids: Vec<String> = wraps.iter().map(|wrap| wrap.id().to_hex()).collect();
        let tags: Vec<[&str; 2]> = ids.iter().map(|id| ["e", id]).collect();
        // It does not say which kinds it is about.
        let request = signed(&owner, kinds::DELETION, &tags, "");
        assert_eq!(slice(&mut relay, &request, DELETE), None);
        let answer = rest(&mut relay, &request, DELETE);
        assert!(answer.accepted && answer.deliver.is_none(), "{answer:?}");
        assert!(!is_here(&relay, &request));
        assert!(!wraps.iter().any(|wrap| is_here(&relay, wrap)));
    }
}

#[test]
fn r_fair_8_addresses_go_slice_by_slice_as_well() {
    let (mut relay, author) = (relay(), key(1));
    let owner = public(&author).to_hex();
    let values: Vec<String> = (0..5).map(|number| format!("d{number}")).collect();
    let wide: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let mut versions = Vec::new();
    for value in &values {
        let mut tags: Vec<[&str; 2]> = wide.iter().map(|value| ["t", value]).collect();
        tags.push(["d", value]);
        versions.push(signed(&author, 30_000, &tags, ""));
    }
    for version in &versions {
        assert!(store(&mut relay, version).accepted);
    }
    let addresses: Vec<String> = values
        .iter()
        .map(|d| format!("30000:{owner}:{d}"))
        .collect();
    let tags: Vec<[&str; 2]> = addresses.iter().map(|address| ["a", address]).collect();
    let request = signed(&author, kinds::DELETION, &tags, "");
    let verdict = Verdict::Delete {
        unless_own: Some(Refusal::Banned),
    };
    assert_eq!(slice(&mut relay, &request, verdict), None);
    assert!(versions.iter().any(|version| is_here(&relay, version)));
    let answer = rest(&mut relay, &request, verdict);
    assert!(answer.accepted, "{answer:?}");
    assert!(!versions.iter().any(|version| is_here(&relay, version)));
}

#[test]
fn r_van_1_while_somebody_vanishes_slice_by_slice_nothing_of_theirs_is_taken() {
    let (mut relay, author, friend) = (relay(), key(1), key(2));
    let notes: Vec<_> = (0..5).map(|n| wide_note(&author, &n.to_string())).collect();
    let to = public(&author).to_hex();
    let wraps: Vec<_> = (0..20)
        .map(|n| signed(&friend, kinds::WRAP, &[["p", &to]], &n.to_string()))
        .collect();
    for event in notes.iter().chain(&wraps) {
        assert!(store(&mut relay, event).accepted);
    }
    let request = signed(&author, kinds::VANISH, &[["relay", "ALL_RELAYS"]], "");
    assert_eq!(slice(&mut relay, &request, Verdict::Vanish), None);
    let late = store(&mut relay, &wide_note(&author, "late"));
    assert_eq!(late.refusal, Some(Refusal::Vanished));
    assert!(store(&mut relay, &signed(&friend, 1, &[], "beside it")).accepted);
    let answer = rest(&mut relay, &request, Verdict::Vanish);
    assert!(answer.accepted && answer.message.is_empty(), "{answer:?}");
    assert!(
        !notes
            .iter()
            .chain(&wraps)
            .any(|event| is_here(&relay, event))
    );
    assert_eq!(store(&mut relay, &wraps[0]).refusal, Some(Refusal::Deleted));
    assert_eq!(
        store(&mut relay, &notes[0]).refusal,
        Some(Refusal::Vanished)
    );
    let again = rest(&mut relay, &request, Verdict::Vanish);
    assert!(again.message.starts_with("duplicate:"), "{again:?}");
}

#[test]
fn r_fair_8_what_expires_together_goes_slice_by_slice() {
    let (mut relay, author) = (relay(), key(1));
    let end = (NOW + 10).to_string();
    let values: Vec<String> = (0..1_500).map(|number| number.to_string()).collect();
    let mut ids = Vec::new();
    for number in 0..6 {
        let mut tags: Vec<[&str; 2]> = values.iter().map(|value| ["t", value]).collect();
        // Half of them expire, and half are erased.
        tags.extend((number % 2 == 0).then_some(["expiration", &end]));
        let note = signed(&author, 1, &tags, &number.to_string());
        assert!(store(&mut relay, &note).accepted);
        ids.extend((number % 2 == 1).then(|| note.id()));
    }
    let writer = &mut relay.writer;
    assert_eq!(writer.sweep(NOW + 10).unwrap(), 2);
    assert_eq!(writer.sweep(NOW + 10).unwrap(), 1);
    assert_eq!(writer.sweep(NOW + 10).unwrap(), 0);
    assert_eq!(writer.erase_some(&ids, NOW).unwrap(), (2, 2));
    assert_eq!(writer.erase_some(&ids[2..], NOW).unwrap(), (1, 1));
}
