//! The metrics, on a listener of their own: for the operator's collector, not for clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::Storage;
use crate::metrics::Text;
use crate::server::Shared;
use crate::store::StoreError;

/// Collectors at the same time.
const COLLECTORS: usize = 4;
/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves `GET /metrics` until the relay stops.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(shared.clone());
    let places = Arc::new(Semaphore::new(COLLECTORS));
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(router.clone()),
            );
        let stop = shared.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::time::timeout(PATIENCE, connection) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let written = tokio::task::spawn_blocking(move || text(&shared)).await;
    match written {
        Ok(Ok(text)) => {
            let format = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, format)], text).into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the store could not be measured");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Blocks: the store and its folder are looked at.
fn text(shared: &Shared) -> Result<String, StoreError> {
    let mut text = Text::default();
    text.gauge(
        "start_time_seconds",
        "When the relay started, Unix time.",
        shared.started_at,
    );
    let open = u64::try_from(shared.addresses.open()).unwrap_or(u64::MAX);
    text.gauge("connections_open", "Open connections.", open);
    text.gauge(
        "held_bytes",
        "Bytes of memory that connections make the relay hold.",
        u64::try_from(shared.ledger.held()).unwrap_or(u64::MAX),
    );
    text.metrics(&shared.metrics);
    if let Some(validity) = shared.certificates.validity() {
        text.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the TLS certificate runs out, Unix time.",
            validity.until,
        );
    }
    let store = &shared.history.store;
    text.counter(
        "events_erased_total",
        "Events overwritten: deleted, vanished, replaced or expired.",
        store.erased.get(),
    );
    text.gauge(
        "store_writable",
        "1 while events can be stored; 0 after the index or a disk failed, until that is mended.",
        u64::from(store.is_whole()),
    );
    text.gauge(
        "store_has_room",
        "1 while new events are taken; 0 while less is free on the disk than the reserve.",
        u64::from(store.has_room()),
    );
    text.gauge(
        "log_damaged_segments",
        "Segments of the log that are missing, too short, or do not read back in part.",
        store.damage.count(),
    );
    text.counter(
        "events_unreadable_total",
        "How often a stored event was to be read and was damaged.",
        store.damage.unreadable.get(),
    );
    if let Some(syncs) = store.sync_times() {
        text.histogram(
            "log_sync_seconds",
            "How long a sync of the log took.",
            syncs,
            1_000_000,
        );
    }
    // Not known where the index has failed, which is when the rest is wanted most.
    if let Ok(Some(sizes)) = store.sizes() {
        text.gauge("log_segments", "Segments of the log.", sizes.segments);
        text.gauge(
            "log_events_bytes",
            "Bytes of the log's records of living events.",
            sizes.alive,
        );
        text.gauge(
            "log_dead_bytes",
            "Bytes of the log's records of events that are gone, overwritten and not given back.",
            sizes.dead,
        );
    }
    if let Storage::Disk { folder, .. } = &shared.settings.get().config.storage {
        text.gauge(
            "store_bytes",
            "Bytes of all files in the data folder.",
            size_of(folder),
        );
        if let Ok(disk) = rustix::fs::statvfs(folder) {
            text.gauge(
                "disk_free_bytes",
                "Bytes that are free where the data is.",
                disk.f_bavail.saturating_mul(disk.f_frsize),
            );
        }
    }
    Ok(text.finish())
}

/// Bytes of the files in a folder. What goes while we look does not count.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}
