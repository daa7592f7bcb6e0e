//! The circle definitions on circle 0's relays: staged here, read here, understood elsewhere.
//!
//! Only circle 0 does this. They are encrypted and merged by `crypto::circles` with the seed,
//! which this engine does not hold.

use bytes::Bytes;
use crypto::circles::tag_value;
use wire::{Event, Filter, RelayUrl, VerifiedEvent, kinds, limits};

use crate::engine::lists::refusal_word;
use crate::engine::machine::{Engine, Op, Rng, Step, Turn};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{EnvelopeRow, OutboxRow, Purpose, RowState, Store};

/// Own relays that refuse the circle definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CirclesRefused {
    /// Each of them, and its reason; with the kind of failure that it is.
    pub says: Vec<(ErrorWord, String)>,
    /// Whether another has them.
    pub is_kept_somewhere: bool,
}

impl Engine {
    /// Stores sealed circle definitions to be published with circle 0's next traffic; nothing is
    /// sent by this call. They replace earlier ones that were not sent yet. Fails with
    /// `internal` in any other circle.
    pub fn stage_circles(
        &mut self,
        store: &mut Store,
        definitions: &Event,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<()> {
        let step: Step<()> = self.turn(store, now, rng, |turn| {
            if turn.config.circle != 0 || definitions.pubkey() != turn.own() {
                return Err(Error::new(
                    ErrorWord::Internal,
                    "circle definitions belong to circle 0",
                ));
            }
            turn.publish_own(definitions, Purpose::Circles, kinds::APP_DATA)
        })?;
        debug_assert!(step.effects.is_empty(), "staging sends nothing");
        Ok(())
    }

    /// What the own relays say that refuse the newest definitions; nothing where none does. Those
    /// stay in the outbox, since without them the words would bring back circle 0 alone.
    pub fn refused_circles(&self, store: &Store) -> Result<Option<CirclesRefused>> {
        let connection = store.connection();
        let Some(envelope) = EnvelopeRow::newest_circles(connection)? else {
            return Ok(None);
        };
        let rows = OutboxRow::of_event(connection, &envelope.id)?;
        let is_refusal = |row: &&OutboxRow| {
            row.last == "refused" && matches!(row.state, RowState::Queued | RowState::Refused)
        };
        let says = rows.iter().filter(is_refusal).map(|row| {
            let detail = format!("{}: {}", row.relay, row.detail);
            (refusal_word(&row.detail), detail)
        });
        let says: Vec<_> = says.collect();
        Ok((!says.is_empty()).then(|| CirclesRefused {
            says,
            is_kept_somewhere: rows.iter().any(|row| row.state == RowState::Accepted),
        }))
    }

    /// The definitions that came since the last call, verified as our account's. The own lists
    /// and these are read together: by `set_servers`, `sync` and `watch`.
    pub fn take_circles(&mut self) -> Vec<VerifiedEvent> {
        std::mem::take(&mut self.run.circles)
    }
}

impl Turn<'_> {
    /// Asks one own relay for the definitions; in circle 0 only.
    pub fn read_circles(&mut self, relay: &RelayUrl) {
        if self.config.circle != 0 {
            return;
        }
        let filter = Filter::default()
            .with_kinds([kinds::APP_DATA])
            .with_tag('d', [tag_value(self.account)]);
        self.query_own(Op::Circles, relay, filter);
    }

    /// Definitions came from some relay.
    pub fn circles_found(&mut self, events: &[Bytes]) -> Result<()> {
        const KEPT: usize = 16;
        let tag = tag_value(self.account);
        let latest = self.now.saturating_add(limits::WRAP_FUTURE_SECONDS);
        for bytes in events {
            let event = Event::decode(bytes.clone()).ok();
            let event = event.and_then(|event| VerifiedEvent::verify(event).ok());
            if let Some(event) = event
                && event.kind() == kinds::APP_DATA
                && event.pubkey() == self.own()
                && event.tags().value("d") == Some(tag.as_str())
                && event.created_at() <= latest
                && self.run.circles.len() < KEPT
                && !self.run.circles.contains(&event)
            {
                self.run.circles.push(event);
            }
        }
        Ok(())
    }
}
