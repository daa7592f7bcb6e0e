//! The engine itself: one account of one circle, and one dispatch for everything that happens.

use std::collections::{BTreeMap, BTreeSet};

use crypto::{AccountKey, DeviceId, KeyCache};
use rand::CryptoRng;
use wire::relay_url::Origin;
use wire::{EventId, PublicKey, RelayUrl, Sha256, VerifiedEvent};

use crate::engine::fetch::Fetch;
use crate::engine::inbox::{Page, Watch};
use crate::engine::io::{Effect, Input, OpId, Role, SocketKey};
use crate::engine::lookup::Lookup;
use crate::engine::receipts::Owed;
use crate::engine::reconcile::Reconcile;
use crate::error::{Error, Result};
use crate::store::{self, BlobState, Store, Tx};
use crate::view::RelayOutcome;

/// Randomness, handed in: the operating system's, or a seeded one in tests.
pub type Rng<'a> = &'a mut dyn CryptoRng;

/// Conversation keys that are kept, of accepted contacts only.
const KEPT_KEYS: usize = 512;

/// What the engine must be told about its circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// NIP-06 account index.
    pub circle: u32,
    /// The circle's name, for views.
    pub circle_name: String,
    /// How long its messages live, seconds; nothing where they stay.
    pub expire_s: Option<u64>,
}

/// What a wish gave, and what the network must do for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "effects are lost until the next `resume` if nobody carries them out"]
pub struct Step<T> {
    /// The answer.
    pub value: T,
    /// To be carried out, in order.
    pub effects: Vec<Effect>,
}

/// All decisions of one account in one circle.
///
/// It never opens a socket and never reads a clock. What is remembered is in the [`Store`]; the
/// engine itself holds only what one run needs: which operations are unanswered.
#[derive(Debug)]
pub struct Engine {
    pub(crate) account: AccountKey,
    pub(crate) config: EngineConfig,
    pub(crate) device: DeviceId,
    keys: KeyCache,
    pub(crate) run: Run,
}

/// An operation that the network has not answered yet.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An outbox row is being published.
    Publish {
        row: i64,
        /// Which try of the row this is.
        attempt: u32,
        /// Whether the relay might have had it before this try.
        was_touched: bool,
        message: Option<EventId>,
    },
    /// Somebody's lists are being looked up.
    Lookup { author: PublicKey, relay: RelayUrl },
    /// A page of the inbox.
    Page(Page),
    /// Comparing what an inbox relay has with what it served before.
    Reconcile(Reconcile),
    /// What was missing is fetched by id.
    Fetch(Fetch),
    /// One of our relays is asked about itself, before its inbox is read.
    Describe { relay: RelayUrl },
    /// The live subscription.
    Live { relay: RelayUrl },
    /// Our own lists.
    OwnLists { relay: RelayUrl },
    /// A relay is asked about itself, before an invite code is sent to it.
    DescribeToJoin { relay: RelayUrl },
    /// An invite code is being redeemed.
    Join { relay: RelayUrl },
    /// The circle definitions, in circle 0.
    Circles,
    /// A blob is being uploaded, removed or asked for.
    Blob {
        blob: Sha256,
        origin: Origin,
        was_touched: bool,
        /// What was asked; the user may have changed their mind since.
        asked: BlobState,
        message: EventId,
    },
}

/// What one run of the program knows. Lost with the process, without harm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    next_op: u64,
    pub ops: BTreeMap<OpId, Op>,
    pub lookups: BTreeMap<PublicKey, Lookup>,
    /// Look-ups that reached nobody: how often, and when to try again.
    pub failed_lookups: BTreeMap<PublicKey, (u32, u64)>,
    /// "Caught up" per inbox key and relay: everything that the relay had was seen in this run.
    pub caught_up: BTreeSet<(PublicKey, RelayUrl)>,
    pub watches: BTreeMap<RelayUrl, Watch>,
    pub report: BTreeMap<RelayUrl, RelayOutcome>,
    pub received: u64,
    pub new: u64,
    /// Circle definitions that came and nobody has fetched yet.
    pub circles: Vec<VerifiedEvent>,
    /// How reading our own lists ended, per relay.
    pub list_reads: BTreeMap<RelayUrl, std::result::Result<(), String>>,
    /// Own relays that take nothing new for this account, and their words for it.
    pub unwelcome: BTreeMap<RelayUrl, String>,
    /// Invites that were not redeemed, and why.
    pub join_failures: BTreeMap<RelayUrl, Error>,
    /// Which of our lists (by kind) each relay served in this run.
    pub lists_seen: BTreeMap<(RelayUrl, u16), EventId>,
}

/// One input or wish at work: the transaction and everything that decisions are made of.
pub(crate) struct Turn<'a> {
    pub tx: &'a Tx<'a>,
    pub account: &'a AccountKey,
    pub config: &'a EngineConfig,
    pub device: DeviceId,
    pub keys: &'a mut KeyCache,
    pub run: &'a mut Run,
    pub now: u64,
    pub rng: &'a mut dyn CryptoRng,
    pub effects: Vec<Effect>,
    /// Receipts that became due.
    pub owed: Owed,
    /// Wraps addressed to us that our relays are to drop.
    pub cleaning: BTreeMap<RelayUrl, Vec<EventId>>,
}

impl Engine {
    /// An engine for one account and its store. Draws the device id where the store is new.
    pub fn new(
        account: AccountKey,
        config: EngineConfig,
        store: &mut Store,
        rng: Rng<'_>,
    ) -> Result<Self> {
        let device = store.transaction(|tx| {
            let known = store::fact(tx, "device_id")?.and_then(|bytes| bytes.try_into().ok());
            if let Some(bytes) = known {
                return Ok(DeviceId::from_bytes(bytes));
            }
            let device = DeviceId::generate(rng);
            store::set_fact(tx, "device_id", device.as_bytes())?;
            Ok(device)
        })?;
        Ok(Self {
            account,
            config,
            device,
            keys: KeyCache::new(KEPT_KEYS),
            run: Run::default(),
        })
    }

    /// The account key of this circle.
    pub fn public_key(&self) -> PublicKey {
        self.account.public_key()
    }

    /// What a restarted process must take up: expiry first, then due outbox rows, unfinished
    /// uploads and deletions, own lists that nobody has, look-ups that queued messages wait for.
    pub fn resume(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<Vec<Effect>> {
        let step = self.turn(store, now, rng, |turn| {
            turn.run.failed_lookups.clear();
            turn.expire()?;
            turn.resume_lists()?;
            turn.settle()
        })?;
        Ok(step.effects)
    }

    /// Everything that comes from the network, and the passing of time.
    ///
    /// An input whose operation is not known (of an earlier run, or answered before) changes
    /// nothing.
    pub fn handle(
        &mut self,
        store: &mut Store,
        input: Input,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Vec<Effect>> {
        let step = self.turn(store, now, rng, |turn| {
            turn.dispatch(input)?;
            turn.settle()
        })?;
        Ok(step.effects)
    }

    /// Erases what has expired, without a network: for commands that only look.
    pub fn sweep(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<Vec<Effect>> {
        let step = self.turn(store, now, rng, |turn| {
            turn.expire()?;
            turn.unspool()
        })?;
        Ok(step.effects)
    }

    /// Whether some operation is still unanswered. Live subscriptions do not count.
    pub fn busy(&self) -> bool {
        let is_work = |op: &Op| !matches!(op, Op::Live { .. });
        self.run.ops.values().any(is_work)
    }

    /// Returns the leases of rows whose outcome will not be heard of any more, so that the next
    /// command need not wait for them to run out. For a process that ends in order.
    pub fn release(&mut self, store: &mut Store, now: u64, rng: Rng<'_>) -> Result<()> {
        let step = self.turn(store, now, rng, |turn| turn.release())?;
        debug_assert!(
            step.effects.is_empty(),
            "releasing asks nothing of the network"
        );
        Ok(())
    }

    /// Takes effects back that nobody carried out or ever will: nothing was sent, so nothing is
    /// leased, tried or possibly out there because of them.
    pub fn put_back(
        &mut self,
        store: &mut Store,
        effects: &[Effect],
        now: u64,
        rng: Rng<'_>,
    ) -> Result<()> {
        let step = self.turn(store, now, rng, |turn| turn.put_back(effects))?;
        debug_assert!(step.effects.is_empty(), "putting back asks for nothing");
        Ok(())
    }

    /// The earliest time at which something is to be done without an input: a retry, an expiry,
    /// a refresh, a lease to renew. Give [`Input::Tick`] then.
    pub fn next_wake(&self, store: &Store) -> Result<Option<u64>> {
        let connection = store.connection();
        let watches = self.run.watches.values().filter_map(|w| w.retry_at).min();
        let failed = self.run.failed_lookups.values();
        let times = [
            failed.map(|(_, retry_at)| *retry_at).min(),
            store::OutboxRow::next_due(connection)?,
            store::PlaceRow::next_due(connection)?,
            store::MessageRow::next_expiry(connection)?,
            self.next_refresh(connection)?,
            watches,
            self.renewal(connection)?,
        ];
        Ok(times.into_iter().flatten().min())
    }

    /// Runs one wish or input as one transaction. On an error nothing has changed, neither in
    /// the store nor in the run.
    pub(crate) fn turn<T>(
        &mut self,
        store: &mut Store,
        now: u64,
        rng: Rng<'_>,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T>,
    ) -> Result<Step<T>> {
        let mut run = self.run.clone();
        let keys = &mut self.keys;
        let (value, effects) = store.transaction(|tx| {
            let mut turn = Turn {
                tx,
                account: &self.account,
                config: &self.config,
                device: self.device,
                keys,
                run: &mut run,
                now,
                rng,
                effects: Vec::new(),
                owed: Owed::new(),
                cleaning: BTreeMap::new(),
            };
            let value = work(&mut turn)?;
            // What a wish without a network made due waits in the outbox.
            turn.give_receipts()?;
            turn.queue_cleaning()?;
            Ok((value, turn.effects))
        })?;
        self.run = run;
        Ok(Step { value, effects })
    }
}

impl Turn<'_> {
    /// The own key.
    pub fn own(&self) -> PublicKey {
        self.account.public_key()
    }

    /// A new operation.
    pub fn begin(&mut self, op: Op) -> OpId {
        self.run.next_op = self.run.next_op.wrapping_add(1);
        let id = OpId(self.run.next_op);
        self.run.ops.insert(id, op);
        id
    }

    /// A socket of this circle.
    pub fn socket(&self, role: Role, key: PublicKey, relay: &RelayUrl, is_own: bool) -> SocketKey {
        SocketKey {
            circle: self.config.circle,
            role,
            key,
            relay: relay.clone(),
            is_own,
        }
    }

    fn dispatch(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Tick => self.tick(),
            Input::Challenged { socket, challenge } => self.answer_challenge(socket, &challenge),
            Input::Unwelcome { socket, why } => self.unwelcome(socket, why),
            Input::Published { op, outcome } => match self.run.ops.remove(&op) {
                Some(Op::Publish {
                    row,
                    attempt,
                    was_touched,
                    ..
                }) => self.published(row, (attempt, was_touched), outcome),
                Some(Op::Join { relay }) => self.joined(relay, outcome),
                other => self.unexpected(op, other),
            },
            Input::Events { op, events } => match self.run.ops.get(&op).cloned() {
                Some(Op::Page(page)) => self.paged(op, page, &events),
                Some(Op::Fetch(fetch)) => self.fetched(&fetch, &events),
                Some(Op::Live { relay }) => self.received_live(&relay, &events),
                Some(Op::Lookup { author, .. }) => self.looked_up(&author, &events),
                Some(Op::OwnLists { relay }) => self.own_lists_found(&relay, &events),
                Some(Op::Circles) => self.circles_found(&events),
                _ => Ok(()),
            },
            Input::CaughtUp { op } => match self.run.ops.get(&op).cloned() {
                Some(Op::Live { relay }) => self.live_opened(&relay),
                _ => Ok(()),
            },
            Input::QueryEnded { op, end, garbage } => match self.run.ops.remove(&op) {
                Some(Op::Page(page)) => self.page_ended(page, end, garbage),
                Some(Op::Fetch(fetch)) => self.fetch_ended(fetch, end),
                Some(Op::Live { relay }) => self.live_ended(relay, end),
                Some(Op::Lookup { author, relay }) => self.lookup_ended(&author, &relay, end),
                Some(Op::OwnLists { relay }) => self.own_lists_read(relay, end),
                Some(Op::Circles) => Ok(()),
                other => self.unexpected(op, other),
            },
            Input::Reconciled { op, answer } => match self.run.ops.remove(&op) {
                Some(Op::Reconcile(reconcile)) => self.reconciled(op, reconcile, answer),
                other => self.unexpected(op, other),
            },
            Input::Described { op, outcome } => match self.run.ops.remove(&op) {
                Some(Op::Describe { relay }) => self.described(&relay, &outcome),
                Some(Op::DescribeToJoin { relay }) => self.described_to_join(relay, outcome),
                other => self.unexpected(op, other),
            },
            Input::BlobDone { op, outcome } => match self.run.ops.remove(&op) {
                Some(Op::Blob {
                    blob,
                    origin,
                    was_touched,
                    asked,
                    ..
                }) => self.blob_done(&blob, &origin, (asked, was_touched), outcome),
                other => self.unexpected(op, other),
            },
        }
    }

    /// An answer to something else than was asked changes nothing.
    fn unexpected(&mut self, op: OpId, known: Option<Op>) -> Result<()> {
        if let Some(known) = known {
            self.run.ops.insert(op, known);
        }
        Ok(())
    }

    /// Time has passed.
    fn tick(&mut self) -> Result<()> {
        self.route_all()?;
        self.forget_failed_lookups();
        self.expire()?;
        self.renew_leases()?;
        self.refresh_lookups()?;
        self.reconnect()
    }

    /// Look-ups that reached nobody and that nobody waits for any more are forgotten.
    fn forget_failed_lookups(&mut self) {
        let now = self.now;
        self.run
            .failed_lookups
            .retain(|_, (_, retry_at)| *retry_at > now);
    }

    /// What follows from everything: envelopes find relays, due rows go out.
    pub fn settle(&mut self) -> Result<()> {
        self.give_receipts()?;
        self.queue_cleaning()?;
        self.route_all()?;
        self.emit_blobs()?;
        self.emit_due()?;
        self.unspool()
    }
}
