//! Whether a run could hold a key: a blocked Bloom filter. A key's bits all lie in one block of a
//! cache line, so asking a run about an id that it never saw costs one access to memory.

use xxhash_rust::xxh3::xxh3_64;

/// Bits for each key: about one in fifty keys that are not there is looked for in vain.
const BITS_PER_KEY: usize = 10;
/// Bits set for each key.
const PROBES: u32 = 6;
/// Words of a block.
const WORDS: usize = 8;
const BLOCK_BITS: usize = WORDS * 64;

/// A key's hash; computed once, whatever the number of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Of a key. The function is fixed by its specification (XXH3), for it is on disk.
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    fn block(self, count: usize) -> usize {
        // The upper bits choose the block, evenly: a multiplication in place of a division.
        let product = u128::from(self.0) * (count as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// The word and bit of each probe within the block.
    fn probes(self) -> impl Iterator<Item = (usize, u64)> {
        (0..PROBES).map(move |probe| {
            let bits = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (probe * 9);
            let bit = bits & (BLOCK_BITS as u64 - 1);
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }
}

/// The filter of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bloom(Vec<[u64; WORDS]>);

impl Bloom {
    /// For up to `count` keys.
    pub fn with_capacity(count: usize) -> Self {
        let blocks = count.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS);
        Self(vec![[0; WORDS]; blocks.max(1)])
    }

    /// Adds a key.
    pub fn insert(&mut self, key: KeyHash) {
        let block = key.block(self.0.len());
        if let Some(block) = self.0.get_mut(block) {
            for (word, bit) in key.probes() {
                if let Some(word) = block.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    /// False only where the key is not among them.
    pub fn may_hold(&self, key: KeyHash) -> bool {
        self.0.get(key.block(self.0.len())).is_some_and(|block| {
            key.probes()
                .all(|(word, bit)| block.get(word).is_some_and(|word| word & bit != 0))
        })
    }

    /// As it lies in a file.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for word in self.0.iter().flatten() {
            out.extend(word.to_le_bytes());
        }
    }

    /// From a file; nothing where the length is not one of a filter.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (blocks, more) = words.as_chunks::<WORDS>();
        let is_whole = rest.is_empty() && more.is_empty() && !blocks.is_empty();
        is_whole.then(|| Self(blocks.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let key = |n: u32| KeyHash::of(&n.to_be_bytes());
        let keys: Vec<_> = (0..10_000).map(key).collect();
        let mut bloom = Bloom::with_capacity(keys.len());
        keys.iter().for_each(|key| bloom.insert(*key));
        let mut bytes = Vec::new();
        bloom.encode(&mut bytes);
        let again = Bloom::decode(&bytes).unwrap();
        assert_eq!(again, bloom);
        assert!(keys.iter().all(|key| again.may_hold(*key)));
        let strangers = (10_000..110_000).map(key);
        let wrong = strangers.filter(|key| again.may_hold(*key)).count();
        assert!(wrong < 3_000, "{wrong} of 100,000");
        assert_eq!(Bloom::decode(&bytes[1..]), None);
        assert_eq!(Bloom::decode(&[]), None);
    }
}
