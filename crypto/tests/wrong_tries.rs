//! Wrong tries: the schedule, the file, and what an attacker or a bad clock does to them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use crypto::tries::TRIES_BYTES;
use crypto::{Attempt, DeviceSecret, Tries};
use proptest::prelude::*;

const NOW: u64 = 1_760_000_000;

fn device(byte: u8) -> DeviceSecret {
    DeviceSecret::from_secret_bytes([byte; 32])
}

/// A wrong try at `now`; the record that stands afterwards.
fn wrong(tries: Tries, now: u64) -> Tries {
    match tries.begin(now) {
        Attempt::Allowed(record) => record,
        Attempt::Wait { retry_after_s, .. } => panic!("wait of {retry_after_s} s"),
    }
}

#[test]
fn waits_follow_the_schedule() {
    let mut tries = Tries::fresh(0);
    let mut now = NOW;
    for (number, wait) in [
        (1, 0),
        (2, 0),
        (3, 60),
        (4, 300),
        (5, 1_800),
        (6, 21_600),
        (7, 21_600),
        (8, 21_600),
    ] {
        tries = wrong(tries, now);
        assert_eq!((tries.count(), tries.retry_after_s(now)), (number, wait));
        if wait > 0 {
            let early = tries.begin(now + wait - 1);
            assert!(matches!(
                early,
                Attempt::Wait { retry_after_s: 1, record } if record == tries
            ));
        }
        now += wait;
    }
    assert_eq!(tries.succeed().count(), 0);
    assert!(tries.succeed().counter() > tries.counter());
}

#[test]
fn a_record_survives_the_file_and_is_that_of_the_document() {
    let tries = wrong(wrong(wrong(Tries::fresh(0), NOW), NOW), NOW);
    let bytes = tries.encode(&device(0x44));
    assert_eq!(bytes.len(), TRIES_BYTES);
    let again = Tries::decode(Some(&bytes), &device(0x44), tries.counter(), NOW);
    assert_eq!(again, tries);

    let document = include_str!("../../docs/protocol/lock.md");
    let vector: String = document
        .lines()
        .last()
        .unwrap()
        .trim_matches('`')
        .to_owned();
    let printed = hex::decode(vector).unwrap();
    let read = Tries::decode(Some(&printed), &device(0x44), 3, 0);
    assert_eq!(
        (read.counter(), read.count(), read.retry_after_s(NOW)),
        (3, 3, 60)
    );
    assert_eq!(read.encode(&device(0x44)), printed);
}

#[test]
fn a_file_that_is_missing_damaged_or_old_is_the_third_wrong_try() {
    let old = wrong(Tries::fresh(0), NOW);
    let new = wrong(old, NOW);
    let old = old.encode(&device(1));
    let mut damaged = new.encode(&device(1));
    damaged[5] ^= 1;
    let twin = new.counter();
    let foreign = new.encode(&device(2));
    let short = &old[..old.len() - 1];
    for file in [
        None,
        Some(&[][..]),
        Some(&damaged),
        Some(&old),
        Some(&foreign),
        Some(short),
    ] {
        let tries = Tries::decode(file, &device(1), twin, NOW);
        assert_eq!((tries.count(), tries.retry_after_s(NOW)), (3, 60));
        assert!(tries.counter() > twin);
        assert!(matches!(
            tries.begin(NOW),
            Attempt::Wait {
                retry_after_s: 60,
                ..
            }
        ));
    }
    // Ahead of the twin is a crash between the two files, and fine.
    let fine = new.encode(&device(1));
    assert_eq!(Tries::decode(Some(&fine), &device(1), twin - 1, NOW), new);
}

#[test]
fn a_clock_set_back_restarts_the_wait_and_no_more() {
    let ahead = NOW + 50 * 365 * 86_400;
    let tries = wrong(wrong(wrong(Tries::fresh(0), ahead), ahead), ahead);
    let Attempt::Wait {
        retry_after_s,
        record,
    } = tries.begin(NOW)
    else {
        panic!("allowed during a wait")
    };
    assert_eq!(retry_after_s, 60);
    assert_eq!(record.count(), tries.count());
    assert_eq!(record.retry_after_s(NOW), 60);
    assert!(matches!(record.begin(NOW + 60), Attempt::Allowed(_)));
}

proptest! {
    #[test]
    fn no_sequence_of_times_gives_more_tries_than_the_schedule(
        steps in prop::collection::vec(0_u64..4_000, 1..200),
    ) {
        let (mut tries, mut now, mut last) = (Tries::fresh(0), NOW, None::<(u64, u32)>);
        for step in steps {
            now += step;
            match tries.begin(now) {
                Attempt::Allowed(record) => {
                    if let Some((at, count)) = last {
                        let wait = match count {
                            0..=2 => 0,
                            3 => 60,
                            4 => 300,
                            5 => 1_800,
                            _ => 21_600,
                        };
                        prop_assert!(now - at >= wait);
                    }
                    prop_assert_eq!(record.count(), tries.count() + 1);
                    prop_assert!(record.counter() > tries.counter());
                    last = Some((now, record.count()));
                    tries = record;
                }
                Attempt::Wait { retry_after_s, record } => {
                    prop_assert!(retry_after_s > 0 && retry_after_s <= 21_600);
                    prop_assert_eq!(record, tries);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_the_third_wrong_try(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let tries = Tries::decode(Some(&bytes), &device(1), 0, NOW);
        prop_assert_eq!(tries.count(), 3);
    }
}
