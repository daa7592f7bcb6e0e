//! Requests to join or to leave (NIP-43), read.

use wire::{Event, InviteCode, PublicKey, kinds};

use super::Refusal;

/// How far the time of a request may be off, in seconds (NIP-43: a few minutes; as for AUTH).
const WINDOW_SECONDS: u64 = 600;

/// What the author of a request wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To be a member.
    Join(InviteCode),
    /// To be one no more.
    Leave,
}

impl Wish {
    /// Whether the event is such a request.
    pub fn is_one(event: &Event) -> bool {
        matches!(event.kind(), kinds::JOIN | kinds::LEAVE)
    }

    /// Reads a verified request. `auth` are the keys that its sender has authenticated: it counts
    /// only on its author's own connection, at its hour.
    pub fn read(event: &Event, auth: &[PublicKey], now: u64) -> Result<Self, Refusal> {
        if !auth.contains(&event.pubkey()) {
            return Err(match auth {
                [] => Refusal::WishNeedsAuth,
                _ => Refusal::WishFromOther,
            });
        }
        if event.created_at().abs_diff(now) > WINDOW_SECONDS {
            return Err(Refusal::WishTime);
        }
        if event.tags().find("-").is_none() {
            return Err(Refusal::WishMalformed);
        }
        if event.kind() == kinds::LEAVE {
            return Ok(Self::Leave);
        }
        let mut claims = event.tags().iter().filter(|tag| tag.name() == "claim");
        match (claims.next(), claims.next()) {
            (Some(claim), None) => {
                let code = claim.value().and_then(|code| InviteCode::parse(code).ok());
                // What is no code cannot be one of ours.
                code.map(Self::Join).ok_or(Refusal::UnknownInvite)
            }
            _ => Err(Refusal::WishMalformed),
        }
    }
}
