//! Channels: how a rumor becomes payloads for inbox keys, and what comes of opening them.
//!
//! NIP-17 is one channel. Forward-secret sessions will be another, so nothing outside this file
//! may assume that an envelope holds a seal or that a message has one payload per account.

use crypto::gift_wrap::past_time;
use crypto::seal::seal_with_wraps;
use crypto::{AccountKey, DeletionSecret, KeyCache};
use rand::CryptoRng;
use serde::Serialize;
use wire::{EventId, PublicKey, Rumor};

use crate::error::{Error, ErrorWord, Result};

/// What protected a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// End-to-end encrypted under long-lived keys (NIP-17).
    Plain,
    /// By a session whose old keys are gone.
    ForwardSecret,
    /// The same, and a recording is of no use to a later quantum computer.
    PostQuantum,
}

impl Protection {
    /// As the store keeps it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::ForwardSecret => 1,
            Self::PostQuantum => 2,
        }
    }
}

/// What a wrap for one inbox key will hold: finished bytes, made once.
pub(crate) struct Payload {
    pub inbox: PublicKey,
    pub bytes: Vec<u8>,
}

/// Turns one rumor into payloads. One message may become several for one account (its devices),
/// or one for several (a conversation's inbox key).
pub(crate) trait Channel {
    /// What its messages are protected by.
    const PROTECTION: Protection;

    /// For everybody but the sender.
    fn for_recipients(
        &mut self,
        rumor: &Rumor,
        recipients: &[PublicKey],
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Payload>>;

    /// For the sender's own devices, with what they need to take the message back: the deletion
    /// secret and the wraps that were made for others.
    fn for_self(
        &mut self,
        rumor: &Rumor,
        secret: &DeletionSecret,
        wraps: &[(PublicKey, EventId)],
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Payload>;
}

/// NIP-17: a seal for each account.
pub(crate) struct Nip17<'a> {
    pub account: &'a AccountKey,
    pub keys: &'a mut KeyCache,
}

impl Nip17<'_> {
    fn payload(
        &mut self,
        rumor: &Rumor,
        inbox: &PublicKey,
        taking_back: Option<(&DeletionSecret, &[(PublicKey, EventId)])>,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Payload> {
        let bad_key = |_| Error::new(ErrorWord::BadKey, "the recipient's key is not valid");
        let own = self.account.public_key();
        let derived;
        let conversation = match self.keys.find(&own, inbox) {
            Some(key) => key,
            None => {
                derived = self.account.conversation_with(inbox).map_err(bad_key)?;
                &derived
            }
        };
        let dated = past_time(now, rng);
        let (secret, wraps) = taking_back.unzip();
        let wraps = wraps.unwrap_or_default();
        let seal = seal_with_wraps(self.account, conversation, rumor, secret, wraps, dated, rng)
            .map_err(|error| too_large().hint(error.to_string()))?;
        Ok(Payload {
            inbox: *inbox,
            bytes: seal.json().to_vec(),
        })
    }
}

impl Channel for Nip17<'_> {
    const PROTECTION: Protection = Protection::Plain;

    fn for_recipients(
        &mut self,
        rumor: &Rumor,
        recipients: &[PublicKey],
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Payload>> {
        recipients
            .iter()
            .map(|inbox| self.payload(rumor, inbox, None, now, rng))
            .collect()
    }

    fn for_self(
        &mut self,
        rumor: &Rumor,
        secret: &DeletionSecret,
        wraps: &[(PublicKey, EventId)],
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Payload> {
        let own = self.account.public_key();
        self.payload(rumor, &own, Some((secret, wraps)), now, rng)
    }
}

/// A text that must travel as a file.
pub(crate) fn too_large() -> Error {
    Error::new(
        ErrorWord::TooLarge,
        "the text is larger than 32,768 bytes or its message larger than 40,960",
    )
    .exit(2)
    .hint("send it with --as-file")
}
