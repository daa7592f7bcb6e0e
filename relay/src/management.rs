//! The management API (NIP-86): a JSON request over HTTP, proven by an administrator's key
//! (NIP-98). Off where the configuration names no administrators.

mod methods;
mod request;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use wire::{EventId, HttpAuth};

use crate::budget::Budget;
use crate::policy::OwnUrls;
use crate::server::Shared;

pub use request::{Call, Change, List, Malformed, Request};

/// What its requests and answers are.
pub const CONTENT_TYPE: &str = "application/nostr+json+rpc";
/// The largest request.
const BODY_BYTES: usize = 64 * 1024;
/// Proofs that are remembered, each for at most two minutes: only administrators', and only those
/// with which something was changed.
const PROOFS: usize = 1_024;

/// Proofs of changes, each with the second until which it could be used again.
#[derive(Debug, Default)]
pub struct UsedProofs(Mutex<HashMap<EventId, u64>>);

impl UsedProofs {
    /// Takes note of a proof; whether it is the first time, and there is room.
    fn take(&self, id: EventId, until: u64, now: u64) -> Result<(), Refused> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, until| *until >= now);
        if used.contains_key(&id) {
            return Err(Refused(
                StatusCode::UNAUTHORIZED,
                "this proof was used before",
            ));
        }
        if used.len() >= PROOFS {
            return Err(Refused(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests, try again in a minute",
            ));
        }
        used.insert(id, until);
        Ok(())
    }
}

/// Why a request was not carried out, and not even read.
struct Refused(StatusCode, &'static str);

/// Carries a request out. What it changed is on disk, and in force, when the answer is sent.
/// `budget` is of the address that it came from, where that has one.
pub async fn answer(
    shared: &Arc<Shared>,
    budget: Option<&Budget>,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let call = match read(shared, budget, headers, body).await {
        Ok(call) => call,
        Err(Refused(status, why)) => return respond(status, &json!({ "error": why })),
    };
    let done = match call {
        Ok(call) => methods::call(shared, call).await,
        Err(why) => Err(why),
    };
    let answer = match done {
        Ok(result) => json!({ "result": result }),
        Err(why) => json!({ "error": why }),
    };
    respond(StatusCode::OK, &answer)
}

/// Who asks is checked before what they ask, and the cheap before the dear. What they ask; or, in
/// words, what is wrong with it.
///
/// A change that comes again with the same proof is refused: it could undo one that was made in
/// between. To look again changes nothing, and whoever lists, changes and lists within a second has
/// the same proof for both lists, since its id holds nothing but the second and the request.
async fn read(
    shared: &Arc<Shared>,
    budget: Option<&Budget>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Result<Call, String>, Refused> {
    let in_force = shared.settings.get();
    let config = &in_force.config;
    if config.admins.is_empty() {
        return Err(Refused(
            StatusCode::NOT_FOUND,
            "this relay is not managed over HTTP",
        ));
    }
    let now = config.clock.now();
    if let Some(budget) = budget
        && budget.proof(&config.limits, now).is_err()
    {
        return Err(Refused(
            StatusCode::TOO_MANY_REQUESTS,
            "too many proofs of keys from this address",
        ));
    }
    let unauthorized = |why| Refused(StatusCode::UNAUTHORIZED, why);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let value = value.ok_or(unauthorized("an Authorization header is required (NIP-98)"))?;
    let proof = HttpAuth::from_header(value)
        .map_err(|_| unauthorized("the Authorization header holds no proof (NIP-98)"))?;
    if !config.admins.contains(&proof.pubkey()) {
        return Err(Refused(
            StatusCode::FORBIDDEN,
            "this key does not manage this relay",
        ));
    }
    let body = Limited::new(body, BODY_BYTES).collect().await;
    let too_large = |_| Refused(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
    let body = body.map_err(too_large)?.to_bytes();
    let is_here = |url: &str| is_own(&in_force.own, url);
    proof.check("POST", is_here, &body, now).map_err(|_| {
        unauthorized("the proof is for another request, address or minute (NIP-98)")
    })?;
    let request = Request::decode(&body).map_err(|Malformed| {
        Refused(
            StatusCode::BAD_REQUEST,
            "not a JSON object with method and params (NIP-86)",
        )
    })?;
    let call = request.call();
    if let Ok(Call::Change(_)) = call {
        shared.used_proofs.take(proof.id(), proof.until(), now)?;
    }
    Ok(call)
}

/// Whether a URL is the relay's own, as its clients or as browsers write it.
fn is_own(own: &OwnUrls, url: &str) -> bool {
    let as_relay = match url.split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(("http", rest)) => format!("ws://{rest}"),
        _ => url.to_owned(),
    };
    own.contains(&as_relay)
}

fn respond(status: StatusCode, answer: &Value) -> Response {
    let mut response = (status, answer.to_string()).into_response();
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_once_and_so_many_are_remembered_until_they_are_worth_nothing() {
        let used = UsedProofs::default();
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            EventId::from_bytes(bytes)
        };
        let status = |number, now| match used.take(id(number), 100, now) {
            Ok(()) => StatusCode::OK,
            Err(Refused(status, _)) => status,
        };
        for number in 0..PROOFS {
            assert_eq!(status(number, 50), StatusCode::OK);
        }
        assert_eq!(status(0, 50), StatusCode::UNAUTHORIZED);
        assert_eq!(status(PROOFS, 100), StatusCode::TOO_MANY_REQUESTS);
        // Those that no clock accepts any more make room.
        assert_eq!(status(PROOFS, 101), StatusCode::OK);
    }
}
