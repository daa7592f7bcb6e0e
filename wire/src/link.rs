//! Ways to name a person: `npub`, `nprofile`, hexadecimal, and the invite link (NIP-19, NIP-21).

use std::fmt;

use bech32::{Bech32, Hrp};

use crate::error::DecodeError;
use crate::ids::PublicKey;
use crate::limits;
use crate::relay_url::RelayUrl;

/// A key with hints: where to look for its inbox list, and what an invite adds.
///
/// Written, it is `nostr:nprofile1…`; what Sotto adds are TLV types that other clients ignore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whose.
    pub pubkey: PublicKey,
    /// Relays that should know the person's inbox list; at most [`limits::LINK_RELAYS`] are kept.
    pub relays: Vec<RelayUrl>,
    /// The list key, for the sessions to come (type 128).
    pub list_key: Option<PublicKey>,
    /// What the person calls themself (type 129). Untrusted text.
    pub name: Option<String>,
    /// A token for a first message (type 130).
    pub token: Option<[u8; 16]>,
    /// Whether it carried a type of Sotto's own: the peer understands Sotto's file format.
    pub is_sotto: bool,
}

const TYPE_KEY: u8 = 0;
const TYPE_RELAY: u8 = 1;
const TYPE_LIST_KEY: u8 = 128;
const TYPE_NAME: u8 = 129;
const TYPE_TOKEN: u8 = 130;

impl Link {
    /// A bare key.
    pub fn new(pubkey: PublicKey) -> Self {
        Self {
            pubkey,
            relays: Vec::new(),
            list_key: None,
            name: None,
            token: None,
            is_sotto: false,
        }
    }

    /// Reads `npub1…`, `nprofile1…` or 64 hexadecimal digits, each with or without `nostr:`.
    /// A secret (`nsec1…`, `ncryptsec1…`) is refused without a look inside.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "npub, nprofile, key or invite link";
        let text = text.trim();
        if text.len() > limits::LINK_BYTES {
            return Err(DecodeError::TooLarge {
                what: "link",
                limit: limits::LINK_BYTES,
            });
        }
        let text = text.strip_prefix("nostr:").unwrap_or(text);
        if text.len() == 64 {
            let pubkey = PublicKey::from_hex(&text.to_ascii_lowercase())?;
            return Self::on_curve(Self::new(pubkey));
        }
        if !text.starts_with("npub1") && !text.starts_with("nprofile1") {
            return Err(DecodeError::invalid(WHAT));
        }
        let (hrp, data) = bech32_decode(text).ok_or(DecodeError::invalid(WHAT))?;
        match hrp.as_str() {
            "npub" => Self::on_curve(Self::new(PublicKey::from_slice(&data)?)),
            "nprofile" => Self::on_curve(Self::from_tlv(&data)?),
            _ => Err(DecodeError::invalid(WHAT)),
        }
    }

    fn on_curve(self) -> Result<Self, DecodeError> {
        if self.pubkey.is_on_curve() {
            Ok(self)
        } else {
            Err(DecodeError::invalid("public key"))
        }
    }

    fn from_tlv(mut data: &[u8]) -> Result<Self, DecodeError> {
        let mut key = None;
        let mut link = Self::new(PublicKey::from_bytes([0; 32]));
        while let [kind, length, rest @ ..] = data {
            let length = usize::from(*length);
            let value = rest.get(..length).ok_or(DecodeError::invalid("link"))?;
            data = rest.get(length..).unwrap_or_default();
            match *kind {
                TYPE_KEY if key.is_none() => key = Some(PublicKey::from_slice(value)?),
                TYPE_RELAY => {
                    // One bad hint does not spoil the link.
                    let url = std::str::from_utf8(value)
                        .ok()
                        .and_then(|t| RelayUrl::parse(t).ok());
                    if let Some(url) = url
                        && link.relays.len() < limits::LINK_RELAYS
                        && !link.relays.contains(&url)
                    {
                        link.relays.push(url);
                    }
                }
                TYPE_LIST_KEY => {
                    link.list_key = PublicKey::from_slice(value).ok();
                    link.is_sotto = true;
                }
                TYPE_NAME => {
                    let name = std::str::from_utf8(value).ok();
                    link.name = name
                        .filter(|n| n.len() <= limits::NAME_BYTES)
                        .map(str::to_owned);
                    link.is_sotto = true;
                }
                TYPE_TOKEN => {
                    link.token = value.try_into().ok();
                    link.is_sotto = true;
                }
                _ => {}
            }
        }
        if !data.is_empty() {
            return Err(DecodeError::invalid("link"));
        }
        link.pubkey = key.ok_or(DecodeError::invalid("link"))?;
        Ok(link)
    }

    fn to_tlv(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |kind: u8, value: &[u8]| {
            if let Ok(length) = u8::try_from(value.len()) {
                out.extend([kind, length]);
                out.extend(value);
            }
        };
        put(TYPE_KEY, self.pubkey.as_bytes());
        for relay in self.relays.iter().take(limits::LINK_RELAYS) {
            put(TYPE_RELAY, relay.as_str().as_bytes());
        }
        if let Some(key) = &self.list_key {
            put(TYPE_LIST_KEY, key.as_bytes());
        }
        if let Some(name) = &self.name {
            put(TYPE_NAME, name.as_bytes());
        }
        if let Some(token) = &self.token {
            put(TYPE_TOKEN, token);
        }
        out
    }
}

/// `nostr:nprofile1…`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nostr:{}", bech32_encode("nprofile", &self.to_tlv()))
    }
}

/// A key as `npub1…` (NIP-19).
pub fn npub(key: &PublicKey) -> String {
    bech32_encode("npub", key.as_bytes())
}

fn bech32_encode(hrp: &str, data: &[u8]) -> String {
    // NIP-19 has no length limit, so the checksum without one is used; our data is at most
    // about 2.7 kB by `LINK_RELAYS` and one-byte lengths.
    Hrp::parse(hrp)
        .ok()
        .and_then(|hrp| {
            let mut out = String::new();
            bech32::encode_to_fmt::<LongBech32, _>(&mut out, hrp, data).ok()?;
            Some(out)
        })
        .unwrap_or_default()
}

fn bech32_decode(text: &str) -> Option<(String, Vec<u8>)> {
    let checked = bech32::primitives::decode::CheckedHrpstring::new::<LongBech32>(text).ok()?;
    Some((checked.hrp().to_lowercase(), checked.byte_iter().collect()))
}

/// Bech32's checksum without BIP-173's limit of 90 characters, as NIP-19 needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LongBech32 {}

impl bech32::Checksum for LongBech32 {
    type MidstateRepr = <Bech32 as bech32::Checksum>::MidstateRepr;
    type CorrectionField = <Bech32 as bech32::Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = Bech32::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = Bech32::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = Bech32::TARGET_RESIDUE;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples printed in NIP-19.
    const NPUB: &str = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";
    const NPUB_HEX: &str = "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d";
    const NPROFILE: &str = "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p";

    #[test]
    fn nip19_examples() {
        let link = Link::parse(NPUB).unwrap();
        assert_eq!(link.pubkey.to_hex(), NPUB_HEX);
        assert_eq!(npub(&link.pubkey), NPUB);
        let link = Link::parse(NPROFILE).unwrap();
        assert_eq!(link.pubkey.to_hex(), NPUB_HEX);
        let relays: Vec<_> = link.relays.iter().map(RelayUrl::as_str).collect();
        assert_eq!(relays, ["wss://r.x.com", "wss://djbas.sadkb.com"]);
        assert!(!link.is_sotto);
    }

    #[test]
    fn an_invite_round_trips_and_is_ours() {
        let mut link = Link::parse(NPUB).unwrap();
        link.relays = vec![RelayUrl::parse("wss://relay.example").unwrap()];
        link.name = Some("Anna".into());
        link.token = Some([9; 16]);
        link.list_key = Some(link.pubkey);
        link.is_sotto = true;
        let text = link.to_string();
        assert!(text.starts_with("nostr:nprofile1"));
        assert_eq!(Link::parse(&text).unwrap(), link);
    }

    #[test]
    fn secrets_and_spoiled_links_are_refused() {
        assert!(
            Link::parse("nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5").is_err()
        );
        let spoiled = NPUB.replace("180c", "180d");
        assert!(Link::parse(&spoiled).is_err());
        assert!(Link::parse("").is_err());
        assert!(Link::parse(&"f".repeat(64)).is_err(), "not on the curve");
    }
}
