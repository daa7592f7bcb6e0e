//! The lock of a home: who opens it, what damages it, what it does not tell.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use crypto::{Argon2Params, DataKey, DeviceSecret, KeyFile, Lock, LockError, Unlock};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn device(byte: u8) -> DeviceSecret {
    DeviceSecret::from_secret_bytes([byte; 32])
}

fn pin(text: &str) -> Unlock {
    Unlock::from_text(text).unwrap()
}

fn key_file(byte: u8) -> Unlock {
    Unlock::KeyFile(KeyFile::new(vec![byte; 32]).unwrap())
}

fn lock(ways: &[Unlock]) -> (Lock, DataKey) {
    Lock::create(Argon2Params::LEAST, ways, &device(1), &mut rng()).unwrap()
}

#[test]
fn each_way_opens_and_nothing_else_does() {
    let (lock, key) = lock(&[pin("2580"), key_file(9), pin("correct horse")]);
    let lock = Lock::decode(lock.to_json().as_bytes()).unwrap();
    for way in [pin("2580"), key_file(9), pin("correct horse")] {
        assert_eq!(lock.open(&way, &device(1)).unwrap(), key);
    }
    for way in [pin("2581"), key_file(8), pin("Correct horse")] {
        assert_eq!(lock.open(&way, &device(1)).unwrap_err(), LockError::Wrong);
    }
    for way in [pin("2580"), key_file(9)] {
        assert_eq!(lock.open(&way, &device(2)).unwrap_err(), LockError::Wrong);
    }
}

#[test]
fn a_pin_typed_on_another_keyboard_is_the_same_pin() {
    let (lock, key) = lock(&[pin("1234")]);
    // Full-width digits, and the line end of a PIN file.
    let wide = pin("\u{ff11}\u{ff12}\u{ff13}\u{ff14}\n");
    assert!(matches!(wide, Unlock::Pin(_)));
    assert_eq!(lock.open(&wide, &device(1)).unwrap(), key);
}

#[test]
fn short_pins_and_odd_key_files_are_usage_errors() {
    for text in ["", "1", "123", " 123 ", "abc"] {
        assert_eq!(Unlock::from_text(text).unwrap_err(), LockError::TooShort);
    }
    let long = "1".repeat(1_025);
    assert_eq!(Unlock::from_text(&long).unwrap_err(), LockError::TooLong);
    for size in [0, 31, 4_097] {
        let file = KeyFile::new(vec![0; size]);
        assert_eq!(file.unwrap_err(), LockError::KeyFileSize);
    }
    assert!(KeyFile::new(vec![0; 32]).is_ok() && KeyFile::new(vec![0; 4_096]).is_ok());
    let generated = KeyFile::generate(&mut rng());
    assert_eq!(generated.expose_secret_bytes().len(), 64);
    let none = Lock::create(Argon2Params::LEAST, &[], &device(1), &mut rng());
    assert_eq!(none.unwrap_err(), LockError::Slots);
}

#[test]
fn the_file_does_not_tell_how_many_ways_in_there_are() {
    let one = lock(&[key_file(1)]).0.to_json();
    let four = lock(&[key_file(1), key_file(2), key_file(3), key_file(4)])
        .0
        .to_json();
    assert_eq!(one.len(), four.len());
    // A used slot is at every place in turn.
    let mut rng = rng();
    let (way, device) = ([key_file(1)], device(1));
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let (lock, _) = Lock::create(Argon2Params::LEAST, &way, &device, &mut rng).unwrap();
        let mut file: serde_json::Value = serde_json::from_str(&lock.to_json()).unwrap();
        for place in 0..4 {
            let kept = file["slots"][place].take();
            file["slots"][place] = "00".repeat(72).into();
            let spoiled = Lock::decode(file.to_string().as_bytes()).unwrap();
            if spoiled.open(&way[0], &device).is_err() {
                places.insert(place);
            }
            file["slots"][place] = kept;
        }
    }
    assert_eq!(places.len(), 4);
}

#[test]
fn parameters_out_of_bounds_are_damage_before_any_work() {
    let (lock, _) = lock(&[key_file(1)]);
    let json = lock.to_json();
    let spoil = |field: &str, value: u64| {
        let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
        file["argon2id"][field] = value.into();
        Lock::decode(file.to_string().as_bytes()).unwrap_err()
    };
    for (field, value) in [
        ("m", 0),
        ("m", 8_191),
        ("m", 1_048_577),
        ("m", u64::from(u32::MAX)),
        ("t", 0),
        ("t", 11),
        ("p", 0),
        ("p", 5),
    ] {
        assert_eq!(spoil(field, value), LockError::Damaged, "{field} {value}");
    }
    let large = Argon2Params {
        m: u32::MAX,
        ..Argon2Params::LEAST
    };
    let made = Lock::create(large, &[key_file(1)], &device(1), &mut rng());
    assert_eq!(made.unwrap_err(), LockError::Damaged);
}

#[test]
fn a_damaged_lock_is_refused_and_a_moved_slot_does_not_open() {
    let (lock, _) = lock(&[key_file(1)]);
    let json = lock.to_json();
    for bad in [
        "",
        "{}",
        "null",
        json.split_at(json.len() / 2).0,
        &json.replace("\"version\": 1", "\"version\": 2"),
        &" ".repeat(5_000),
    ] {
        assert_eq!(
            Lock::decode(bad.as_bytes()).unwrap_err(),
            LockError::Damaged
        );
    }
    let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
    file["slots"].as_array_mut().unwrap().rotate_left(1);
    let moved = Lock::decode(file.to_string().as_bytes()).unwrap();
    assert_eq!(
        moved.open(&key_file(1), &device(1)).unwrap_err(),
        LockError::Wrong
    );
    let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
    file["argon2id"]["t"] = 2.into();
    let weakened = Lock::decode(file.to_string().as_bytes()).unwrap();
    assert_eq!(
        weakened.open(&key_file(1), &device(1)).unwrap_err(),
        LockError::Wrong
    );
}

#[test]
fn a_change_keeps_the_data_key_and_ends_the_old_ways() {
    let (old, key) = lock(&[key_file(1)]);
    let old = old.with_tries(5);
    let new = old
        .change(
            &key,
            Argon2Params::LEAST,
            &[key_file(2)],
            &device(2),
            &mut rng(),
        )
        .unwrap();
    assert_eq!(new.open(&key_file(2), &device(2)).unwrap(), key);
    assert!(new.open(&key_file(1), &device(2)).is_err());
    assert!(new.open(&key_file(2), &device(1)).is_err());
    assert_eq!(new.tries(), 5);
    assert_eq!(new.with_tries(3).tries(), 5, "the twin never goes back");
}

#[test]
fn store_keys_are_those_of_the_document() {
    let key = DataKey::from_secret_bytes([0x55; 32]);
    let document = include_str!("../../docs/protocol/lock.md");
    for (label, key) in [
        ("db/root", key.root_store()),
        ("db/0", key.circle_store(0)),
        ("db/7", key.circle_store(7)),
        ("spool", key.spool()),
    ] {
        let row = format!(
            "| `{label}` | `{}` |",
            hex::encode(key.expose_secret_bytes())
        );
        assert!(document.contains(&row), "docs/protocol/lock.md lacks {row}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_as_a_lock(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Lock::decode(&bytes).is_err());
    }
}
