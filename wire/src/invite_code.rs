//! Codes that let a key join a relay (NIP-43), and relay addresses that carry one.

use std::fmt;

use bech32::{Bech32, Hrp};
use sha2::Digest;

use crate::error::DecodeError;
use crate::ids::Sha256;
use crate::limits;
use crate::relay_url::RelayUrl;

/// What codes of our own relays begin with, as bech32 calls it.
const PREFIX: &str = "join";

/// An invite code: whoever holds it may join. It is not printed by accident.
///
/// A code of ours is bech32, so a slip of the pen is noticed where it happens. Another relay's
/// may be anything that is printable.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode(String);

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(..)")
    }
}

impl InviteCode {
    /// From 128 random bits.
    pub fn from_random(bytes: &[u8; 16]) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::invalid("invite code");
        let prefix = Hrp::parse(PREFIX).map_err(|_| wrong())?;
        bech32::encode::<Bech32>(prefix, bytes)
            .map(Self)
            .map_err(|_| wrong())
    }

    /// As somebody typed it: printable ASCII without spaces, at most [`limits::INVITE_CODE_BYTES`].
    /// A code of ours that was mistyped is refused.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::invalid("invite code");
        let text = text.trim();
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > limits::INVITE_CODE_BYTES || !is_printable {
            return Err(wrong());
        }
        // What begins like one of ours and has its length is one of ours.
        let is_ours = text
            .strip_prefix(PREFIX)
            .is_some_and(|rest| rest.starts_with('1') && text.len() == PREFIX.len() + 1 + 26 + 6);
        if is_ours {
            bech32::decode(text).map_err(|_| wrong())?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The code. It is for the relay, and for whoever is invited.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a relay keeps of it: nobody gets in with that.
    pub fn hash(&self) -> Sha256 {
        let mut hasher = sha2::Sha256::new();
        hasher.update(b"sotto/1/relay-invite");
        hasher.update(self.0.as_bytes());
        Sha256::from_bytes(hasher.finalize().into())
    }
}

/// A relay as a person names it: a URL, and after `#` the code that lets them in, where it needs
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRelay {
    /// Where it is.
    pub url: RelayUrl,
    /// What lets a key join.
    pub code: Option<InviteCode>,
}

impl NamedRelay {
    /// Reads `wss://relay.example` or `wss://relay.example#join1…`.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let (url, code) = match text.split_once('#') {
            Some((url, code)) => (url, Some(InviteCode::parse(code)?)),
            None => (text, None),
        };
        Ok(Self {
            url: RelayUrl::parse(url)?,
            code,
        })
    }

    /// As [`NamedRelay::parse`] reads it.
    pub fn expose(&self) -> String {
        match &self.code {
            Some(code) => format!("{}#{}", self.url, code.expose()),
            None => self.url.to_string(),
        }
    }
}

impl From<RelayUrl> for NamedRelay {
    fn from(url: RelayUrl) -> Self {
        Self { url, code: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_code_of_ours_is_noticed_and_others_are_free() {
        let code = InviteCode::from_random(&[7; 16]).unwrap();
        let text = code.expose();
        assert!(text.starts_with("join1"), "{text}");
        assert_eq!(InviteCode::parse(&format!(" {text}\n")).unwrap(), code);
        for at in 5..text.len() {
            let other = if text.as_bytes()[at] == b'q' {
                "p"
            } else {
                "q"
            };
            let mut typo = text.to_owned();
            typo.replace_range(at..=at, other);
            assert!(InviteCode::parse(&typo).is_err(), "{typo}");
        }
        for fine in ["join1", "join1-us", "pizza", "a/b?c=d&e"] {
            assert_eq!(InviteCode::parse(fine).unwrap().expose(), fine);
        }
        let long = "x".repeat(limits::INVITE_CODE_BYTES + 1);
        for bad in ["", " ", "two words", "ü", "\u{1b}[0m", &long] {
            assert!(InviteCode::parse(bad).is_err(), "{bad}");
        }
        assert_ne!(code.hash(), InviteCode::parse("pizza").unwrap().hash());
        assert_eq!(format!("{code:?}"), "InviteCode(..)");
    }

    #[test]
    fn the_code_in_the_protocol_is_as_we_write_it() {
        let code = InviteCode::from_random(&[7; 16]).unwrap();
        let document = include_str!("../../docs/protocol/relay-membership.md");
        assert!(document.contains(&format!("\n{}\n", code.expose())));
    }

    #[test]
    fn a_relay_is_named_with_or_without_a_code() {
        let code = InviteCode::from_random(&[9; 16]).unwrap();
        for url in ["wss://relay.example", "wss://relay.example/"] {
            let named = NamedRelay::parse(&format!("{url}#{}", code.expose())).unwrap();
            assert_eq!(named.url.as_str(), "wss://relay.example");
            assert_eq!(named.code.as_ref(), Some(&code));
            assert_eq!(NamedRelay::parse(&named.expose()).unwrap(), named);
            assert_eq!(NamedRelay::parse(url).unwrap().code, None);
        }
        for bad in [
            "wss://relay.example#",
            "wss://relay.example#a b",
            "relay#x",
            "#x",
        ] {
            assert!(NamedRelay::parse(bad).is_err(), "{bad}");
        }
    }
}
