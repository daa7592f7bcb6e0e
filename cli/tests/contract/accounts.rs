//! `init` and `account`.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Ran, World, as_str, has, sotto};

#[test]
fn init_answers_with_the_account_and_keeps_the_words_to_itself() {
    let world = World::new();
    let alice = world.person("alice");
    let made = alice
        .run([
            "init",
            "--relay",
            &world.relay_url,
            "--file-server",
            &world.files_url,
        ])
        .object();
    has(
        &made,
        "sotto.account/1",
        &["npub", "pubkey", "circle", "relays", "file_servers"],
    );
    assert_eq!(made["circle"], "personal");
    assert_eq!(made["relays"][0], world.relay_url);
    assert_eq!(made["file_servers"][0], world.files_url);
    assert!(made.get("words").is_none());
    let shown = alice.run(["account", "show"]).object();
    assert_eq!(shown["pubkey"], made["pubkey"]);
}

#[test]
fn a_key_file_is_made_private_and_used_where_it_is_there() {
    let world = World::new();
    let alice = world.join("alice");
    let key = std::fs::read_to_string(&alice.key).unwrap();
    assert_eq!(key.trim_end().len(), 64);
    assert!(key.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
    let mode = std::fs::metadata(&alice.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let bob = world.person("bob");
    std::fs::write(&bob.key, [7_u8; 32]).unwrap();
    bob.run(["init", "--relay", &world.relay_url]).succeeds();
    assert_eq!(std::fs::read(&bob.key).unwrap(), [7_u8; 32]);
    bob.run(["account", "show"]).succeeds();
}

#[test]
fn another_key_file_does_not_open_an_account() {
    let world = World::new();
    let alice = world.join("alice");
    std::fs::write(&alice.key, [8_u8; 32]).unwrap();
    alice.run(["account", "show"]).refuses(4, "pin_wrong");
}

#[test]
fn a_second_init_is_a_conflict_and_changes_nothing() {
    let world = World::new();
    let alice = world.join("alice");
    let before = alice.pubkey();
    alice.run(["init"]).refuses(9, "conflict");
    assert_eq!(alice.pubkey(), before);
}

#[test]
fn an_account_is_made_even_where_its_relay_is_down() {
    let mut world = World::new();
    world.stop_relay();
    let alice = world.person("alice");
    let ran = alice.run(["init", "--relay", &world.relay_url]);
    ran.fails(3, "unreachable");
    has(&ran.only(), "sotto.account/1", &["npub"]);
    alice.run(["account", "show"]).succeeds();
}

#[test]
fn words_bring_the_account_back() {
    let world = World::new();
    let alice = world.person("alice");
    let made = alice
        .run([
            "init",
            "--words",
            "12",
            "--show-words",
            "--relay",
            &world.relay_url,
        ])
        .object();
    let words = made["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 12);
    let exported = alice.run(["account", "export", "--words"]).object();
    assert_eq!(exported["words"], words);

    let again = world.person("again");
    let init = ["init", "--restore", "-", "--relay", &world.relay_url];
    let restored = again.run_with_stdin(init, words.as_bytes()).object();
    assert_eq!(restored["pubkey"], made["pubkey"]);

    let wrong = world.person("wrong");
    let init = ["init", "--restore", "-", "--relay", &world.relay_url];
    let noise = words.replace(words.split(' ').next().unwrap(), "zebra zebra");
    wrong
        .run_with_stdin(init, noise.as_bytes())
        .refuses(2, "bad_words");
    assert!(!wrong.home.join("lock.json").exists());
}

#[test]
fn the_export_for_other_clients_needs_a_real_passphrase() {
    let world = World::new();
    let alice = world.join("alice");
    for weak in ["short", "123456789012345"] {
        let file = world.file("passphrase", weak);
        alice
            .run([
                "account",
                "export",
                "--ncryptsec",
                "--passphrase-file",
                as_str(&file),
            ])
            .refuses(2, "usage");
    }
    let file = world.file("passphrase", "correct horse battery");
    let exported = alice
        .run([
            "account",
            "export",
            "--ncryptsec",
            "--passphrase-file",
            as_str(&file),
        ])
        .object();
    assert!(
        exported["ncryptsec"]
            .as_str()
            .unwrap()
            .starts_with("ncryptsec1")
    );
    assert!(exported.get("words").is_none());
}

#[test]
fn removing_an_account_is_asked_for_twice() {
    let world = World::new();
    let alice = world.join("alice");
    alice.run(["account", "remove"]).refuses(4, "locked");
    alice.run(["account", "show"]).succeeds();
    alice.run(["account", "remove", "--yes"]).succeeds();
    alice.run(["account", "show"]).refuses(7, "not_found");
}

#[test]
fn without_an_account_there_is_nothing_to_unlock() {
    let world = World::new();
    let nobody = world.person("nobody");
    for line in [
        "sync",
        "inbox",
        "invite",
        "account show",
        "contact list",
        "outbox list",
        "pin check",
    ] {
        nobody.run(line.split(' ')).refuses(7, "not_found");
    }
}

#[test]
fn the_home_may_come_from_the_environment() {
    let world = World::new();
    let alice = world.join("alice");
    let mut command = sotto(["account", "show", "--json", "--key-file"]);
    let output = command
        .arg(&alice.key)
        .env("SOTTO_HOME", &alice.home)
        .output();
    Ran::of(output.unwrap()).succeeds();
}
