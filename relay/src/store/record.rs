//! One record of the log: a header of 16 bytes, a body, and zeros up to a multiple of 16.
//!
//! ```text
//!  0  u32  length of the body, little-endian
//!  4  u8   type
//!  5  [0;3]
//!  8  u32  CRC-32 of the body
//! 12  u32  CRC-32 of the twelve bytes before
//! ```
//!
//! Records start at multiples of 16, so a header never straddles two sectors and a power loss
//! leaves it old or new. Every header contains three zero bytes, and no event's JSON can hold one:
//! what an author wrote is never taken for a record ([`super::stored`] has the rest of a body).

use super::StoreError;
use super::keys::{Hash, Place, take};
use super::stored::Stored;

/// Bytes of a header, and what records are aligned to.
pub const ALIGN: usize = 16;
/// The largest body. Events are smaller (`wire::limits::EVENT_BYTES`).
pub const MAX_BODY: usize = 1 << 20;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The body was here and is zeros now.
    Erased,
    /// An event.
    Event(Stored),
    /// The body at `place` is erased; `id` is the event's keyed hash. Written and synced before
    /// the zeros, so that recovery can finish what a crash interrupted.
    Erasure {
        /// Which body.
        place: Place,
        /// Whose.
        id: Hash,
    },
    /// The same, for the sake of another event, which is the next of this batch: it counts only
    /// where that one is found. A power loss may leave any part of the last batch, and must not
    /// take away what was acknowledged without leaving what was to take its place. An event that is
    /// moved replaces itself.
    Replacement {
        /// Which body.
        place: Place,
        /// Whose.
        id: Hash,
        /// The keyed hash of the event that replaces it.
        by: Hash,
    },
    /// The event with this keyed hash of id and deleter stays away until a time.
    Deletion {
        /// [`super::keys::Hasher::deletion`].
        deletion: Hash,
        /// Unix seconds; `u64::MAX`: for good.
        until: u64,
    },
    /// Events of an address up to a time stay away.
    AddressDeletion {
        /// [`super::keys::Hasher::address`].
        address: Hash,
        /// Unix seconds, inclusive.
        up_to: u64,
    },
    /// What an author wrote up to a time stays away.
    Vanish {
        /// [`super::keys::Hasher::author`].
        author: Hash,
        /// Unix seconds, inclusive.
        up_to: u64,
    },
}

const ERASED: u8 = 1;
const EVENT: u8 = 2;
const ERASURE: u8 = 3;
const DELETION: u8 = 4;
const ADDRESS_DELETION: u8 = 5;
const VANISH: u8 = 6;
const REPLACEMENT: u8 = 7;

/// A header that was read and whose own checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    len: u32,
    body_crc: u32,
}

impl Header {
    /// Reads a header; nothing where the checksum or the type does not hold.
    pub fn decode(bytes: &[u8; ALIGN]) -> Option<Self> {
        let mut input = bytes.as_slice();
        let input = &mut input;
        let len = u32::from_le_bytes(take(input).ok()?);
        let [kind, rest @ ..] = take::<4>(input).ok()?;
        let body_crc = u32::from_le_bytes(take(input).ok()?);
        let own_crc = u32::from_le_bytes(take(input).ok()?);
        let holds = rest == [0; 3]
            && (ERASED..=REPLACEMENT).contains(&kind)
            && usize::try_from(len).ok()? <= MAX_BODY
            && crc32fast::hash(bytes.get(..12)?) == own_crc;
        holds.then_some(Self {
            kind,
            len,
            body_crc,
        })
    }

    fn encode(self) -> [u8; ALIGN] {
        let mut out = [0; ALIGN];
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        let [c0, c1, c2, c3] = self.body_crc.to_le_bytes();
        let head = [l0, l1, l2, l3, self.kind, 0, 0, 0, c0, c1, c2, c3];
        let own = crc32fast::hash(&head).to_le_bytes();
        for (to, from) in out.iter_mut().zip(head.into_iter().chain(own)) {
            *to = from;
        }
        out
    }

    /// Of the body, bytes.
    pub fn len(self) -> u32 {
        self.len
    }

    /// Whether the body is empty.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether the body was erased; it is zeros and has no checksum.
    pub fn is_erased(self) -> bool {
        self.kind == ERASED
    }

    /// The record with this body, if its checksum and form hold.
    pub fn record(self, body: bytes::Bytes) -> Option<Record> {
        if self.is_erased() {
            return Some(Record::Erased);
        }
        if crc32fast::hash(&body) != self.body_crc {
            return None;
        }
        let mut input: &[u8] = &body;
        let input = &mut input;
        match self.kind {
            EVENT => Stored::from_body(body).map(Record::Event),
            ERASURE => Some(Record::Erasure {
                place: take_place(input)?,
                id: take(input).ok()?,
            }),
            REPLACEMENT => Some(Record::Replacement {
                place: take_place(input)?,
                id: take(input).ok()?,
                by: take(input).ok()?,
            }),
            DELETION => Some(Record::Deletion {
                deletion: take(input).ok()?,
                until: u64::from_be_bytes(take(input).ok()?),
            }),
            ADDRESS_DELETION => Some(Record::AddressDeletion {
                address: take(input).ok()?,
                up_to: u64::from_be_bytes(take(input).ok()?),
            }),
            VANISH => Some(Record::Vanish {
                author: take(input).ok()?,
                up_to: u64::from_be_bytes(take(input).ok()?),
            }),
            _ => None,
        }
    }
}

/// Bytes that a record with a body of `len` takes in the log.
pub fn size(len: u32) -> u64 {
    let align = ALIGN as u64;
    align + u64::from(len).div_ceil(align) * align
}

/// Appends the record to `out`; the length of its body.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<u32, StoreError> {
    let fixed;
    let (kind, body): (u8, &[u8]) = match record {
        Record::Erased => (ERASED, &[]),
        Record::Event(stored) => (EVENT, stored.body()),
        Record::Erasure { place, id } => {
            fixed = [place_bytes(place).as_slice(), id].concat();
            (ERASURE, &fixed)
        }
        Record::Replacement { place, id, by } => {
            fixed = [place_bytes(place).as_slice(), id, by].concat();
            (REPLACEMENT, &fixed)
        }
        Record::Deletion {
            deletion: hash,
            until: time,
        } => {
            fixed = [hash.as_slice(), &time.to_be_bytes()].concat();
            (DELETION, &fixed)
        }
        Record::AddressDeletion {
            address: hash,
            up_to: time,
        } => {
            fixed = [hash.as_slice(), &time.to_be_bytes()].concat();
            (ADDRESS_DELETION, &fixed)
        }
        Record::Vanish {
            author: hash,
            up_to: time,
        } => {
            fixed = [hash.as_slice(), &time.to_be_bytes()].concat();
            (VANISH, &fixed)
        }
    };
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_BODY)
        .ok_or(StoreError::Damaged("a record is too large"))?;
    let header = Header {
        kind,
        len,
        body_crc: crc32fast::hash(body),
    };
    out.extend(header.encode());
    out.extend_from_slice(body);
    let padded = out.len().next_multiple_of(ALIGN);
    out.resize(padded, 0);
    Ok(len)
}

fn place_bytes(place: &Place) -> Vec<u8> {
    [
        place.segment.to_be_bytes().as_slice(),
        &place.offset.to_be_bytes(),
        &place.len.to_be_bytes(),
    ]
    .concat()
}

fn take_place(input: &mut &[u8]) -> Option<Place> {
    Some(Place {
        segment: u32::from_be_bytes(take(input).ok()?),
        offset: u64::from_be_bytes(take(input).ok()?),
        len: u32::from_be_bytes(take(input).ok()?),
    })
}

/// What an erased record of a body of `len` bytes looks like: a header that says so, and zeros.
pub fn erased(len: u32) -> Vec<u8> {
    let header = Header {
        kind: ERASED,
        len,
        body_crc: 0,
    };
    let mut out = header.encode().to_vec();
    let size = usize::try_from(size(len)).unwrap_or(ALIGN);
    out.resize(size, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_damage_is_noticed() {
        let place = Place {
            segment: 3,
            offset: 160,
            len: 70_000,
        };
        let records = [
            Record::Erasure { place, id: [9; 16] },
            Record::Replacement {
                place,
                id: [8; 16],
                by: [7; 16],
            },
            Record::Deletion {
                deletion: [1; 16],
                until: u64::MAX,
            },
            Record::AddressDeletion {
                address: [2; 16],
                up_to: 7,
            },
            Record::Vanish {
                author: [3; 16],
                up_to: 8,
            },
        ];
        for record in records {
            let mut bytes = Vec::new();
            let len = encode(&record, &mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, size(len));
            let read = |bytes: &[u8]| {
                let header = Header::decode(bytes.first_chunk().unwrap())?;
                let end = ALIGN + header.len() as usize;
                header.record(bytes::Bytes::copy_from_slice(bytes.get(ALIGN..end)?))
            };
            assert_eq!(read(&bytes), Some(record.clone()));
            for index in 0..ALIGN + len as usize {
                let mut spoiled = bytes.clone();
                spoiled[index] ^= 1;
                assert_ne!(read(&spoiled), Some(record.clone()), "byte {index}");
            }
        }
    }

    #[test]
    fn an_erased_record_keeps_its_length_and_nothing_else() {
        let bytes = erased(100);
        let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
        assert!(header.is_erased());
        assert_eq!(header.len(), 100);
        assert!(bytes[ALIGN..].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.len() as u64, size(100));
    }
}
