//! Relays that are none, servers that keep silent, and Ctrl-C at a bad moment.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{World, as_str};

/// Accepts connections and hands each to `serve` on a thread of its own.
fn listen(serve: fn(std::net::TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || serve(socket));
        }
    });
    format!("ws://{address}")
}

#[test]
fn a_relay_that_keeps_silent_does_not_keep_the_command() {
    let world = World::new();
    let silent = listen(|mut socket| {
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let alice = world.person("alice");
    let started = Instant::now();
    let ran = alice.run(["init", "--relay", &silent, "--timeout", "2s"]);
    assert!(matches!(ran.code, Some(3 | 124)), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(ran.only()["schema"], "sotto.account/1");
    let ran = alice.run(["sync", "--timeout", "2s"]);
    assert!(matches!(ran.code, Some(3 | 124)), "{ran:?}");
    assert_eq!(ran.only()["relays"][0]["ok"], false);
    // A check that ran out of time says which question was open.
    let files = silent.replacen("ws://", "http://", 1);
    for check in [["relay", "check", &silent], ["fileserver", "check", &files]] {
        let ran = alice.run(check.into_iter().chain(["--timeout", "2s"]));
        // Whichever limit is noticed first, that of the request or that of the whole command.
        assert!(matches!(ran.code, Some(3 | 124)), "{ran:?}");
        let checks = ran.only()["checks"].clone();
        let last = checks.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["ok"], false, "{checks}");
        assert!(last["name"].is_string() && last["detail"].is_string());
    }
}

#[test]
fn a_relay_that_talks_nonsense_is_none() {
    let world = World::new();
    let noise = listen(|mut socket| {
        let _ = socket.read(&mut [0; 1_024]);
        let _ = socket.write_all(b"\x00\xff\x1b[2J HTTP/9.9 what?\r\n\r\n");
    });
    let alice = world.person("alice");
    let ran = alice.run(["init", "--relay", &noise]);
    ran.fails(3, "unreachable");
    assert!(!ran.stderr.contains('\u{1b}'));
    alice
        .run(["relay", "check", &noise])
        .fails(3, "unreachable");
}

#[test]
fn ctrl_c_leaves_a_whole_file_or_none() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let bytes = vec![7_u8; 8_000_000];
    let file = world.file("large.bin", &bytes);
    let sent = alice.run(["send", "bob", "--file", as_str(&file)]).object();
    let id = sent["id"].as_str().unwrap();
    bob.syncs();
    for wait in [20, 60, 120] {
        let folder = world.dir.path().join(format!("after-{wait}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("large.bin");
        let child = bob.spawn(["file", "get", id, "-o", as_str(&path)]);
        // Any moment will do; what must hold does not depend on which.
        std::thread::sleep(Duration::from_millis(wait));
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let code = child.ended().code;
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        match names.as_slice() {
            [] => assert_ne!(code, Some(0)),
            [_] => assert_eq!(std::fs::read(&path).unwrap(), bytes),
            names => panic!("{names:?}"),
        }
    }
    // And nothing that was half fetched is in the way.
    bob.run([
        "file",
        "get",
        id,
        "-o",
        as_str(&world.dir.path().join("whole")),
    ])
    .succeeds();
}

#[test]
fn ctrl_c_while_sending_never_sends_twice() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let send = ["send", "bob", "once", "--idempotency-key", "k-1"];
    for wait in [10, 30, 60] {
        let child = alice.spawn(send);
        std::thread::sleep(Duration::from_millis(wait));
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        child.ended();
    }
    alice.run(send).succeeds();
    alice.run(["outbox", "flush"]).succeeds();
    bob.syncs();
    assert_eq!(bob.texts("alice"), ["once"]);
}
