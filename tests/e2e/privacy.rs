//! What the wire must not show: everything that relays and file servers saw, looked through.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use client_core::client::{NewCircle, SendRequest};
use client_core::clock::Clock;
use e2e::tap::Seen;
use e2e::world::{Person, World, file_request};
use serde_json::Value;

/// The keys that authenticated on a connection.
fn auths(seen: &Seen) -> BTreeSet<String> {
    let key = |frame: Value| frame[1]["pubkey"].as_str().unwrap().to_owned();
    seen.of("AUTH").into_iter().map(key).collect()
}

fn events(seen: &Seen) -> Vec<Value> {
    seen.of("EVENT")
        .into_iter()
        .map(|frame| frame[1].clone())
        .collect()
}

/// The rules for every single connection of a relay, given the account keys of everybody.
fn check_sockets(seen: &[Seen], accounts: &[&str]) {
    let mut wrap_keys: HashMap<String, String> = HashMap::new();
    for socket in seen {
        let auths = auths(socket);
        let is_account = auths.iter().any(|key| accounts.contains(&key.as_str()));
        assert!(auths.len() <= 1, "one key per connection: {auths:?}");
        let asks = !socket.of("REQ").is_empty();
        for event in events(socket) {
            let author = event["pubkey"].as_str().unwrap();
            let kind = event["kind"].as_u64().unwrap();
            let is_one_time = kind == 5 && !accounts.contains(&author);
            if kind == 1059 || is_one_time {
                assert!(!is_account, "kind {kind} on an account's connection");
                assert!(!asks, "kind {kind} on a connection that asks");
            }
            if kind == 1059 {
                let id = event["id"].as_str().unwrap().to_owned();
                let other = wrap_keys.insert(author.to_owned(), id.clone());
                assert!(
                    other.is_none_or(|other| other == id),
                    "two wraps share a key"
                );
            } else {
                assert!(
                    accounts.contains(&author) || is_one_time,
                    "kind {kind} by neither account nor one-time key"
                );
            }
        }
        check_requests(socket, accounts);
    }
}

fn check_requests(socket: &Seen, accounts: &[&str]) {
    let mut authors = BTreeSet::new();
    let compared = socket.of("NEG-OPEN");
    for opened in &compared {
        let mut keys: Vec<&String> = opened[2].as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["#p", "kinds"], "what is compared: {opened}");
    }
    let compared: Vec<Value> = compared.iter().map(|opened| opened[2].clone()).collect();
    let requests = socket.of("REQ");
    let requests = requests.iter().map(|request| request.as_array().unwrap());
    let filters = requests.flat_map(|request| request.iter().skip(2));
    for filters in [filters.cloned().collect::<Vec<Value>>(), compared.clone()] {
        for filter in &filters {
            assert!(filter.get("since").is_none(), "no since: {filter}");
            if let Some(p) = filter.get("#p") {
                let allowed: &[&str] = match filter.get("ids") {
                    // The relay has named them on this connection.
                    Some(_) if !compared.is_empty() => &["kinds", "#p", "ids", "limit"],
                    _ => &["kinds", "#p", "until", "limit"],
                };
                let fields = filter.as_object().unwrap();
                assert!(
                    fields.keys().all(|key| allowed.contains(&key.as_str())),
                    "{filter}"
                );
                assert_eq!(filter["kinds"], serde_json::json!([1059, 21059]));
                let key = p[0].as_str().unwrap();
                assert!(p.as_array().unwrap().len() == 1 && accounts.contains(&key));
            }
            for author in filter
                .get("authors")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                authors.insert(author.as_str().unwrap().to_owned());
            }
        }
    }
    assert!(
        authors.len() <= 1,
        "a connection that names two authors: {authors:?}"
    );
}

/// Every string of 16 characters or more that the client said.
fn strings(seen: &[Seen]) -> BTreeSet<String> {
    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if text.len() >= 16 => {
                into.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, into)),
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    for socket in seen {
        for text in &socket.sent {
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                collect(&value, &mut all);
            }
        }
    }
    all
}

async fn talk(anna: &Person, ben: &Person, path: &std::path::Path) {
    anna.knows(ben, "ben");
    ben.knows(anna, "anna");
    anna.text("ben", "one").await;
    anna.send(file_request("ben", path)).await;
    ben.sync().await;
    ben.text("anna", "two").await;
    anna.sync().await;
    let mut vanishing = SendRequest::text("ben", "three");
    vanishing.expire_s = Some(120);
    let regretted = anna.send(vanishing).await;
    let mut client = anna.client();
    assert!(
        client
            .delete(&regretted.id, true)
            .await
            .unwrap()
            .error
            .is_none()
    );
    client.close().await;
    ben.sync().await;
    anna.sync().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_say_nothing_about_each_other() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let anna = world.person("anna", &[&relay], &[&files]).await;
    let ben = world.person("ben", &[&relay], &[&files]).await;
    let path = world.folder().join("same.bin");
    std::fs::write(&path, vec![7; 40_000]).unwrap();
    talk(&anna, &ben, &path).await;
    let seen = relay.tap.seen();
    check_sockets(&seen, &[anna.key(), ben.key()]);
    let wraps = seen
        .iter()
        .map(|socket| socket.published(1059).len())
        .sum::<usize>();
    assert!(wraps >= 8, "the test saw too little: {wraps} wraps");
    let deletions = seen
        .iter()
        .map(|socket| socket.published(5).len())
        .sum::<usize>();
    assert!(deletions >= 2, "the test saw no deletions");
    for socket in &seen {
        let head = socket.head.to_ascii_lowercase();
        for word in ["cookie", "referer", "origin:", "sec-websocket-extensions"] {
            assert!(!head.contains(word), "{word} in {head}");
        }
    }
    let agents: BTreeSet<String> = seen
        .iter()
        .flat_map(|socket| socket.head.lines())
        .filter(|line| line.to_ascii_lowercase().starts_with("user-agent"))
        .map(str::to_owned)
        .collect();
    assert!(agents.len() <= 1, "{agents:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_sent_twice_makes_two_blobs_under_two_keys_and_no_account_key() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    let path = world.folder().join("same.bin");
    std::fs::write(&path, vec![7; 40_000]).unwrap();
    let sent = [anna.file("ben", &path).await, anna.file("ben", &path).await];
    ben.sync().await;
    for sent in &sent {
        ben.fetch(&sent.id, world.folder()).await.unwrap();
    }
    let mut client = anna.client();
    assert!(
        client
            .delete(&sent[0].id, true)
            .await
            .unwrap()
            .error
            .is_none()
    );
    client.close().await;

    let mut uploads = BTreeMap::new();
    for transfer in files.tap.seen() {
        let all = format!(
            "{}{}{}",
            transfer.head,
            transfer.sent.concat(),
            transfer.received.concat()
        );
        assert!(
            !all.contains(anna.key()) && !all.contains(ben.key()),
            "an account key"
        );
        let head = transfer.head.to_ascii_lowercase();
        assert!(!head.contains("cookie") && !head.contains("referer"));
        let line = transfer
            .head
            .lines()
            .find(|l| l.to_ascii_lowercase().starts_with("authorization"));
        let Some(line) = line else {
            assert!(!transfer.head.starts_with("PUT") && !transfer.head.starts_with("DELETE"));
            continue;
        };
        assert!(!transfer.head.starts_with("GET"), "a GET is never signed");
        let token = line.rsplit(' ').next().unwrap().trim();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token)
            .unwrap();
        let token: Value = serde_json::from_slice(&json).unwrap();
        assert_ne!(token["pubkey"], anna.key());
        assert_ne!(token["pubkey"], ben.key());
        if transfer.head.starts_with("PUT") {
            let tags = token["tags"].as_array().unwrap();
            let blob = tags.iter().find(|tag| tag[0] == "x").unwrap()[1].clone();
            let key = token["pubkey"].as_str().unwrap().to_owned();
            assert!(
                uploads.insert(key, blob).is_none(),
                "two uploads under one key"
            );
        }
    }
    let blobs: BTreeSet<String> = uploads.values().map(Value::to_string).collect();
    assert_eq!((uploads.len(), blobs.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_circles_share_nothing_that_a_relay_could_match() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let anna = world.person("anna", &[&relay], &[&files]).await;
    let ben = world.person("ben", &[&relay], &[&files]).await;
    let cleo = world.person("cleo", &[&relay], &[&files]).await;
    let path = world.folder().join("same.bin");
    std::fs::write(&path, vec![7; 40_000]).unwrap();
    // The worst case: both circles on one relay and one file server, and the same file.
    let work = NewCircle {
        name: "work".into(),
        relays: vec![relay.url()],
        invites: Vec::new(),
        file_servers: vec![files.origin()],
        expire_s: None,
    };
    let before_work = relay.tap.seen().len();
    assert!(
        anna.client()
            .create_circle(work)
            .await
            .unwrap()
            .error
            .is_none()
    );
    anna.circle("work")
        .add_contact(&cleo.invite(), Some("cleo"))
        .unwrap();
    let mut client = anna.circle("work");
    let key = client.account().unwrap().pubkey;
    assert!(
        client
            .send(SendRequest::text("cleo", "at work"))
            .await
            .unwrap()
            .error
            .is_none()
    );
    assert!(
        client
            .send(file_request("cleo", &path))
            .await
            .unwrap()
            .error
            .is_none()
    );
    assert!(client.sync().await.unwrap().error.is_none());
    client.close().await;
    let after_work = relay.tap.seen().len();
    let files_of_work = files.tap.seen().len();
    anna.knows(&ben, "ben");
    anna.text("ben", "at home").await;
    anna.send(file_request("ben", &path)).await;
    anna.sync().await;

    let seen = relay.tap.seen();
    let at_work = strings(&seen[before_work..after_work]);
    let at_home = strings(&seen[after_work..]);
    assert!(
        at_work.contains(&key) && at_home.contains(anna.key()),
        "the test saw too little"
    );
    assert!(
        !at_work.contains(anna.key()),
        "a command touches only its own circle"
    );
    let own_url = relay.tap.url();
    let shared: Vec<_> = at_work
        .intersection(&at_home)
        .filter(|text| **text != own_url)
        .collect();
    let shared: Vec<_> = shared
        .into_iter()
        .filter(|text| !files.tap.url().contains(*text))
        .collect();
    assert!(shared.is_empty(), "both circles said {shared:?}");
    let transfers = files.tap.seen();
    let hashes = |transfers: &[Seen]| -> BTreeSet<String> {
        transfers
            .iter()
            .flat_map(|transfer| {
                let words = transfer
                    .head
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
                words
                    .filter(|word| word.len() >= 40)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (work, home) = (
        hashes(&transfers[..files_of_work]),
        hashes(&transfers[files_of_work..]),
    );
    assert!(!work.is_empty() && !home.is_empty());
    assert_eq!(
        work.intersection(&home).count(),
        0,
        "two circles share a blob or token"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_outside_the_lists_is_dialled() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    // Two servers that wait to be called: a stranger names them in a file message and as the
    // relay of a receipt's sender.
    let trap_files = world.files("trap").await;
    let trap_relay = world.relay("trap").await;
    let ben = world.person("ben", &[&relay], &[]).await;
    let mallory = e2e::raw::account();
    let to = wire::PublicKey::from_hex(ben.key()).unwrap();
    let now = world.clock.now();
    let hash = "ab".repeat(32);
    let file = wire::Rumor::new(wire::EventDraft {
        pubkey: mallory.public_key(),
        created_at: now,
        kind: wire::kinds::FILE,
        tags: wire::Tags::from_iter([
            wire::Tag::new(["p".to_owned(), to.to_hex()]),
            wire::Tag::new(["file-type", "image/jpeg"]),
            wire::Tag::new(["encryption-algorithm", "aes-gcm"]),
            wire::Tag::new(["decryption-key", &hash]),
            wire::Tag::new(["decryption-nonce", hash.get(..24).unwrap()]),
            wire::Tag::new(["x", &hash]),
            wire::Tag::new(["thumb", &format!("{}/{hash}", trap_files.tap.url())]),
        ]),
        content: format!("{}/{hash}", trap_files.tap.url()),
    });
    let inbox_list = mallory.sign(
        wire::EventDraft {
            pubkey: mallory.public_key(),
            created_at: now,
            kind: wire::kinds::INBOX_RELAYS,
            tags: wire::Tags::from_iter([wire::Tag::new(["relay", &trap_relay.tap.url()])]),
            content: String::new(),
        },
        &mut e2e::raw::rng(),
    );
    let mut raw = e2e::raw::RawClient::connect(&relay.url()).await;
    assert!(raw.publish(&inbox_list).await.0);
    assert!(
        raw.publish(&e2e::raw::sealed(&mallory, &to, &file, now))
            .await
            .0
    );
    ben.sync().await;
    let messages = ben.messages(&mallory.public_key().to_hex());
    assert_eq!(messages.len(), 1);
    assert!(messages[0].request);
    let error = ben
        .fetch(&messages[0].id, world.folder())
        .await
        .unwrap_err();
    assert_eq!(
        error.exit, 10,
        "a stranger's file is not fetched: {error:?}"
    );
    ben.sync().await;
    assert!(
        trap_files.tap.seen().is_empty(),
        "a stranger chose a host to be dialled"
    );
    assert!(
        trap_relay.tap.seen().is_empty(),
        "a stranger chose a relay to be dialled"
    );
}
