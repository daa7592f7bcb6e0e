//! Sockets: how many there may be, and what each may cost.
//!
//! HTTP/1 only. A head larger than 8 KiB, one that trickles in, and a peer that stops reading or
//! writing end the connection; none of them holds more than one buffer of 64 KiB.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;

/// The request line and all headers together; a token takes about 1 KiB of it.
const HEAD_BYTES: usize = 8 * 1024;
/// Headers of one request.
const HEADERS: usize = 64;
/// What a connection reads ahead.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long and how much a closing connection still reads, so that a client which is busy
/// sending gets to see why it was refused.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Accepts until `stop` resolves, then waits for requests under way, and cuts off those that take
/// longer than `stop_timeout`. When this returns, no connection is left.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(
        usize::try_from(limits.connections).unwrap_or(Semaphore::MAX_PERMITS),
    ));
    let addresses = Arc::new(Addresses::new(limits.connections_per_address));
    let tasks = TaskTracker::new();
    let stopping = CancellationToken::new();
    let cut_off = CancellationToken::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // A place is taken before the socket is: above the limit, peers wait in the backlog.
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                // Mostly too many open files; the next attempt fails the same way at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Some(seat) = addresses.admit(peer) {
            let guest = Guest {
                _place: place,
                _seat: seat,
            };
            let connection = connection(stream, router.clone(), limits, stopping.clone());
            let cut_off = cut_off.clone();
            tasks.spawn(async move {
                let _ = cut_off.run_until_cancelled(connection).await;
                drop(guest);
            });
        }
    }
    drop(listener);
    stopping.cancel();
    tasks.close();
    if tokio::time::timeout(limits.stop_timeout, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("transfers under way were cut off");
        cut_off.cancel();
        tasks.wait().await;
    }
}

/// Serves one connection. Borrows nothing, so that it can be spawned.
fn connection(
    stream: TcpStream,
    router: Router,
    limits: &Limits,
    stopping: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER_BYTES);
    let socket = TokioIo::new(Socket::new(stream, limits.idle_timeout));
    async move {
        let served = http.serve_connection(socket, TowerToHyperService::new(router));
        let mut served = std::pin::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = stopping.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            // Peers that vanish are no event; the reason helps when looking for one.
            tracing::trace!(%error, "a connection ended early");
        }
    }
}

/// What a connection holds and gives back.
struct Guest {
    _place: OwnedSemaphorePermit,
    _seat: Seat,
}

/// Counts connections by address.
struct Addresses {
    most: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// One connection's part of its address's count.
struct Seat {
    addresses: Arc<Addresses>,
    ip: Option<IpAddr>,
}

impl Addresses {
    fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Seat> {
        let ip = peer.ip().to_canonical();
        let ip = (!ip.is_loopback()).then_some(ip);
        if let Some(ip) = ip {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(ip).or_insert(0);
            if *count >= self.most {
                return None;
            }
            *count = count.saturating_add(1);
        }
        Some(Seat {
            addresses: Arc::clone(self),
            ip,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(ip) = self.ip else { return };
        let counts = self.addresses.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&ip);
            }
        }
    }
}

/// A TCP stream that gives up on a peer which stops reading, and closes so that the last answer
/// arrives: closing a socket with unread bytes resets it, and the reset overtakes the answer.
struct Socket {
    stream: TcpStream,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
    lingered: usize,
}

impl Socket {
    fn new(stream: TcpStream, stall: Duration) -> Self {
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            stall,
            stalled: None,
            linger: None,
            lingered: 0,
        }
    }

    /// Passes on what a write came to, and fails once it has been pending for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut scratch = [0_u8; 8 * 1024];
        loop {
            if let Some(timer) = &mut self.linger
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            self.lingered = self.lingered.saturating_add(count);
            if count == 0 || self.lingered > LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_exempt_from_the_limit_per_address() {
        let addresses = Arc::new(Addresses::new(2));
        let far: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let seats: Vec<_> = (0..2).map(|_| addresses.admit(far).unwrap()).collect();
        assert!(addresses.admit(far).is_none());
        assert!(addresses.admit("192.0.2.2:1".parse().unwrap()).is_some());
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert!(addresses.admit(mapped).is_none());
        for near in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            let near = near.parse().unwrap();
            let seats: Vec<_> = (0..9).map(|_| addresses.admit(near)).collect();
            assert!(seats.iter().all(Option::is_some));
        }
        drop(seats);
        assert!(addresses.admit(far).is_some());
        assert!(addresses.counts.lock().unwrap().is_empty());
    }
}
