//! What a file server that may be anybody's answered, and how people are told of it: in plain
//! words that no terminal obeys.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{StatusCode, header};
use wire::Sha256;

/// More than this of a server's words helps nobody.
const SHOWN_CHARS: usize = 200;

/// An answer, with a body that was bounded while it was read.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(serde::Deserialize)]
struct Descriptor {
    url: String,
    sha256: String,
    size: u64,
}

impl Answer {
    /// The value of a header; nothing where there is none that is text.
    pub fn header(&self, name: HeaderName) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Whether the body describes this blob, and the address that it gives, for people.
    pub fn describes(&self, hash: &Sha256, size: u64) -> (bool, String) {
        match serde_json::from_slice::<Descriptor>(&self.body) {
            Ok(found) => (
                found.sha256 == hash.to_hex() && found.size == size,
                plain(&found.url),
            ),
            Err(_) => (false, "no blob descriptor".to_owned()),
        }
    }

    /// The status, and the server's reason, for people.
    pub fn said(&self) -> String {
        let reason = plain(self.header(HeaderName::from_static("x-reason")));
        match reason.is_empty() {
            true => self.status.as_str().to_owned(),
            false => format!("{}: {reason}", self.status.as_str()),
        }
    }

    /// Which pages may read the answer, as the server says it, and for people.
    pub fn allowed_origin(&self) -> (&str, String) {
        let value = self.header(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let detail = format!("Access-Control-Allow-Origin: {}", plain(value));
        (value, detail)
    }
}

fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(SHOWN_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn an_address_that_a_terminal_would_obey_is_shown_plainly() {
        let hash = Sha256::of(b"probe");
        let hostile = format!(
            r#"{{"url": "http://h/\u001b]52;c;cm0=\u0007\u009b2J\u202e", "sha256": "{hash}", "size": 5}}"#
        );
        let (is_described, shown) = answer(&hostile).describes(&hash, 5);
        assert!(is_described);
        assert_eq!(shown, "http://h/]52;c;cm0=2J");
        assert!(!answer(&hostile).describes(&hash, 6).0);
        let (is_described, shown) = answer("[]").describes(&hash, 5);
        assert!(!is_described && shown == "no blob descriptor");
    }
}
