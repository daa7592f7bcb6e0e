//! Every size and count that a stranger could otherwise choose, in one table.
//!
//! Sizes are bytes of the encoded form unless said otherwise. A relay or file server may be
//! configured to allow less; nothing of ours decodes more.

/// One event as JSON. Leaves room for a 40 KiB session message in a seal in a wrap.
pub const EVENT_BYTES: usize = 81_920;
/// One WebSocket frame, before it is parsed.
pub const FRAME_BYTES: usize = 131_072;
/// Tags of one event.
pub const TAGS: usize = 2_000;
/// Elements of one tag.
pub const TAG_ELEMENTS: usize = 512;
/// Nested arrays and objects, the frame's own included.
pub const NESTING: usize = 16;
/// The JSON of a rumor; sealed and wrapped it still fits [`EVENT_BYTES`].
pub const RUMOR_BYTES: usize = 40_960;
/// The text of one message, UTF-8.
pub const TEXT_BYTES: usize = 32_768;
/// Characters of a subscription id (NIP-01).
pub const SUBSCRIPTION_ID_CHARS: usize = 64;
/// Filters of one REQ.
pub const FILTERS: usize = 10;
/// Values of one list in a filter.
pub const FILTER_VALUES: usize = 500;
/// Different tag letters in one filter.
pub const FILTER_TAGS: usize = 3;
/// Bytes of one tag value in a filter.
pub const FILTER_VALUE_BYTES: usize = 1_024;
/// One negentropy message before hexadecimal (NIP-77); doubled it fits [`FRAME_BYTES`] beside a
/// filter of moderate size.
pub const NEGENTROPY_BYTES: usize = 60_000;
/// A challenge, as a relay may send it (NIP-42).
pub const CHALLENGE_BYTES: usize = 256;
/// The free text of OK, CLOSED and NOTICE that is kept.
pub const RELAY_MESSAGE_BYTES: usize = 1_024;
/// A relay or file server URL.
pub const URL_BYTES: usize = 255;
/// An `Authorization` header, before base64 is touched.
pub const AUTHORIZATION_BYTES: usize = 8_192;
/// An invite code of a relay (NIP-43), ours or another's.
pub const INVITE_CODE_BYTES: usize = 256;
/// A NIP-19 link of any kind.
pub const LINK_BYTES: usize = 4_096;
/// Relays named by one link.
pub const LINK_RELAYS: usize = 10;
/// The name in an invite link.
pub const NAME_BYTES: usize = 64;
/// Relays of a recipient's list that a message is sent to.
pub const RECIPIENT_RELAYS: usize = 5;
/// How far back the time of a wrap may lie (NIP-59 draws up to two days), seconds.
pub const WRAP_PAST_SECONDS: u64 = 2 * 86_400 + 15 * 60;
/// How far ahead the time of a wrap may lie, seconds.
pub const WRAP_FUTURE_SECONDS: u64 = 15 * 60;
/// A file for a client that knows only NIP-17's one-shot aes-gcm.
pub const FOREIGN_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The largest file of all: STREAM counts 2^32 chunks of 64 KiB; disks end earlier.
pub const FILE_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// The name of a received file, as bytes of UTF-8.
pub const FILE_NAME_BYTES: usize = 200;
