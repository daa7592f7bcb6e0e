//! The `Authorization` header of NIP-98 and BUD-11: `Nostr`, and an event in base64.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;

use crate::event::Event;
use crate::limits;
use crate::verify::VerifiedEvent;

/// Why a header holds no event to be trusted.
pub(crate) enum HeaderError {
    /// Too large, not `Nostr <base64>`, or no event in it.
    Malformed,
    /// Id or signature do not hold.
    Forged,
}

/// Reads a header of at most [`limits::AUTHORIZATION_BYTES`]; base64 may be of either alphabet,
/// padded or not.
pub(crate) fn read(value: &str) -> Result<VerifiedEvent, HeaderError> {
    if value.len() > limits::AUTHORIZATION_BYTES {
        return Err(HeaderError::Malformed);
    }
    let (scheme, encoded) = value.trim().split_once(' ').ok_or(HeaderError::Malformed)?;
    if !scheme.eq_ignore_ascii_case("nostr") {
        return Err(HeaderError::Malformed);
    }
    let encoded = encoded.trim();
    let json = [&URL_SAFE_NO_PAD, &STANDARD_NO_PAD, &URL_SAFE, &STANDARD]
        .into_iter()
        .find_map(|engine| engine.decode(encoded).ok())
        .ok_or(HeaderError::Malformed)?;
    let event = Event::decode(Bytes::from(json)).map_err(|_| HeaderError::Malformed)?;
    VerifiedEvent::verify(event).map_err(|_| HeaderError::Forged)
}
