use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::{Tag, Tags};

use super::*;
use crate::config::Config;
use crate::ledger::{Account, Ledger};
use crate::roster::Roster;
use crate::signed;
use crate::store::EventStore;

/// How many events flood the relay: many more than may wait for the writer.
const FLOOD: usize = AHEAD * 8;

fn note(content: &str) -> Event {
    event(1, Tags::default(), content)
}

/// A note that is looked up by very many values.
fn wide_note(content: &str) -> Event {
    let tags = (0..1_500).map(|number| Tag::new(["t".to_owned(), format!("{number}")]));
    event(1, tags.collect(), content)
}

fn event(kind: u16, tags: Tags, content: &str) -> Event {
    signed::event(config().clock.now(), kind, tags, content)
}

fn config() -> Config {
    Config::in_memory()
}

fn job(event: &Event, share: &Arc<Share>, outbox: &Arc<Outbox>, account: &Arc<Account>) -> Job {
    let one = Arc::new(Semaphore::new(1));
    Job {
        event: event.clone(),
        auth: [].into(),
        share: share.clone(),
        purpose: Purpose::Publish {
            outbox: outbox.clone(),
            permits: InFlight {
                _own: one.try_acquire_owned().unwrap(),
                _all: None,
                held: account.hold(1),
            },
        },
    }
}

/// Waits until the checkers take no more of what `share` pays for; how much is left.
fn left_unchecked(share: &Arc<Share>) -> usize {
    loop {
        let before = Arc::strong_count(share);
        thread::sleep(Duration::from_millis(100));
        if Arc::strong_count(share) == before {
            return before - 1;
        }
    }
}

/// A relay's threads, somebody who floods it, and somebody else. Their answers go one way, to see
/// the order.
struct Threads {
    live: Arc<Live>,
    ingest: Ingest,
    account: Arc<Account>,
    outbox: Arc<Outbox>,
    flood: Arc<Share>,
    other: Arc<Share>,
}

impl Threads {
    fn start() -> Self {
        let opened = EventStore::in_memory(config().rules.clone(), &[7; 32]).unwrap();
        let live = Arc::new(Live::default());
        let settings = Arc::new(Settings::new(config(), 0, Arc::new(Roster::default())));
        let ingest = Ingest::start(
            opened.writer,
            live.clone(),
            settings,
            Arc::default(),
            || panic!("the writer ended"),
        );
        let account = Ledger::new(usize::MAX).open(CancellationToken::new());
        Self {
            live,
            ingest: ingest.unwrap(),
            outbox: Arc::new(Outbox::new(usize::MAX, account.clone())),
            account,
            flood: Arc::default(),
            other: Arc::default(),
        }
    }

    fn submit(&self, event: &Event, share: &Arc<Share>) {
        self.ingest
            .submit(job(event, share, &self.outbox, &self.account));
    }

    /// All answers, once everything is done.
    fn answers(&self) -> Vec<String> {
        assert!(self.ingest.finish());
        let frames = self.outbox.take(usize::MAX).unwrap().frames;
        frames.iter().map(ToString::to_string).collect()
    }
}

/// Where the answer to the event is.
fn place_of(event: &Event, answers: &[String]) -> usize {
    let id = event.id().to_hex();
    let place = answers.iter().position(|answer| answer.contains(&id));
    place.expect("an answer")
}

#[test]
fn r_fair_5_while_the_writer_is_busy_events_wait_in_fair_order() {
    let threads = Threads::start();
    let (event, late) = (note("again and again"), note("once"));
    // The writer cannot deliver meanwhile.
    threads.live.change(|_, _| {
        for _ in 0..FLOOD {
            threads.submit(&event, &threads.flood);
        }
        assert!(left_unchecked(&threads.flood) > FLOOD / 2);
        threads.submit(&late, &threads.other);
    });
    let answers = threads.answers();
    assert_eq!(answers.len(), FLOOD + 1);
    assert!(place_of(&late, &answers) < FLOOD / 2);
}

#[test]
fn r_fair_7_what_the_writer_has_more_to_do_for_waits_in_fair_order_sooner() {
    const WIDE: usize = 100;
    let threads = Threads::start();
    let late = note("once");
    threads.live.change(|_, _| {
        for number in 0..WIDE {
            threads.submit(&wide_note(&number.to_string()), &threads.flood);
        }
        assert!(left_unchecked(&threads.flood) > WIDE - 10);
        threads.submit(&late, &threads.other);
    });
    let answers = threads.answers();
    assert_eq!(answers.len(), WIDE + 1);
    assert!(place_of(&late, &answers) < 10);
}

#[test]
fn r_fair_8_nobody_waits_for_all_that_somebody_takes_away() {
    let threads = Threads::start();
    let notes: Vec<Event> = (0..20)
        .map(|number| wide_note(&number.to_string()))
        .collect();
    notes
        .iter()
        .for_each(|note| threads.submit(note, &threads.flood));
    left_unchecked(&threads.flood);
    let named = notes
        .iter()
        .map(|note| Tag::new(["e".to_owned(), note.id().to_hex()]));
    let (deletion, late) = (event(5, named.collect(), ""), note("once"));
    threads.live.change(|_, _| {
        threads.submit(&deletion, &threads.flood);
        left_unchecked(&threads.flood);
        threads.submit(&late, &threads.other);
        left_unchecked(&threads.other);
    });
    let answers = threads.answers();
    assert_eq!(answers.len(), 22);
    assert!(answers.iter().all(|answer| answer.contains("true")));
    assert!(place_of(&late, &answers) < place_of(&deletion, &answers));
}
