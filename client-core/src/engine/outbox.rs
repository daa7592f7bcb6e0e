//! Rows are leased, published, retried and settled.

use bytes::Bytes;
use rand::RngExt as _;
use wire::{OkMessage, Reason};

use crate::engine::io::{Effect, PublishOutcome, Role};
use crate::engine::machine::{Engine, Op, Rng, Step, Turn};
use crate::engine::send::CANCELLED;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{
    EnvelopeRow, OutboxRow, PlaceRow, Purpose, RecipientRow, RowRole, RowState, Store, damaged,
    erase_seals,
};

/// How long a row belongs to the process that sends it. Renewed while it lives; so long must the
/// next process wait for a row that a crash left behind.
const LEASE_SECONDS: u64 = 15;
/// When a living process renews its leases.
const RENEW_SECONDS: u64 = 5;
/// The first back-off, doubled with each try.
const RETRY_FIRST_SECONDS: u64 = 5;
/// The longest back-off.
const RETRY_MAX_SECONDS: u64 = 3_600;
/// A relay that says "too fast" is left alone for at least so long.
const RATE_LIMIT_SECONDS: u64 = 30;
/// A relay that refuses the circle definitions is asked again after so long at least: until it takes
/// them, or another does, the seed words alone would not bring the circles back.
const CIRCLES_SECONDS: u64 = 600;
/// Refusals without a standard prefix may pass: after so many tries they are final.
const UNKNOWN_REFUSALS: u32 = 3;
/// Relays take no wraps that are older (NIP-59 draws their times from two days).
const WRAP_AGE_SECONDS: u64 = 2 * 86_400;
/// Rows sent at once; the rest follows as answers come.
const IN_FLIGHT: usize = 64;

/// Whether a relay's refusal is about the size of the event. No standard prefix says so; these
/// are the words that relays use, ours among them.
pub(crate) fn says_too_large(refusal: &str) -> bool {
    const WHAT: [&str; 5] = ["event", "message", "content", "frame", "payload"];
    const LARGE: [&str; 6] = [
        "too large",
        "too big",
        "too long",
        "larger than",
        "exceeds",
        "size",
    ];
    let refusal = refusal.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| refusal.contains(word));
    says(&WHAT) && says(&LARGE)
}

impl Engine {
    /// Everything in the outbox is tried now, whatever the back-off says.
    pub fn flush(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| {
            turn.expire()?;
            turn.hurry()?;
            turn.resume_lists()?;
            turn.settle()
        })
    }

    /// Takes back what is not sent yet. `item` is an outbox item's id as [`Engine::outbox`] gives
    /// it. Fails with `not_found`, or with `conflict` where some relay may have it already: then
    /// `delete` is the way.
    pub fn cancel(
        &mut self,
        store: &mut Store,
        item: &str,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| turn.cancel(item))
    }

    /// The time at which the leases of this run must be renewed.
    pub(crate) fn renewal(&self, store: &rusqlite::Connection) -> Result<Option<u64>> {
        let mut next = None;
        for op in self.run.ops.values() {
            let lease = match op {
                Op::Publish { row, .. } => OutboxRow::find(store, *row)?
                    .filter(|r| r.state == RowState::Sending)
                    .map(|r| r.lease_until),
                Op::Blob { blob, origin, .. } => {
                    PlaceRow::find(store, blob, origin)?.map(|p| p.lease_until)
                }
                _ => None,
            };
            let due = lease.map(|until| until.saturating_sub(LEASE_SECONDS - RENEW_SECONDS));
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }
}

impl Turn<'_> {
    /// The end of a lease that starts now.
    pub fn lease(&self) -> u64 {
        self.now.saturating_add(LEASE_SECONDS)
    }

    /// When to try again after `attempts` tries: doubling, with jitter of a quarter either way.
    pub fn backoff(&mut self, attempts: u32, least: u64) -> u64 {
        let doubled = RETRY_FIRST_SECONDS.saturating_mul(1 << attempts.min(16).saturating_sub(1));
        let wait = doubled.clamp(least.max(RETRY_FIRST_SECONDS), RETRY_MAX_SECONDS);
        let jitter = self.rng.random_range(0..=wait / 2);
        self.now
            .saturating_add(wait - wait / 4)
            .saturating_add(jitter)
    }

    /// Everything queued is due now.
    pub fn hurry(&mut self) -> Result<()> {
        self.run.failed_lookups.clear();
        OutboxRow::hurry(self.tx, self.now)?;
        PlaceRow::hurry(self.tx, self.now)
    }

    /// Leases due rows and publishes them, in random order.
    pub fn emit_due(&mut self) -> Result<()> {
        let is_publish = |op: &&Op| matches!(op, Op::Publish { .. });
        let flying = self.run.ops.values().filter(is_publish).count();
        let Some(room) = IN_FLIGHT.checked_sub(flying).filter(|room| *room > 0) else {
            return Ok(());
        };
        let mut rows = OutboxRow::due(self.tx, self.now, u32::try_from(room).unwrap_or(1))?;
        self.shuffle(&mut rows);
        let mut is_anew = false;
        for row in rows {
            is_anew |= self.emit(row)?;
        }
        // What was wrapped anew has relays to find.
        if is_anew {
            self.route_all()?;
            for row in OutboxRow::due(self.tx, self.now, u32::try_from(room).unwrap_or(1))? {
                self.emit(row)?;
            }
        }
        Ok(())
    }

    /// Publishes one row; says whether its message was wrapped anew instead.
    fn emit(&mut self, mut row: OutboxRow) -> Result<bool> {
        let envelope = EnvelopeRow::find(self.tx, &row.event_id)?.ok_or_else(damaged)?;
        if row.state == RowState::Sending {
            // A process died between sending and hearing: the relay may have it.
            row.state = RowState::Queued;
            "unknown".clone_into(&mut row.last);
            row.save(self.tx)?;
        }
        let is_wrap = envelope.purpose == Purpose::Wrap;
        if is_wrap && self.now > envelope.dated_at.saturating_add(WRAP_AGE_SECONDS) {
            let rows = OutboxRow::of_event(self.tx, &envelope.id)?;
            if rows.iter().any(|other| other.state == RowState::Accepted) {
                row.state = RowState::GivenUp;
                row.save(self.tx)?;
                self.settle_envelope(&envelope)?;
                return Ok(false);
            }
            self.wrap_again(&envelope)?;
            return Ok(true);
        }
        let Some(json) = &envelope.json else {
            row.state = RowState::Cancelled;
            row.save(self.tx)?;
            return Ok(false);
        };
        let op = self.begin(Op::Publish {
            row: row.row,
            attempt: row.attempts.saturating_add(1),
            was_touched: row.touched,
            message: envelope.message,
        });
        let role = match row.role {
            RowRole::Publish => Role::Publish,
            RowRole::Inbox => Role::Inbox,
            RowRole::AsMyself => Role::AsMyself,
        };
        let socket = self.socket(role, envelope.inbox, &row.relay, row.is_own);
        self.effects.push(Effect::Publish {
            op,
            socket,
            id: envelope.id,
            event: Bytes::from(json.clone()),
        });
        row.state = RowState::Sending;
        row.touched = true;
        row.attempts = row.attempts.saturating_add(1);
        row.lease_until = self.lease();
        row.save(self.tx)?;
        Ok(false)
    }

    /// A relay answered, or did not.
    pub fn published(
        &mut self,
        row: i64,
        (attempt, was_touched): (u32, bool),
        outcome: PublishOutcome,
    ) -> Result<()> {
        let Some(mut row) = OutboxRow::find(self.tx, row)? else {
            return Ok(());
        };
        // The lease ran out, and another process tries the row by now: what that one hears counts.
        // A yes is a yes, whoever hears it.
        let is_late = row.attempts != attempt;
        if is_late && !matches!(outcome, PublishOutcome::Accepted(_)) {
            return Ok(());
        }
        let envelope = EnvelopeRow::find(self.tx, &row.event_id)?.ok_or_else(damaged)?;
        // Taken back while it was on its way: what is known is noted, nothing is sent again.
        let was_open = row.state == RowState::Sending;
        row.lease_until = 0;
        let (state, last, detail) = match outcome {
            PublishOutcome::Accepted(message) => (RowState::Accepted, "accepted", message.text),
            PublishOutcome::Refused(message) => {
                row.touched = was_touched;
                match self.refused(&mut row, &envelope, message) {
                    (RowState::Refused, last, detail) if envelope.purpose == Purpose::Circles => {
                        row.next_at = self.backoff(row.attempts, CIRCLES_SECONDS);
                        (RowState::Queued, last, detail)
                    }
                    settled => settled,
                }
            }
            PublishOutcome::Unreachable(why) => {
                row.touched = was_touched;
                row.next_at = self.backoff(row.attempts, 0);
                (RowState::Queued, "unreachable", why)
            }
            PublishOutcome::Unknown(why) => {
                row.next_at = self.backoff(row.attempts, 0);
                (RowState::Queued, "unknown", why)
            }
            PublishOutcome::Forbidden(why) => {
                row.touched = was_touched;
                (RowState::Refused, "refused", why)
            }
        };
        last.clone_into(&mut row.last);
        row.detail = detail;
        if was_open {
            row.state = state;
        }
        row.save(self.tx)?;
        if !row.state.is_open() {
            self.settle_envelope(&envelope)?;
        }
        Ok(())
    }

    /// A refusal: some pass, some end it, and a self-copy has a second way.
    fn refused(
        &mut self,
        row: &mut OutboxRow,
        envelope: &EnvelopeRow,
        message: OkMessage,
    ) -> (RowState, &'static str, String) {
        let is_self_copy = envelope.purpose == Purpose::Wrap && envelope.inbox == self.own();
        match message.reason {
            Reason::Duplicate => {
                row.touched = true;
                (RowState::Accepted, "accepted", message.text)
            }
            Reason::Restricted | Reason::AuthRequired
                if is_self_copy && row.role == RowRole::Publish =>
            {
                row.role = RowRole::Inbox;
                row.next_at = self.now;
                (RowState::Queued, "transient", message.text)
            }
            Reason::RateLimited => {
                row.next_at = self.backoff(row.attempts, RATE_LIMIT_SECONDS);
                (RowState::Queued, "transient", message.text)
            }
            // The same bytes are as large at the next try.
            Reason::Error | Reason::None if says_too_large(&message.text) => {
                (RowState::Refused, "refused", message.text)
            }
            Reason::Error => {
                row.next_at = self.backoff(row.attempts, 0);
                (RowState::Queued, "transient", message.text)
            }
            Reason::None if row.attempts < UNKNOWN_REFUSALS => {
                row.next_at = self.backoff(row.attempts, 0);
                (RowState::Queued, "transient", message.text)
            }
            _ => (RowState::Refused, "refused", message.text),
        }
    }

    /// Where nothing is left to send of an envelope, its bytes go, and the seal with them once
    /// somebody has the message.
    fn settle_envelope(&mut self, envelope: &EnvelopeRow) -> Result<()> {
        EnvelopeRow::erase_settled(self.tx, &envelope.id)?;
        let rows = OutboxRow::of_event(self.tx, &envelope.id)?;
        let is_done = rows.iter().all(|row| !row.state.is_open());
        if let Some(message) = &envelope.message
            && envelope.purpose == Purpose::Wrap
            && is_done
        {
            erase_seals(self.tx, message, Some(&envelope.inbox))?;
        }
        Ok(())
    }

    /// This process is alive: rows that it is sending stay its own.
    pub fn renew_leases(&mut self) -> Result<()> {
        let lease = self.lease();
        let ops: Vec<Op> = self.run.ops.values().cloned().collect();
        for op in ops {
            match op {
                Op::Publish { row, .. } => {
                    if let Some(mut row) = OutboxRow::find(self.tx, row)?
                        && row.state == RowState::Sending
                    {
                        row.lease_until = lease;
                        row.save(self.tx)?;
                    }
                }
                Op::Blob { blob, origin, .. } => {
                    if let Some(mut place) = PlaceRow::find(self.tx, &blob, &origin)? {
                        place.lease_until = lease;
                        place.save(self.tx)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Undoes what [`Turn::emit`] and its like noted for effects that were never carried out.
    pub fn put_back(&mut self, effects: &[Effect]) -> Result<()> {
        for effect in effects {
            let (Effect::Publish { op, .. }
            | Effect::Query { op, .. }
            | Effect::Reconcile { op, .. }
            | Effect::Describe { op, .. }
            | Effect::Upload { op, .. }
            | Effect::RemoveBlob { op, .. }
            | Effect::ProbeBlob { op, .. }) = effect
            else {
                continue;
            };
            match self.run.ops.remove(op) {
                Some(Op::Publish {
                    row, was_touched, ..
                }) => {
                    if let Some(mut row) = OutboxRow::find(self.tx, row)? {
                        row.state = RowState::Queued;
                        row.touched = was_touched;
                        row.attempts = row.attempts.saturating_sub(1);
                        row.lease_until = 0;
                        row.save(self.tx)?;
                    }
                }
                Some(Op::Blob {
                    blob,
                    origin,
                    was_touched,
                    ..
                }) => {
                    if let Some(mut place) = PlaceRow::find(self.tx, &blob, &origin)? {
                        place.touched = was_touched;
                        place.attempts = place.attempts.saturating_sub(1);
                        place.lease_until = 0;
                        place.save(self.tx)?;
                    }
                }
                Some(Op::Lookup { author, .. }) => {
                    self.run.lookups.remove(&author);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends every unanswered operation: what was sent without an answer is unknown.
    pub fn release(&mut self) -> Result<()> {
        for op in std::mem::take(&mut self.run.ops).into_values() {
            match op {
                Op::Publish { row, .. } => {
                    if let Some(mut row) = OutboxRow::find(self.tx, row)?
                        && row.state == RowState::Sending
                    {
                        row.state = RowState::Queued;
                        "unknown".clone_into(&mut row.last);
                        row.lease_until = 0;
                        row.next_at = self.now;
                        row.save(self.tx)?;
                    }
                }
                Op::Blob { blob, origin, .. } => {
                    if let Some(mut place) = PlaceRow::find(self.tx, &blob, &origin)? {
                        place.lease_until = 0;
                        place.save(self.tx)?;
                    }
                }
                _ => {}
            }
        }
        self.run.lookups.clear();
        self.run.watches.clear();
        Ok(())
    }

    fn cancel(&mut self, item: &str) -> Result<()> {
        let not_found = || Error::new(ErrorWord::NotFound, "no such outbox item");
        let id = wire::EventId::from_hex(item).map_err(|_| not_found())?;
        let envelope = EnvelopeRow::find(self.tx, &id)?.ok_or_else(not_found)?;
        let rows = OutboxRow::of_event(self.tx, &id)?;
        let is_open = !envelope.is_routed || rows.iter().any(|row| row.state.is_open());
        if !is_open {
            return Err(not_found());
        }
        if rows.iter().any(|row| row.touched) {
            return Err(Error::new(
                ErrorWord::Conflict,
                "a relay may have it already; it was not taken back",
            )
            .hint("delete the message with --for-everyone"));
        }
        self.cancel_rows(&envelope, RowState::Cancelled)?;
        if let Some(message) = &envelope.message {
            let own = self.own();
            RecipientRow::refuse(self.tx, message, &envelope.inbox, CANCELLED)?;
            let recipients = RecipientRow::of(self.tx, message)?;
            if recipients.iter().all(|r| r.refusal.is_some()) {
                for copy in EnvelopeRow::of_message(self.tx, message, Purpose::Wrap)? {
                    if copy.inbox == own {
                        self.cancel_rows(&copy, RowState::Cancelled)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends every open row of an envelope; bytes and seals of it go.
    pub fn cancel_rows(&mut self, envelope: &EnvelopeRow, state: RowState) -> Result<()> {
        for mut row in OutboxRow::of_event(self.tx, &envelope.id)? {
            if row.state.is_open() {
                row.state = state;
                row.save(self.tx)?;
            }
        }
        EnvelopeRow::mark_routed(self.tx, &envelope.id)?;
        EnvelopeRow::erase_settled(self.tx, &envelope.id)?;
        if let Some(message) = &envelope.message {
            erase_seals(self.tx, message, Some(&envelope.inbox))?;
        }
        self.tx.note_erasure();
        Ok(())
    }
}
