//! Joining a relay that takes events of its members only, with an invite code (NIP-43).
//!
//! The code is in the store before anything is sent, so a relay that is down is asked again by
//! the next command. Two things come before the code: the relay's own word that it knows NIP-43,
//! since any other relay would show the request to everybody; and the proof of the account's key,
//! for which the inbox socket is there.

use wire::{EventDraft, InviteCode, OkMessage, Reason, RelayUrl, Tag, Tags, kinds};

use crate::engine::io::{DescribeOutcome, Effect, PublishOutcome, Role};
use crate::engine::machine::{Engine, Op, Rng, Step, Turn};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, Store};

/// The NIP that a relay's description must list.
const NIP: u16 = 43;

impl Engine {
    /// Keeps invite codes for own relays until they are redeemed: by the next
    /// [`Engine::set_servers`] or [`Engine::resume`], before anything else is asked of those
    /// relays. Nothing is sent by this call.
    pub fn keep_invites(
        &mut self,
        store: &mut Store,
        invites: &[(RelayUrl, InviteCode)],
        now: u64,
        rng: Rng<'_>,
    ) -> Result<()> {
        let step: Step<()> = self.turn(store, now, rng, |turn| {
            for (relay, code) in invites {
                store::keep_invite(turn.tx, relay, code)?;
            }
            Ok(())
        })?;
        debug_assert!(step.effects.is_empty(), "keeping sends nothing");
        Ok(())
    }
}

impl Turn<'_> {
    /// Begins to join where a code is kept for the relay; whether one is.
    pub fn join(&mut self, relay: &RelayUrl) -> Result<bool> {
        if store::invite_for(self.tx, relay)?.is_none() {
            return Ok(false);
        }
        let op = self.begin(Op::DescribeToJoin {
            relay: relay.clone(),
        });
        self.effects.push(Effect::Describe {
            op,
            relay: relay.clone(),
        });
        Ok(true)
    }

    /// The relay has said what it knows, or has not: the code is sent, or not.
    pub fn described_to_join(&mut self, relay: RelayUrl, outcome: DescribeOutcome) -> Result<()> {
        let why = match outcome {
            DescribeOutcome::Knows(nips) if nips.contains(&NIP) => return self.ask_to_join(relay),
            DescribeOutcome::Knows(_) => {
                return self.not_joined(
                    relay,
                    Error::new(
                        ErrorWord::Refused,
                        "the relay takes no invite codes (NIP-43), so none was sent",
                    )
                    .hint("add it without the part behind #"),
                );
            }
            DescribeOutcome::Nothing => "the relay does not say whether it takes invite codes",
            DescribeOutcome::Unreachable => "the relay could not be reached",
        };
        self.join_later(relay, ErrorWord::Unreachable, why.to_owned())
    }

    fn ask_to_join(&mut self, relay: RelayUrl) -> Result<()> {
        let Some(code) = store::invite_for(self.tx, &relay)? else {
            // Another process was faster.
            self.read_lists_of(&relay);
            return Ok(());
        };
        let draft = EventDraft {
            pubkey: self.own(),
            created_at: self.now,
            kind: kinds::JOIN,
            tags: Tags::from_iter([Tag::new(["-"]), Tag::new(["claim", code.expose()])]),
            content: String::new(),
        };
        let event = self.account.sign(draft, self.rng);
        let op = self.begin(Op::Join {
            relay: relay.clone(),
        });
        let socket = self.socket(Role::Inbox, self.own(), &relay, true);
        self.effects.push(Effect::Publish {
            op,
            socket,
            id: event.id(),
            event: event.json().clone(),
        });
        Ok(())
    }

    /// The relay has answered, or has not. Sent again, the same code is no mistake: who is a
    /// member is told so.
    pub fn joined(&mut self, relay: RelayUrl, outcome: PublishOutcome) -> Result<()> {
        match outcome {
            PublishOutcome::Accepted(_) => {
                store::drop_invite(self.tx, &relay)?;
                // Said of who was no member yet.
                self.run.unwelcome.remove(&relay);
                self.read_lists_of(&relay);
                Ok(())
            }
            PublishOutcome::Refused(OkMessage { reason, text }) => match reason {
                Reason::RateLimited => self.join_later(relay, ErrorWord::RateLimited, text),
                Reason::Error | Reason::None => {
                    self.join_later(relay, ErrorWord::Unreachable, text)
                }
                Reason::AuthRequired => self.join_later(relay, ErrorWord::AuthRefused, text),
                _ => {
                    let error = Error::new(ErrorWord::Refused, text).hint(
                        "ask the relay's operator for a new invite, then \
                         `sotto relay add URL#CODE`",
                    );
                    self.not_joined(relay, error)
                }
            },
            PublishOutcome::Unreachable(why)
            | PublishOutcome::Unknown(why)
            | PublishOutcome::Forbidden(why) => self.join_later(relay, ErrorWord::Unreachable, why),
        }
    }

    /// The code is worth nothing there. Everything else goes on: the relay may serve the account
    /// without it.
    fn not_joined(&mut self, relay: RelayUrl, error: Error) -> Result<()> {
        store::drop_invite(self.tx, &relay)?;
        self.read_lists_of(&relay);
        self.run.join_failures.insert(relay, error);
        Ok(())
    }

    /// The code stays, and the next command tries again.
    fn join_later(&mut self, relay: RelayUrl, word: ErrorWord, why: String) -> Result<()> {
        let error = Error::new(word, why.clone())
            .hint("the invite is kept: the next command that reaches the relay joins it");
        self.run.join_failures.insert(relay.clone(), error);
        self.list_read(relay, Err(why))
    }
}
