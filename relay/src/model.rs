//! The relay without sockets, threads or a clock: same policy, same store rules, same read
//! predicate, in memory. For tests that need a relay which a seed can replay.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wire::{
    ClientFrame, Event, EventId, OkMessage, PublicKey, Reason, RelayFrame, SubscriptionId,
    VerifiedEvent,
};

use crate::config::{Config, Limits};
use crate::count;
use crate::fanout::{ClientId, Fanout};
use crate::history::all_complete;
use crate::pipeline;
use crate::policy::{self, Law, OwnUrls, Refusal, Rules, Wish};
use crate::reconcile::{self, EventSet, Reconciler};
use crate::roster::{Joined, Roster};
use crate::store::{EventStore, Opened, Query, StoreError, Stored};

/// A relay that answers frames with frames.
///
/// ```
/// use sotto_relay::{Config, model::ModelRelay};
/// let mut relay = ModelRelay::new(&Config::in_memory(), 7447, 1).unwrap();
/// let greeting = relay.connect(1);
/// assert!(greeting[0].1.starts_with("[\"AUTH\","));
/// ```
#[derive(Debug)]
pub struct ModelRelay {
    opened: Opened,
    rules: Rules,
    roster: Roster,
    limits: Limits,
    own: OwnUrls,
    fanout: Fanout<()>,
    sessions: BTreeMap<ClientId, Session>,
    rng: StdRng,
}

#[derive(Debug)]
struct Session {
    challenge: String,
    auth: Vec<PublicKey>,
    reconciliations: BTreeMap<SubscriptionId, Reconciler>,
}

/// Frames that the relay sends, in order, as JSON text.
pub type Frames = Vec<(ClientId, String)>;

impl ModelRelay {
    /// An empty relay that goes by `config`'s URLs and `ws://127.0.0.1:<port>`; the challenges
    /// follow from `seed`. What `config` says of storage is ignored.
    pub fn new(config: &Config, port: u16, seed: u64) -> Result<Self, StoreError> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Ok(Self {
            opened: EventStore::in_memory(config.rules.clone(), &secret)?,
            rules: config.rules.clone(),
            roster: Roster::default(),
            limits: config.limits.clone(),
            own: OwnUrls::new(&config.public_urls(), port),
            fanout: Fanout::default(),
            sessions: BTreeMap::new(),
            rng,
        })
    }

    /// A client connects; it gets its challenge.
    pub fn connect(&mut self, client: ClientId) -> Frames {
        let mut challenge = [0; 32];
        self.rng.fill_bytes(&mut challenge);
        let challenge = hex::encode(challenge);
        let greeting = RelayFrame::auth(&challenge);
        let session = Session {
            challenge,
            auth: Vec::new(),
            reconciliations: BTreeMap::new(),
        };
        self.sessions.insert(client, session);
        self.fanout.connect(client, ());
        vec![(client, greeting)]
    }

    /// A client is gone.
    pub fn disconnect(&mut self, client: ClientId) {
        self.sessions.remove(&client);
        self.fanout.disconnect(client);
    }

    /// A frame arrives at `now` (Unix seconds); what everybody is sent because of it. Frames of
    /// clients that are not connected are ignored.
    pub fn handle(&mut self, client: ClientId, frame: ClientFrame, now: u64) -> Frames {
        let Some(session) = self.sessions.get_mut(&client) else {
            return Vec::new();
        };
        let auth = session.auth.clone();
        match frame {
            ClientFrame::Event(event) => self.event(client, event, &auth, now),
            ClientFrame::Auth(event) => {
                let challenge = session.challenge.clone();
                vec![(client, self.auth(client, event, &challenge, now))]
            }
            ClientFrame::Req(id, filters) => {
                if let Err(refusal) = policy::may_ask(&filters, &auth) {
                    self.fanout.unsubscribe(client, &id);
                    return vec![(client, RelayFrame::closed(&id, &refusal.message().text))];
                }
                if self.fanout.others(client, &id) >= self.limits.subscriptions {
                    let text = OkMessage::new(Reason::RateLimited, "too many subscriptions").text;
                    return vec![(client, RelayFrame::closed(&id, &text))];
                }
                self.fanout
                    .subscribe(client, id.clone(), filters.clone().into(), 0);
                match self.history(&id, &filters, &auth, now) {
                    Ok(frames) => frames.into_iter().map(|frame| (client, frame)).collect(),
                    Err(error) => {
                        let text = OkMessage::new(Reason::Error, error.for_client()).text;
                        vec![(client, RelayFrame::closed(&id, &text))]
                    }
                }
            }
            ClientFrame::Close(id) => {
                self.fanout.unsubscribe(client, &id);
                Vec::new()
            }
            ClientFrame::Count(id, filters) => {
                vec![(client, self.count(&id, &filters, &auth, now))]
            }
            ClientFrame::NegOpen(id, filter, message) => {
                session.reconciliations.remove(&id);
                if let Err(refusal) = policy::may_ask(std::slice::from_ref(&filter), &auth) {
                    return vec![(client, RelayFrame::neg_err(&id, &refusal.message().text))];
                }
                if session.reconciliations.len() >= self.limits.reconciliations {
                    let text = OkMessage::new(Reason::RateLimited, "too many reconciliations").text;
                    return vec![(client, RelayFrame::neg_err(&id, &text))];
                }
                let reconciler = self.reconciler(filter, &auth, now);
                vec![(client, self.reconcile(client, id, reconciler, &message))]
            }
            ClientFrame::NegMsg(id, message) => {
                let closed = || OkMessage::new(Reason::Closed, "no such reconciliation is open");
                let reconciler = session.reconciliations.remove(&id).ok_or_else(closed);
                vec![(client, self.reconcile(client, id, reconciler, &message))]
            }
            ClientFrame::NegClose(id) => {
                session.reconciliations.remove(&id);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Erases what has expired at `now`, as the relay does every few seconds.
    pub fn sweep(&mut self, now: u64) -> Result<usize, StoreError> {
        self.opened.writer.sweep(now)
    }

    /// Changes the roster, as an operator would. Nobody is disconnected by it.
    pub fn change_roster(&mut self, change: impl FnOnce(&mut Roster)) {
        change(&mut self.roster);
        let roster = std::sync::Arc::new(self.roster.clone());
        self.opened.writer.follow(self.rules.clone(), roster);
    }

    /// Whether an event is stored.
    pub fn contains(&self, id: &EventId) -> Result<bool, StoreError> {
        self.opened.store.contains(id)
    }

    fn event(&mut self, client: ClientId, event: Event, auth: &[PublicKey], now: u64) -> Frames {
        let id = event.id();
        let refuse = |text: &str| vec![(client, RelayFrame::ok(&id, false, text))];
        let event = match VerifiedEvent::verify(event) {
            Ok(event) => event,
            Err(error) => return refuse(&OkMessage::new(Reason::Invalid, &error.to_string()).text),
        };
        if Wish::is_one(&event) {
            let (accepted, text) = match self.wish(&event, auth, now) {
                Ok(text) => (true, text),
                Err(refusal) => (false, refusal.message().text),
            };
            return vec![(client, RelayFrame::ok(&id, accepted, &text))];
        }
        let verdict = match policy::judge(&event, auth, now, self.law()) {
            Ok(verdict) => verdict,
            Err(refusal) => return refuse(&refusal.message().text),
        };
        let jobs = [(event, verdict)];
        let answers = pipeline::write_all(&mut self.opened.writer, &jobs, now);
        let mut frames = Vec::new();
        for ((event, _), answer) in jobs.iter().zip(answers) {
            frames.push((
                client,
                RelayFrame::ok(&id, answer.accepted, &answer.message),
            ));
            if let Some(seq) = answer.deliver {
                let audience = self.fanout.audience(event);
                let send = |to, (): &(), subscription: &SubscriptionId| {
                    frames.push((to, RelayFrame::event(subscription, event.json())));
                };
                self.fanout.deliver(event, seq, &audience, now, send);
            }
        }
        frames
    }

    /// To join or to leave (NIP-43); the message of `OK` true.
    fn wish(&mut self, event: &Event, auth: &[PublicKey], now: u64) -> Result<String, Refusal> {
        let key = event.pubkey();
        let is_configured = self.rules.writers.lists(&key);
        Ok(match Wish::read(event, auth, now)? {
            Wish::Join(code) => match self.roster.redeem(&code, key, is_configured, now)? {
                Joined::Now => "info: welcome".to_owned(),
                Joined::Before => "duplicate: you are a member of this relay".to_owned(),
            },
            Wish::Leave if is_configured => return Err(Refusal::ConfiguredMember),
            Wish::Leave => {
                self.roster.unallow(&key);
                "info: you are no member of this relay any more".to_owned()
            }
        })
    }

    fn law(&self) -> Law<'_> {
        Law {
            rules: &self.rules,
            roster: &self.roster,
            own: &self.own,
        }
    }

    fn auth(&mut self, client: ClientId, event: Event, challenge: &str, now: u64) -> String {
        let id = event.id();
        let event = match VerifiedEvent::verify(event) {
            Ok(event) => event,
            Err(error) => {
                let text = OkMessage::new(Reason::Invalid, &error.to_string()).text;
                return RelayFrame::ok(&id, false, &text);
            }
        };
        match policy::check_auth(&event, challenge, now, self.law()) {
            Ok(key) => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    if !session.auth.contains(&key) {
                        session.auth.push(key);
                    }
                    let auth = session.auth.as_slice().into();
                    self.fanout.authenticate(client, auth);
                }
                RelayFrame::ok(&id, true, &policy::caveat(&key, self.law()))
            }
            Err(refusal) => RelayFrame::ok(&id, false, &refusal.message().text),
        }
    }

    fn history(
        &self,
        id: &SubscriptionId,
        filters: &[wire::Filter],
        auth: &[PublicKey],
        now: u64,
    ) -> Result<Vec<String>, StoreError> {
        let store = &self.opened.store;
        let mut frames = Vec::new();
        let mut sent = BTreeSet::new();
        let mut complete = Some(true);
        for filter in filters {
            let most = self.limits.events_per_filter;
            let mut query = Query::new(store, filter.clone(), auth.to_vec(), u64::MAX, most)?;
            loop {
                let page = query.page(store, now)?;
                for event in page.events {
                    if sent.insert(event.id()) {
                        frames.push(RelayFrame::event(id, &event.json()));
                    }
                }
                if page.is_last {
                    complete = all_complete(complete, query.is_complete());
                    break;
                }
            }
        }
        frames.push(RelayFrame::eose(id, complete));
        Ok(frames)
    }

    fn count(
        &self,
        id: &SubscriptionId,
        filters: &[wire::Filter],
        auth: &[PublicKey],
        now: u64,
    ) -> String {
        if let Err(refusal) = policy::may_ask(filters, auth) {
            return RelayFrame::closed(id, &refusal.message().text);
        }
        let most = self.limits.counted_events;
        let mut count = 0;
        for (earlier, filter) in count::unlimited(filters) {
            let found = self.each(filter, auth, most.saturating_add(1), now, |events| {
                count += count::first_found(events, earlier);
                Ok(())
            });
            if let Err(refusal) = found {
                return RelayFrame::closed(id, &refusal.text);
            }
        }
        count::answer(id, count, most)
    }

    fn reconciler(
        &self,
        filter: wire::Filter,
        auth: &[PublicKey],
        now: u64,
    ) -> Result<Reconciler, OkMessage> {
        let most = self.limits.reconciled_events;
        let mut set = EventSet::default();
        self.each(filter, auth, most.saturating_add(1), now, |events| {
            set.extend(events.iter().map(Stored::item));
            match set.len() > most {
                true => Err(reconcile::too_many(most)),
                false => Ok(()),
            }
        })?;
        set.seal()
    }

    /// Answers one message of a reconciliation, and keeps it for the next.
    fn reconcile(
        &mut self,
        client: ClientId,
        id: SubscriptionId,
        reconciler: Result<Reconciler, OkMessage>,
        message: &[u8],
    ) -> String {
        let answered = reconciler.and_then(|mut reconciler| {
            let answer = reconciler.answer(message)?;
            Ok((reconciler, answer))
        });
        match answered {
            Ok((reconciler, answer)) => {
                let frame = RelayFrame::neg_msg(&id, &answer);
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.reconciliations.insert(id, reconciler);
                }
                frame
            }
            Err(refusal) => RelayFrame::neg_err(&id, &refusal.text),
        }
    }

    /// Hands over what a filter finds, page by page.
    fn each(
        &self,
        filter: wire::Filter,
        auth: &[PublicKey],
        most: usize,
        now: u64,
        mut take: impl FnMut(&[Stored]) -> Result<(), OkMessage>,
    ) -> Result<(), OkMessage> {
        let failed = |error: StoreError| OkMessage::new(Reason::Error, error.for_client());
        let store = &self.opened.store;
        let mut query = Query::new(store, filter, auth.to_vec(), u64::MAX, most).map_err(failed)?;
        loop {
            let page = query.page(store, now).map_err(failed)?;
            take(&page.events)?;
            if page.is_last {
                return Ok(());
            }
        }
    }
}
