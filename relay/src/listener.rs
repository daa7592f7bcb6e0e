//! From the network to an HTTP request: accepts connections, as many as the limits allow, and
//! gives each only so much time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::addresses::{Origin, OriginPlace, Place};
use crate::door;
use crate::ledger::Account;
use crate::metered::Metered;
use crate::server::Shared;
use crate::tls::ACME_PROTOCOL;

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
            // The peer left already.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(_) => {
                // Out of file descriptors; that does not end the relay.
                shared.metrics.connections_refused.add("no_descriptor");
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
    let http = Http {
        router: router.clone(),
        arrival,
        patience: limits.header_timeout,
    };
    let stream = Metered::new(stream, account.clone());
    let exchange = exchange(shared.clone(), http, stream);
    let stop = shared.stop.clone();
    let whole = limits.header_timeout * 2;
    let token = shared.tasks.token();
    // Handshakes and pages cost time as frames do.
    shared.lanes.serve(async move {
        // An HTTP exchange is over in moments; an upgrade ends this future and goes on elsewhere.
        tokio::select! {
            _ = tokio::time::timeout(whole, exchange) => {}
            () = stop.cancelled() => {}
            () = account.closed().cancelled() => {}
        }
        drop(token);
    });
}

/// TLS where the relay speaks it, then HTTP. A handshake has as much time as a request.
async fn exchange(shared: Arc<Shared>, http: Http, stream: Metered) {
    let Some(tls) = &shared.tls else {
        return http.serve(stream).await;
    };
    match tokio::time::timeout(http.patience, tls.accept(stream)).await {
        // A certificate authority has seen what it wanted to see.
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_PROTOCOL) => {}
        Ok(Ok(stream)) => http.serve(stream).await,
        Ok(Err(_)) | Err(_) => shared.metrics.handshakes_failed.add(1),
    }
}

/// What answers the requests of one connection.
struct Http {
    router: Router,
    arrival: Arc<Arrival>,
    patience: Duration,
}

impl Http {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            router,
            arrival,
            patience,
        } = self;
        let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(arrival.clone());
            let mut router = router.clone();
            async move { tower::Service::call(&mut router, request).await }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_headers(64)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades();
        // However it ends, the client sees it.
        let _ = connection.await;
    }
}
