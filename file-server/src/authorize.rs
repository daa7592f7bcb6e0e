//! A token for this verb, this blob and this server, at this hour, not used yet (BUD-11).

use axum::http::{HeaderMap, StatusCode, header};
use wire::Sha256;
use wire::blob::{Token, TokenError, Verb};

use crate::refusal::Refusal;
use crate::server::Shared;
use crate::storage::Spent;

/// Reads the token of a request. Form and signature hold; what it allows, [`authorize`] asks.
pub(crate) fn token(headers: &HeaderMap) -> Result<Token, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| {
        let reason = "a token in the Authorization header is required (BUD-11)";
        Refusal::new(StatusCode::UNAUTHORIZED, reason)
    })?;
    if values.next().is_some() {
        // Which of two would count is a question that nobody should have to ask.
        return Err(TokenError::Malformed.into());
    }
    let value = value.to_str().map_err(|_| TokenError::Malformed)?;
    Ok(Token::from_header(value)?)
}

/// The blob that a token names; of several, none.
pub(crate) fn named_blob(token: &Token) -> Result<Sha256, Refusal> {
    let named = token.event().tags().value("x");
    let hash = named.and_then(|hex| Sha256::from_hex(hex).ok());
    Ok(hash.ok_or(TokenError::Blob)?)
}

/// Whether the token allows `verb` on `hash` here and now, and was not used before.
pub(crate) async fn authorize(
    shared: &Shared,
    token: &Token,
    verb: Verb,
    hash: &Sha256,
) -> Result<Spent, Refusal> {
    token.check(verb, hash, &shared.names, shared.now())?;
    let spent = Spent {
        token: token.event().id(),
        // `check` refuses a token without one.
        until: token.event().expiration().unwrap_or_default(),
    };
    let hash = *hash;
    // Asked again where the token takes effect; here so that a used one costs no transfer.
    let used = shared
        .blocking(move |storage| storage.is_spent(&hash, &spent))
        .await?;
    if used {
        return Err(crate::storage::StorageError::TokenUsed.into());
    }
    Ok(spent)
}
