//! Relays that take some kinds only, through the programs themselves.

use std::path::{Path, PathBuf};

use e2e::process::{Server, run, sotto};
use serde_json::Value;
use tempfile::TempDir;
use wire::kinds;

/// A relay that takes some kinds, one that takes any, a file server, and room for homes.
struct Place {
    folder: TempDir,
    choosy: Server,
    other: Server,
    files: Server,
}

impl Place {
    fn new(kinds: &[u16]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), kinds);
        let data = |name: &str| folder.path().join(name);
        Self {
            choosy: Server::start_with("sotto-relay", &data("choosy"), Some(&config)),
            other: Server::start("sotto-relay", &data("other")),
            files: Server::start("sotto-files", &data("files")),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The operator takes other kinds from now on.
    fn takes(&self, kinds: &[u16]) {
        config(self.folder.path(), kinds);
        self.choosy.signal("-HUP");
    }

    fn joins(&self, name: &str) -> PathBuf {
        let home = self.path(name);
        let servers = [
            "--relay",
            &self.choosy.url,
            "--file-server",
            &self.files.url,
        ];
        sotto(&home, &[&["init"], &servers[..]].concat());
        home
    }

    fn makes_a_circle(&self, home: &Path) {
        let servers = ["--relay", &self.other.url];
        sotto(
            home,
            &[&["circle", "create", "work"], &servers[..]].concat(),
        );
    }

    /// The circles that come back from the words of a home and the relay.
    fn restored(&self, home: &Path, name: &str) -> Vec<String> {
        let (account, _) = sotto(home, &["account", "export", "--words"]);
        let words = self.path(&format!("{name}-words"));
        std::fs::write(&words, account["words"].as_str().unwrap()).unwrap();
        let again = self.path(name);
        let from = [
            "--relay",
            &self.choosy.url,
            "--restore",
            words.to_str().unwrap(),
        ];
        sotto(&again, &[&["init"], &from[..]].concat());
        let circles = run(&again, &["circle", "list"]).done().objects;
        let name = |circle: &Value| circle["name"].as_str().unwrap().to_owned();
        circles.iter().map(name).collect()
    }
}

fn config(folder: &Path, kinds: &[u16]) -> PathBuf {
    let config = folder.join("relay.toml");
    std::fs::write(&config, format!("policy.kinds = {kinds:?}")).unwrap();
    config
}

#[test]
fn a_relay_that_takes_the_kinds_that_the_example_names_is_enough_for_everything() {
    let place = Place::new(&kinds::SOTTO);
    let (anna, ben) = (place.joins("anna"), place.joins("ben"));
    for (home, other, alias) in [(&anna, &ben, "ben"), (&ben, &anna, "anna")] {
        let (invite, _) = sotto(other, &["invite"]);
        let link = invite["link"].as_str().unwrap();
        sotto(home, &["contact", "add", link, "--alias", alias]);
    }
    let path = place.path("plan.txt");
    std::fs::write(&path, "the plan").unwrap();
    let (sent, _) = sotto(&anna, &["send", "ben", "--file", path.to_str().unwrap()]);
    let id = sent["id"].as_str().unwrap();
    sotto(&ben, &["sync"]);
    sotto(
        &ben,
        &["file", "get", id, "-o", place.path("out").to_str().unwrap()],
    );
    let (deleted, _) = sotto(&anna, &["message", "delete", id, "--for-everyone"]);
    let relays = deleted["relays"].as_array().unwrap();
    assert!(!relays.is_empty() && relays.iter().all(|relay| relay["erased"] == true));
    place.makes_a_circle(&anna);
    sotto(&anna, &["sync"]);
    assert!(run(&anna, &["outbox", "list"]).done().objects.is_empty());
    assert_eq!(place.restored(&anna, "anna-again"), ["personal", "work"]);
}

#[test]
fn circles_that_no_relay_takes_note_of_are_told_and_tried_until_one_does() {
    let all_but_circles = kinds::SOTTO.map(|kind| match kind {
        kinds::APP_DATA => kinds::WRAP,
        other => other,
    });
    let place = Place::new(&all_but_circles);
    let anna = place.joins("anna");
    // Nothing would be lost yet.
    sotto(&anna, &["sync"]);
    place.makes_a_circle(&anna);
    for _ in 0..2 {
        let ended = run(&anna, &["sync"]);
        assert_eq!(ended.object["schema"], "sotto.synced/1");
        let error = ended.failed(10, "refused");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("list of your circles"), "{detail}");
        assert!(detail.contains("does not take this kind"), "{detail}");
        assert!(error["hint"].as_str().unwrap().contains("sotto relay add"));
    }
    run(&anna, &["outbox", "flush"]).failed(10, "refused");
    let waits = run(&anna, &["outbox", "list"]).done().objects;
    assert_eq!(waits.len(), 1);
    assert_eq!(place.restored(&anna, "too-early"), ["personal"]);
    // The operator reads about it. The new file holds a moment after the signal.
    place.takes(&kinds::SOTTO);
    while run(&anna, &["sync"]).code == 10 {}
    sotto(&anna, &["sync"]);
    assert!(run(&anna, &["outbox", "list"]).done().objects.is_empty());
    assert_eq!(place.restored(&anna, "anna-again"), ["personal", "work"]);
}
