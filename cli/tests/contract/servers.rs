//! `relay` and `fileserver`.

use crate::support::{World, has};

#[test]
fn relays_come_and_go() {
    let world = World::new();
    let alice = world.join("alice");
    let (_second, url) = world.another_relay();
    has(
        &alice.run(["relay", "add", &url]).object(),
        "sotto.relay/1",
        &["url"],
    );
    let urls = |ran: crate::support::Ran| -> Vec<String> {
        let url = |relay: &serde_json::Value| relay["url"].as_str().unwrap().to_owned();
        ran.objects().iter().map(url).collect()
    };
    assert_eq!(
        urls(alice.run(["relay", "list"])),
        [world.relay_url.clone(), url.clone()]
    );
    alice.run(["relay", "remove", &world.relay_url]).succeeds();
    assert_eq!(urls(alice.run(["relay", "list"])), [url.as_str()]);
    alice
        .run(["relay", "remove", &world.relay_url])
        .refuses(7, "not_found");

    // Whoever has only the old link finds the new list.
    let bob = world.join("bob");
    bob.run(["contact", "add", &alice.link(), "--alias", "alice"])
        .succeeds();
    bob.sends("alice", "you moved");
    assert_eq!(alice.syncs()["relays"][0]["url"], url.as_str());
    assert_eq!(alice.run(["inbox"]).object()["last"]["text"], "you moved");
}

#[test]
fn file_servers_come_and_go() {
    let world = World::new();
    let alice = world.person("alice");
    alice.run(["init", "--relay", &world.relay_url]).succeeds();
    assert!(alice.run(["fileserver", "list"]).objects().is_empty());
    let added = alice.run(["fileserver", "add", &world.files_url]).object();
    has(&added, "sotto.fileserver/1", &["url"]);
    let listed = alice.run(["fileserver", "list"]).object();
    assert_eq!(listed["url"], world.files_url.as_str());
    alice
        .run(["fileserver", "remove", &world.files_url])
        .succeeds();
    assert!(alice.run(["fileserver", "list"]).objects().is_empty());
}

#[test]
fn a_check_asks_everything_that_sotto_needs() {
    let mut world = World::new();
    let alice = world.join("alice");
    let check = alice.run(["relay", "check", &world.relay_url]).object();
    has(&check, "sotto.relay/1", &["url", "ok", "checks"]);
    assert_eq!(check["ok"], true);
    for part in check["checks"].as_array().unwrap() {
        assert!(part.get("name").is_some() && part["ok"] == true, "{part}");
    }
    let check = alice
        .run(["fileserver", "check", &world.files_url])
        .object();
    assert_eq!(
        (&check["schema"], &check["ok"]),
        (&"sotto.fileserver/1".into(), &true.into())
    );

    world.stop_relay();
    world.stop_files();
    alice
        .run(["relay", "check", &world.relay_url])
        .fails(3, "unreachable");
    alice
        .run(["fileserver", "check", &world.files_url])
        .fails(3, "unreachable");
}
