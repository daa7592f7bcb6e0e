//! Two hundred hostile connections as a process that ends with its standard input.

use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::attacks::{Attack, Material, Reading};
use super::throttle::Throttle;

/// The bench program's argument that makes it the attackers.
pub const VERB: &str = "attackers";

const CONNECTIONS: usize = 200;
/// Of one core, all of them together.
const SHARE: f64 = 0.5;

/// What they did.
#[derive(Debug, Default)]
struct Done {
    connected: std::cell::Cell<u64>,
    sent: std::cell::Cell<u64>,
    bytes: std::cell::Cell<u64>,
}

struct Field {
    address: String,
    throttle: Throttle,
    material: Material,
    done: Done,
}

/// Attacks `url` until standard input ends, then reports in one line.
#[allow(clippy::print_stdout, reason = "the bench reads it")]
pub fn run(attack: &str, url: &str) -> Result<()> {
    let attack = Attack::named(attack)?;
    let address = url.strip_prefix("ws://").context("a loopback URL")?;
    let material = Material::prepare(attack, url)?;
    println!("ready");
    std::io::stdout().flush()?;
    let field = Rc::new(Field {
        address: address.to_owned(),
        throttle: Throttle::new(SHARE),
        material,
        done: Done::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    for number in 0..CONNECTIONS {
        let field = field.clone();
        tasks.spawn_local(async move {
            loop {
                field.throttle.pace().await;
                // Cut off or refused: it comes again.
                if connection(&field, number).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    tasks.block_on(&runtime, async {
        let until_closed = || std::io::stdin().read(&mut [0; 1]);
        // An error is an end as well.
        let _ = tokio::task::spawn_blocking(until_closed).await;
    });
    let done = &field.done;
    println!(
        "attackers {:.2} cores, {} connections, {} messages, {} MB",
        field.throttle.used_share(),
        done.connected.get(),
        done.sent.get(),
        done.bytes.get() / 1_000_000,
    );
    Ok(())
}

/// One connection until the relay ends it.
async fn connection(field: &Rc<Field>, number: usize) -> Result<()> {
    let mut stream = TcpStream::connect(&field.address).await?;
    stream.set_nodelay(true)?;
    add(&field.done.connected, 1);
    if let Some(head) = field.material.trickled_head() {
        for byte in head.chunks(1) {
            field.throttle.pace().await;
            stream.write_all(byte).await?;
            add(&field.done.bytes, 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        return Ok(());
    }
    let challenge = match field.material.has_socket() {
        true => upgrade(&mut stream).await?,
        false => String::new(),
    };
    let (reading, writing) = stream.into_split();
    let sending = send(field, number, &challenge, writing);
    match field.material.reading() {
        Reading::Everything => tokio::select! {
            sent = sending => sent,
            read = discard(field, reading) => read,
        },
        // The socket stays open, and whatever comes stays in it.
        Reading::Nothing => {
            sending.await?;
            let gone = reading.ready(tokio::io::Interest::ERROR).await;
            gone.map(drop).map_err(Into::into)
        }
    }
}

async fn send(
    field: &Field,
    number: usize,
    challenge: &str,
    mut writing: OwnedWriteHalf,
) -> Result<()> {
    for message in field.material.first(number, challenge) {
        writing.write_all(&frame(&message)).await?;
    }
    let mut turn = number;
    loop {
        field.throttle.pace().await;
        let Some(bytes) = field.material.next(turn) else {
            // Nothing but what it said first; it waits to be cut off.
            std::future::pending::<()>().await;
            return Ok(());
        };
        writing.write_all(bytes).await?;
        add(&field.done.sent, 1);
        add(&field.done.bytes, u64::try_from(bytes.len())?);
        turn += 1;
    }
}

async fn discard(field: &Field, mut reading: OwnedReadHalf) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        field.throttle.pace().await;
        let count = reading.read(&mut buffer).await?;
        anyhow::ensure!(count > 0, "closed");
    }
}

/// Becomes a WebSocket; the challenge that the relay sends first.
async fn upgrade(stream: &mut TcpStream) -> Result<String> {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request).await?;
    let mut got = Vec::new();
    loop {
        anyhow::ensure!(stream.read_buf(&mut got).await? > 0, "closed");
        let text = String::from_utf8_lossy(&got);
        if let Some((_, after)) = text.split_once("[\"AUTH\",\"")
            && let Some((challenge, _)) = after.split_once('"')
        {
            return Ok(challenge.to_owned());
        }
    }
}

fn add(cell: &std::cell::Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// A text frame with a mask of zeros, so that its payload stays as it is.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..126) => out.push(0x80 | short.to_be_bytes()[1]),
        Ok(middling) => {
            out.push(0x80 | 126);
            out.extend(middling.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}
