//! What somebody sees who opens the relay's URL in a browser, and what programs are told.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sotto_relay::Config;
use sotto_relay::config::Raw;
use sotto_relay::settings::Settings;
use wire::{RelayUrl, limits};

use crate::operator::{ask, get};
use crate::support::{person, start};

fn described() -> Config {
    let mut config = Config::in_memory();
    config.about.name = "Harbour & <b>Co</b>".to_owned();
    config.about.description = "For friends.".to_owned();
    config.about.contact = "mailto:keeper@harbour.example".to_owned();
    config.about.pubkey = Some(person(1).key());
    config.urls = vec![RelayUrl::parse("wss://relay.harbour.example").unwrap()];
    config
}

#[tokio::test]
async fn r_page_1_a_person_sees_how_to_connect_and_what_holds() {
    let relay = start(described()).await;
    let address = format!("127.0.0.1:{}", relay.port());
    let (head, html) = get(&address, "/", "Accept: text/html,*/*;q=0.8\r\n").await;
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    let key = person(1).key().to_hex();
    for told in [
        "<html lang=\"en\">",
        "<title>Harbour &amp; &lt;b&gt;Co&lt;/b&gt;</title>",
        "<h1>Harbour &amp; &lt;b&gt;Co&lt;/b&gt;</h1>",
        "For friends.",
        "<code>wss://relay.harbour.example",
        "sotto init --relay wss://relay.harbour.example",
        "Everybody.",
        "2 days 15 minutes old",
        "80 KiB",
        "href=\"mailto:keeper@harbour.example\"",
        &key,
    ] {
        assert!(html.contains(told), "no {told} in {html}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_page_3_a_stranger_is_told_of_invites_where_only_members_have_a_mailbox() {
    use sotto_relay::policy::Writers;
    let closed = [
        Writers::Members([person(1).key()].into()),
        Writers::Recipients([person(1).key()].into()),
    ];
    for writers in closed {
        let mut config = described();
        config.rules.writers = writers;
        let relay = start(config).await;
        let address = format!("127.0.0.1:{}", relay.port());
        let (_, html) = get(&address, "/", "").await;
        assert!(html.contains("asks its operator for an invite"), "{html}");
        let command = "sotto init --relay 'wss://relay.harbour.example#CODE'";
        assert!(html.contains(command), "{html}");
        assert!(!html.contains("sotto init --relay wss"), "{html}");
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_page_4_what_is_said_of_sealed_messages_is_not_said_of_others() {
    const OTHERS: &str = "Other events are not sealed";
    let mut sealed = described();
    sealed.rules.kinds = Some([1059, 21059].into());
    for (config, has_others) in [(described(), true), (sealed, false)] {
        let relay = start(config).await;
        let address = format!("127.0.0.1:{}", relay.port());
        let (_, html) = get(&address, "/", "").await;
        assert!(html.contains("What arrives sealed neither"), "{html}");
        assert_eq!(html.contains(OTHERS), has_others, "{html}");
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_page_2_the_page_runs_and_loads_nothing() {
    let relay = start(described()).await;
    let address = format!("127.0.0.1:{}", relay.port());
    let (head, html) = get(&address, "/", "").await;
    for tag in [
        "<script", "<iframe", "<img", "<form", " src=", "url(", "@import", " style=", " on",
    ] {
        let is_found = match tag {
            // An attribute such as onclick; prose may have the word.
            " on" => html.split('<').any(|tag| {
                let tag = tag.split('>').next().unwrap();
                tag.split(' ')
                    .skip(1)
                    .any(|word| word.starts_with("on") && word.contains('='))
            }),
            tag => html.contains(tag),
        };
        assert!(!is_found, "{tag} in {html}");
    }
    let style = html
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()));
    let policy = format!(
        "content-security-policy: default-src 'none'; style-src 'sha256-{hash}'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    for line in [
        policy.as_str(),
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_url_1_no_address_is_shown_for_which_a_proof_would_be_refused() {
    let everywhere = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let relay = sotto_relay::Relay::start(everywhere, Config::in_memory());
    let relay = relay.await.unwrap();
    let address = format!("127.0.0.1:{}", relay.port());
    let other = format!("Host: 192.0.2.2:{}\r\n", relay.port());
    for (headers, is_shown) in [("", true), (other.as_str(), false)] {
        let (_, html) = match headers {
            "" => get(&address, "/", "").await,
            host => ask(&address, &format!("GET / HTTP/1.1\r\n{host}")).await,
        };
        assert_eq!(html.contains("class=\"address\""), is_shown, "{html}");
        assert_eq!(html.contains("sotto init"), is_shown, "{html}");
        assert_eq!(html.contains("server.public_urls"), !is_shown, "{html}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_info_3_every_limit_that_an_operator_sets_is_told() {
    let mut config = Config::in_memory();
    config.limits.auth_tries = 7;
    config.rules.wraps_per_recipient = None;
    let relay = start(config).await;
    let address = format!("127.0.0.1:{}", relay.port());
    let (_, body) = get(&address, "/", "Accept: application/nostr+json\r\n").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let limitation = &document["limitation"];
    for (name, value) in [
        ("max_event_bytes", json!(81_920)),
        ("max_wrap_age", json!(173_700)),
        ("max_auth_tries", json!(7)),
        ("address_connections", json!(200)),
        (
            "address_events",
            json!({"count": 600, "seconds": 60, "burst": 3_000}),
        ),
        ("header_timeout", json!(5)),
    ] {
        assert_eq!(limitation[name], value, "{name}");
    }
    // No limit is no number.
    assert!(limitation.get("max_wraps_per_recipient").is_none());
    // What the protocol or our own decoders set is told as well.
    for (name, value) in [
        ("max_filter_values", limits::FILTER_VALUES),
        ("max_filter_tags", limits::FILTER_TAGS),
        ("max_filter_value_bytes", limits::FILTER_VALUE_BYTES),
        ("max_negentropy_bytes", limits::NEGENTROPY_BYTES),
        ("max_tag_elements", limits::TAG_ELEMENTS),
        ("max_nesting", limits::NESTING),
        ("max_counts", 4),
        ("max_malformed_messages", 50),
        ("auth_window", 600),
    ] {
        assert_eq!(limitation[name], value, "{name}");
    }
    // A setting that is not in the document was forgotten there. Each number of it is another.
    let mut config = Config::in_memory();
    let told = |config: &Config| {
        let settings = Settings::new(config.clone(), 7447, std::sync::Arc::default());
        sotto_relay::nip11::document(&settings.get())["limitation"].clone()
    };
    let before = told(&config);
    let example = Raw::example();
    let section = example.split("[limits]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let settings = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "));
    for (name, default) in settings {
        let more = default.parse::<u64>().unwrap() + 1;
        let text = format!("[limits]\n{name} = {more}");
        config = Raw::parse(&text).unwrap().check("/data".into()).unwrap();
        // A grace is no limit of what clients do.
        let is_told = told(&config) != before;
        assert_eq!(is_told, name != "grace_s", "{name}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_info_4_the_page_tells_every_limit_and_rule_of_the_document() {
    let mut config = Config::in_memory();
    config.rules.kinds = Some([1059, 10_050].into());
    config.limits.malformed_messages = 31;
    config.limits.counts = 9;
    config.limits.auth_per_address = None;
    let limits = sotto_relay::told::limits(&config);
    let relay = start(config).await;
    let address = format!("127.0.0.1:{}", relay.port());
    let (_, html) = get(&address, "/", "").await;
    let (_, body) = get(&address, "/", "Accept: application/nostr+json\r\n").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(html.matches("<tr>").count(), limits.len());
    for limit in limits {
        assert!(html.contains(limit.of), "{limit:?}");
        assert!(document["limitation"][limit.name] != json!(null));
    }
    for row in [
        "Malformed messages</th><td>31<",
        "Counts at the same time</th><td>9<",
        "Values of one list in a filter</th><td>500<",
        "Largest message of a reconciliation</th><td>58.5 KiB<",
        "How far the time of a proof may be off</th><td>10 minutes<",
        "Only events of these kinds: 1059, 10050.",
    ] {
        assert!(html.contains(row), "no {row} in {html}");
    }
    assert!(!html.contains("Attempts to prove a key from one address"));
    relay.stop().await.unwrap();
}

/// A flood of requests on one connection, sent before the first answer.
#[tokio::test]
async fn r_page_5_a_connection_gets_one_page() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let relay = start(Config::in_memory()).await;
    let address = format!("127.0.0.1:{}", relay.port());
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n".repeat(20);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    // The end may come as a reset, since most of it was never read.
    let _ = stream.read_to_end(&mut answers).await;
    let answers = String::from_utf8_lossy(&answers);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1);
    assert!(answers.to_ascii_lowercase().contains("connection: close"));
    relay.stop().await.unwrap();
}
