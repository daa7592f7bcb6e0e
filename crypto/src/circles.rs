//! The circle definitions: what a restore from the words brings back.
//!
//! One event of circle 0 (kind 30078), readable only with the seed, its size a multiple of 4 KiB.
//! See `docs/protocol/keys.md`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use wire::relay_url::Origin;
use wire::{Event, EventDraft, RelayUrl, Tag, Tags, VerifiedEvent, kinds, limits};
use zeroize::Zeroizing;

use crate::derivation::hmac_sha256;
use crate::identity::{AccountKey, CirclesKey};

/// The plaintext is padded to a multiple of this.
pub const PAGE_BYTES: usize = 4_096;
/// Circles of one seed, removed ones included.
pub const CIRCLES: usize = 256;
/// Relays or file servers of one circle.
pub const SERVERS: usize = 10;

const VERSION: u32 = 1;
const NONCE_BYTES: usize = 24;

/// One circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circle {
    /// The account index of its keys.
    pub index: u32,
    /// Its name; empty where it was removed.
    pub name: String,
    /// Its inbox relays.
    pub relays: Vec<RelayUrl>,
    /// Its file servers.
    pub file_servers: Vec<Origin>,
    /// How long its messages live, seconds; nothing where they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// When this definition was made or last changed, Unix seconds. The later one counts.
    pub made_at: u64,
    /// Removed: the mark stays, so that no older device brings it back and its index is not
    /// used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// All circles of a seed, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circles {
    circles: BTreeMap<u32, Circle>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    version: u32,
    circles: Vec<Circle>,
}

/// Why circle definitions were not made or not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CirclesError {
    /// More than [`CIRCLES`] circles, [`SERVERS`] servers or an event can hold.
    #[error("the circle definitions are larger than fits into an event")]
    TooLarge,
    /// Another author, kind or `d` tag than this seed's circle definitions have.
    #[error("not this account's circle definitions")]
    Foreign,
    /// Does not decrypt with this seed, or is not padded JSON.
    #[error("the circle definitions are damaged")]
    Damaged,
    /// Made by a newer version. Keep them, and do not overwrite them.
    #[error("the circle definitions were made by a newer version")]
    Newer,
}

impl Circles {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All circles in order of their index, removed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Circle> {
        self.circles.values()
    }

    /// The circle of this index.
    pub fn find(&self, index: u32) -> Option<&Circle> {
        self.circles.get(&index)
    }

    /// Adds a circle, or replaces the one of the same index if `circle` wins over it: the later
    /// `made_at`; at the same time the removed one, since a removal must not be undone by a race;
    /// else the one whose JSON is larger, so that every device chooses the same.
    pub fn merge_circle(&mut self, circle: Circle) {
        match self.circles.get(&circle.index) {
            Some(old) if rank(old) >= rank(&circle) => {}
            _ => {
                self.circles.insert(circle.index, circle);
            }
        }
    }

    /// Takes over what wins of `other`. The order and repetition of merges do not matter.
    pub fn merge(&mut self, other: Self) {
        for circle in other.circles.into_values() {
            self.merge_circle(circle);
        }
    }

    /// Removes a circle, leaving a mark without name and servers.
    pub fn remove(&mut self, index: u32, now: u64) {
        if let Some(circle) = self.circles.get_mut(&index) {
            *circle = Circle {
                index,
                name: String::new(),
                relays: Vec::new(),
                file_servers: Vec::new(),
                ttl: None,
                // A clock that was set back does not undo the removal.
                made_at: now.max(circle.made_at),
                removed: true,
            };
        }
    }

    /// The index after the highest that was ever used.
    pub fn next_index(&self) -> u32 {
        self.circles
            .last_key_value()
            .map_or(0, |(index, _)| index.saturating_add(1))
    }

    /// Encrypts and signs them as the event to publish with circle 0's next traffic.
    pub fn seal(
        &self,
        account: &AccountKey,
        key: &CirclesKey,
        created_at: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Event, CirclesError> {
        let is_large = |circle: &Circle| {
            circle.relays.len() > SERVERS
                || circle.file_servers.len() > SERVERS
                || circle.name.len() > limits::NAME_BYTES
        };
        if self.circles.len() > CIRCLES || self.iter().any(is_large) {
            return Err(CirclesError::TooLarge);
        }
        let plain = Plain {
            version: VERSION,
            circles: self.iter().cloned().collect(),
        };
        let mut padded =
            Zeroizing::new(serde_json::to_vec(&plain).map_err(|_| CirclesError::TooLarge)?);
        // White space after the JSON is padding that a parser skips.
        let length = padded.len().max(1).next_multiple_of(PAGE_BYTES);
        padded.resize(length, b' ');
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let sealed = XChaCha20Poly1305::new(key.expose_secret_bytes().into())
            .encrypt(XNonce::from_slice(&nonce), padded.as_slice())
            .map_err(|_| CirclesError::TooLarge)?;
        let draft = EventDraft {
            pubkey: account.public_key(),
            created_at,
            kind: kinds::APP_DATA,
            tags: Tags::from_iter([Tag::new(["d".to_owned(), tag_value(account)])]),
            content: STANDARD.encode([nonce.as_slice(), sealed.as_slice()].concat()),
        };
        let event = account.sign(draft, rng);
        if event.json().len() > limits::EVENT_BYTES {
            return Err(CirclesError::TooLarge);
        }
        Ok(event)
    }

    /// Reads an event that [`Circles::seal`] made on any device of this seed.
    pub fn open(
        event: &VerifiedEvent,
        account: &AccountKey,
        key: &CirclesKey,
    ) -> Result<Self, CirclesError> {
        if event.kind() != kinds::APP_DATA
            || event.pubkey() != account.public_key()
            || event.tags().value("d") != Some(tag_value(account).as_str())
        {
            return Err(CirclesError::Foreign);
        }
        let sealed = STANDARD
            .decode(event.content())
            .map_err(|_| CirclesError::Damaged)?;
        let (nonce, sealed) = sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or(CirclesError::Damaged)?;
        let plain = XChaCha20Poly1305::new(key.expose_secret_bytes().into())
            .decrypt(XNonce::from_slice(nonce), sealed)
            .map(Zeroizing::new)
            .map_err(|_| CirclesError::Damaged)?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } =
            serde_json::from_slice(&plain).map_err(|_| CirclesError::Damaged)?;
        if version > VERSION {
            return Err(CirclesError::Newer);
        }
        let plain: Plain = serde_json::from_slice(&plain).map_err(|_| CirclesError::Damaged)?;
        let mut circles = Self::new();
        for circle in plain.circles {
            circles.merge_circle(circle);
        }
        Ok(circles)
    }
}

/// The `d` tag: hex HMAC-SHA256(account secret, `sotto/1/circles`). The same on every device, and
/// no word that tells a relay what the event is.
pub fn tag_value(account: &AccountKey) -> String {
    let secret = account.expose_secret_bytes();
    hex::encode(hmac_sha256(secret.as_slice(), &[b"sotto/1/circles"]))
}

fn rank(circle: &Circle) -> (u64, bool, String) {
    let json = serde_json::to_string(circle).unwrap_or_default();
    (circle.made_at, circle.removed, json)
}
