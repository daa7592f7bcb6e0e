//! Vanishing: at the exact second hidden, and then gone.

use crate::engine::machine::Turn;
use crate::error::Result;
use crate::store::{self, EnvelopeRow, MessageRow, OutboxRow, RowState, SecretPurpose, SentRow};

impl Turn<'_> {
    /// Erases every message whose second has come: text, keys and files here; what relays and
    /// file servers may have of our own is taken back by one-time keys, whenever rows of the
    /// outbox are sent next. What was not sent yet never is.
    pub fn expire(&mut self) -> Result<()> {
        for message in MessageRow::expired(self.tx, self.now)? {
            if message.is_own {
                self.take_back(&message, true, RowState::Expired)?;
            }
            self.erase(&message, "expire")?;
        }
        for envelope in store::expired_envelopes(self.tx, self.now)? {
            self.expire_envelope(&envelope)?;
        }
        store::drop_kept_rumors(self.tx, self.now, None)?;
        if SecretPurpose::erase_due(self.tx, self.now)? {
            self.tx.note_erasure();
        }
        Ok(())
    }

    /// Receipts and deletion notices that nobody took before they lost their sense.
    fn expire_envelope(&mut self, envelope: &EnvelopeRow) -> Result<()> {
        let is_message = match &envelope.message {
            Some(id) => SentRow::find(self.tx, id)?.is_some_and(|sent| sent.is_here),
            None => false,
        };
        if is_message {
            let rows = OutboxRow::of_event(self.tx, &envelope.id)?;
            if rows.iter().any(|row| row.state.is_open()) || !envelope.is_routed {
                self.cancel_rows(envelope, RowState::Expired)?;
            }
        }
        Ok(())
    }
}
