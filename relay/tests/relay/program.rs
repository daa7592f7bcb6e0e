//! The program: exit codes, objects, files, signals.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use sotto_relay::Config;
use sotto_relay::config::{IndexEngine, Storage};
use wire::Filter;

use crate::crash::{Program, binary};
use crate::files::{self, files};
use crate::support::{Client, ids, person, start};

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

fn error(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let object: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(object["schema"], "sotto.error/1");
    object
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn r_prog_1_sigterm_finishes_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path());
    let mut client = Client::connect(&program.url).await;
    let note = person(1).note("before the end");
    client.put(&note).await;
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    assert!(client.try_receive().await.is_none());
    let program = Program::start(folder.path());
    let mut client = Client::connect(&program.url).await;
    let filter = Filter::default().with_kinds([1]);
    assert_eq!(client.fetch(filter).await.unwrap(), [note]);
}

#[test]
fn r_prog_1_ctrl_c_ends_with_130_and_programs_get_the_word() {
    for json in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = binary();
        command.args(["run", "--listen", "127.0.0.1:0", "--data"]);
        command
            .arg(folder.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped());
        if json {
            command.arg("--json");
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        // People are told where the data is, too.
        assert!(line.contains(text(folder.path())), "{line}");
        let pid = child.id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-INT", &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        match json {
            true => assert_eq!(error(&output)["error"], "interrupted"),
            false => assert!(!String::from_utf8(output.stderr).unwrap().contains("error")),
        }
    }
}

#[tokio::test]
async fn r_prog_2_a_second_server_and_a_busy_port_are_conflicts() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let data = text(folder.path());
    let output = run(&["--json", "run", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(
        (output.status.code(), &error(&output)["error"]),
        (Some(9), &"conflict".into())
    );
    let other = tempfile::tempdir().unwrap();
    let address = program.url.trim_start_matches("ws://");
    let output = run(&[
        "--json",
        "run",
        "--listen",
        address,
        "--data",
        text(other.path()),
    ]);
    assert_eq!(
        (output.status.code(), &error(&output)["error"]),
        (Some(9), &"conflict".into())
    );
    let output = run(&["--json", "export", "--data", data]);
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn r_prog_3_nonsense_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "[server]\nlisten = \"127.0.0.1:0\"\nfast = true\n").unwrap();
    for arguments in [
        vec!["--json", "run", "--listen", "nowhere"],
        vec!["--json", "run", "--listen", "127.0.0.1:99999"],
        vec!["--json", "run", "--config", text(&config)],
        vec!["--json", "run", "--public-url", "http://x"],
        vec!["--json", "frobnicate"],
        vec!["--json", "check", "not a url"],
        vec![
            "--json",
            "run",
            "--listen",
            "127.0.0.1:0",
            "--data",
            text(&config),
        ],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(error(&output)["error"], "usage", "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    let missing = folder.path().join("missing.toml");
    let output = run(&["--json", "run", "--config", text(&missing)]);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn r_hint_1_an_error_names_the_file_and_line_or_the_option_and_its_hint_fits() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    let key = person(1).key();
    let of_file = |lines: &str| {
        std::fs::write(&config, lines).unwrap();
        error(&run(&["--json", "export", "--config", text(&config)]))
    };
    for (lines, wanted) in [
        ("[server]\n\nfast = true", "line 3: fast: unknown field"),
        ("[policy]\n# who\nwrite = \"some\"", "line 3: policy.write:"),
        ("policy.write = \"some\"", "line 1: policy.write:"),
        ("[policy]\nkinds = [\n  1,\n  65536,\n]", "0 to 65535"),
        ("[policy]\npow_bits = 256", "line 2: pow_bits: "),
        ("[policy]\npow_bits = 256", "a whole number from 0 to 255"),
        ("[limits]\ncounts = -1", "a whole number, 0 or more"),
        (
            &format!(
                "[policy]\nwrite = \"members\"\nmembers = [\n  \"{}\",\n  \"x\",\n]",
                key.to_hex()
            ),
            "line 3: policy.members: entry 2 is no public key: npub1",
        ),
        (
            "[server]\npublic_urls = [\"wss://a.example\", \"http://b\"]",
            "line 2: server.public_urls: entry 2",
        ),
    ] {
        let error = of_file(lines);
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.starts_with(text(&config)), "{detail}");
        assert!(detail.contains(wanted), "no {wanted} in {detail}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("sotto-relay init"), "{hint}");
    }
    for (option, value) in [("--listen", "nowhere"), ("--public-url", "http://x")] {
        let error = error(&run(&["--json", "run", option, value]));
        let detail = error["detail"].as_str().unwrap();
        assert!(
            detail.starts_with(&format!("{option} {value}: ")),
            "{detail}"
        );
        assert!(
            error["hint"].as_str().unwrap().contains("--help"),
            "{error}"
        );
    }
    // A file that is there already.
    let data = folder.path().join("data");
    assert!(run(&["import", "--data", text(&data)]).status.success());
    for command in [
        vec!["--json", "init", "--config", text(&config)],
        vec![
            "--json",
            "export",
            "-o",
            text(&config),
            "--data",
            text(&data),
        ],
    ] {
        let output = run(&command);
        assert_eq!(output.status.code(), Some(9), "{command:?}");
        let error = error(&output);
        assert!(
            error["hint"].as_str().unwrap().contains("another name"),
            "{error}"
        );
    }
    // A port that is taken, and which of the two it is.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&config, format!("metrics.listen = \"{address}\"")).unwrap();
    let place = ["--config", text(&config), "--data", text(&data)];
    for (listen, named) in [
        (address.as_str(), address.clone()),
        ("127.0.0.1:0", format!("metrics.listen {address}")),
    ] {
        let output = run(&[&["--json", "run", "--listen", listen], &place[..]].concat());
        assert_eq!(output.status.code(), Some(9));
        let error = error(&output);
        assert!(
            error["detail"].as_str().unwrap().starts_with(&named),
            "{error}"
        );
        assert!(
            error["hint"].as_str().unwrap().contains("another port"),
            "{error}"
        );
    }
}

#[test]
fn r_prog_5_keys_are_read_as_people_and_as_programs_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    let (hex, npub) = (person(1).key().to_hex(), wire::link::npub(&person(2).key()));
    let lines = format!(
        "management.admins = [\"{npub}\"]\nserver.pubkey = \"{npub}\"\n\
         [policy]\nwrite = \"members\"\nmembers = [\"{hex}\", \"{npub}\"]"
    );
    std::fs::write(&config, lines).unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let place = ["--config", text(&config), "--data", text(&data)];
    let output = run(&[&["--json", "user", "list"], &place[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let listed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(&hex) && listed.contains(&npub), "{listed}");
}

#[test]
fn r_vers_1_the_version_is_told_by_the_option_as_by_the_command() {
    for json in [&[][..], &["--json"]] {
        let told = run(&[json, &["version"]].concat()).stdout;
        for option in ["--version", "-V"] {
            let output = run(&[json, &[option]].concat());
            assert_eq!(output.status.code(), Some(0), "{option}");
            assert_eq!(output.stdout, told, "{option}");
        }
    }
}

#[tokio::test]
async fn r_prog_4_data_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let program = Program::start(&data);
    Client::connect(&program.url)
        .await
        .put(&person(1).note("x"))
        .await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for path in files(&data) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }
}

#[test]
fn r_prog_5_the_example_configuration_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    let output = run(&["init", "--config", text(&path)]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        run(&["init", "--config", text(&path)]).status.code(),
        Some(9)
    );
    let written = std::fs::read(&path).unwrap();
    assert_eq!(run(&["init"]).stdout, written);
    // The kinds that it tells are those that Sotto is tried out with.
    let needs = format!("# Sotto needs {:?}.", wire::kinds::SOTTO);
    assert!(String::from_utf8_lossy(&written).contains(&needs));
    // Root writes it and the relay's own user reads it, as the caller's umask has it.
    let shared = folder.path().join("shared.toml");
    let status = std::process::Command::new("sh")
        .args(["-c", "umask 022; exec \"$0\" init --config \"$1\""])
        .arg(binary().get_program())
        .arg(&shared)
        .output();
    assert!(status.unwrap().status.success());
    let mode = std::fs::metadata(&shared).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let object: serde_json::Value =
        serde_json::from_slice(&run(&["--json", "init"]).stdout).unwrap();
    assert_eq!(object["schema"], "sotto.config/1");
    assert_eq!(object["config"].as_str().unwrap().as_bytes(), written);
    let data = folder.path().join("data");
    files::open(&data, IndexEngine::Runs).store.close().unwrap();
    let output = run(&["compact", "--config", text(&path), "--data", text(&data)]);
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["--json", "version"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["schema"], "sotto.version/1");
}

#[test]
fn r_url_1_an_invite_names_the_host_that_a_certificate_is_fetched_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    let acme = "policy.write = \"members\"\n[acme]\nagree_to_terms = true\n\
                domains = [\"relay.example\"]\n";
    std::fs::write(&config, acme).unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let place = ["--config", text(&config), "--data", text(&data)];
    let output = run(&[&["--json", "user", "invite"], &place[..]].concat());
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let link = object["link"].as_str().unwrap();
    assert!(link.starts_with("wss://relay.example#join1"), "{object}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// Its command line is run as it stands, but for the places; systemd's own opinion is asked where
/// it is installed.
#[test]
fn r_prog_15_the_unit_for_systemd_is_in_order_and_starts_the_program() {
    let unit = include_str!("../../../packaging/sotto-relay.service");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, run(&["init"]).stdout).unwrap();
    let own = binary().get_program().to_str().unwrap().to_owned();
    let unit = unit
        .replace("/usr/local/bin/sotto-relay", &own)
        .replace("/etc/sotto-relay/relay.toml", text(&config))
        .replace("/var/lib/sotto-relay", text(&folder.path().join("data")));
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let mut words = command.unwrap().split(' ');
    assert_eq!(words.next(), Some(own.as_str()));
    let mut command = binary();
    command
        .args(words)
        .args(["--json", "--listen", "127.0.0.1:0"]);
    let mut program = Program::spawn(&mut command);
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));

    // What starting again does not mend is not started again.
    let never = unit.lines();
    let mut never = never.filter_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let never = never.next().unwrap();
    for (word, code) in crate::contract::codes() {
        let is_final = ["usage", "not_found", "conflict", "store_damaged"].contains(&word.as_str());
        let is_listed = never.split(' ').any(|listed| listed == code.to_string());
        assert_eq!(is_listed, is_final, "{word}");
    }

    // Threads of busy connections step back, which the group that is left out would forbid.
    let mut allowed = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    assert!(allowed.next_back().unwrap().contains("setpriority"));
    let file = folder.path().join("sotto-relay.service");
    std::fs::write(&file, unit).unwrap();
    match std::process::Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => eprintln!("skipped: systemd-analyze is not installed"),
    }
}

#[tokio::test]
async fn r_prog_7_check_passes_on_this_relay_and_names_what_fails() {
    let relay = start(Config::in_memory()).await;
    let url = relay.url();
    let check =
        move |url: String| tokio::task::spawn_blocking(move || run(&["--json", "check", &url]));
    let output = check(url).await.unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{object}");
    assert_eq!(object["ok"], true);
    let checks = object["checks"].as_array().unwrap();
    for name in ["tls", "auth_wall", "limits", "window", "expiry"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
    assert!(checks.iter().all(|check| check["fix"] == ""));
    relay.stop().await.unwrap();

    let mut config = Config::in_memory();
    config.rules.wrap_past = None;
    let relay = start(config).await;
    let output = check(relay.url()).await.unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(error(&output)["error"], "partly_done");
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = object["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false);
    assert_eq!(
        failed.map(|check| &check["name"]).collect::<Vec<_>>(),
        ["window"]
    );
    let checks = object["checks"].as_array().unwrap();
    let window = checks
        .iter()
        .find(|check| check["name"] == "window")
        .unwrap();
    assert!(
        window["fix"]
            .as_str()
            .unwrap()
            .contains("policy.wrap_past_s")
    );
    relay.stop().await.unwrap();

    let output = check("ws://127.0.0.1:1".to_owned()).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(error(&output)["error"], "unreachable");
}

#[tokio::test]
async fn r_full_1_on_a_full_disk_writes_are_refused_and_reads_and_deletions_go_on() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wrap = person(9).wrap(&to, "before");
        let mut config = files::config(folder.path(), engine);
        let relay = start(config.clone()).await;
        Client::connect(&relay.url()).await.put(&wrap).await;
        relay.stop().await.unwrap();
        let Storage::Disk { reserve_bytes, .. } = &mut config.storage else {
            unreachable!()
        };
        *reserve_bytes = u64::MAX;
        let relay = start(config).await;
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let (accepted, text) = client.publish(&person(9).wrap(&to, "after")).await;
        assert!(
            !accepted && text.starts_with("error:") && text.contains("full"),
            "{text}"
        );
        assert_eq!(ids(&client.mailbox(&to).await), [wrap.id()]);
        client.put(&person(9).deletion(&wrap)).await;
        assert!(client.mailbox(&to).await.is_empty());
        relay.stop().await.unwrap();
    }
}

/// A file system of a few megabytes of its own; only root can make one.
pub struct SmallDisk(pub tempfile::TempDir);

impl SmallDisk {
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", "size=6m", "tmpfs", text(folder.path())]).then(|| Self(folder))
    }

    pub fn grow(&self) {
        assert!(mount(&["-o", "remount,size=64m", text(self.0.path())]));
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.0.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    std::process::Command::new("mount")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// With a reserve, and without one, so that the file system itself says no in the middle of a
/// batch.
#[tokio::test]
async fn r_full_2_a_file_system_that_fills_up_loses_nothing_that_was_acknowledged() {
    let to = person(2);
    let content = "z".repeat(50_000);
    let reserves = [2 * 1024 * 1024, 0].into_iter();
    let cases = reserves.flat_map(|reserve| IndexEngine::ON_DISK.map(|engine| (reserve, engine)));
    for (reserve, engine) in cases {
        let Some(disk) = SmallDisk::new() else {
            eprintln!("skipped: mounting a small file system needs root");
            return;
        };
        let mut config = files::config(&disk.0.path().join("data"), engine);
        let Storage::Disk { reserve_bytes, .. } = &mut config.storage else {
            unreachable!()
        };
        *reserve_bytes = reserve;
        let relay = start(config.clone()).await;
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let mut kept = Vec::new();
        let mut refused = 0;
        let first = person(100).wrap(&to, "the first");
        client.put(&first).await;
        for n in 0..200 {
            let wrap = person(101 + n).wrap(&to, &format!("{n}{content}"));
            let (accepted, text) = client.publish(&wrap).await;
            match accepted {
                true => kept.push(wrap.id()),
                false => {
                    assert!(text.starts_with("error:"), "{text}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && kept.len() > 20);
        if reserve > 0 {
            client.put(&person(100).deletion(&first)).await;
        } else {
            kept.push(first.id());
        }
        kept.sort();
        // sled reads no more once a checkpoint of it has met the full disk (decision 0007).
        if (reserve, engine) != (0, IndexEngine::Sled) {
            let mut found = ids(&client.mailbox(&to).await);
            found.sort();
            assert_eq!(found, kept);
        }
        // The store may not get its last checkpoint onto such a disk.
        let _ = relay.stop().await;
        disk.grow();
        let relay = start(config).await;
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let found = ids(&client.mailbox(&to).await);
        assert!(kept.iter().all(|id| found.contains(id)));
        client
            .put(&person(99).wrap(&to, "there is room again"))
            .await;
        relay.stop().await.unwrap();
    }
}
