//! Two sets of threads for sockets. A connection that keeps its thread busy is moved to threads
//! that the operating system serves last, so that whoever waits for a short answer does not wait
//! behind it; when it has calmed down it comes back. Nothing about what it is answered changes,
//! and where nobody else wants the processor it is as fast as before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
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
/// It comes back when it has used less than this for so long that the rest is saved up again.
const CALM: Duration = Duration::from_millis(2);
/// What one turn counts at most: where it took longer, the thread was interrupted by others.
const TURN: Duration = Duration::from_micros(500);

/// Both sets of threads.
#[derive(Debug)]
pub struct Lanes {
    fast: Handle,
    /// None only while it is dropped.
    slow: Option<Runtime>,
}

impl Lanes {
    /// The fast lane is the caller's runtime.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let slow = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("slow lane")
            .on_thread_start(|| step_back(STEP_BACK))
            .enable_all()
            .build()?;
        Ok(Arc::new(Self {
            fast: Handle::current(),
            slow: Some(slow),
        }))
    }

    /// Serves a connection until it ends, in the lane where it belongs at each moment.
    pub fn serve(self: &Arc<Self>, connection: impl Future<Output = ()> + Send + 'static) {
        let usage = ALLOWANCE.begin();
        self.drive(Box::pin(connection), usage, false);
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

    fn drive(self: &Arc<Self>, connection: Connection, usage: Usage, is_slow: bool) {
        let lanes = self.clone();
        let turn = Turn {
            connection: Some(connection),
            usage,
            is_slow,
        };
        self.lane(is_slow).spawn(async move {
            if let Some((connection, usage)) = turn.await {
                lanes.drive(connection, usage, !is_slow);
            }
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

/// The calling thread steps back behind those that have not.
fn step_back(steps: i32) {
    if rustix::process::nice(steps).is_err() {
        tracing::warn!("a thread could not step back behind others");
    }
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection for as long as it stays in its lane; what belongs into the other one, or nothing
/// when it has ended.
struct Turn {
    connection: Option<Connection>,
    usage: Usage,
    is_slow: bool,
}

impl Future for Turn {
    type Output = Option<(Connection, Usage)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        let began = Instant::now();
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let now = Instant::now();
        self.usage.add((now - began).min(TURN), now, &ALLOWANCE);
        let belongs = match self.is_slow {
            false => self.usage.level() <= ALLOWANCE.burst,
            true => self.usage.level() > CALM,
        };
        match self.connection.take() {
            Some(connection) if !belongs => Poll::Ready(Some((connection, self.usage))),
            connection => {
                self.connection = connection;
                Poll::Pending
            }
        }
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

    #[tokio::test(flavor = "multi_thread")]
    async fn r_fair_3_a_busy_connection_is_moved_behind_the_others_and_comes_back_when_it_is_calm()
    {
        let lanes = Lanes::new().unwrap();
        let before = own_nice();
        let (done, ended) = tokio::sync::oneshot::channel();
        lanes.serve(async move {
            let mut turns = 0;
            // Each turn counts at most half a millisecond.
            while own_nice() == before {
                turns += 1;
                assert!(turns < 1_000, "it was never moved");
                std::thread::sleep(TURN);
                tokio::task::yield_now().await;
            }
            assert_eq!(own_nice(), before + STEP_BACK);
            while own_nice() != before {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done.send(turns).unwrap();
        });
        let turns = ended.await.unwrap();
        assert!(turns > 5, "a few turns are no reason to move it");
    }
}
