//! The fast way to answer a filter against the plain one.

use proptest::prelude::*;
use sotto_relay::config::IndexEngine;
use sotto_relay::store::Opened;
use sotto_relay::store::query::Room;
use wire::{Event, Filter, PublicKey};

use crate::files;
use crate::plain::plainly;
use crate::strategies::{event, filter};
use crate::support::{ids, now, person};

fn filled(folder: &std::path::Path, index: IndexEngine, events: &[Event]) -> Opened {
    let mut opened = files::open(folder, index);
    assert!(
        files::write(&mut opened, events)
            .iter()
            .all(|answer| answer.accepted)
    );
    opened
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("SOTTO_SLOW").is_some() { 300 } else { 12 }
    ))]

    #[test]
    fn r_query_1_every_filter_finds_what_the_plain_rule_finds(
        (events, filters) in prop::collection::vec(event(), 1..60).prop_flat_map(|events| {
            let filters = prop::collection::vec(filter(events.clone()), 20);
            (Just(events), filters)
        }),
        auth in prop::sample::subsequence(vec![1_u32, 2, 3], 0..=2),
    ) {
        let auth: Vec<_> = auth.into_iter().map(|n| person(n).key()).collect();
        let folder = tempfile::tempdir().unwrap();
        let stores = IndexEngine::ALL
            .map(|engine| (engine, filled(&folder.path().join(format!("{engine:?}")), engine, &events)));
        let in_memory = &stores.last().unwrap().1;
        for filter in filters {
            let wanted = ids(&plainly(&events, &filter, &auth));
            for (engine, opened) in &stores {
                let found = ids(&files::find(opened, filter.clone(), &auth));
                prop_assert_eq!(&found, &wanted, "{:?} {:?}", engine, &filter);
            }
            // R-EOSE-1: cut by either limit or not, the hint says so.
            let all = Filter { limit: None, ..filter.clone() };
            let all = plainly(&events, &all, &auth).len();
            for most in [1, 7, 1_000] {
                let (found, complete) =
                    files::find_at_most(in_memory, filter.clone(), &auth, most);
                prop_assert_eq!(found.len(), wanted.len().min(most));
                let truth = (filter.limit != Some(0)).then_some(found.len() == all);
                // Where others are named whose wraps might be here it never says that this is all.
                let truth = truth.filter(|all| !all || !names_others(&filter, &auth));
                prop_assert_eq!(complete, truth, "{} {:?}", most, &filter);
                // However little of one second can be held.
                for (bytes, held) in [(0, 1), (0, 3), (900, 2)] {
                    let room = Room { bytes, ids: held };
                    let (found, complete) =
                        files::find_within(in_memory, filter.clone(), &auth, most, now(), room);
                    let first = &wanted[..wanted.len().min(most)];
                    let found = ids(&found);
                    prop_assert_eq!(found.as_slice(), first, "{:?} {:?}", room, &filter);
                    prop_assert_eq!(complete, truth, "{:?} {:?}", room, &filter);
                }
            }
        }
    }
}

/// Whether the filter names people besides those of `auth`, and could match a guarded kind.
fn names_others(filter: &Filter, auth: &[PublicKey]) -> bool {
    let own: Vec<String> = auth.iter().map(PublicKey::to_hex).collect();
    let is_guarded = |kind: &u16| [4, 1059, 21059].contains(kind);
    let kinds = filter.kinds.as_ref();
    let people = filter.tags.get('p');
    kinds.is_none_or(|kinds| kinds.iter().any(is_guarded))
        && people.is_some_and(|people| people.iter().any(|key| !own.contains(key)))
}

#[test]
fn r_eose_1_a_hint_that_takes_a_long_search_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    // One that matches, and thousands behind it that share its kind alone.
    let mut events = vec![person(1).sign(1, 9_999, &[&["t", "x"], &["q", "y"]], "newest")];
    events.extend((0..3_000_u32).map(|n| {
        let at = 5_000 + u64::from(n);
        person(1).sign(1, at, &[&["t", "x"]], &n.to_string())
    }));
    let opened = filled(folder.path(), IndexEngine::Memory, &events);
    let author = Filter::default().with_authors([person(1).key()]);
    let filter = author.with_tag('q', ["y".to_owned()]);
    let (found, complete) = files::find_at_most(&opened, filter.clone(), &[], 1);
    assert_eq!((ids(&found), complete), (vec![events[0].id()], None));
    let (found, complete) = files::find_at_most(&opened, filter, &[], 2);
    assert_eq!((ids(&found), complete), (vec![events[0].id()], Some(true)));
}

#[test]
fn r_query_2_a_long_answer_comes_in_pages_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = person(2);
    let now = crate::support::now();
    let events: Vec<Event> = (0..3_000_u32)
        .map(|n| {
            let at = now - u64::from(n % 700);
            person(1).sign(1059, at, &[&["p", &to.key().to_hex()]], &n.to_string())
        })
        .collect();
    let filter = crate::support::mailbox(&to);
    let wanted = ids(&plainly(&events, &filter, &[to.key()]));
    for engine in IndexEngine::ALL {
        let opened = filled(&folder.path().join(format!("{engine:?}")), engine, &events);
        let found = files::find(&opened, filter.clone(), &[to.key()]);
        assert_eq!(ids(&found), wanted, "{engine:?}");
    }
}

/// More than is held of one second, in bytes, and in ids as well.
#[test]
fn r_query_3_a_second_larger_than_memory_is_in_the_order_of_ids_too() {
    for (count, content) in [(45_u32, 60_000), (9_000, 10)] {
        let folder = tempfile::tempdir().unwrap();
        let content = "x".repeat(content);
        let events: Vec<Event> = (0..count)
            .map(|n| {
                person(1).sign(
                    1,
                    5_000 + u64::from(n % 20 / 19),
                    &[],
                    &format!("{n}{content}"),
                )
            })
            .collect();
        let opened = filled(folder.path(), IndexEngine::Runs, &events);
        let filter = Filter::default().with_kinds([1]);
        let wanted = ids(&plainly(&events, &filter, &[]));
        for limit in [1, 10, wanted.len() - 3, wanted.len()] {
            let filter = Filter {
                limit: Some(limit),
                ..filter.clone()
            };
            let (found, complete) = files::find_at_most(&opened, filter, &[], 1_000_000);
            assert_eq!(ids(&found), wanted[..limit], "{limit} of {count}");
            assert_eq!(complete, Some(limit == wanted.len()), "{limit} of {count}");
        }
    }
}
