//! What an operator names and the program cannot have: folders, addresses, room.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sotto_relay::config::{IndexEngine, Storage};

use crate::crash::{Program, binary, store_section};
use crate::files;
use crate::operator::{Operated, get};
use crate::support::{Client, person, start};

fn run(arguments: &[&str]) -> Output {
    binary().arg("--json").args(arguments).output().unwrap()
}

/// The objects on stderr.
fn told(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn failed(output: &Output, code: i32, word: &str) -> (String, String) {
    let told = told(output);
    let error = told.last().unwrap();
    assert_eq!(output.status.code(), Some(code), "{told:?}");
    assert_eq!(error["error"], word);
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (text("detail"), text("hint"))
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn r_prog_17_a_wrong_folder_is_an_error_and_nothing_is_begun_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = person(1).key().to_hex();
    let (missing, others) = (folder.path().join("misspelt"), folder.path().join("photos"));
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("one.jpeg"), "a photo").unwrap();
    let verbs: [&[&str]; 8] = [
        &["export"],
        &["compact"],
        &["user", "add", &key],
        &["user", "ban", &key],
        &["user", "remove", &key],
        &["user", "invite"],
        &["user", "revoke"],
        &["user", "list"],
    ];
    for verb in verbs {
        for data in [&missing, &others] {
            let output = run(&[verb, &["--data", data.to_str().unwrap()]].concat());
            let (detail, hint) = failed(&output, 7, "not_found");
            assert!(
                detail.contains(data.to_str().unwrap()),
                "{verb:?}: {detail}"
            );
            assert!(hint.contains("--data"), "{verb:?}: {hint}");
            assert!(output.stdout.is_empty(), "{verb:?}");
        }
        assert!(!missing.exists(), "{verb:?}");
        assert_eq!(names(&others), ["one.jpeg"], "{verb:?}");
    }
    // An empty folder may be the relay's to be, and is no store yet.
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let data = empty.to_str().unwrap();
    failed(&run(&["export", "--data", data]), 7, "not_found");
    assert!(names(&empty).is_empty());
    assert!(run(&["user", "add", &key, "--data", data]).status.success());
    failed(&run(&["export", "--data", data]), 7, "not_found");
}

#[tokio::test]
async fn r_prog_18_another_engine_is_told_and_what_only_reads_leaves_the_index_as_it_is() {
    for (own, other) in [
        (IndexEngine::Runs, IndexEngine::Fjall),
        (IndexEngine::Fjall, IndexEngine::Sled),
        (IndexEngine::Sled, IndexEngine::Runs),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let note = person(1).note("kept");
        let mut opened = files::open(&data, own);
        files::write(&mut opened, std::slice::from_ref(&note));
        opened.store.close().unwrap();
        drop(opened);
        let config = folder.path().join("other.toml");
        std::fs::write(&config, store_section(other)).unwrap();
        let (config, place) = (config.to_str().unwrap(), data.to_str().unwrap());
        let found = || sotto_relay::store::engine::found(&data.join("index"));
        for verb in ["export", "compact"] {
            let output = run(&[verb, "--config", config, "--data", place]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let [warning] = &told(&output)[..] else {
                panic!("{output:?}");
            };
            let said = warning["detail"].as_str().unwrap();
            assert!(
                said.contains(&own.to_string()) && said.contains(&other.to_string()),
                "{said}"
            );
            assert_eq!(found(), Some(own), "{verb}");
            if verb == "export" {
                let lines = String::from_utf8(output.stdout).unwrap();
                assert_eq!(lines.trim_end().as_bytes(), note.json());
            }
        }
        // The relay goes by its configuration, and says so.
        let relay = start(files::config(&data, other)).await;
        let [warning] = relay.warnings() else {
            panic!("{:?}", relay.warnings());
        };
        assert!(warning.contains("built anew"), "{warning}");
        let mut client = Client::connect(&relay.url()).await;
        let notes = wire::Filter::default().with_kinds([1]);
        assert_eq!(client.fetch(notes).await.unwrap(), [note]);
        relay.stop().await.unwrap();
        assert_eq!(found(), Some(other));
    }
}

/// As somebody who is not root, whom nothing is forbidden.
#[test]
fn r_prog_19_what_the_system_does_not_allow_is_told_with_its_place_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let may_look = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), may_look).unwrap();
    let data = folder.path().join("data");
    drop(Program::start(&data));
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o000)).unwrap();
    let place = data.to_str().unwrap();
    let key = person(1).key().to_hex();
    let is_root = rustix::process::geteuid().is_root();
    let verbs: [&[&str]; 5] = [
        &["run", "--listen", "127.0.0.1:0"],
        &["export"],
        &["import", "/dev/null"],
        &["compact"],
        &["user", "add", &key],
    ];
    for verb in verbs {
        let mut command = binary();
        command.arg("--json").args(verb).args(["--data", place]);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let Ok(output) = command.output() else {
            eprintln!("skipped: nobody but root can run the program where it was built");
            break;
        };
        let (detail, hint) = failed(&output, 1, "internal");
        assert!(detail.starts_with(place), "{verb:?}: {detail}");
        assert!(detail.contains("ermission denied"), "{verb:?}: {detail}");
        assert!(hint.contains("run it as"), "{verb:?}: {hint}");
    }
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();

    let (detail, hint) = failed(
        &run(&["run", "--listen", "192.0.2.1:7447", "--data", place]),
        1,
        "internal",
    );
    assert!(detail.starts_with("192.0.2.1:7447"), "{detail}");
    assert!(hint.contains("server.listen"), "{hint}");
}

#[tokio::test]
async fn r_full_5_a_disk_that_is_full_from_the_start_is_told_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = files::config(folder.path(), IndexEngine::Runs);
    let Storage::Disk { reserve_bytes, .. } = &mut config.storage else {
        unreachable!()
    };
    *reserve_bytes = u64::MAX;
    let relay = start(config).await;
    let told = relay.warnings().iter();
    let told: Vec<_> = told
        .filter(|text| text.contains("store.reserve_bytes"))
        .collect();
    assert_eq!(told.len(), 1, "{:?}", relay.warnings());
    relay.stop().await.unwrap();
    for (reserve, has_room) in [("1", 1), ("9_000_000_000_000_000_000", 0)] {
        let text = format!("metrics.listen = \"127.0.0.1:0\"\nstore.reserve_bytes = {reserve}");
        let program = Operated::start(&text);
        let url = program.listening["metrics"].as_str().unwrap().to_owned();
        let address = url.trim_start_matches("http://").replace("/metrics", "");
        let (_, text) = get(&address, "/metrics", "").await;
        let line = format!("sotto_relay_store_has_room {has_room}");
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
