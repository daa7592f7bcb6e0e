//! Relays that take events of their members only, run by the real program, and joined by invite.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::SystemTime;

use serde_json::Value;

use crate::support::{Person, Ran, World};

/// The relay's program, beside ours. Cargo builds it with the whole workspace; where only this
/// package is tested, and it is missing or older than its source, it is built now.
fn program() -> PathBuf {
    static BUILT: Once = Once::new();
    let path = PathBuf::from(env!("CARGO_BIN_EXE_sotto")).with_file_name("sotto-relay");
    BUILT.call_once(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = ["relay/src", "wire/src"].map(|folder| newest(&workspace.join(folder)));
        let made = path.metadata().and_then(|about| about.modified()).ok();
        if made.is_none_or(|made| sources.iter().any(|source| *source > made)) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--workspace", "--bin", "sotto-relay"]);
            assert!(cargo.current_dir(workspace).status().unwrap().success());
        }
    });
    path
}

/// When something in a folder was last written.
fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        newest = newest.max(match path.is_dir() {
            true => self::newest(&path),
            false => path.metadata().unwrap().modified().unwrap(),
        });
    }
    newest
}

/// A relay for members only, on a port of its own.
struct MembersRelay {
    folder: PathBuf,
    child: Option<Child>,
    url: String,
}

impl MembersRelay {
    fn start(world: &World) -> Self {
        let folder = world.dir.path().join("members-relay");
        std::fs::create_dir(&folder).unwrap();
        let text = "policy.write = \"members\"\n";
        std::fs::write(folder.join("relay.toml"), text).unwrap();
        let mut relay = Self {
            folder,
            child: None,
            url: String::new(),
        };
        relay.run("127.0.0.1:0");
        relay
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--json").args(verb);
        command.arg("--data").arg(self.folder.join("data"));
        command.arg("--config").arg(self.folder.join("relay.toml"));
        command
    }

    fn run(&mut self, address: &str) {
        let mut child = self
            .command(&["run", "--listen", address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut first).unwrap();
        let listening: Value = serde_json::from_str(&first).unwrap();
        self.url = listening["url"].as_str().unwrap().to_owned();
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn start_again(&mut self) {
        let address = self.url.strip_prefix("ws://").unwrap().to_owned();
        self.run(&address);
    }

    fn user(&self, arguments: &[&str]) -> Ran {
        let verb: Vec<&str> = ["user"].iter().chain(arguments).copied().collect();
        Ran::of(self.command(&verb).output().unwrap())
    }

    /// The line that whoever is invited gets.
    fn invites(&self) -> String {
        let made = self.user(&["invite"]).object();
        format!("{}#{}", self.url, made["code"].as_str().unwrap())
    }
}

impl Drop for MembersRelay {
    fn drop(&mut self) {
        self.stop();
    }
}

fn relays_of(person: &Person) -> Vec<String> {
    let listed = person.run(["relay", "list"]).objects();
    let url = |relay: &Value| relay["url"].as_str().unwrap().to_owned();
    listed.iter().map(url).collect()
}

#[test]
fn who_is_invited_makes_an_account_and_others_are_told_whom_to_ask() {
    let world = World::new();
    let relay = MembersRelay::start(&world);
    let invitation = relay.invites();

    let alice = world.person("alice");
    let account = alice.run(["init", "--relay", &invitation]).object();
    assert_eq!(account["relays"][0], relay.url.as_str());
    assert!(!account.to_string().contains('#'));
    assert_eq!(relays_of(&alice), [relay.url.as_str()]);
    let members = relay.user(&["list"]).objects();
    assert_eq!(members[0]["pubkey"].as_str().unwrap(), alice.pubkey());

    // The same line again: used up. The account is there all the same.
    let bob = world.person("bob");
    let ran = bob.run(["init", "--relay", &invitation]);
    let error = ran.fails(10, "refused");
    assert!(
        error["detail"].as_str().unwrap().contains("used up"),
        "{error}"
    );
    assert!(
        error["hint"].as_str().unwrap().contains("relay add"),
        "{error}"
    );
    assert_eq!(ran.only()["schema"], "sotto.account/1");

    // With a new invite it goes on from there.
    let other = relay.invites();
    bob.run(["relay", "add", &other]).succeeds();
    assert_eq!(relays_of(&bob), [relay.url.as_str()]);
    alice.knows(&bob, "bob");
    bob.knows(&alice, "alice");
    alice.sends("bob", "among members");
    assert_eq!(bob.syncs()["new"], 1);
    assert_eq!(bob.texts("alice"), ["among members"]);

    // Who was not invited at all.
    let eve = world.person("eve");
    eve.run(["init", "--relay", &relay.url])
        .fails(4, "auth_refused");
}

#[test]
fn a_wrong_code_is_told_before_or_by_the_relay() {
    let world = World::new();
    let relay = MembersRelay::start(&world);
    let invitation = relay.invites();
    let alice = world.person("alice");
    // A slip of the pen is found at once: nothing is made, nothing is asked.
    let last = if invitation.ends_with('q') { "p" } else { "q" };
    let typo = format!("{}{last}", &invitation[..invitation.len() - 1]);
    for wrong in [
        typo.as_str(),
        &format!("{}#", relay.url),
        &format!("{}#a b", relay.url),
    ] {
        alice.run(["init", "--relay", wrong]).refuses(2, "usage");
        assert!(!alice.home.exists());
    }
    let guess = format!("{}#open-sesame", relay.url);
    let ran = alice.run(["init", "--relay", &guess]);
    let error = ran.fails(10, "refused");
    assert!(
        error["detail"].as_str().unwrap().contains("not known"),
        "{error}"
    );
    // A relay that takes everybody's events takes no wrong code either.
    let bob = world.person("bob");
    let guess = format!("{}#open-sesame", world.relay_url);
    bob.run(["init", "--relay", &guess]).fails(10, "refused");
}

#[test]
fn an_invite_waits_for_a_relay_that_is_down() {
    let world = World::new();
    let mut relay = MembersRelay::start(&world);
    let invitation = relay.invites();
    relay.stop();
    let alice = world.person("alice");
    let error = alice
        .run(["init", "--relay", &invitation])
        .fails(3, "unreachable");
    assert!(
        error["hint"].as_str().unwrap().contains("invite is kept"),
        "{error}"
    );
    relay.start_again();
    alice.syncs();
    let members = relay.user(&["list"]).objects();
    assert_eq!(members[0]["pubkey"].as_str().unwrap(), alice.pubkey());
    // It was used, and is not used again.
    let bob = world.person("bob");
    bob.run(["init", "--relay", &invitation])
        .fails(10, "refused");
    alice.syncs();
}

#[test]
fn a_circle_joins_a_relay_of_its_own_and_a_banned_account_is_told() {
    let world = World::new();
    let relay = MembersRelay::start(&world);
    let alice = world.join("alice");
    let work = alice
        .run(["circle", "create", "work", "--relay", &relay.invites()])
        .object();
    assert_eq!(work["relays"][0], relay.url.as_str());
    let key = work["pubkey"].as_str().unwrap();
    assert_ne!(key, alice.pubkey());
    let members = relay.user(&["list"]).objects();
    assert_eq!(members[0]["pubkey"], key);

    relay.user(&["ban", key]).succeeds();
    // The relay notices within a second; until then it lets the account read.
    let sync = || alice.run(["--circle", "work", "sync"]);
    let mut ran = sync();
    while ran.code == Some(0) {
        ran = sync();
    }
    let error = ran.fails(4, "auth_refused");
    assert!(
        error["detail"].as_str().unwrap().contains("banned"),
        "{error}"
    );
}

#[test]
fn help_says_how_an_invitation_is_used() {
    let world = World::new();
    let alice = world.person("alice");
    for command in ["init", "circle create", "relay add"] {
        let words = command.split(' ').chain(["--help"]);
        let help = alice.run(words);
        assert!(help.succeeds().text().contains("#CODE"), "{command}");
    }
    let help = Ran::of(
        Command::new(program())
            .args(["user", "invite", "--help"])
            .output()
            .unwrap(),
    );
    assert!(help.text().contains("sotto init --relay"), "{help:?}");
}
