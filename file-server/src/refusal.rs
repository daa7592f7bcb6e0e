//! One function turns every refusal into an answer.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use wire::blob::TokenError;

use crate::storage::StorageError;

/// An answer that is no success: a status, and a reason that names the rule (BUD-01 `X-Reason`).
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such blob")
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error.to_string())
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        let status = match &error {
            StorageError::NotFound => StatusCode::NOT_FOUND,
            StorageError::NotOwner => StatusCode::FORBIDDEN,
            StorageError::TokenUsed => StatusCode::UNAUTHORIZED,
            StorageError::Crowded => StatusCode::TOO_MANY_REQUESTS,
            StorageError::Full => StatusCode::INSUFFICIENT_STORAGE,
            StorageError::Busy | StorageError::Io(_) => {
                // What the disk said is the operator's to read, not the client's.
                tracing::error!(%error, "the store failed");
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed");
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Reasons are ours and plain; were one not, the status still says enough.
        let reason = HeaderValue::from_str(&self.reason)
            .unwrap_or_else(|_| HeaderValue::from_static("refused"));
        let body = serde_json::json!({ "message": self.reason }).to_string();
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response();
        response.headers_mut().insert("x-reason", reason);
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Nostr"));
        }
        response
    }
}
