//! Proving a key on one connection (NIP-42): who is asked, what waits for it, what it changes.

use tokio::time::Instant;
use wire::{ClientFrame, EventId, OkMessage, Reason, SubscriptionId};

use super::{Output, Session, Stage};
use crate::engine::io::{Input, PublishOutcome, QueryEnd, Role};

/// Challenges per connection before it is given up: a relay must not make the account sign
/// without end.
const CHALLENGES: u32 = 16;

/// How far the AUTH dance is.
pub(super) enum Auth {
    /// Nobody asked the engine yet.
    Idle,
    /// The engine was told this many challenges and has not answered.
    Told { unanswered: u32 },
    /// The AUTH event went out.
    Sent { id: EventId, deadline: Instant },
    /// The relay said OK.
    Done,
    /// The relay said no, or the engine wishes to stay anonymous; the reason is final.
    Settled(OkMessage),
}

impl Session {
    /// Sends the AUTH event; ignored where nobody asked or a newer challenge waits for its own.
    pub fn authenticate(&mut self, id: EventId, event: &[u8], now: Instant) {
        let Auth::Told { unanswered } = &mut self.auth else {
            return;
        };
        *unanswered = unanswered.saturating_sub(1);
        if *unanswered > 0 {
            return;
        }
        self.auth = Auth::Sent {
            id,
            deadline: now + self.answer,
        };
        self.send(ClientFrame::auth(event));
    }

    /// Takes note that the account will not AUTH here.
    pub fn stay_anonymous(&mut self, now: Instant) {
        if matches!(self.auth, Auth::Told { .. }) {
            let why = OkMessage::new(Reason::AuthRequired, "the relay asks who is sending");
            self.settle(Auth::Settled(why), now);
        }
    }

    /// Whether an OK for this event would answer the AUTH that is under way.
    pub(super) fn answers_auth(&self, id: EventId) -> bool {
        matches!(&self.auth, Auth::Sent { id: auth, .. } if *auth == id)
    }

    /// The relay took the AUTH event, or did not.
    pub(super) fn proved(&mut self, accepted: bool, message: OkMessage, now: Instant) {
        if !accepted {
            return self.settle(Auth::Settled(refusal_of_auth(message)), now);
        }
        if message.reason == Reason::Restricted && self.key.role == Role::Inbox {
            let (socket, why) = (self.key.clone(), message.text);
            self.tell(Input::Unwelcome { socket, why });
        }
        self.settle(Auth::Done, now);
    }

    /// Gives an AUTH up that the relay has not answered in time.
    pub(super) fn expire_auth(&mut self, now: Instant) {
        if let Auth::Sent { deadline, .. } = self.auth
            && deadline <= now
        {
            let why = OkMessage::new(Reason::AuthRequired, "the relay did not answer AUTH");
            self.settle(Auth::Settled(why), now);
        }
    }

    pub(super) fn challenged(&mut self, challenge: String) -> Result<(), &'static str> {
        if self.challenge.as_ref() == Some(&challenge) {
            return Ok(());
        }
        self.challenges = self.challenges.saturating_add(1);
        if self.challenges > CHALLENGES {
            return Err("the relay challenges without end");
        }
        self.challenge = Some(challenge);
        let is_wanted = self.key.role == Role::Inbox || self.has_parked();
        match &mut self.auth {
            Auth::Told { unanswered } => {
                *unanswered = unanswered.saturating_add(1);
                self.tell_challenge();
            }
            _ if is_wanted => {
                self.auth = Auth::Told { unanswered: 1 };
                self.tell_challenge();
            }
            // Not wanted now: kept for the day the relay answers `auth-required:`.
            _ => self.auth = Auth::Idle,
        }
        Ok(())
    }

    /// Something was parked. If an AUTH succeeded since it was sent, it is sent again; else the
    /// engine is asked for an AUTH, once there is a challenge to sign.
    pub(super) fn retry_or_ask(&mut self, now: Instant) {
        if matches!(self.auth, Auth::Done) {
            self.repeat(now);
        } else if matches!(self.auth, Auth::Idle) && self.challenge.is_some() {
            self.auth = Auth::Told { unanswered: 1 };
            self.tell_challenge();
        }
    }

    fn tell_challenge(&mut self) {
        if let Some(challenge) = self.challenge.clone() {
            let socket = self.key.clone();
            self.tell(Input::Challenged { socket, challenge });
        }
    }

    /// Whether something refused with `auth-required:` could yet pass: no AUTH was tried, one is
    /// under way, or one succeeded after it was sent.
    pub(super) fn auth_may_help(&self, auths: u32) -> bool {
        match self.auth {
            Auth::Idle | Auth::Told { .. } | Auth::Sent { .. } => true,
            Auth::Done => auths < self.auths,
            Auth::Settled(_) => false,
        }
    }

    fn has_parked(&self) -> bool {
        let publishes = self.publishes.values().map(|publish| &publish.stage);
        let queries = self.queries.values().map(|query| &query.stage);
        publishes
            .chain(queries)
            .any(|stage| matches!(stage, Stage::Parked(_)))
            || self.reconciliations.has_parked()
    }

    /// The AUTH has come to its end, good or bad.
    fn settle(&mut self, auth: Auth, now: Instant) {
        if matches!(auth, Auth::Done) {
            self.auths = self.auths.saturating_add(1);
        } else if let Auth::Settled(why) = &auth {
            self.refuse_parked(why.clone());
        }
        self.auth = auth;
        self.repeat(now);
    }

    fn refuse_parked(&mut self, why: OkMessage) {
        let is_parked = |stage: &Stage| matches!(stage, Stage::Parked(_));
        let ids: Vec<EventId> = self
            .publishes
            .iter()
            .filter(|(_, publish)| is_parked(&publish.stage))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(publish) = self.publishes.remove(&id) {
                self.published(publish.ops, &PublishOutcome::Refused(why.clone()));
            }
        }
        let subscriptions: Vec<SubscriptionId> = self
            .queries
            .iter()
            .filter(|(_, query)| is_parked(&query.stage))
            .map(|(subscription, _)| subscription.clone())
            .collect();
        for subscription in subscriptions {
            if let Some(query) = self.queries.remove(&subscription) {
                self.ended(query, QueryEnd::Closed(why.clone()));
            }
        }
        self.refuse_parked_reconciliations(&why);
    }

    /// Sends what was held back or parked.
    fn repeat(&mut self, now: Instant) {
        let mut frames = Vec::new();
        for publish in self.publishes.values_mut() {
            if matches!(publish.stage, Stage::Held | Stage::Parked(_)) {
                publish.stage = Stage::Sent;
                publish.deadline = now + self.answer;
                publish.auths = self.auths;
                frames.push(ClientFrame::event(&publish.event));
            }
        }
        self.out.extend(frames.into_iter().map(Output::Send));
        let waiting: Vec<SubscriptionId> = self
            .queries
            .iter()
            .filter(|(_, query)| matches!(query.stage, Stage::Held | Stage::Parked(_)))
            .map(|(subscription, _)| subscription.clone())
            .collect();
        for subscription in waiting {
            if let Some(mut query) = self.queries.remove(&subscription) {
                query.stage = Stage::Sent;
                query.deadline = now + self.answer;
                query.auths = self.auths;
                query.received = 0;
                self.open(query);
            }
        }
        self.repeat_reconciliations(now);
    }

    pub(super) fn first_stage(&self) -> Stage {
        match self.auth {
            Auth::Told { .. } | Auth::Sent { .. } => Stage::Held,
            Auth::Idle | Auth::Done | Auth::Settled(_) => Stage::Sent,
        }
    }
}

/// The relay's words about a refused AUTH, under a prefix that tells what they are about.
fn refusal_of_auth(message: OkMessage) -> OkMessage {
    match message.reason {
        Reason::AuthRequired | Reason::Restricted => message,
        _ => OkMessage {
            reason: Reason::Restricted,
            text: message.text,
        },
    }
}
