//! The management API (NIP-86) behind proofs of keys (NIP-98), over real sockets.

use std::path::Path;

use serde_json::{Value, json};
use sotto_relay::budget::Rate;
use sotto_relay::config::{IndexEngine, Storage};
use sotto_relay::forwarded::TrustedProxies;
use sotto_relay::policy::Writers;
use sotto_relay::{Config, Relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::{Event, Filter, HttpAuth};

use crate::files::{self, holding, traces};
use crate::operator::{ask, get};
use crate::support::{Client, PATIENCE, Person, now, person, start};

fn managed(folder: &Path, admins: &[&Person]) -> Config {
    managed_with(IndexEngine::Runs, folder, admins)
}

fn managed_with(engine: IndexEngine, folder: &Path, admins: &[&Person]) -> Config {
    let mut config = files::config(folder, engine);
    config.admins = admins.iter().map(|admin| admin.key()).collect();
    config.urls = vec!["wss://relay.example/inbox".parse().unwrap()];
    config
}

/// Sends a request with these headers; status, head and body of the answer.
async fn http(relay: &Relay, method: &str, headers: &str, body: &[u8]) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    let head = format!(
        "{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The relay may answer before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        head.to_lowercase(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

fn proof(who: &Person, url: &str, method: &str, body: &[u8], at: u64) -> Event {
    let draft = HttpAuth::draft(who.key(), url, method, body, at);
    let tags: Vec<Vec<&str>> = draft
        .tags
        .iter()
        .map(|tag| tag.elements().iter().map(String::as_str).collect())
        .collect();
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    who.sign(draft.kind, at, &tags, "")
}

const TYPE: &str = "Content-Type: application/nostr+json+rpc\r\n";

async fn with(relay: &Relay, proof: &Event, body: &[u8]) -> (u16, String, Value) {
    let header = HttpAuth::header(proof);
    http(
        relay,
        "POST",
        &format!("{TYPE}Authorization: {header}\r\n"),
        body,
    )
    .await
}

/// Calls a method as `who`; the result or the error.
async fn call(relay: &Relay, who: &Person, method: &str, params: Value) -> Result<Value, String> {
    // No two requests are alike, so no two proofs are.
    static SALT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let salt = SALT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let body = json!({"method": method, "params": params, "salt": salt}).to_string();
    let proof = proof(who, &relay.url(), "POST", body.as_bytes(), now());
    let (status, head, answer) = with(relay, &proof, body.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        head.contains("content-type: application/nostr+json+rpc"),
        "{head}"
    );
    match answer.get("error") {
        Some(error) => Err(error.as_str().unwrap().to_owned()),
        None => Ok(answer["result"].clone()),
    }
}

#[tokio::test]
async fn r_mgmt_1_without_administrators_there_is_no_api() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(managed(folder.path(), &[])).await;
    let body = b"{\"method\":\"supportedmethods\",\"params\":[]}";
    let proof = proof(&person(1), &relay.url(), "POST", body, now());
    assert_eq!(with(&relay, &proof, body).await.0, 404);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_mgmt_2_a_request_is_proven_by_an_administrator_for_itself_once() {
    let folder = tempfile::tempdir().unwrap();
    let admin = person(1);
    let relay = start(managed(folder.path(), &[&admin])).await;
    let url = relay.url();
    let body: &[u8] = b"{\"method\":\"supportedmethods\",\"params\":[]}";
    let good = |at| proof(&admin, &url, "POST", body, at);

    assert_eq!(http(&relay, "POST", TYPE, body).await.0, 401);
    for header in [
        "Authorization: Nostr\r\n".to_owned(),
        "Authorization: Nostr bm9wZQ==\r\n".to_owned(),
        format!(
            "Authorization: Bearer {}\r\n",
            HttpAuth::header(&good(now()))
        ),
        format!("Authorization: Nostr {}\r\n", "A".repeat(7_000)),
        // Two proofs are none.
        format!("Authorization: {}\r\n", HttpAuth::header(&good(now()))).repeat(2),
    ] {
        let (status, _, answer) = http(&relay, "POST", &format!("{TYPE}{header}"), body).await;
        assert_eq!(status, 401, "{answer}");
    }
    let of_kind = |kind| {
        let payload = HttpAuth::draft(admin.key(), &url, "POST", body, 0);
        let payload = payload.tags.value("payload").unwrap().to_owned();
        let tags: [&[&str]; 3] = [&["u", &url], &["method", "POST"], &["payload", &payload]];
        admin.sign(kind, now(), &tags, "")
    };
    let tags = |tags: &[&[&str]]| admin.sign(27235, now(), tags, "");
    // All is as it should be, but for one tag more.
    let and = |name: &str, value: &str| {
        let payload = HttpAuth::draft(admin.key(), &url, "POST", body, 0);
        let payload = payload.tags.value("payload").unwrap().to_owned();
        tags(&[
            &["u", &url],
            &["method", "POST"],
            &["payload", &payload],
            &[name, value],
        ])
    };
    for (what, event) in [
        ("an AUTH event", of_kind(22242)),
        ("old", good(now() - 70)),
        ("ahead", good(now() + 70)),
        (
            "another relay",
            proof(&admin, "wss://other.example", "POST", body, now()),
        ),
        (
            "another port",
            proof(&admin, "ws://127.0.0.1:1", "POST", body, now()),
        ),
        ("another method", proof(&admin, &url, "GET", body, now())),
        ("another body", proof(&admin, &url, "POST", b"{}", now())),
        ("no payload", tags(&[&["u", &url], &["method", "POST"]])),
        ("nothing", tags(&[])),
        ("two addresses", and("u", "wss://other.example")),
        ("two methods", and("method", "GET")),
        ("two bodies", and("payload", "00")),
    ] {
        assert_eq!(with(&relay, &event, body).await.0, 401, "{what}");
    }
    let stranger = proof(&person(2), &url, "POST", body, now());
    assert_eq!(with(&relay, &stranger, body).await.0, 403);
    let forged = String::from_utf8(stranger.json().to_vec()).unwrap();
    let forged = forged.replace(&person(2).key().to_hex(), &admin.key().to_hex());
    let forged = Event::decode(forged.into_bytes().into()).unwrap();
    assert_eq!(with(&relay, &forged, body).await.0, 401);

    // Each of the relay's names will do, as clients and as browsers write them.
    let port = relay.port();
    for url in [
        format!("ws://127.0.0.1:{port}"),
        format!("http://localhost:{port}/"),
        "wss://relay.example/inbox".to_owned(),
        "https://relay.example/inbox/".to_owned(),
    ] {
        let event = proof(&admin, &url, "POST", body, now());
        let (status, _, answer) = with(&relay, &event, body).await;
        assert_eq!(status, 200, "{url}: {answer}");
        assert!(
            answer["result"]
                .as_array()
                .unwrap()
                .contains(&"banpubkey".into())
        );
        // To look again is no change: whoever does it within a second has no other proof.
        assert_eq!(with(&relay, &event, body).await.0, 200, "{url}");
    }
    // A change counts once, and cannot undo what came after it.
    let key = person(3).key().to_hex();
    let change = |method: &str| {
        let body = json!({"method": method, "params": [key]}).to_string();
        (proof(&admin, &url, "POST", body.as_bytes(), now()), body)
    };
    let (ban, ban_body) = change("banpubkey");
    let (unban, unban_body) = change("unbanpubkey");
    assert_eq!(with(&relay, &ban, ban_body.as_bytes()).await.0, 200);
    assert_eq!(with(&relay, &unban, unban_body.as_bytes()).await.0, 200);
    assert_eq!(with(&relay, &ban, ban_body.as_bytes()).await.0, 401);
    let banned = call(&relay, &admin, "listbannedpubkeys", json!([])).await;
    assert_eq!(banned, Ok(json!([])));
    let large = vec![b' '; 70_000];
    let event = proof(&admin, &url, "POST", &large, now());
    assert_eq!(with(&relay, &event, &large).await.0, 413);
    for bad in [&b"nonsense"[..], b"[]", b"{}", b"{\"method\":1}"] {
        let event = proof(&admin, &url, "POST", bad, now());
        assert_eq!(with(&relay, &event, bad).await.0, 400);
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_mgmt_3_every_method_does_what_nip_86_says() {
    let folder = tempfile::tempdir().unwrap();
    let (admin, alice) = (person(1), person(2));
    let relay = start(managed(folder.path(), &[&admin])).await;
    let key = alice.key().to_hex();
    let note = alice.note("to be banned");
    let id = note.id().to_hex();
    let ok = |method: &'static str, params: Value| {
        let (relay, admin) = (&relay, &admin);
        async move { call(relay, admin, method, params).await.unwrap() }
    };
    let mut client = Client::connect(&relay.url()).await;
    client.put(&note).await;

    assert_eq!(ok("banpubkey", json!([key, "spam"])).await, true);
    let banned = ok("listbannedpubkeys", json!([])).await;
    assert_eq!(banned, json!([{"pubkey": key, "reason": "spam"}]));
    ok("banpubkey", json!([key])).await;
    let banned = ok("listbannedpubkeys", json!([])).await;
    assert_eq!(banned, json!([{"pubkey": key, "reason": "spam"}]));
    assert!(
        client
            .publish(&alice.note("x"))
            .await
            .1
            .starts_with("blocked:")
    );
    // To allow lifts the ban, and to ban takes from the allowed.
    assert_eq!(ok("allowpubkey", json!([key])).await, true);
    assert_eq!(ok("listbannedpubkeys", json!([])).await, json!([]));
    let allowed = ok("listallowedpubkeys", json!([])).await;
    assert_eq!(allowed, json!([{"pubkey": key, "reason": ""}]));
    client.put(&alice.note("y")).await;
    ok("banpubkey", json!([key])).await;
    assert_eq!(ok("listallowedpubkeys", json!([])).await, json!([]));
    ok("unbanpubkey", json!([key])).await;
    ok("allowpubkey", json!([key])).await;
    ok("unallowpubkey", json!([key])).await;
    assert_eq!(ok("listallowedpubkeys", json!([])).await, json!([]));

    assert_eq!(ok("banevent", json!([id, "why"])).await, true);
    // When the answer is there, the event is gone.
    let notes = Filter::default().with_ids([note.id()]).with_kinds([1]);
    assert!(client.fetch(notes).await.unwrap().is_empty());
    assert!(holding(folder.path(), note.content().as_bytes()).is_empty());
    let banned = ok("listbannedevents", json!([])).await;
    assert_eq!(banned, json!([{"id": id, "reason": "why"}]));
    assert!(client.publish(&note).await.1.starts_with("blocked:"));
    ok("allowevent", json!([id])).await;
    assert_eq!(ok("listbannedevents", json!([])).await, json!([]));
    assert_eq!(
        ok("listallowedevents", json!([])).await,
        json!([{"id": id, "reason": ""}])
    );
    ok("unallowevent", json!([id])).await;
    assert_eq!(ok("listallowedevents", json!([])).await, json!([]));
    ok("banevent", json!([id])).await;
    ok("unbanevent", json!([id])).await;
    client.put(&note).await;

    ok("disallowkind", json!([7])).await;
    assert_eq!(ok("listdisallowedkinds", json!([])).await, json!([7]));
    let reaction = alice.sign(7, now(), &[], "+");
    assert!(client.publish(&reaction).await.1.starts_with("blocked:"));
    ok("allowkind", json!([7])).await;
    assert_eq!(ok("listdisallowedkinds", json!([])).await, json!([]));
    assert_eq!(ok("listallowedkinds", json!([])).await, json!([7]));
    client.put(&reaction).await;

    ok("blockip", json!(["192.0.2.1", "floods"])).await;
    ok("blockip", json!(["2001:db8::7"])).await;
    let blocked = ok("listblockedips", json!([])).await;
    let wanted = json!([
        {"ip": "192.0.2.1", "reason": "floods"},
        {"ip": "2001:db8::", "reason": ""},
    ]);
    assert_eq!(blocked, wanted);
    ok("unblockip", json!(["192.0.2.1"])).await;
    ok("unblockip", json!(["2001:db8::"])).await;
    assert_eq!(ok("listblockedips", json!([])).await, json!([]));

    ok("changerelayname", json!(["The inn"])).await;
    ok("changerelaydescription", json!(["Rooms for messages"])).await;
    let (_, head, document) = http(&relay, "GET", "Accept: application/nostr+json\r\n", b"").await;
    assert_eq!(document["name"], "The inn");
    assert_eq!(document["description"], "Rooms for messages");
    assert!(
        document["supported_nips"]
            .as_array()
            .unwrap()
            .contains(&86.into())
    );
    assert!(
        head.contains("access-control-allow-methods: get, post, options"),
        "{head}"
    );
    ok("changerelayname", json!([""])).await;

    for (method, params) in [
        ("banpubkey", json!([])),
        ("banpubkey", json!(["x"])),
        ("banpubkey", json!([7])),
        ("banevent", json!([key.to_uppercase()])),
        ("allowkind", json!([65_536])),
        ("allowkind", json!(["7"])),
        ("blockip", json!(["127.0.0.1"])),
        ("blockip", json!(["everybody"])),
        ("changerelayname", json!([])),
        ("createrole", json!(["x"])),
        ("", json!([])),
    ] {
        let refused = call(&relay, &admin, method, params.clone()).await;
        assert!(refused.is_err(), "{method} {params}: {refused:?}");
    }
    // Every method that is listed is there, and no other name is.
    for method in ok("supportedmethods", json!([])).await.as_array().unwrap() {
        let answer = call(&relay, &admin, method.as_str().unwrap(), json!([])).await;
        assert!(
            !answer.is_err_and(|why| why.contains("no such method")),
            "{method}"
        );
    }
    relay.stop().await.unwrap();

    // What was decided holds after a restart.
    let relay = start(managed(folder.path(), &[&admin])).await;
    let (_, _, document) = http(&relay, "GET", "Accept: application/nostr+json\r\n", b"").await;
    assert_eq!(document["name"], "Sotto relay");
    assert_eq!(document["description"], "Rooms for messages");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_mgmt_3_what_the_configuration_lists_is_told_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (admin, alice, bob) = (person(1), person(2), person(3));
    let mut config = managed(folder.path(), &[&admin]);
    config.rules.writers = Writers::Members([alice.key()].into());
    config.rules.kinds = Some([1, 7].into());
    let relay = start(config).await;
    let (alice_key, bob_key) = (alice.key().to_hex(), bob.key().to_hex());
    let ok = |method: &'static str, params: Value| {
        let (relay, admin) = (&relay, &admin);
        async move { call(relay, admin, method, params).await.unwrap() }
    };
    let refused = call(&relay, &admin, "unallowpubkey", json!([alice_key])).await;
    assert!(refused.unwrap_err().contains("configuration"));
    ok("allowpubkey", json!([bob_key, "a guest"])).await;
    let wanted = json!([
        {"pubkey": alice_key, "reason": "configuration"},
        {"pubkey": bob_key, "reason": "a guest"},
    ]);
    assert_eq!(ok("listallowedpubkeys", json!([])).await, wanted);
    // A ban goes before the configuration, and ends a membership for good.
    for who in [&alice, &bob] {
        let key = who.key().to_hex();
        Client::connect_as(&relay.url(), who)
            .await
            .put(&who.note("in"))
            .await;
        ok("banpubkey", json!([key])).await;
        let mut client = Client::connect(&relay.url()).await;
        assert!(!client.auth(who).await.0);
        ok("unbanpubkey", json!([key])).await;
    }
    let wanted = json!([{"pubkey": alice_key, "reason": "configuration"}]);
    assert_eq!(ok("listallowedpubkeys", json!([])).await, wanted);

    ok("allowkind", json!([1059])).await;
    // One that is taken already stands there once.
    ok("allowkind", json!([1])).await;
    ok("disallowkind", json!([7])).await;
    assert_eq!(ok("listallowedkinds", json!([])).await, json!([1, 1059]));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_rate_3_whoever_asks_to_manage_has_so_many_tries_right_or_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = managed(folder.path(), &[&person(1)]);
    config.trusted_proxies = TrustedProxies::parse(&["127.0.0.1".to_owned()]).unwrap();
    config.limits.auth_per_address = Some(Rate {
        count: 3,
        seconds: 3_600,
        burst: 3,
    });
    let relay = start(config).await;
    let try_from = async |address: &str| {
        let headers = format!("{TYPE}X-Forwarded-For: {address}\r\n");
        http(&relay, "POST", &headers, b"{}").await.0
    };
    for wanted in [401, 401, 401, 429, 429] {
        assert_eq!(try_from("192.0.2.1").await, wanted);
    }
    assert_eq!(try_from("192.0.2.2").await, 401);
    relay.stop().await.unwrap();
}

/// Every trace of the event is in no file; its id may be where the operator's list is.
fn is_gone(folder: &Path, event: &Event, is_listed: bool) {
    for (what, needle) in traces(event) {
        let mut holding = holding(folder, &needle);
        let is_id = is_listed && what == "id as text";
        holding.retain(|path| !(is_id && path.ends_with("roster.json")));
        assert!(holding.is_empty(), "{what} is still in {holding:?}");
    }
}

#[tokio::test]
async fn r_gone_6_a_banned_event_is_in_no_byte_of_any_file() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let (admin, alice, to) = (person(1), person(2), person(3));
        let config = || managed_with(engine, folder.path(), &[&admin]);
        let relay = start(config()).await;
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let banned = [
            person(4).note("words that the operator wants nowhere"),
            person(5).wrap(&to, "an envelope that the operator wants nowhere"),
            person(6).sign(0, now(), &[], "a profile that the operator wants nowhere"),
            person(7).sign(30_078, now(), &[&["d", "x"]], "an address that goes"),
        ];
        // Somebody who is banned writes nothing more; what others and they wrote stays.
        let kept = [
            alice.note("of somebody who is banned"),
            person(8).wrap(&to, "waits"),
        ];
        for event in banned.iter().chain(&kept) {
            client.put(event).await;
            let there = |what: &str| {
                let mut traces = traces(event).into_iter();
                let (_, needle) = traces.find(|(name, _)| *name == what).unwrap();
                !holding(folder.path(), &needle).is_empty()
            };
            assert!(there("id as text") && there("signature as text") && there("content"));
        }
        let key = alice.key().to_hex();
        call(&relay, &admin, "banpubkey", json!([key]))
            .await
            .unwrap();
        for event in &banned {
            let params = json!([event.id().to_hex(), "unwanted"]);
            call(&relay, &admin, "banevent", params).await.unwrap();
            // The answer comes after the zeros were synced.
            is_gone(folder.path(), event, true);
        }
        for event in &kept {
            assert!(!holding(folder.path(), event.content().as_bytes()).is_empty());
        }
        relay.stop().await.unwrap();
        let relay = start(config()).await;
        for event in &banned {
            is_gone(folder.path(), event, true);
            // Off the list, not even the id is left.
            let params = json!([event.id().to_hex()]);
            call(&relay, &admin, "unbanevent", params).await.unwrap();
            is_gone(folder.path(), event, false);
        }
        relay.stop().await.unwrap();
        drop(files::open(folder.path(), engine));
        for event in &banned {
            is_gone(folder.path(), event, false);
        }
        for event in &kept {
            assert!(!holding(folder.path(), event.content().as_bytes()).is_empty());
        }
    }
}

/// The log's next segment cannot be made, so nothing can be written of the erasure.
#[tokio::test]
async fn r_ban_2_a_ban_that_was_not_carried_out_is_an_error_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (admin, alice) = (person(1), person(2));
    let mut config = managed(folder.path(), &[&admin]);
    let Storage::Disk { segment_bytes, .. } = &mut config.storage else {
        unreachable!()
    };
    *segment_bytes = 100;
    let relay = start(config).await;
    let in_the_way = folder.path().join("log/00000002.seg");
    std::fs::write(&in_the_way, b"").unwrap();
    let note = alice.note("words that the operator wants nowhere");
    let mut client = Client::connect(&relay.url()).await;
    client.put(&note).await;
    let is_gone = || holding(folder.path(), note.content().as_bytes()).is_empty();
    let ban = json!([note.id().to_hex(), "why"]);
    for _ in 0..2 {
        let answer = call(&relay, &admin, "banevent", ban.clone()).await;
        assert!(
            answer
                .as_ref()
                .is_err_and(|why| why.contains("tries again")),
            "{answer:?}"
        );
        assert!(!is_gone());
    }
    // Whatever else is changed meanwhile is in force.
    call(&relay, &admin, "allowkind", json!([7])).await.unwrap();
    std::fs::remove_file(&in_the_way).unwrap();
    let begun = std::time::Instant::now();
    while !is_gone() {
        assert!(begun.elapsed() < PATIENCE, "it was not tried again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    call(&relay, &admin, "banevent", ban).await.unwrap();
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_mgmt_4_a_page_of_any_origin_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(managed(folder.path(), &[&person(1)])).await;
    let headers = "Origin: https://tool.example\r\nAccess-Control-Request-Method: POST\r\n\
                   Access-Control-Request-Headers: authorization, content-type\r\n";
    let (status, head, _) = http(&relay, "OPTIONS", headers, b"").await;
    assert_eq!(status, 204);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    // A star alone would leave this one out.
    assert!(head.contains("authorization"), "{head}");
    let (status, head, _) = http(&relay, "POST", TYPE, b"{}").await;
    assert_eq!(status, 401);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_path_1_the_relay_is_at_its_own_paths_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(managed(folder.path(), &[])).await;
    for (path, is_here) in [
        ("", true),
        ("/", true),
        ("/inbox", true),
        ("/inbox/", true),
        ("/other", false),
        ("/inbox/further", false),
    ] {
        let url = format!("{}{path}", relay.url());
        let stream = TcpStream::connect(("127.0.0.1", relay.port()))
            .await
            .unwrap();
        let opened = tokio_tungstenite::client_async(&url, stream).await;
        assert_eq!(opened.is_ok(), is_here, "{path}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_path_2_at_another_path_is_nothing_and_other_methods_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(managed(folder.path(), &[])).await;
    let address = format!("127.0.0.1:{}", relay.port());
    for path in ["/other", "/favicon.ico", "/metrics", "/inbox/further"] {
        for accept in ["text/html", "application/nostr+json"] {
            let headers = format!("Accept: {accept}\r\n");
            let (head, body) = get(&address, path, &headers).await;
            assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
            assert!(body.contains("server.public_urls"), "{path}: {body}");
        }
    }
    for path in ["/", "/inbox", "/inbox/"] {
        let (head, _) = get(&address, path, "").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    }
    for method in ["PUT", "DELETE", "PATCH", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: {address}\r\n");
        let (head, body) = ask(&address, &request).await;
        assert!(head.starts_with("HTTP/1.1 405 "), "{method}: {head}");
        assert!(head.contains("allow: GET, HEAD, POST, OPTIONS"), "{head}");
        assert!(!body.contains('<'), "{method}: {body}");
    }
    let request = format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n");
    let (head, body) = ask(&address, &request).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "");
    relay.stop().await.unwrap();
}
