//! Relays of members only, through the programs themselves: an operator, those whom they invite,
//! and those whom they do not.

use std::path::{Path, PathBuf};

use e2e::process::{Ended, Server, run, sotto};
use serde_json::Value;
use tempfile::TempDir;

/// A relay of members only and a file server, and room for homes.
struct Place {
    folder: TempDir,
    config: PathBuf,
    relay: Server,
    files: Server,
}

impl Place {
    fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("relay.toml");
        std::fs::write(&config, policy).unwrap();
        let data = folder.path().join("relay");
        Self {
            relay: Server::start_with("sotto-relay", &data, Some(&config)),
            files: Server::start("sotto-files", &folder.path().join("files")),
            config,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A relay that takes everybody.
    fn open_relay(&self) -> Server {
        Server::start("sotto-relay", &self.path("open-relay"))
    }

    /// The line that somebody gets who is invited.
    fn invitation(&self, more: &[&str]) -> String {
        let verb = [&["user", "invite"], more].concat();
        let made = self.relay.operate(&verb).done().object;
        format!("{}#{}", self.relay.url, made["code"].as_str().unwrap())
    }

    /// Somebody who was invited.
    fn joins(&self, name: &str) -> PathBuf {
        let home = self.path(name);
        let invitation = self.invitation(&[]);
        let servers = ["--relay", &invitation, "--file-server", &self.files.url];
        sotto(&home, &[&["init"], &servers[..]].concat());
        home
    }

    /// Two members who know each other.
    fn members(&self) -> (PathBuf, PathBuf) {
        let (anna, ben) = (self.joins("anna"), self.joins("ben"));
        knows(&anna, &ben, "ben");
        knows(&ben, &anna, "anna");
        (anna, ben)
    }
}

fn knows(home: &Path, other: &Path, alias: &str) {
    let (invite, _) = sotto(other, &["invite"]);
    let link = invite["link"].as_str().unwrap();
    sotto(home, &["contact", "add", link, "--alias", alias]);
}

fn key(home: &Path) -> String {
    let (account, _) = sotto(home, &["account", "show"]);
    account["pubkey"].as_str().unwrap().to_owned()
}

fn messages(home: &Path, who: &str) -> Vec<Value> {
    run(home, &["message", "list", who]).done().objects
}

fn texts(home: &Path, who: &str) -> Vec<String> {
    let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
    messages(home, who).iter().map(text).collect()
}

fn says(value: &Value, words: &str) {
    let text = value.as_str().unwrap_or_default();
    assert!(text.contains(words), "no {words:?} in {value}");
}

/// Tells a command again until it fails: a relay notices a changed roster within a second.
fn until_it_fails(home: &Path, command: &[&str]) -> Ended {
    loop {
        let ended = run(home, command);
        if ended.code != 0 {
            return ended;
        }
    }
}

#[test]
fn two_who_were_invited_have_everything_and_a_third_may_write_to_them() {
    let place = Place::new("policy.write = \"members\"");
    let (anna, ben) = place.members();

    let (sent, _) = sotto(&anna, &["send", "ben", "behind the wall"]);
    assert_eq!(sent["status"], "stored");
    sotto(&ben, &["sync"]);
    sotto(&ben, &["send", "anna", "it is quiet here"]);
    let path = place.path("plan.txt");
    std::fs::write(&path, "the plan").unwrap();
    let (file, _) = sotto(&ben, &["send", "anna", "--file", path.to_str().unwrap()]);
    let id = file["id"].as_str().unwrap();
    sotto(&anna, &["sync"]);
    assert_eq!(
        texts(&anna, "ben")[..2],
        ["behind the wall", "it is quiet here"]
    );
    let out = place.path("out.txt");
    sotto(&anna, &["file", "get", id, "-o", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "the plan");

    // Gone on both sides, on the relay, and on the file server.
    let (deleted, _) = sotto(&ben, &["message", "delete", id, "--for-everyone"]);
    for server in [&deleted["relays"], &deleted["file_servers"]] {
        let servers = server.as_array().unwrap();
        assert!(!servers.is_empty() && servers.iter().all(|s| s["erased"] == true));
    }
    sotto(&anna, &["sync"]);
    assert_eq!(messages(&anna, "ben").len(), 2);
    run(&anna, &["file", "get", id]).failed(7, "not_found");
    sotto(&ben, &["sync"]);
    let (status, _) = sotto(&ben, &["message", "status", id]);
    assert_eq!(status["peers"][0]["confirmed"], true, "{status}");

    // Eve is at home elsewhere, and nobody has invited her.
    let open = place.open_relay();
    let eve = place.path("eve");
    sotto(&eve, &["init", "--relay", &open.url]);
    knows(&eve, &anna, "anna");
    let (sent, _) = sotto(&eve, &["send", "anna", "may I come in?"]);
    assert_eq!(sent["status"], "stored");
    sotto(&anna, &["sync"]);
    let request = &messages(&anna, &key(&eve))[0];
    assert_eq!(
        (&request["text"], &request["request"]),
        (&"may I come in?".into(), &true.into())
    );

    let added = run(&eve, &["relay", "add", &place.relay.url]);
    let error = added.failed(4, "auth_refused");
    says(&error["detail"], "you are no member here");
    says(&error["hint"], "relay add URL#CODE");
    // Her own relay works as before; each reading says what the other one does not do.
    let synced = run(&eve, &["sync"]);
    says(
        &synced.failed(5, "partly_done")["detail"],
        "you are no member here",
    );
    let relays = synced.object["relays"].as_array().unwrap();
    let is_fine = |url: &str| relays.iter().find(|r| r["url"] == url).unwrap()["ok"].clone();
    assert_eq!(
        (is_fine(&open.url), is_fine(&place.relay.url)),
        (true.into(), false.into())
    );
    let members = place.relay.operate(&["user", "list"]).done().objects;
    assert_eq!(members.len(), 2, "{members:?}");
    sotto(&eve, &["relay", "remove", &place.relay.url]);
    sotto(&eve, &["sync"]);
}

#[test]
fn who_has_no_invite_has_an_account_and_is_told_what_it_lacks() {
    let place = Place::new("policy.write = \"members\"");
    let anna = place.joins("anna");
    let eve = place.path("eve");
    let made = run(&eve, &["init", "--relay", &place.relay.url]);
    let error = made.failed(4, "auth_refused");
    says(&error["detail"], "you are no member here");
    says(&error["hint"], "ask its operator for an invite");
    assert_eq!(made.object["schema"], "sotto.account/1");
    says(
        &run(&eve, &["sync"]).failed(4, "auth_refused")["detail"],
        "no member",
    );

    // Nothing is taken for her, so her address is known to nobody.
    let lost = run(&anna, &["send", &key(&eve), "are you there?"]);
    lost.failed(10, "no_inbox_relays");
    // Invited, she goes on from there.
    sotto(&eve, &["relay", "add", &place.invitation(&[])]);
    sotto(&eve, &["sync"]);
    sotto(&anna, &["send", &key(&eve), "now you are"]);
    sotto(&eve, &["sync"]);
    assert_eq!(texts(&eve, &key(&anna)), ["now you are"]);
}

#[test]
fn an_invite_that_is_worth_nothing_any_more_leaves_a_whole_account_behind() {
    let place = Place::new("policy.write = \"members\"");
    let used = place.invitation(&[]);
    sotto(&place.path("anna"), &["init", "--relay", &used]);
    let revoked = place.invitation(&[]);
    let code = revoked.rsplit('#').next().unwrap();
    place.relay.operate(&["user", "revoke", code]).done();
    let expired = place.invitation(&["--expires", "1s"]);
    let is_open = |object: &Value| object["schema"] == "sotto.relay_invite/1";
    while place
        .relay
        .operate(&["user", "list"])
        .done()
        .objects
        .iter()
        .any(is_open)
    {}
    for (number, (invitation, why)) in [
        (used, "used up"),
        (revoked, "not known"),
        (expired, "expired"),
    ]
    .into_iter()
    .enumerate()
    {
        let home = place.path(&format!("late-{number}"));
        let made = run(&home, &["init", "--relay", &invitation]);
        let error = made.failed(10, "refused");
        says(&error["detail"], why);
        says(&error["hint"], "relay add URL#CODE");
        // The account is there, says what it lacks, and is in nobody's way.
        assert_eq!(made.object["relays"][0], place.relay.url.as_str());
        assert_eq!(key(&home), made.object["pubkey"].as_str().unwrap());
        run(&home, &["init", "--relay", &invitation]).failed(9, "conflict");
        run(&home, &["sync"]).failed(4, "auth_refused");
        sotto(&home, &["relay", "add", &place.invitation(&[])]);
        sotto(&home, &["sync"]);
    }
    let members = place.relay.operate(&["user", "list"]).done().objects;
    assert_eq!(members.len(), 4, "{members:?}");
}

#[test]
fn who_is_removed_is_told_and_gets_what_still_waited() {
    let place = Place::new("policy.write = \"members\"");
    let (anna, ben) = place.members();
    sotto(&ben, &["sync"]);
    sotto(&anna, &["send", "ben", "before you go"]);
    place.relay.operate(&["user", "remove", &key(&ben)]).done();

    // The relay notices within a second: then nothing is taken for him any more.
    let refused = until_it_fails(&anna, &["send", "ben", "too late"]);
    says(&refused.failed(10, "refused")["detail"], "only members");
    let synced = run(&ben, &["sync"]);
    says(
        &synced.failed(4, "auth_refused")["detail"],
        "you are no member here",
    );
    assert!(synced.object["new"].as_u64().unwrap() >= 1);
    assert_eq!(texts(&ben, "anna")[0], "before you go");
    // He can still write to members, and is told that no answer will come.
    let sent = run(&ben, &["send", "anna", "I am out"]);
    assert_eq!(sent.code, 0);

    place.relay.operate(&["user", "add", &key(&ben)]).done();
    while run(&ben, &["sync"]).code != 0 {}
    sotto(&anna, &["send", "ben", "welcome back"]);
    sotto(&ben, &["sync"]);
    assert_eq!(texts(&ben, "anna").last().unwrap(), "welcome back");
}

#[test]
fn who_is_taken_out_of_the_configuration_is_told_after_a_reload() {
    let place = Place::new("policy.write = \"members\"");
    let anna = place.joins("anna");
    let ben = place.path("ben");
    run(&ben, &["init", "--relay", &place.relay.url]).failed(4, "auth_refused");
    let ben_key = key(&ben);
    let listing = format!("policy.write = \"members\"\npolicy.members = [\"{ben_key}\"]");
    std::fs::write(&place.config, listing).unwrap();
    place.relay.signal("-HUP");
    while run(&ben, &["sync"]).code != 0 {}
    sotto(&anna, &["send", &ben_key, "you are listed"]);
    // The roster cannot take out what the configuration lists, and says so.
    let removed = place.relay.operate(&["user", "remove", &ben_key]);
    says(&removed.failed(9, "conflict")["detail"], "policy.members");

    std::fs::write(&place.config, "policy.write = \"members\"").unwrap();
    place.relay.signal("-HUP");
    let told = until_it_fails(&ben, &["sync"]);
    says(
        &told.failed(4, "auth_refused")["detail"],
        "you are no member here",
    );
    assert_eq!(texts(&ben, &key(&anna)), ["you are listed"]);
}

#[test]
fn a_walled_and_an_open_relay_go_together() {
    let place = Place::new("policy.write = \"members\"");
    let open = place.open_relay();
    let (anna, ben) = (place.path("anna"), place.path("ben"));
    for home in [&anna, &ben] {
        let invitation = place.invitation(&[]);
        let relays = ["--relay", invitation.as_str(), "--relay", &open.url];
        let (account, _) = sotto(home, &[&["init"], &relays[..]].concat());
        assert_eq!(account["relays"].as_array().unwrap().len(), 2);
    }
    knows(&anna, &ben, "ben");
    knows(&ben, &anna, "anna");
    let (sent, _) = sotto(
        &anna,
        &["send", "ben", "twice, seen once", "--wait", "stored"],
    );
    let relays = sent["recipients"][0]["relays"].as_array().unwrap();
    assert!(
        relays.len() == 2 && relays.iter().all(|relay| relay["ok"] == true),
        "{sent}"
    );
    sotto(&ben, &["sync"]);
    assert_eq!(texts(&ben, "anna"), ["twice, seen once"]);

    // Out of one, he is reached by the other, and told.
    place.relay.operate(&["user", "remove", &key(&ben)]).done();
    let told = until_it_fails(&ben, &["sync"]);
    says(
        &told.failed(5, "partly_done")["detail"],
        "you are no member here",
    );
    let (sent, _) = sotto(&anna, &["send", "ben", "by the open door"]);
    assert_eq!(sent["status"], "accepted");
    let told = run(&ben, &["sync"]);
    assert_eq!((told.code, &told.object["new"]), (5, &1.into()));
    assert_eq!(texts(&ben, "anna")[1], "by the open door");
}
