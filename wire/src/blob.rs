//! Blobs on a file server (Blossom, BUD-01, BUD-02, BUD-11).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authorization::{self, HeaderError};
use crate::error::DecodeError;
use crate::event::{Event, EventDraft, Tag, Tags};
use crate::ids::{PublicKey, Sha256};
use crate::relay_url::Origin;
use crate::verify::VerifiedEvent;
use crate::{kinds, limits};

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Fetch a blob.
    Get,
    /// Store a blob.
    Upload,
    /// Remove one's claim on a blob.
    Delete,
}

impl Verb {
    /// As the `t` tag spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Upload => "upload",
            Self::Delete => "delete",
        }
    }
}

/// A BUD-11 token whose form was read and whose signature was checked. Whether it fits the
/// request, the server and the hour is for [`Token::check`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    event: VerifiedEvent,
}

/// Why a token does not allow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Larger than [`limits::AUTHORIZATION_BYTES`], not `Nostr <base64>`, or no event in it.
    #[error("the Authorization header is not a BUD-11 token")]
    Malformed,
    /// Id or signature do not hold.
    #[error("the token's signature does not hold")]
    Forged,
    /// Not kind 24242.
    #[error("the token is not of kind 24242")]
    Kind,
    /// Made in the future.
    #[error("the token is dated in the future")]
    Early,
    /// No expiration, or it has passed.
    #[error("the token has expired")]
    Expired,
    /// An expiration further ahead than the server allows.
    #[error("the token lives longer than 10 minutes")]
    TooLong,
    /// Another verb in `t`.
    #[error("the token is for another verb")]
    Verb,
    /// No `x` tag names the blob, or several tags leave open which.
    #[error("the token names another blob")]
    Blob,
    /// No `server` tag names this server.
    #[error("the token is for another server")]
    Server,
}

impl Token {
    /// A draft of a token for one verb, one blob and one server; the key of the claim signs it.
    /// `server` is the bare host, as BUD-11 asks.
    pub fn draft(
        pubkey: PublicKey,
        verb: Verb,
        blob: &Sha256,
        server: &Origin,
        created_at: u64,
        expiration: u64,
    ) -> EventDraft {
        EventDraft {
            pubkey,
            created_at,
            kind: kinds::BLOB_AUTH,
            tags: Tags::from_iter([
                Tag::new(["t", verb.as_str()]),
                Tag::new(["x".to_owned(), blob.to_hex()]),
                Tag::new(["server".to_owned(), server.host()]),
                Tag::new(["expiration".to_owned(), expiration.to_string()]),
            ]),
            // Constant: a text of the user's would tell the server what the file is about.
            content: "Blob".to_owned(),
        }
    }

    /// The value of the `Authorization` header for a signed token: URL-safe base64 without
    /// padding (BUD-11).
    pub fn header(event: &Event) -> String {
        format!("Nostr {}", URL_SAFE_NO_PAD.encode(event.json()))
    }

    /// Reads a header; base64 may be of either alphabet, padded or not.
    pub fn from_header(value: &str) -> Result<Self, TokenError> {
        match authorization::read(value) {
            Ok(event) => Ok(Self { event }),
            Err(HeaderError::Malformed) => Err(TokenError::Malformed),
            Err(HeaderError::Forged) => Err(TokenError::Forged),
        }
    }

    /// Whether the token allows `verb` on `blob` at one of `servers` at the time `now`.
    ///
    /// `servers` are the names this server goes by, host or host:port, lower case. A token must
    /// name exactly one blob: BUD-11 says that several `x` tags never mean several deletions.
    pub fn check(
        &self,
        verb: Verb,
        blob: &Sha256,
        servers: &[String],
        now: u64,
    ) -> Result<(), TokenError> {
        const CLOCK_SKEW_SECONDS: u64 = 60;
        const LIFE_SECONDS: u64 = 600;
        let event = &self.event;
        if event.kind() != kinds::BLOB_AUTH {
            return Err(TokenError::Kind);
        }
        if event.created_at() > now.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(TokenError::Early);
        }
        let expiration = event.expiration().ok_or(TokenError::Expired)?;
        if expiration <= now {
            return Err(TokenError::Expired);
        }
        if expiration > now.saturating_add(LIFE_SECONDS + CLOCK_SKEW_SECONDS) {
            return Err(TokenError::TooLong);
        }
        if event.tags().value("t") != Some(verb.as_str()) {
            return Err(TokenError::Verb);
        }
        let mut blobs = event.tags().values("x");
        if blobs.next() != Some(blob.to_hex().as_str()) || blobs.next().is_some() {
            return Err(TokenError::Blob);
        }
        let is_here = |name: &str| {
            servers
                .iter()
                .any(|server| server.eq_ignore_ascii_case(name))
        };
        if !event.tags().values("server").any(is_here) {
            return Err(TokenError::Server);
        }
        Ok(())
    }

    /// Who signed it: the owner of the claim.
    pub fn pubkey(&self) -> PublicKey {
        self.event.pubkey()
    }

    /// The signed event; its id is what a server remembers so that a token works once.
    pub fn event(&self) -> &VerifiedEvent {
        &self.event
    }
}

/// The place of a blob: an origin and a hash. Whatever path or extension a URL had is gone, so a
/// peer cannot choose what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobUrl {
    /// Where.
    pub origin: Origin,
    /// What.
    pub hash: Sha256,
}

impl BlobUrl {
    /// Reads `origin/<64 hex>[.ext]`; any other path is refused.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "blob URL";
        if text.len() > limits::URL_BYTES * 2 {
            return Err(DecodeError::TooLarge {
                what: WHAT,
                limit: limits::URL_BYTES * 2,
            });
        }
        let url = url::Url::parse(text).map_err(|_| DecodeError::invalid(WHAT))?;
        let name = url.path().strip_prefix('/').unwrap_or_default();
        let hash = name.split('.').next().unwrap_or_default();
        let hash = Sha256::from_hex(hash).map_err(|_| DecodeError::invalid(WHAT))?;
        let mut origin = url;
        origin.set_path("");
        origin.set_query(None);
        origin.set_fragment(None);
        Ok(Self {
            origin: Origin::parse(origin.as_str())?,
            hash,
        })
    }
}

impl std::fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.origin, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_url_keeps_origin_and_hash_only() {
        let hash = "ab".repeat(32);
        let url = BlobUrl::parse(&format!("https://Files.Example:444/{hash}.jpg?x=1#y")).unwrap();
        assert_eq!(url.to_string(), format!("https://files.example:444/{hash}"));
        for bad in ["https://h/a/b", "ftp://h/x", "https://h/", "https://u@h/x"] {
            assert!(BlobUrl::parse(&bad.replace('x', &hash)).is_err() || bad == "https://h/x");
        }
        assert!(BlobUrl::parse(&format!("https://h/dir/{hash}")).is_err());
        assert!(BlobUrl::parse(&format!("https://u:p@h/{hash}")).is_err());
    }
}
