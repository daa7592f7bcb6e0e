//! `check URL`: what a running relay does, seen from outside, with keys made for the purpose.
//!
//! Everything it publishes is addressed to such keys, expires, and is deleted by the check.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sotto_relay::tls::validity_of;
use wire::relay_url::Reach;
use wire::{Filter, Reason, RelayUrl, Tag, kinds};

use super::peer::{Key, Peer, certificate, dial, now, shown, within};
use super::{Failure, Say, Word};

/// Bytes of a NIP-11 document that are read.
const DOCUMENT_BYTES: usize = 64 * 1024;
/// Bytes of the largest event that is tried.
const LARGEST_TRIED: usize = 1024 * 1024;

/// Runs every check; 0 all well, 3 unreachable, 5 something failed.
pub fn check(say: &Say, url: &str, timeout: Duration) -> Result<ExitCode, Failure> {
    let url = RelayUrl::parse(url).map_err(|error| Failure::new(Word::Usage, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(Report::of(&url, timeout))?;
    let ok = report.0.iter().all(|check| check.ok);
    let checks: Vec<Value> = report
        .0
        .iter()
        .map(|check| {
            let Check {
                name,
                ok,
                detail,
                fix,
            } = check;
            json!({"name": name, "ok": ok, "detail": detail, "fix": fix})
        })
        .collect();
    let object = json!({
        "schema": "sotto.relay/1",
        "url": url.as_str(),
        "ok": ok,
        "checks": checks,
    });
    let lines: Vec<String> = report
        .0
        .iter()
        .map(|check| {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            let fix = match check.fix {
                "" => String::new(),
                fix => format!("\n     fix: {fix}"),
            };
            format!("{mark} {}: {}{fix}", check.name, check.detail)
        })
        .collect();
    say.out(&object, &lines.join("\n"));
    match report.0.iter().filter(|check| !check.ok).count() {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::new(
            Word::PartlyDone,
            format!("{failed} checks failed"),
        )),
    }
}

struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// What the operator can do; empty where all is well.
    fix: &'static str,
}

struct Report(Vec<Check>);

/// What a step found, or why it could not be carried out.
type Found = Result<String, String>;

impl Report {
    async fn of(url: &RelayUrl, timeout: Duration) -> Result<Self, Failure> {
        let mut report = Self(Vec::new());
        let unreachable = |why: String| Failure::new(Word::Unreachable, why);
        let first = Peer::connect(url, timeout).await.map_err(unreachable)?;
        report.add("reachable", Ok("a WebSocket opens".to_owned()));
        report.add("tls", tls(url, timeout).await);
        report.add("information", information(url, timeout).await);
        report.add(
            "challenge",
            match first.challenge {
                Some(_) => Ok("a challenge is sent on connecting".to_owned()),
                None => Err("no AUTH challenge on connecting: turn NIP-42 on".to_owned()),
            },
        );
        drop(first);
        report.add("auth_wall", auth_wall(url, timeout).await);
        report.add("delivery", delivery(url, timeout).await);
        report.add("limits", limits(url, timeout).await);
        report.add("window", window(url, timeout).await);
        report.add("expiry", expiry(url, timeout).await);
        report.add(
            "deletion_by_sender",
            deletion(url, timeout, Deleter::Sender).await,
        );
        report.add(
            "deletion_by_recipient",
            deletion(url, timeout, Deleter::Recipient).await,
        );
        Ok(report)
    }

    fn add(&mut self, name: &'static str, found: Found) {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|why| why);
        let fix = if ok { "" } else { fix(name) };
        self.0.push(Check {
            name,
            ok,
            detail,
            fix,
        });
    }
}

/// What to do where a check fails: first for this relay, then for others.
fn fix(name: &str) -> &'static str {
    match name {
        "tls" => {
            "set [tls] certificate and key, or [acme] domains, or put a proxy with a fresh certificate in front; after a renewal send SIGHUP"
        }
        "information" => {
            "let the proxy pass the Accept header on, and run a relay that lists its NIPs (NIP-11)"
        }
        "challenge" => "turn NIP-42 on; behind a proxy, pass messages on from the start",
        "auth_wall" => {
            "guard kinds 4, 1059 and 21059: close subscriptions to them with auth-required until AUTH"
        }
        "delivery" => {
            "list the relay's public URL in server.public_urls, allow wraps from strangers, and serve a wrap to its p key alone"
        }
        "limits" => "state in NIP-11 what is enforced, and enforce what is stated",
        "window" => {
            "set policy.wrap_past_s to 173700 and policy.future_s to 900, and the machine's clock by NTP"
        }
        "expiry" => {
            "follow NIP-40: refuse what has expired and hide it from its second on; set the clock by NTP"
        }
        "deletion_by_sender" => {
            "follow NIP-09 for kind 1059, from one-time keys too, and keep what was deleted away"
        }
        "deletion_by_recipient" => {
            "follow NIP-59: let the p key of a wrap delete it, and keep it away"
        }
        _ => "",
    }
}

/// Days that a certificate should still be good; authorities' shortest are renewed before.
const DAYS_LEFT: u64 = 2;

/// The connection is encrypted, and its certificate does not run out before somebody notices.
async fn tls(url: &RelayUrl, timeout: Duration) -> Found {
    if !url.is_secure() {
        return match url.reach() {
            Reach::Loopback => Ok("not encrypted, on this machine".to_owned()),
            _ => Err("the connection is not encrypted: clients insist on wss://".to_owned()),
        };
    }
    let certificate = within(timeout, certificate(url)).await?;
    let validity = validity_of(&certificate).map_err(|error| error.to_string())?;
    let days = validity.until.saturating_sub(now()) / 86_400;
    match days < DAYS_LEFT {
        true => Err(format!("the certificate is good for {days} days only")),
        false => Ok(format!(
            "encrypted; the certificate is good for {days} days"
        )),
    }
}

/// What the document says of the largest event holds.
async fn limits(url: &RelayUrl, timeout: Duration) -> Found {
    let document = document(url, timeout).await?;
    let limit = |name| {
        document
            .pointer(&format!("/limitation/{name}"))
            .and_then(Value::as_u64)
    };
    let (Some(content), Some(_), Some(_)) = (
        limit("max_content_length"),
        limit("max_message_length"),
        limit("max_subscriptions"),
    ) else {
        return Err("the information document does not tell the limits".to_owned());
    };
    let (sender, recipient) = (Key::fresh()?, Key::fresh()?);
    let size = usize::try_from(content)
        .unwrap_or(usize::MAX)
        .saturating_add(2_048);
    if size > LARGEST_TRIED {
        return Err(format!("events of {content} bytes are said to be taken"));
    }
    let tags = vec![Tag::new(["p".to_owned(), recipient.public().to_hex()])];
    let large = sender.sign(kinds::WRAP, now(), tags, &"x".repeat(size));
    let mut peer = Peer::connect(url, timeout).await?;
    match peer.publish(&large).await {
        Ok(Ok(())) => {
            let _ = peer.publish(&sender.deletion(&large)).await;
            Err("an event above the stated limit is accepted".to_owned())
        }
        Ok(Err(_)) | Err(_) => Ok("an event above the stated limit is refused".to_owned()),
    }
}

/// Nobody reads wraps without AUTH.
async fn auth_wall(url: &RelayUrl, timeout: Duration) -> Found {
    let recipient = Key::fresh()?;
    let mut peer = Peer::connect(url, timeout).await?;
    match peer.fetch(wraps_for(&recipient)).await? {
        Err(message) if message.reason == Reason::AuthRequired => {
            Ok("wraps are asked for in vain without AUTH".to_owned())
        }
        Err(message) => Err(format!(
            "refused, but not with auth-required: {}",
            shown(&message)
        )),
        Ok(_) => Err("wraps may be asked for without AUTH: guard kinds 4, 1059, 21059".to_owned()),
    }
}

/// A wrap reaches its recipient and nobody else.
async fn delivery(url: &RelayUrl, timeout: Duration) -> Found {
    let (sender, recipient, other) = (Key::fresh()?, Key::fresh()?, Key::fresh()?);
    let wrap = sender.wrap(&recipient, now(), &[]);
    let mut writer = Peer::connect(url, timeout).await?;
    writer.must_accept(&wrap, "a wrap").await?;
    let mut reader = Peer::connect_as(url, timeout, &recipient).await?;
    let found = reader.fetch(wraps_for(&recipient)).await?;
    let arrived =
        found.map_err(|message| format!("its recipient is refused: {}", shown(&message)))?;
    let mut snoop = Peer::connect_as(url, timeout, &other).await?;
    let leaked = snoop
        .fetch(wraps_for(&recipient))
        .await?
        .unwrap_or_default();
    // Whether deleting works has a check of its own.
    let _ = writer.publish(&sender.deletion(&wrap)).await?;
    if !arrived.contains(&wrap) {
        return Err("the wrap was accepted but does not reach its recipient".to_owned());
    }
    match leaked.is_empty() {
        true => Ok("a wrap reaches its recipient and nobody else".to_owned()),
        false => Err("another key can read the wrap: serve it to its p key alone".to_owned()),
    }
}

/// Wraps far in the past or future are refused.
async fn window(url: &RelayUrl, timeout: Duration) -> Found {
    let (sender, recipient) = (Key::fresh()?, Key::fresh()?);
    let mut peer = Peer::connect(url, timeout).await?;
    let cases = [
        (now().saturating_sub(3 * 86_400), false, "3 days old"),
        (now().saturating_add(3_600), false, "an hour ahead"),
        (now().saturating_sub(2 * 86_400), true, "2 days old"),
    ];
    for (created_at, wanted, what) in cases {
        let wrap = sender.wrap(&recipient, created_at, &[]);
        let message = peer.publish(&wrap).await?;
        if message.is_ok() {
            let _ = peer.publish(&sender.deletion(&wrap)).await?;
        }
        match (message, wanted) {
            (Ok(()), false) => {
                return Err(format!(
                    "a wrap {what} is accepted: set wrap_past_s and future_s"
                ));
            }
            (Err(message), true) => {
                return Err(format!("a wrap {what} is refused: {}", shown(&message)));
            }
            _ => {}
        }
    }
    Ok("wraps are taken from 2 days back, and not from the future".to_owned())
}

/// An event is hidden from the second that it names.
async fn expiry(url: &RelayUrl, timeout: Duration) -> Found {
    let (sender, recipient) = (Key::fresh()?, Key::fresh()?);
    let mut peer = Peer::connect(url, timeout).await?;
    let past = now().saturating_sub(10).to_string();
    let expired = sender.wrap(&recipient, now(), &[["expiration", &past]]);
    if peer.publish(&expired).await?.is_ok() {
        return Err("an event that has expired is accepted (NIP-40)".to_owned());
    }
    let end = now().saturating_add(2);
    let wrap = sender.wrap(&recipient, now(), &[["expiration", &end.to_string()]]);
    peer.must_accept(&wrap, "a wrap with an expiry").await?;
    while now() <= end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut reader = Peer::connect_as(url, timeout, &recipient).await?;
    let found = reader
        .fetch(wraps_for(&recipient))
        .await?
        .unwrap_or_default();
    match found.is_empty() {
        true => Ok("an event is hidden from the second that it names".to_owned()),
        false => Err("an expired event is still served (NIP-40)".to_owned()),
    }
}

#[derive(Clone, Copy)]
enum Deleter {
    Sender,
    Recipient,
}

/// A wrap goes when its sender's one-time key or its recipient says so, and stays away.
async fn deletion(url: &RelayUrl, timeout: Duration, by: Deleter) -> Found {
    let (sender, recipient) = (Key::fresh()?, Key::fresh()?);
    let wrap = sender.wrap(&recipient, now(), &[]);
    let mut writer = Peer::connect(url, timeout).await?;
    writer.must_accept(&wrap, "a wrap").await?;
    let (request, who) = match by {
        Deleter::Sender => (sender.deletion(&wrap), "its sender"),
        Deleter::Recipient => (recipient.deletion(&wrap), "its recipient"),
    };
    if let Err(message) = writer.publish(&request).await? {
        return Err(format!(
            "a deletion by {who} is refused: {}",
            shown(&message)
        ));
    }
    let mut reader = Peer::connect_as(url, timeout, &recipient).await?;
    let found = reader
        .fetch(wraps_for(&recipient))
        .await?
        .unwrap_or_default();
    if !found.is_empty() {
        return Err(format!(
            "a wrap that {who} deleted is still served (NIP-09, NIP-59)"
        ));
    }
    match writer.publish(&wrap).await? {
        Ok(()) => Err(format!("a wrap that {who} deleted may be published again")),
        Err(_) => Ok(format!("a wrap that {who} deleted is gone and stays away")),
    }
}

/// The relay information document (NIP-11).
async fn document(url: &RelayUrl, timeout: Duration) -> Result<Value, String> {
    let fetch = async {
        let stream = dial(url).await?;
        let failed = |_| "the HTTP request failed".to_owned();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let connection = tokio::spawn(connection);
        let path = url::Url::parse(url.as_str()).map(|url| url.path().to_owned());
        let request = hyper::Request::get(path.unwrap_or_else(|_| "/".to_owned()))
            .header("Host", format!("{}:{}", url.host(), url.port()))
            .header("Accept", "application/nostr+json")
            .body(Empty::<Bytes>::new())
            .map_err(|_| "the HTTP request could not be made".to_owned())?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES)
            .collect()
            .await;
        connection.abort();
        let bytes = body
            .map_err(|_| "the document is too large or cut off".to_owned())?
            .to_bytes();
        serde_json::from_slice::<Value>(&bytes).map_err(|_| "no NIP-11 document".to_owned())
    };
    within(timeout, fetch).await
}

/// The document lists what private messages need.
async fn information(url: &RelayUrl, timeout: Duration) -> Found {
    let document = document(url, timeout).await?;
    let supported: Vec<u64> = document
        .get("supported_nips")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    let wanted = [1, 9, 40, 42, 59, 62, 70];
    let missing: Vec<String> = wanted
        .iter()
        .filter(|nip| !supported.contains(nip))
        .map(ToString::to_string)
        .collect();
    match missing.is_empty() {
        true => {
            Ok("the information document lists every NIP that private messages need".to_owned())
        }
        false => Err(format!(
            "the information document does not list NIPs {}",
            missing.join(", ")
        )),
    }
}

fn wraps_for(key: &Key) -> Filter {
    Filter::default()
        .with_kinds([kinds::WRAP])
        .with_tag('p', [key.public().to_hex()])
}
