//! Asks the servers as a stranger would: bare HTTP and a bare WebSocket.

use std::time::Duration;

use client_core::{Origin, RelayUrl, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::internal;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a file server answers to HEAD for a blob: the HTTP status.
pub async fn head(server: &Origin, hash: &str) -> Result<u16> {
    let asking = async {
        let mut socket = TcpStream::connect((server.host(), server.port())).await?;
        let request = format!(
            "HEAD /{hash} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n\r\n",
            server.host(),
            server.port()
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(4_096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(PATIENCE, asking).await.map_err(internal)??;
    String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| internal("no HTTP status"))
}

/// What a relay answers a stranger who asks for somebody's wraps: its CLOSED message, or nothing
/// where it served them.
pub async fn ask_for_wraps(relay: &RelayUrl, recipient: &str) -> Result<Option<String>> {
    let asking = async {
        let address = (relay.host(), relay.port());
        let socket = TcpStream::connect(address).await.map_err(internal)?;
        let (mut socket, _) = tokio_tungstenite::client_async(relay.as_str(), socket)
            .await
            .map_err(internal)?;
        let request = format!(r##"["REQ","who",{{"kinds":[1059],"#p":["{recipient}"]}}]"##);
        socket
            .send(Message::text(request))
            .await
            .map_err(internal)?;
        while let Some(frame) = socket.next().await {
            let Message::Text(frame) = frame.map_err(internal)? else {
                continue;
            };
            let frame: serde_json::Value = serde_json::from_str(&frame).map_err(internal)?;
            match frame.get(0).and_then(|kind| kind.as_str()) {
                Some("CLOSED") => {
                    let reason = frame.get(2).and_then(|text| text.as_str());
                    return Ok(Some(reason.unwrap_or_default().to_owned()));
                }
                Some("EVENT" | "EOSE") => return Ok(None),
                _ => {}
            }
        }
        Err(internal("the relay hung up"))
    };
    timeout(PATIENCE, asking).await.map_err(internal)?
}

/// Tries `holds` again and again for as long as servers have to wipe their disks (60 s); whether
/// it came true.
pub async fn within_a_minute(mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<bool> {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if holds().await? {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
