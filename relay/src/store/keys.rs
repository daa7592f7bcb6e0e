//! The rows of the index, byte for byte.
//!
//! Every key begins with one letter for its family. Where a key or value stands for something
//! that a client sent (an id, a public key, a tag value), it holds the first 16 bytes of an
//! HMAC-SHA256 under the store's secret instead: an index file tells nothing about an event
//! that is gone, not even whether a given id was ever here, without the secret beside it.
//!
//! Times in keys are stored as `u64::MAX - seconds`, so that an ascending scan is newest first.

use hmac::{Hmac, KeyInit as _, Mac as _};
use wire::{EventId, PublicKey};

use super::StoreError;

/// A keyed hash of something that a client sent.
pub type Hash = [u8; 16];

/// Makes keyed hashes under the secret of one store.
#[derive(Clone)]
pub struct Hasher(Hmac<sha2::Sha256>);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(..)")
    }
}

impl Hasher {
    /// From the store's secret.
    pub fn new(secret: &[u8; 32]) -> Result<Self, StoreError> {
        Hmac::new_from_slice(secret)
            .map(Self)
            .map_err(|_| StoreError::Damaged("the secret has a wrong length"))
    }

    fn hash(&self, domain: u8, parts: &[&[u8]]) -> Hash {
        let mut mac = self.0.clone();
        mac.update(&[domain]);
        for part in parts {
            // A length before each part, so that no two lists of parts read the same.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let full = mac.finalize().into_bytes();
        let mut short = Hash::default();
        for (to, from) in short.iter_mut().zip(full) {
            *to = from;
        }
        short
    }

    /// Of nothing: tells one secret from another.
    pub fn check(&self) -> Hash {
        self.hash(b'c', &[])
    }

    /// Of an event id.
    pub fn id(&self, id: &EventId) -> Hash {
        self.hash(b'i', &[id.as_bytes()])
    }

    /// Of a public key as an author.
    pub fn author(&self, key: &PublicKey) -> Hash {
        self.hash(b'a', &[key.as_bytes()])
    }

    /// Of the value of a single-letter tag.
    pub fn tag(&self, letter: u8, value: &str) -> Hash {
        self.hash(b't', &[&[letter], value.as_bytes()])
    }

    /// Of a recipient of wraps.
    pub fn recipient(&self, key: &PublicKey) -> Hash {
        self.hash(b'p', &[key.as_bytes()])
    }

    /// Of a replaceable or addressable event's address.
    pub fn address(&self, kind: u16, author: &PublicKey, d: &str) -> Hash {
        self.hash(
            b'r',
            &[&kind.to_be_bytes(), author.as_bytes(), d.as_bytes()],
        )
    }

    /// Of "this id, deleted by this key".
    pub fn deletion(&self, id: &EventId, deleter: &PublicKey) -> Hash {
        self.hash(b'd', &[id.as_bytes(), deleter.as_bytes()])
    }
}

/// Where a body lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment's number.
    pub segment: u32,
    /// Of the record's header in the segment, bytes.
    pub offset: u64,
    /// Of the body, bytes.
    pub len: u32,
}

/// What the index knows about one event: the value of its `E` row, and of the `P` row of a wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where its JSON lies.
    pub place: Place,
    /// Its time, Unix seconds.
    pub created_at: u64,
    /// From when on it is gone; `u64::MAX`: never.
    pub expires_at: u64,
    /// Its place in the order of commits.
    pub seq: u64,
    /// Its kind.
    pub kind: u16,
    /// Whose mailbox it counts in; zeros: nobody's.
    pub recipient: Hash,
}

impl Entry {
    /// As the value of a row.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(58);
        out.extend(self.place.segment.to_be_bytes());
        out.extend(self.place.offset.to_be_bytes());
        out.extend(self.place.len.to_be_bytes());
        out.extend(self.created_at.to_be_bytes());
        out.extend(self.expires_at.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.kind.to_be_bytes());
        out.extend(self.recipient);
        out
    }

    /// From the value of a row.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, StoreError> {
        let input = &mut bytes;
        Ok(Self {
            place: Place {
                segment: u32::from_be_bytes(take(input)?),
                offset: u64::from_be_bytes(take(input)?),
                len: u32::from_be_bytes(take(input)?),
            },
            created_at: u64::from_be_bytes(take(input)?),
            expires_at: u64::from_be_bytes(take(input)?),
            seq: u64::from_be_bytes(take(input)?),
            kind: u16::from_be_bytes(take(input)?),
            recipient: take(input)?,
        })
    }
}

/// The next `N` bytes of a value.
pub fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let (head, rest) = input
        .split_first_chunk()
        .ok_or(StoreError::Damaged("an index row is too short"))?;
    *input = rest;
    Ok(*head)
}

/// A value of two numbers: counts and bytes.
pub fn pair(a: u64, b: u64) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}

/// The two numbers of [`pair`]; an absent row is two zeros.
pub fn decode_pair(value: Option<&[u8]>) -> Result<(u64, u64), StoreError> {
    let Some(mut bytes) = value else {
        return Ok((0, 0));
    };
    let input = &mut bytes;
    Ok((
        u64::from_be_bytes(take(input)?),
        u64::from_be_bytes(take(input)?),
    ))
}

fn key(family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    out.push(family);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// `E`: an event by id -> [`Entry`].
pub fn event(id: &Hash) -> Vec<u8> {
    key(b'E', &[id])
}
/// Prefix of `T`: events that are not wraps, by time.
pub fn by_time() -> Vec<u8> {
    key(b'T', &[])
}
/// Prefix of `K`: events that are not wraps, by kind and time.
pub fn by_kind(kind: u16) -> Vec<u8> {
    key(b'K', &[&kind.to_be_bytes()])
}
/// Prefix of `A`: all events, by author and time.
pub fn by_author(author: &Hash) -> Vec<u8> {
    key(b'A', &[author])
}
/// Prefix of `L`: events that are not wraps, by author, kind and time.
pub fn by_author_and_kind(author: &Hash, kind: u16) -> Vec<u8> {
    key(b'L', &[author, &kind.to_be_bytes()])
}
/// Prefix of `G`: events that are not wraps, by the value of a single-letter tag and time.
pub fn by_tag(value: &Hash) -> Vec<u8> {
    key(b'G', &[value])
}
/// Prefix of `P`: wraps by recipient and time -> [`Entry`], so that a mailbox is read without
/// looking each of its ids up.
pub fn by_recipient(recipient: &Hash) -> Vec<u8> {
    key(b'P', &[recipient])
}
/// The end of a key under one of the prefixes above.
pub fn at(mut prefix: Vec<u8>, created_at: u64, id: &Hash) -> Vec<u8> {
    prefix.extend((u64::MAX - created_at).to_be_bytes());
    prefix.extend_from_slice(id);
    prefix
}
/// `X`: events by the second from which they are gone, oldest first.
pub fn expiry(expires_at: u64, id: &Hash) -> Vec<u8> {
    key(b'X', &[&expires_at.to_be_bytes(), id])
}
/// `R`: the newest event of an address -> its id's hash.
pub fn address(address: &Hash) -> Vec<u8> {
    key(b'R', &[address])
}
/// `D`: an id deleted by a key -> until when that is remembered.
pub fn deletion(deletion: &Hash) -> Vec<u8> {
    key(b'D', &[deletion])
}
/// `Y`: deletions by the second from which they may be forgotten.
pub fn deletion_end(until: u64, deletion: &Hash) -> Vec<u8> {
    key(b'Y', &[&until.to_be_bytes(), deletion])
}
/// `C`: an address deleted up to a time -> that time.
pub fn address_deletion(address: &Hash) -> Vec<u8> {
    key(b'C', &[address])
}
/// `V`: an author who vanished -> up to which time.
pub fn vanished(author: &Hash) -> Vec<u8> {
    key(b'V', &[author])
}
/// `Q`: a recipient's mailbox -> count and bytes.
pub fn mailbox(recipient: &Hash) -> Vec<u8> {
    key(b'Q', &[recipient])
}
/// `S`: a segment -> bytes of event records ever written to it, and of those alive.
pub fn segment(segment: u32) -> Vec<u8> {
    key(b'S', &[&segment.to_be_bytes()])
}
/// `W`: a segment whose living records have moved: to be wiped and removed.
pub fn wipe(segment: u32) -> Vec<u8> {
    key(b'W', &[&segment.to_be_bytes()])
}
/// `Z`: how far in the log the index is -> segment, offset, seq.
pub fn position() -> Vec<u8> {
    key(b'Z', &[])
}

/// The first key after every key that begins with `prefix`.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The time and id of a key made by [`at`], [`expiry`] or [`deletion_end`] under a prefix of
/// `len` bytes; the time is as stored.
pub fn split_at(key: &[u8], len: usize) -> Option<(u64, Hash)> {
    let (time, id) = key.get(len..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), id.try_into().ok()?))
}
