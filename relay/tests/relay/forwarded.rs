//! Clients behind a reverse proxy, told apart by `X-Forwarded-For`.

use sotto_relay::Config;
use sotto_relay::forwarded::TrustedProxies;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::start;

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
