//! Effects become network, and the network's answers become inputs.
//!
//! Read in this order:
//!
//! 1. [`driver`]: carries out the engine's effects and feeds it inputs, one at a time, until a
//!    goal is reached or time runs out.
//! 2. [`relay_link`]: one task per [`SocketKey`](crate::engine::io::SocketKey); it dials, writes
//!    and reads. What is said on the connection is decided by [`relay_session`] and its part
//!    `reconciliation`, which do no I/O.
//! 3. [`file_link`]: one HTTP connection (`http`) per transfer to or from a file server, and per
//!    [`relay_document`], which is what a relay says of itself.
//! 4. [`dialer`]: the only place of the client that opens a connection.
//! 5. [`spool`]: ciphertexts on their way to a file server or from it.
//!
//! The rules that keep sockets apart are told in `docs/protocol/sockets.md`.

pub mod dialer;
pub mod driver;
pub mod file_link;
mod http;
pub mod http_date;
pub mod relay_document;
pub mod relay_link;
pub mod relay_session;
pub mod spool;

use std::time::Duration;

/// How long the network may take. Each is counted from the last sign of progress, so a slow
/// but living server is not cut off.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together, and then the WebSocket handshake.
    pub connect: Duration,
    /// An OK after an EVENT, the next event or the EOSE after a REQ.
    pub answer: Duration,
    /// The next byte of a transfer, and the answer after the last one.
    pub transfer: Duration,
    /// Silence on a socket after which a ping is sent; as much again, and the peer is dead.
    pub ping: Duration,
    /// How long a publish or lookup socket without work stays open.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            transfer: Duration::from_secs(60),
            ping: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}
