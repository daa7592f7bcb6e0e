//! From the network to an HTTP request: accepts connections, as many as the limits allow, and
//! gives each only so much time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::addresses::{Origin, OriginPlace, Place};
use crate::door;
use crate::ledger::Account;
use crate::metered::Metered;
use crate::server::Shared;

/// Bytes of an HTTP request's head.
const HEAD_BYTES: usize = 8 * 1024;

/// A connection that was let in; its places in the counts are given back when the last clone is
/// dropped.
#[derive(Debug)]
pub struct Arrival {
    _place: Place,
    /// Its place among those of its origin; a trusted proxy is exempt.
    pub among: OriginPlace,
    /// Whom it came from.
    pub peer: IpAddr,
    /// What it makes the relay hold.
    pub account: Arc<Account>,
}

/// Accepts connections until the relay stops.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = door::router(shared.clone());
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => accept(&shared, &router, stream, peer.ip()),
            Err(error) => {
                // Out of file descriptors, or the peer left already; neither ends the relay.
                tracing::warn!(kind = ?error.kind(), "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn accept(shared: &Arc<Shared>, router: &Router, stream: TcpStream, ip: IpAddr) {
    let in_force = shared.settings.get();
    let limits = &in_force.config.limits;
    // Closing is all that a full house can afford.
    let Some(place) = shared.addresses.take(limits.connections) else {
        return shared.metrics.connections_refused.add("full");
    };
    // Whose a trusted proxy's connections are shows with the request.
    let origin = match in_force.config.trusted_proxies.contains(ip) {
        true => None,
        false => Origin::of(ip),
    };
    if origin.is_some_and(|origin| in_force.roster.is_blocked(&origin)) {
        return shared.metrics.connections_refused.add("blocked");
    }
    let now = in_force.config.clock.now();
    let closed = CancellationToken::new();
    let Some(among) = shared.addresses.take_from(origin, limits, now, &closed) else {
        return shared.metrics.connections_refused.add("address");
    };
    shared.metrics.connections.add(1);
    // Frames are small and answers are awaited.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let account = shared.ledger.open(closed);
    let arrival = Arc::new(Arrival {
        _place: place,
        among,
        peer: ip,
        account: account.clone(),
    });
    let router = router.clone();
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(arrival.clone());
        let mut router = router.clone();
        async move { tower::Service::call(&mut router, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(64)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Metered::new(stream, account.clone())),
            TowerToHyperService::new(service),
        )
        .with_upgrades();
    let stop = shared.stop.clone();
    let whole = limits.header_timeout * 2;
    shared.tasks.spawn(async move {
        // An HTTP exchange is over in moments; an upgrade ends this future and goes on elsewhere.
        tokio::select! {
            _ = tokio::time::timeout(whole, connection) => {}
            () = stop.cancelled() => {}
            () = account.closed().cancelled() => {}
        }
    });
}
