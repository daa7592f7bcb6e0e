//! Verbs that speak: send, sync, watch, delete, status, outbox.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use wire::{EventId, PublicKey};

use super::attach::Attach;
use super::bound::{Client, Driven};
use super::request::{FileContent, FileSource, Outcome, SendRequest, WaitLevel};
use crate::engine::{Compose, Progress, SpooledFile};
use crate::error::{Error, ErrorWord, Result};
use crate::view::{
    DeletedView, EventView, OutboxView, RecipientView, RelayOutcome, SentView, StatusView, SyncView,
};

/// What a text is called that is sent as a file.
const TEXT_FILE: &str = "message.txt";
/// Events of `watch` that are read at once.
const EVENTS: usize = 100;

/// One message of a request.
enum Part {
    Text(String),
    File(FileSource),
}

impl Client {
    /// Sends. What was stored is in the outcome's value even where the wait was in vain.
    ///
    /// A text comes first, then one message per file, each encrypted into the spool before
    /// anything is stored. Errors before that leave nothing behind.
    pub async fn send(&mut self, request: SendRequest) -> Result<Outcome<SentView>> {
        let wait_for = request.wait_for.unwrap_or(self.settings.timeout);
        let now = self.now();
        let to = self.engine.resolve(&self.store, &request.to, now)?;
        let reply_to = match &request.reply_to {
            Some(prefix) => Some(self.engine.message_id(&self.store, prefix)?),
            None => None,
        };
        let wait = request.wait;
        let template = Compose {
            to,
            text: None,
            file: None,
            reply_to,
            expire_s: request.expire_s,
            as_myself: request.as_myself,
            idempotency_key: None,
        };
        let keep_metadata = request.keep_metadata;
        let key = request.idempotency_key.clone();
        let parts = parts_of(request)?;
        // Everything is in the spool before the first message is stored, so a file that cannot
        // be read does not leave half a sending behind.
        let mut composed = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            let key = key.as_ref().map(|key| match number {
                0 => key.clone(),
                number => format!("{key}/{number}"),
            });
            let done = match &key {
                Some(key) => self.engine.idempotent(&self.store, key)?,
                None => None,
            };
            let mut compose = Compose {
                idempotency_key: key,
                ..template.clone()
            };
            match part {
                _ if done.is_some() => {}
                Part::Text(text) => compose.text = Some(text),
                Part::File(source) => {
                    let file = self.attach(&to, source, keep_metadata).await;
                    match file {
                        Ok(file) => compose.file = Some(file),
                        Err(error) => {
                            self.unspool(&composed);
                            return Err(error);
                        }
                    }
                }
            }
            composed.push((done, compose));
        }
        let ids = self.store_all(composed, wait)?;
        let until = Instant::now() + wait_for;
        let error = self.wait_for_all(&ids, wait, until).await?;
        // Its answer would not arrive, whatever became of the message.
        if let Some(unwelcome) = self.engine.unwelcome(&self.store)? {
            self.warnings.push(unwelcome.detail);
        }
        if let Some(refused) = self.warn_of_refused_definitions()? {
            self.warnings.push(refused.detail);
        }
        let value = self.sent_view(&ids)?;
        Ok(Outcome { value, error })
    }

    async fn attach(
        &mut self,
        to: &PublicKey,
        source: FileSource,
        keep_metadata: bool,
    ) -> Result<SpooledFile> {
        if self.servers()?.1.is_empty() {
            return Err(Error::new(
                ErrorWord::Conflict,
                "this circle has no file server to put the file on",
            )
            .hint("add one with `sotto fileserver add URL`"));
        }
        let attach = Attach {
            spool: self.driver.spool().clone(),
            format: self.engine.file_format_for(&self.store, to)?,
            keep_metadata,
            rng: self.settings.rng.clone(),
        };
        let attached = attach.run(source).await?;
        self.warnings.extend(attached.warning);
        Ok(attached.file)
    }

    fn unspool(&self, composed: &[(Option<EventId>, Compose)]) {
        for (_, compose) in composed {
            if let Some(file) = &compose.file {
                let _ = self.driver.spool().remove(&file.blob);
            }
        }
    }

    /// Stores the messages and starts sending them, save where nothing but storing was asked.
    fn store_all(
        &mut self,
        composed: Vec<(Option<EventId>, Compose)>,
        wait: WaitLevel,
    ) -> Result<Vec<EventId>> {
        if wait > WaitLevel::Queued {
            self.resume()?;
        }
        let mut ids = Vec::new();
        let mut parts = composed.into_iter();
        while let Some((done, compose)) = parts.next() {
            if let Some(id) = done {
                ids.push(id);
                continue;
            }
            let now = self.now();
            let blob = compose.file.as_ref().map(|file| file.blob);
            let sent = self
                .engine
                .send(&mut self.store, compose, now, &mut *self.rng);
            match sent {
                Ok(step) if wait > WaitLevel::Queued => ids.push(self.execute(step)),
                // Nothing is dialled; the next command that touches the network sends it.
                Ok(step) => {
                    let now = self.now();
                    self.engine
                        .put_back(&mut self.store, &step.effects, now, &mut *self.rng)?;
                    ids.push(step.value);
                }
                Err(error) => {
                    let rest: Vec<_> = parts.collect();
                    self.unspool(&rest);
                    if let Some(blob) = blob {
                        let _ = self.driver.spool().remove(&blob);
                    }
                    return Err(error);
                }
            }
        }
        Ok(ids)
    }

    async fn wait_for_all(
        &mut self,
        ids: &[EventId],
        wait: WaitLevel,
        until: Instant,
    ) -> Result<Option<Error>> {
        if wait == WaitLevel::Queued {
            return Ok(None);
        }
        // A receipt comes by the inbox.
        let listens = wait >= WaitLevel::Delivered;
        if listens {
            let now = self.now();
            let step = self.engine.watch(&mut self.store, now, &mut *self.rng)?;
            self.execute(step);
        }
        let driven = self
            .drive(until, listens, |engine, store| {
                let mut failed = None;
                let mut is_pending = false;
                for id in ids {
                    match engine.send_state(store, *id, wait)? {
                        Progress::Reached => {}
                        Progress::Pending => is_pending = true,
                        Progress::Failed(error) => failed = failed.or(Some(error)),
                    }
                }
                // What others still have under way goes on: one failure does not stop it.
                let is_settled = !ids.iter().any(|id| engine.is_sending(*id));
                Ok((!is_pending && is_settled).then_some(failed))
            })
            .await?;
        if matches!(driven, Driven::Reached(_)) && !listens {
            self.finish_begun().await?;
        }
        Ok(match driven {
            Driven::Reached(failed) => failed,
            Driven::Idle | Driven::TimedOut => Some(
                Error::new(
                    ErrorWord::Timeout,
                    "the message is stored, but it did not get as far as was waited for",
                )
                .hint("it is sent on by the next command that uses the network"),
            ),
        })
    }

    /// The first message's view, with all ids and what all of them have in common.
    fn sent_view(&self, ids: &[EventId]) -> Result<SentView> {
        let mut views = Vec::new();
        for id in ids {
            views.push(self.engine.sent(&self.store, *id)?);
        }
        let all = views.iter().map(|view| view.id.clone()).collect();
        let mut views = views.into_iter();
        let first = views.next();
        let mut merged =
            first.ok_or_else(|| Error::new(ErrorWord::Usage, "there is nothing to send"))?;
        for view in views {
            if rank(view.status) < rank(merged.status) {
                merged.status = view.status;
            }
            merge_recipients(&mut merged.recipients, view.recipients);
        }
        if ids.len() > 1 {
            merged.ids = all;
        }
        Ok(merged)
    }

    /// Fetches everything that waits on the inbox relays, and sends what waits here.
    ///
    /// The error beside the report: `unreachable` (3) or `auth_refused` (4) where no relay could
    /// be read, `partly_done` (5) where some could not; `refused` (10) or `auth_refused` where all
    /// were read and none of circle 0's takes the list of the circles.
    pub async fn sync(&mut self) -> Result<Outcome<SyncView>> {
        let until = self.deadline();
        if self.servers()?.0.is_empty() {
            return Err(
                Error::new(ErrorWord::Conflict, "this circle has no inbox relay")
                    .hint("add one with `sotto relay add URL`"),
            );
        }
        let is_timeout = self.sync_once(until).await?;
        let mut value = self.engine.sync_report();
        for relay in self.servers()?.0 {
            let url = relay.to_string();
            if !value.relays.iter().any(|outcome| outcome.url == url) {
                value.relays.push(RelayOutcome {
                    url,
                    ok: false,
                    detail: "no answer in time".to_owned(),
                });
            }
        }
        let mut error = sync_error(&value.relays, is_timeout);
        if let (Some(error), Some(unwelcome)) = (&mut error, self.engine.unwelcome(&self.store)?)
            && unwelcome.detail.ends_with(&error.detail)
        {
            error.hint = unwelcome.hint;
        }
        if let Some(refused) = self.warn_of_refused_definitions()? {
            match error {
                Some(_) => self.warnings.push(refused.detail),
                None => error = Some(refused),
            }
        }
        Ok(Outcome { value, error })
    }

    async fn sync_once(&mut self, until: Instant) -> Result<bool> {
        self.resume()?;
        let now = self.now();
        let step = self.engine.sync(&mut self.store, now, &mut *self.rng)?;
        self.execute(step);
        let driven = self
            .drive(until, false, |engine, _| Ok((!engine.busy()).then_some(())))
            .await?;
        self.adopt_servers()?;
        self.merge_definitions()?;
        Ok(matches!(driven, Driven::TimedOut))
    }

    /// Streams events with a `seq` greater than `from_seq` (only new ones if absent) until
    /// `on_event` breaks or the future is dropped. Connections that break are opened again.
    pub async fn watch(
        &mut self,
        from_seq: Option<i64>,
        mut on_event: impl FnMut(EventView) -> ControlFlow<()>,
    ) -> Result<()> {
        const FOREVER: Duration = Duration::from_secs(365 * 86_400);
        let mut seq = match from_seq {
            Some(seq) => seq,
            None => self.engine.newest_event(&self.store)?,
        };
        self.resume()?;
        let now = self.now();
        let step = self.engine.watch(&mut self.store, now, &mut *self.rng)?;
        self.execute(step);
        loop {
            let clock = self.settings.clock.clone();
            let driven = self
                .drive(Instant::now() + FOREVER, true, |engine, store| {
                    let events = engine.events_after(store, seq, EVENTS, clock.now())?;
                    Ok((!events.is_empty()).then_some(events))
                })
                .await?;
            if let Driven::Reached(events) = driven {
                for event in events {
                    seq = seq.max(event.seq);
                    if on_event(event).is_break() {
                        return Ok(());
                    }
                }
            }
            self.adopt_servers()?;
            self.merge_definitions()?;
        }
    }

    /// Deletes a message here, or for everyone. The report says what is known of each server;
    /// what could not be reached is tried again by later commands.
    pub async fn delete(&mut self, id: &str, for_everyone: bool) -> Result<Outcome<DeletedView>> {
        let until = self.deadline();
        let id = self.engine.message_id(&self.store, id)?;
        if for_everyone {
            self.resume()?;
        }
        let now = self.now();
        let step = self
            .engine
            .delete(&mut self.store, id, for_everyone, now, &mut *self.rng)?;
        self.execute(step);
        let mut error = None;
        if for_everyone {
            let driven = self
                .drive(until, false, |engine, store| {
                    Ok(match engine.deletion_state(store, id)? {
                        Progress::Reached => Some(None),
                        Progress::Pending => None,
                        Progress::Failed(error) => Some(Some(error)),
                    })
                })
                .await?;
            error = match driven {
                Driven::Reached(failed) => failed,
                Driven::Idle | Driven::TimedOut => Some(
                    Error::new(
                        ErrorWord::Timeout,
                        "not every server said in time that the message is gone",
                    )
                    .hint("`sotto message status` says how far it is"),
                ),
            };
        }
        let value = self.engine.deleted(&self.store, id)?;
        Ok(Outcome { value, error })
    }

    /// The state of a message or of its deletion, after a look at the network if that answers.
    pub async fn status(&mut self, id: &str) -> Result<StatusView> {
        let until = self.deadline();
        let id = self.engine.message_id(&self.store, id)?;
        if !self.servers()?.0.is_empty() {
            self.sync_once(until).await?;
        }
        self.engine.status(&self.store, id)
    }

    /// What is still to be sent.
    pub fn outbox(&self) -> Result<Vec<OutboxView>> {
        self.engine.outbox(&self.store)
    }

    /// Sends what is still to be sent, now. The value is what is left; with the error
    /// `unreachable` (3) where nothing could be sent, `partly_done` (5) where something is left.
    pub async fn flush(&mut self) -> Result<Outcome<Vec<OutboxView>>> {
        let until = self.deadline();
        let before = self.outbox()?.len();
        self.resume()?;
        let now = self.now();
        let step = self.engine.flush(&mut self.store, now, &mut *self.rng)?;
        self.execute(step);
        let driven = self
            .drive(until, false, |engine, _| Ok((!engine.busy()).then_some(())))
            .await?;
        let value = self.outbox()?;
        let error = match driven {
            _ if value.is_empty() => None,
            Driven::TimedOut => Some(Error::new(ErrorWord::Timeout, "something is left to send")),
            _ if value.len() < before => Some(Error::new(
                ErrorWord::PartlyDone,
                "something is left to send",
            )),
            _ => Some(self.warn_of_refused_definitions()?.unwrap_or_else(|| {
                Error::new(
                    ErrorWord::Unreachable,
                    "nothing of the outbox could be sent",
                )
            })),
        };
        Ok(Outcome { value, error })
    }

    /// Cancels an outbox item that no relay can have yet.
    pub fn cancel(&mut self, id: &str) -> Result<()> {
        let now = self.now();
        let step = self
            .engine
            .cancel(&mut self.store, id, now, &mut *self.rng)?;
        self.execute(step);
        Ok(())
    }
}

fn parts_of(request: SendRequest) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    match request.text {
        Some(text) if request.as_file => parts.push(Part::File(FileSource {
            content: FileContent::Reader(Box::new(std::io::Cursor::new(text.into_bytes()))),
            name: Some(request.name.unwrap_or_else(|| TEXT_FILE.to_owned())),
        })),
        Some(text) => parts.push(Part::Text(text)),
        None => {}
    }
    parts.extend(request.files.into_iter().map(Part::File));
    if parts.is_empty() {
        return Err(Error::new(ErrorWord::Usage, "there is nothing to send"));
    }
    Ok(parts)
}

/// How far a state is; a refusal is the least.
fn rank(status: &str) -> usize {
    const STATES: [&str; 6] = [
        "refused",
        "queued",
        "accepted",
        "stored",
        "delivered",
        "read",
    ];
    STATES
        .iter()
        .position(|state| *state == status)
        .unwrap_or_default()
}

/// A relay did what was asked if it did so for every message.
fn merge_recipients(merged: &mut Vec<RecipientView>, more: Vec<RecipientView>) {
    for recipient in more {
        let Some(known) = merged.iter_mut().find(|r| r.pubkey == recipient.pubkey) else {
            merged.push(recipient);
            continue;
        };
        let mut by_url: BTreeMap<String, RelayOutcome> = known
            .relays
            .drain(..)
            .map(|outcome| (outcome.url.clone(), outcome))
            .collect();
        for outcome in recipient.relays {
            match by_url.get(&outcome.url) {
                Some(known) if !known.ok => {}
                _ => {
                    by_url.insert(outcome.url.clone(), outcome);
                }
            }
        }
        known.relays = by_url.into_values().collect();
    }
}

fn sync_error(relays: &[RelayOutcome], is_timeout: bool) -> Option<Error> {
    let failed: Vec<&RelayOutcome> = relays.iter().filter(|relay| !relay.ok).collect();
    let is_auth = |relay: &&RelayOutcome| {
        relay.detail.starts_with("auth-required") || relay.detail.starts_with("restricted")
    };
    let detail = failed.first().map(|relay| relay.detail.clone());
    match detail {
        _ if is_timeout => Some(Error::new(
            ErrorWord::Timeout,
            "not every inbox relay answered in time",
        )),
        None => None,
        Some(detail) if failed.len() == relays.len() => {
            let word = if failed.iter().all(is_auth) {
                ErrorWord::AuthRefused
            } else {
                ErrorWord::Unreachable
            };
            Some(Error::new(word, detail))
        }
        Some(detail) => Some(Error::new(ErrorWord::PartlyDone, detail)),
    }
}
