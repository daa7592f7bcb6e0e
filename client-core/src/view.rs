//! Plain read models for every face: what the engine knows, in the shape of `cli.md`'s objects.
//!
//! Fields serialise under their contract names; the face adds `schema`. Text in them may come
//! from peers and servers: a terminal prints it only through a printer that makes it harmless.

use serde::Serialize;

/// `sotto.message/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageView {
    /// Local, increasing.
    pub seq: i64,
    /// Rumor id, hex.
    pub id: String,
    /// The circle's name.
    pub circle: String,
    /// Conversation id, hex.
    pub conversation: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// Author's key, hex.
    pub from: String,
    /// The contact's alias, if it has one.
    pub from_alias: Option<String>,
    /// `text`, `file` or `voice`.
    pub kind: &'static str,
    /// The text; empty for a file.
    pub text: String,
    /// Files that it carries.
    pub files: Vec<FileView>,
    /// The time the author claims.
    pub sent_at: u64,
    /// When this home first had it.
    pub received_at: u64,
    /// When it vanishes.
    pub expires_at: Option<u64>,
    /// The message it answers, hex.
    pub reply_to: Option<String>,
    /// Reactions; empty until they are built.
    pub reactions: Vec<ReactionView>,
    /// Whether its text was edited.
    pub edited: bool,
    /// `queued`, `accepted`, `stored`, `delivered`, `read`, `refused` or, for incoming ones,
    /// `received`.
    pub status: &'static str,
    /// True while the sender is a stranger.
    pub request: bool,
    /// Whether a forward-secret session carried it.
    pub forward_secret: bool,
}

/// A file inside a message: the delivered plaintext's name, size and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileView {
    /// As the sender named it. Untrusted.
    pub name: String,
    /// Bytes of the plaintext, where known.
    pub size: Option<u64>,
    /// MIME type, as the sender says.
    pub mime: String,
    /// SHA-256 of the plaintext, where known, hex.
    pub sha256: Option<String>,
}

/// One reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReactionView {
    /// Whose, hex.
    pub from: String,
    /// What.
    pub emoji: String,
}

/// `sotto.sent/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentView {
    /// Rumor id of the first message.
    pub id: String,
    /// All of them, where files made several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Conversation id, hex.
    pub conversation: String,
    /// The lowest state of all recipients: `queued`, `accepted`, `stored`, `delivered`,
    /// `refused`.
    pub status: &'static str,
    /// When it vanishes.
    pub expires_at: Option<u64>,
    /// One per recipient.
    pub recipients: Vec<RecipientView>,
}

/// What became of a message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientView {
    /// The recipient's key, hex.
    pub pubkey: String,
    /// `queued`, `accepted`, `stored`, `delivered`, `read` or `refused`.
    pub status: &'static str,
    /// One per relay.
    pub relays: Vec<RelayOutcome>,
}

/// What one relay or server said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayOutcome {
    /// Which.
    pub url: String,
    /// Whether it did what was asked.
    pub ok: bool,
    /// In words. Untrusted where it quotes the server.
    pub detail: String,
}

/// `sotto.synced/1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SyncView {
    /// Events that came.
    pub received: u64,
    /// Messages that were new.
    pub new: u64,
    /// One per inbox relay.
    pub relays: Vec<RelayOutcome>,
}

/// `sotto.deleted/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeletedView {
    /// Rumor id.
    pub id: String,
    /// What is known of the wraps, per relay.
    pub relays: Vec<ErasedView>,
    /// What is known of the blobs, per server.
    pub file_servers: Vec<ErasedView>,
    /// What the peers' clients said.
    pub peers: Vec<PeerErasedView>,
}

/// What one server did about a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasedView {
    /// Which.
    pub url: String,
    /// Relay: it said OK or never had it. File server: 404 or 410 afterwards.
    pub erased: bool,
    /// In words.
    pub detail: String,
}

/// What one peer's client said about a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerErasedView {
    /// Whose, hex.
    pub pubkey: String,
    /// Whether a `deleted` receipt came.
    pub confirmed: bool,
}

/// `message status ID`: deleted ids give the deletion's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusView {
    /// `sotto.sent/1`.
    Sent(SentView),
    /// `sotto.deleted/1`.
    Deleted(DeletedView),
}

/// `sotto.conversation/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationView {
    /// Conversation id, hex.
    pub conversation: String,
    /// The contact's alias.
    pub alias: Option<String>,
    /// The members other than oneself, hex.
    pub members: Vec<String>,
    /// Incoming messages not yet listed or shown.
    pub unread: u64,
    /// The newest message.
    pub last: Option<MessageView>,
    /// True while it is a stranger's.
    pub request: bool,
}

/// `sotto.contact/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContactView {
    /// The name the user gave.
    pub alias: Option<String>,
    /// Key, hex.
    pub pubkey: String,
    /// Key as npub.
    pub npub: String,
    /// Whether the user compared keys.
    pub verified: bool,
    /// Whether the user blocked it.
    pub blocked: bool,
}

/// `sotto.circle/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircleView {
    /// The name.
    pub name: String,
    /// NIP-06 account index.
    pub index: u32,
    /// Its account key, hex.
    pub pubkey: String,
    /// Its account key as npub.
    pub npub: String,
    /// Inbox relays.
    pub relays: Vec<String>,
    /// File servers.
    pub file_servers: Vec<String>,
    /// How long its messages live, seconds.
    pub expire_s: Option<u64>,
    /// Whether commands use it without `--circle`.
    pub current: bool,
}

/// `sotto.account/1`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// Account key of the circle as npub.
    pub npub: String,
    /// The same, hex.
    pub pubkey: String,
    /// The circle's name.
    pub circle: String,
    /// Inbox relays.
    pub relays: Vec<String>,
    /// File servers.
    pub file_servers: Vec<String>,
    /// How the home is unlocked: `pin`, `passphrase` or `key_file`, and where the device secret
    /// lies (`file`).
    pub protected_by: String,
    /// The seed words, only when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

impl std::fmt::Debug for AccountView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountView")
            .field("npub", &self.npub)
            .finish_non_exhaustive()
    }
}

/// `sotto.relay/1` and `sotto.fileserver/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerView {
    /// Which.
    pub url: String,
    /// For `check`: whether every check held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// For `check`: one per question asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckView>,
}

/// One question of a `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckView {
    /// What was asked.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// In words.
    pub detail: String,
}

/// `sotto.outbox_item/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxView {
    /// Names the item.
    pub id: String,
    /// The message it belongs to, hex; none for lists and deletions.
    pub message: Option<String>,
    /// The recipient's key, hex.
    pub recipient: Option<String>,
    /// One per relay.
    pub relays: Vec<RelayOutcome>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: u64,
}

/// `sotto.event/1`: what `message watch` streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// Local, increasing; never given twice.
    pub seq: i64,
    /// `message`, `receipt`, `reaction`, `edit`, `delete`, `request` or `expire`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The message, where there is one to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageView>,
    /// The id it is about, hex, otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For receipts: `delivered`, `read` or `deleted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// `sotto.file/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavedFileView {
    /// Where it was written; `-` for stdout.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// MIME type, as the sender says.
    pub mime: String,
}
