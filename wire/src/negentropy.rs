//! Messages of negentropy as NIP-77 carries them: hexadecimal in a JSON string, the same in both
//! directions. What is in them is the reconciler's business.

use serde_json::json;
use serde_json::value::RawValue;

use crate::error::DecodeError;
use crate::ids::SubscriptionId;
use crate::limits;

/// Reads the hexadecimal of a message of 1 to [`limits::NEGENTROPY_BYTES`] bytes.
pub(crate) fn read(raw: &RawValue) -> Result<Vec<u8>, DecodeError> {
    // Measured as it stands: a string is no shorter than what it says, and its quotes count 2.
    if raw.get().len() > limits::NEGENTROPY_BYTES * 2 + 2 {
        return Err(DecodeError::TooLarge {
            what: "negentropy message",
            limit: limits::NEGENTROPY_BYTES,
        });
    }
    let text: &str =
        serde_json::from_str(raw.get()).map_err(|_| DecodeError::invalid("negentropy message"))?;
    match hex::decode(text) {
        Ok(message) if !message.is_empty() => Ok(message),
        _ => Err(DecodeError::invalid("negentropy message")),
    }
}

/// `["NEG-MSG", id, hex]`.
pub(crate) fn message(id: &SubscriptionId, message: &[u8]) -> String {
    json!(["NEG-MSG", id.as_str(), hex::encode(message)]).to_string()
}
