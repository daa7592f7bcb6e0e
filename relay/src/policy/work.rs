//! Proof of work (NIP-13).

use wire::{Event, EventId};

use super::Refusal;

/// How much work, and of what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Leading zero bits of the id; at least 1.
    pub bits: u8,
    /// Which events need it.
    pub of: WorkOf,
}

/// Which events need work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkOf {
    /// Gift wraps of senders who have proved no member's key on their connection.
    AnonymousWraps,
    /// Everything.
    Everything,
}

impl Work {
    /// Whether the event shows enough work. It must have been aimed at: an id that is small by
    /// luck, of an author who tries less everywhere, does not count (NIP-13).
    pub fn check(self, event: &Event) -> Result<(), Refusal> {
        let has = difficulty(&event.id());
        let needs = u32::from(self.bits);
        if has < needs {
            return Err(Refusal::TooLittleWork { has, needs });
        }
        let nonce = event.tags().find("nonce");
        let aim = nonce.and_then(|tag| tag.get(2)?.parse::<u32>().ok());
        match aim {
            Some(aim) if aim >= needs => Ok(()),
            _ => Err(Refusal::UncommittedWork { needs }),
        }
    }
}

/// The leading zero bits of an id.
pub fn difficulty(id: &EventId) -> u32 {
    let mut bits = 0;
    for byte in id.as_bytes() {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulty_counts_leading_zero_bits() {
        // Both from NIP-13.
        let id = "000000000e9d97a1ab09fc381030b346cdd7a142ad57e6df0b46dc9bef6c7e2d";
        assert_eq!(difficulty(&EventId::from_hex(id).unwrap()), 36);
        let id = format!("002f{}", "f".repeat(60));
        assert_eq!(difficulty(&EventId::from_hex(&id).unwrap()), 10);
        assert_eq!(difficulty(&EventId::from_bytes([0; 32])), 256);
        assert_eq!(difficulty(&EventId::from_bytes([255; 32])), 0);
    }
}
