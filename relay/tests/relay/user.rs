//! Members and invites on the command line, beside a relay that runs or was stopped.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use serde_json::Value;
use wire::InviteCode;

use crate::crash::{Program, binary};
use crate::files::{files, holding};
use crate::members::{join, refused};
use crate::support::{Client, PATIENCE, person};

pub fn user(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.args(["--json", "user"]).args(arguments);
    command.arg("--data").arg(folder).output().unwrap()
}

fn told(output: &Output) -> Vec<Value> {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn r_user_1_members_are_added_and_removed_beside_a_running_relay() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // Before the first start, too, in a folder that is there for it.
    std::fs::create_dir(&data).unwrap();
    let (first, second) = (person(1), person(2));
    let npub = wire::link::npub(&first.key());
    let added = told(&user(&data, &["add", &npub, "--note", "the first"]));
    assert_eq!(added[0]["pubkey"], first.key().to_hex());
    assert_eq!(added[0]["role"], "member");
    let program = Program::configured(&data, "policy.write = \"members\"\n");
    let mut client = Client::connect_as(&program.url, &first).await;
    client.put(&first.note("in")).await;

    let mut other = Client::connect_as(&program.url, &second).await;
    refused(&mut other, &second.note("x"), "restricted:").await;
    told(&user(&data, &["add", &second.key().to_hex()]));
    let until = Instant::now() + PATIENCE;
    while !other.publish(&second.note("in")).await.0 {
        assert!(Instant::now() < until, "the relay did not notice");
    }
    told(&user(&data, &["remove", &npub]));
    let until = Instant::now() + PATIENCE;
    while client.publish(&first.note("out?")).await.0 {
        assert!(Instant::now() < until, "the relay did not notice");
    }
    assert_eq!(user(&data, &["remove", &npub]).status.code(), Some(7));
    told(&user(&data, &["ban", &npub, "--note", "\u{1b}[31mloud"]));
    assert_eq!(
        user(&data, &["unban", &second.key().to_hex()])
            .status
            .code(),
        Some(7)
    );

    let listed = told(&user(&data, &["list"]));
    let roles: Vec<_> = listed
        .iter()
        .map(|l| (l["pubkey"].clone(), l["role"].clone()))
        .collect();
    let wanted = [(&second, "member"), (&first, "banned")];
    let wanted = wanted.map(|(who, role)| (who.key().to_hex().into(), role.into()));
    assert_eq!(roles, wanted);
    let plain = binary()
        .args(["user", "list", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!plain.stdout.contains(&0x1b));
    // Said again without a note, the one that was there stays.
    told(&user(&data, &["ban", &npub]));
    told(&user(
        &data,
        &["add", &second.key().to_hex(), "--note", "Ada"],
    ));
    told(&user(&data, &["add", &second.key().to_hex()]));
    let notes = |listed: &[Value]| -> Vec<Value> {
        listed.iter().map(|line| line["note"].clone()).collect()
    };
    let listed = told(&user(&data, &["list"]));
    assert_eq!(notes(&listed), ["Ada", "\u{1b}[31mloud"]);
    told(&user(&data, &["add", &second.key().to_hex(), "--note", ""]));
    let listed = told(&user(&data, &["list"]));
    assert_eq!(notes(&listed), ["", "\u{1b}[31mloud"]);
    told(&user(&data, &["unban", &npub]));

    for bad in [
        "npub1x",
        "abc",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
    ] {
        let output = user(&data, &["add", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
    let nowhere = folder.path().join("nowhere");
    assert_eq!(user(&nowhere, &["list"]).status.code(), Some(7));
    assert!(!nowhere.exists());
    for path in files(&data) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

/// With sudo, as operators do: the relay runs as a user of its own.
#[test]
fn r_user_3_what_root_writes_belongs_to_the_owner_of_the_folder() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let somebody = Some(12_345);
    if std::os::unix::fs::chown(&data, somebody, somebody).is_err() {
        eprintln!("skipped: giving a folder away needs root");
        return;
    }
    told(&user(&data, &["add", &person(1).key().to_hex()]));
    told(&user(&data, &["invite"]));
    for path in files(&data) {
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (about.uid(), about.gid()),
            (12_345, 12_345),
            "{}",
            path.display()
        );
        assert_eq!(about.mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn r_user_2_an_invite_is_printed_once_redeemed_and_can_be_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let text = "policy.write = \"members\"\nserver.public_urls = [\"wss://relay.example\"]\n";
    let program = Program::configured(&data, text);
    let config = data.with_extension("toml");
    let config = config.to_str().unwrap();
    let made = told(&user(
        &data,
        &[
            "invite",
            "--uses",
            "2",
            "--expires",
            "3h",
            "--config",
            config,
        ],
    ));
    let made = &made[0];
    assert_eq!(made["schema"], "sotto.relay_invite/1");
    let code = made["code"].as_str().unwrap();
    assert_eq!(made["link"], format!("wss://relay.example#{code}"));
    assert_eq!(made["uses"], 2);
    let expires_at = made["expires_at"].as_u64().unwrap();
    assert_eq!(expires_at, made["made_at"].as_u64().unwrap() + 3 * 3_600);
    assert!(holding(&data, code.as_bytes()).is_empty());

    let who = person(1);
    let mut client = Client::connect_as(&program.url, &who).await;
    let code = InviteCode::parse(code).unwrap();
    // At once: no need to wait until the relay has noticed.
    client.put(&join(&who, &code)).await;
    client.put(&who.note("in")).await;
    let open = told(&user(&data, &["list"]));
    let left = open
        .iter()
        .find(|line| line["schema"] == "sotto.relay_invite/1")
        .unwrap();
    assert_eq!(left["uses"], 1);

    let link = format!("wss://relay.example#{}", code.expose());
    assert_eq!(told(&user(&data, &["revoke", &link]))[0]["invites"], 1);
    assert_eq!(user(&data, &["revoke", &link]).status.code(), Some(7));
    let late = person(2);
    let mut client = Client::connect_as(&program.url, &late).await;
    refused(&mut client, &join(&late, &code), "restricted:").await;
    // Killed right after the answer, the relay still knows its members.
    program.signal("-KILL");
    drop(program);
    let program = Program::configured(&data, text);
    let mut client = Client::connect_as(&program.url, &who).await;
    client.put(&who.note("still in")).await;
}

#[test]
fn r_user_4_an_invite_without_an_address_says_where_it_goes_and_prints_no_command_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command
        .args(["user", "invite", "--data"])
        .arg(folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    let code = told.lines().next().unwrap();
    assert!(code.starts_with("join1"), "{told}");
    assert!(!told.contains(&format!("--relay '{code}")), "{told}");
    assert!(told.contains("wss://relay.example#CODE"), "{told}");
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("server.public_urls"), "{warned}");
    // Everybody may write here already.
    assert!(warned.contains("policy.write is \"open\""), "{warned}");
}
