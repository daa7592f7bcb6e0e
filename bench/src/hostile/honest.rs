//! The honest client: somebody who is written to, and a stranger who writes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use crypto::OneTimeKey;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{
    ClientFrame, Event, EventDraft, Filter, PublicKey, RelayFrame, SubscriptionId, Tag, kinds,
};

/// Events per second that the honest client writes.
const RATE: u32 = 100;
/// It looks into its mailbox after so many of them.
const LOOKS_AFTER: usize = 10;
/// How many of the mailbox it asks for each time.
const ASKED: usize = 50;
/// What lies in the store beside: public notes, which attackers may search, and others' wraps.
const NOTES: usize = 20_000;
/// The kind of a public note (NIP-01).
pub const NOTE: u16 = 1;
const PATIENCE: Duration = Duration::from_secs(20);

/// Milliseconds, one for each time.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From the EVENT to its OK.
    pub publish: Vec<f64>,
    /// From the EVENT to its arrival at the recipient.
    pub delivery: Vec<f64>,
    /// From a REQ to its EOSE.
    pub query: Vec<f64>,
}

impl Latencies {
    /// Of a client that was not served.
    pub fn of_nobody() -> Self {
        let never = || vec![f64::INFINITY];
        Self {
            publish: never(),
            delivery: never(),
            query: never(),
        }
    }
}

/// The value that so many of a hundred are not above.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Three connections: to write, to receive, to ask.
pub struct Honest {
    rng: StdRng,
    recipient: PublicKey,
    writer: Socket,
    receiver: Socket,
    asker: Socket,
}

type Socket = WebSocketStream<TcpStream>;

impl Honest {
    /// Connects, and authenticates where the recipient does.
    pub async fn connect(url: &str) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(11);
        let key = OneTimeKey::generate(&mut rng);
        let (writer, _) = dial(url).await?;
        let mut receiver = authenticated(url, &key, &mut rng).await?;
        let mailbox = mailbox(&key.public_key(), 0);
        let live = SubscriptionId::new("live").context("a short name")?;
        let request = ClientFrame::req(&live, &[mailbox]);
        receiver.send(Message::text(request)).await?;
        wait(&mut receiver, |frame| {
            matches!(frame, RelayFrame::Eose { .. }).then_some(())
        })
        .await?;
        Ok(Self {
            writer,
            receiver,
            asker: authenticated(url, &key, &mut rng).await?,
            recipient: key.public_key(),
            rng,
        })
    }

    /// Puts something to search and to ask for into the store.
    pub async fn fill(&mut self) -> Result<()> {
        let mut unanswered = 0;
        for at in 0..NOTES {
            let author = OneTimeKey::generate(&mut self.rng);
            let tags = vec![Tag::new(["t", "common"])];
            let draft = EventDraft {
                pubkey: author.public_key(),
                created_at: now() - u64::try_from(NOTES - at)?,
                kind: NOTE,
                tags: tags.into_iter().collect(),
                content: text(&mut self.rng),
            };
            let event = author.sign(draft, &mut self.rng);
            self.writer
                .feed(Message::text(ClientFrame::event(event.json())))
                .await?;
            unanswered += 1;
            if unanswered == 500 || at + 1 == NOTES {
                self.writer.flush().await?;
                while unanswered > 0 {
                    wait(&mut self.writer, accepted).await?;
                    unanswered -= 1;
                }
            }
        }
        for _ in 0..ASKED * 2 {
            let event = self.wrap();
            self.publish(&event).await?;
            wait(&mut self.receiver, arrived).await?;
        }
        Ok(())
    }

    /// Writes, receives and asks at an even pace for so long.
    pub async fn measure(&mut self, time: Duration) -> Result<Latencies> {
        let mut seen = Latencies::default();
        let began = Instant::now();
        let question = [mailbox(&self.recipient, ASKED)];
        let mut turn = 0;
        while began.elapsed() < time {
            // Whoever waited too long for one answer is late with the next, and does not hurry.
            let due = began + Duration::from_secs(1) * turn / RATE;
            tokio::time::sleep_until(due.into()).await;
            turn = u32::try_from(began.elapsed().as_micros() * u128::from(RATE) / 1_000_000)? + 1;
            let event = self.wrap();
            let sent = Instant::now();
            let publish = async {
                self.writer
                    .send(Message::text(ClientFrame::event(event.json())))
                    .await?;
                wait(&mut self.writer, accepted).await?;
                anyhow::Ok(sent.elapsed())
            };
            let deliver = async {
                wait(&mut self.receiver, arrived).await?;
                anyhow::Ok(sent.elapsed())
            };
            let (published, delivered) = tokio::try_join!(publish, deliver)?;
            seen.publish.push(published.as_secs_f64() * 1e3);
            seen.delivery.push(delivered.as_secs_f64() * 1e3);
            if !seen.publish.len().is_multiple_of(LOOKS_AFTER) {
                continue;
            }
            // What still comes for the last one counts for nothing.
            let asked = SubscriptionId::new(format!("ask{turn}")).context("a short name")?;
            let sent = Instant::now();
            let request = ClientFrame::req(&asked, &question);
            self.asker.send(Message::text(request)).await?;
            let mut found = 0;
            wait(&mut self.asker, |frame| match frame {
                RelayFrame::Event(of, _) => {
                    found += usize::from(of == asked);
                    None
                }
                RelayFrame::Eose { subscription, .. } => (subscription == asked).then_some(()),
                _ => None,
            })
            .await?;
            seen.query.push(sent.elapsed().as_secs_f64() * 1e3);
            anyhow::ensure!(found == ASKED, "{found} of {ASKED} were found");
            let close = ClientFrame::close(&asked);
            self.asker.send(Message::text(close)).await?;
        }
        Ok(seen)
    }

    async fn publish(&mut self, event: &Event) -> Result<()> {
        let frame = ClientFrame::event(event.json());
        self.writer.send(Message::text(frame)).await?;
        wait(&mut self.writer, accepted).await
    }

    fn wrap(&mut self) -> Event {
        let key = OneTimeKey::generate(&mut self.rng);
        let to = self.recipient.to_hex();
        let draft = EventDraft {
            pubkey: key.public_key(),
            created_at: now() - self.rng.next_u64() % 172_800,
            kind: kinds::WRAP,
            tags: [Tag::new(["p", to.as_str()])].into_iter().collect(),
            content: text(&mut self.rng),
        };
        key.sign(draft, &mut self.rng)
    }
}

fn text(rng: &mut StdRng) -> String {
    let mut bytes = [0_u8; 750];
    rng.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn mailbox(of: &PublicKey, limit: usize) -> Filter {
    let filter = Filter::default().with_kinds([kinds::WRAP, kinds::EPHEMERAL_WRAP]);
    Filter {
        limit: Some(limit),
        ..filter.with_tag('p', [of.to_hex()])
    }
}

fn accepted(frame: RelayFrame) -> Option<()> {
    matches!(frame, RelayFrame::Ok(_, true, _)).then_some(())
}

fn arrived(frame: RelayFrame) -> Option<()> {
    matches!(frame, RelayFrame::Event(..)).then_some(())
}

async fn dial(url: &str) -> Result<(Socket, String)> {
    let address = url.strip_prefix("ws://").context("a loopback URL")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let challenge = wait(&mut socket, |frame| match frame {
        RelayFrame::Auth(challenge) => Some(challenge),
        _ => None,
    })
    .await?;
    Ok((socket, challenge))
}

async fn authenticated(url: &str, key: &OneTimeKey, rng: &mut StdRng) -> Result<Socket> {
    let (mut socket, challenge) = dial(url).await?;
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at: now(),
        kind: kinds::CLIENT_AUTH,
        tags: [
            Tag::new(["relay", url]),
            Tag::new(["challenge", challenge.as_str()]),
        ]
        .into_iter()
        .collect(),
        content: String::new(),
    };
    let proof = key.sign(draft, rng);
    let frame = ClientFrame::auth(proof.json());
    socket.send(Message::text(frame)).await?;
    wait(&mut socket, accepted).await?;
    Ok(socket)
}

/// Reads frames until one is what was waited for.
async fn wait<T>(
    socket: &mut Socket,
    mut wanted: impl FnMut(RelayFrame) -> Option<T>,
) -> Result<T> {
    let waiting = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let bytes = Bytes::from(text);
                    let frame = RelayFrame::decode(&bytes).context("a frame of the relay")?;
                    if let RelayFrame::Ok(_, false, message) = &frame {
                        bail!("the relay refused: {}", message.text);
                    }
                    if let RelayFrame::Closed(_, message) = &frame {
                        bail!("the relay closed: {}", message.text);
                    }
                    if let Some(found) = wanted(frame) {
                        return Ok(found);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the relay hung up on the honest client"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .context("the relay left the honest client waiting for 20 s")?
}
