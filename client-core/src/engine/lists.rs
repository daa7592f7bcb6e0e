//! Our own relays and file servers, and the signed lists that tell others (10050, 10063).
//!
//! Several devices may change them, so what is published is read first and merged: what another
//! device added since we last looked is added here, what it removed is removed.

use bytes::Bytes;
use wire::relay_url::Origin;
use wire::{Event, EventDraft, EventId, Filter, RelayUrl, Tag, Tags, VerifiedEvent, kinds};

use crate::engine::io::{Effect, QueryEnd, Role};
use crate::engine::lookup::{list_urls, verified_list};
use crate::engine::machine::{Engine, Op, Rng, Step, Turn};
use crate::engine::report::Progress;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{
    self, EnvelopeRow, OutboxRow, OwnList, Purpose, RowRole, RowState, ServerKind, Store,
};

const LISTS: [u16; 2] = [kinds::INBOX_RELAYS, kinds::FILE_SERVERS];

impl Engine {
    /// Makes these the own relays and file servers and publishes the lists: reads what is there,
    /// merges what is newer, then publishes to every own relay over its inbox socket.
    /// [`Engine::lists_state`] tells how far that is.
    pub fn set_servers(
        &mut self,
        store: &mut Store,
        relays: Vec<RelayUrl>,
        file_servers: Vec<Origin>,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Step<()>> {
        self.turn(store, now, rng, |turn| {
            let relays: Vec<String> = relays.iter().map(ToString::to_string).collect();
            let servers: Vec<String> = file_servers.iter().map(ToString::to_string).collect();
            ServerKind::Relay.replace(turn.tx, &relays)?;
            ServerKind::File.replace(turn.tx, &servers)?;
            for kind in LISTS {
                turn.mark_dirty(kind)?;
            }
            turn.read_lists()?;
            turn.settle()
        })
    }

    /// The own inbox relays and file servers, as they are stored.
    pub fn servers(&self, store: &Store) -> Result<(Vec<RelayUrl>, Vec<Origin>)> {
        let connection = store.connection();
        Ok((
            store::own_relays(connection)?,
            store::own_file_servers(connection)?,
        ))
    }

    /// How far publishing the own lists is: reached when at least one own relay has what counts
    /// now. Fails with `unreachable` (it goes on at the next command), `auth_refused` or
    /// `refused`.
    ///
    /// An invite that was not redeemed makes it fail whatever else was reached: `refused` where
    /// its relay said no, `unreachable` or `rate_limited` where it is kept for the next command.
    /// So does a relay that takes nothing for this account: `auth_refused`.
    pub fn lists_state(&self, store: &Store) -> Result<Progress> {
        let progress = self.publishing(store)?;
        if matches!(progress, Progress::Pending) {
            return Ok(progress);
        }
        let join_failure = self.run.join_failures.values().next().cloned();
        let failure = match join_failure {
            Some(error) => Some(error),
            None => self.unwelcome(store)?,
        };
        Ok(failure.map_or(progress, Progress::Failed))
    }

    fn publishing(&self, store: &Store) -> Result<Progress> {
        let connection = store.connection();
        if self.run.ops.values().any(is_reading) {
            return Ok(Progress::Pending);
        }
        let unreachable = || {
            let why = self.run.list_reads.values().find_map(|r| r.clone().err());
            let why = why.unwrap_or_else(|| "no inbox relay is named".to_owned());
            Error::new(ErrorWord::Unreachable, why)
                .hint("the lists are published by the next command that reaches a relay")
        };
        for kind in LISTS {
            let list = OwnList::load(connection, kind)?;
            if list.is_dirty {
                return Ok(Progress::Failed(unreachable()));
            }
            let Some(id) = list.event_id else { continue };
            let rows = OutboxRow::of_event(connection, &id)?;
            if rows.is_empty() || rows.iter().any(|r| r.state == RowState::Accepted) {
                continue;
            }
            let is_new = |r: &OutboxRow| r.state == RowState::Queued && r.attempts == 0;
            if rows
                .iter()
                .any(|r| r.state == RowState::Sending || is_new(r))
            {
                return Ok(Progress::Pending);
            }
            let refusal = rows.iter().find(|r| r.state == RowState::Refused);
            let error = match refusal {
                Some(row) => Error::new(refusal_word(&row.detail), row.detail.clone()),
                None => {
                    let detail = rows.first().map(|r| r.detail.clone()).unwrap_or_default();
                    Error::new(ErrorWord::Unreachable, detail)
                        .hint("the lists are published by the next command that reaches a relay")
                }
            };
            return Ok(Progress::Failed(error));
        }
        Ok(Progress::Reached)
    }
}

/// What kind of failure it is that an own relay refuses something of ours with these words.
pub(crate) fn refusal_word(detail: &str) -> ErrorWord {
    match detail.starts_with("restricted") || detail.starts_with("auth-required") {
        true => ErrorWord::AuthRefused,
        false => ErrorWord::Refused,
    }
}

/// Whether the operation is part of reading our own lists.
fn is_reading(op: &Op) -> bool {
    matches!(
        op,
        Op::OwnLists { .. } | Op::DescribeToJoin { .. } | Op::Join { .. }
    )
}

/// Names the newest list of a kind among envelopes, so that it replaces older ones.
fn marker(kind: u16) -> EventId {
    let mut bytes = [0; 32];
    if let Some(end) = bytes.last_chunk_mut::<2>() {
        *end = kind.to_be_bytes();
    }
    EventId::from_bytes(bytes)
}

fn server_kind(kind: u16) -> ServerKind {
    if kind == kinds::FILE_SERVERS {
        ServerKind::File
    } else {
        ServerKind::Relay
    }
}

impl Turn<'_> {
    fn mark_dirty(&mut self, kind: u16) -> Result<()> {
        let mut list = OwnList::load(self.tx, kind)?;
        let urls = server_kind(kind).urls(self.tx)?;
        let is_published = list.event_id.is_some() || !urls.is_empty();
        list.is_dirty = is_published && (list.event_id.is_none() || urls != list.base);
        list.save(self.tx, kind)
    }

    /// Takes up a publication that an earlier run did not finish, or an invite.
    pub fn resume_lists(&mut self) -> Result<()> {
        for relay in store::own_relays(self.tx)? {
            if store::invite_for(self.tx, &relay)?.is_some() {
                return self.read_lists();
            }
        }
        for kind in LISTS {
            if OwnList::load(self.tx, kind)?.is_dirty {
                return self.read_lists();
            }
        }
        Ok(())
    }

    /// Asks every own relay for our own lists, unless that is under way. Where an invite is kept
    /// for a relay, it is redeemed first.
    pub fn read_lists(&mut self) -> Result<()> {
        if self.run.ops.values().any(is_reading) {
            return Ok(());
        }
        self.run.list_reads.clear();
        self.run.lists_seen.clear();
        self.run.join_failures.clear();
        for relay in store::own_relays(self.tx)? {
            if !self.join(&relay)? {
                self.read_lists_of(&relay);
            }
        }
        Ok(())
    }

    /// Asks one of them.
    pub fn read_lists_of(&mut self, relay: &RelayUrl) {
        let filter = Filter::default().with_kinds(LISTS);
        let op = Op::OwnLists {
            relay: relay.clone(),
        };
        self.query_own(op, relay, filter);
        self.read_circles(relay);
    }

    /// A query for something of our own, over the inbox socket.
    pub fn query_own(&mut self, op: Op, relay: &RelayUrl, filter: Filter) {
        let op = self.begin(op);
        let socket = self.socket(Role::Inbox, self.own(), relay, true);
        self.effects.push(Effect::Query {
            op,
            socket,
            filter: filter.with_authors([self.own()]),
            live: false,
        });
    }

    /// Lists of ours came from a relay.
    pub fn own_lists_found(&mut self, relay: &RelayUrl, events: &[Bytes]) -> Result<()> {
        let own = self.own();
        for bytes in events {
            if let Some(event) = verified_list(bytes, &own, self.now) {
                let key = (relay.clone(), event.kind());
                self.run.lists_seen.insert(key, event.id());
                self.merge_list(&event)?;
            }
        }
        Ok(())
    }

    /// Takes over what another device changed since we last looked.
    fn merge_list(&mut self, event: &VerifiedEvent) -> Result<()> {
        let kind = event.kind();
        let mut list = OwnList::load(self.tx, kind)?;
        let is_newer = match list.event_id {
            None => true,
            Some(known) => {
                let (old, new) = (list.created_at, event.created_at());
                new > old || (new == old && event.id() < known)
            }
        };
        if !is_newer {
            return Ok(());
        }
        let theirs = list_urls(event);
        let before = server_kind(kind).urls(self.tx)?;
        let mut urls: Vec<String> = before
            .iter()
            .filter(|url| theirs.contains(url) || !list.base.contains(url))
            .cloned()
            .collect();
        for url in &theirs {
            if !list.base.contains(url) && !urls.contains(url) {
                urls.push(url.clone());
            }
        }
        if urls.is_empty() {
            // Never lose the last place to read.
            urls.clone_from(&before);
        }
        server_kind(kind).replace(self.tx, &urls)?;
        list.event_id = Some(event.id());
        list.created_at = event.created_at();
        list.is_dirty = urls != theirs;
        list.base = theirs;
        list.json = Some(event.json().to_vec());
        list.was_read = true;
        list.save(self.tx, kind)?;
        if kind == kinds::INBOX_RELAYS {
            for url in urls.iter().filter(|url| !before.contains(url)) {
                if let Ok(relay) = RelayUrl::parse(url) {
                    self.read_new_relay(relay)?;
                }
            }
        }
        Ok(())
    }

    /// One relay has told what it has. When all have, what differs is published.
    pub fn own_lists_read(&mut self, relay: RelayUrl, end: QueryEnd) -> Result<()> {
        let read = match end {
            QueryEnd::Eose { .. } => {
                for kind in LISTS {
                    let mut list = OwnList::load(self.tx, kind)?;
                    if !list.was_read {
                        list.was_read = true;
                        list.save(self.tx, kind)?;
                    }
                }
                Ok(())
            }
            QueryEnd::Closed(message) => Err(message.text),
            QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why) => Err(why),
        };
        self.list_read(relay, read)
    }

    /// How reading one relay's ended.
    pub fn list_read(
        &mut self,
        relay: RelayUrl,
        read: std::result::Result<(), String>,
    ) -> Result<()> {
        self.run.list_reads.insert(relay, read);
        if self.run.ops.values().any(is_reading) {
            return Ok(());
        }
        for kind in LISTS {
            let list = OwnList::load(self.tx, kind)?;
            if list.is_dirty && list.was_read {
                self.publish_list(kind, list)?;
            } else {
                self.repair_list(kind, &list)?;
            }
        }
        Ok(())
    }

    /// Signs the list as it is here and publishes it to every own relay.
    fn publish_list(&mut self, kind: u16, mut list: OwnList) -> Result<()> {
        let urls = server_kind(kind).urls(self.tx)?;
        let name = if kind == kinds::FILE_SERVERS {
            "server"
        } else {
            "relay"
        };
        let tags: Tags = urls
            .iter()
            .map(|url| Tag::new([name.to_owned(), url.clone()]))
            .collect();
        // Later than what it replaces, whatever the clocks of other devices say.
        let created_at = self.now.max(list.created_at.saturating_add(1));
        let draft = EventDraft {
            pubkey: self.own(),
            created_at,
            kind,
            tags,
            content: String::new(),
        };
        let event = self.account.sign(draft, self.rng);
        list.event_id = Some(event.id());
        list.created_at = created_at;
        list.base = urls;
        list.is_dirty = false;
        list.json = Some(event.json().to_vec());
        list.save(self.tx, kind)?;
        self.publish_own(&event, Purpose::List, kind)
    }

    /// An event of our account for all own relays, in place of the older ones of its kind.
    pub fn publish_own(&mut self, event: &Event, purpose: Purpose, kind: u16) -> Result<()> {
        EnvelopeRow::supersede(self.tx, purpose, &marker(kind))?;
        EnvelopeRow {
            id: event.id(),
            purpose,
            message: None,
            inbox: self.own(),
            attempt: 0,
            target: Some(marker(kind)),
            json: Some(event.json().to_vec()),
            dated_at: event.created_at(),
            expires_at: None,
            is_routed: true,
        }
        .insert(self.tx)?;
        for relay in store::own_relays(self.tx)? {
            OutboxRow::insert(self.tx, &event.id(), &relay, true, RowRole::Inbox, self.now)?;
        }
        Ok(())
    }

    /// A relay that answered and does not have the list that counts gets it again.
    fn repair_list(&mut self, kind: u16, list: &OwnList) -> Result<()> {
        let (Some(id), Some(json)) = (list.event_id, &list.json) else {
            return Ok(());
        };
        let answered: Vec<RelayUrl> = self
            .run
            .list_reads
            .iter()
            .filter(|(_, read)| read.is_ok())
            .map(|(relay, _)| relay.clone())
            .collect();
        for relay in answered {
            if self.run.lists_seen.get(&(relay.clone(), kind)) == Some(&id) {
                continue;
            }
            EnvelopeRow {
                id,
                purpose: Purpose::List,
                message: None,
                inbox: self.own(),
                attempt: 0,
                target: Some(marker(kind)),
                json: Some(json.clone()),
                dated_at: list.created_at,
                expires_at: None,
                is_routed: true,
            }
            .revive(self.tx, &relay, self.now)?;
        }
        Ok(())
    }
}
