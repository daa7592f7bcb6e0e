//! What each frame of a client asks for.

use wire::client_frame::Refused;
use wire::{ClientFrame, DecodeError, OkMessage, Reason, RelayFrame};

use super::{Connection, End};

/// A frame above this is decoded where searches run, in fair order with them.
const LARGE_FRAME: usize = 16 * 1024;

impl Connection {
    pub(super) async fn frame(&mut self, bytes: &bytes::Bytes) -> Result<(), End> {
        let decoded = match bytes.len() > LARGE_FRAME {
            false => ClientFrame::decode(bytes),
            true => {
                let bytes = bytes.clone();
                let readers = self.shared.history.clone().paid_by(self.reading.clone());
                let decode = move || ClientFrame::decode(&bytes);
                readers.aside(decode).await.map_err(|_| End::Gone)?
            }
        };
        match decoded {
            Ok(ClientFrame::Event(event)) => self.publish(event).await,
            Ok(ClientFrame::Req(id, filters)) => {
                self.subscribe(id, filters);
                Ok(())
            }
            Ok(ClientFrame::Close(id)) => {
                self.unsubscribe(&id);
                Ok(())
            }
            Ok(ClientFrame::Auth(event)) => self.authenticate(event).await,
            Ok(ClientFrame::Count(id, filters)) => {
                self.count(id, filters);
                Ok(())
            }
            Ok(ClientFrame::NegOpen(id, filter, message)) => {
                self.reconcile(id, filter, message);
                Ok(())
            }
            Ok(ClientFrame::NegMsg(id, message)) => {
                self.go_on_reconciling(&id, message);
                Ok(())
            }
            Ok(ClientFrame::NegClose(id)) => {
                self.reconciliations.remove(&id);
                Ok(())
            }
            Ok(_) => self.refuse_frame(DecodeRefusal::Unknown),
            Err(refused) => self.refuse_frame(DecodeRefusal::Frame(refused)),
        }
    }

    fn refuse_frame(&mut self, refusal: DecodeRefusal) -> Result<(), End> {
        if refusal.is_garbage() {
            self.garbage += 1;
            self.shared.metrics.malformed.add(1);
        }
        let is_enough = self.garbage > self.in_force.config.limits.malformed_messages;
        let frame = match refusal {
            DecodeRefusal::Unknown => RelayFrame::notice("unsupported: unknown message type"),
            DecodeRefusal::Frame(refused) => {
                let reason = match refused.error {
                    DecodeError::UnknownFilter => Reason::Unsupported,
                    _ => Reason::Invalid,
                };
                let text = OkMessage::new(reason, &refused.error.to_string()).text;
                match (refused.event, refused.subscription, refused.reconciliation) {
                    (Some(event), ..) => RelayFrame::ok(&event, false, &text),
                    (None, Some(id), _) => {
                        // After CLOSED nothing more comes of it (NIP-01).
                        self.unsubscribe(&id);
                        RelayFrame::closed(&id, &text)
                    }
                    (None, None, Some(id)) => {
                        // After NEG-ERR it counts as closed (NIP-77).
                        self.reconciliations.remove(&id);
                        RelayFrame::neg_err(&id, &text)
                    }
                    (None, None, None) => RelayFrame::notice(&text),
                }
            }
        };
        self.outbox.push(frame);
        match is_enough {
            true => Err(End::Policy("too many malformed messages")),
            false => Ok(()),
        }
    }
}

enum DecodeRefusal {
    Unknown,
    Frame(Refused),
}

impl DecodeRefusal {
    /// What no client means to send. To ask for more than is here, a search for instance or very
    /// many authors, is no garbage: the refusal is the answer.
    fn is_garbage(&self) -> bool {
        let Self::Frame(refused) = self else {
            return true;
        };
        let is_request = refused.subscription.is_some() || refused.reconciliation.is_some();
        let is_understood = matches!(
            refused.error,
            DecodeError::UnknownFilter | DecodeError::TooLarge { .. }
        );
        !(is_request && is_understood)
    }
}
