//! Answers to a relay's challenge (NIP-42): which key proves itself on which socket.
//!
//! The account key does so on inbox sockets, and where the user asked for it. A publish or
//! look-up socket that must AUTH does it with a key drawn for this one challenge, which says
//! nothing about anybody.

use crypto::OneTimeKey;
use wire::{EventDraft, RelayUrl, Tag, Tags, kinds, limits};

use crate::engine::io::{Effect, Role, SocketKey};
use crate::engine::machine::{Engine, Turn};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, Store};

/// An event that proves a key to `relay` (NIP-42), for whoever signs it.
pub(crate) fn draft(relay: &RelayUrl, challenge: &str, now: u64) -> EventDraft {
    EventDraft {
        // Replaced by whoever signs.
        pubkey: wire::PublicKey::from_bytes([0; 32]),
        created_at: now,
        kind: kinds::CLIENT_AUTH,
        tags: Tags::from_iter([
            Tag::new(["relay", relay.as_str()]),
            Tag::new(["challenge", challenge]),
        ]),
        content: String::new(),
    }
}

impl Turn<'_> {
    /// Answers a challenge, or stays anonymous where it is not for this engine.
    pub fn answer_challenge(&mut self, socket: SocketKey, challenge: &str) -> Result<()> {
        let is_ours = socket.circle == self.config.circle
            && challenge.len() <= limits::CHALLENGE_BYTES
            && (socket.role != Role::Inbox || socket.key == self.own());
        if !is_ours {
            self.effects.push(Effect::StayAnonymous { socket });
            return Ok(());
        }
        let draft = draft(&socket.relay, challenge, self.now);
        if socket.role == Role::Inbox {
            // What the relay thinks of the account, it says anew.
            self.run.unwelcome.remove(&socket.relay);
        }
        let event = match socket.role {
            Role::Inbox | Role::AsMyself => self.account.sign(draft, self.rng),
            Role::Publish | Role::Lookup => OneTimeKey::generate(self.rng).sign(draft, self.rng),
        };
        self.effects.push(Effect::Authenticate {
            socket,
            event: event.json().clone(),
            id: event.id(),
        });
        Ok(())
    }

    /// An own relay lets the account read and takes nothing new for it: its members are others.
    pub fn unwelcome(&mut self, socket: SocketKey, why: String) -> Result<()> {
        if socket.role == Role::Inbox && socket.key == self.own() {
            self.run.unwelcome.insert(socket.relay, why);
        }
        Ok(())
    }
}

impl Engine {
    /// The own relay that takes nothing new for this account, if one has said so in this run:
    /// `auth_refused`, with what can be done about it.
    pub fn unwelcome(&self, store: &Store) -> Result<Option<Error>> {
        let own = store::own_relays(store.connection())?;
        let mut said = self.run.unwelcome.iter();
        let said = said.find(|(relay, _)| own.contains(relay));
        Ok(said.map(|(relay, why)| {
            Error::new(ErrorWord::AuthRefused, format!("{relay}: {why}")).hint(NOT_A_MEMBER)
        }))
    }
}

/// What to do about a relay whose members are others.
const NOT_A_MEMBER: &str = "ask its operator for an invite, then `sotto relay add URL#CODE`; \
                            or read elsewhere: `sotto relay remove URL`";
