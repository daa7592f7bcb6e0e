//! Sealing, wrapping and opening: the way through, and one forgery for each check on it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use bytes::Bytes;
use crypto::gift_wrap::{SESSION_BYTE, past_time};
use crypto::seal::{SELF_COPY_BYTES, SELF_COPY_WRAPS, fits, seal_with_wraps};
use crypto::{
    AccountKey, DeletionSecret, Envelope, KeyCache, OneTimeKey, Opened, Refusal, SealError,
    WrapError, WrapKind, open_envelope, open_seal, seal, wrap,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wire::{
    Event, EventDraft, EventId, PublicKey, Rumor, Signature, Tag, Tags, VerifiedEvent, kinds,
    limits,
};

const NOW: u64 = 1_760_000_000;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn account(number: u8) -> AccountKey {
    AccountKey::from_secret_bytes(&[number; 32]).unwrap()
}

fn rumor(author: &AccountKey, kind: u16, to: &[PublicKey], content: &str) -> Rumor {
    Rumor::new(EventDraft {
        pubkey: author.public_key(),
        created_at: NOW,
        kind,
        tags: to
            .iter()
            .map(|key| Tag::new(["p".to_owned(), key.to_hex()]))
            .collect(),
        content: content.to_owned(),
    })
}

/// A seal with any plaintext, as a forger would make it.
fn seal_of(author: &AccountKey, to: &PublicKey, plaintext: &str) -> EventDraft {
    let conversation = author.conversation_with(to).unwrap();
    EventDraft {
        pubkey: author.public_key(),
        created_at: NOW,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content: conversation
            .encrypt(plaintext.as_bytes(), &mut rng())
            .unwrap(),
    }
}

fn wrapped(payload: &[u8], to: &PublicKey) -> VerifiedEvent {
    let mut rng = rng();
    let key = OneTimeKey::generate(&mut rng);
    let event = wrap(&key, to, WrapKind::Stored, payload, NOW, None, &mut rng).unwrap();
    VerifiedEvent::verify(event).unwrap()
}

fn open(inbox: &AccountKey, wrap: &VerifiedEvent) -> Result<Opened, Refusal> {
    match open_envelope(inbox, wrap)? {
        Envelope::Seal(envelope) => open_seal(inbox, &envelope, &KeyCache::new(0)),
        Envelope::Session(_) => panic!("not a seal"),
    }
}

fn open_payload(inbox: &AccountKey, payload: &[u8]) -> Result<Opened, Refusal> {
    open(inbox, &wrapped(payload, &inbox.public_key()))
}

fn refusal_of_rumor(author: &AccountKey, inbox: &AccountKey, plaintext: &str) -> Refusal {
    let seal = author.sign(seal_of(author, &inbox.public_key(), plaintext), &mut rng());
    open_payload(inbox, seal.json()).unwrap_err()
}

#[test]
fn a_message_goes_through_all_layers_and_names_its_author() {
    let (alice, bob, mut rng) = (account(1), account(2), rng());
    let rumor = rumor(&alice, kinds::TEXT, &[bob.public_key()], "Good evening");
    let conversation = alice.conversation_with(&bob.public_key()).unwrap();
    let time = past_time(NOW, &mut rng);
    let seal = seal(&alice, &conversation, &rumor, None, time, &mut rng).unwrap();
    assert_eq!((seal.kind(), seal.tags().len()), (kinds::SEAL, 0));
    let secret = DeletionSecret::generate(&mut rng);
    let key = secret.wrap_key(&rumor.id(), &bob.public_key(), 0);
    let event = wrap(
        &key,
        &bob.public_key(),
        WrapKind::Stored,
        seal.json(),
        past_time(NOW, &mut rng),
        Some(NOW + 600),
        &mut rng,
    )
    .unwrap();
    assert_eq!(event.pubkey(), key.public_key());
    assert!(!String::from_utf8_lossy(event.json()).contains(&alice.public_key().to_hex()));
    let event = VerifiedEvent::verify(Event::decode(event.json().clone()).unwrap()).unwrap();

    let opened = open(&bob, &event).unwrap();
    assert_eq!(opened.rumor(), &rumor);
    assert_eq!(opened.author(), alice.public_key());
    assert_eq!(opened.inbox(), bob.public_key());
    assert_eq!(opened.wrap_id(), event.id());
    assert_eq!(opened.expiration(), Some(NOW + 600));
    assert!(!opened.is_self_copy());
    assert!(opened.deletion_secret().is_none());

    let mut keys = KeyCache::new(4);
    keys.remember(&bob, &alice.public_key()).unwrap();
    let Envelope::Seal(envelope) = open_envelope(&bob, &event).unwrap() else {
        panic!("not a seal")
    };
    assert_eq!(open_seal(&bob, &envelope, &keys).unwrap().rumor(), &rumor);
}

#[test]
fn the_self_copy_alone_brings_the_deletion_secret() {
    let (alice, bob, mut rng) = (account(1), account(2), rng());
    let rumor = rumor(&alice, kinds::TEXT, &[bob.public_key()], "Good evening");
    let secret = DeletionSecret::generate(&mut rng);
    let to_self = alice.conversation_with(&alice.public_key()).unwrap();
    let copy = seal(&alice, &to_self, &rumor, Some(&secret), NOW, &mut rng).unwrap();
    let opened = open_payload(&alice, copy.json()).unwrap();
    assert!(opened.is_self_copy());
    assert_eq!(opened.rumor().id(), rumor.id());
    assert_eq!(opened.deletion_secret(), Some(&secret));

    let to_bob = alice.conversation_with(&bob.public_key()).unwrap();
    assert_eq!(
        seal(&alice, &to_bob, &rumor, Some(&secret), NOW, &mut rng).unwrap_err(),
        SealError::DeletionSecretToOther
    );
    // A peer who sends one gives us nothing.
    let gift = rumor
        .to_json()
        .replacen('{', &format!("{{\"sotto_d\":\"{}\",", "ab".repeat(32)), 1);
    let forged = alice.sign(seal_of(&alice, &bob.public_key(), &gift), &mut rng);
    let opened = open_payload(&bob, forged.json()).unwrap();
    assert!(opened.deletion_secret().is_none());
}

#[test]
fn the_self_copy_alone_names_the_wraps_made_for_others() {
    let (alice, bob, mut rng) = (account(1), account(2), rng());
    let rumor = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x");
    let wraps: Vec<(PublicKey, EventId)> = (1..=100)
        .map(|n| (PublicKey::from_bytes([n; 32]), EventId::from_bytes([n; 32])))
        .collect();
    let to_self = alice.conversation_with(&alice.public_key()).unwrap();
    for count in [0, 1, 2, 64, 100] {
        let named = &wraps[..count];
        let copy = seal_with_wraps(&alice, &to_self, &rumor, None, named, NOW, &mut rng).unwrap();
        let opened = open_payload(&alice, copy.json()).unwrap();
        assert_eq!(opened.wraps(), &named[..count.min(SELF_COPY_WRAPS)]);
        assert_eq!(opened.rumor(), &rumor);
    }
    let to_bob = alice.conversation_with(&bob.public_key()).unwrap();
    let result = seal_with_wraps(&alice, &to_bob, &rumor, None, &wraps, NOW, &mut rng);
    assert_eq!(result.unwrap_err(), SealError::DeletionSecretToOther);
    let text = rumor.to_json();
    let gift = text.replacen('{', "{\"sotto_w\":{\"aa\":\"bb\"},", 1);
    for inbox in [&alice, &bob] {
        let draft = seal_of(&alice, &inbox.public_key(), &gift);
        let opened = open_payload(inbox, alice.sign(draft, &mut rng).json()).unwrap();
        assert!(opened.wraps().is_empty());
    }
}

#[test]
fn a_malformed_deletion_secret_does_not_lose_the_self_copy() {
    let alice = account(1);
    let rumor = rumor(&alice, kinds::TEXT, &[account(2).public_key()], "x");
    for bad in ["\"ab\"", "7", "null", "\"zz\"", "{\"a\":[1]}"] {
        let json = rumor
            .to_json()
            .replacen('{', &format!("{{\"sotto_d\":{bad},"), 1);
        let seal = alice.sign(seal_of(&alice, &alice.public_key(), &json), &mut rng());
        let opened = open_payload(&alice, seal.json()).unwrap();
        assert!(opened.deletion_secret().is_none(), "{bad}");
        assert_eq!(opened.rumor(), &rumor);
    }
}

#[test]
fn another_client_ignores_the_deletion_secret() {
    let (alice, mut rng) = (account(1), rng());
    let rumor = rumor(
        &alice,
        kinds::TEXT,
        &[account(2).public_key()],
        "Good evening",
    );
    let secret = DeletionSecret::generate(&mut rng);
    let to_self = alice.conversation_with(&alice.public_key()).unwrap();
    let seal = seal(&alice, &to_self, &rumor, Some(&secret), NOW, &mut rng).unwrap();
    let json = to_self.decrypt(seal.content()).unwrap();
    assert!(String::from_utf8_lossy(&json).contains("sotto_d"));

    let foreign = nostr::event::UnsignedEvent::from_json(json.as_slice()).unwrap();
    foreign.verify_id().unwrap();
    assert_eq!(foreign.id.unwrap().to_hex(), rumor.id().to_hex());
    assert_eq!(foreign.content, "Good evening");
}

#[test]
fn a_session_message_is_handed_on_with_its_bytes() {
    let bob = account(2);
    let payload = [&[SESSION_BYTE], [0xff, 0, 1].as_slice()].concat();
    let event = wrapped(&payload, &bob.public_key());
    match open_envelope(&bob, &event).unwrap() {
        Envelope::Session(envelope) => {
            assert_eq!(envelope.bytes().as_ref(), payload);
            assert_eq!(envelope.wrap().id, event.id());
        }
        Envelope::Seal(_) => panic!("not a session message"),
    }
}

#[test]
fn an_event_that_is_no_wrap_is_refused() {
    let (alice, bob) = (account(1), account(2));
    let mut draft = seal_of(&alice, &bob.public_key(), "{}");
    draft.kind = 1;
    let event = VerifiedEvent::verify(alice.sign(draft, &mut rng())).unwrap();
    assert_eq!(open(&bob, &event).unwrap_err(), Refusal::WrapKind);
}

#[test]
fn a_wrap_for_another_key_is_refused() {
    let event = wrapped(b"{}", &account(3).public_key());
    assert_eq!(open(&account(2), &event).unwrap_err(), Refusal::WrapPayload);
}

#[test]
fn a_wrap_with_an_unknown_channel_is_refused() {
    let (bob, mut rng) = (account(2), rng());
    let key = OneTimeKey::generate(&mut rng);
    for first in [0_u8, 2, b'[', b' ', 0xff] {
        let payload = [first, b'x'];
        assert_eq!(
            wrap(
                &key,
                &bob.public_key(),
                WrapKind::Stored,
                &payload,
                NOW,
                None,
                &mut rng
            )
            .unwrap_err(),
            WrapError::Channel
        );
        let conversation = key.conversation_with(&bob.public_key()).unwrap();
        let draft = EventDraft {
            pubkey: key.public_key(),
            created_at: NOW,
            kind: kinds::WRAP,
            tags: Tags::new(),
            content: conversation.encrypt(&payload, &mut rng).unwrap(),
        };
        let event = VerifiedEvent::verify(key.sign(draft, &mut rng)).unwrap();
        assert_eq!(open(&bob, &event).unwrap_err(), Refusal::Channel);
    }
}

#[test]
fn an_envelope_is_bound_to_its_inbox_key() {
    let (alice, bob, carol) = (account(1), account(2), account(3));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let seal = alice.sign(seal_of(&alice, &bob.public_key(), &text), &mut rng());
    let event = wrapped(seal.json(), &bob.public_key());
    let Envelope::Seal(envelope) = open_envelope(&bob, &event).unwrap() else {
        panic!("not a seal")
    };
    assert_eq!(
        open_seal(&carol, &envelope, &KeyCache::new(0)).unwrap_err(),
        Refusal::Inbox
    );
}

#[test]
fn a_seal_that_is_no_event_is_refused() {
    let deep = format!("{{\"id\":{}", "[".repeat(100));
    for payload in ["{", "{}", "{\"kind\":13}", deep.as_str()] {
        assert_eq!(
            open_payload(&account(2), payload.as_bytes()).unwrap_err(),
            Refusal::SealForm
        );
    }
}

#[test]
fn a_seal_of_another_kind_is_refused() {
    let (alice, bob) = (account(1), account(2));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let mut draft = seal_of(&alice, &bob.public_key(), &text);
    draft.kind = kinds::TEXT;
    let seal = alice.sign(draft, &mut rng());
    assert_eq!(
        open_payload(&bob, seal.json()).unwrap_err(),
        Refusal::SealKind
    );
}

#[test]
fn a_seal_with_tags_is_refused() {
    let (alice, bob) = (account(1), account(2));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let mut draft = seal_of(&alice, &bob.public_key(), &text);
    draft.tags.push(Tag::new(["p", "x"]));
    let seal = alice.sign(draft, &mut rng());
    assert_eq!(
        open_payload(&bob, seal.json()).unwrap_err(),
        Refusal::SealTags
    );
}

/// The same event with another id or signature in its JSON.
fn with(event: &Event, id: Option<EventId>, sig: Option<Signature>) -> Bytes {
    let mut fields: serde_json::Value = serde_json::from_slice(event.json()).unwrap();
    if let Some(id) = id {
        fields["id"] = id.to_hex().into();
    }
    if let Some(sig) = sig {
        fields["sig"] = sig.to_hex().into();
    }
    Bytes::from(fields.to_string())
}

#[test]
fn a_seal_with_a_wrong_id_is_refused() {
    let (alice, bob) = (account(1), account(2));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let seal = alice.sign(seal_of(&alice, &bob.public_key(), &text), &mut rng());
    let forged = with(&seal, Some(EventId::from_bytes([9; 32])), None);
    assert_eq!(open_payload(&bob, &forged).unwrap_err(), Refusal::SealId);
}

#[test]
fn a_seal_with_anothers_signature_is_refused() {
    let (alice, bob, mallory) = (account(1), account(2), account(4));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let draft = seal_of(&alice, &bob.public_key(), &text);
    let seal = alice.sign(draft.clone(), &mut rng());
    let other = mallory.sign(draft, &mut rng());
    for sig in [*other.sig(), Signature::from_bytes([0; 64])] {
        let forged = with(&seal, None, Some(sig));
        assert_eq!(
            open_payload(&bob, &forged).unwrap_err(),
            Refusal::SealSignature
        );
    }
}

#[test]
fn a_seal_written_for_somebody_else_is_refused() {
    // Mallory received Alice's seal and wraps it again, for Bob.
    let (alice, bob, mallory) = (account(1), account(2), account(4));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x").to_json();
    let seal = alice.sign(seal_of(&alice, &mallory.public_key(), &text), &mut rng());
    assert_eq!(
        open_payload(&bob, seal.json()).unwrap_err(),
        Refusal::SealPayload
    );
}

#[test]
fn a_seal_around_something_else_is_refused() {
    let (alice, bob) = (account(1), account(2));
    for plaintext in ["{}", "x", "[1]", "{\"pubkey\":1}"] {
        assert_eq!(
            refusal_of_rumor(&alice, &bob, plaintext),
            Refusal::RumorForm
        );
    }
}

#[test]
fn a_rumor_with_a_wrong_id_is_refused_and_a_missing_one_computed() {
    let (alice, bob) = (account(1), account(2));
    let rumor = rumor(&alice, kinds::TEXT, &[bob.public_key()], "x");
    let json = rumor.to_json();
    let id = rumor.id().to_hex();
    let wrong = json.replace(&id, &"9".repeat(64));
    assert_eq!(refusal_of_rumor(&alice, &bob, &wrong), Refusal::RumorId);

    let mut fields: serde_json::Value = serde_json::from_str(&json).unwrap();
    fields.as_object_mut().unwrap().remove("id").unwrap();
    let draft = seal_of(&alice, &bob.public_key(), &fields.to_string());
    let seal = alice.sign(draft, &mut rng());
    assert_eq!(
        open_payload(&bob, seal.json()).unwrap().rumor().id(),
        rumor.id()
    );
}

#[test]
fn a_rumor_in_anothers_name_is_refused() {
    let (alice, bob, mallory) = (account(1), account(2), account(4));
    let text = rumor(&alice, kinds::TEXT, &[bob.public_key()], "I owe you").to_json();
    assert_eq!(
        refusal_of_rumor(&mallory, &bob, &text),
        Refusal::RumorAuthor
    );
    // Not even in the receiver's own name, as if it were a copy from another device.
    let text = rumor(&bob, kinds::TEXT, &[alice.public_key()], "I owe you").to_json();
    assert_eq!(
        refusal_of_rumor(&mallory, &bob, &text),
        Refusal::RumorAuthor
    );
}

#[test]
fn a_message_to_others_is_refused_and_other_kinds_are_left_to_the_engine() {
    let (alice, bob, carol) = (account(1), account(2), account(3));
    for kind in [kinds::TEXT, kinds::FILE] {
        let to_carol = rumor(&alice, kind, &[carol.public_key()], "x").to_json();
        assert_eq!(
            refusal_of_rumor(&alice, &bob, &to_carol),
            Refusal::NotAddressed
        );
    }
    for kind in [kinds::DELETION, kinds::REACTION, kinds::RECEIPT, 9_999] {
        let json = rumor(&alice, kind, &[], "x").to_json();
        let seal = alice.sign(seal_of(&alice, &bob.public_key(), &json), &mut rng());
        assert_eq!(
            open_payload(&bob, seal.json()).unwrap().rumor().kind(),
            kind
        );
    }
}

#[test]
fn nobody_seals_in_anothers_name() {
    let (alice, bob, mut rng) = (account(1), account(2), rng());
    let rumor = rumor(&bob, kinds::TEXT, &[], "x");
    let of_alice = alice.conversation_with(&bob.public_key()).unwrap();
    let of_bob = bob.conversation_with(&alice.public_key()).unwrap();
    for conversation in [&of_alice, &of_bob] {
        let result = seal(&alice, conversation, &rumor, None, NOW, &mut rng);
        assert_eq!(result.unwrap_err(), SealError::Author);
    }
}

#[test]
fn the_largest_message_fits_and_the_next_one_is_refused() {
    let (alice, mut rng) = (account(1), rng());
    let own = alice.public_key();
    let empty = rumor(&alice, kinds::TEXT, &[own], "").to_json().len();
    let room = limits::RUMOR_BYTES - SELF_COPY_BYTES - empty;
    let largest = rumor(&alice, kinds::TEXT, &[own], &"x".repeat(room));
    let to_self = alice.conversation_with(&own).unwrap();
    let secret = DeletionSecret::generate(&mut rng);
    let one = [(account(2).public_key(), EventId::from_bytes([9; 32]))];
    let sealed = seal_with_wraps(
        &alice,
        &to_self,
        &largest,
        Some(&secret),
        &one,
        NOW,
        &mut rng,
    )
    .unwrap();
    let event = wrapped(sealed.json(), &own);
    assert!(event.json().len() <= limits::EVENT_BYTES);
    let event = VerifiedEvent::verify(Event::decode(event.json().clone()).unwrap()).unwrap();
    let opened = open(&alice, &event).unwrap();
    assert_eq!(opened.rumor(), &largest);
    assert_eq!(
        (opened.deletion_secret(), opened.wraps()),
        (Some(&secret), &one[..])
    );
    assert!(fits(&largest));

    let larger = rumor(&alice, kinds::TEXT, &[own], &"x".repeat(room + 1));
    assert!(!fits(&larger));
    let result = seal(&alice, &to_self, &larger, None, NOW, &mut rng);
    assert_eq!(result.unwrap_err(), SealError::TooLarge);
}

#[test]
fn the_nostr_crate_opens_what_we_wrap() {
    let (alice, bob) = (account(1), account(2));
    let rumor = rumor(&alice, kinds::TEXT, &[bob.public_key()], "Buona sera");
    let conversation = alice.conversation_with(&bob.public_key()).unwrap();
    let seal = seal(&alice, &conversation, &rumor, None, NOW, &mut rng()).unwrap();
    let event = wrapped(seal.json(), &bob.public_key());
    let foreign = nostr::event::Event::from_json(event.json().as_ref()).unwrap();
    let keys = nostr::key::Keys::parse(&hex::encode([2_u8; 32])).unwrap();
    let gift = nostr::nips::nip59::UnwrappedGift::from_gift_wrap(&keys, &foreign).unwrap();
    assert_eq!(gift.rumor.content, "Buona sera");
    assert_eq!(gift.sender.to_hex(), alice.public_key().to_hex());
}

#[test]
fn strangers_never_push_a_contact_out_of_the_cache() {
    let bob = account(2);
    let mut keys = KeyCache::new(2);
    for number in [3, 4, 5] {
        let peer = account(number).public_key();
        keys.remember(&bob, &peer).unwrap();
        assert!(keys.find(&bob.public_key(), &peer).is_some());
    }
    let kept = [3, 4, 5]
        .into_iter()
        .filter(|number| {
            let peer = account(*number).public_key();
            keys.find(&bob.public_key(), &peer).is_some()
        })
        .count();
    assert_eq!(kept, 2);
    // Opening a stranger's message looks the key up and keeps nothing: `open_seal` takes `&`.
    keys.forget(&account(5).public_key());
    assert!(
        keys.find(&bob.public_key(), &account(5).public_key())
            .is_none()
    );
}

proptest! {
    #[test]
    fn an_outer_expiry_is_late_but_not_too_late(
        exact in 1_000_000_u64..4_000_000_000, ttl in 0_u64..10_000_000, seed: u64,
    ) {
        use crypto::expiry::{grid, outer_expiry};
        let outer = outer_expiry(exact, ttl, &mut StdRng::seed_from_u64(seed));
        let grid = grid(ttl);
        prop_assert!((60..=3_600).contains(&grid));
        prop_assert!(outer > exact && outer <= exact + 2 * grid);
        prop_assert_eq!(outer % grid, 0);
    }

    #[test]
    fn a_past_time_is_at_most_two_days_back(now in 0_u64..4_000_000_000, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let time = crypto::gift_wrap::past_time(now, &mut rng);
        prop_assert!(time <= now && now - time <= 172_800);
        prop_assert_eq!(crypto::WrapKind::Ephemeral.time(now, &mut rng), now);
    }
}
