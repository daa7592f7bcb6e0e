//! What all connections together hold in memory, and who pays when it becomes too much.
//!
//! Every cap of one connection is generous, because honest ones seldom come near it; thousands of
//! hostile ones, each just below, would still fill any machine. So whatever a connection makes the
//! relay hold (frames it does not read, filters, a message that never ends, pages on their way) is
//! written to its [`Account`]. When the sum is beyond the limit, the connections that hold most are
//! cut off until an eighth of it is free again: what is small is never in danger, and a flood costs
//! one look at all accounts for each eighth that it fills.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio_util::sync::CancellationToken;

/// The accounts of all connections.
#[derive(Debug)]
pub struct Ledger {
    most: usize,
    held: AtomicUsize,
    accounts: Mutex<HashMap<u64, Weak<Account>>>,
    numbers: AtomicU64,
}

/// What one connection holds. Its bytes are given back when it is dropped.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    number: u64,
    held: AtomicUsize,
    /// Of them, what came since the last whole message.
    unfinished: AtomicUsize,
    /// Of them, what the socket's buffers keep because a message was once that large.
    buffers: AtomicUsize,
    is_cut_off: AtomicBool,
    closed: CancellationToken,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Ledger {
    /// For connections that together hold at most `most` bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            held: AtomicUsize::new(0),
            accounts: Mutex::default(),
            numbers: AtomicU64::new(0),
        })
    }

    /// An account for a new connection. `closed` is cancelled when it is cut off.
    pub fn open(self: &Arc<Self>, closed: CancellationToken) -> Arc<Account> {
        let account = Arc::new(Account {
            ledger: self.clone(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            held: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            buffers: AtomicUsize::new(0),
            is_cut_off: AtomicBool::new(false),
            closed,
        });
        self.accounts()
            .insert(account.number, Arc::downgrade(&account));
        account
    }

    /// Bytes held by all connections that are not cut off.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u64, Weak<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off whoever holds most until an eighth is free.
    fn make_room(&self) {
        let accounts = self.accounts();
        let mut holders: Vec<(usize, Arc<Account>)> = accounts
            .values()
            .filter_map(Weak::upgrade)
            .map(|account| (account.held.load(Ordering::Relaxed), account))
            .collect();
        // An account that is dropped here takes the lock.
        drop(accounts);
        holders.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        let mut count = 0_usize;
        for (_, account) in &holders {
            if self.held() <= self.most - self.most / 8 {
                break;
            }
            account.cut_off();
            count += 1;
        }
        if count > 0 {
            tracing::warn!(count, "connections that held too much were cut off");
        }
    }
}

impl Account {
    /// Adds `bytes`, which [`Account::release`] gives back. The caller may find itself cut off by
    /// it.
    pub fn add(&self, bytes: usize) {
        if self.is_cut_off.load(Ordering::Acquire) {
            return;
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let before = self.ledger.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.ledger.most {
            self.ledger.make_room();
        }
    }

    /// Gives bytes back. What a cut-off connection held is no longer counted, so nothing is then
    /// given back twice.
    pub fn release(&self, bytes: usize) {
        let mut released = 0;
        let less = |held: usize| {
            released = bytes.min(held);
            Some(held - released)
        };
        // The closure never gives none.
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.ledger.held.fetch_sub(released, Ordering::Relaxed);
    }

    /// Adds bytes until the result is dropped.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.add(bytes);
        Held {
            account: self.clone(),
            bytes,
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Cancelled when the connection is cut off.
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// `bytes` of a message arrived.
    pub fn receive(&self, bytes: usize) {
        self.unfinished.fetch_add(bytes, Ordering::Relaxed);
        self.add(bytes);
    }

    /// The message that was arriving is whole and was handed over.
    pub fn message_is_whole(&self) {
        self.release(self.unfinished.swap(0, Ordering::Relaxed));
    }

    /// A frame of `bytes` arrived that may stand in the middle of a message (RFC 6455, 5.5).
    pub fn control_is_whole(&self, bytes: usize) {
        let mut consumed = 0;
        let less = |unfinished: usize| {
            consumed = bytes.min(unfinished);
            Some(unfinished - consumed)
        };
        // The closure never gives none.
        let _ = self
            .unfinished
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.release(consumed);
    }

    /// Whether a part of a message has arrived.
    pub fn has_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) > 0
    }

    /// A buffer of the socket has grown to `bytes`, and stays that large until the end.
    pub fn keep_buffer(&self, bytes: usize) {
        let before = self.buffers.fetch_max(bytes, Ordering::Relaxed);
        self.add(bytes.saturating_sub(before));
    }

    fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Release);
        self.release(usize::MAX);
        self.closed.cancel();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.release(usize::MAX);
        self.ledger.accounts().remove(&self.number);
    }
}

impl Held {
    /// Of how many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its connection was cut off, and so it counts no more.
    pub fn is_cut_off(&self) -> bool {
        self.account.is_cut_off.load(Ordering::Acquire)
    }

    /// So many from now on.
    pub fn resize(&mut self, bytes: usize) {
        match bytes > self.bytes {
            true => self.account.add(bytes - self.bytes),
            false => self.account.release(self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    /// Adds to them.
    pub fn grow(&mut self, bytes: usize) {
        self.account.add(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(ledger: &Arc<Ledger>) -> (Arc<Account>, CancellationToken) {
        let closed = CancellationToken::new();
        (ledger.open(closed.clone()), closed)
    }

    #[test]
    fn whoever_holds_most_is_cut_off_and_the_small_are_not() {
        let ledger = Ledger::new(8_000);
        let (small, small_closed) = open(&ledger);
        let (large, large_closed) = open(&ledger);
        let (larger, larger_closed) = open(&ledger);
        small.add(500);
        large.add(3_500);
        larger.add(4_000);
        assert!(!larger_closed.is_cancelled());
        // Not who comes last, but who holds most.
        small.add(100);
        assert!(larger_closed.is_cancelled());
        assert!(!large_closed.is_cancelled() && !small_closed.is_cancelled());
        assert_eq!(ledger.held(), 4_100);
        // What is given back by the one that was cut off was counted before.
        larger.release(4_000);
        larger.add(1_000);
        assert_eq!(ledger.held(), 4_100);
        drop((small, large, larger));
        assert_eq!(ledger.held(), 0);
        assert!(ledger.accounts().is_empty(), "whoever left is in no book");
    }

    #[test]
    fn what_is_held_comes_back_when_it_is_dropped() {
        let ledger = Ledger::new(1_000);
        let (account, _) = open(&ledger);
        let held = account.hold(300);
        assert_eq!(
            (ledger.held(), account.held(), held.bytes()),
            (300, 300, 300)
        );
        drop(held);
        assert_eq!(ledger.held(), 0);
        let held = account.hold(200);
        drop(account);
        assert_eq!(ledger.held(), 200);
        drop(held);
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn a_flood_leaves_an_eighth_free() {
        let ledger = Ledger::new(8_000);
        let accounts: Vec<_> = (0..10).map(|_| open(&ledger)).collect();
        for (account, _) in &accounts {
            account.add(800);
        }
        // One less would be within the limit, and cut the next off at the next byte.
        accounts[0].0.add(1);
        let cut = accounts.iter().filter(|(_, closed)| closed.is_cancelled());
        assert_eq!(cut.count(), 2);
        assert!(ledger.held() <= 7_000, "{}", ledger.held());
        drop(accounts);
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn a_flood_stays_within_the_limit() {
        let ledger = Ledger::new(80_000);
        let accounts: Vec<_> = (0..100).map(|_| open(&ledger)).collect();
        for round in 0..50 {
            for (at, (account, _)) in accounts.iter().enumerate() {
                account.add(10 + at + round);
                assert!(ledger.held() <= 80_000);
            }
        }
        let cut = accounts.iter().filter(|(_, closed)| closed.is_cancelled());
        assert!(cut.count() > 0);
    }
}
