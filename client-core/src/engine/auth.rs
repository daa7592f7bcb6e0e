//! Answers to a relay's challenge (NIP-42): which key proves itself on which socket.
//!
//! The account key does so on inbox sockets, and where the user asked for it. A publish or
//! look-up socket that must AUTH does it with a key drawn for this one challenge, which says
//! nothing about anybody.

use crypto::OneTimeKey;
use wire::{EventDraft, RelayUrl, Tag, Tags, kinds, limits};

use crate::engine::io::{Effect, Role, SocketKey};
use crate::engine::machine::Turn;
use crate::error::Result;

fn draft(relay: &RelayUrl, challenge: &str, now: u64) -> EventDraft {
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
}
