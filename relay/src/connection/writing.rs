//! Events that a client sends: to be published, to prove a key, to join or to leave.

use tokio::sync::oneshot;
use wire::{Event, EventId, RelayFrame};

use super::{Connection, End};
use crate::admission::{self, Answer};
use crate::budget::Budget;
use crate::config::Limits;
use crate::ingest::{InFlight, Job, Purpose};
use crate::metrics;
use crate::policy::{self, Refusal, Wish};

/// What a tag takes in memory beside its text.
const TAG_BYTES: usize = 128;

impl Connection {
    pub(super) async fn publish(&mut self, event: Event) -> Result<(), End> {
        let bytes = event.json().len();
        if let Err(refusal) = self.budget(|budget, limits, now| budget.event(bytes, limits, now)) {
            self.refuse(event.id(), refusal);
            return Ok(());
        }
        if Wish::is_one(&event) {
            return self.wish(event).await;
        }
        let is_first = self.in_flight.available_permits() == self.most_in_flight;
        let Ok(own) = self.in_flight.clone().acquire_owned().await else {
            return Err(End::Stop);
        };
        // Weighed in KiB; the relay as a whole checks and writes only so much at a time. Whoever
        // has nothing else in flight does not wait behind those who have.
        let parts = event.tags().len().saturating_mul(TAG_BYTES);
        let weight = u32::try_from((bytes + parts) / 1024 + 1).unwrap_or(u32::MAX);
        let all = match is_first {
            true => None,
            false => match self
                .shared
                .in_flight
                .clone()
                .acquire_many_owned(weight)
                .await
            {
                Ok(all) => Some(all),
                Err(_) => return Err(End::Stop),
            },
        };
        let permits = InFlight {
            // Its JSON, and its parts.
            held: self.account.hold(bytes * 2 + parts),
            _own: own,
            _all: all,
        };
        self.shared.ingest.submit(Job {
            event,
            auth: self.auth.clone(),
            share: self.checking.clone(),
            purpose: Purpose::Publish {
                outbox: self.outbox.clone(),
                permits,
            },
        });
        Ok(())
    }

    /// Takes something from the address's budget, where it has one.
    fn budget(
        &self,
        take: impl FnOnce(&Budget, &Limits, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let in_force = self.shared.settings.get();
        take(budget, &in_force.config.limits, in_force.config.clock.now())
    }

    /// Answers an event that no thread need look at.
    fn refuse(&self, id: EventId, refusal: Refusal) {
        self.shared.metrics.refused.add(&metrics::name_of(refusal));
        let frame = RelayFrame::ok(&id, false, &refusal.message().text);
        self.outbox.push(frame);
    }

    /// To join or to leave (NIP-43). What follows on this connection may depend on it, so nothing
    /// is read meanwhile.
    async fn wish(&mut self, event: Event) -> Result<(), End> {
        let id = event.id();
        let has_tries = self.join_tries < self.in_force.config.limits.join_tries;
        let may_try = match has_tries {
            true => self.budget(Budget::may_guess),
            false => Err(Refusal::JoinTries),
        };
        let answer = match may_try {
            Ok(()) => {
                let readers = self.shared.history.clone().paid_by(self.reading.clone());
                admission::answer(&self.shared, &readers, event, &self.auth).await
            }
            Err(refusal) => Answer::no(refusal),
        };
        if answer.is_wrong_code {
            self.join_tries += 1;
            // There is nothing to refuse any more.
            let _ = self.budget(|budget, limits, now| {
                budget.guessed(limits, now);
                Ok(())
            });
        }
        let frame = RelayFrame::ok(&id, answer.accepted, &answer.message.text);
        self.outbox.push(frame);
        Ok(())
    }

    pub(super) async fn authenticate(&mut self, event: Event) -> Result<(), End> {
        let id = event.id();
        self.auth_tries += 1;
        if self.auth_tries > self.in_force.config.limits.auth_tries {
            self.shared.metrics.auth_refused.add("auth_tries");
            let text = Refusal::AuthTries.message().text;
            self.outbox.push(RelayFrame::ok(&id, false, &text));
            return match self.auth_tries > self.in_force.config.limits.auth_tries * 2 {
                true => Err(End::Policy("too many AUTH attempts")),
                false => Ok(()),
            };
        }
        if let Err(refusal) = self.budget(Budget::proof) {
            self.shared
                .metrics
                .auth_refused
                .add(&metrics::name_of(refusal));
            let text = refusal.message().text;
            self.outbox.push(RelayFrame::ok(&id, false, &text));
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.shared.ingest.submit(Job {
            event,
            auth: self.auth.clone(),
            share: self.checking.clone(),
            purpose: Purpose::Authenticate {
                challenge: self.challenge.clone(),
                reply,
            },
        });
        // What follows on this connection may depend on it, so nothing is read meanwhile.
        let (accepted, text) = match answer.await {
            Ok(Ok(key)) => {
                self.auth = self
                    .auth
                    .iter()
                    .copied()
                    .filter(|k| *k != key)
                    .chain([key])
                    .collect();
                self.shared
                    .live
                    .change(|fanout, _| fanout.authenticate(self.client, self.auth.clone()));
                // A ban that came between the check and this found nobody to disconnect.
                let in_force = self.shared.settings.get();
                if in_force.roster.is_banned(&key) {
                    return Err(End::Banned);
                }
                (true, policy::caveat(&key, in_force.law()))
            }
            Ok(Err(text)) => (false, text),
            Err(_) => return Err(End::Stop),
        };
        self.outbox.push(RelayFrame::ok(&id, accepted, &text));
        Ok(())
    }
}
