//! What travels between Sotto's programs, and between Sotto and any other Nostr program.
//!
//! Read in this order:
//!
//! 1. [`limits`]: how large anything may be. Every cap of the project is in that one table.
//! 2. [`ids`]: keys, event ids, hashes: 32 bytes each, and never mixed up.
//! 3. [`event`]: an [`Event`] is decoded but not trusted; it keeps the bytes it came in.
//! 4. [`verify`]: the only door to a [`VerifiedEvent`]: id recomputed, signature checked.
//! 5. [`rumor`]: the unsigned event inside a seal, and the `sotto` tag.
//! 6. [`filter`], [`client_frame`], [`relay_frame`]: the conversation with a relay
//!    (NIP-01, 42, 45, 67, 77).
//! 7. [`relay_url`], [`blob`], [`link`]: addresses of relays, files and people.
//! 8. [`invite_code`], [`http_auth`]: joining a relay (NIP-43), and managing one (NIP-98).
//!
//! Nothing here does I/O, waits, reads a clock, or holds a secret. Every decoder takes bytes
//! from strangers, returns an error that names the rule it enforces, and never panics.

mod authorization;
pub mod blob;
pub mod client_frame;
pub mod error;
pub mod event;
pub mod filter;
pub mod http_auth;
pub mod ids;
pub mod invite_code;
mod json;
pub mod kinds;
pub mod limits;
pub mod link;
mod negentropy;
pub mod relay_frame;
pub mod relay_url;
pub mod rumor;
pub mod verify;

pub use client_frame::ClientFrame;
pub use error::DecodeError;
pub use event::{Event, EventDraft, Tag, Tags};
pub use filter::Filter;
pub use http_auth::HttpAuth;
pub use ids::{EventId, PublicKey, Sha256, Signature, SubscriptionId};
pub use invite_code::{InviteCode, NamedRelay};
pub use link::Link;
pub use relay_frame::{OkMessage, Reason, RelayFrame};
pub use relay_url::RelayUrl;
pub use rumor::Rumor;
pub use verify::{VerifiedEvent, VerifyError};
