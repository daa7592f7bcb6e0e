//! What is checked, one function each. Everything that is published here is addressed to keys made
//! for the purpose, expires or is deleted.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use sotto_relay::stated::Stated;
use sotto_relay::tls::validity_of;
use wire::relay_url::Reach;
use wire::{Event, Filter, Reason, Tag, kinds};

use super::peer::{Key, Peer, now};
use super::remedy::{is_about_size, refused, refused_deletion, remedy, shown};
use super::target::{Closed, Target, Trouble};

/// What a check found, or why it failed.
pub type Found = Result<String, Trouble>;

/// Bytes of a NIP-11 document that are read.
const DOCUMENT_BYTES: usize = 64 * 1024;
/// Ids that any machine tries in a second for its work.
const IDS_PER_SECOND: u64 = 250_000;
/// Days that a certificate should still be good; authorities' shortest are renewed before.
const DAYS_LEFT: u64 = 2;

/// The connection is encrypted, and its certificate does not run out before somebody notices.
pub async fn tls(target: &Target) -> Found {
    if !target.url.is_secure() {
        return match target.url.reach() {
            Reach::Loopback => Ok("not encrypted, on this machine".to_owned()),
            _ => Err("the connection is not encrypted: clients insist on wss://".into()),
        };
    }
    let certificate = target.within(target.certificate()).await?;
    let validity = validity_of(&certificate).map_err(|error| Trouble::from(error.to_string()))?;
    let days = validity.until.saturating_sub(now()) / 86_400;
    match (days < DAYS_LEFT, target.is_private) {
        (true, _) => Err(format!("the certificate is good for {days} days only").into()),
        (false, false) => Ok(format!(
            "encrypted; the certificate is good for {days} days"
        )),
        (false, true) => Ok(format!(
            "encrypted; the certificate is good for {days} days, for whoever trusts the \
             authorities of --ca-file: Sotto's own client trusts those of the web alone"
        )),
    }
}

/// What the document says of the largest event holds: one that is larger is refused for its size.
pub async fn limits(target: &Target, stated: &Result<Stated, Trouble>) -> Found {
    let stated = stated.as_ref().map_err(Clone::clone)?;
    let size = stated
        .too_much()
        .map_err(|why| Trouble::from(why.to_string()))?;
    let (sender, recipient) = (Key::fresh()?, target.recipient()?);
    let tags = vec![Tag::new(["p".to_owned(), recipient.public().to_hex()])];
    let large = sender.sign(kinds::WRAP, now(), tags, &"x".repeat(size));
    let is_over = Ok("an event above the stated limit is refused".to_owned());
    let mut peer = Peer::connect(target).await?;
    match peer.publish(&large).await {
        Ok(Ok(())) => {
            let _ = peer.publish(&sender.deletion(&large)).await;
            Err("an event above the stated limit is accepted".into())
        }
        Ok(Err(message)) if is_about_size(&message.text) => is_over,
        Ok(Err(message)) => Err(Trouble {
            fix: remedy(&message),
            ..format!(
                "an event above the stated limit is refused, but not for its size: {}",
                shown(&message)
            )
            .into()
        }),
        Err(trouble) => match trouble.closed {
            Some(Closed::TooBig) => is_over,
            Some(Closed::Otherwise) if stated.cuts_off(large.json().len()) => is_over,
            Some(Closed::Otherwise) => Err(
                "the relay closes the connection on an event above the stated limit, and its \
                 document allows messages of that size"
                    .into(),
            ),
            // There are relays that complain without naming the event.
            None if is_about_size(&peer.notice) => is_over,
            None => Err(trouble),
        },
    }
}

/// Nobody reads wraps without AUTH.
pub async fn auth_wall(target: &Target) -> Found {
    let recipient = Key::fresh()?;
    let mut peer = Peer::connect(target).await?;
    match peer.fetch(wraps_for(&recipient)).await? {
        Err(message) if message.reason == Reason::AuthRequired => {
            Ok("wraps are asked for in vain without AUTH".to_owned())
        }
        Err(message) => Err(Trouble {
            fix: match message.reason {
                Reason::RateLimited | Reason::Error => remedy(&message),
                _ => None,
            },
            ..format!("refused, but not with auth-required: {}", shown(&message)).into()
        }),
        Ok(_) => Err("wraps may be asked for without AUTH".into()),
    }
}

/// A wrap reaches its recipient and nobody else.
pub async fn delivery(target: &Target) -> Found {
    let (sender, recipient, other) = (Key::fresh()?, target.recipient()?, Key::fresh()?);
    let wrap = sender.wrap(&recipient, now(), &[], target.work);
    let mut writer = Peer::connect(target).await?;
    writer.must_accept(&wrap, "a wrap").await?;
    let mut reader = Peer::connect_as(target, &recipient).await?;
    let arrived = reader.must_show(wraps_for(&recipient)).await?;
    let mut snoop = Peer::connect_as(target, &other).await?;
    let leaked = snoop
        .fetch(wraps_for(&recipient))
        .await?
        .unwrap_or_default();
    // Whether deleting works has a check of its own.
    let _ = writer.publish(&sender.deletion(&wrap)).await?;
    if !arrived.contains(&wrap) {
        return Err("the wrap was accepted but does not reach its recipient".into());
    }
    match leaked.is_empty() {
        true => Ok("a wrap reaches its recipient and nobody else".to_owned()),
        false => Err("another key can read the wrap".into()),
    }
}

/// Wraps far in the past or future are refused.
pub async fn window(target: &Target) -> Found {
    let (sender, recipient) = (Key::fresh()?, target.recipient()?);
    // What has to be taken first: where nothing is taken, a refusal of the others tells nothing.
    let cases = [
        (now().saturating_sub(2 * 86_400), true, "2 days old"),
        (now().saturating_sub(3 * 86_400), false, "3 days old"),
        (now().saturating_add(3_600), false, "an hour ahead"),
    ]
    .map(|(created_at, wanted, what)| {
        let wrap = sender.wrap(&recipient, created_at, &[], target.work);
        (wrap, wanted, what)
    });
    let mut peer = Peer::connect(target).await?;
    for (wrap, wanted, what) in cases {
        let message = peer.publish(&wrap).await?;
        if message.is_ok() {
            let _ = peer.publish(&sender.deletion(&wrap)).await?;
        }
        match (message, wanted) {
            (Ok(()), false) => {
                return Err(format!("a wrap {what} is accepted").into());
            }
            (Err(message), true) => return Err(refused(&format!("a wrap {what}"), &message)),
            _ => {}
        }
    }
    Ok("wraps are taken from 2 days back, and not from the future".to_owned())
}

/// An event is hidden from the second that it names.
pub async fn expiry(target: &Target) -> Found {
    let (sender, recipient) = (Key::fresh()?, target.recipient()?);
    let past = now().saturating_sub(10).to_string();
    let expired = sender.wrap(&recipient, now(), &[["expiration", &past]], target.work);
    let (wrap, end) = ending(target, &sender, &recipient)?;
    let mut peer = Peer::connect(target).await?;
    peer.must_accept(&wrap, "a wrap with an expiry").await?;
    if peer.publish(&expired).await?.is_ok() {
        return Err("an event that has expired is accepted (NIP-40)".into());
    }
    while now() <= end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut reader = Peer::connect_as(target, &recipient).await?;
    let found = reader.must_show(wraps_for(&recipient)).await?;
    match found.contains(&wrap) {
        false => Ok("an event is hidden from the second that it names".to_owned()),
        true => Err("an expired event is still served (NIP-40)".into()),
    }
}

/// A wrap that has not expired yet, and when it does. One with work takes a while to be made.
fn ending(target: &Target, sender: &Key, recipient: &Key) -> Result<(Event, u64), Trouble> {
    let tries = 1_u64.checked_shl(target.work.into()).unwrap_or(u64::MAX);
    for _ in 0..5 {
        let end = now().saturating_add(2 + tries / IDS_PER_SECOND);
        let expiry = end.to_string();
        let wrap = sender.wrap(recipient, now(), &[["expiration", &expiry]], target.work);
        if now().saturating_add(1) < end {
            return Ok((wrap, end));
        }
    }
    Err("this machine is too slow for the work that is asked for".into())
}

/// Who takes a wrap back.
#[derive(Clone, Copy)]
pub enum Deleter {
    Sender,
    Recipient,
}

/// A wrap goes when its sender's one-time key or its recipient says so, and stays away.
pub async fn deletion(target: &Target, by: Deleter) -> Found {
    let (sender, recipient) = (Key::fresh()?, target.recipient()?);
    let wrap = sender.wrap(&recipient, now(), &[], target.work);
    let mut writer = Peer::connect(target).await?;
    writer.must_accept(&wrap, "a wrap").await?;
    let (request, who) = match by {
        Deleter::Sender => (sender.deletion(&wrap), "its sender"),
        Deleter::Recipient => (recipient.deletion(&wrap), "its recipient"),
    };
    if let Err(message) = writer.publish(&request).await? {
        return Err(refused_deletion(who, &message));
    }
    let mut reader = Peer::connect_as(target, &recipient).await?;
    let found = reader.must_show(wraps_for(&recipient)).await?;
    if found.contains(&wrap) {
        return Err(format!("a wrap that {who} deleted is still served (NIP-09, NIP-59)").into());
    }
    match writer.publish(&wrap).await? {
        Ok(()) => Err(format!("a wrap that {who} deleted may be published again").into()),
        Err(_) => Ok(format!("a wrap that {who} deleted is gone and stays away")),
    }
}

/// The relay information document (NIP-11).
pub async fn document(target: &Target) -> Result<Stated, Trouble> {
    let url = &target.url;
    let fetch = async {
        let stream = target.dial().await?;
        let failed = |_| Trouble::from("the HTTP request failed");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let connection = tokio::spawn(connection);
        let path = url::Url::parse(url.as_str()).map(|url| url.path().to_owned());
        let request = hyper::Request::get(path.unwrap_or_else(|_| "/".to_owned()))
            .header("Host", format!("{}:{}", url.host(), url.port()))
            .header("Accept", "application/nostr+json")
            .body(Empty::<Bytes>::new())
            .map_err(|_| Trouble::from("the HTTP request could not be made"))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES)
            .collect()
            .await;
        connection.abort();
        let bytes = body
            .map_err(|_| Trouble::from("the document is too large or cut off"))?
            .to_bytes();
        Stated::decode(&bytes).ok_or_else(|| "no NIP-11 document".into())
    };
    target.within(fetch).await
}

/// The document lists what private messages need.
pub fn information(stated: &Result<Stated, Trouble>) -> Found {
    let missing: Vec<String> = stated
        .as_ref()
        .map_err(Clone::clone)?
        .missing_nips()
        .iter()
        .map(ToString::to_string)
        .collect();
    match missing.is_empty() {
        true => {
            Ok("the information document lists every NIP that private messages need".to_owned())
        }
        false => Err(format!(
            "the information document does not list NIPs {}",
            missing.join(", ")
        )
        .into()),
    }
}

fn wraps_for(key: &Key) -> Filter {
    Filter::default()
        .with_kinds([kinds::WRAP])
        .with_tag('p', [key.public().to_hex()])
}
