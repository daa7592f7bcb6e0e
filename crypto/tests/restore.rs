//! What a restore rests on: seed words, exports, circle definitions; and that no secret prints.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use bytes::Bytes;
use crypto::backup::{self, BackupError};
use crypto::circles::{Circle, Circles, CirclesError, PAGE_BYTES};
use crypto::{
    AccountKey, DataKey, DeletionSecret, DeviceId, DeviceSecret, FileKey, KeyFile, OneTimeKey,
    SecretText, Seed, Unlock, WordCount,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::{Event, VerifiedEvent};

const NOW: u64 = 1_760_000_000;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn device(byte: u8) -> DeviceSecret {
    DeviceSecret::from_secret_bytes([byte; 32])
}

#[test]
fn an_export_needs_a_real_passphrase() {
    let key = AccountKey::from_secret_bytes(&[3; 32]).unwrap();
    let strong = SecretText::new("une phrase secrète".to_owned());
    for weak in ["", "short", "elevenchars", "123456789012345"] {
        let text = SecretText::new(weak.to_owned());
        let result = backup::export(&key, &text, 10, &mut rng());
        assert_eq!(result.unwrap_err(), BackupError::WeakPassphrase, "{weak}");
    }
    let text = backup::export(&key, &strong, 10, &mut rng()).unwrap();
    assert!(text.starts_with("ncryptsec1"));
    let again = backup::import(&text, &strong).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    let other = SecretText::new("une phrase secrete".to_owned());
    assert_eq!(
        backup::import(&text, &other).unwrap_err(),
        BackupError::Wrong
    );
    for bad in [
        "",
        "ncryptsec1",
        "nsec1x",
        &"q".repeat(1_000),
        text.trim_start_matches('n'),
    ] {
        assert_eq!(
            backup::import(bad, &strong).unwrap_err(),
            BackupError::Malformed
        );
    }
}

fn circle(index: u32, name: &str, made_at: u64) -> Circle {
    Circle {
        index,
        name: name.to_owned(),
        relays: vec!["wss://relay.example".parse().unwrap()],
        file_servers: vec!["https://files.example".parse().unwrap()],
        ttl: Some(86_400),
        made_at,
        removed: false,
    }
}

#[test]
fn circle_definitions_come_back_with_the_words_and_with_nothing_else() {
    let mut rng = rng();
    let seed = Seed::generate(&mut rng, WordCount::TwentyFour);
    let account = seed.account_key(0).unwrap();
    let mut circles = Circles::new();
    circles.merge_circle(circle(0, "personal", NOW));
    circles.merge_circle(circle(1, "work", NOW));
    circles.remove(1, NOW + 1);
    let event = circles
        .seal(&account, &seed.circles_key(), NOW, &mut rng)
        .unwrap();
    let text = String::from_utf8_lossy(event.json()).into_owned();
    assert!(!text.contains("personal") && !text.contains("relay.example"));
    let event = VerifiedEvent::verify(Event::decode(Bytes::from(text)).unwrap()).unwrap();

    let restored = Seed::from_words(&seed.expose_secret_words()).unwrap();
    let account = restored.account_key(0).unwrap();
    let read = Circles::open(&event, &account, &restored.circles_key()).unwrap();
    assert_eq!(read, circles);
    assert!(read.find(1).unwrap().removed && read.find(1).unwrap().relays.is_empty());
    assert_eq!(read.next_index(), 2);

    let other = Seed::generate(&mut rng, WordCount::Twelve);
    assert_eq!(
        Circles::open(&event, &account, &other.circles_key()).unwrap_err(),
        CirclesError::Damaged
    );
    assert_eq!(
        Circles::open(&event, &other.account_key(0).unwrap(), &seed.circles_key()).unwrap_err(),
        CirclesError::Foreign
    );
}

#[test]
fn the_size_of_circle_definitions_hides_their_number() {
    let seed = Seed::from_secret_entropy(&[1; 32]).unwrap();
    let account = seed.account_key(0).unwrap();
    let size = |count: u32| {
        let mut circles = Circles::new();
        for index in 0..count {
            circles.merge_circle(circle(index, "a name", NOW));
        }
        let event = circles
            .seal(&account, &seed.circles_key(), NOW, &mut rng())
            .unwrap();
        event.content().len()
    };
    assert_eq!(size(0), size(8));
    let bytes = |length: usize| length.div_ceil(3) * 4;
    assert_eq!(size(1), bytes(24 + PAGE_BYTES + 16));
    assert_eq!(size(40), bytes(24 + 2 * PAGE_BYTES + 16));
}

proptest! {
    #[test]
    fn merging_in_any_order_and_twice_ends_the_same(
        seeds in prop::collection::vec((0_u32..3, 0_u64..3, any::<bool>(), 0_u8..3), 0..8),
        order: u64,
    ) {
        let versions: Vec<Circle> = seeds
            .into_iter()
            .map(|(index, made_at, removed, name)| Circle {
                removed,
                ..circle(index, &format!("name {name}"), made_at)
            })
            .collect();
        let merge = |versions: &[Circle]| {
            let mut circles = Circles::new();
            for version in versions {
                circles.merge_circle(version.clone());
            }
            circles
        };
        let straight = merge(&versions);
        let mut shuffled = [versions.clone(), versions.clone()].concat();
        let mut rng = StdRng::seed_from_u64(order);
        for index in (1..shuffled.len()).rev() {
            let other = usize::try_from(rng.next_u64() % (index as u64 + 1)).unwrap();
            shuffled.swap(index, other);
        }
        let mut both = merge(&shuffled);
        prop_assert_eq!(&both, &straight);
        both.merge(straight.clone());
        prop_assert_eq!(both, straight);
    }
}

#[test]
fn seeds_have_12_or_24_words_and_say_what_is_wrong() {
    let mut rng = rng();
    for (count, words) in [(WordCount::Twelve, 12), (WordCount::TwentyFour, 24)] {
        let seed = Seed::generate(&mut rng, count);
        let text = seed.expose_secret_words();
        assert_eq!(text.expose_secret().split(' ').count(), words);
        let untidy = format!(
            "  {}\n",
            text.expose_secret().to_uppercase().replace(' ', "\t ")
        );
        let again = Seed::from_words(&SecretText::new(untidy)).unwrap();
        assert_eq!(again.expose_secret_entropy(), seed.expose_secret_entropy());
    }
    let refuse = |text: &str| Seed::from_words(&SecretText::new(text.to_owned())).unwrap_err();
    let abandon = "abandon ".repeat(11);
    assert_eq!(refuse(""), crypto::SeedError::Count);
    assert_eq!(refuse(&abandon), crypto::SeedError::Count);
    assert_eq!(
        refuse(&format!("{abandon}abandon")),
        crypto::SeedError::Checksum
    );
    assert_eq!(
        refuse(&format!("{abandon}abaut")),
        crypto::SeedError::UnknownWord(12)
    );
}

#[test]
fn no_secret_shows_in_debug_output() {
    let mut rng = rng();
    let seed = Seed::generate(&mut rng, WordCount::Twelve);
    let account = AccountKey::from_secret_bytes(&[0xab; 32]).unwrap();
    let conversation = account.conversation_with(&account.public_key()).unwrap();
    let text = SecretText::new("hunter2 hunter2".to_owned());
    let file = KeyFile::new(vec![0xab; 32]).unwrap();
    let printed = [
        format!("{seed:?}"),
        format!("{:?}", seed.expose_secret_words()),
        format!("{:?}", seed.circles_key()),
        format!("{:?}", seed.list_key(0).unwrap()),
        format!("{account:?}"),
        format!("{:?}", OneTimeKey::from_secret_bytes(&[0xab; 32]).unwrap()),
        format!("{conversation:?}"),
        format!("{:?}", DeletionSecret::from_secret_bytes([0xab; 32])),
        format!("{:?}", DeviceId::from_bytes([0xab; 16])),
        format!("{:?}", device(0xab)),
        format!("{:?}", DataKey::from_secret_bytes([0xab; 32])),
        format!("{:?}", DataKey::from_secret_bytes([0xab; 32]).root_store()),
        format!("{text:?}"),
        format!("{file:?}"),
        format!("{:?}", Unlock::KeyFile(file.clone())),
        format!("{:?}", Unlock::from_text("hunter2 hunter2").unwrap()),
        format!("{:?}", FileKey::from_secret_bytes([0xab; 32], [0xab; 19])),
        format!(
            "{:?}",
            crypto::foreign_file::ForeignFileKey::from_tags(&"ab".repeat(32), &"ab".repeat(12))
                .unwrap()
        ),
    ];
    let words = seed.expose_secret_words();
    for text in printed {
        let low = text.to_lowercase();
        assert!(!low.contains("abab") && !low.contains("171, 171"), "{text}");
        assert!(!low.contains("hunter"), "{text}");
        for word in words.expose_secret().split(' ') {
            let shown = low
                .split(|c: char| !c.is_alphabetic())
                .any(|part| part == word);
            assert!(!shown || word == "secret", "{text}");
        }
    }
}
