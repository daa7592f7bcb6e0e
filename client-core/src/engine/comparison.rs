//! Our side of a comparison of two sets (negentropy v1). Bytes of a stranger in, the next message
//! out; every way through it ends.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use wire::EventId;

/// The longest message that we write, before hexadecimal: with its filter it fits the 64 KiB that
/// the least of the known relays take.
const MESSAGE_BYTES: u64 = 30_000;
/// Answers of one comparison. A hundred thousand missing ids take some sixty; who goes on for
/// longer does not mean to end.
const ROUNDS: u32 = 256;
/// Ids that are taken down as missing.
const MISSING: usize = 100_000;
/// Where as many are missing and we hold less than that, reading everything is cheaper than
/// naming every id in both directions.
const MANY: usize = 1_500;

/// A comparison under way. Cheap to clone: the set is shared.
#[derive(Clone)]
pub(crate) struct Comparison {
    held: Arc<NegentropyStorageVector>,
    count: usize,
    rounds: u32,
    missing: Arc<BTreeSet<EventId>>,
    gone: Arc<BTreeSet<EventId>>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Say this.
    Say(Vec<u8>),
    /// Both sides are known.
    Done,
    /// Most of theirs is new: read everything.
    MostlyNew,
}

/// Why an answer ends the comparison, for people.
pub(crate) type Broken = &'static str;

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison")
            .field("held", &self.count)
            .field("rounds", &self.rounds)
            .field("missing", &self.missing.len())
            .finish_non_exhaustive()
    }
}

impl Comparison {
    /// Begins one; gives what to say first.
    pub fn begin(held: Vec<(u64, EventId)>) -> Result<(Self, Vec<u8>), Broken> {
        let count = held.len();
        let mut storage = NegentropyStorageVector::with_capacity(count);
        for (created_at, id) in held {
            let id = Id::from_byte_array(*id.as_bytes());
            storage.insert(created_at, id).map_err(|_| OURS)?;
        }
        // Sorts, and drops what is there twice: the library counts on both.
        storage.seal().map_err(|_| OURS)?;
        let mut first = Negentropy::borrowed(&storage, MESSAGE_BYTES).map_err(|_| OURS)?;
        let message = first.initiate().map_err(|_| OURS)?;
        let comparison = Self {
            held: Arc::new(storage),
            count,
            rounds: 0,
            missing: Arc::default(),
            gone: Arc::default(),
        };
        Ok((comparison, message))
    }

    /// Takes an answer, at most as long as a frame may be. Its work is bounded by our set and the
    /// answer's length; the number of answers and of ids by this type.
    pub fn answer(&mut self, message: &[u8]) -> Result<Next, Broken> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS {
            return Err("its comparison does not come to an end");
        }
        let mut reconciler = Negentropy::borrowed(&*self.held, MESSAGE_BYTES).map_err(|_| OURS)?;
        reconciler.set_initiator();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = reconciler
            .reconcile_with_ids(message, &mut have, &mut need)
            .map_err(|_| "its comparison is not negentropy v1")?;
        let id = |id: Id| EventId::from_bytes(id.to_bytes());
        // Sets: a range that did not fit a message is compared, and told, again. And in order: the
        // library's own is that of a hash set, which no seed replays.
        let missing = Arc::make_mut(&mut self.missing);
        missing.extend(need.into_iter().map(id));
        Arc::make_mut(&mut self.gone).extend(have.into_iter().map(id));
        if missing.len() > MISSING {
            return Err("its comparison names more than there can be");
        }
        match next {
            None => Ok(Next::Done),
            Some(_) if missing.len() >= MANY && missing.len() > self.count => Ok(Next::MostlyNew),
            Some(next) => Ok(Next::Say(next)),
        }
    }

    /// What the other side has and we do not, in order.
    pub fn missing(&self) -> Vec<EventId> {
        self.missing.iter().copied().collect()
    }

    /// What we have and the other side does not. To be believed once it is done.
    pub fn gone(&self) -> Vec<EventId> {
        self.gone.iter().copied().collect()
    }
}

/// What cannot happen, said all the same.
const OURS: Broken = "the comparison could not be prepared";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> EventId {
        use sha2::Digest as _;
        EventId::from_bytes(sha2::Sha256::digest(n.to_be_bytes()).into())
    }

    fn set(numbers: impl IntoIterator<Item = u32>) -> Vec<(u64, EventId)> {
        // Many share a second, as wraps of a busy hour do.
        let items = numbers.into_iter().map(|n| (u64::from(n / 3), id(n)));
        items.collect()
    }

    fn relay(items: &[(u64, EventId)]) -> NegentropyStorageVector {
        let mut storage = NegentropyStorageVector::new();
        for (at, id) in items {
            let id = Id::from_byte_array(*id.as_bytes());
            storage.insert(*at, id).unwrap();
        }
        storage.seal().unwrap();
        storage
    }

    /// Both sides to the end; how many answers that took.
    fn compare(ours: Vec<(u64, EventId)>, theirs: &[(u64, EventId)]) -> (Comparison, Next, u32) {
        let storage = relay(theirs);
        let mut other = Negentropy::borrowed(&storage, 60_000).unwrap();
        let (mut comparison, mut message) = Comparison::begin(ours).unwrap();
        loop {
            let answer = other.reconcile(&message).unwrap();
            match comparison.answer(&answer).unwrap() {
                Next::Say(next) => message = next,
                end => {
                    let rounds = comparison.rounds;
                    return (comparison, end, rounds);
                }
            }
        }
    }

    fn sorted(numbers: impl IntoIterator<Item = u32>) -> Vec<EventId> {
        let mut ids: Vec<EventId> = numbers.into_iter().map(id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_few_of_many_thousands_are_found_in_a_few_short_messages() {
        let theirs: Vec<_> = set((0..20_000).filter(|n| n % 5_000 != 17));
        let ours = set((0..20_000).filter(|n| n % 5_000 != 4_000));
        let (comparison, end, rounds) = compare(ours, &theirs);
        assert_eq!(end, Next::Done);
        assert!(rounds <= 4, "{rounds}");
        let missing = [4_000, 9_000, 14_000, 19_000];
        assert_eq!(comparison.missing(), sorted(missing));
        assert_eq!(comparison.gone(), sorted([17, 5_017, 10_017, 15_017]));
    }

    #[test]
    fn whoever_has_little_of_much_reads_everything() {
        let (comparison, end, _) = compare(set(0..10), &set(0..20_000));
        assert_eq!(end, Next::MostlyNew);
        assert!(comparison.missing().len() < 4_000);
        // A small inbox is compared even by who has nothing.
        let (comparison, end, _) = compare(Vec::new(), &set(0..1_000));
        assert_eq!(end, Next::Done);
        assert_eq!(comparison.missing().len(), 1_000);
    }

    #[test]
    fn the_same_second_for_all_ids_is_told_apart() {
        let second =
            |numbers: std::ops::Range<u32>| -> Vec<_> { numbers.map(|n| (7, id(n))).collect() };
        let (comparison, end, _) = compare(second(0..5_000), &second(100..5_100));
        assert_eq!(end, Next::Done);
        assert_eq!(comparison.missing(), sorted(5_000..5_100));
        assert_eq!(comparison.gone().len(), 100);
    }

    #[test]
    fn an_endless_comparison_is_ended() {
        let (mut comparison, first) = Comparison::begin(set(0..2_000)).unwrap();
        // Everything differs, for ever: the fingerprint of something else over the whole range.
        let endless = [&[0x61, 0, 0, 1][..], &[9; 16]].concat();
        let mut answers = 0;
        let error = loop {
            match comparison.answer(&endless) {
                Ok(Next::Say(_)) => answers += 1,
                Ok(end) => panic!("{end:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(answers, 256);
        assert!(error.contains("end") && !first.is_empty());
    }

    #[test]
    fn made_up_ids_without_end_are_bounded() {
        let (mut comparison, _) = Comparison::begin(set(0..200_000)).unwrap();
        let mut made_up = 0_u32;
        let error = loop {
            let mut message = vec![0x61];
            // All of ours is skipped. Then a list of invented ids, then a fingerprint.
            message.extend([&var_int(1_000_000)[..], &[0, 0]].concat());
            message.extend([&var_int(1_000)[..], &[0, 2], &var_int(1_824)].concat());
            for _ in 0..1_824 {
                made_up += 1;
                message.extend(id(1_000_000 + made_up).as_bytes());
            }
            message.extend([0, 0, 1]);
            message.extend([9; 16]);
            match comparison.answer(&message) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(error.contains("more than there can be"), "{error}");
        assert!(comparison.missing().len() <= MISSING + 2_000);
    }

    #[test]
    fn another_version_and_an_empty_message_are_refused() {
        let (comparison, _) = Comparison::begin(set(0..100)).unwrap();
        for message in [&[][..], &[0x60], &[0x62], &[0xff, 1, 2], b"nonsense"] {
            comparison.clone().answer(message).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn both_sides_differences_are_found_exactly(
            ours in prop::collection::btree_set(0..3_000_u32, 0..600),
            theirs in prop::collection::btree_set(0..3_000_u32, 0..600),
        ) {
            let (comparison, end, _) = compare(set(ours.clone()), &set(theirs.clone()));
            prop_assert_eq!(end, Next::Done);
            let missing = sorted(theirs.difference(&ours).copied());
            prop_assert_eq!(comparison.missing(), missing);
            prop_assert_eq!(comparison.gone(), sorted(ours.difference(&theirs).copied()));
        }

        /// The library's own reading of hostile bytes, and ours of what it says.
        #[test]
        fn whatever_is_answered_nothing_panics_and_what_we_say_is_short(
            held in 0..3_000_u32,
            answers in prop::collection::vec(hostile(), 1..8),
        ) {
            let (mut comparison, first) = Comparison::begin(set(0..held)).unwrap();
            prop_assert!(first.len() <= 30_000);
            for answer in answers {
                match comparison.answer(&answer) {
                    Ok(Next::Say(next)) => prop_assert!(next.len() <= 30_000 && next.len() > 1),
                    Ok(Next::Done | Next::MostlyNew) => {}
                    Err(why) => prop_assert!(!why.is_empty()),
                }
            }
        }
    }

    /// Bytes that are nearly negentropy: ranges with any bound, mode, count and content.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let range = (
            any::<u64>().prop_map(|n| n >> (n % 64)),
            prop::collection::vec(any::<u8>(), 0..40),
            0..5_u8,
            prop::collection::vec(any::<u8>(), 0..200),
            any::<bool>(),
        );
        let ranges = prop::collection::vec(range, 0..20).prop_map(|ranges| {
            let mut message = vec![0x61];
            for (at, prefix, mode, content, is_sound) in ranges {
                message.extend(var_int(at));
                message.extend(var_int(prefix.len() as u64));
                message.extend(&prefix);
                message.push(mode);
                match (mode, is_sound) {
                    (1, true) => message.extend([u8::try_from(content.len()).unwrap(); 16]),
                    (2, true) => {
                        let ids: Vec<u8> = content.chunks_exact(32).flatten().copied().collect();
                        message.extend(var_int((ids.len() / 32) as u64));
                        message.extend(ids);
                    }
                    (0, true) => {}
                    _ => message.extend(&content),
                }
            }
            message
        });
        prop_oneof![
            4 => ranges,
            1 => prop::collection::vec(any::<u8>(), 0..2_000),
        ]
    }

    fn var_int(mut n: u64) -> Vec<u8> {
        let mut bytes = vec![(n & 0x7f) as u8];
        n >>= 7;
        while n > 0 {
            bytes.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        bytes.reverse();
        bytes
    }
}
