//! A relay at work, with its file calls written down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sotto_relay::config::IndexEngine;
use wire::{ClientFrame, Event, EventId, RelayFrame};

use super::trace;
use crate::crash::{Program, store_section};
use crate::support::{Client, PATIENCE, now, person};

/// What was done to one relay, and everything that it did to its files.
pub struct Run {
    _folder: tempfile::TempDir,
    root: PathBuf,
    pub trace: Vec<u8>,
    sent: Vec<Sent>,
    acknowledged: HashMap<EventId, u64>,
}

/// An event that was sent, and what may take it away again.
struct Sent {
    event: Event,
    /// Who signed it.
    author: u32,
    /// Whose mailbox it is for, if it is a wrap.
    to: Option<u32>,
    /// The length of the trace before it was sent.
    at: u64,
    /// Whether it stays in the store where it is taken at all.
    is_kept: bool,
    /// Ids of the requests and newer versions that take it away.
    removers: Vec<EventId>,
}

/// What one event must be after a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged, and nobody asked for its end.
    Present,
    /// It was taken away, and that was acknowledged; or it has expired.
    Gone {
        /// Whether it was an acknowledged deletion that must keep it away.
        is_deleted: bool,
    },
    /// It, or what takes it away, was not acknowledged.
    Open,
    /// A version whose successor was not acknowledged: one of the two is there.
    Superseded,
}

impl Run {
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What must hold if nothing happened after the trace had this length.
    pub fn facts_at(&self, until: u64) -> Vec<(Event, Fate)> {
        let is_done = |id: &EventId| self.acknowledged.get(id).is_some_and(|at| *at <= until);
        let by_id: HashMap<_, _> = self
            .sent
            .iter()
            .map(|sent| (sent.event.id(), sent))
            .collect();
        let is_begun = |id: &EventId| by_id[id].at <= until;
        let fate = |sent: &Sent| {
            let Sent {
                event, removers, ..
            } = sent;
            let is_expired = event.expiration().is_some_and(|end| end <= now());
            let done = removers.iter().find(|id| is_done(id));
            if !sent.is_kept || is_expired {
                return Fate::Gone { is_deleted: false };
            }
            if let Some(done) = done {
                let is_deleted = by_id[done].event.kind() == 5;
                return Fate::Gone { is_deleted };
            }
            if !is_done(&event.id()) {
                return Fate::Open;
            }
            match removers.iter().find(|id| is_begun(id)) {
                None => Fate::Present,
                Some(id) if by_id[id].event.kind() == event.kind() => Fate::Superseded,
                Some(_) => Fate::Open,
            }
        };
        let begun = self.sent.iter().filter(|sent| sent.at <= until);
        begun.map(|sent| (sent.event.clone(), fate(sent))).collect()
    }
}

/// A content that is found again in any part of it: every sector that holds some holds the mark.
pub fn mark(number: usize) -> String {
    format!("<mark-{number:08}>")
}

struct Load {
    random: StdRng,
    trace: PathBuf,
    sent: Vec<Sent>,
    /// What waits for an answer.
    waiting: Vec<usize>,
    authors: u32,
}

/// The program was killed.
struct Closed;

/// Sessions of one run; all but the last end with a kill.
const SESSIONS: usize = 3;
const RECIPIENTS: [u32; 3] = [2, 3, 4];
/// Who vanishes in the second session.
const LEAVER: u32 = 5;
const PUBLISHER: u32 = 6;
const NOTER: u32 = 7;

pub async fn run(engine: IndexEngine, shim: &Path, seed: u64) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("root");
    let trace = folder.path().join("trace");
    std::fs::create_dir(&root).unwrap();
    let configuration = format!(
        "{}segment_bytes = 65536\nreserve_bytes = 0\n",
        store_section(engine)
    );
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, configuration).unwrap();
    let start = |kill_at: Option<u32>| {
        let mut command = crate::crash::binary();
        command
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(root.join("data"))
            .arg("--config")
            .arg(&file)
            .env("LD_PRELOAD", shim)
            .env("POWER_ROOT", &root)
            .env("POWER_TRACE", &trace)
            .envs(kill_at.map(|count| ("POWER_KILL", count.to_string())));
        Program::spawn(&mut command)
    };
    let mut load = Load {
        random: StdRng::seed_from_u64(seed ^ 0x5eed),
        trace: trace.clone(),
        sent: Vec::new(),
        waiting: Vec::new(),
        authors: 1_000,
    };
    for session in 0..SESSIONS {
        let is_last = session + 1 == SESSIONS;
        // Killed between two of its calls, or in the middle of a sync.
        let kill_at =
            (!is_last && load.random.random_bool(0.5)).then(|| load.random.random_range(30..150));
        let mut program = start(kill_at);
        let mut client = Client::connect(&program.url).await;
        let ended = load.session(&mut client, session).await;
        if ended.is_err() {
            assert!(kill_at.is_some(), "the relay closed the connection");
        } else if is_last {
            load.wait_for_the_expired(&root.join("data/log")).await;
            program.signal("-TERM");
        } else {
            program.signal("-KILL");
        }
        program.child.wait().unwrap();
    }
    let trace = std::fs::read(&trace).unwrap();
    Run {
        acknowledged: trace::acknowledged(&trace),
        _folder: folder,
        root,
        trace,
        sent: load.sent,
    }
}

impl Load {
    fn now(&self) -> u64 {
        std::fs::metadata(&self.trace).map_or(0, |trace| trace.len())
    }

    async fn session(&mut self, client: &mut Client, session: usize) -> Result<(), Closed> {
        // What got no answer is sent again, as any client does, and nothing else meanwhile: what
        // the program says of events that it found must hold without the next commit.
        for index in std::mem::take(&mut self.waiting) {
            self.send_again(client, index).await?;
        }
        self.answers(client, 0).await?;
        self.ingest(client, session).await?;
        if session == 1 {
            self.answers(client, 0).await?;
            self.vanish(client).await?;
        }
        // Some are on their way when it ends.
        let left = match session + 1 < SESSIONS {
            true => self.random.random_range(0..20),
            false => 0,
        };
        self.answers(client, left).await
    }

    /// Sends an event without waiting for its answer.
    async fn send(
        &mut self,
        client: &mut Client,
        event: Event,
        author: u32,
        to: Option<u32>,
    ) -> Result<(), Closed> {
        // A request that concerns wraps is carried out and forgotten.
        let concerns_wraps = event.tags().values("k").any(|kind| kind == "1059");
        let is_kept = event.kind() != 62 && !(event.kind() == 5 && concerns_wraps);
        let index = self.sent.len();
        self.sent.push(Sent {
            event,
            author,
            to,
            at: self.now(),
            is_kept,
            removers: Vec::new(),
        });
        self.send_again(client, index).await
    }

    async fn send_again(&mut self, client: &mut Client, index: usize) -> Result<(), Closed> {
        let frame = ClientFrame::event(self.sent[index].event.json());
        // Whether it arrives or not, it waits for an answer.
        self.waiting.push(index);
        client.try_send(frame).await.map_err(|()| Closed)
    }

    /// Waits until at most so many answers are missing.
    async fn answers(&mut self, client: &mut Client, left: usize) -> Result<(), Closed> {
        while self.waiting.len() > left {
            if let RelayFrame::Ok(id, ..) = client.try_receive().await.ok_or(Closed)? {
                let is_answered = |index: &usize| self.sent[*index].event.id() == id;
                self.waiting.retain(|index| !is_answered(index));
            }
        }
        Ok(())
    }

    async fn ingest(&mut self, client: &mut Client, session: usize) -> Result<(), Closed> {
        for _ in 0..30 {
            for _ in 0..self.random.random_range(1..12) {
                match self.random.random_range(0..100) {
                    0..50 => self.wrap(client, session).await?,
                    50..60 => self.note(client, session).await?,
                    60..70 => self.version(client).await?,
                    _ => self.delete(client).await?,
                }
            }
            // Alone, in small groups and in large ones.
            let left = [0, 5, 40][self.random.random_range(0..3)];
            self.answers(client, left).await?;
        }
        Ok(())
    }

    fn content(&mut self) -> String {
        let len = self.random.random_range(5..150);
        mark(self.sent.len()).repeat(len)
    }

    async fn wrap(&mut self, client: &mut Client, session: usize) -> Result<(), Closed> {
        let mut to = RECIPIENTS.to_vec();
        // After the second session nothing comes for who has left.
        to.extend((session < 2).then_some(LEAVER));
        to.shuffle(&mut self.random);
        let (to, content) = (to[0], self.content());
        self.authors += 1;
        let end = (now() + self.random.random_range(2..4)).to_string();
        let recipient = person(to).key().to_hex();
        let tags: [&[&str]; 2] = [&["p", &recipient], &["expiration", &end]];
        let count = if self.random.random_bool(0.2) { 2 } else { 1 };
        let event = person(self.authors).sign(1059, now(), &tags[..count], &content);
        self.send(client, event, self.authors, Some(to)).await
    }

    async fn note(&mut self, client: &mut Client, session: usize) -> Result<(), Closed> {
        let author = match session < 2 && self.random.random_bool(0.5) {
            true => LEAVER,
            false => NOTER,
        };
        let content = self.content();
        let event = person(author).sign(1, now() - 1, &[], &content);
        self.send(client, event, author, None).await
    }

    /// The next version of an addressable event.
    async fn version(&mut self, client: &mut Client) -> Result<(), Closed> {
        let d = self.random.random_range(0..4).to_string();
        let content = self.content();
        let at = now() - 100_000 + self.sent.len() as u64;
        let event = person(PUBLISHER).sign(30_078, at, &[&["d", &d]], &content);
        for sent in &mut self.sent {
            if sent.event.kind() == 30_078 && sent.event.tags().values("d").any(|old| old == d) {
                sent.removers.push(event.id());
            }
        }
        self.send(client, event, PUBLISHER, None).await
    }

    /// A request to delete a wrap or note that was sent before.
    async fn delete(&mut self, client: &mut Client) -> Result<(), Closed> {
        let index = self.random.random_range(0..self.sent.len().max(1));
        let is_fresh = |sent: &&Sent| sent.removers.is_empty();
        let Some(target) = self.sent.get(index).filter(is_fresh) else {
            return Ok(());
        };
        let by = match (target.event.kind(), target.to) {
            (1059, Some(to)) if self.random.random_bool(0.5) => to,
            (1059 | 1, _) => target.author,
            _ => return Ok(()),
        };
        let request = person(by).deletion(&target.event);
        self.sent[index].removers.push(request.id());
        self.send(client, request, by, None).await
    }

    async fn vanish(&mut self, client: &mut Client) -> Result<(), Closed> {
        let request = person(LEAVER).sign(62, now(), &[&["relay", "ALL_RELAYS"]], "");
        for sent in &mut self.sent {
            if sent.author == LEAVER || sent.to == Some(LEAVER) {
                sent.removers.push(request.id());
            }
        }
        self.send(client, request, LEAVER, None).await
    }

    async fn wait_for_the_expired(&self, log: &Path) {
        let begun = Instant::now();
        let expire = |sent: &&Sent| sent.event.expiration().is_some();
        for sent in self.sent.iter().filter(expire) {
            while !crate::files::holding(log, &sent.event.content().as_bytes()[..15]).is_empty() {
                assert!(begun.elapsed() < PATIENCE, "not erased in time");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
