//! Usage errors come before anything is looked for or unlocked.

use crate::support::{Ran, World, as_str, sotto};

#[test]
fn nonsense_is_refused_before_the_account_is_looked_for() {
    let world = World::new();
    let nobody = world.person("nobody");
    let folder = as_str(world.dir.path()).to_owned();
    let long = "a".repeat(32_769);
    let key = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w7";
    let table: Vec<Vec<&str>> = vec![
        vec!["nonsense"],
        vec!["send"],
        vec!["send", "bob"],
        vec!["send", "bob", "hello", "--expire", "soon"],
        vec!["send", "bob", "hello", "--expire", "0s"],
        vec!["send", "bob", "hello", "--wait", "forever"],
        vec!["send", "bob", "hello", "--reply-to", "xyz"],
        vec!["send", "bob", "--file", &folder],
        vec!["send", "bob", "-", "--file", "-"],
        vec!["send", "bob", "hello", "--name", "x"],
        vec!["contact", "add", "bo\u{202e}b"],
        vec!["relay", "add", "http://relay.example"],
        vec!["relay", "add", "ws://user@relay.example"],
        vec!["fileserver", "add", "ftp://files.example"],
        vec!["circle", "create", "work"],
        vec!["init", "--words", "13"],
        vec!["init", "--relay", "relay.example"],
        vec!["message", "list", "bob", "--limit", "0"],
        vec!["message", "show", "short"],
        vec!["sync", "--timeout", "ten"],
        vec!["account", "export"],
        vec!["up", "--listen-relay", "here"],
        vec!["completions", "tcsh9"],
    ];
    for args in table {
        nobody.run(&args).refuses(2, "usage");
    }
    for args in [
        ["send", key, "hello"].as_slice(),
        &["contact", "add", "nostr:npub1broken"],
        &["contact", "show", &"0".repeat(64)],
        &["message", "list", "nprofile1qqq"],
    ] {
        nobody.run(args).refuses(2, "bad_key");
    }
    nobody.run(["send", "bob", &long]).refuses(2, "too_large");
    nobody
        .run(["send", "bob", "--file", "/nowhere/at/all"])
        .refuses(7, "not_found");
    assert!(!nobody.home.exists());
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let world = World::new();
    let secret = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
    let ran = world.person("nobody").run(["contact", "add", secret]);
    ran.refuses(2, "usage");
    assert!(!ran.stderr.contains(secret));
}

#[test]
fn errors_for_people_have_a_hint() {
    let output = sotto(["sync", "--home", "/nowhere"]).output().unwrap();
    let ran = Ran::of(output);
    assert_eq!(ran.code, Some(7));
    assert_eq!(
        ran.stderr,
        "error: there is no account in /nowhere\n hint: make one with `sotto init`, or name its folder with --home\n"
    );
}

#[test]
fn an_empty_home_in_the_environment_counts_as_none() {
    let world = World::new();
    let data = as_str(world.dir.path()).to_owned();
    let mut show = sotto(["account", "show", "--json"]);
    show.env("SOTTO_HOME", "").env("XDG_DATA_HOME", &data);
    let error = Ran::of(show.output().unwrap()).refuses(7, "not_found");
    assert!(error["detail"].as_str().unwrap().contains(&data), "{error}");
    // On the command line it is a script's unset variable, and the default account is not meant.
    let empty = sotto(["account", "show", "--json", "--home", ""]).output();
    Ran::of(empty.unwrap()).refuses(2, "usage");
}

#[test]
fn a_home_in_the_environment_is_used_and_the_option_wins() {
    let world = World::new();
    let alice = world.join("alice");
    let mut show = sotto(["account", "show", "--json", "--key-file"]);
    show.arg(&alice.key).env("SOTTO_HOME", &alice.home);
    Ran::of(show.output().unwrap()).succeeds();
    show.arg("--home").arg(world.dir.path().join("nowhere"));
    Ran::of(show.output().unwrap()).refuses(7, "not_found");
}

#[test]
fn a_home_that_is_a_file_is_a_usage_error() {
    let world = World::new();
    let mut person = world.person("alice");
    person.home = world.file("taken", "x");
    person.run(["init"]).refuses(2, "usage");
    person.run(["up"]).refuses(2, "usage");
    assert!(!person.key.exists());
}

#[test]
fn help_and_version_are_answers() {
    for args in [
        ["--help"].as_slice(),
        &["help", "send"],
        &["send", "-h"],
        &["--version"],
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sotto"));
        let ran = Ran::of(command.args(args).output().unwrap());
        assert!(!ran.succeeds().stdout.is_empty());
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn commands_to_come_are_absent_from_help() {
    let output = sotto(["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for absent in ["group", "backup", "doctor", "config", "request"] {
        let is_listed = help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{absent} ")));
        assert!(!is_listed, "{absent}");
        Ran::of(sotto([absent, "--json"]).output().unwrap()).refuses(2, "usage");
    }
}
