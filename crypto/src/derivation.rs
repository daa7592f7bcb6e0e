//! Deriving keys: HKDF with the project's salt, HMAC, and the leaf keys of BIP-32.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

/// The salt of every HKDF of ours; a new version of the formats is a new salt.
const SALT: &[u8] = b"sotto/1";
/// Bit 31 of a BIP-32 child number: hardened.
pub(crate) const HARDENED: u32 = 1 << 31;

/// HKDF-SHA256 (RFC 5869) with salt `sotto/1`: 32 bytes from `secret` under the joined `info`.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 fails only beyond 255 * 32 bytes of output; this asks for 32"
)]
pub(crate) fn hkdf(secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SALT), secret)
        .expand_multi_info(info, out.as_mut_slice())
        .expect("32 bytes are within HKDF's bound");
    out
}

/// HMAC-SHA256 over the joined `parts`.
#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of any length (RFC 2104); the error type is the trait's"
)]
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A node of the BIP-32 tree. It never leaves [`leaf`].
struct Node {
    key: Zeroizing<[u8; 32]>,
    chain_code: Zeroizing<[u8; 32]>,
}

impl Node {
    fn from_hmac(key: &[u8], parts: &[&[u8]]) -> Self {
        let mut node = Self {
            key: Zeroizing::new([0; 32]),
            chain_code: Zeroizing::new([0; 32]),
        };
        let both = Zeroizing::new(hmac_sha512(key, parts));
        let (left, right) = both.split_at(32);
        node.key.copy_from_slice(left);
        node.chain_code.copy_from_slice(right);
        node
    }
}

#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of any length (RFC 2104); the error type is the trait's"
)]
fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The BIP-32 secret at `path` below a BIP-39 seed. Nothing where a step has no key, which
/// happens to one path in 2^127 (BIP-32 then skips the index; we have no index to skip to).
///
/// Only this leaf leaves: with a parent's public key and chain code, one leaked leaf would give
/// its unhardened siblings.
pub(crate) fn leaf(seed: &[u8; 64], path: &[u32]) -> Option<Zeroizing<[u8; 32]>> {
    let mut node = Node::from_hmac(b"Bitcoin seed", &[seed]);
    let mut parent = SecretKey::from_slice(node.key.as_slice()).ok()?;
    for child in path {
        let index = child.to_be_bytes();
        let chain_code = node.chain_code.as_slice();
        node = if child & HARDENED != 0 {
            Node::from_hmac(chain_code, &[&[0], node.key.as_slice(), &index])
        } else {
            let public = PublicKey::from_secret_key(SECP256K1, &parent).serialize();
            Node::from_hmac(chain_code, &[&public, &index])
        };
        let mut step = SecretKey::from_slice(node.key.as_slice()).ok()?;
        let sum = step.add_tweak(&Scalar::from(parent));
        step.non_secure_erase();
        parent.non_secure_erase();
        parent = sum.ok()?;
        node.key = Zeroizing::new(parent.secret_bytes());
    }
    parent.non_secure_erase();
    Some(node.key)
}
