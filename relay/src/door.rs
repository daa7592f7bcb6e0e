//! What an HTTP request gets: a WebSocket, the relay's document, or a page for people.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::TryRng as _;
use rand::rngs::SysRng;
use wire::limits;

use crate::addresses::{Origin, OriginPlace};
use crate::budget::Budget;
use crate::connection::Connection;
use crate::listener::Arrival;
use crate::server::Shared;
use crate::settings::InForce;
use crate::{management, nip11, page};

/// What a WebSocket reads at a time: an ordinary message. The library's default would cost 128 KiB
/// per connection.
pub(crate) const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Everything that the relay answers; at other paths than its own there is nothing.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(root).with_state(shared)
}

/// One answer is all that a connection gets, unless it becomes a WebSocket: whoever asks for very many
/// has to come for each.
async fn root(shared: State<Arc<Shared>>, request: HttpRequest<Body>) -> Response {
    let mut response = answer(shared, request).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn answer(State(shared): State<Arc<Shared>>, request: HttpRequest<Body>) -> Response {
    let (mut parts, body) = request.into_parts();
    let wants = |name, text: &str| {
        let values = parts.headers.get_all(name).iter();
        let mut texts = values.filter_map(|value| value.to_str().ok());
        texts.any(|value| value.to_ascii_lowercase().contains(text))
    };
    // One relay has one address (NIP-01): at another path there is none.
    if !shared.settings.get().own.has_path(parts.uri.path()) {
        let why = "this relay is at / and at the paths of server.public_urls\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    }
    if parts.method == Method::OPTIONS {
        return open_to_pages(StatusCode::NO_CONTENT.into_response());
    }
    let is_managing = wants(header::CONTENT_TYPE, management::CONTENT_TYPE);
    if parts.method == Method::POST && is_managing {
        let Some(arrival) = parts.extensions.remove::<Arc<Arrival>>() else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let answer = match visitor(&shared, arrival, &parts.headers) {
            Ok(visitor) => {
                let budget = visitor.budget();
                management::answer(&shared, budget.as_deref(), &parts.headers, body).await
            }
            Err(status) => status.into_response(),
        };
        return open_to_pages(answer);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return open_to_pages(not_allowed());
    }
    if wants(header::UPGRADE, "websocket") {
        let Some(arrival) = parts.extensions.remove::<Arc<Arrival>>() else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let visitor = match visitor(&shared, arrival, &parts.headers) {
            Ok(visitor) => visitor,
            Err(status) => return status.into_response(),
        };
        return match WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
            Ok(upgrade) => websocket(shared, visitor, upgrade),
            Err(rejection) => rejection.into_response(),
        };
    }
    let in_force = shared.settings.get();
    let shown = match wants(header::ACCEPT, "application/nostr+json") {
        true => document(&in_force),
        false => page(&in_force, &parts.headers),
    };
    open_to_pages(shown)
}

/// To a method that means nothing here, or to a POST that is none of the management API.
fn not_allowed() -> Response {
    let why = "GET shows what this relay is, and POST with the content type \
               application/nostr+json+rpc manages it (NIP-86)\n";
    let allowed = [(header::ALLOW, "GET, HEAD, POST, OPTIONS")];
    (StatusCode::METHOD_NOT_ALLOWED, allowed, why).into_response()
}

/// Lets a page of any origin read the answer, as NIP-11 asks. A star would not include
/// `Authorization`.
fn open_to_pages(mut response: Response) -> Response {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Authorization, Content-Type, *",
        ),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::VARY, "accept"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// For programs.
fn document(in_force: &InForce) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/nostr+json")];
    (headers, nip11::document(in_force).to_string()).into_response()
}

/// For people. The browser may do nothing with it but show it.
fn page(in_force: &InForce, request: &HeaderMap) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, page::security_policy()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, page::page(in_force, request)).into_response()
}

/// Who opens a WebSocket, as long as it is open.
struct Visitor {
    arrival: Arc<Arrival>,
    /// Behind a trusted proxy, its place among those of its origin.
    among: Option<OriginPlace>,
}

impl Visitor {
    /// What its address may do; none: it is exempt.
    fn budget(&self) -> Option<Arc<Budget>> {
        let among = self.among.as_ref().unwrap_or(&self.arrival.among);
        among.budget().cloned()
    }
}

/// The visitor, unless too many of the same origin are here.
fn visitor(
    shared: &Shared,
    arrival: Arc<Arrival>,
    headers: &HeaderMap,
) -> Result<Visitor, StatusCode> {
    let in_force = shared.settings.get();
    let proxies = &in_force.config.trusted_proxies;
    let mut among = None;
    if proxies.contains(arrival.peer) {
        let client = proxies.client(headers, arrival.peer).map_err(|_| {
            let refused = &shared.metrics.connections_refused;
            refused.add("unreadable_forwarded");
            StatusCode::BAD_REQUEST
        })?;
        let origin = Origin::of(client);
        if origin.is_some_and(|origin| in_force.roster.is_blocked(&origin)) {
            shared.metrics.connections_refused.add("blocked");
            return Err(StatusCode::FORBIDDEN);
        }
        let limits = &in_force.config.limits;
        let now = in_force.config.clock.now();
        let closed = arrival.account.closed();
        let place = shared.addresses.take_from(origin, limits, now, closed);
        among = Some(place.ok_or_else(|| {
            shared.metrics.connections_refused.add("address");
            StatusCode::TOO_MANY_REQUESTS
        })?);
    }
    Ok(Visitor { arrival, among })
}

fn websocket(shared: Arc<Shared>, visitor: Visitor, upgrade: WebSocketUpgrade) -> Response {
    let mut challenge = [0; 32];
    if SysRng.try_fill_bytes(&mut challenge).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let token = shared.tasks.token();
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(limits::FRAME_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
        .on_upgrade(move |mut socket| async move {
            let client = shared.clients.fetch_add(1, Ordering::Relaxed);
            let challenge = hex::encode(challenge);
            let account = visitor.arrival.account.clone();
            let budget = visitor.budget();
            let lanes = shared.lanes.clone();
            let mut connection = Connection::new(shared, client, challenge, account, budget);
            // A task of its own: this one is half as large again, for the upgrade that is over,
            // and thousands of connections are idle. Borrowed, because what is moved into a future
            // is kept twice.
            lanes.serve(async move {
                connection.serve(&mut socket).await;
                drop(connection);
                drop((visitor, token));
            });
        })
}
