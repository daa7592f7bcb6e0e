//! Random events, questions and histories, for every test that compares answers.

use proptest::prelude::*;
use proptest::sample::Index;
use wire::{Event, Filter, PublicKey};

use crate::support::{Person, person};

const KINDS: [u16; 6] = [1, 4, 5_000, 1059, 7, 40_000];

fn tag() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        (1_u32..5).prop_map(|n| vec!["p".to_owned(), person(n).key().to_hex()]),
        "[ab]".prop_map(|value| vec!["t".to_owned(), value]),
        "[ab]".prop_map(|value| vec!["T".to_owned(), value]),
        Just(vec!["t".to_owned()]),
        Just(vec!["long".to_owned(), "a".to_owned()]),
    ]
}

/// Signs an event with these tags. A wrap gets the one recipient that it must have.
fn sign(author: &Person, kind: u16, at: u64, mut tags: Vec<Vec<String>>, salt: u32) -> Event {
    if kind == 1059 || kind == 21059 {
        let to = person(1 + salt % 4).key().to_hex();
        tags.retain(|tag| tag[0] != "p");
        tags.push(vec!["p".to_owned(), to]);
    }
    let tags: Vec<Vec<&str>> = tags
        .iter()
        .map(|tag| tag.iter().map(String::as_str).collect())
        .collect();
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    author.sign(kind, at, &tags, &salt.to_string())
}

/// One that is simply stored.
pub fn event() -> impl Strategy<Value = Event> {
    (
        1_u32..5,
        prop::sample::select(&KINDS[..]),
        1_000_u64..1_012,
        prop::collection::vec(tag(), 0..4),
        0_u32..1_000,
    )
        .prop_map(|(author, kind, at, tags, salt)| sign(&person(author), kind, at, tags, salt))
}

/// A filter for `known` events, and for some that are not there.
pub fn filter(known: Vec<Event>) -> impl Strategy<Value = Filter> {
    question().prop_map(move |question| question.about(&known))
}

/// A filter, once it is known what it could be about.
#[derive(Debug, Clone)]
pub struct Question {
    ids: Option<Vec<Index>>,
    authors: Option<Vec<u32>>,
    kinds: Option<Vec<u16>>,
    people: Option<Vec<u32>>,
    topics: Option<Vec<String>>,
    since: Option<(Index, u64)>,
    until: Option<(Index, u64)>,
    limit: Option<usize>,
}

/// A filter of any shape.
pub fn question() -> impl Strategy<Value = Question> {
    let people = |weight| prop::option::weighted(weight, prop::collection::vec(1_u32..6, 0..3));
    // One second off, to either side.
    let time = || prop::option::weighted(0.3, (any::<Index>(), 0_u64..3));
    let kinds = KINDS.iter().chain(&[5, 0, 10_050, 30_078, 62, 20_001]);
    let kinds: Vec<u16> = kinds.copied().collect();
    (
        prop::option::weighted(0.15, prop::collection::vec(any::<Index>(), 0..5)),
        people(0.4),
        prop::option::weighted(
            0.5,
            prop::collection::vec(prop::sample::select(kinds), 0..4),
        ),
        people(0.3),
        prop::option::weighted(0.2, prop::collection::vec("[abc]", 0..3)),
        time(),
        time(),
        prop::option::weighted(0.4, 0_usize..12),
    )
        .prop_map(
            |(ids, authors, kinds, people, topics, since, until, limit)| Question {
                ids,
                authors,
                kinds,
                people,
                topics,
                since,
                until,
                limit,
            },
        )
}

impl Question {
    /// The filter without a condition.
    pub fn everything() -> Self {
        Self {
            ids: None,
            authors: None,
            kinds: None,
            people: None,
            topics: None,
            since: None,
            until: None,
            limit: None,
        }
    }

    /// The filter. Ids and times are those of `known` events.
    pub fn about(self, known: &[Event]) -> Filter {
        let of = |index: &Index| (!known.is_empty()).then(|| index.get(known));
        let time = |time: Option<(Index, u64)>| {
            time.and_then(|(index, shift)| Some(of(&index)?.created_at() - 1 + shift))
        };
        let keys = |numbers: Vec<u32>| -> Vec<PublicKey> {
            numbers.into_iter().map(|n| person(n).key()).collect()
        };
        let mut filter = Filter {
            ids: self
                .ids
                .map(|ids| ids.iter().filter_map(of).map(Event::id).collect()),
            authors: self
                .authors
                .map(|authors| keys(authors).into_iter().collect()),
            kinds: self.kinds.map(|kinds| kinds.into_iter().collect()),
            since: time(self.since),
            until: time(self.until),
            limit: self.limit,
            ..Filter::default()
        };
        if let Some(people) = self.people {
            filter = filter.with_tag('p', keys(people).iter().map(PublicKey::to_hex));
        }
        if let Some(topics) = self.topics {
            filter = filter.with_tag('t', topics);
        }
        filter
    }
}

/// Something to publish, before it is known when and what came before it.
#[derive(Debug, Clone)]
pub enum Draft {
    /// An event of any kind that is stored or passed on.
    Fresh(Fresh),
    /// One that was published before, whatever became of it.
    Again(Index),
    /// A request to delete.
    Deletion {
        by: By,
        targets: Vec<Index>,
        /// By address as well, where the target has one.
        by_address: bool,
        kinds: Named,
        ahead: u64,
    },
    /// A request to vanish.
    Vanish { who: u32, ahead: u64 },
}

/// An event of its own.
#[derive(Debug, Clone)]
pub struct Fresh {
    author: u32,
    kind: u16,
    ahead: u64,
    tags: Vec<Vec<String>>,
    /// Seconds from now on.
    expires_in: Option<u64>,
    salt: u32,
}

/// Who asks for a deletion.
#[derive(Debug, Clone, Copy)]
pub enum By {
    Author,
    Recipient,
    Person(u32),
}

/// The `k` tags of a deletion.
#[derive(Debug, Clone, Copy)]
pub enum Named {
    Nothing,
    Truly,
    Wraps,
}

/// Times of drafts lie this much back at most.
const BACK: u64 = 12;

fn fresh(may_expire: bool) -> impl Strategy<Value = Fresh> {
    let kind = prop_oneof![
        3 => prop::sample::select(&KINDS[..]),
        2 => prop::sample::select(&[0_u16, 10_050, 30_078][..]),
        1 => prop::sample::select(&[20_001_u16, 21_059][..]),
    ];
    let d = prop::option::of("[xy]?".prop_map(|value| vec!["d".to_owned(), value]));
    let expires_in = match may_expire {
        true => prop::option::weighted(0.3, 0_u64..30).boxed(),
        false => Just(None).boxed(),
    };
    (
        1_u32..5,
        kind,
        0..=BACK + 2,
        prop::collection::vec(tag(), 0..3),
        d,
        expires_in,
        0_u32..1_000,
    )
        .prop_map(|(author, kind, ahead, mut tags, d, expires_in, salt)| {
            tags.extend(d);
            Fresh {
                author,
                kind,
                ahead,
                tags,
                expires_in,
                salt,
            }
        })
}

/// Something to publish. With `may_expire`, some of it has an end.
pub fn draft(may_expire: bool) -> impl Strategy<Value = Draft> {
    let by = prop_oneof![
        4 => Just(By::Author),
        2 => Just(By::Recipient),
        1 => (1_u32..5).prop_map(By::Person),
    ];
    let kinds = prop::sample::select(&[Named::Nothing, Named::Truly, Named::Wraps][..]);
    let deletion = (
        by,
        prop::collection::vec(any::<Index>(), 1..3),
        any::<bool>(),
        kinds,
        0..=BACK + 2,
    );
    prop_oneof![
        12 => fresh(may_expire).prop_map(Draft::Fresh),
        3 => any::<Index>().prop_map(Draft::Again),
        5 => deletion.prop_map(|(by, targets, by_address, kinds, ahead)| Draft::Deletion {
            by,
            targets,
            by_address,
            kinds,
            ahead,
        }),
        1 => (1_u32..5, 0..=BACK + 2).prop_map(|(who, ahead)| Draft::Vanish { who, ahead }),
    ]
}

impl Draft {
    /// The event at `now`, after `published`; none where it needs one that came before it.
    pub fn event(&self, published: &[Event], now: u64) -> Option<Event> {
        let at = |ahead: u64| now - BACK + ahead;
        Some(match self {
            Self::Fresh(fresh) => {
                let mut tags = fresh.tags.clone();
                let end = fresh.expires_in.map(|seconds| (now + seconds).to_string());
                tags.extend(end.map(|end| vec!["expiration".to_owned(), end]));
                let author = person(fresh.author);
                sign(&author, fresh.kind, at(fresh.ahead), tags, fresh.salt)
            }
            Self::Again(_) | Self::Deletion { .. } if published.is_empty() => return None,
            Self::Again(index) => index.get(published).clone(),
            Self::Deletion {
                by,
                targets,
                by_address,
                kinds,
                ahead,
            } => {
                let targets: Vec<&Event> =
                    targets.iter().map(|index| index.get(published)).collect();
                let everybody = || (1..5).map(person);
                let is = |key: PublicKey| everybody().find(|person| person.key() == key);
                let deleter = match by {
                    By::Author => is(targets[0].pubkey())?,
                    By::Recipient => targets[0].tags().people().find_map(is)?,
                    By::Person(number) => person(*number),
                };
                let mut tags = Vec::new();
                for target in targets {
                    let kind = target.kind();
                    let d = target.tags().value("d").unwrap_or_default();
                    let address = match kind {
                        30_078 => Some(format!("{kind}:{}:{d}", target.pubkey().to_hex())),
                        0 | 10_050 => Some(format!("{kind}:{}:", target.pubkey().to_hex())),
                        _ => None,
                    };
                    tags.push(match address.filter(|_| *by_address) {
                        Some(address) => vec!["a".to_owned(), address],
                        None => vec!["e".to_owned(), target.id().to_hex()],
                    });
                    match kinds {
                        Named::Nothing => {}
                        Named::Truly => tags.push(vec!["k".to_owned(), kind.to_string()]),
                        Named::Wraps => tags.push(vec!["k".to_owned(), "1059".to_owned()]),
                    }
                }
                sign(&deleter, 5, at(*ahead), tags, 0)
            }
            Self::Vanish { who, ahead } => {
                let tags = vec![vec!["relay".to_owned(), "ALL_RELAYS".to_owned()]];
                sign(&person(*who), 62, at(*ahead), tags, 0)
            }
        })
    }
}

/// One step of a history.
#[derive(Debug, Clone)]
pub enum Step {
    /// Published together.
    Write(Vec<Draft>),
    /// So many seconds go by.
    Wait(u64),
    /// What has expired is erased.
    Sweep,
    /// A segment that is half dead is moved and removed.
    CompactLog,
    /// A slice of it, between other steps.
    CompactSome,
    /// The index is rewritten.
    CompactIndex,
    /// Closed and opened again.
    Reopen,
    /// Opened again without having been closed.
    Crash,
    /// The index is lost.
    LoseIndex,
}

/// A step of what can happen to a store.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(draft(true), 1..6).prop_map(Step::Write),
        // Past an expiry, and now and then past the window in which a wrap could come back.
        3 => prop_oneof![3 => 1_u64..12, 1 => 30_u64..60].prop_map(Step::Wait),
        2 => Just(Step::Sweep),
        2 => Just(Step::CompactLog),
        3 => Just(Step::CompactSome),
        1 => Just(Step::CompactIndex),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => Just(Step::LoseIndex),
    ]
}
