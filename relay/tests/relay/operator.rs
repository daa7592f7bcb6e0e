//! The operator's side of the program: reloading, what it counts, and what it logs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sotto_relay::Config;
use sotto_relay::roster::{Full, Roster, RosterFile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::{Filter, RelayFrame};

use crate::crash::binary;
use crate::support::{Client, PATIENCE, mailbox, now, person, start, subscription};

/// A running program with a configuration file, and what it says.
pub struct Operated {
    child: Child,
    /// `sotto.listening/1`.
    pub listening: Value,
    config: PathBuf,
    lines: mpsc::Receiver<String>,
    /// Everything it has logged so far.
    pub log: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Operated {
    /// With `-vv` and the text of the configuration file, to which `[server]` is added.
    pub fn start(text: &str) -> Self {
        Self::start_with(":", text)
    }

    /// The same, after a shell's words that change what the program is started with.
    pub fn start_with(words: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("relay.toml");
        std::fs::write(&config, Self::file(folder.path(), text)).unwrap();
        let program = binary();
        let mut child = Command::new("sh")
            .args(["-c", &format!("{words}; exec \"$@\""), "sh"])
            .arg(program.get_program())
            .envs(
                program
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .args(["--json", "-vv", "run", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        Self {
            child,
            listening: serde_json::from_str(&first).unwrap_or_default(),
            config,
            lines,
            log: Vec::new(),
            _folder: folder,
        }
    }

    fn file(folder: &Path, text: &str) -> String {
        let data = folder.join("data");
        let data = data.to_str().unwrap();
        format!("server.listen = \"127.0.0.1:0\"\nserver.data = \"{data}\"\n{text}\n")
    }

    pub fn data(&self) -> PathBuf {
        self.config.with_file_name("data")
    }

    pub fn url(&self) -> String {
        self.listening["url"].as_str().unwrap().to_owned()
    }

    /// Writes another configuration file and sends SIGHUP.
    pub fn reload(&self, text: &str) {
        let folder = self.config.parent().unwrap();
        std::fs::write(&self.config, Self::file(folder, text)).unwrap();
        self.signal("-HUP");
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for a line that contains `text`; the line.
    pub fn logged(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Stops it, and gathers the rest of the log.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.log.extend(self.lines.iter());
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain GET; head and body.
pub async fn get(address: &str, path: &str, headers: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}");
    ask(address, &request).await
}

/// Any request, its lines so far; head and body of the answer.
pub async fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn document(url: &str) -> Value {
    let address = url.trim_start_matches("ws://");
    let (_, body) = get(address, "/", "Accept: application/nostr+json\r\n").await;
    serde_json::from_str(&body).unwrap()
}

/// Each sample with its value, after a look at the format.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let stem = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|end| family.strip_suffix(end))
                .filter(|stem| kinds.get(stem) == Some(&"histogram"));
            assert!(kinds.contains_key(stem.unwrap_or(family)), "{line}");
            samples.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    samples
}

#[tokio::test]
async fn r_metrics_1_what_a_connection_leaves_open_counts_no_more_when_it_ends() {
    let relay = start(Config::in_memory()).await;
    let mut reader = Client::connect(&relay.url()).await;
    let notes = Filter::default().with_kinds([1]);
    for id in ["a", "b", "c"] {
        let id = subscription(id);
        reader.ask(&id, std::slice::from_ref(&notes)).await.unwrap();
    }
    let metrics = relay.metrics();
    assert_eq!((metrics.sockets.get(), metrics.subscriptions.get()), (1, 3));
    drop(reader);
    let until = Instant::now() + PATIENCE;
    while (metrics.sockets.get(), metrics.subscriptions.get()) != (0, 0) {
        assert!(
            Instant::now() < until,
            "{} are open",
            metrics.subscriptions.get()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_metrics_1_what_happens_is_counted_without_keys_ids_and_addresses() {
    let program = Operated::start("metrics.listen = \"127.0.0.1:0\"");
    let url = program.listening["metrics"].as_str().unwrap();
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/metrics");
    let (alice, to) = (person(1), person(2));
    let wrap = person(9).wrap(&to, "sealed");
    let gone = person(8).wrap(&to, "gone");
    let mut reader = Client::connect_as(&program.url(), &to).await;
    let inbox = subscription("inbox");
    reader.ask(&inbox, &[mailbox(&to)]).await.unwrap();
    let mut writer = Client::connect(&program.url()).await;
    writer.put(&wrap).await;
    writer.put(&wrap).await;
    writer.put(&gone).await;
    writer.put(&person(8).deletion(&gone)).await;
    writer.put(&alice.sign(20_001, now(), &[], "")).await;
    assert!(!writer.publish(&alice.sign(13, now(), &[], "")).await.0);
    assert!(!writer.publish(&person(9).wrap_at(&to, 1)).await.0);
    let note = alice.note("true");
    let forged = String::from_utf8(note.json().to_vec()).unwrap();
    let forged = forged.replace("\"true\"", "\"untrue\"");
    writer.send(format!("[\"EVENT\",{forged}]")).await;
    assert!(!writer.answer(note.id()).await.0);
    writer.send("nonsense").await;
    assert!(matches!(writer.receive().await, RelayFrame::Notice(_)));
    assert!(writer.fetch(mailbox(&to)).await.is_err());
    let wrong = alice.sign(22242, now(), &[], "");
    assert!(!writer.auth_with(&wrong).await.0);
    reader.mailbox(&to).await;
    // What that left open is closed before this is answered.
    assert_eq!(reader.count(&[mailbox(&to)]).await, Ok(1));

    let (head, text) = get(address, "/metrics", "").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = samples(&text);
    for (name, value) in [
        ("websockets_open", 2.0),
        ("subscriptions_open", 1.0),
        ("connections_total", 2.0),
        ("events_accepted_total{result=\"stored\"}", 2.0),
        ("events_accepted_total{result=\"duplicate\"}", 1.0),
        ("events_accepted_total{result=\"passed_on\"}", 1.0),
        ("events_accepted_total{result=\"carried_out\"}", 1.0),
        ("events_refused_total{reason=\"inner_kind\"}", 1.0),
        ("events_refused_total{reason=\"wrap_too_old\"}", 1.0),
        ("events_refused_total{reason=\"forged\"}", 1.0),
        ("events_sent_total{from=\"live\"}", 2.0),
        ("events_sent_total{from=\"store\"}", 1.0),
        ("events_erased_total", 1.0),
        ("malformed_messages_total", 1.0),
        ("auth_accepted_total", 1.0),
        ("auth_refused_total{reason=\"auth_challenge\"}", 1.0),
        ("requests_refused_total{reason=\"read_needs_auth\"}", 1.0),
        ("store_writable", 1.0),
        ("log_segments", 1.0),
    ] {
        let name = format!("sotto_relay_{name}");
        assert_eq!(samples.get(&name), Some(&value), "{name} in {text}");
    }
    let at_least_1 = [
        "received_bytes_total",
        "sent_bytes_total",
        "log_events_bytes",
        "log_dead_bytes",
        "store_bytes",
        "disk_free_bytes",
        "commit_seconds_count",
        "log_sync_seconds_count",
    ];
    for name in at_least_1 {
        let value = samples.get(&format!("sotto_relay_{name}"));
        assert!(value.is_some_and(|value| *value >= 1.0), "{name}");
    }
    let is_hex = |word: &str| word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    assert!(!words.any(is_hex), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");

    let (head, _) = get(address, "/", "").await;
    assert!(head.contains(" 404 "), "{head}");
    // Clients are not told.
    let clients = program.url();
    let (head, page) = get(clients.trim_start_matches("ws://"), "/metrics", "").await;
    assert!(head.contains(" 404 ") && !page.contains("sotto_relay_"));
}

#[tokio::test]
async fn r_metrics_2_there_are_none_by_default_and_beyond_loopback_only_if_said_so() {
    let program = Operated::start("");
    assert_eq!(program.listening["metrics"], Value::Null);
    let open = "metrics.listen = \"0.0.0.0:0\"";
    let mut program = Operated::start(open);
    let line = program.logged("sotto.error/1");
    assert!(line.contains("metrics.listen"), "{line}");
    let program = Operated::start(&format!("{open}\nmetrics.beyond_loopback = true"));
    assert!(program.listening["metrics"].is_string());
}

/// Hex and bech32 spellings of what must not be in the log, whole and shortened.
fn spellings(bytes: &[u8; 32]) -> Vec<String> {
    let hex = hex::encode(bytes);
    vec![
        hex[..8].to_owned(),
        hex[24..40].to_owned(),
        hex[56..].to_owned(),
    ]
}

#[tokio::test]
async fn r_log_1_the_log_names_no_key_id_or_address_however_much_it_says() {
    let (member, to, stranger) = (person(1), person(2), person(3));
    let key = member.key().to_hex();
    let policy = format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\n[policy]\nwrite = \"members\"\n\
         members = [\"{key}\", \"{}\"]",
        to.key().to_hex()
    );
    let mut program = Operated::start(&policy);
    let mut planted = Vec::new();
    let wrap = person(9).wrap(&to, "content that nobody may log");
    let gone = person(8).wrap(&to, "gone");
    let mut reader = Client::connect_as(&program.url(), &to).await;
    let inbox = subscription("a-name-of-a-subscription");
    reader.ask(&inbox, &[mailbox(&to)]).await.unwrap();
    reader.count(&[mailbox(&to)]).await.unwrap();
    reader.reconcile(&mailbox(&to), &[]).await.unwrap();
    let mut writer = Client::connect(&program.url()).await;
    writer.put(&wrap).await;
    writer.put(&gone).await;
    writer.put(&person(8).deletion(&gone)).await;
    assert!(!writer.publish(&stranger.note("refused")).await.0);
    assert!(!writer.publish(&stranger.sign(13, now(), &[], "")).await.0);
    let note = stranger.note("true");
    let forged = String::from_utf8(note.json().to_vec()).unwrap();
    let forged = forged.replace("\"true\"", "\"false\"");
    writer.send(format!("[\"EVENT\",{forged}]")).await;
    assert!(!writer.answer(note.id()).await.0);
    writer.send(format!("[\"{}\"]", wrap.id().to_hex())).await;
    assert!(matches!(writer.receive().await, RelayFrame::Notice(_)));
    assert!(writer.fetch(mailbox(&to)).await.is_err());
    assert!(
        !writer
            .auth_with(&stranger.sign(22242, now(), &[], ""))
            .await
            .0
    );
    let vanish = to.sign(62, now(), &[&["relay", "ALL_RELAYS"]], "");
    reader.put(&vanish).await;
    let url = program.url();
    let address = url.trim_start_matches("ws://");
    let forwarded = "X-Forwarded-For: 192.0.2.77\r\n";
    get(address, "/a-path-that-somebody-asked-for", forwarded).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: nonsense\r\n";
    let (head, _) = get(address, "/", upgrade).await;
    assert!(head.contains(" 400 "), "{head}");
    program.reload(&policy.replace(&key, &key[1..]));
    program.logged("the configuration was not reloaded");
    program.reload(&policy);
    program.logged("the configuration was reloaded");
    program.stop();

    for event in [&wrap, &gone, &note, &vanish] {
        planted.extend(spellings(event.id().as_bytes()));
        planted.push(event.sig().to_hex()[..16].to_owned());
    }
    for number in [1, 2, 3, 8, 9] {
        planted.extend(spellings(person(number).key().as_bytes()));
    }
    for text in [
        "nobody may log",
        "a-name-of",
        "a-path-that",
        "192.0.2.77",
        "127.0.0.1",
    ] {
        planted.push(text.to_owned());
    }
    for line in &program.log {
        for planted in &planted {
            assert!(!line.contains(planted), "{planted} in {line}");
        }
    }
    // It says what an operator needs all the same.
    let log = program.log.join("\n");
    for told in ["the relay has started", "the relay has stopped"] {
        assert!(log.contains(told), "no {told} in {log}");
    }
    // Of a minute each, the last one cut short by the stop.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in &program.log {
        let line: Value = serde_json::from_str(line).unwrap();
        let lately = line["fields"]["counts"].as_object();
        for (name, count) in lately.into_iter().flatten() {
            *counts.entry(name.clone()).or_default() += count.as_u64().unwrap();
        }
    }
    for (name, count) in [
        ("stored", 2),
        ("refused.forged", 1),
        ("refused.inner_kind", 1),
        ("connection_refused.unreadable_forwarded", 1),
        ("request_refused.read_needs_auth", 1),
        ("auth_refused.auth_challenge", 1),
        ("malformed", 1),
    ] {
        assert_eq!(counts.get(name), Some(&count), "{name} in {log}");
    }
}

#[tokio::test]
async fn r_warn_1_a_relay_without_an_address_for_its_clients_says_so_at_start_and_reload() {
    // A proxy has clients, on whatever address the relay listens.
    let proxied = "server.trusted_proxies = [\"192.0.2.1\"]";
    let mut program = Operated::start(proxied);
    let line = program.logged("server.public_urls");
    let warning: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(warning["schema"], "sotto.warning/1");
    program.reload(&format!(
        "{proxied}\nserver.public_urls = [\"wss://relay.example\"]"
    ));
    program.logged("the configuration was reloaded");
    let warnings = |log: &[String]| {
        let is_about = |line: &&String| line.contains("server.public_urls");
        log.iter().filter(is_about).count()
    };
    assert_eq!(warnings(&program.log), 1, "{:#?}", program.log);
    program.reload(proxied);
    program.logged("server.public_urls");
    program.stop();

    let everywhere = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let relay = sotto_relay::Relay::start(everywhere, Config::in_memory());
    let relay = relay.await.unwrap();
    assert_eq!(warnings(&relay.concerns()), 1);
    relay.stop().await.unwrap();
    let relay = start(Config::in_memory()).await;
    assert_eq!(relay.concerns(), [""; 0]);
    relay.stop().await.unwrap();
}

/// The soft limit, often 1,024, is not what counts.
#[test]
fn r_warn_3_as_many_files_are_opened_as_the_system_allows_and_too_few_are_told() {
    let proxied = "server.trusted_proxies = [\"192.0.2.1\"]\n\
        server.public_urls = [\"wss://relay.example\"]";
    for (connections, is_said) in [(300, false), (900, true)] {
        let text = format!("{proxied}\n[limits]\nconnections = {connections}");
        let mut program = Operated::start_with("ulimit -Sn 64; ulimit -Hn 1000", &text);
        program.logged("the relay has started");
        let id = program.child.id();
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let numbers: Vec<_> = files.unwrap().split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers, ["1000", "1000"]);
        program.stop();
        let told = program
            .log
            .iter()
            .filter(|line| line.contains("limits.connections"));
        assert_eq!(told.count(), usize::from(is_said), "{:#?}", program.log);
    }
}

#[tokio::test]
async fn r_reload_1_rules_limits_and_texts_change_while_it_runs() {
    let (member, stranger) = (person(1), person(2));
    let mut program = Operated::start("server.name = \"before\"");
    let mut client = Client::connect(&program.url()).await;
    client.put(&stranger.note("while it is open")).await;
    client.put(&person(9).wrap(&member, "first")).await;
    assert_eq!(document(&program.url()).await["name"], "before");

    let key = member.key().to_hex();
    program.reload(&format!(
        "server.name = \"after\"\n[policy]\nwrite = \"members\"\nmembers = [\"{key}\"]\n\
         wraps_per_recipient = 1\n[limits]\nsubscriptions = 1"
    ));
    program.logged("the configuration was reloaded");
    // Connections that were there go by the new rules too.
    let (accepted, text) = client.publish(&stranger.note("too late")).await;
    assert!(!accepted && text.starts_with("auth-required:"), "{text}");
    let (accepted, text) = client.publish(&person(9).wrap(&member, "second")).await;
    assert!(!accepted && text.starts_with("blocked:"), "{text}");
    let document = document(&program.url()).await;
    assert_eq!(document["name"], "after");
    assert_eq!(document["limitation"]["restricted_writes"], true);
    assert_eq!(document["limitation"]["max_subscriptions"], 1);
    // What one connection may cost holds for new ones.
    let filter = [Filter::default().with_kinds([1])];
    let mut new = Client::connect(&program.url()).await;
    new.ask(&subscription("a"), &filter).await.unwrap();
    let text = new.ask(&subscription("b"), &filter).await.unwrap_err();
    assert!(text.starts_with("rate-limited:"), "{text}");
}

#[tokio::test]
async fn r_reload_2_a_file_that_is_not_in_order_changes_nothing() {
    let (member, stranger) = (person(1), person(2));
    let key = member.key().to_hex();
    let members = format!("[policy]\nwrite = \"members\"\nmembers = [\"{key}\"]");
    let mut program = Operated::start(&members);
    let mut client = Client::connect(&program.url()).await;
    for broken in ["[policy]\nwrite = \"everybody\"", "[policy", "[polizy]"] {
        program.reload(broken);
        let line = program.logged("the configuration was not reloaded");
        assert!(line.contains("ERROR"), "{line}");
        let (accepted, text) = client.publish(&stranger.note(broken)).await;
        assert!(!accepted && text.starts_with("auth-required:"), "{text}");
    }
    // The operator has to find the file: that is no path that somebody asked for.
    std::fs::remove_file(&program.config).unwrap();
    program.signal("-HUP");
    let line = program.logged("the configuration was not reloaded");
    assert!(line.contains("relay.toml"), "{line}");
    program.reload("");
    program.logged("the configuration was reloaded");
    client.put(&stranger.note("open at last")).await;
}

#[tokio::test]
async fn r_reload_4_a_name_given_at_run_time_wins_until_it_is_taken_back() {
    let mut program = Operated::start("server.name = \"before\"");
    let url = program.url();
    let file = RosterFile::open(&program.config.with_file_name("data")).unwrap();
    let give = |name: &str| {
        let rename = |roster: &mut Roster| {
            roster.rename(name);
            Ok::<_, Full>(())
        };
        file.change(rename).unwrap().unwrap();
    };
    let shown = async |name: &str| {
        let until = Instant::now() + PATIENCE;
        while document(&url).await["name"] != name {
            assert!(Instant::now() < until, "{name} is not shown");
        }
    };
    give("The inn");
    shown("The inn").await;
    program.reload("server.name = \"after\"");
    let warning: Value = serde_json::from_str(&program.logged("server.name")).unwrap();
    assert_eq!(warning["schema"], "sotto.warning/1");
    let detail = warning["detail"].as_str().unwrap();
    assert!(
        detail.contains("changerelayname gives an empty one"),
        "{detail}"
    );
    program.logged("the configuration was reloaded");
    shown("The inn").await;
    give("");
    shown("after").await;
}

#[tokio::test]
async fn r_reload_3_what_takes_a_restart_is_named_and_stays() {
    let mut program = Operated::start("server.name = \"before\"");
    program.reload("server.name = \"after\"\nstore.segment_bytes = 100_000");
    let line = program.logged("takes a restart");
    let warning: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(warning["schema"], "sotto.warning/1");
    assert!(warning["detail"].as_str().unwrap().contains("[store]"));
    // The rest of the file is in force all the same.
    program.logged("the configuration was reloaded");
    assert_eq!(document(&program.url()).await["name"], "after");
}
