//! `export` and `import`, through the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use sotto_relay::config::IndexEngine;
use wire::{Event, Filter};

use crate::crash::{Program, binary};
use crate::files;
use crate::support::{Client, ids, mailbox, now, person, start};

/// A data folder of one engine, and the configuration that says so.
struct Folder {
    data: PathBuf,
    config: PathBuf,
}

impl Folder {
    fn new(folder: &Path, name: &str, engine: IndexEngine) -> Self {
        Self::with(folder, name, engine, "")
    }

    fn with(folder: &Path, name: &str, engine: IndexEngine, more: &str) -> Self {
        let config = folder.join(format!("{name}.toml"));
        let engine = format!("{engine:?}").to_lowercase();
        std::fs::write(&config, format!("store.index = \"{engine}\"\n{more}")).unwrap();
        Self {
            data: folder.join(name),
            config,
        }
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(verb, more).output().unwrap()
    }

    fn command(&self, verb: &str, more: &[&str]) -> std::process::Command {
        let mut command = binary();
        command.args(["--json", verb]).args(more);
        command.arg("--data").arg(&self.data);
        command.arg("--config").arg(&self.config);
        command
    }

    /// Its events as `export` writes them.
    fn exported(&self) -> BTreeSet<String> {
        let output = self.run("export", &[]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(text.lines().count(), lines.len());
        for line in &lines {
            Event::decode(line.as_bytes().to_vec().into()).unwrap();
        }
        lines
    }

    fn import(&self, lines: &[u8], code: i32) -> (Value, Vec<Value>) {
        let file = self.data.with_extension("jsonl");
        std::fs::write(&file, lines).unwrap();
        let output = self.run("import", &[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let told = told.lines().map(|line| serde_json::from_str(line).unwrap());
        (
            serde_json::from_slice(&output.stdout).unwrap(),
            told.collect(),
        )
    }
}

fn joined(lines: &BTreeSet<String>) -> Vec<u8> {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.join("\n").into_bytes()
}

#[tokio::test]
async fn r_prog_6_export_and_import_carry_every_event_over() {
    let folder = tempfile::tempdir().unwrap();
    let engine = IndexEngine::Runs;
    let old = Folder::new(folder.path(), "old", engine);
    let new = Folder::new(folder.path(), "new", engine);
    let to = person(2);
    let mut config = files::config(&old.data, engine);
    config.rules.wrap_past = None;
    let relay = start(config).await;
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let tags: [&[&str]; 1] = [&["p", &to.key().to_hex()]];
    let aged = person(9).sign(1059, now() - 9 * 86_400, &tags, "aged");
    let own = to.sign(1, now(), &[&["-"]], "protected");
    let gone = person(8).wrap(&to, "gone");
    for event in [&aged, &own, &gone, &person(8).deletion(&gone)] {
        client.put(event).await;
    }
    relay.stop().await.unwrap();
    let lines = folder.path().join("events.jsonl");
    let output = old.run("export", &["-o", lines.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["schema"], &told["events"]),
        (&"sotto.exported/1".into(), &2.into())
    );
    // Nothing is written over.
    let output = old.run("export", &["-o", lines.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(9));
    new.import(&std::fs::read(&lines).unwrap(), 0);
    let relay = start(files::config(&new.data, engine)).await;
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let found = client.fetch(Filter::default()).await.unwrap();
    assert_eq!(ids(&found), [own.id(), aged.id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_prog_6_what_was_deleted_stays_away_after_an_import_whatever_kinds_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let engine = IndexEngine::Runs;
    let kinds = "policy.kinds = [1]\npolicy.pow_bits = 1\npolicy.pow_of = \"everything\"";
    let old = Folder::new(folder.path(), "old", engine);
    let new = Folder::with(folder.path(), "new", engine, kinds);
    let note = person(1).note("to be deleted");
    let relay = start(files::config(&old.data, engine)).await;
    let mut client = Client::connect(&relay.url()).await;
    client.put(&note).await;
    client.put(&person(1).deletion(&note)).await;
    relay.stop().await.unwrap();
    let (told, _) = new.import(&joined(&old.exported()), 0);
    assert_eq!((&told["stored"], &told["refused"]), (&1.into(), &0.into()));
    // And it is exported from there again.
    assert_eq!(new.exported(), old.exported());
    let relay = start(files::config(&new.data, engine)).await;
    let mut client = Client::connect(&relay.url()).await;
    let answer = client.publish(&note).await;
    assert_eq!(answer, (false, "blocked: the event was deleted".to_owned()));
    relay.stop().await.unwrap();
}

/// Events of every shape that a store keeps, and what takes some of them away.
fn shapes() -> (Vec<Event>, Vec<Event>) {
    let (alice, to) = (person(1), person(2));
    let end = (now() + 2).to_string();
    let tags: [&[&str]; 2] = [&["p", &to.key().to_hex()], &["expiration", &end]];
    let note = alice.note("to be deleted");
    let wrap = person(3).wrap(&to, "to be taken back");
    let gone = vec![
        note.clone(),
        wrap.clone(),
        person(4).sign(1059, now(), &tags, "to expire"),
        alice.sign(0, now() - 10, &[], "the old profile"),
        person(5).note("of somebody who vanishes"),
        person(3).deletion(&wrap),
        person(5).sign(62, now(), &[&["relay", "ALL_RELAYS"]], ""),
    ];
    // As another program may have written it.
    let spelt = alice.note("spelt \u{e9} otherwise");
    let spelt = String::from_utf8(spelt.json().to_vec()).unwrap();
    let spelt = spelt.replace(",\"", ",\n  \"").replace('\u{e9}', "\\u00e9");
    let stays = vec![
        Event::decode(spelt.into_bytes().into()).unwrap(),
        alice.sign(0, now() - 5, &[], "the new profile"),
        alice.sign(30_078, now(), &[&["d", "x"]], "an address"),
        alice.deletion(&note),
        person(6).wrap(&to, "a wrap that stays"),
        person(7).sign(
            1_059,
            now() - 9 * 86_400,
            &[&["p", &to.key().to_hex()]],
            "an old wrap",
        ),
    ];
    (gone, stays)
}

#[test]
fn r_prog_6_a_store_moves_between_all_engines_and_what_is_gone_does_not_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let (gone, stays) = shapes();
    let at = |name: &str, engine| Folder::new(folder.path(), name, engine);
    let sources = IndexEngine::ON_DISK.map(|from| {
        let source = at(&format!("from-{from:?}"), from);
        let mut opened = files::open(&source.data, from);
        let written: Vec<Event> = gone.iter().chain(&stays).cloned().collect();
        let answers = files::write(&mut opened, &written);
        assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
        opened.store.close().unwrap();
        (from, source)
    });
    while now() < gone[2].expiration().unwrap() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let wanted: BTreeSet<String> = stays
        .iter()
        .map(|event| {
            String::from_utf8(event.json().to_vec())
                .unwrap()
                .replace('\n', " ")
        })
        .collect();
    for (from, source) in sources {
        let exported = source.exported();
        assert_eq!(exported, wanted, "{from:?}");
        for to in IndexEngine::ON_DISK {
            let target = at(&format!("{from:?}-{to:?}"), to);
            let (told, warnings) = target.import(&joined(&exported), 0);
            assert_eq!(told["stored"], stays.len(), "{from:?} to {to:?}: {told}");
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(target.exported(), wanted, "{from:?} to {to:?}");
            // Once more changes nothing.
            let (told, _) = target.import(&joined(&exported), 0);
            assert_eq!(told["stored"], 0, "{told}");
        }
    }
}

#[test]
fn r_prog_11_import_tells_which_lines_it_refuses_and_why_and_takes_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "policy.kinds = [1, 1059, 20001]\npolicy.wraps_per_recipient = 1\n";
    let target = Folder::with(folder.path(), "target", IndexEngine::Runs, policy);
    let (alice, to) = (person(1), person(2));
    let good = alice.note("good");
    let json = |event: &Event| String::from_utf8(event.json().to_vec()).unwrap();
    let past = (now() - 5).to_string();
    let expired = alice.sign(1, now(), &[&["expiration", &past]], "");
    let lines = [
        json(&good),
        String::new(),
        "not even JSON".to_owned(),
        json(&good).replace("good", "forged"),
        json(&alice.sign(7, now(), &[], "+")),
        json(&alice.sign(20_001, now(), &[], "passing")),
        "x".repeat(300_000),
        json(&expired),
        json(&person(8).wrap(&to, "fits")) + "\r",
        json(&person(9).wrap(&to, "one too many")),
        "{}".to_owned(),
        json(&good),
        json(&alice.sign(1, now() + 86_400, &[], "from tomorrow")),
        json(&alice.sign(28_934, now(), &[&["-"], &["claim", "x"]], "")),
        json(&alice.note("the last, without an end of its line")),
    ];
    let (told, errors) = target.import(lines.join("\n").as_bytes(), 5);
    let wanted = serde_json::json!({
        "schema": "sotto.imported/1", "lines": 15, "stored": 3, "known": 1, "expired": 1,
        "refused": 9,
        "reasons": {
            "no_event": 2, "forged": 1, "kind_not_taken": 1, "ephemeral": 1, "too_large": 1,
            "mailbox_full": 1, "from_the_future": 1, "wish_not_passed_on": 1,
        },
    });
    assert_eq!(told, wanted);
    let refused: Vec<u64> = errors
        .iter()
        .filter(|object| object["schema"] == "sotto.warning/1")
        .map(|warning| {
            let text = warning["detail"].as_str().unwrap();
            let number = text.strip_prefix("line ").unwrap();
            number.split(':').next().unwrap().parse().unwrap()
        })
        .collect();
    let refused: BTreeSet<u64> = refused.into_iter().collect();
    assert_eq!(refused, [3, 4, 5, 6, 7, 10, 11, 13, 14].into());
    assert_eq!(errors.last().unwrap()["error"], "partly_done");
    assert_eq!(target.exported().len(), 3);

    // A file of another kind does not fill the terminal.
    let (told, errors) = target.import("junk\n".repeat(5_000).as_bytes(), 5);
    assert_eq!(told["refused"], 5_000);
    assert!(errors.len() < 30, "{}", errors.len());
    // A folder is no file, and what is not there is said so.
    for (path, code) in [(folder.path(), 2), (&folder.path().join("missing"), 7)] {
        let output = target.run("import", &[path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[tokio::test]
async fn r_prog_12_a_running_relay_is_neither_exported_nor_imported_into() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("data"));
    let note = person(1).note("while it runs");
    Client::connect(&program.url).await.put(&note).await;
    let target = Folder::new(folder.path(), "data", IndexEngine::Runs);
    let out = folder.path().join("out.jsonl");
    for (verb, more) in [
        ("export", vec!["-o", out.to_str().unwrap()]),
        ("import", vec!["-"]),
    ] {
        let mut command = target.command(verb, &more);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(9), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    assert!(!out.exists());
    // It has noticed nothing.
    let notes = Filter::default().with_kinds([1]);
    let found = Client::connect(&program.url).await.fetch(notes).await;
    assert_eq!(found.unwrap(), [note]);
}

/// The most memory that a command had, KiB.
fn peak_kib(mut command: std::process::Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let value = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
        peak = peak.max(value.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// 200,000 small events and as many bytes in large ones in slow mode; otherwise enough that they
/// would not fit the bound if they were gathered in memory.
#[test]
fn r_prog_13_export_and_import_hold_a_batch_and_not_the_store() {
    const MOST_KIB: u64 = 64 * 1024;
    let is_slow = std::env::var_os("SOTTO_SLOW").is_some();
    let shapes: &[(u32, usize)] = match is_slow {
        true => &[(200_000, 100), (4_000, 50_000)],
        false => &[(1_600, 50_000)],
    };
    for (count, size) in shapes {
        let folder = tempfile::tempdir().unwrap();
        let source = Folder::new(folder.path(), "source", IndexEngine::Runs);
        let content = "x".repeat(*size);
        let mut opened = files::open(&source.data, IndexEngine::Runs);
        let to = person(2);
        let mut written = 0;
        while written < *count {
            let events: Vec<Event> = (written..*count)
                .take(200)
                .map(|n| person(3).wrap(&to, &format!("{n}{content}")))
                .collect();
            written += 200;
            assert!(
                files::write(&mut opened, &events)
                    .iter()
                    .all(|a| a.accepted)
            );
        }
        opened.store.close().unwrap();
        drop(opened);
        let lines = folder.path().join("all.jsonl");
        let exporting = peak_kib(source.command("export", &["-o", lines.to_str().unwrap()]));
        let bytes = std::fs::metadata(&lines).unwrap().len();
        let target = Folder::new(folder.path(), "target", IndexEngine::Runs);
        let importing = peak_kib(target.command("import", &[lines.to_str().unwrap()]));
        eprintln!(
            "{count} events, {} MiB: export {exporting} KiB, import {importing} KiB",
            bytes >> 20
        );
        assert!(bytes / 1024 > MOST_KIB, "too little to tell");
        assert!(exporting < MOST_KIB && importing < MOST_KIB);
        let opened = files::open(&target.data, IndexEngine::Runs);
        assert_eq!(
            files::find(&opened, mailbox(&to), &[to.key()]).len(),
            *count as usize
        );
    }
}
