//! Requests for events: subscriptions, counts, reconciliations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, oneshot};
use wire::{Filter, OkMessage, Reason, RelayFrame, SubscriptionId};

use super::{Connection, Subscription};
use crate::count::Count;
use crate::fanout;
use crate::history::Request;
use crate::policy;
use crate::reconcile::Opening;

impl Connection {
    pub(super) fn subscribe(&mut self, id: SubscriptionId, filters: Vec<Filter>) {
        self.unsubscribe(&id);
        self.forget_failed();
        self.shared.metrics.reqs.add(1);
        if let Err(refusal) = policy::may_ask(&filters, &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            self.outbox
                .push(RelayFrame::closed(&id, &refusal.message().text));
            return;
        }
        let limits = &self.in_force.config.limits;
        let weight = fanout::weight(&filters);
        let held: usize = self
            .subscriptions
            .iter()
            .map(|open| open.filters.bytes())
            .sum();
        if held + weight > limits.filter_bytes {
            let text = OkMessage::new(Reason::RateLimited, "too much in all filters together").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        }
        let most = limits.subscriptions;
        let opened = self.shared.live.change(|fanout, delivered| {
            if fanout.others(self.client, &id) >= most {
                return None;
            }
            let filters = filters.clone().into();
            let key = fanout.subscribe(self.client, id.clone(), filters, delivered)?;
            Some((key, delivered))
        });
        let Some((key, up_to_seq)) = opened else {
            let metrics = &self.shared.metrics;
            metrics.requests_refused.add("too_many_subscriptions");
            let text = OkMessage::new(Reason::RateLimited, "too many subscriptions").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        };
        let (stop, stopped) = oneshot::channel();
        let has_failed = Arc::new(AtomicBool::new(false));
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(Subscription {
            id: id.clone(),
            _stop: stop,
            filters: self.account.hold(weight),
            has_failed: has_failed.clone(),
        });
        self.shared.metrics.subscriptions.add(1);
        let request = Request {
            id,
            filters,
            auth: self.auth.clone(),
            up_to_seq,
            outbox: self.outbox.clone(),
            account: self.account.clone(),
            turns: self.histories.clone(),
        };
        let most = self.in_force.config.limits.events_per_filter;
        let history = self.shared.history.clone().at_most(most);
        let history = history.paid_by(self.reading.clone());
        let live = self.shared.live.clone();
        // Nothing comes after CLOSED.
        let end = move || {
            live.change(|fanout, _| fanout.end(key));
            has_failed.store(true, Ordering::Release);
        };
        tokio::spawn(history.send(request, stopped, end));
    }

    pub(super) fn count(&mut self, id: SubscriptionId, filters: Vec<Filter>) {
        self.shared.metrics.counts.add(1);
        if let Err(refusal) = policy::may_ask(&filters, &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            let text = refusal.message().text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        }
        // Few clients ever count.
        let at_once = self.in_force.config.limits.counts;
        let new = || Arc::new(Semaphore::new(at_once));
        let counts = self.counts.get_or_insert_with(new).clone();
        let Ok(permit) = counts.try_acquire_owned() else {
            self.shared.metrics.requests_refused.add("too_many_counts");
            let text = OkMessage::new(Reason::RateLimited, "too many counts at once").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        };
        let count = Count {
            id,
            filters,
            auth: self.auth.clone(),
            outbox: self.outbox.clone(),
            stop: self.closed.child_token(),
        };
        let most = self.in_force.config.limits.counted_events;
        let history = self.shared.history.clone().paid_by(self.reading.clone());
        tokio::spawn(async move {
            count.answer(history, most, permit).await;
        });
    }

    pub(super) fn reconcile(&mut self, id: SubscriptionId, filter: Filter, message: Vec<u8>) {
        self.reconciliations
            .retain(|other, session| *other != id && session.is_open());
        self.shared.metrics.reconciliations.add(1);
        if let Err(refusal) = policy::may_ask(std::slice::from_ref(&filter), &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            let text = refusal.message().text;
            self.outbox.push(RelayFrame::neg_err(&id, &text));
            return;
        }
        if self.reconciliations.len() >= self.in_force.config.limits.reconciliations {
            let metrics = &self.shared.metrics;
            metrics.requests_refused.add("too_many_reconciliations");
            let text = OkMessage::new(Reason::RateLimited, "too many reconciliations").text;
            self.outbox.push(RelayFrame::neg_err(&id, &text));
            return;
        }
        let session = self.shared.reconciliations.open(Opening {
            id: id.clone(),
            filter,
            message,
            auth: self.auth.clone(),
            most: self.in_force.config.limits.reconciled_events,
            idle: self.in_force.config.limits.reconcile_idle,
            outbox: self.outbox.clone(),
            share: self.reading.clone(),
            stop: self.closed.child_token(),
        });
        self.reconciliations.insert(id, session);
    }

    pub(super) fn go_on_reconciling(&mut self, id: &SubscriptionId, message: Vec<u8>) {
        let (reason, text) = match self.reconciliations.get(id) {
            Some(session) if session.pass_on(message) => return,
            Some(session) if session.is_open() => (
                Reason::RateLimited,
                "a message came before the last was answered",
            ),
            _ => (Reason::Closed, "no such reconciliation is open"),
        };
        self.reconciliations.remove(id);
        let text = OkMessage::new(reason, text).text;
        self.outbox.push(RelayFrame::neg_err(id, &text));
    }

    /// Lets go of subscriptions that the store failed: nobody closes them a second time.
    fn forget_failed(&mut self) {
        let before = self.subscriptions.len();
        self.subscriptions
            .retain(|open| !open.has_failed.load(Ordering::Acquire));
        let gone = before - self.subscriptions.len();
        self.shared.metrics.subscriptions.sub(gone);
    }

    pub(super) fn unsubscribe(&mut self, id: &SubscriptionId) {
        let open = self.subscriptions.iter().position(|open| open.id == *id);
        if let Some(at) = open {
            self.subscriptions.swap_remove(at);
            self.shared.metrics.subscriptions.sub(1);
            self.shared
                .live
                .change(|fanout, _| fanout.unsubscribe(self.client, id));
        }
    }
}
