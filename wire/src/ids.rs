//! Fixed-size identifiers. Each is a type of its own, so that a key is never taken for a hash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::DecodeError;
use crate::limits;

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// From raw bytes. Nothing is checked but the length.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// From a slice of exactly [`Self::LEN`] bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| DecodeError::invalid($what))
            }

            /// From lower-case hexadecimal; capitals are refused, since NIP-01 asks for lower case
            /// and two spellings of one id would be two keys in every map.
            pub fn from_hex(text: &str) -> Result<Self, DecodeError> {
                let invalid = || DecodeError::invalid($what);
                let text = text.as_bytes();
                if text.len() != $len * 2 || text.iter().any(u8::is_ascii_uppercase) {
                    return Err(invalid());
                }
                let mut bytes = [0; $len];
                faster_hex::hex_decode(text, &mut bytes).map_err(|_| invalid())?;
                Ok(Self(bytes))
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal.
            pub fn to_hex(&self) -> String {
                faster_hex::hex_string(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }

        impl FromStr for $name {
            type Err = DecodeError;
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                Self::from_hex(text)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("lower-case hexadecimal of a ", $what))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_hex(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

fixed_bytes!(
    /// The id of an event or rumor: SHA-256 of its NIP-01 serialisation.
    EventId, 32, "event id"
);
fixed_bytes!(
    /// An x-only secp256k1 public key (BIP-340). Whether it is a point of the curve shows when
    /// it is used; [`PublicKey::is_on_curve`] asks at once.
    PublicKey, 32, "public key"
);
fixed_bytes!(
    /// A SHA-256 hash of a blob or file.
    Sha256, 32, "SHA-256 hash"
);
fixed_bytes!(
    /// A BIP-340 signature.
    Signature, 64, "signature"
);

impl PublicKey {
    /// Whether somebody could hold a secret for it (BIP-340 `lift_x` succeeds).
    pub fn is_on_curve(&self) -> bool {
        secp256k1::XOnlyPublicKey::from_slice(self.as_bytes()).is_ok()
    }
}

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// The name of a subscription on one connection (NIP-01): 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SubscriptionId(String);

impl SubscriptionId {
    /// Takes 1 to 64 characters without control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, DecodeError> {
        let text = text.into();
        let count = text.chars().count();
        if count == 0 || text.chars().any(char::is_control) {
            return Err(DecodeError::invalid("subscription id"));
        }
        if count > limits::SUBSCRIPTION_ID_CHARS {
            return Err(DecodeError::TooLarge {
                what: "subscription id",
                limit: limits::SUBSCRIPTION_ID_CHARS,
            });
        }
        Ok(Self(text))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At every place, since several places are read at once.
    #[test]
    fn lower_case_hexadecimal_is_read_and_nothing_else() {
        let bytes: [u8; 64] = std::array::from_fn(|at| u8::try_from(at * 4 + 1).unwrap());
        let text = Signature::from_bytes(bytes).to_hex();
        assert!(text.starts_with("0105090d1115") && text.len() == 128);
        assert_eq!(Signature::from_hex(&text).unwrap().as_bytes(), &bytes);
        for at in 0..text.len() {
            for other in 0..=0x7f_u8 {
                let mut changed = text.clone().into_bytes();
                changed[at] = other;
                let changed = String::from_utf8(changed).unwrap();
                let is_digit = matches!(other, b'0'..=b'9' | b'a'..=b'f');
                let read = Signature::from_hex(&changed);
                assert_eq!(read.is_ok(), is_digit, "{other:#x} at {at}");
                assert!(read.is_ok_and(|read| read.to_hex() == changed) || !is_digit);
            }
        }
        for wrong in [
            "",
            text.get(1..).unwrap(),
            text.get(2..).unwrap(),
            &format!("{text}0"),
            &format!("0x{text}"),
        ] {
            assert!(Signature::from_hex(wrong).is_err(), "{wrong}");
        }
        let key = text.get(..64).unwrap();
        assert!(PublicKey::from_hex(&format!("0x{}", key.get(2..).unwrap())).is_err());
        assert!(PublicKey::from_hex(&"é".repeat(32)).is_err());
    }
}
