//! A disk that has no room from any one call on.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sotto_relay::config::IndexEngine;
use wire::{Event, EventId, Filter};

use crate::crash::{Program, binary, store_section};
use crate::power::trace;
use crate::support::{Client, PATIENCE, ids, person};

/// Calls that need room, of which the first that finds none is tried in turn.
fn points() -> Vec<u32> {
    match std::env::var_os("SOTTO_SLOW") {
        Some(_) => (0..48).collect(),
        None => vec![0, 2, 5, 11],
    }
}

/// Larger than a block, so that one segment takes few.
fn note(number: u32) -> Event {
    person(1).note(&format!("<{number:04}>").repeat(1_000))
}

#[tokio::test]
async fn r_full_7_whichever_write_finds_no_room_nothing_acknowledged_is_lost_and_all_goes_on_after()
{
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    for engine in IndexEngine::ON_DISK {
        let section = format!(
            "{}segment_bytes = 65536\nreserve_bytes = 0\n",
            store_section(engine)
        );
        let (mut refused, mut started) = (0, 0);
        for point in points() {
            let folder = tempfile::tempdir().unwrap();
            let case = Case {
                data: &folder.path().join("data"),
                shim: &shim,
                section: &section,
                what: format!("{engine:?} {point}"),
            };
            if let Some(number) = case.run(engine, point).await {
                refused += number;
                started += 1;
            }
        }
        assert!(
            refused > 0 && started > 0,
            "{engine:?}: {refused} {started}"
        );
    }
}

struct Case<'c> {
    data: &'c Path,
    shim: &'c Path,
    section: &'c str,
    what: String,
}

impl Case<'_> {
    /// How many writes were refused; none where the program did not even start.
    async fn run(&self, engine: IndexEngine, point: u32) -> Option<usize> {
        let what = &self.what;
        let mut program = Program::configured(self.data, self.section);
        let first = note(0);
        Client::connect(&program.url).await.put(&first).await;
        stop(&mut program);

        let room = self.data.with_extension("room");
        let mut command = binary();
        command
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data)
            .arg("--config")
            .arg(self.data.with_extension("toml"))
            .env("LD_PRELOAD", self.shim)
            .env("POWER_ROOT", self.data)
            .env("POWER_TRACE", self.data.with_extension("trace"))
            .env("POWER_FULL", point.to_string())
            .env("POWER_ROOM", &room)
            .stderr(Stdio::piped());
        let (mut kept, mut gone) = (vec![first.id()], Vec::new());
        let refused = match Program::try_spawn(&mut command) {
            Ok(mut program) => {
                let url = program.url.clone();
                let refused = self.fill(engine, &url, &mut kept, &mut gone).await;
                std::fs::write(&room, "").unwrap();
                self.goes_on(&url, &mut kept).await;
                self.holds(&url, &kept, &gone).await;
                stop(&mut program);
                Some(refused)
            }
            Err(output) => {
                // It says why, and has done no harm.
                let text = String::from_utf8(output.stderr).unwrap();
                assert!(text.contains("disk is full"), "{what}: {text}");
                None
            }
        };
        let mut program = Program::configured(self.data, self.section);
        self.goes_on(&program.url, &mut kept).await;
        self.holds(&program.url, &kept, &gone).await;
        stop(&mut program);
        refused
    }

    /// Writes and deletes until long after the disk is full, and reads then.
    async fn fill(
        &self,
        engine: IndexEngine,
        url: &str,
        kept: &mut Vec<EventId>,
        gone: &mut Vec<EventId>,
    ) -> usize {
        let what = &self.what;
        let mut client = Client::connect(url).await;
        let mut refused = 0;
        for number in 1..120 {
            let note = note(number);
            let (accepted, text) = client.publish(&note).await;
            if !accepted {
                assert!(text.starts_with("error:"), "{what}: {text}");
                refused += 1;
                continue;
            }
            if number % 3 != 0 {
                kept.push(note.id());
                continue;
            }
            let (accepted, text) = client.publish(&person(1).deletion(&note)).await;
            match accepted {
                true => gone.push(note.id()),
                // Whether it is still there is open.
                false => assert!(text.starts_with("error:"), "{what}: {text}"),
            }
        }
        match client.fetch(Filter::default().with_kinds([1])).await {
            Ok(found) => has(what, &ids(&found), kept, gone),
            // An engine that has to be opened again says so (R-FULL-6).
            Err(text) => {
                assert!(engine != IndexEngine::Runs, "{what}: {text}");
                assert!(text.starts_with("error:"), "{what}: {text}");
            }
        }
        refused
    }

    async fn goes_on(&self, url: &str, kept: &mut Vec<EventId>) {
        let mut client = Client::connect(url).await;
        let late = note(1_000 + kept.len() as u32);
        let begun = Instant::now();
        while let (false, text) = client.publish(&late).await {
            assert!(text.starts_with("error:"), "{}: {text}", self.what);
            assert!(begun.elapsed() < PATIENCE, "{}: {text}", self.what);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        kept.push(late.id());
    }

    async fn holds(&self, url: &str, kept: &[EventId], gone: &[EventId]) {
        let mut client = Client::connect(url).await;
        let found = client.fetch(Filter::default().with_kinds([1])).await;
        has(&self.what, &ids(&found.unwrap()), kept, gone);
    }
}

fn has(what: &str, found: &[EventId], kept: &[EventId], gone: &[EventId]) {
    for id in kept {
        assert!(found.contains(id), "{what}: an acknowledged event is lost");
    }
    for id in gone {
        assert!(!found.contains(id), "{what}: a deleted event is back");
    }
}

fn stop(program: &mut Program) {
    program.signal("-TERM");
    assert!(program.child.wait().unwrap().success());
}
