//! What a durable event costs the relay, as a multiple of the work nobody can save.

use std::hint::black_box;

use anyhow::{Context, Result};
use crypto::OneTimeKey;
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr};
use sha2::{Digest, Sha256};
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Event, EventDraft, Tag, Tags, kinds};

use crate::process::Server;
use crate::rounds::{interleaved, median};
use crate::table::{Bar, Table};

const EVENTS: usize = 16_000;
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 64;

/// Adds the rows for the relay.
pub fn run(table: &mut Table) -> Result<()> {
    let events = wraps()?;
    let mut at = 0;
    let mut check = || {
        at = (at + 1) % events.len();
        if let Some(event) = events.get(at) {
            black_box(check_once(event));
        }
    };
    let seconds = interleaved(7, 2_000, &mut [&mut check]);
    let floor = median(seconds.first().context("one candidate")?);

    let data = tempfile::tempdir()?;
    let server = Server::start("sotto-relay", data.path())?;
    let before = (server.cpu_seconds()?, server.written_bytes()?);
    let frames: Vec<String> = events
        .iter()
        .map(|event| ClientFrame::event(event.json()))
        .collect();
    let start = std::time::Instant::now();
    let accepted = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(publish(&server.url, &frames))?;
    let elapsed = start.elapsed().as_secs_f64();
    anyhow::ensure!(
        accepted == EVENTS,
        "only {accepted} of {EVENTS} were accepted"
    );
    let count = f64::from(u32::try_from(EVENTS)?);
    let cpu = (server.cpu_seconds()? - before.0) / count;
    let written = u32::try_from((server.written_bytes()? - before.1) / u64::try_from(EVENTS)?)?;
    let note = format!(
        "({:.0} us CPU beside {:.0} us; {:.0} events/s with {CONNECTIONS} x {IN_FLIGHT} in flight)",
        cpu * 1e6,
        floor * 1e6,
        count / elapsed
    );
    table.row(
        "relay CPU per durable event, in verify + SHA-256",
        cpu / floor,
        "",
        &note,
        Bar::None,
    );
    let size = frames.first().map_or(0, String::len);
    let note = format!("for {size} bytes on the wire");
    table.row(
        "relay, kB written to disk per event",
        f64::from(written) / 1e3,
        " kB",
        &note,
        Bar::None,
    );
    Ok(())
}

/// Wraps as a client makes them: a fresh author each, two hundred recipients.
fn wraps() -> Result<Vec<Event>> {
    let mut rng = StdRng::seed_from_u64(7);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let recipients: Vec<String> = (0..200)
        .map(|_| OneTimeKey::generate(&mut rng).public_key().to_hex())
        .collect();
    let mut events = Vec::with_capacity(EVENTS);
    for at in 0..EVENTS {
        let key = OneTimeKey::generate(&mut rng);
        let recipient = recipients
            .get(at % recipients.len())
            .context("two hundred")?;
        let mut content = [0_u8; 750];
        rng.fill_bytes(&mut content);
        let draft = EventDraft {
            pubkey: key.public_key(),
            created_at: now - rng.next_u64() % 172_800,
            kind: kinds::WRAP,
            tags: Tags::from_iter([Tag::new(["p", recipient.as_str()])]),
            content: content.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        events.push(key.sign(draft, &mut rng));
    }
    Ok(events)
}

/// One BIP-340 verification and one SHA-256 of the event.
fn check_once(event: &Event) -> bool {
    black_box(Sha256::digest(event.json()));
    let key = XOnlyPublicKey::from_slice(event.pubkey().as_bytes());
    let signature = schnorr::Signature::from_slice(event.sig().as_bytes());
    key.is_ok_and(|key| {
        signature.is_ok_and(|sig| {
            SECP256K1
                .verify_schnorr(&sig, event.id().as_bytes(), &key)
                .is_ok()
        })
    })
}

/// Publishes over several connections, each with a window of unanswered events.
async fn publish(url: &str, frames: &[String]) -> Result<usize> {
    let share = frames.len().div_ceil(CONNECTIONS);
    let tasks = frames.chunks(share).map(|frames| async move {
        let address = url.strip_prefix("ws://").context("a loopback URL")?;
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        let (mut sent, mut answered, mut accepted) = (0, 0, 0);
        while answered < frames.len() {
            while sent < frames.len() && sent - answered < IN_FLIGHT {
                let frame = frames.get(sent).context("in range")?;
                socket.feed(Message::text(frame.clone())).await?;
                sent += 1;
            }
            socket.flush().await?;
            let message = socket.next().await.context("the relay hung up")??;
            if let Message::Text(text) = message
                && text.starts_with("[\"OK\"")
            {
                answered += 1;
                accepted += usize::from(text.contains(",true,"));
            }
        }
        anyhow::Ok(accepted)
    });
    let counts = futures_util::future::try_join_all(tasks).await?;
    Ok(counts.into_iter().sum())
}
