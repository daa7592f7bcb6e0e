//! Clients behind a reverse proxy, told apart by `X-Forwarded-For`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sotto_relay::addresses::Origin;
use sotto_relay::budget::Rate;
use sotto_relay::config::Clock;
use sotto_relay::forwarded::TrustedProxies;
use sotto_relay::roster::{Full, Roster, RosterFile};
use sotto_relay::{Config, Relay};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{Client, now, person, start};

/// A WebSocket opened with that header, or the status that refuses it.
async fn open(url: &str, forwarded: &str) -> Result<WebSocketStream<TcpStream>, u16> {
    let stream = TcpStream::connect(url.trim_start_matches("ws://"))
        .await
        .unwrap();
    let mut request = url.into_client_request().unwrap();
    let value = forwarded.parse().unwrap();
    request.headers_mut().insert("x-forwarded-for", value);
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

fn two_per_address(trusted: &[&str]) -> Config {
    let mut config = Config::in_memory();
    config.limits.connections_per_address = 2;
    let trusted: Vec<String> = trusted.iter().map(ToString::to_string).collect();
    config.trusted_proxies = TrustedProxies::parse(&trusted).unwrap();
    config
}

#[tokio::test]
async fn r_addr_1_behind_a_trusted_proxy_limits_hold_for_its_clients() {
    let relay = start(two_per_address(&["127.0.0.1"])).await;
    let url = relay.url();
    let first = open(&url, "192.0.2.1").await.unwrap();
    // Whatever the client put before what the proxy added changes nothing.
    let _second = open(&url, "198.51.100.7, 192.0.2.1").await.unwrap();
    assert_eq!(open(&url, "192.0.2.1").await.err(), Some(429));
    assert_eq!(open(&url, "198.51.100.8, 192.0.2.1").await.err(), Some(429));
    assert_eq!(open(&url, "someone").await.err(), Some(400));
    let _other = open(&url, "192.0.2.2").await.unwrap();
    // A household's IPv6 addresses count as one.
    let _a = open(&url, "2001:db8::1").await.unwrap();
    let _b = open(&url, "2001:db8::2").await.unwrap();
    assert_eq!(open(&url, "2001:db8::3").await.err(), Some(429));
    // A place is free again once the relay has noticed that somebody left.
    drop(first);
    while open(&url, "192.0.2.1").await.is_err() {
        tokio::task::yield_now().await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_addr_2_nobody_else_is_believed() {
    for trusted in [&[][..], &["192.0.2.0/24"]] {
        let relay = start(two_per_address(trusted)).await;
        let mut open_at_once = Vec::new();
        for _ in 0..4 {
            // All come from loopback, which is exempt, whatever they say.
            open_at_once.push(open(&relay.url(), "192.0.2.1").await.unwrap());
        }
        relay.stop().await.unwrap();
    }
}

/// A clock that the test sets, and a relay that trusts loopback.
fn behind_a_proxy() -> (Config, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(now()));
    let clock = time.clone();
    let mut config = two_per_address(&["127.0.0.1"]);
    config.limits.connections_per_address = 20;
    config.clock = Clock::new(move || clock.load(Ordering::Relaxed));
    (config, time)
}

async fn connect(relay: &Relay, from: &str) -> Client {
    let socket = open(&relay.url(), from).await.unwrap();
    Client::over(socket, &relay.url()).await
}

fn rate(count: u64, seconds: u64, burst: u64) -> Option<Rate> {
    Some(Rate {
        count,
        seconds,
        burst,
    })
}

#[tokio::test]
async fn r_rate_1_an_address_has_so_many_events_and_so_many_at_once() {
    let (mut config, time) = behind_a_proxy();
    config.limits.events_per_address = rate(6, 60, 3);
    let relay = start(config).await;
    let note = |n: u32| person(1).note(&n.to_string());
    let mut client = connect(&relay, "192.0.2.1").await;
    for n in 0..3 {
        client.put(&note(n)).await;
    }
    let (accepted, text) = client.publish(&note(3)).await;
    assert!(!accepted);
    assert_eq!(
        text,
        "rate-limited: too many events from this address; try again in 10 s"
    );
    // To come again gives nobody more, not even after everybody has left.
    drop(client);
    let mut again = connect(&relay, "192.0.2.1").await;
    assert!(again.publish(&note(3)).await.1.starts_with("rate-limited:"));
    // Others are others, and loopback is exempt.
    let mut other = connect(&relay, "192.0.2.2").await;
    other.put(&note(4)).await;
    let mut local = Client::connect(&relay.url()).await;
    for n in 10..30 {
        local.put(&note(n)).await;
    }
    time.fetch_add(10, Ordering::Relaxed);
    again.put(&note(3)).await;
    assert!(again.publish(&note(5)).await.1.starts_with("rate-limited:"));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_rate_2_an_address_has_so_many_bytes() {
    let (mut config, time) = behind_a_proxy();
    config.limits.bytes_per_address = rate(100_000, 86_400, 10_000);
    let relay = start(config).await;
    let large = |n: u32| person(1).note(&format!("{n}{}", "x".repeat(4_000)));
    let mut client = connect(&relay, "192.0.2.1").await;
    client.put(&large(1)).await;
    client.put(&large(2)).await;
    let (accepted, text) = client.publish(&large(3)).await;
    assert!(
        !accepted && text.starts_with("rate-limited: too many bytes"),
        "{text}"
    );
    client.put(&person(1).note("a small one fits")).await;
    time.fetch_add(3_600, Ordering::Relaxed);
    client.put(&large(3)).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_rate_3_an_address_has_so_many_proofs_and_so_many_wrong_codes() {
    let (mut config, time) = behind_a_proxy();
    config.limits.auth_per_address = rate(3, 60, 3);
    config.limits.wrong_codes_per_address = rate(2, 240, 2);
    let relay = start(config).await;
    let who = person(1);
    let guess = |n: u32| {
        let claim: &[&str] = &["claim", &format!("guess-{n}")];
        who.sign(28934, now(), &[&["-"], claim], "")
    };
    // Right or wrong, each costs the relay a signature.
    let mut client = connect(&relay, "192.0.2.1").await;
    assert!(client.auth(&who).await.0);
    for n in 0..2 {
        assert!(client.publish(&guess(n)).await.1.starts_with("restricted:"));
    }
    let mut other = connect(&relay, "192.0.2.1").await;
    assert!(other.auth(&who).await.0);
    let (accepted, text) = other.publish(&guess(3)).await;
    assert!(
        !accepted && text.starts_with("rate-limited: too many wrong"),
        "{text}"
    );
    assert!(other.auth(&person(2)).await.0);
    let (accepted, text) = other.auth(&person(3)).await;
    assert!(
        !accepted && text.starts_with("rate-limited: too many proofs"),
        "{text}"
    );
    let metrics = relay.metrics();
    assert_eq!(metrics.auth_refused.get().get("auth_rate"), Some(&1));
    assert_eq!(metrics.refused.get().get("auth_rate"), None);
    time.fetch_add(120, Ordering::Relaxed);
    assert!(other.auth(&person(3)).await.0);
    assert!(other.publish(&guess(4)).await.1.starts_with("restricted:"));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_ban_5_a_blocked_address_is_disconnected_and_let_in_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, _) = behind_a_proxy();
    config.storage = Config::on_disk(folder.path()).storage;
    let relay = start(config).await;
    let mut bad = connect(&relay, "2001:db8::1").await;
    let mut good = connect(&relay, "192.0.2.2").await;
    let file = RosterFile::open(folder.path()).unwrap();
    let neighbour = Origin::of("2001:db8::ffff".parse().unwrap()).unwrap();
    let block = |roster: &mut Roster| roster.block(neighbour, "floods", now());
    file.change(block).unwrap().unwrap();
    while bad.try_receive().await.is_some() {}
    assert_eq!(open(&relay.url(), "2001:db8::2").await.err(), Some(403));
    good.put(&person(1).note("undisturbed")).await;
    file.change(|roster| Ok::<_, Full>(roster.unblock(&neighbour)))
        .unwrap()
        .unwrap();
    while open(&relay.url(), "2001:db8::1").await.is_err() {
        tokio::task::yield_now().await;
    }
    relay.stop().await.unwrap();
}
