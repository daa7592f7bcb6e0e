//! Carries out the engine's effects and collects the network's answers.
//!
//! One link per [`SocketKey`], one task per transfer. The answers come out of
//! [`Driver::next_input`] one at a time; whoever feeds them to the engine hands the new effects
//! back to [`Driver::execute`]. Dropping the driver drops every connection; nothing is lost by
//! it, since what was not answered is in the engine's store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::CryptoRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::RelayUrl;

use super::Timeouts;
use super::dialer::Dialer;
use super::file_link::{ByteObserver, FileLink, Upload};
use super::relay_document::{NoDocument, RelayDocument};
use super::relay_link::{Command, RelayLink};
use super::spool::Spool;
use crate::client::{Transfer, TransferObserver};
use crate::engine::io::{BlobOutcome, DescribeOutcome, Effect, Input, OpId, SocketKey};

/// Inputs that wait for the engine before the sockets stop reading.
const WAITING: usize = 64;
/// How long a relay may take to describe itself: its inbox is read without that, too.
const DESCRIBE: Duration = Duration::from_secs(5);
/// How long the goodbyes may take when a command ends.
const GOODBYE: Duration = Duration::from_millis(500);

/// The network side of one client.
pub struct Driver {
    dialer: Dialer,
    timeouts: Timeouts,
    spool: Spool,
    files: FileLink,
    on_transfer: Option<TransferObserver>,
    moved: Arc<AtomicU64>,
    links: HashMap<SocketKey, RelayLink>,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver that has not dialled anything.
    pub fn new(
        dialer: Dialer,
        timeouts: Timeouts,
        spool: Spool,
        on_transfer: Option<TransferObserver>,
    ) -> Self {
        let (sender, inputs) = mpsc::channel(WAITING);
        Self {
            files: FileLink::new(dialer.clone(), timeouts),
            dialer,
            timeouts,
            spool,
            on_transfer,
            moved: Arc::new(AtomicU64::new(0)),
            links: HashMap::new(),
            tasks: JoinSet::new(),
            sender,
            inputs,
        }
    }

    /// Opens connections, for checks that the engine does not order.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The file servers' side, for transfers that the engine does not order (`file get`).
    pub fn files(&self) -> &FileLink {
        &self.files
    }

    /// The spool.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Starts effects. Must be called within a tokio runtime. `rng` seeds the names of
    /// subscriptions.
    pub fn execute(&mut self, effects: Vec<Effect>, rng: &mut dyn CryptoRng) {
        for effect in effects {
            match effect {
                Effect::Publish {
                    op,
                    socket,
                    id,
                    event,
                } => self.command(socket, Command::Publish { op, id, event }, rng),
                Effect::Query {
                    op,
                    socket,
                    filter,
                    live,
                } => self.command(socket, Command::Query { op, filter, live }, rng),
                Effect::Reconcile { op, socket, step } => {
                    self.command(socket, Command::Reconcile { op, step }, rng);
                }
                Effect::Describe { op, relay } => self.describe(op, relay),
                Effect::Authenticate { socket, event, id } => {
                    self.command(socket, Command::Authenticate { id, event }, rng);
                }
                Effect::StayAnonymous { socket } => {
                    self.command(socket, Command::StayAnonymous, rng);
                }
                Effect::Upload {
                    op,
                    origin,
                    is_own,
                    blob,
                    size,
                    authorization,
                    sunset,
                } => {
                    let upload = Upload {
                        origin,
                        is_own,
                        blob,
                        size,
                        authorization,
                        sunset,
                    };
                    let (files, spool) = (self.files.clone(), self.spool.clone());
                    let progress = self.progress(true, size);
                    self.blob_task(op, async move {
                        match spool.open(&upload.blob) {
                            Ok(file) => files.upload(&upload, file, Some(progress)).await,
                            // Gone from the spool: no later try can find it either.
                            Err(_) => BlobOutcome::Refused {
                                status: 0,
                                reason: "the encrypted file is no longer in the spool".to_owned(),
                            },
                        }
                    });
                }
                Effect::RemoveBlob {
                    op,
                    url,
                    is_own,
                    authorization,
                } => {
                    let files = self.files.clone();
                    self.blob_task(op, async move {
                        files.remove(&url, is_own, &authorization).await
                    });
                }
                Effect::ProbeBlob { op, url, is_own } => {
                    let files = self.files.clone();
                    self.blob_task(op, async move { files.probe(&url, is_own).await });
                }
                Effect::Unspool { blob } => {
                    if self.spool.remove(&blob).is_err() {
                        tracing::warn!("a ciphertext could not be removed from the spool");
                    }
                }
            }
        }
    }

    fn command(&mut self, socket: SocketKey, command: Command, rng: &mut dyn CryptoRng) {
        if let Some(link) = self.links.get(&socket) {
            return link.command(command);
        }
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let (link, task) = RelayLink::new(
            socket.clone(),
            self.dialer.clone(),
            self.timeouts,
            seed,
            self.sender.clone(),
        );
        self.tasks.spawn(task);
        link.command(command);
        self.links.insert(socket, link);
    }

    fn describe(&mut self, op: OpId, relay: RelayUrl) {
        let (files, sender) = (self.files.clone(), self.sender.clone());
        let patience = self.timeouts.answer.min(DESCRIBE);
        self.tasks.spawn(async move {
            let document = RelayDocument::read(&files, &relay, true);
            let outcome = match tokio::time::timeout(patience, document).await {
                Ok(Ok(document)) => DescribeOutcome::Knows(document.nips()),
                Ok(Err(NoDocument::Unreachable(_))) => DescribeOutcome::Unreachable,
                Ok(Err(_)) | Err(_) => DescribeOutcome::Nothing,
            };
            let _ = sender.send(Input::Described { op, outcome }).await;
        });
    }

    fn blob_task(
        &mut self,
        op: OpId,
        transfer: impl Future<Output = BlobOutcome> + Send + 'static,
    ) {
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            let outcome = transfer.await;
            let _ = sender.send(Input::BlobDone { op, outcome }).await;
        });
    }

    /// An observer for one transfer: it tells the face, and [`Driver::moved`].
    pub fn progress(&self, is_upload: bool, total: u64) -> ByteObserver {
        let moved = Arc::clone(&self.moved);
        let observer = self.on_transfer.clone();
        Arc::new(move |done| {
            moved.fetch_add(1, Ordering::Relaxed);
            if let Some(observer) = &observer {
                observer(Transfer {
                    is_upload,
                    done,
                    total,
                });
            }
        })
    }

    /// A number that changes as long as bytes of files flow.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The next answer, or nothing at `deadline`. Dropping the future loses no answer.
    pub async fn next_input(&mut self, deadline: Instant) -> Option<Input> {
        // Transfers that ended; links end only with the driver.
        while self.tasks.try_join_next().is_some() {}
        let input = tokio::time::timeout_at(deadline, self.inputs.recv()).await;
        input.ok().flatten()
    }

    /// An answer that is there already.
    pub fn ready_input(&mut self) -> Option<Input> {
        self.inputs.try_recv().ok()
    }

    /// Says goodbye on every socket, within half a second.
    pub async fn close(&mut self) {
        self.links.clear();
        // Links that wait for room among the inputs see that nobody reads them any more.
        self.inputs.close();
        let goodbyes = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    }
}
