//! Two sets of threads for sockets. Where a crowd of connections keeps its threads busy, those are
//! moved to threads that the operating system serves last, so that whoever waits for a short answer
//! does not wait behind them; a connection that has calmed down comes back. Nothing about what it is
//! answered changes. A few busy connections stay where they are: each yields after a short turn, and
//! a change of threads costs more than it gains.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::usage::{Allowance, Usage};

/// How many steps the second set of threads steps back behind the others (nice(2)).
const STEP_BACK: i32 = 10;
/// The same for threads that are busy with everybody's events.
const HALF_A_STEP_BACK: i32 = 5;
/// How long a connection may keep its thread busy before it is moved.
const ALLOWANCE: Allowance = Allowance {
    per_second: Duration::from_millis(20),
    burst: Duration::from_millis(20),
    at_first: Duration::from_millis(4),
};
/// So many busy connections are no crowd.
const FEW: usize = 16;
/// It comes back when it has used less than this for so long that the rest is saved up again.
const CALM: Duration = Duration::from_millis(2);
/// What one turn counts at most: where it took longer, the thread was interrupted by others.
const TURN: Duration = Duration::from_micros(500);

/// Both sets of threads.
#[derive(Debug)]
pub struct Lanes {
    fast: Handle,
    /// Connections that stand out, in either lane.
    busy: AtomicUsize,
    /// None only while it is dropped.
    slow: Option<Runtime>,
}

impl Lanes {
    /// The fast lane is the caller's runtime.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let slow = Builder::new_multi_thread()
            .worker_threads(threads)
            // As many as may read for those who ask for much; each more would keep pages of memory
            // of its own.
            .max_blocking_threads(threads)
            .thread_name("slow lane")
            .on_thread_start(|| step_back(STEP_BACK))
            .enable_all()
            .build()?;
        Ok(Arc::new(Self {
            fast: Handle::current(),
            busy: AtomicUsize::new(0),
            slow: Some(slow),
        }))
    }

    /// Serves a connection until it ends, in the lane where it belongs at each moment.
    pub fn serve(self: &Arc<Self>, connection: impl Future<Output = ()> + Send + 'static) {
        let usage = ALLOWANCE.begin();
        let among = Among {
            lanes: self.clone(),
            is_busy: false,
        };
        self.drive(Box::pin(connection), usage, among, false);
    }

    /// Runs work that may block for a while on a thread of either lane.
    pub fn aside<T: Send + 'static>(
        &self,
        is_urgent: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.lane(!is_urgent).spawn_blocking(work)
    }

    fn lane(&self, is_slow: bool) -> &Handle {
        match &self.slow {
            Some(slow) if is_slow => slow.handle(),
            _ => &self.fast,
        }
    }

    fn drive(&self, connection: Connection, usage: Usage, among: Among, is_slow: bool) {
        self.lane(is_slow).spawn(Turn {
            connection: Some(connection),
            usage,
            among: Some(among),
            is_slow,
        });
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        if let Some(slow) = self.slow.take() {
            // Dropped by its last connection perhaps, on one of its own threads.
            slow.shutdown_background();
        }
    }
}

/// Lets the calling thread go behind the sockets of the fast lane, before those of the slow one.
pub fn step_between() {
    step_back(HALF_A_STEP_BACK);
}

/// Lets the calling thread go behind everything but the sockets of the slow lane, with which it goes.
pub fn step_behind() {
    step_back(STEP_BACK);
}

/// The calling thread steps back behind those that have not.
fn step_back(steps: i32) {
    if rustix::process::nice(steps).is_err() {
        tracing::warn!("a thread could not step back behind others");
    }
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's place in the count of those that are busy.
struct Among {
    lanes: Arc<Lanes>,
    is_busy: bool,
}

impl Among {
    /// Counts it, or no longer.
    fn set(&mut self, is_busy: bool) {
        if is_busy != self.is_busy {
            self.is_busy = is_busy;
            match is_busy {
                true => self.lanes.busy.fetch_add(1, Ordering::Relaxed),
                false => self.lanes.busy.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }
}

impl Drop for Among {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// A connection for as long as it stays in its lane. It is a task by itself, without an `async`
/// block around it that would keep it twice.
struct Turn {
    connection: Option<Connection>,
    usage: Usage,
    /// None only once it has ended.
    among: Option<Among>,
    is_slow: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(());
        };
        let began = Instant::now();
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        self.usage.add((now - began).min(TURN), now, &ALLOWANCE);
        let level = self.usage.level();
        let is_slow = self.is_slow;
        let Some(among) = &mut self.among else {
            return Poll::Ready(());
        };
        if level > ALLOWANCE.burst {
            among.set(true);
        } else if level <= CALM {
            among.set(false);
        }
        let is_crowd = among.lanes.busy.load(Ordering::Relaxed) > FEW;
        if is_slow == (among.is_busy && (is_slow || is_crowd)) {
            return Poll::Pending;
        }
        // Both were there.
        if let (Some(connection), Some(among)) = (self.connection.take(), self.among.take()) {
            let lanes = among.lanes.clone();
            lanes.drive(connection, self.usage, among, !is_slow);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after) = stat.rsplit_once(") ").unwrap();
        after.split(' ').nth(16).unwrap().parse().unwrap()
    }

    /// Keeps its thread busy until it is on another one or so many turns have passed; how many.
    async fn be_busy(before: i32, most: u32) -> u32 {
        let mut turns = 0;
        while own_nice() == before && turns < most {
            turns += 1;
            std::thread::sleep(TURN);
            tokio::task::yield_now().await;
        }
        turns
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn r_fair_3_a_crowd_of_busy_connections_is_moved_behind_the_others_until_it_is_calm() {
        let lanes = Lanes::new().unwrap();
        let before = own_nice();
        let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..=FEW {
            let done = done.clone();
            lanes.serve(async move {
                // Each turn counts at most half a millisecond.
                let turns = be_busy(before, 100_000).await;
                assert_eq!(own_nice(), before + STEP_BACK);
                while own_nice() != before {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done.send(turns).unwrap();
            });
        }
        for _ in 0..=FEW {
            assert!(ended.recv().await.unwrap() > 5, "a few turns are no reason");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn r_fair_3_a_few_busy_connections_stay_where_they_are() {
        let lanes = Lanes::new().unwrap();
        let before = own_nice();
        let (done, ended) = tokio::sync::oneshot::channel();
        lanes.serve(async move {
            done.send(be_busy(before, 200).await).unwrap();
        });
        assert_eq!(ended.await.unwrap(), 200);
        // It was busy to its end, and counts no more.
        let gone = async {
            while lanes.busy.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .unwrap();
    }
}
