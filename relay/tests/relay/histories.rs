//! Random histories of a relay, and its answers afterwards against the plain reading of the rules.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use sotto_relay::config::{Clock, Config, IndexEngine, Storage};
use sotto_relay::pipeline;
use sotto_relay::policy::{self, Law, OwnUrls, Rules};
use sotto_relay::roster::Roster;
use sotto_relay::store::Opened;
use sotto_relay::store::recovery::{self, DiskOptions};
use wire::{Event, Filter, PublicKey, VerifiedEvent};

use crate::files;
use crate::plain::{PlainRelay, Window, may_ask, plainly};
use crate::strategies::{Draft, Question, Step, draft, question, step};
use crate::support::{Client, Person, ids, person, start, subscription};

/// Short, so that histories reach past it.
const WINDOW: Window = Window {
    past: 30,
    future: 10,
};
/// When every history begins.
const BEGIN: u64 = 10_000;
/// Nobody, one reader, two.
const READERS: [&[u32]; 3] = [&[], &[1], &[2, 3]];

fn rules() -> Rules {
    Rules {
        wrap_past: Some(WINDOW.past),
        future: WINDOW.future,
        ..Rules::default()
    }
}

fn keys(numbers: &[u32]) -> Vec<PublicKey> {
    numbers.iter().map(|number| person(*number).key()).collect()
}

/// A store with one engine.
struct Kept {
    engine: IndexEngine,
    folder: PathBuf,
    opened: Option<Opened>,
}

impl Kept {
    fn new(engine: IndexEngine, folder: PathBuf) -> Self {
        let mut kept = Self {
            engine,
            folder,
            opened: None,
        };
        kept.open();
        kept
    }

    /// In segments of a few events, so that they close, die and are moved.
    fn open(&mut self) {
        let options = DiskOptions {
            segment_bytes: 4_096,
            ..files::options(&self.folder, self.engine)
        };
        let opened = recovery::open(&options, rules()).unwrap();
        assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
        self.opened = Some(opened);
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().unwrap()
    }

    /// Judged one by one and written together, as the relay does; whether each was accepted.
    fn write(&mut self, events: &[Event], now: u64) -> Vec<bool> {
        let (rules, roster, own) = (rules(), Roster::default(), OwnUrls::default());
        let law = Law {
            rules: &rules,
            roster: &roster,
            own: &own,
        };
        let verdicts: Vec<_> = events
            .iter()
            .map(|event| policy::judge(event, &[], now, law))
            .collect();
        let jobs: Vec<_> = events
            .iter()
            .zip(&verdicts)
            .filter_map(|(event, verdict)| {
                let event = VerifiedEvent::verify(event.clone()).unwrap();
                Some((event, (*verdict).ok()?))
            })
            .collect();
        let answers = pipeline::write_all(&mut self.opened().writer, &jobs, now);
        let mut answers = answers.into_iter().map(|answer| answer.accepted);
        verdicts
            .iter()
            .map(|verdict| verdict.is_ok() && answers.next().unwrap())
            .collect()
    }

    fn go_through(&mut self, step: &Step, now: u64) {
        match step {
            Step::Write(_) | Step::Wait(_) => {}
            Step::Sweep => {
                self.opened().writer.sweep(now).unwrap();
            }
            Step::CompactLog => {
                self.opened().writer.compact_one(now, false).unwrap();
            }
            Step::CompactSome => {
                self.opened().writer.compact_some(now, false).unwrap();
            }
            Step::CompactIndex => self.opened().store.compact_index().unwrap(),
            Step::Reopen => {
                self.opened().store.close().unwrap();
                self.opened = None;
                self.open();
            }
            Step::Crash => {
                self.opened = None;
                self.open();
            }
            Step::LoseIndex => {
                self.opened = None;
                if self.engine != IndexEngine::Memory {
                    std::fs::remove_dir_all(self.folder.join("index")).unwrap();
                }
                self.open();
            }
        }
    }

    fn find(&mut self, filter: &Filter, auth: &[PublicKey], now: u64) -> Vec<Event> {
        files::find_at(self.opened(), filter.clone(), auth, usize::MAX, now).0
    }
}

fn cases(ordinary: u32, slow: u32) -> ProptestConfig {
    let is_slow = std::env::var_os("SOTTO_SLOW").is_some();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if is_slow { slow } else { ordinary })
    }
}

proptest! {
    #![proptest_config(cases(10, 1_000))]

    #[test]
    fn r_query_5_after_any_history_every_engine_answers_as_the_plain_rules_say(
        steps in prop::collection::vec(step(), 1..40),
        questions in prop::collection::vec(question(), 6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = IndexEngine::ALL
            .map(|engine| Kept::new(engine, folder.path().join(format!("{engine:?}"))));
        let mut plain = PlainRelay::new(WINDOW);
        let mut published = Vec::new();
        let mut now = BEGIN;
        for (at, step) in steps.iter().enumerate() {
            let mut events = Vec::new();
            match step {
                Step::Write(drafts) => {
                    for draft in drafts {
                        let event = draft.event(&published, now);
                        published.extend(event.clone());
                        events.extend(event);
                    }
                }
                Step::Wait(seconds) => now += seconds,
                Step::Sweep => plain.sweep(now),
                _ => {}
            }
            let wanted: Vec<bool> = events.iter().map(|event| plain.publish(event, now)).collect();
            for store in &mut stores {
                store.go_through(step, now);
                let accepted = store.write(&events, now);
                prop_assert_eq!(&accepted, &wanted, "{:?}, step {}: {:?}", store.engine, at, events);
            }
            // Everything after each step, and the questions at the end.
            let everything = [Question::everything()];
            let questions = match at + 1 == steps.len() {
                true => &questions[..],
                false => &everything,
            };
            for question in questions {
                let filter = question.clone().about(&published);
                for readers in READERS {
                    let auth = keys(readers);
                    let wanted = ids(&plain.ask(std::slice::from_ref(&filter), &auth, now));
                    for store in &mut stores {
                        let found = ids(&store.find(&filter, &auth, now));
                        prop_assert_eq!(
                            &found, &wanted, "{:?}, step {}, {:?}: {:?}", store.engine, at, step, &filter
                        );
                    }
                }
            }
        }
    }
}

/// What happens to a relay that clients can see.
#[derive(Debug, Clone)]
enum Doing {
    Publish(Draft),
    Restart,
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        // What has an end is written with the clock stopped, and looked for before and after.
        25 => draft(true).prop_map(Doing::Publish),
        1 => Just(Doing::Restart),
    ]
}

/// A relay with one engine and a clock of its own.
struct Running {
    config: Config,
    relay: Option<sotto_relay::Relay>,
}

impl Running {
    async fn client(&self, readers: &[u32]) -> Client {
        let mut client = Client::connect(&self.relay.as_ref().unwrap().url()).await;
        for person in readers.iter().copied().map(person) {
            let tags: [&[&str]; 2] = [&["relay", &client.url], &["challenge", &client.challenge]];
            let proof = person.sign(22_242, BEGIN, &tags, "");
            assert!(client.auth_with(&proof).await.0);
        }
        client
    }

    async fn restart(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.stop().await.unwrap();
        }
        self.relay = Some(start(self.config.clone()).await);
    }
}

/// What one client learns of some filters by every way there is.
#[derive(Debug, PartialEq, Eq)]
struct Learned {
    events: Result<Vec<wire::EventId>, ()>,
    count: Result<u64, ()>,
    /// Of the first filter alone.
    compared: Result<Vec<wire::EventId>, ()>,
}

async fn learn(client: &mut Client, filters: &[Filter]) -> Learned {
    let asked = client.ask(&subscription("q"), filters).await;
    let compared = client.reconcile(&filters[0], &[]).await;
    Learned {
        events: asked.map(|events| ids(&events)).map_err(must_be_auth),
        count: client.count(filters).await.map_err(must_be_auth),
        compared: compared
            .map(|compared| compared.need.into_iter().collect())
            .map_err(must_be_auth),
    }
}

fn must_be_auth(text: String) {
    assert!(text.starts_with("auth-required:"), "{text}");
}

/// What they should learn.
fn plainly_learned(
    plain: &PlainRelay,
    filters: &[Filter],
    auth: &[PublicKey],
    now: u64,
) -> Learned {
    let may_ask = |filters| match may_ask(filters, auth) {
        true => Ok(()),
        false => Err(()),
    };
    let mut compared = ids(&plain.ask(&filters[..1], auth, now));
    compared.sort();
    Learned {
        events: may_ask(filters).map(|()| ids(&plain.ask(filters, auth, now))),
        count: may_ask(filters).map(|()| plain.count(filters, auth, now)),
        compared: may_ask(&filters[..1]).map(|()| compared),
    }
}

proptest! {
    #![proptest_config(cases(3, 100))]

    #[test]
    fn r_query_5_over_sockets_every_way_to_ask_tells_the_same(
        doings in prop::collection::vec(doing(), 1..40),
        questions in prop::collection::vec(prop::collection::vec(question(), 1..4), 6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(BEGIN));
        let lived = async {
            let mut plain = PlainRelay::new(WINDOW);
            let mut relays = Vec::new();
            for engine in IndexEngine::ALL {
                let mut config = Config::in_memory();
                config.rules = rules();
                config.storage = Storage::Disk {
                    folder: folder.path().join(format!("{engine:?}")),
                    index: engine,
                    segment_bytes: 64 * 1024,
                    reserve_bytes: 0,
                };
                let time = clock.clone();
                config.clock = Clock::new(move || time.load(Ordering::Relaxed));
                let mut running = Running { config, relay: None };
                running.restart().await;
                relays.push((engine, running));
            }
            let mut published = Vec::new();
            let mut writers = writers(&relays).await;
            for doing in &doings {
                match doing {
                    Doing::Publish(draft) => {
                        let Some(event) = draft.event(&published, BEGIN) else { continue };
                        let wanted = plain.publish(&event, BEGIN);
                        published.push(event.clone());
                        for (at, writer) in writers.iter_mut().enumerate() {
                            let (accepted, text) = writer.publish(&event).await;
                            assert_eq!(accepted, wanted, "{:?}: {text} {event:?}", relays[at].0);
                        }
                    }
                    Doing::Restart => {
                        for (_, running) in &mut relays {
                            running.restart().await;
                        }
                        writers = self::writers(&relays).await;
                    }
                }
            }
            // As it is, and when some of it has expired.
            for now in [BEGIN, BEGIN + 15] {
                clock.store(now, Ordering::Relaxed);
                for readers in READERS {
                    for (engine, running) in &relays {
                        let mut client = running.client(readers).await;
                        for questions in &questions {
                            let questions = questions.iter().cloned();
                            let filters: Vec<Filter> =
                                questions.map(|question| question.about(&published)).collect();
                            let learned = learn(&mut client, &filters).await;
                            let wanted = plainly_learned(&plain, &filters, &keys(readers), now);
                            assert_eq!(learned, wanted, "{engine:?} at {now}: {filters:?}");
                        }
                    }
                }
            }
            for (_, running) in relays {
                running.relay.unwrap().stop().await.unwrap();
            }
        };
        tokio::runtime::Runtime::new().unwrap().block_on(lived);
    }
}

async fn writers(relays: &[(IndexEngine, Running)]) -> Vec<Client> {
    let mut writers = Vec::new();
    for (_, running) in relays {
        writers.push(running.client(&[]).await);
    }
    writers
}

/// Events that mean the same in any order: nobody deletes one version of many by its id, which
/// would bring an older one back, and who vanishes is sent no wraps, since those count from the
/// moment at which the request comes.
fn orderless() -> impl Strategy<Value = Vec<Event>> {
    let draft = prop_oneof![
        3 => (1_u32..4, 0_u64..12, 0_u32..9).prop_map(|(by, at, salt)| {
            person(by).sign(1, BEGIN - at, &[&["t", "a"]], &salt.to_string())
        }),
        2 => (1_u32..4, 0_u64..12, 0_u32..9).prop_map(|(by, at, salt)| {
            let to = person(1 + salt % 3).key().to_hex();
            person(by).sign(1059, BEGIN - at, &[&["p", &to]], &salt.to_string())
        }),
        2 => (1_u32..4, 0_u64..4, 0_u32..9).prop_map(|(by, at, salt)| {
            person(by).sign(10_050, BEGIN - at, &[], &salt.to_string())
        }),
        2 => (1_u32..4, 0_u64..4, "[xy]", 0_u32..9).prop_map(|(by, at, d, salt)| {
            person(by).sign(30_078, BEGIN - at, &[&["d", &d]], &salt.to_string())
        }),
        1 => (0_u64..12, 0_u32..9).prop_map(|(at, salt)| {
            person(4).sign(1, BEGIN - at, &[], &salt.to_string())
        }),
    ];
    let taken = prop::collection::vec((any::<prop::sample::Index>(), 0_u64..12, 0_u32..5), 0..12);
    (
        prop::collection::vec(draft, 1..40),
        taken,
        prop::option::of(0_u64..12),
    )
        .prop_map(|(mut events, taken, vanishes)| {
            let requests: Vec<Event> = taken
                .iter()
                .map(|(target, at, by)| take_back(target.get(&events), BEGIN - at, *by))
                .collect();
            events.extend(requests);
            let tags: &[&[&str]] = &[&["relay", "ALL_RELAYS"]];
            events.extend(vanishes.map(|at| person(4).sign(62, BEGIN - at, tags, "")));
            events
        })
}

/// A deletion of `target`: by its author, by whom it is for, or by a stranger, who changes nothing.
fn take_back(target: &Event, at: u64, by: u32) -> Event {
    let is = |key: PublicKey| (1..5).map(person).find(|person| person.key() == key);
    let author: Person = is(target.pubkey()).unwrap();
    let deleter = match by {
        // What they ask for counts only if it comes before they vanish.
        _ if target.pubkey() == person(4).key() => person(1),
        0 => person(1),
        1 => target.tags().people().find_map(is).unwrap_or(author),
        _ => author,
    };
    let kind = target.kind().to_string();
    let d = target.tags().value("d").unwrap_or_default();
    let address = format!("{kind}:{}:{d}", target.pubkey().to_hex());
    let named = match target.kind() {
        10_050 | 30_078 => ["a", &address],
        _ => ["e", &target.id().to_hex()],
    };
    deleter.sign(5, at, &[&named, &["k", &kind]], "")
}

proptest! {
    #![proptest_config(cases(8, 1_000))]

    #[test]
    fn r_query_6_the_order_of_arrival_makes_no_difference(
        (events, shuffled) in orderless().prop_flat_map(|events| {
            (Just(events.clone()), Just(events).prop_shuffle())
        }),
        questions in prop::collection::vec(question(), 4),
        together in 1_usize..9,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let orders = [events, shuffled];
        let mut plains = [WINDOW; 2].map(PlainRelay::new);
        let mut stores = Vec::new();
        for (order, (events, plain)) in orders.iter().zip(&mut plains).enumerate() {
            for event in events {
                plain.publish(event, BEGIN);
            }
            for engine in IndexEngine::ALL {
                let path = folder.path().join(format!("{engine:?}{order}"));
                let mut store = Kept::new(engine, path);
                for events in events.chunks(together) {
                    store.write(events, BEGIN);
                }
                stores.push(store);
            }
        }
        for question in questions {
            // Whether a stranger's request is refused, or kept and without effect, depends on
            // what was there when it came.
            let filter = question.about(&orders[0]);
            let kinds = [0, 1, 4, 62, 1059, 10_050, 30_078].into_iter();
            let is_asked = |kind: &u16| filter.kinds.as_ref().is_none_or(|all| all.contains(kind));
            let kinds: Vec<u16> = kinds.filter(is_asked).collect();
            let filter = filter.with_kinds(kinds);
            for readers in READERS {
                let auth = keys(readers);
                let [wanted, also] = plains.each_ref().map(|plain| {
                    ids(&plainly(&plain.visible(BEGIN), &filter, &auth))
                });
                prop_assert_eq!(&wanted, &also, "the plain rules depend on the order: {:?}", &filter);
                for store in &mut stores {
                    let found = ids(&store.find(&filter, &auth, BEGIN));
                    prop_assert_eq!(&found, &wanted, "{:?}: {:?}", store.engine, &filter);
                }
            }
        }
    }
}

/// Once it was asked for in a way that is forgotten after a while (as if of a wrap), once for good;
/// then everything that could mix the two up: moving, losing the index, forgetting.
#[test]
fn r_del_1_a_deletion_for_good_outlives_one_that_is_forgotten() {
    for engine in IndexEngine::ALL {
        // As many moves: the first alone puts what passes behind what is for good.
        for (later_first, moves) in [(false, 9), (true, 9), (true, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let mut store = Kept::new(engine, folder.path().to_owned());
            let author = person(1);
            let note = author.sign(1, BEGIN, &[], "to come");
            let id = note.id().to_hex();
            let as_wrap = author.sign(5, BEGIN, &[&["e", &id], &["k", "1059"]], "");
            let for_good = author.sign(5, BEGIN, &[&["e", &id]], "");
            let filling = |salt: &str| person(2).sign(1, BEGIN, &[], &salt.repeat(2_000));
            // Each in a segment of its own, of which most dies.
            for (request, salt) in [(&as_wrap, "a"), (&for_good, "b")] {
                let filler = filling(salt);
                let taken = person(2).sign(5, BEGIN, &[&["e", &filler.id().to_hex()]], "");
                assert_eq!(store.write(std::slice::from_ref(request), BEGIN), [true]);
                assert_eq!(store.write(&[filler, filling("c")], BEGIN), [true; 2]);
                assert_eq!(store.write(&[taken], BEGIN), [true]);
            }
            let opened = store.opened();
            let mut left = moves;
            while left > 0 && opened.writer.compact_one(BEGIN, true).unwrap() {
                left -= 1;
            }
            if later_first {
                store.go_through(&Step::LoseIndex, BEGIN);
            }
            let later = BEGIN + WINDOW.past + WINDOW.future + 1;
            store.go_through(&Step::Sweep, later);
            for step in [Step::Sweep, Step::Reopen, Step::LoseIndex] {
                store.go_through(&step, later);
                assert_eq!(
                    store.write(std::slice::from_ref(&note), later),
                    [false],
                    "{engine:?} {step:?}"
                );
            }
        }
    }
}

/// A deletion cannot be deleted (NIP-09), not even before it comes.
#[test]
fn r_del_1_a_deletion_of_a_deletion_changes_nothing_in_either_order() {
    for deleted_first in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Kept::new(IndexEngine::Memory, folder.path().to_owned());
        let author = person(1);
        let note = author.sign(1, BEGIN, &[], "unwanted");
        let request = author.sign(5, BEGIN, &[&["e", &note.id().to_hex()]], "");
        let against = author.sign(5, BEGIN, &[&["e", &request.id().to_hex()]], "");
        let mut events = [note, request, against];
        if deleted_first {
            events.swap(1, 2);
        }
        assert_eq!(store.write(&events, BEGIN), [true; 3]);
        let notes = Filter::default().with_kinds([1]);
        assert!(store.find(&notes, &[], BEGIN).is_empty());
        let requests = Filter::default().with_kinds([5]);
        assert_eq!(store.find(&requests, &[], BEGIN).len(), 2);
    }
}

/// A note is deleted for good, also by a request that names a wrap beside it.
#[test]
fn r_del_1_a_note_that_is_deleted_beside_a_wrap_is_gone_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Kept::new(IndexEngine::Memory, folder.path().to_owned());
    let (author, to) = (person(1), person(2));
    let note = author.sign(1, BEGIN, &[], "unwanted");
    let wrap = author.sign(1059, BEGIN, &[&["p", &to.key().to_hex()]], "sealed");
    let [note_id, wrap_id] = [&note, &wrap].map(|event| event.id().to_hex());
    let tags: [&[&str]; 4] = [
        &["e", &note_id],
        &["e", &wrap_id],
        &["k", "1"],
        &["k", "1059"],
    ];
    let request = author.sign(5, BEGIN, &tags, "");
    assert_eq!(
        store.write(&[note.clone(), wrap, request], BEGIN),
        [true; 3]
    );
    let later = BEGIN + WINDOW.past + WINDOW.future + 1;
    store.go_through(&Step::Sweep, later);
    assert_eq!(store.write(&[note], later), [false]);
}
