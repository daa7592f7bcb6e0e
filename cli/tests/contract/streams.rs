//! Pipes that close, Ctrl-C, and what a terminal must not obey.

use std::io::{BufRead, BufReader, Read};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Ran, World, sotto};

#[test]
fn a_reader_that_leaves_ends_the_output_quietly() {
    let world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "hello");
    bob.syncs();
    let mut child = bob.spawn(["message", "list", "alice"]);
    drop(child.stdout.take());
    let ran = child.ended();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_behind_stdout_is_no_success() {
    let output = sotto(["version"])
        .stdout(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}

#[test]
fn ctrl_c_ends_a_watch_with_130() {
    let world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "hello");
    bob.syncs();
    let mut child = bob.spawn(["message", "watch", "--from-seq", "0", "--timeout", "60s"]);
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("sotto.event/1"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    child.ended().fails(130, "interrupted");
}

#[test]
fn text_for_people_obeys_nothing_that_a_peer_wrote() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let evil = "one\u{1b}[2J\u{9b}31m\u{202e}two\nerror: pay here";
    alice.sends("bob", evil);
    bob.syncs();
    let output = sotto(["message", "list", "alice", "--home"])
        .arg(&bob.home)
        .arg("--key-file")
        .arg(&bob.key)
        .output()
        .unwrap();
    let ran = Ran::of(output);
    let text = ran.succeeds().text();
    assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
    assert!(text.contains("one␛[2J"), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("error:")),
        "{text}"
    );
    // A program gets exactly what was written, and a terminal nothing to obey.
    let json = bob.run(["message", "list", "alice"]);
    assert_eq!(json.object()["text"], evil);
    assert!(!json.text().contains(['\u{1b}', '\u{9b}', '\u{202e}']));
}

#[test]
fn colour_is_for_those_who_ask() {
    let plain = sotto(["version"]).output().unwrap();
    assert!(!plain.stdout.contains(&0x1b));
    let error = |choice: &str| {
        sotto(["sync", "--home", "/nowhere", "--color", choice])
            .output()
            .unwrap()
    };
    assert!(error("always").stderr.contains(&0x1b));
    assert!(!error("auto").stderr.contains(&0x1b));
}
