//! The home folder: making it, opening it, and everything that can be wrong with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use client_core::client::{Argon2Params, Protection, UnlockWith};
use client_core::home::{CircleRow, HomeFolder};
use client_core::{Error, ErrorWord, SecretText};
use crypto::{Seed, WordCount};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const NOW: u64 = 1_800_000_000;

fn pin(text: &str) -> UnlockWith {
    UnlockWith::Pin(SecretText::new(text.to_owned()))
}

struct Place {
    dir: tempfile::TempDir,
    rng: StdRng,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            rng: StdRng::seed_from_u64(1),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self) -> HomeFolder {
        HomeFolder::at(self.path("home"))
    }

    fn init(&mut self, unlock: &UnlockWith) -> Result<(), Error> {
        let mut making = self
            .home()
            .make(unlock, Argon2Params::LEAST, &mut self.rng)?;
        let seed = Seed::generate(&mut self.rng, WordCount::Twelve);
        making
            .unlocked
            .root
            .set_account(Some(&seed), Some("Anna"))?;
        making.finish().map(drop)
    }
}

fn word<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorWord, u8) {
    let error = result.unwrap_err();
    (error.word, error.exit)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_home_is_private_and_opens() {
    let mut place = Place::new();
    assert!(!place.home().exists());
    place.init(&pin("123456")).unwrap();
    let home = place.home();
    assert!(home.exists());
    assert_eq!(home.protection().unwrap(), Protection::Pin);
    let opened = home.unlock(&pin("123456\n"), NOW).unwrap();
    assert_eq!(opened.root.name().unwrap().as_deref(), Some("Anna"));
    assert!(opened.root.seed().unwrap().is_some());
    assert!(opened.warnings.is_empty());
    assert_eq!(mode(home.path()), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        let expected = if entry.file_type().unwrap().is_dir() {
            0o700
        } else {
            0o600
        };
        assert_eq!(mode(&entry.path()), expected, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    for name in [
        "lock.json",
        "protection",
        "device-secret",
        "tries",
        "root.db",
        "circles",
        "spool",
    ] {
        assert!(names.contains(&name.to_owned()), "{name}");
    }
    assert!(!names.contains(&"unfinished".to_owned()));
}

#[test]
fn a_home_that_is_not_there_is_not_found_and_a_second_init_is_a_conflict() {
    let mut place = Place::new();
    assert_eq!(
        word(place.home().unlock(&pin("1234"), NOW)),
        (ErrorWord::NotFound, 7)
    );
    place.init(&pin("1234")).unwrap();
    assert_eq!(word(place.init(&pin("9999"))), (ErrorWord::Conflict, 9));
    place.home().unlock(&pin("1234"), NOW).unwrap();
}

#[test]
fn pins_that_are_none_are_usage_errors() {
    let mut place = Place::new();
    for bad in ["", "123", "12345x"] {
        let (_, exit) = word(place.init(&pin(bad)));
        assert_eq!(exit, 2, "{bad}");
        assert!(!place.home().exists());
    }
    place.init(&pin("1234")).unwrap();
}

#[test]
fn the_third_wrong_try_starts_the_waits_and_success_ends_them() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let home = place.home();
    let mut now = NOW;
    for _ in 0..2 {
        let error = home.unlock(&pin("0000"), now).unwrap_err();
        assert_eq!((error.word, error.exit), (ErrorWord::PinWrong, 4));
        assert_eq!(error.retry_after_s, None);
    }
    for wait in [60, 300, 1_800, 21_600, 21_600] {
        let error = home.unlock(&pin("0000"), now).unwrap_err();
        assert_eq!((error.word, error.exit), (ErrorWord::PinWrong, 4));
        assert_eq!(error.retry_after_s, Some(wait));
        // During the wait the right one is not tried either, and nothing is counted.
        for try_ in ["0000", "1234"] {
            let error = home.unlock(&pin(try_), now + wait - 1).unwrap_err();
            assert_eq!((error.word, error.exit), (ErrorWord::PinLocked, 8));
            assert_eq!(error.retry_after_s, Some(1));
        }
        now += wait;
    }
    home.unlock(&pin("1234"), now).unwrap();
    let error = home.unlock(&pin("0000"), now).unwrap_err();
    assert_eq!(error.retry_after_s, None, "counted from the start again");
}

#[test]
fn a_try_is_on_disk_before_it_is_made() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let tries = place.path("home/tries");
    let fresh = std::fs::read(&tries).unwrap();
    place.home().unlock(&pin("0000"), NOW).unwrap_err();
    let one = std::fs::read(&tries).unwrap();
    assert_ne!(fresh, one);
    // The old record of no wrong tries is behind its twin in lock.json, and counts as the third.
    std::fs::write(&tries, &fresh).unwrap();
    let error = place.home().unlock(&pin("1234"), NOW).unwrap_err();
    assert_eq!(
        (error.word, error.retry_after_s),
        (ErrorWord::PinLocked, Some(60))
    );
}

#[test]
fn missing_or_damaged_tries_lock_for_a_minute_and_no_longer() {
    for damage in [None, Some(&b""[..]), Some(&[0; 53]), Some(&[0xff; 4_000])] {
        let mut place = Place::new();
        place.init(&pin("1234")).unwrap();
        let tries = place.path("home/tries");
        match damage {
            None => std::fs::remove_file(&tries).unwrap(),
            Some(bytes) => std::fs::write(&tries, bytes).unwrap(),
        }
        let home = place.home();
        for (later, left) in [(0, 60), (59, 1)] {
            let error = home.unlock(&pin("1234"), NOW + later).unwrap_err();
            assert_eq!((error.word, error.exit), (ErrorWord::PinLocked, 8));
            assert_eq!(error.retry_after_s, Some(left));
        }
        home.unlock(&pin("1234"), NOW + 60).unwrap();
        home.unlock(&pin("1234"), NOW).unwrap();
    }
}

#[test]
fn a_clock_set_back_does_not_shorten_the_wait() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let home = place.home();
    for _ in 0..3 {
        home.unlock(&pin("0000"), NOW).unwrap_err();
    }
    let error = home.unlock(&pin("1234"), NOW - 10_000).unwrap_err();
    assert_eq!(error.retry_after_s, Some(60));
    home.unlock(&pin("1234"), NOW - 10_000 + 60).unwrap();
}

#[test]
fn a_damaged_lock_is_an_integrity_error() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|lock| std::fs::write(lock, "{}").unwrap(),
        &|lock| std::fs::write(lock, vec![b' '; 100_000]).unwrap(),
        &|lock| std::fs::remove_file(lock).unwrap(),
        &|lock| {
            // Argon2 parameters that would take the machine's memory.
            let text = std::fs::read_to_string(lock).unwrap();
            assert!(text.contains("8192"));
            std::fs::write(lock, text.replace("8192", "4294967295")).unwrap();
        },
    ];
    for damage in damages {
        let mut place = Place::new();
        place.init(&pin("1234")).unwrap();
        damage(&place.path("home/lock.json"));
        assert_eq!(word(place.home().unlock(&pin("1234"), NOW)).1, 11);
        // Nothing is overwritten by a new init.
        assert!(matches!(word(place.init(&pin("1234"))).1, 9 | 11));
        assert!(place.path("home/root.db").exists());
    }
}

#[test]
fn a_damaged_store_is_said_to_be_damaged() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let root = place.path("home/root.db");
    for name in ["home/root.db-wal", "home/root.db-shm"] {
        let _ = std::fs::remove_file(place.path(name));
    }
    std::fs::write(&root, vec![0xa5; 8_192]).unwrap();
    assert_eq!(
        word(place.home().unlock(&pin("1234"), NOW)),
        (ErrorWord::StoreDamaged, 11)
    );
    std::fs::remove_file(&root).unwrap();
    assert_eq!(word(place.home().unlock(&pin("1234"), NOW)).1, 11);
    assert!(!root.exists(), "no empty one is made in its place");
}

#[test]
fn a_key_file_is_made_used_and_never_counted() {
    let mut place = Place::new();
    let key = UnlockWith::KeyFile(place.path("key"));
    place.init(&key).unwrap();
    assert_eq!(mode(&place.path("key")), 0o600);
    let content = std::fs::read_to_string(place.path("key")).unwrap();
    assert!(content.len() == 64 && content.bytes().all(|b| b.is_ascii_hexdigit()));
    let home = place.home();
    assert_eq!(home.protection().unwrap(), Protection::KeyFile);
    home.unlock(&key, NOW).unwrap();
    std::fs::write(place.path("other"), [9; 32]).unwrap();
    let other = UnlockWith::KeyFile(place.path("other"));
    for _ in 0..5 {
        let error = home.unlock(&other, NOW).unwrap_err();
        assert_eq!((error.word, error.exit), (ErrorWord::PinWrong, 4));
        assert_eq!(error.retry_after_s, None);
    }
    home.unlock(&key, NOW).unwrap();
    assert_eq!(word(home.unlock(&pin("1234"), NOW)), (ErrorWord::Locked, 4));
    let missing = UnlockWith::KeyFile(place.path("nowhere"));
    assert_eq!(word(home.unlock(&missing, NOW)).1, 7);
    std::fs::write(place.path("short"), [9; 31]).unwrap();
    assert_eq!(
        word(home.unlock(&UnlockWith::KeyFile(place.path("short")), NOW)).1,
        2
    );
    std::fs::write(place.path("long"), [9; 4_097]).unwrap();
    assert_eq!(
        word(home.unlock(&UnlockWith::KeyFile(place.path("long")), NOW)).1,
        2
    );
}

#[test]
fn a_key_file_that_is_there_is_used_as_it_is() {
    let mut place = Place::new();
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(place.path("key"), &bytes).unwrap();
    let key = UnlockWith::KeyFile(place.path("key"));
    place.init(&key).unwrap();
    assert_eq!(std::fs::read(place.path("key")).unwrap(), bytes);
    place.home().unlock(&key, NOW).unwrap();
}

#[test]
fn another_homes_device_secret_opens_nothing() {
    let mut one = Place::new();
    let mut two = Place::new();
    two.rng = StdRng::seed_from_u64(2);
    one.init(&pin("1234")).unwrap();
    two.init(&pin("1234")).unwrap();
    std::fs::copy(
        two.path("home/device-secret"),
        one.path("home/device-secret"),
    )
    .unwrap();
    // With a PIN the tries no longer verify.
    assert_eq!(
        word(one.home().unlock(&pin("1234"), NOW)),
        (ErrorWord::PinLocked, 8)
    );
    assert_eq!(
        word(one.home().unlock(&pin("1234"), NOW + 60)),
        (ErrorWord::PinWrong, 4)
    );

    let mut one = Place::new();
    let key = UnlockWith::KeyFile(one.path("key"));
    one.init(&key).unwrap();
    std::fs::copy(
        two.path("home/device-secret"),
        one.path("home/device-secret"),
    )
    .unwrap();
    assert_eq!(word(one.home().unlock(&key, NOW)), (ErrorWord::PinWrong, 4));
}

#[test]
fn a_changed_pin_leaves_no_way_back() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let home = place.home();
    let old_device = std::fs::read(place.path("home/device-secret")).unwrap();
    let old_lock = std::fs::read(place.path("home/lock.json")).unwrap();
    home.change(&pin("1234"), &pin("567890"), NOW, &mut place.rng)
        .unwrap();
    assert_ne!(
        std::fs::read(place.path("home/device-secret")).unwrap(),
        old_device
    );
    home.unlock(&pin("567890"), NOW).unwrap();
    assert_eq!(word(home.unlock(&pin("1234"), NOW)).1, 4);
    home.unlock(&pin("567890"), NOW).unwrap();
    // The old lock beside the new device secret is of no use.
    std::fs::write(place.path("home/lock.json"), old_lock).unwrap();
    assert_eq!(word(home.unlock(&pin("1234"), NOW)).1, 4);
    assert!(!place.path("home/lock.json.next").exists());
}

#[test]
fn a_pin_may_become_a_key_file_and_a_short_one_changes_nothing() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let home = place.home();
    assert_eq!(
        word(home.change(&pin("1234"), &pin("12"), NOW, &mut place.rng)).1,
        2
    );
    assert_eq!(
        word(home.change(&pin("9999"), &pin("5678"), NOW, &mut place.rng)).1,
        4
    );
    let key = UnlockWith::KeyFile(place.path("key"));
    home.change(&pin("1234"), &key, NOW, &mut place.rng)
        .unwrap();
    assert_eq!(home.protection().unwrap(), Protection::KeyFile);
    home.unlock(&key, NOW).unwrap();
}

#[test]
fn a_change_that_a_crash_cut_off_is_ended_by_the_next_opening() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let before: Vec<(&str, Vec<u8>)> = ["lock.json", "device-secret", "protection", "tries"]
        .map(|name| (name, std::fs::read(place.path("home").join(name)).unwrap()))
        .into();
    let home = place.home();
    home.change(&pin("1234"), &pin("5678"), NOW, &mut place.rng)
        .unwrap();
    // As it was just before the renames: new files beside, old ones in place.
    for (name, old) in before {
        let path = place.path("home").join(name);
        if name != "tries" {
            std::fs::rename(&path, path.with_file_name(format!("{name}.next"))).unwrap();
        }
        std::fs::write(&path, old).unwrap();
    }
    // The tries are of the old device secret: a wait, and then the new PIN.
    assert_eq!(word(home.unlock(&pin("5678"), NOW)).1, 8);
    home.unlock(&pin("5678"), NOW + 60).unwrap();
}

#[test]
fn an_init_that_a_crash_cut_off_is_begun_anew() {
    let mut place = Place::new();
    let making = place
        .home()
        .make(&pin("1234"), Argon2Params::LEAST, &mut place.rng)
        .unwrap();
    // While it is at work no other may begin.
    let mut other = StdRng::seed_from_u64(3);
    assert_eq!(
        word(
            place
                .home()
                .make(&pin("1"), Argon2Params::LEAST, &mut other)
        )
        .1,
        9
    );
    drop(making);
    assert!(!place.home().exists());
    assert_eq!(word(place.home().unlock(&pin("1234"), NOW)).1, 7);
    place.init(&pin("567890")).unwrap();
    place.home().unlock(&pin("567890"), NOW).unwrap();
}

#[test]
fn a_folder_with_other_things_in_it_keeps_them() {
    let mut place = Place::new();
    std::fs::create_dir(place.path("home")).unwrap();
    std::fs::write(place.path("home/diary.txt"), "mine").unwrap();
    place.init(&pin("1234")).unwrap();
    assert_eq!(word(place.home().remove(&pin("0000"), NOW)).1, 4);
    assert!(place.home().exists());
    place.home().remove(&pin("1234"), NOW).unwrap();
    let left: Vec<_> = std::fs::read_dir(place.path("home")).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(
        std::fs::read_to_string(place.path("home/diary.txt")).unwrap(),
        "mine"
    );
    place.init(&pin("5678")).unwrap();
}

#[test]
fn links_in_the_place_of_secrets_are_not_followed() {
    for name in ["lock.json", "device-secret", "tries", "root.db"] {
        let mut place = Place::new();
        place.init(&pin("1234")).unwrap();
        let path = place.path("home").join(name);
        let moved = place.path("moved");
        std::fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        place.home().unlock(&pin("1234"), NOW).unwrap_err();
    }
}

#[test]
fn secrets_that_others_could_read_are_closed_with_a_warning() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let device = place.path("home/device-secret");
    std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o644)).unwrap();
    let opened = place.home().unlock(&pin("1234"), NOW).unwrap();
    assert_eq!(opened.warnings.len(), 1);
    assert_eq!(mode(&device), 0o600);
}

#[test]
fn circles_keep_index_and_folder_and_names_are_unique() {
    let mut place = Place::new();
    place.init(&pin("1234")).unwrap();
    let mut opened = place.home().unlock(&pin("1234"), NOW).unwrap();
    let seed = opened.root.seed().unwrap().unwrap();
    let row = |index, name: &str| CircleRow {
        index,
        name: name.to_owned(),
        folder: String::new(),
        relays: vec!["ws://127.0.0.1:7447".parse().unwrap()],
        file_servers: Vec::new(),
        expire_s: Some(60),
        made_at: NOW,
        removed: false,
    };
    for (index, name) in [(0, "personal"), (1, "work")] {
        let key = seed.account_key(index).unwrap();
        let added = opened
            .root
            .add_circle(&row(index, name), Some(&key), &mut place.rng)
            .unwrap();
        assert_eq!(added.folder.len(), 16);
        assert_eq!(
            opened.root.account_key(index).unwrap().public_key(),
            key.public_key()
        );
    }
    let again = opened
        .root
        .add_circle(&row(2, "work"), None, &mut place.rng);
    assert_eq!(word(again).1, 9);
    assert_eq!(opened.root.unpublished().unwrap(), Some(2));
    opened.root.set_published(2).unwrap();
    assert_eq!(opened.root.unpublished().unwrap(), None);
    let removed = CircleRow {
        name: String::new(),
        removed: true,
        ..row(1, "")
    };
    opened.root.update_circle(&removed).unwrap();
    assert_eq!(opened.root.account_key(1).unwrap_err().exit, 11);
    assert!(
        opened
            .root
            .add_circle(&row(2, "work"), None, &mut place.rng)
            .is_ok()
    );
    drop(opened);
    let opened = place.home().unlock(&pin("1234"), NOW).unwrap();
    assert_eq!(opened.root.circles().unwrap().len(), 3);
}
