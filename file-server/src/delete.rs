//! `DELETE /<sha256>` (BUD-12): takes back one key's claim; with the last one the blob goes.

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use wire::Sha256;
use wire::blob::Verb;

use crate::authorize;
use crate::refusal::Refusal;
use crate::server::Shared;

pub(crate) async fn delete(
    shared: &Shared,
    hash: &Sha256,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let token = authorize::token(headers)?;
    let spent = authorize::authorize(shared, &token, Verb::Delete, hash).await?;
    let owner = token.pubkey();
    let hash = *hash;
    let now = shared.now();
    shared
        .blocking(move |storage| storage.release(&hash, &owner, spent, now))
        .await?;
    // Bytes that are too many to erase while the client waits are erased from now on.
    shared.sweep.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}
