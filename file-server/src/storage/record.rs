//! What claims and used tokens mean, apart from where they are kept.

use serde::{Deserialize, Serialize};
use wire::ids::{EventId, PublicKey};

use super::StorageError;

/// Keys that may claim one blob. Sotto's clients use a fresh key and fresh ciphertext for every
/// upload, so even two claims are rare; the cap bounds what one blob's record costs.
pub const MAX_CLAIMS: usize = 1_000;
/// Used tokens remembered for one blob; each lives 11 minutes at most.
pub const MAX_SPENT: usize = 2_000;

/// One person's wish that a blob be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The key that signed the upload's token; only it can take the claim back.
    pub owner: PublicKey,
    /// The second from which the claim no longer counts; `None` for no end.
    pub sunset: Option<u64>,
}

impl Claim {
    fn ended(&self, now: u64) -> bool {
        self.sunset.is_some_and(|sunset| sunset <= now)
    }
}

/// A token that did its work, remembered until it would be refused for its age anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The token's event id.
    pub token: EventId,
    /// Its expiration.
    pub until: u64,
}

/// Everything that is kept about one blob beside its bytes.
///
/// A token is scoped to one blob (BUD-11 `x`), so the tokens used on a blob are kept with it:
/// the effect and the fact that the token is used up become durable in one step. A blob without
/// claims leaves a record of its used tokens until they expire, without keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// Bytes of the blob.
    pub size: u64,
    /// When it came to lie here, Unix seconds.
    pub uploaded_at: u64,
    claims: Vec<Claim>,
    spent: Vec<Spent>,
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Record {
    const VERSION: u32 = 1;

    /// Of a blob that nobody claims yet.
    pub fn new() -> Self {
        Self {
            version: Self::VERSION,
            size: 0,
            uploaded_at: 0,
            claims: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// Reads a record; `None` if it is damaged or of another version.
    pub fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json)
            .ok()
            .filter(|record: &Self| record.version == Self::VERSION)
    }

    /// As JSON.
    pub fn encode(&self) -> Result<Vec<u8>, std::io::Error> {
        serde_json::to_vec(self).map_err(std::io::Error::from)
    }

    /// Whether anybody claims the blob.
    pub fn is_claimed(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether nothing is left to remember.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.spent.is_empty()
    }

    /// Whether `owner` claims the blob.
    pub fn is_owner(&self, owner: &PublicKey) -> bool {
        self.claims.iter().any(|claim| claim.owner == *owner)
    }

    /// Whether `token` was used on the blob.
    pub fn is_spent(&self, token: &Spent) -> bool {
        self.spent.iter().any(|spent| spent.token == token.token)
    }

    /// The second from which nobody claims it; `None` while a claim has no end. The claim that
    /// ends last counts.
    pub fn gone_at(&self) -> Option<u64> {
        let mut last = Some(0);
        for claim in &self.claims {
            last = match (last, claim.sunset) {
                (Some(last), Some(sunset)) => Some(sunset.max(last)),
                _ => None,
            };
        }
        last
    }

    /// The next second at which [`Record::expire`] would change something.
    pub fn due_at(&self) -> Option<u64> {
        let claims = self.claims.iter().filter_map(|claim| claim.sunset);
        let tokens = self.spent.iter().map(|spent| spent.until);
        claims.chain(tokens).min()
    }

    /// Forgets claims that have ended and tokens that have expired.
    pub fn expire(&mut self, now: u64) {
        self.claims.retain(|claim| !claim.ended(now));
        self.spent.retain(|spent| spent.until > now);
    }

    /// Remembers that `token` did its work.
    pub fn spend(&mut self, token: Spent) -> Result<(), StorageError> {
        if self.is_spent(&token) {
            return Err(StorageError::TokenUsed);
        }
        if self.spent.len() >= MAX_SPENT {
            return Err(StorageError::Crowded);
        }
        self.spent.push(token);
        Ok(())
    }

    /// Adds a claim. A key that claims again replaces its own claim: its latest word counts.
    pub fn claim(&mut self, claim: Claim) -> Result<(), StorageError> {
        self.claims.retain(|old| old.owner != claim.owner);
        if self.claims.len() >= MAX_CLAIMS {
            return Err(StorageError::Crowded);
        }
        self.claims.push(claim);
        Ok(())
    }

    /// Takes back `owner`'s claim.
    pub fn release(&mut self, owner: &PublicKey) -> Result<(), StorageError> {
        if !self.is_owner(owner) {
            return Err(StorageError::NotOwner);
        }
        self.claims.retain(|claim| claim.owner != *owner);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: u8, sunset: Option<u64>) -> Claim {
        Claim {
            owner: PublicKey::from_bytes([owner; 32]),
            sunset,
        }
    }

    fn spent(id: u8, until: u64) -> Spent {
        Spent {
            token: EventId::from_bytes([id; 32]),
            until,
        }
    }

    #[test]
    fn the_claim_that_ends_last_counts() {
        let mut record = Record::new();
        assert_eq!(record.gone_at(), Some(0));
        record.claim(claim(1, Some(10))).unwrap();
        record.claim(claim(2, Some(30))).unwrap();
        assert_eq!((record.gone_at(), record.due_at()), (Some(30), Some(10)));
        record.claim(claim(3, None)).unwrap();
        assert_eq!(record.gone_at(), None);
        record.release(&PublicKey::from_bytes([3; 32])).unwrap();
        record.expire(10);
        assert!(!record.is_owner(&PublicKey::from_bytes([1; 32])));
        record.expire(29);
        assert!(record.is_claimed());
        record.expire(30);
        assert!(record.is_empty());
    }

    #[test]
    fn a_key_that_claims_again_replaces_its_claim() {
        let mut record = Record::new();
        record.claim(claim(1, None)).unwrap();
        record.claim(claim(1, Some(5))).unwrap();
        assert_eq!(record.gone_at(), Some(5));
    }

    #[test]
    fn a_token_is_spent_once_and_forgotten_when_it_expires() {
        let mut record = Record::new();
        record.spend(spent(1, 100)).unwrap();
        assert!(matches!(
            record.spend(spent(1, 100)),
            Err(StorageError::TokenUsed)
        ));
        record.expire(99);
        assert!(record.is_spent(&spent(1, 100)));
        record.expire(100);
        assert!(record.is_empty());
    }

    #[test]
    fn one_blob_takes_a_bounded_number_of_claims_and_tokens() {
        let mut record = Record::new();
        for n in 0..MAX_SPENT {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            let token = EventId::from_bytes(id);
            record.spend(Spent { token, until: 9 }).unwrap();
            let owner = PublicKey::from_bytes(id);
            let added = record.claim(Claim {
                owner,
                sunset: None,
            });
            assert_eq!(added.is_ok(), n < MAX_CLAIMS);
        }
        assert!(matches!(
            record.spend(spent(255, 9)),
            Err(StorageError::Crowded)
        ));
    }

    #[test]
    fn records_come_back_as_they_were_and_damage_is_noticed() {
        let mut record = Record::new();
        record.size = 7;
        record.claim(claim(1, Some(5))).unwrap();
        record.spend(spent(2, 9)).unwrap();
        let json = record.encode().unwrap();
        assert_eq!(Record::decode(&json), Some(record));
        assert_eq!(Record::decode(&json[..json.len() - 1]), None);
        assert_eq!(Record::decode(&vec![0; json.len()]), None);
        let newer = String::from_utf8(json)
            .unwrap()
            .replace("\"version\":1", "\"version\":2");
        assert_eq!(Record::decode(newer.as_bytes()), None);
    }
}
