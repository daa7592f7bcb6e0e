//! What strangers and broken programs send: refused one by one, and nothing good is lost.

use client_core::clock::Clock;
use crypto::{AccountKey, OneTimeKey};
use e2e::raw::{RawClient, account, sealed, text, wrapped, wrapped_anything, wrapped_content};
use e2e::world::{Person, World};
use wire::{Event, EventDraft, PublicKey, Rumor, Tag, Tags, kinds};

/// Somebody without a home of ours whom `person` has added.
fn contact_of(person: &Person, alias: &str) -> AccountKey {
    let account = account();
    let key = account.public_key().to_hex();
    person.client().add_contact(&key, Some(alias)).unwrap();
    account
}

fn key_of(person: &Person) -> PublicKey {
    PublicKey::from_hex(person.key()).unwrap()
}

/// Seals a rumor without the checks that `crypto::seal` makes.
fn seal_unchecked(
    signer: &AccountKey,
    to: &PublicKey,
    rumor: &str,
    kind: u16,
    tags: Tags,
) -> Event {
    let mut rng = e2e::raw::rng();
    let content = signer
        .conversation_with(to)
        .unwrap()
        .encrypt(rumor.as_bytes(), &mut rng)
        .unwrap();
    let pubkey = signer.public_key();
    let draft = EventDraft {
        pubkey,
        created_at: 1_700_000_000,
        kind,
        tags,
        content,
    };
    signer.sign(draft, &mut rng)
}

/// One wrap per opening check, each failing exactly that check.
fn forgeries(ben: &PublicKey, contact: &AccountKey, now: u64) -> Vec<(&'static str, Event)> {
    let mallory = account();
    let somebody = account().public_key();
    let honest = text(contact, ben, "honest words", now).to_json();
    let plain = text(&mallory, ben, "my own words", now).to_json();
    let seal = |signer: &AccountKey, rumor: &str| {
        seal_unchecked(signer, ben, rumor, kinds::SEAL, Tags::new())
            .json()
            .clone()
    };
    let mut flipped = String::from_utf8(seal(contact, &honest).to_vec()).unwrap();
    let sig_at = flipped.rfind("\"sig\":\"").unwrap() + 7;
    let digit = if flipped.as_bytes()[sig_at] == b'0' {
        "1"
    } else {
        "0"
    };
    flipped.replace_range(sig_at..=sig_at, digit);
    let other_text = String::from_utf8(seal(contact, &honest).to_vec())
        .unwrap()
        .replace("\"created_at\":1700000000", "\"created_at\":1700000001");
    let wrong_kind = seal_unchecked(contact, ben, &honest, kinds::TEXT, Tags::new());
    let tagged = Tags::from_iter([Tag::new(["e", "x"])]);
    let with_tags = seal_unchecked(contact, ben, &honest, kinds::SEAL, tagged);
    let for_other = {
        let mut rng = e2e::raw::rng();
        let conversation = contact.conversation_with(&somebody).unwrap();
        let content = conversation.encrypt(honest.as_bytes(), &mut rng).unwrap();
        let pubkey = contact.public_key();
        let draft = EventDraft {
            pubkey,
            created_at: now,
            kind: kinds::SEAL,
            tags: Tags::new(),
            content,
        };
        contact.sign(draft, &mut rng)
    };
    let spoofed = text(contact, ben, "I never wrote this", now).to_json();
    let false_id = plain.replace("my own words", "other words");
    let not_addressed = text(contact, &somebody, "meant for others", now).to_json();
    let one_time = OneTimeKey::generate(&mut e2e::raw::rng());
    vec![
        (
            "content that is no payload",
            wrapped_content(&one_time, ben, "garbage".into(), now),
        ),
        (
            "a first byte without meaning",
            wrapped_anything(ben, b"hello", now),
        ),
        ("a seal that is no event", wrapped(ben, b"{\"id\":1}", now)),
        (
            "a seal of another kind",
            wrapped(ben, wrong_kind.json(), now),
        ),
        ("a seal with tags", wrapped(ben, with_tags.json(), now)),
        (
            "a seal whose id is wrong",
            wrapped(ben, other_text.as_bytes(), now),
        ),
        (
            "a seal whose signature is wrong",
            wrapped(ben, flipped.as_bytes(), now),
        ),
        (
            "a seal for somebody else",
            wrapped(ben, for_other.json(), now),
        ),
        (
            "a seal around no rumor",
            wrapped(ben, &seal(&mallory, "[]"), now),
        ),
        (
            "a rumor in another's name",
            wrapped(ben, &seal(&mallory, &spoofed), now),
        ),
        (
            "a rumor with a false id",
            wrapped(ben, &seal(&mallory, &false_id), now),
        ),
        (
            "a message for somebody else",
            wrapped(ben, &seal(contact, &not_addressed), now),
        ),
        (
            "a deeply nested seal",
            wrapped(
                ben,
                format!("{{\"a\":{}", "[".repeat(5_000)).as_bytes(),
                now,
            ),
        ),
        ("invalid UTF-8", wrapped(ben, b"{\"a\":\"\xff\xfe\"}", now)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_among_a_thousand_loses_none_of_them() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let ben = world.person("ben", &[&relay], &[]).await;
    let cleo = contact_of(&ben, "cleo");
    let (to, now) = (key_of(&ben), world.clock.now());
    let mut events: Vec<Event> = (0..1_000)
        .map(|n| {
            sealed(
                &cleo,
                &to,
                &text(&cleo, &to, &format!("good {n}"), now - 2_000 + n),
                now,
            )
        })
        .collect();
    let bad = forgeries(&to, &cleo, now);
    for (at, (_, event)) in bad.iter().enumerate() {
        events.insert(500 + at * 3, event.clone());
    }
    RawClient::connect(&relay.url())
        .await
        .publish_all(&events)
        .await;
    assert_eq!(ben.sync().await, 1_000);
    let texts: Vec<String> = ben
        .client()
        .messages("cleo", 2_000, None)
        .unwrap()
        .into_iter()
        .map(|message| message.text)
        .collect();
    let expected: Vec<String> = (0..1_000).map(|n| format!("good {n}")).collect();
    assert_eq!(texts, expected);
    let conversations = ben.client().inbox().unwrap();
    assert_eq!(conversations.len(), 1, "no forgery opened a conversation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_cannot_delete_what_a_contact_wrote() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let ben = world.person("ben", &[&relay], &[]).await;
    let (cleo, mallory) = (contact_of(&ben, "cleo"), account());
    let (to, now) = (key_of(&ben), world.clock.now());
    let message = text(&cleo, &to, "keep this", now);
    let deletion = |author: &AccountKey| {
        let rumor = Rumor::new(EventDraft {
            pubkey: author.public_key(),
            created_at: now,
            kind: kinds::DELETION,
            tags: Tags::from_iter([
                Tag::new(["e".to_owned(), message.id().to_hex()]),
                Tag::new(["p".to_owned(), to.to_hex()]),
            ]),
            content: String::new(),
        });
        sealed(author, &to, &rumor, now)
    };
    let mut client = RawClient::connect(&relay.url()).await;
    // The stranger's deletion comes first, before the message it names.
    client.publish(&deletion(&mallory)).await;
    ben.sync().await;
    client.publish(&sealed(&cleo, &to, &message, now)).await;
    assert_eq!(ben.sync().await, 1);
    client.publish(&deletion(&mallory)).await;
    ben.sync().await;
    assert_eq!(ben.texts("cleo"), ["keep this"]);
    // The one who wrote it may take it back.
    client.publish(&deletion(&cleo)).await;
    ben.sync().await;
    assert!(
        ben.texts("cleo").is_empty(),
        "the author's own deletion counts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_kinds_are_skipped_duplicates_shown_once_and_the_future_put_in_its_place() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let ben = world.person("ben", &[&relay], &[]).await;
    let cleo = contact_of(&ben, "cleo");
    let (to, now) = (key_of(&ben), world.clock.now());
    let unknown = Rumor::new(EventDraft {
        pubkey: cleo.public_key(),
        created_at: now,
        kind: 31_337,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), to.to_hex()])]),
        content: "from a later version".into(),
    });
    let future = text(&cleo, &to, "from the future", now + 90_000);
    let present = text(&cleo, &to, "from now", now + 60);
    let mut client = RawClient::connect(&relay.url()).await;
    client
        .publish_all(&[
            sealed(&cleo, &to, &unknown, now),
            sealed(&cleo, &to, &future, now),
            sealed(&cleo, &to, &present, now),
            // The same rumor in other wraps.
            sealed(&cleo, &to, &present, now),
            sealed(&cleo, &to, &future, now),
        ])
        .await;
    assert_eq!(ben.sync().await, 2);
    client.publish(&sealed(&cleo, &to, &present, now)).await;
    assert_eq!(ben.sync().await, 0);
    assert_eq!(ben.texts("cleo"), ["from now", "from the future"]);
    world.clock.pass(600);
    client
        .publish(&sealed(
            &cleo,
            &to,
            &text(&cleo, &to, "later", now + 600),
            now,
        ))
        .await;
    ben.sync().await;
    assert_eq!(
        ben.texts("cleo"),
        ["from now", "from the future", "later"],
        "the future's message does not stay at the end"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_is_bounded() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let ben = world.person("ben", &[&relay], &[]).await;
    let cleo = contact_of(&ben, "cleo");
    let (to, now) = (key_of(&ben), world.clock.now());
    let mallory = account();
    let mut events: Vec<Event> = (0..600)
        .map(|n| {
            sealed(
                &mallory,
                &to,
                &text(&mallory, &to, &format!("buy {n}"), now),
                now,
            )
        })
        .collect();
    events.push(sealed(&cleo, &to, &text(&cleo, &to, "not spam", now), now));
    RawClient::connect(&relay.url())
        .await
        .publish_all(&events)
        .await;
    ben.sync().await;
    assert_eq!(ben.texts("cleo"), ["not spam"]);
    let kept = ben
        .client()
        .messages(&mallory.public_key().to_hex(), 1_000, None)
        .unwrap();
    assert!(!kept.is_empty() && kept.len() < 600, "{} kept", kept.len());
    assert!(kept.iter().all(|message| message.request));
}
