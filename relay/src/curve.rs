//! Whether a recipient's key is a point of the curve, remembered for those that come again.
//!
//! Lifting a key costs a square root, an eighth of a signature check, and a mailbox gets many
//! wraps. Each thread keeps the points that it met last; nothing else of an event is remembered.

use std::cell::RefCell;

use wire::PublicKey;

/// Keys kept by each thread, 32 bytes each.
const SLOTS: usize = 1_024;

thread_local! {
    static KNOWN: RefCell<Vec<Option<PublicKey>>> = const { RefCell::new(Vec::new()) };
}

/// Whether somebody could hold a secret for the key (BIP-340 `lift_x` succeeds).
pub fn is_on_curve(key: &PublicKey) -> bool {
    KNOWN.with_borrow_mut(|known| {
        if known.is_empty() {
            known.resize(SLOTS, None);
        }
        let [first, second, ..] = *key.as_bytes();
        let slot = usize::from(u16::from_be_bytes([first, second])) % SLOTS;
        let Some(slot) = known.get_mut(slot) else {
            return key.is_on_curve();
        };
        let is_known = *slot == Some(*key);
        if !is_known && !key.is_on_curve() {
            return false;
        }
        *slot = Some(*key);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_beside_a_known_one_is_looked_at_itself() {
        let point =
            PublicKey::from_hex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        let point = point.unwrap();
        let mut other = *point.as_bytes();
        other[31] ^= 1;
        while PublicKey::from_bytes(other).is_on_curve() {
            other[30] = other[30].wrapping_add(1);
        }
        let other = PublicKey::from_bytes(other);
        for _ in 0..3 {
            assert!(is_on_curve(&point));
            assert!(!is_on_curve(&other));
        }
    }
}
