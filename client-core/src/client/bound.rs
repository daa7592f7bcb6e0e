//! A home that is open, bound to one circle, and the loop that drives its engine.

use std::fmt;
use std::time::Duration;

use crypto::SecretText;
use crypto::backup::{self, BackupError};
use crypto::circles::{Circle, Circles};
use rand::CryptoRng;
use tokio::time::Instant;
use wire::RelayUrl;
use wire::link::npub;
use wire::relay_url::Origin;

use super::request::{Protection, Settings};
use crate::engine::io::Input;
use crate::engine::{Engine, EngineConfig};
use crate::error::{Error, ErrorWord, Result};
use crate::home::{CircleRow, Unlocked};
use crate::runtime::dialer::Dialer;
use crate::runtime::driver::Driver;
use crate::runtime::spool::Spool;
use crate::store::Store;
use crate::view::{AccountView, CircleView};

/// How often the loop looks at the clock: a clock that jumps, or a machine that slept, is noticed
/// so late at most.
const LOOK: Duration = Duration::from_secs(1);
/// What was begun beside the goal may take so long after it.
const GRACE: Duration = Duration::from_secs(1);
/// The shortest pause between two ticks of the engine.
const TICK: Duration = Duration::from_millis(200);

/// A home that is open, bound to one circle. It has one verb for each thing a person can do; a
/// verb that touches the network can be dropped at any moment and loses nothing, because intent
/// is stored before it is carried out.
pub struct Client {
    pub(super) unlocked: Unlocked,
    pub(super) protection: Protection,
    pub(super) row: CircleRow,
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) driver: Driver,
    pub(super) settings: Settings,
    pub(super) rng: Box<dyn CryptoRng + Send>,
    pub(super) warnings: Vec<String>,
    is_resumed: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Drop for Client {
    /// Gives back what this process had leased, after Ctrl-C too, so that the next command need
    /// not wait until the leases run out.
    fn drop(&mut self) {
        if !self.engine.busy() {
            return;
        }
        let now = self.now();
        let released = self.engine.release(&mut self.store, now, &mut *self.rng);
        if released.is_err() {
            tracing::warn!("leases were not given back; they run out by themselves");
        }
    }
}

/// How driving ended.
pub(super) enum Driven<T> {
    /// The goal was reached.
    Reached(T),
    /// Nothing is under way that could still reach it in time.
    Idle,
    /// Time ran out.
    TimedOut,
}

impl Client {
    pub(super) fn new(
        unlocked: Unlocked,
        protection: Protection,
        circle: Option<&str>,
        settings: Settings,
    ) -> Result<Self> {
        let row = find_circle(&unlocked, circle)?;
        let mut rng = (settings.rng)();
        let account = unlocked.root.account_key(row.index)?;
        let key = unlocked.data_key.circle_store(row.index);
        let mut store = Store::open(&unlocked.circle_store(&row.folder)?, &key)?;
        unlocked.circle_store_is_made(&row.folder)?;
        let config = EngineConfig {
            circle: row.index,
            circle_name: row.name.clone(),
            expire_s: row.expire_s,
        };
        let mut engine = Engine::new(account, config, &mut store, &mut *rng)?;
        let dialer = match &settings.dialer {
            Some(dialer) => dialer.clone(),
            None => Dialer::new(settings.timeouts.connect)?,
        };
        let spool = Spool::new(unlocked.spool(&row.folder)?);
        let mut timeouts = settings.timeouts;
        timeouts.transfer = timeouts.transfer.min(settings.timeout);
        let mut driver = Driver::new(dialer, timeouts, spool, settings.on_transfer.clone());
        // Expired messages are gone before anything is shown.
        let now = settings.clock.now();
        let effects = engine.sweep(&mut store, now, &mut *rng)?;
        driver.execute(effects, &mut *rng);
        let warnings = unlocked.warnings.clone();
        Ok(Self {
            unlocked,
            protection,
            row,
            engine,
            store,
            driver,
            settings,
            rng,
            warnings,
            is_resumed: false,
        })
    }

    /// What the user should know beside the answers; empties the list.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The circle's account.
    pub fn account(&self) -> Result<AccountView> {
        let key = self.engine.public_key();
        Ok(AccountView {
            npub: npub(&key),
            pubkey: key.to_hex(),
            circle: self.row.name.clone(),
            relays: texts(&self.row.relays),
            file_servers: texts(&self.row.file_servers),
            protected_by: format!("{}, device secret in a file", self.protection.as_str()),
            words: None,
        })
    }

    /// The seed words; 7 where this home has none.
    pub fn export_words(&self) -> Result<SecretText> {
        let seed = self.unlocked.root.seed()?;
        seed.map(|seed| seed.expose_secret_words()).ok_or_else(|| {
            Error::new(
                ErrorWord::NotFound,
                "this home holds keys but no seed words",
            )
        })
    }

    /// The circle's key under a passphrase of at least 12 characters that are not all digits
    /// (NIP-49).
    pub fn export_ncryptsec(&mut self, passphrase: SecretText) -> Result<String> {
        let key = self.unlocked.root.account_key(self.row.index)?;
        backup::export(&key, &passphrase, backup::LOG_N, &mut *self.rng).map_err(|error| {
            let word = match error {
                BackupError::WeakPassphrase | BackupError::TooLong => ErrorWord::Usage,
                BackupError::Malformed | BackupError::Wrong => ErrorWord::Internal,
            };
            Error::new(word, error.to_string())
        })
    }

    /// Ends the connections politely. Dropping the client ends them at once; nothing is lost by
    /// that.
    pub async fn close(mut self) {
        self.driver.close().await;
    }

    // Driving

    pub(super) fn now(&self) -> u64 {
        self.settings.clock.now()
    }

    /// When a verb that starts now must end.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    /// Takes up what earlier processes left, once, before the first use of the network.
    pub(super) fn resume(&mut self) -> Result<()> {
        if !self.is_resumed {
            self.is_resumed = true;
            self.driver
                .spool()
                .sweep(&self.engine.spooled(&self.store)?);
            self.stage_definitions()?;
            let now = self.now();
            if self.is_new_here()? {
                let (relays, file_servers) = self.servers()?;
                let step = self.engine.set_servers(
                    &mut self.store,
                    relays,
                    file_servers,
                    now,
                    &mut *self.rng,
                )?;
                self.execute(step);
            }
            let effects = self.engine.resume(&mut self.store, now, &mut *self.rng)?;
            self.driver.execute(effects, &mut *self.rng);
        }
        Ok(())
    }

    /// Whether the circle's definition names servers that its store has never heard of: the circle
    /// was made on another device, or this home was restored.
    fn is_new_here(&self) -> Result<bool> {
        let (relays, file_servers) = self.engine.servers(&self.store)?;
        let knows_none = relays.is_empty() && file_servers.is_empty();
        let names_some = !(self.row.relays.is_empty() && self.row.file_servers.is_empty());
        Ok(knows_none && names_some)
    }

    /// The circle's inbox relays and file servers.
    pub(super) fn servers(&self) -> Result<(Vec<RelayUrl>, Vec<Origin>)> {
        if self.is_new_here()? {
            return Ok((self.row.relays.clone(), self.row.file_servers.clone()));
        }
        self.engine.servers(&self.store)
    }

    /// Feeds the engine until `goal` gives something, nothing is left to wait for, or `until`.
    /// With `is_patient` there is always something to wait for: what others may send. While bytes
    /// of files flow, `until` moves on: a large file on a slow line is no reason to give up.
    pub(super) async fn drive<T>(
        &mut self,
        mut until: Instant,
        is_patient: bool,
        mut goal: impl FnMut(&Engine, &Store) -> Result<Option<T>>,
    ) -> Result<Driven<T>> {
        let mut ticked: Option<Instant> = None;
        let mut moved = self.driver.moved();
        loop {
            if let Some(reached) = goal(&self.engine, &self.store)? {
                return Ok(Driven::Reached(reached));
            }
            let now = Instant::now();
            if now >= until {
                if moved == self.driver.moved() {
                    return Ok(Driven::TimedOut);
                }
                moved = self.driver.moved();
                until = now + self.settings.timeout.max(LOOK);
            }
            let wake = self.engine.next_wake(&self.store)?;
            let wait = wake.map(|at| Duration::from_secs(at.saturating_sub(self.now())));
            if !is_patient && !self.engine.busy() && wait.is_none_or(|wait| now + wait > until) {
                return Ok(Driven::Idle);
            }
            if wait == Some(Duration::ZERO) && ticked.is_none_or(|at| now >= at + TICK) {
                ticked = Some(now);
                self.feed(Input::Tick)?;
                continue;
            }
            let pause = wait.unwrap_or(LOOK).clamp(TICK, LOOK);
            if let Some(input) = self.driver.next_input(until.min(now + pause)).await {
                self.feed(input)?;
                // What is there already, before the goal is asked again.
                for _ in 0..16 {
                    let Some(input) = self.driver.ready_input() else {
                        break;
                    };
                    self.feed(input)?;
                }
            }
        }
    }

    /// A moment for what was begun beside the goal, such as erasing what has expired: a verb that
    /// is answered at once would otherwise cut it off each time.
    pub(super) async fn finish_begun(&mut self) -> Result<()> {
        let until = Instant::now() + GRACE;
        self.drive(until, false, |engine, _| Ok((!engine.busy()).then_some(())))
            .await?;
        Ok(())
    }

    fn feed(&mut self, input: Input) -> Result<()> {
        let now = self.now();
        let effects = self
            .engine
            .handle(&mut self.store, input, now, &mut *self.rng)?;
        self.driver.execute(effects, &mut *self.rng);
        Ok(())
    }

    /// Carries out what a wish of the engine asks of the network.
    pub(super) fn execute<T>(&mut self, step: crate::engine::Step<T>) -> T {
        self.driver.execute(step.effects, &mut *self.rng);
        step.value
    }

    // Circle definitions: one event of circle 0

    /// Hands changed definitions to circle 0's outbox; in other circles nothing. A home without
    /// the seed cannot, and leaves it to one that can.
    fn stage_definitions(&mut self) -> Result<()> {
        if self.row.index != 0 {
            return Ok(());
        }
        let Some(change) = self.unlocked.root.unpublished()? else {
            return Ok(());
        };
        let Some(seed) = self.unlocked.root.seed()? else {
            return Ok(());
        };
        let definitions = definitions_of(&self.unlocked.root.circles()?);
        let account = self.unlocked.root.account_key(0)?;
        let now = self.now();
        let event = definitions
            .seal(&account, &seed.circles_key(), now, &mut *self.rng)
            .map_err(|error| Error::new(ErrorWord::Internal, error.to_string()))?;
        self.engine
            .stage_circles(&mut self.store, &event, now, &mut *self.rng)?;
        self.unlocked.root.set_published(change)
    }

    /// Merges the definitions that circle 0's relays sent into this home's table. Circles that
    /// are new here get their keys from the seed.
    pub(super) fn merge_definitions(&mut self) -> Result<()> {
        let events = self.engine.take_circles();
        if self.row.index != 0 || events.is_empty() {
            return Ok(());
        }
        let Some(seed) = self.unlocked.root.seed()? else {
            return Ok(());
        };
        let account = self.unlocked.root.account_key(0)?;
        let mut remote = Circles::new();
        for event in &events {
            match Circles::open(event, &account, &seed.circles_key()) {
                Ok(circles) => remote.merge(circles),
                Err(error) => self.warnings.push(error.to_string()),
            }
        }
        let rows = self.unlocked.root.circles()?;
        let mut merged = definitions_of(&rows);
        merged.merge(remote.clone());
        for circle in merged.iter() {
            let known = rows.iter().find(|row| row.index == circle.index);
            let row = row_of(circle, known);
            match known {
                Some(known) if *known == row => {}
                Some(_) => self.unlocked.root.update_circle(&row)?,
                None => {
                    let key = match circle.removed {
                        true => None,
                        false => Some(seed.account_key(circle.index).map_err(|error| {
                            Error::new(ErrorWord::Integrity, error.to_string())
                        })?),
                    };
                    let row = self.with_free_name(row)?;
                    self.unlocked
                        .root
                        .add_circle(&row, key.as_ref(), &mut *self.rng)?;
                }
            }
        }
        if definitions_of(&self.unlocked.root.circles()?) == remote
            && let Some(change) = self.unlocked.root.unpublished()?
        {
            self.unlocked.root.set_published(change)?;
        }
        self.reload_row()
    }

    /// Two devices may have given one name to two circles: the one that comes later gets a
    /// number here.
    fn with_free_name(&self, mut row: CircleRow) -> Result<CircleRow> {
        let rows = self.unlocked.root.circles()?;
        let is_taken = |name: &str| rows.iter().any(|row| !row.removed && row.name == name);
        let wished = row.name.clone();
        let mut number = 2;
        while !row.removed && is_taken(&row.name) {
            row.name = format!("{wished} {number}");
            number += 1;
        }
        Ok(row)
    }

    /// Reads the bound circle's row again.
    pub(super) fn reload_row(&mut self) -> Result<()> {
        let rows = self.unlocked.root.circles()?;
        if let Some(row) = rows.into_iter().find(|row| row.index == self.row.index) {
            self.row = row;
        }
        Ok(())
    }

    /// The view of a circle.
    pub(super) fn circle_view(&self, row: &CircleRow) -> Result<CircleView> {
        let key = self.unlocked.root.account_key(row.index)?.public_key();
        Ok(CircleView {
            name: row.name.clone(),
            index: row.index,
            pubkey: key.to_hex(),
            npub: npub(&key),
            relays: texts(&row.relays),
            file_servers: texts(&row.file_servers),
            expire_s: row.expire_s,
            current: row.index == self.unlocked.root.current()?,
        })
    }
}

pub(super) fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// The circle of this name, or the current one.
fn find_circle(unlocked: &Unlocked, name: Option<&str>) -> Result<CircleRow> {
    let current = unlocked.root.current()?;
    let mut rows = unlocked.root.circles()?.into_iter();
    rows.find(|row| match name {
        Some(name) => !row.removed && row.name == name,
        None => row.index == current,
    })
    .ok_or_else(|| {
        Error::new(ErrorWord::NotFound, "there is no circle of this name")
            .hint("`sotto circle list` names them")
    })
}

fn definitions_of(rows: &[CircleRow]) -> Circles {
    let mut circles = Circles::new();
    for row in rows {
        circles.merge_circle(Circle {
            index: row.index,
            name: row.name.clone(),
            relays: row.relays.clone(),
            file_servers: row.file_servers.clone(),
            ttl: row.expire_s,
            made_at: row.made_at,
            removed: row.removed,
        });
    }
    circles
}

fn row_of(circle: &Circle, known: Option<&CircleRow>) -> CircleRow {
    CircleRow {
        index: circle.index,
        name: circle.name.clone(),
        folder: known.map(|row| row.folder.clone()).unwrap_or_default(),
        relays: circle.relays.clone(),
        file_servers: circle.file_servers.clone(),
        expire_s: circle.ttl,
        made_at: circle.made_at,
        removed: circle.removed,
    }
}
