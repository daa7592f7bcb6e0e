//! What somebody sees who opens the relay's URL in a browser, and what programs are told.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sotto_relay::Config;
use wire::RelayUrl;

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
    let (head, html) = get(&address, "/any/path", "Accept: text/html,*/*;q=0.8\r\n").await;
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
    // A setting that is not in the document was forgotten there.
    let example = sotto_relay::config::Raw::example();
    let limits = example
        .split("[limits]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let settings = limits
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(" = "));
    // Of a rate two settings are one entry; a grace is no limit of what clients do.
    let of_rates = 1;
    let not_told = 1;
    let policies = [
        "max_event_bytes",
        "max_wrap_age",
        "max_wrap_bytes_per_recipient",
    ];
    let standard = [
        "max_message_length",
        "max_content_length",
        "max_event_tags",
        "max_filters",
        "default_limit",
        "max_subid_length",
        "min_pow_difficulty",
        "auth_required",
        "payment_required",
        "restricted_writes",
        "created_at_upper_limit",
    ];
    let told = limitation.as_object().unwrap().len();
    assert_eq!(
        settings.count() - of_rates - not_told,
        told - policies.len() - standard.len(),
        "{limitation:#} {limits}"
    );
    relay.stop().await.unwrap();
}
