//! From a path to a verb, and the headers that every answer carries.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use wire::Sha256;

use crate::refusal::Refusal;
use crate::server::Shared;
use crate::{delete, download, upload};

const VERBS: &str = "GET, HEAD, PUT, DELETE, OPTIONS";

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    // One handler, since the path is matched as it came: percent-encoding is never undone, so
    // there is no second spelling of a path.
    Router::new()
        .fallback(dispatch)
        .with_state(shared)
        .layer(map_response(harmless))
}

async fn dispatch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if head.method == Method::OPTIONS {
        return preflight();
    }
    let answer = if head.uri.path() == "/upload" {
        match head.method {
            Method::PUT => upload::put(&shared, &head.headers, body).await,
            _ => Err(wrong_method()),
        }
    } else {
        match (blob_of(head.uri.path()), &head.method) {
            (None, _) => Err(Refusal::not_found()),
            (Some(hash), &Method::GET) => download::get(&shared, &hash, &head.headers).await,
            (Some(hash), &Method::HEAD) => download::head(&shared, &hash),
            (Some(hash), &Method::DELETE) => delete::delete(&shared, &hash, &head.headers).await,
            (Some(_), _) => Err(wrong_method()),
        }
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// `/<64 lower-case hex>` with an extension or without (BUD-01). The extension is looked at only
/// to refuse paths that no client of ours writes.
pub(crate) fn blob_of(path: &str) -> Option<Sha256> {
    const EXTENSION_BYTES: usize = 16;
    let name = path.strip_prefix('/')?;
    let (hash, extension) = match name.split_once('.') {
        Some((hash, extension)) => (hash, Some(extension)),
        None => (name, None),
    };
    let fine = extension.is_none_or(|extension| {
        (1..=EXTENSION_BYTES).contains(&extension.len())
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    Sha256::from_hex(hash).ok().filter(|_| fine)
}

fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
}

/// BUD-01: any page may talk to a file server.
fn preflight() -> Response {
    (
        StatusCode::NO_CONTENT,
        [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, *"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, VERBS),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            (header::ALLOW, VERBS),
        ],
    )
        .into_response()
}

/// Whatever a blob contains, no browser runs it, guesses its type, or keeps it.
async fn harmless(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 7] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A copy in somebody's cache would outlive the deletion.
        (header::CACHE_CONTROL, "no-store"),
    ];
    let status = response.status();
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static(VERBS));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_by_64_lower_case_hex_and_nothing_else() {
        let hex = "0a".repeat(32);
        let hash = Sha256::from_hex(&hex).unwrap();
        for good in [
            format!("/{hex}"),
            format!("/{hex}.bin"),
            format!("/{hex}.MP4"),
        ] {
            assert_eq!(blob_of(&good), Some(hash), "{good}");
        }
        for bad in [
            String::new(),
            "/".to_owned(),
            hex.clone(),
            format!("//{hex}"),
            format!("/{hex}/"),
            format!("/{hex}."),
            format!("/{hex}.tar.gz"),
            format!("/{hex}.{}", "a".repeat(17)),
            format!("/{hex}.%2e"),
            format!("/x/{hex}"),
            format!("/{}", hex.to_uppercase()),
            format!("/{}", "0a".repeat(31)),
            format!("/{hex}0"),
            format!("/%30a{}", "0a".repeat(31)),
            "/../../etc/passwd".to_owned(),
            "/list/".to_owned() + &hex,
        ] {
            assert_eq!(blob_of(&bad), None, "{bad}");
        }
    }
}
