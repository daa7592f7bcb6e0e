//! `send --file` and `file get`.

use crate::support::{Person, World, as_str, has};

fn sends_file(world: &World, from: &Person, to: &str, name: &str, bytes: &[u8]) -> String {
    let file = world.file("to-send", bytes);
    let sent = from
        .run([
            "send",
            to,
            "--file",
            as_str(&file),
            &format!("--name={name}"),
        ])
        .object();
    sent["id"].as_str().unwrap().to_owned()
}

/// Bytes that no two places of a file share.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * i / 7 % 251) as u8).collect()
}

#[test]
fn a_file_arrives_as_it_was() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let bytes = noise(300_000);
    let id = sends_file(&world, &alice, "bob", "report.bin", &bytes);
    bob.syncs();
    let folder = world.dir.path().join("downloads");
    std::fs::create_dir(&folder).unwrap();
    let get = |_: u32| {
        let output = bob
            .command(["file", "get", &id])
            .current_dir(&folder)
            .output();
        crate::support::Ran::of(output.unwrap()).object()
    };
    let saved = get(1);
    has(&saved, "sotto.file/1", &["path", "size", "sha256", "mime"]);
    assert_eq!(saved["size"], 300_000);
    assert_eq!(std::fs::read(folder.join("report.bin")).unwrap(), bytes);
    // The name is taken now.
    get(2);
    assert_eq!(std::fs::read(folder.join("report (1).bin")).unwrap(), bytes);
}

#[test]
fn what_is_there_is_not_written_over() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let id = sends_file(&world, &alice, "bob", "new.txt", b"new");
    bob.syncs();
    let old = world.file("old.txt", "old");
    bob.run(["file", "get", &id, "-o", as_str(&old)])
        .refuses(9, "conflict");
    assert_eq!(std::fs::read(&old).unwrap(), b"old");
    bob.run(["file", "get", &id, "-o", as_str(&old), "--force"])
        .succeeds();
    assert_eq!(std::fs::read(&old).unwrap(), b"new");
}

#[test]
fn a_file_on_stdout_is_the_file_alone() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let bytes = noise(70_000);
    let id = sends_file(&world, &alice, "bob", "x.bin", &bytes);
    bob.syncs();
    let ran = bob.run(["file", "get", &id, "-o", "-"]);
    assert_eq!(ran.succeeds().stdout, bytes);
}

#[test]
fn a_name_cannot_leave_the_folder_or_steer_the_terminal() {
    let world = World::new();
    let (alice, bob) = world.friends();
    for (number, name) in ["../../x", "/etc/passwd", ".bashrc", "-rf", "a\u{1b}[2Jb"]
        .iter()
        .enumerate()
    {
        let id = sends_file(&world, &alice, "bob", name, b"evil");
        bob.syncs();
        let folder = world.dir.path().join(format!("in-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let output = bob
            .command(["file", "get", &id])
            .current_dir(&folder)
            .output();
        crate::support::Ran::of(output.unwrap()).succeeds();
        let names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 1, "{name:?}: {names:?}");
        assert!(!names[0].starts_with(['.', '-']), "{names:?}");
        assert!(!names[0].contains(['/', '\u{1b}']), "{names:?}");
    }
}

#[test]
fn a_file_server_that_is_down_is_unreachable_and_nothing_is_half_written() {
    let mut world = World::new();
    let (alice, bob) = world.friends();
    let id = sends_file(&world, &alice, "bob", "x.bin", b"bytes");
    bob.syncs();
    world.stop_files();
    let folder = world.dir.path().join("downloads");
    std::fs::create_dir(&folder).unwrap();
    let output = bob
        .command(["file", "get", &id])
        .current_dir(&folder)
        .output();
    crate::support::Ran::of(output.unwrap()).refuses(3, "unreachable");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}
