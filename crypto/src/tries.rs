//! Wrong tries, counted before they are made.
//!
//! A state machine and the bytes of the `tries` file; the caller holds the file lock, and writes
//! and syncs what [`Tries::begin`] returns *before* it runs Argon2, so a crash or a kill in the
//! middle counts as a wrong try. The file carries a MAC under the device secret and a counter
//! with a twin in `lock.json`: a file that is missing, damaged or behind its twin counts as the
//! third wrong try. An older copy of the whole home is not noticed.

use subtle::ConstantTimeEq;

use crate::derivation::hmac_sha256;
use crate::lock::DeviceSecret;

/// Length of the `tries` file.
pub const TRIES_BYTES: usize = BODY_BYTES + 32;

const VERSION: u8 = 1;
/// Version, counter (u64be), count (u32be), next time (u64be).
const BODY_BYTES: usize = 1 + 8 + 4 + 8;
const LABEL: &[u8] = b"sotto/1/tries";

/// The wrong try from which on waits start.
const FIRST_WAIT: u32 = 3;
/// The wait after the third wrong try, the fourth, and so on; the last one repeats. Seconds.
const WAITS: [u64; 4] = [60, 5 * 60, 30 * 60, 6 * 3_600];

/// How many wrong tries there were, and when the next one is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    counter: u64,
    count: u32,
    next_at: u64,
}

/// Whether a try may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Yes, once this record is on disk: it already counts the try as wrong. Replace it with
    /// [`Tries::succeed`] if the try was right.
    Allowed(Tries),
    /// No, not for so many seconds. A record that differs from the stored one is to be stored.
    Wait {
        /// Seconds until the next try.
        retry_after_s: u64,
        /// What the file must say from now on.
        record: Tries,
    },
}

impl Tries {
    /// No wrong tries, for a new home or after `pin change`; the counter goes on after `twin`.
    pub fn fresh(twin: u64) -> Self {
        Self {
            counter: twin.saturating_add(1),
            count: 0,
            next_at: 0,
        }
    }

    /// Reads the file; `None` where it is missing. Anything that is not a whole record under this
    /// device's secret, at or ahead of `twin` (of `lock.json`), counts as the third wrong try
    /// made `now`.
    pub fn decode(file: Option<&[u8]>, device: &DeviceSecret, twin: u64, now: u64) -> Self {
        file.and_then(|bytes| Self::parse(bytes, device))
            .filter(|tries| tries.counter >= twin)
            .unwrap_or(Self {
                counter: twin.saturating_add(1),
                count: FIRST_WAIT,
                next_at: now.saturating_add(wait_after(FIRST_WAIT)),
            })
    }

    fn parse(bytes: &[u8], device: &DeviceSecret) -> Option<Self> {
        let (body, mac) = bytes.split_at_checked(BODY_BYTES)?;
        let expected = mac_of(body, device);
        if !bool::from(expected.as_slice().ct_eq(mac)) {
            return None;
        }
        let (version, rest) = body.split_first()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (next_at, _) = rest.split_first_chunk()?;
        (*version == VERSION).then_some(Self {
            counter: u64::from_be_bytes(*counter),
            count: u32::from_be_bytes(*count),
            next_at: u64::from_be_bytes(*next_at),
        })
    }

    /// The bytes of the file, [`TRIES_BYTES`] long.
    pub fn encode(&self, device: &DeviceSecret) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRIES_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.next_at.to_be_bytes());
        let mac = mac_of(&bytes, device);
        bytes.extend_from_slice(&mac);
        bytes
    }

    /// Asks for a try at `now` (Unix seconds). Nothing is counted while a wait lasts.
    ///
    /// A clock that was set back restarts the whole wait from the new time: longer than it
    /// would have been, but not by the decades that a once wrong clock may have been ahead.
    pub fn begin(&self, now: u64) -> Attempt {
        if now >= self.next_at {
            let count = self.count.saturating_add(1);
            return Attempt::Allowed(Self {
                counter: self.counter.saturating_add(1),
                count,
                next_at: match wait_after(count) {
                    0 => 0,
                    wait => now.saturating_add(wait),
                },
            });
        }
        let longest = wait_after(self.count);
        if self.next_at - now > longest {
            let record = Self {
                counter: self.counter.saturating_add(1),
                count: self.count,
                next_at: now.saturating_add(longest),
            };
            return Attempt::Wait {
                retry_after_s: longest,
                record,
            };
        }
        Attempt::Wait {
            retry_after_s: self.next_at - now,
            record: *self,
        }
    }

    /// After a right try: no wrong ones. Call it on the record that [`Tries::begin`] gave.
    pub fn succeed(&self) -> Self {
        Self::fresh(self.counter)
    }

    /// How many seconds until the next try, for the answer to a wrong one; 0 where it may follow
    /// at once.
    pub fn retry_after_s(&self, now: u64) -> u64 {
        self.next_at.saturating_sub(now)
    }

    /// Wrong tries in a row.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The value for the twin in `lock.json` ([`crate::Lock::with_tries`]), to be written after
    /// this record.
    pub fn counter(&self) -> u64 {
        self.counter
    }
}

/// The wait that the `count`th wrong try starts, seconds.
fn wait_after(count: u32) -> u64 {
    let Some(index) = count.checked_sub(FIRST_WAIT) else {
        return 0;
    };
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    WAITS
        .get(index)
        .or(WAITS.last())
        .copied()
        .unwrap_or_default()
}

fn mac_of(body: &[u8], device: &DeviceSecret) -> [u8; 32] {
    hmac_sha256(device.expose_secret_bytes(), &[LABEL, body])
}
