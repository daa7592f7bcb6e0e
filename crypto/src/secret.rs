//! Secrets that do not print and are wiped when dropped.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Defines a secret of a fixed number of bytes: redacted `Debug`, no `Display`, wiped on drop,
/// compared in constant time.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(zeroize::Zeroizing<[u8; $len]>);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// From raw bytes, as they were stored.
            pub fn from_secret_bytes(bytes: [u8; $len]) -> Self {
                Self(zeroize::Zeroizing::new(bytes))
            }

            /// The raw bytes, for an encrypted store. Do not print them.
            pub fn expose_secret_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                use subtle::ConstantTimeEq;
                self.0.ct_eq(&*other.0).into()
            }
        }

        impl Eq for $name {}
    };
}
pub(crate) use secret_bytes;

/// A PIN, a passphrase or seed words as text: does not print, wiped when dropped.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over; the caller's own copies are the caller's to wipe.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Do not print it, save where the user asked for it.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }

    /// In Unicode's NFKC, so that one PIN typed on two keyboards is one PIN.
    pub(crate) fn nfkc(&self) -> Zeroizing<String> {
        // One allocation that never grows leaves no copies behind; NFKC expands at most 18-fold
        // in code points, and a code point of UTF-8 has at most 4 bytes to the input's 1 or more.
        let mut out = Zeroizing::new(String::with_capacity(self.0.len().saturating_mul(18)));
        for c in self.0.nfkc() {
            out.push(c);
        }
        out
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(secret)")
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
