//! The inbox is read on every own relay, then watched.
//!
//! The times of wraps are random (NIP-59), so nothing can be said about what is new by asking
//! `since` anything: the set is compared (`reconcile`), or where that is not possible the whole of
//! it is paged by `until`, and what is known is skipped unopened. One relay that fails stops no
//! other.

use std::collections::BTreeSet;

use bytes::Bytes;
use wire::{Event, EventId, Filter, PublicKey, RelayUrl, kinds};

use crate::engine::io::{Effect, QueryEnd, Role};
use crate::engine::machine::{Engine, Op, Rng, Step, Turn};
use crate::error::Result;
use crate::store::{self, Store};
use crate::view::{RelayOutcome, SyncView};

/// Events of one page.
const PAGE: usize = 500;
/// Where a page's events share one second, this many are asked for before that second is left.
const PAGE_MAX: usize = 5_000;
/// Pages of one relay in one run; a relay that has more invents them.
const PAGES: u32 = 2_000;
/// Wraps that are remembered as served by one relay; of more, the oldest are fetched again.
const SERVED: u64 = 100_000;
/// The first pause before a live subscription is opened again, doubled up to a minute.
const RECONNECT_SECONDS: u64 = 1;
const RECONNECT_MAX_SECONDS: u64 = 60;

/// Where paging one relay stands.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    relay: RelayUrl,
    /// Why it is paged and not compared, where that is worth telling.
    because: Option<String>,
    /// Events of this second or older were asked for.
    until: Option<u64>,
    limit: usize,
    /// Wraps of the oldest second so far: the next page starts in the same second.
    edge: BTreeSet<EventId>,
    /// Of this page: all wraps, those not seen before in this run of pages, the oldest second.
    count: usize,
    fresh: usize,
    oldest: Option<u64>,
    pages: u32,
}

/// A live subscription, open or waiting to be opened again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    attempts: u32,
    pub retry_at: Option<u64>,
    /// It was opened while the inbox was being read: what came in between may be in neither.
    read_again: bool,
}

impl Engine {
    /// Reads the inbox on every own relay, reads the own lists again, refreshes old lists of
    /// contacts, and tries the whole outbox.
    pub fn sync(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| {
            turn.begin_round()?;
            for relay in store::own_relays(turn.tx)? {
                turn.read_inbox(&relay)?;
            }
            turn.settle()
        })
    }

    /// The same, and stays: a live subscription on every own relay, opened before the inbox is
    /// read so that nothing falls between, and opened again whenever it ends.
    pub fn watch(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| {
            turn.begin_round()?;
            for relay in store::own_relays(turn.tx)? {
                turn.run.watches.entry(relay.clone()).or_default();
                turn.open_live(&relay);
            }
            turn.settle()
        })
    }

    /// What the last `sync` or `watch` has brought so far.
    pub fn sync_report(&self) -> SyncView {
        SyncView {
            received: self.run.received,
            new: self.run.new,
            relays: self.run.report.values().cloned().collect(),
        }
    }

    /// Whether everything that the relay had for the account key was seen in this run.
    pub fn caught_up(&self, relay: &RelayUrl) -> bool {
        self.caught_up_for(&self.public_key(), relay)
    }

    /// The same for any inbox key.
    pub fn caught_up_for(&self, inbox: &PublicKey, relay: &RelayUrl) -> bool {
        self.run.caught_up.contains(&(*inbox, relay.clone()))
    }
}

impl Page {
    /// The newest page.
    pub fn first(relay: RelayUrl) -> Self {
        Self {
            relay,
            because: None,
            until: None,
            limit: PAGE,
            edge: BTreeSet::new(),
            count: 0,
            fresh: 0,
            oldest: None,
            pages: 0,
        }
    }

    /// The same, with a reason that the report tells.
    pub fn because(relay: RelayUrl, why: &str) -> Self {
        Self {
            because: Some(why.to_owned()),
            ..Self::first(relay)
        }
    }

    pub fn relay(&self) -> &RelayUrl {
        &self.relay
    }

    /// Notes one wrap of this page, whoever made it.
    fn note(&mut self, event: &Event) {
        self.count = self.count.saturating_add(1);
        let at = event.created_at();
        let is_edge = self.until == Some(at);
        if !(is_edge && self.edge.contains(&event.id())) {
            self.fresh = self.fresh.saturating_add(1);
        }
        match self.oldest {
            Some(oldest) if at > oldest => {}
            Some(oldest) if at == oldest => {
                self.edge.insert(event.id());
            }
            _ => {
                // The edge of the last page is kept while this page is in the same second.
                if !is_edge {
                    self.edge.clear();
                }
                self.edge.insert(event.id());
                self.oldest = Some(at);
            }
        }
    }

    /// What to ask next; nothing where the relay has no more.
    fn next(mut self, complete: Option<bool>) -> Option<Self> {
        let oldest = self.oldest?;
        if complete == Some(true) || self.pages >= PAGES {
            return None;
        }
        if self.fresh == 0 {
            // All of it was seen before: the end, or a second with more events than the page.
            if self.count >= self.limit && self.limit < PAGE_MAX {
                self.limit = PAGE_MAX;
                self.until = Some(oldest);
            } else {
                self.limit = PAGE;
                self.until = Some(oldest.checked_sub(1)?);
                self.edge.clear();
            }
        } else {
            self.until = Some(oldest);
        }
        self.count = 0;
        self.fresh = 0;
        self.oldest = None;
        self.pages = self.pages.saturating_add(1);
        Some(self)
    }
}

impl Turn<'_> {
    fn begin_round(&mut self) -> Result<()> {
        self.run.received = 0;
        self.run.new = 0;
        self.run.report.clear();
        self.expire()?;
        self.hurry()?;
        self.refresh_lookups()?;
        self.read_lists()
    }

    /// What every reading of the inbox asks for; pages add `until` and `limit`, fetching `ids`
    /// that the relay has named, and `limit`.
    pub fn inbox_filter(&self) -> Filter {
        Filter::default()
            .with_kinds([kinds::WRAP, kinds::EPHEMERAL_WRAP])
            .with_tag('p', [self.own().to_hex()])
    }

    /// Asks for wraps over the inbox socket.
    pub fn query_inbox(&mut self, op: Op, relay: &RelayUrl, filter: Filter, live: bool) {
        let op = self.begin(op);
        let socket = self.socket(Role::Inbox, self.own(), relay, true);
        self.effects.push(Effect::Query {
            op,
            socket,
            filter,
            live,
        });
    }

    /// Asks for a page; the next ones follow.
    pub fn ask_page(&mut self, page: Page) {
        let mut filter = self.inbox_filter();
        filter.until = page.until;
        filter.limit = Some(page.limit);
        let relay = page.relay.clone();
        self.query_inbox(Op::Page(page), &relay, filter, false);
    }

    /// A relay became ours while the inbox is being read: it is read too.
    pub fn read_new_relay(&mut self, relay: RelayUrl) -> Result<()> {
        if !self.run.watches.is_empty() {
            self.run.watches.entry(relay.clone()).or_default();
            self.open_live(&relay);
        } else if store::own_relays(self.tx)?
            .iter()
            .any(|r| self.is_reading(r))
        {
            self.read_inbox(&relay)?;
        }
        Ok(())
    }

    fn open_live(&mut self, relay: &RelayUrl) {
        let is_open = |op: &Op| matches!(op, Op::Live { relay: open } if open == relay);
        if self.run.ops.values().any(is_open) {
            return;
        }
        let mut filter = self.inbox_filter();
        // What is stored is read after it; the subscription is for what comes from now on.
        filter.limit = Some(1);
        let op = Op::Live {
            relay: relay.clone(),
        };
        self.query_inbox(op, relay, filter, true);
    }

    /// Part of a page came.
    pub fn paged(
        &mut self,
        op: crate::engine::io::OpId,
        mut page: Page,
        events: &[Bytes],
    ) -> Result<()> {
        let own = self.own();
        let repeated = page.edge.clone();
        for bytes in events {
            if let Ok(event) = Event::decode(bytes.clone())
                && kinds::is_wrap(event.kind())
                && event.tags().people().any(|p| p == own)
                && page.until.is_none_or(|until| event.created_at() <= until)
            {
                page.note(&event);
            }
        }
        self.receive(&page.relay.clone(), events, &repeated)?;
        self.run.ops.insert(op, Op::Page(page));
        Ok(())
    }

    /// A page has ended; the next one follows until there is none.
    pub fn page_ended(&mut self, page: Page, end: QueryEnd, garbage: u64) -> Result<()> {
        let relay = page.relay.clone();
        let because = page.because.clone();
        match end {
            QueryEnd::Eose { complete } => match page.next(complete) {
                Some(next) => {
                    self.ask_page(next);
                    return Ok(());
                }
                None => {
                    let mut detail = "caught up".to_owned();
                    if garbage > 0 {
                        detail.push_str(&format!("; {garbage} frames were no events"));
                    }
                    if let Some(why) = because {
                        detail.push_str(&format!("; read in full: {why}"));
                    }
                    return self.caught_up_with(&relay, detail);
                }
            },
            QueryEnd::Closed(message) => self.report(&relay, false, message.text),
            QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why) => {
                self.report(&relay, false, why);
            }
        }
        self.reading_over(&relay)
    }

    /// Everything that a relay had was seen.
    pub fn caught_up_with(&mut self, relay: &RelayUrl, detail: String) -> Result<()> {
        self.run.caught_up.insert((self.own(), relay.clone()));
        self.bound_inbox()?;
        store::bound_served(self.tx, self.now, SERVED)?;
        match self.run.unwelcome.get(relay).cloned() {
            // What waited has come, and nothing else will.
            Some(why) => self.report(relay, false, why),
            None => self.report(relay, true, detail),
        }
        self.reading_over(relay)
    }

    /// The inbox on a relay has been read, well or not. Once more, where the live subscription was
    /// opened in the meantime.
    pub fn reading_over(&mut self, relay: &RelayUrl) -> Result<()> {
        match self.run.watches.get_mut(relay) {
            Some(watch) if watch.read_again => {
                watch.read_again = false;
                self.read_inbox(relay)
            }
            _ => Ok(()),
        }
    }

    /// What the next report says of a relay.
    pub fn report(&mut self, relay: &RelayUrl, ok: bool, detail: String) {
        let outcome = RelayOutcome {
            url: relay.to_string(),
            ok,
            detail,
        };
        self.run.report.insert(relay.clone(), outcome);
    }

    /// The live subscription is open: the inbox is read behind it.
    pub fn live_opened(&mut self, relay: &RelayUrl) -> Result<()> {
        let read_again = self.is_reading(relay);
        let watch = Watch {
            read_again,
            ..Watch::default()
        };
        self.run.watches.insert(relay.clone(), watch);
        match read_again {
            true => Ok(()),
            false => self.read_inbox(relay),
        }
    }

    /// Events of the live subscription.
    pub fn received_live(&mut self, relay: &RelayUrl, events: &[Bytes]) -> Result<()> {
        self.receive(relay, events, &BTreeSet::new()).map(|_| ())
    }

    /// The live subscription ended: it is opened again after a pause, and the inbox read anew.
    pub fn live_ended(&mut self, relay: RelayUrl, end: QueryEnd) -> Result<()> {
        let entry = (self.own(), relay.clone());
        self.run.caught_up.remove(&entry);
        let why = match end {
            QueryEnd::Eose { .. } => "the subscription ended".to_owned(),
            QueryEnd::Closed(message) => message.text,
            QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why) => why,
        };
        self.report(&relay, false, why);
        self.bound_inbox()?;
        let now = self.now;
        if let Some(watch) = self.run.watches.get_mut(&relay) {
            let doubled = RECONNECT_SECONDS.saturating_mul(1 << watch.attempts.min(10));
            watch.attempts = watch.attempts.saturating_add(1);
            watch.retry_at = Some(now.saturating_add(doubled.min(RECONNECT_MAX_SECONDS)));
        }
        Ok(())
    }

    /// Opens live subscriptions whose pause is over.
    pub fn reconnect(&mut self) -> Result<()> {
        let now = self.now;
        let is_due = |watch: &Watch| watch.retry_at.is_some_and(|at| at <= now);
        let due: Vec<RelayUrl> = self
            .run
            .watches
            .iter()
            .filter(|(_, watch)| is_due(watch))
            .map(|(relay, _)| relay.clone())
            .collect();
        for relay in due {
            if let Some(watch) = self.run.watches.get_mut(&relay) {
                watch.retry_at = None;
            }
            self.open_live(&relay);
        }
        Ok(())
    }
}
