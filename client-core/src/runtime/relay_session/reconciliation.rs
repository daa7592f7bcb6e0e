//! What is said on one connection about comparing sets (NIP-77). No I/O.
//!
//! The rules are those of a query for wraps: nothing while an AUTH is under way counts, since a
//! relay shows an unknown client an empty inbox; `auth-required:` parks it until the AUTH is done.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use wire::{ClientFrame, Filter, OkMessage, Reason, SubscriptionId};

use super::{Auth, Session, Stage};
use crate::engine::io::{Input, OpId, ReconcileAnswer, ReconcileStep};

/// How long a relay that has sent a NOTICE may take to answer all the same: it may have greeted.
const AFTER_NOTICE: Duration = Duration::from_secs(2);

/// Said of what belonged to an earlier connection.
pub(in crate::runtime) const CONNECTION_LOST: &str = "the connection was lost";

/// The reconciliations of one connection, by the name that each has on it.
#[derive(Debug, Default)]
pub(super) struct Reconciliations(HashMap<SubscriptionId, Reconciliation>);

/// One of them.
#[derive(Debug)]
pub(super) struct Reconciliation {
    pub op: OpId,
    /// What it was opened with, to be said again after an AUTH.
    pub filter: Filter,
    pub message: Vec<u8>,
    pub turn: Whose,
    /// A NOTICE that came in the place of an answer.
    pub notice: Option<OkMessage>,
    pub deadline: Instant,
    /// How often AUTH had succeeded when it was opened.
    pub auths: u32,
}

/// Whose word is awaited.
#[derive(Debug)]
pub(super) enum Whose {
    /// Nobody's: an AUTH is under way, and nothing was said.
    Held,
    /// The relay's.
    Theirs,
    /// Nobody's: the relay wants an AUTH first.
    Parked(OkMessage),
    /// The engine's.
    Ours,
    /// The engine's; but the relay has ended it, as the engine hears when it goes on.
    Over(OkMessage),
}

impl Reconciliation {
    /// Whether the relay owes an answer.
    pub fn is_theirs(&self) -> bool {
        matches!(self.turn, Whose::Theirs)
    }

    /// Whether the engine is to go on.
    pub fn is_ours(&self) -> bool {
        matches!(self.turn, Whose::Ours | Whose::Over(_))
    }

    /// Whether it is to be opened (again) when an AUTH has ended.
    pub fn waits_for_auth(&self) -> bool {
        matches!(self.turn, Whose::Held | Whose::Parked(_))
    }
}

impl Reconciliations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, name: SubscriptionId, one: Reconciliation) {
        self.0.insert(name, one);
    }

    pub fn get_mut(&mut self, name: &SubscriptionId) -> Option<&mut Reconciliation> {
        self.0.get_mut(name)
    }

    pub fn remove(&mut self, name: &SubscriptionId) -> Option<Reconciliation> {
        self.0.remove(name)
    }

    /// Passes the turn to the relay; the name to say it under. The error is what became of it in
    /// the meantime.
    pub fn go_on(
        &mut self,
        op: OpId,
        now: Instant,
        answer: Duration,
    ) -> Result<SubscriptionId, ReconcileAnswer> {
        let found = self.0.iter_mut().find(|(_, one)| one.op == op);
        let Some((name, one)) = found else {
            return Err(ReconcileAnswer::Broken(CONNECTION_LOST.to_owned()));
        };
        let name = name.clone();
        if let Whose::Over(message) = &one.turn {
            let answer = ReconcileAnswer::Refused(message.clone());
            self.0.remove(&name);
            return Err(answer);
        }
        one.turn = Whose::Theirs;
        one.notice = None;
        one.deadline = now + answer;
        Ok(name)
    }

    /// Ends the operation; its name, where the relay knows it.
    pub fn close(&mut self, op: OpId) -> Option<SubscriptionId> {
        let (name, _) = self.0.iter().find(|(_, one)| one.op == op)?;
        let name = name.clone();
        self.0.remove(&name).map(|_| name)
    }

    /// Whether one waits for an AUTH that the relay asked for.
    pub fn has_parked(&self) -> bool {
        self.0
            .values()
            .any(|one| matches!(one.turn, Whose::Parked(_)))
    }

    /// When the next of them has waited for long enough.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|one| !one.is_ours());
        waiting.map(|one| one.deadline).min()
    }

    /// Who owes an answer has sent a NOTICE, and has until `deadline` for more.
    fn noticed(&mut self, notice: &OkMessage, deadline: Instant) {
        for one in self.0.values_mut().filter(|one| one.is_theirs()) {
            one.notice.get_or_insert_with(|| notice.clone());
            one.deadline = one.deadline.min(deadline);
        }
    }

    /// Takes out those that a rule holds for.
    pub fn take(
        &mut self,
        rule: impl Fn(&Reconciliation) -> bool,
    ) -> Vec<(SubscriptionId, Reconciliation)> {
        self.0.extract_if(|_, one| rule(one)).collect()
    }

    /// The connection is gone: what the relay owes an answer for is broken. Where it is our turn
    /// the engine hears of it when it goes on.
    pub fn disconnected(&mut self, why: &str) -> Vec<(OpId, ReconcileAnswer)> {
        let all = std::mem::take(&mut self.0).into_values();
        all.filter(|one| !one.is_ours())
            .map(|one| (one.op, ReconcileAnswer::Broken(why.to_owned())))
            .collect()
    }
}

impl Session {
    /// Goes on with a reconciliation; the opening is held back while an AUTH is under way.
    pub fn reconcile(&mut self, op: OpId, step: ReconcileStep, now: Instant) {
        match step {
            ReconcileStep::Open { filter, message } => {
                let turn = match self.first_stage() {
                    Stage::Held => Whose::Held,
                    _ => Whose::Theirs,
                };
                self.compare(Reconciliation {
                    op,
                    filter,
                    message,
                    turn,
                    notice: None,
                    deadline: now + self.answer,
                    auths: self.auths,
                });
            }
            ReconcileStep::Next { message } => {
                match self.reconciliations.go_on(op, now, self.answer) {
                    Ok(name) => self.send(ClientFrame::neg_msg(&name, &message)),
                    Err(answer) => self.reconciled(op, answer),
                }
            }
            ReconcileStep::Close => {
                if let Some(name) = self.reconciliations.close(op) {
                    self.send(ClientFrame::neg_close(&name));
                }
            }
        }
    }

    /// The relay's part of a comparison.
    pub(super) fn compared(
        &mut self,
        name: &SubscriptionId,
        message: Vec<u8>,
    ) -> Result<(), &'static str> {
        let Some(one) = self
            .reconciliations
            .get_mut(name)
            .filter(|one| one.is_theirs())
        else {
            return self.spoiled();
        };
        match &self.auth {
            // An unknown client may have been compared with an inbox of which it sees nothing.
            Auth::Told { .. } | Auth::Sent { .. } => {
                let why = OkMessage::new(Reason::AuthRequired, "AUTH is under way");
                one.turn = Whose::Parked(why);
                self.send(ClientFrame::neg_close(name));
            }
            Auth::Settled(why) => {
                let why = why.clone();
                if let Some(one) = self.reconciliations.remove(name) {
                    self.send(ClientFrame::neg_close(name));
                    self.reconciled(one.op, ReconcileAnswer::Refused(why));
                }
            }
            Auth::Idle | Auth::Done => {
                one.turn = Whose::Ours;
                let op = one.op;
                self.reconciled(op, ReconcileAnswer::Message(message));
            }
        }
        Ok(())
    }

    /// NEG-ERR, or CLOSED in its place.
    pub(super) fn not_compared(&mut self, name: &SubscriptionId, message: OkMessage, now: Instant) {
        let Some(one) = self.reconciliations.get_mut(name) else {
            return;
        };
        match one.turn {
            // It crosses our own NEG-CLOSE, or was said before.
            Whose::Parked(_) | Whose::Over(_) => return,
            Whose::Ours => {
                one.turn = Whose::Over(message);
                return;
            }
            Whose::Held | Whose::Theirs => {}
        }
        let (auths, asks_auth) = (one.auths, message.reason == Reason::AuthRequired);
        if asks_auth && self.auth_may_help(auths) {
            if let Some(one) = self.reconciliations.get_mut(name) {
                one.turn = Whose::Parked(message);
                one.deadline = now + self.answer;
            }
            return self.retry_or_ask(now);
        }
        if let Some(one) = self.reconciliations.remove(name) {
            let answer = match &self.auth {
                Auth::Settled(why) if asks_auth => ReconcileAnswer::Refused(why.clone()),
                _ => ReconcileAnswer::Refused(message),
            };
            self.reconciled(one.op, answer);
        }
    }

    /// A NOTICE is for people, who read it at the relay's own page; but a relay that does not
    /// know NEG-OPEN answers with one, and with nothing else.
    pub(super) fn noticed(&mut self, text: &str, now: Instant) {
        let notice = OkMessage::parse(text);
        self.reconciliations.noticed(&notice, now + AFTER_NOTICE);
    }

    /// Opens one under a new name.
    fn compare(&mut self, one: Reconciliation) {
        let Some(name) = self.new_name() else {
            let why = OkMessage::new(Reason::Error, "no subscription id");
            return self.reconciled(one.op, ReconcileAnswer::Refused(why));
        };
        if one.is_theirs() {
            self.send(ClientFrame::neg_open(&name, &one.filter, &one.message));
        }
        self.reconciliations.insert(name, one);
    }

    fn reconciled(&mut self, op: OpId, answer: ReconcileAnswer) {
        self.tell(Input::Reconciled { op, answer });
    }

    /// Gives up what the relay has not answered in time.
    pub(super) fn expire_reconciliations(&mut self, now: Instant) {
        let is_late = |one: &Reconciliation| one.deadline <= now && !one.is_ours();
        for (name, one) in self.reconciliations.take(is_late) {
            let answer = match one.turn {
                Whose::Held => ReconcileAnswer::Unreachable("AUTH took too long".to_owned()),
                Whose::Parked(message) => ReconcileAnswer::Refused(message),
                Whose::Theirs | Whose::Ours | Whose::Over(_) => {
                    self.send(ClientFrame::neg_close(&name));
                    one.notice
                        .map_or(ReconcileAnswer::Silent, ReconcileAnswer::Refused)
                }
            };
            self.reconciled(one.op, answer);
        }
    }

    /// What waited for an AUTH that came to nothing.
    pub(super) fn refuse_parked_reconciliations(&mut self, why: &OkMessage) {
        let is_parked = |one: &Reconciliation| matches!(one.turn, Whose::Parked(_));
        for (_, one) in self.reconciliations.take(is_parked) {
            self.reconciled(one.op, ReconcileAnswer::Refused(why.clone()));
        }
    }

    /// Opens what was held back or parked.
    pub(super) fn repeat_reconciliations(&mut self, now: Instant) {
        for (_, mut one) in self.reconciliations.take(Reconciliation::waits_for_auth) {
            one.turn = Whose::Theirs;
            one.notice = None;
            one.deadline = now + self.answer;
            one.auths = self.auths;
            self.compare(one);
        }
    }

    /// The connection is gone.
    pub(super) fn break_reconciliations(&mut self, why: &str) {
        for (op, answer) in self.reconciliations.disconnected(why) {
            self.reconciled(op, answer);
        }
    }
}
