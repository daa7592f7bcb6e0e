//! PINs, passphrases, and the wait after wrong tries.

use crate::support::{Ran, World, as_str, sotto};

struct Pinned {
    world: World,
    home: std::path::PathBuf,
}

impl Pinned {
    fn new(pin: &str) -> Self {
        let world = World::new();
        let home = world.dir.path().join("pinned");
        let pinned = Self { world, home };
        let relay = pinned.world.relay_url.clone();
        pinned.run(pin, &["init", "--relay", &relay]).succeeds();
        pinned
    }

    fn run(&self, pin: &str, args: &[&str]) -> Ran {
        let file = self.world.file("pin", format!("{pin}\n"));
        let mut command = sotto(args);
        command.arg("--json").arg("--home").arg(&self.home);
        Ran::of(command.arg("--pin-file").arg(file).output().unwrap())
    }
}

#[test]
fn the_third_wrong_pin_starts_a_wait_that_the_right_one_does_not_end() {
    let pinned = Pinned::new("271828");
    pinned.run("271828", &["pin", "check"]).succeeds();
    let first = pinned
        .run("000000", &["pin", "check"])
        .refuses(4, "pin_wrong");
    assert!(first.get("retry_after_s").is_none());
    // Any command that unlocks counts.
    pinned.run("000000", &["inbox"]).refuses(4, "pin_wrong");
    let third = pinned
        .run("000000", &["pin", "check"])
        .refuses(4, "pin_wrong");
    let wait = third["retry_after_s"].as_u64().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    let locked = pinned
        .run("271828", &["pin", "check"])
        .refuses(8, "pin_locked");
    assert!((1..=60).contains(&locked["retry_after_s"].as_u64().unwrap()));
}

#[test]
fn a_right_pin_forgives_the_wrong_ones_before_it() {
    let pinned = Pinned::new("271828");
    for _ in 0..2 {
        pinned
            .run("000000", &["pin", "check"])
            .refuses(4, "pin_wrong");
        pinned
            .run("000001", &["pin", "check"])
            .refuses(4, "pin_wrong");
        pinned.run("271828", &["pin", "check"]).succeeds();
    }
}

#[test]
fn a_changed_pin_is_the_only_one() {
    let pinned = Pinned::new("271828");
    let new = pinned.world.file("new-pin", "314159\n");
    pinned
        .run("271828", &["pin", "change", "--new-pin-file", as_str(&new)])
        .succeeds();
    pinned
        .run("271828", &["pin", "check"])
        .refuses(4, "pin_wrong");
    pinned.run("314159", &["pin", "check"]).succeeds();
}

#[test]
fn a_pin_has_at_least_four_digits() {
    let world = World::new();
    let alice = world.person("alice");
    let pin = world.file("pin", "123\n");
    let mut command = sotto(["init", "--json", "--pin-file", as_str(&pin), "--home"]);
    let ran = Ran::of(command.arg(&alice.home).output().unwrap());
    ran.refuses(2, "usage");
    assert!(!alice.home.join("lock.json").exists());
}

#[test]
fn a_pin_comes_through_a_file_descriptor_too() {
    let pinned = Pinned::new("271828");
    let script = format!(
        "exec {} pin check --json --no-input --pin-fd 7 --home {} 7<<<271828",
        env!("CARGO_BIN_EXE_sotto"),
        as_str(&pinned.home)
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output();
    Ran::of(output.unwrap()).succeeds();
}

#[test]
fn nobody_is_asked_under_no_input() {
    let pinned = Pinned::new("271828");
    let mut command = sotto(["inbox", "--json", "--home"]);
    Ran::of(command.arg(&pinned.home).output().unwrap()).refuses(4, "locked");
    let mut command = sotto(["init", "--json", "--home"]);
    let nowhere = pinned.world.dir.path().join("nowhere");
    Ran::of(command.arg(&nowhere).output().unwrap()).refuses(4, "locked");
    assert!(!nowhere.exists());
}

#[test]
fn a_missing_pin_file_is_a_missing_file() {
    let pinned = Pinned::new("271828");
    let mut command = sotto(["inbox", "--json", "--pin-file", "/nowhere/pin", "--home"]);
    Ran::of(command.arg(&pinned.home).output().unwrap()).refuses(7, "not_found");
}

#[test]
fn an_account_with_a_key_file_has_no_pin_to_check() {
    let world = World::new();
    world
        .join("alice")
        .run(["pin", "check"])
        .refuses(9, "conflict");
}

#[test]
fn a_passphrase_takes_the_place_of_a_pin() {
    let world = World::new();
    let home = world.dir.path().join("home");
    let passphrase = world.file("passphrase", "a quiet voice carries far\n");
    let run = |args: &[&str]| {
        let mut command = sotto(args);
        command.arg("--json").arg("--home").arg(&home);
        Ran::of(
            command
                .arg("--passphrase-file")
                .arg(&passphrase)
                .output()
                .unwrap(),
        )
    };
    run(&["init", "--relay", &world.relay_url]).succeeds();
    run(&["account", "show"]).succeeds();
    world.file("passphrase", "something else altogether\n");
    run(&["account", "show"]).refuses(4, "pin_wrong");
}
