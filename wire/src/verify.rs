//! The only door to a [`VerifiedEvent`].

use std::ops::Deref;
use std::sync::Arc;

use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr};

use crate::event::Event;

/// An event whose id was recomputed and whose signature was checked.
///
/// Nothing but [`VerifiedEvent::verify`] makes one, so code that takes it cannot have forgotten
/// to check. Cloning is cheap: the event is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEvent(Arc<Event>);

/// Why an event is not what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The id is not the hash of the event (NIP-01).
    #[error("event id does not match its content")]
    Id,
    /// The author is no point of the curve, or the signature is not theirs (BIP-340).
    #[error("bad signature")]
    Signature,
}

impl VerifiedEvent {
    /// Recomputes the id and checks the signature over it, with no cache on the way: a cache
    /// keyed by a claimed id is how one relay pool came to trust forged events.
    pub fn verify(event: Event) -> Result<Self, VerifyError> {
        if event.draft().id() != event.id() {
            return Err(VerifyError::Id);
        }
        let author = XOnlyPublicKey::from_slice(event.pubkey().as_bytes())
            .map_err(|_| VerifyError::Signature)?;
        let signature = schnorr::Signature::from_slice(event.sig().as_bytes())
            .map_err(|_| VerifyError::Signature)?;
        SECP256K1
            .verify_schnorr(&signature, event.id().as_bytes(), &author)
            .map_err(|_| VerifyError::Signature)?;
        Ok(Self(Arc::new(event)))
    }
}

impl Deref for VerifiedEvent {
    type Target = Event;
    fn deref(&self) -> &Event {
        &self.0
    }
}
