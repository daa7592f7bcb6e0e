//! The lists of a filter, in as little memory as they can take: a relay keeps those of every open
//! subscription, and nearly all have one value or two.

use std::borrow::Borrow;
use std::slice;

/// Values that a filter names: sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values<T>(Box<[T]>);

impl<T> Values<T> {
    /// In ascending order.
    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: then the filter matches nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `value` is among them.
    pub fn contains<Q: Ord + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        let compare = |own: &T| own.borrow().cmp(value);
        self.0.binary_search_by(compare).is_ok()
    }
}

impl<T: Ord> FromIterator<T> for Values<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values: Vec<T> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        Self(values.into())
    }
}

impl<'v, T> IntoIterator for &'v Values<T> {
    type Item = &'v T;
    type IntoIter = slice::Iter<'v, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Values by single-letter tag name, as in `#p`, in the order of the letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagValues(Vec<(char, Values<String>)>);

impl TagValues {
    /// What the filter asks of this tag; none: it does not care.
    pub fn get(&self, letter: char) -> Option<&Values<String>> {
        let (_, values) = self.0.iter().find(|(own, _)| *own == letter)?;
        Some(values)
    }

    /// Asks for one of `values`, in place of what was asked of this tag before.
    pub fn insert(&mut self, letter: char, values: Values<String>) {
        self.0.retain(|(own, _)| *own != letter);
        let at = self.0.partition_point(|(own, _)| *own < letter);
        self.0.reserve_exact(1);
        self.0.insert(at, (letter, values));
    }

    /// Each tag that is asked about.
    pub fn iter(&self) -> slice::Iter<'_, (char, Values<String>)> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the filter asks about no tag.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'v> IntoIterator for &'v TagValues {
    type Item = &'v (char, Values<String>);
    type IntoIter = slice::Iter<'v, (char, Values<String>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sorted_and_each_is_there_once() {
        let values: Values<u16> = [5, 1, 3, 1].into_iter().collect();
        assert_eq!(values.iter().copied().collect::<Vec<_>>(), [1, 3, 5]);
        assert!(values.contains(&3) && !values.contains(&4) && values.len() == 3);
    }

    #[test]
    fn a_tag_that_is_asked_for_again_takes_the_place_of_the_first() {
        let values = |value: &str| [value.to_owned()].into_iter().collect::<Values<_>>();
        let mut tags = TagValues::default();
        for (letter, value) in [('p', "a"), ('e', "b"), ('p', "c")] {
            tags.insert(letter, values(value));
        }
        let letters: Vec<char> = tags.iter().map(|(letter, _)| *letter).collect();
        assert_eq!(letters, ['e', 'p']);
        assert_eq!(tags.get('p'), Some(&values("c")));
        assert_eq!(tags.get('t'), None);
    }
}
