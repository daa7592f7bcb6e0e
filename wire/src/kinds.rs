//! The event kinds that Sotto knows by name.

/// Profile (NIP-01).
pub const PROFILE: u16 = 0;
/// Encrypted direct message of old (NIP-04): never sent, guarded by the relay.
pub const LEGACY_DM: u16 = 4;
/// Deletion request (NIP-09); inside a seal, "delete for both" (NIP-17).
pub const DELETION: u16 = 5;
/// Repost of a note, which it may carry (NIP-18).
pub const REPOST: u16 = 6;
/// Reaction (NIP-25).
pub const REACTION: u16 = 7;
/// Seal (NIP-59): signs and hides the sender. Never on a relay by itself.
pub const SEAL: u16 = 13;
/// Text message, a rumor (NIP-17).
pub const TEXT: u16 = 14;
/// File message, a rumor (NIP-17).
pub const FILE: u16 = 15;
/// Repost of anything else (NIP-18).
pub const GENERIC_REPOST: u16 = 16;
/// Request to vanish (NIP-62).
pub const VANISH: u16 = 62;
/// Gift wrap (NIP-59).
pub const WRAP: u16 = 1059;
/// Receipt, a rumor of Sotto's own (`docs/protocol/events.md`).
pub const RECEIPT: u16 = 1451;
/// List of inbox relays (NIP-17).
pub const INBOX_RELAYS: u16 = 10050;
/// List of file servers (BUD-03).
pub const FILE_SERVERS: u16 = 10063;
/// Device list, reserved for the sessions.
pub const DEVICE_LIST: u16 = 10450;
/// Gift wrap that must not wait and is not stored (NIP-59).
pub const EPHEMERAL_WRAP: u16 = 21059;
/// Relay authentication (NIP-42): never stored, never served.
pub const CLIENT_AUTH: u16 = 22242;
/// Blossom authorization (BUD-11).
pub const BLOB_AUTH: u16 = 24242;
/// Proof of who makes an HTTP request (NIP-98).
pub const HTTP_AUTH: u16 = 27235;
/// Request to join a relay (NIP-43): for the relay alone, never passed on.
pub const JOIN: u16 = 28934;
/// Request to leave a relay (NIP-43): for the relay alone, never passed on.
pub const LEAVE: u16 = 28936;
/// Application data (NIP-78): the circle definitions.
pub const APP_DATA: u16 = 30078;
/// Key package, reserved for the sessions.
pub const KEY_PACKAGE: u16 = 30450;

/// What Sotto publishes on its users' relays, beside deletions and requests to join or to leave.
/// A relay that takes some kinds only, and not all of these, is one that Sotto cannot live on.
pub const SOTTO: [u16; 5] = [WRAP, EPHEMERAL_WRAP, INBOX_RELAYS, FILE_SERVERS, APP_DATA];

/// Whether only the newest event of an author and kind counts (NIP-01).
pub fn is_replaceable(kind: u16) -> bool {
    kind == 0 || kind == 3 || (10_000..20_000).contains(&kind)
}

/// Whether the event is passed on and never stored (NIP-01).
pub fn is_ephemeral(kind: u16) -> bool {
    (20_000..30_000).contains(&kind)
}

/// Whether only the newest event of an author, kind and `d` tag counts (NIP-01).
pub fn is_addressable(kind: u16) -> bool {
    (30_000..40_000).contains(&kind)
}

/// Whether the kind is a gift wrap, stored or not.
pub fn is_wrap(kind: u16) -> bool {
    kind == WRAP || kind == EPHEMERAL_WRAP
}
