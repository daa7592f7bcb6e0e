//! What goes into the engine from the network and what comes out of it.
//!
//! The engine never opens a socket. It returns [`Effect`]s; the runtime (or, in tests, a seeded
//! network) carries them out and feeds [`Input`]s back. The rules between the two:
//!
//! - Every effect with an [`OpId`] is answered by exactly one *final* input with that id:
//!   [`Input::Published`], [`Input::QueryEnded`], [`Input::Described`] or [`Input::BlobDone`].
//!   [`Input::Events`] may come any number of times before [`Input::QueryEnded`]. Each message of
//!   a reconciliation is answered by one [`Input::Reconciled`].
//! - Nothing is lost by a crash: the intent is in the store before the effect is returned, and
//!   the next start emits it again.
//! - Effects with equal [`SocketKey`]s may share a connection. Effects with different ones never
//!   do: that is what keeps a wrap apart from an account's AUTH.

use std::collections::BTreeSet;

use bytes::Bytes;
use wire::blob::BlobUrl;
use wire::relay_url::Origin;
use wire::{EventId, Filter, OkMessage, PublicKey, RelayUrl, Sha256};

/// Names one operation of one run of the engine. Not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What a socket is for. See `docs/protocol/sockets.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads one inbox key's wraps, on the user's own relays; may AUTH with that key.
    Inbox,
    /// Publishes wraps and one-time deletions; AUTHs with a fresh random key, if at all.
    Publish,
    /// Looks up one other person's lists.
    Lookup,
    /// Publishes wraps as the account, because the user asked for it (`--as-myself`): a publish
    /// socket that may AUTH with the account key, and that therefore carries nothing else.
    AsMyself,
}

/// Two operations share a connection only if their keys are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey {
    /// The circle's index.
    pub circle: u32,
    /// What it is for.
    pub role: Role,
    /// The inbox key that is read (inbox), written to (publish, as myself), or the author looked
    /// up.
    pub key: PublicKey,
    /// Where it leads.
    pub relay: RelayUrl,
    /// Whether the relay was named by the user's own configuration: only then may it lead to
    /// loopback or a private network.
    pub is_own: bool,
}

/// What the engine wants done. Network only: the store was written before it is returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send an EVENT and wait for its OK. Answered by [`Input::Published`].
    Publish {
        /// The operation.
        op: OpId,
        /// By which socket.
        socket: SocketKey,
        /// The event's id, which the OK will name.
        id: EventId,
        /// Its finished JSON.
        event: Bytes,
    },
    /// Send a REQ, hand on what comes until EOSE, then CLOSE. Answered by any number of
    /// [`Input::Events`] and one [`Input::QueryEnded`].
    Query {
        /// The operation.
        op: OpId,
        /// By which socket.
        socket: SocketKey,
        /// Exactly what to ask.
        filter: Filter,
        /// Keep the subscription open after EOSE: a first [`Input::CaughtUp`] at EOSE, then
        /// live events; [`Input::QueryEnded`] when the connection or subscription ends.
        live: bool,
    },
    /// Go on with a reconciliation (NIP-77). Each message is answered by one
    /// [`Input::Reconciled`]; it is over with the first answer that is no message, or with
    /// [`ReconcileStep::Close`].
    Reconcile {
        /// The operation, the same for all its steps.
        op: OpId,
        /// By which socket.
        socket: SocketKey,
        /// What to say.
        step: ReconcileStep,
    },
    /// Ask a relay of ours for its own description (NIP-11), on a connection of its own that
    /// carries nothing else. Answered by [`Input::Described`].
    Describe {
        /// The operation.
        op: OpId,
        /// Which.
        relay: RelayUrl,
    },
    /// Answer to [`Input::Challenged`]: send this AUTH event, then repeat what waited for it.
    Authenticate {
        /// The socket that was challenged.
        socket: SocketKey,
        /// The signed kind 22242 event.
        event: Bytes,
        /// Its id.
        id: EventId,
    },
    /// Answer to [`Input::Challenged`]: do not authenticate; what needs it fails as refused.
    StayAnonymous {
        /// The socket that was challenged.
        socket: SocketKey,
    },
    /// PUT a spooled blob. Answered by [`Input::BlobDone`].
    Upload {
        /// The operation.
        op: OpId,
        /// To which server.
        origin: Origin,
        /// Whether the server was named by the user's own configuration.
        is_own: bool,
        /// SHA-256 of the ciphertext; also its name in the spool.
        blob: Sha256,
        /// Size of the ciphertext, bytes.
        size: u64,
        /// The `Authorization` header.
        authorization: String,
        /// The wished end of life, Unix seconds.
        sunset: Option<u64>,
    },
    /// DELETE a blob. Answered by [`Input::BlobDone`].
    RemoveBlob {
        /// The operation.
        op: OpId,
        /// Which.
        url: BlobUrl,
        /// Whether the server was named by the user's own configuration.
        is_own: bool,
        /// The `Authorization` header.
        authorization: String,
    },
    /// HEAD a blob, to know whether it is gone. Answered by [`Input::BlobDone`].
    ProbeBlob {
        /// The operation.
        op: OpId,
        /// Which.
        url: BlobUrl,
        /// Whether the server was named by the user's own configuration.
        is_own: bool,
    },
    /// Remove a blob's ciphertext from the local spool. Not answered.
    Unspool {
        /// Its name in the spool.
        blob: Sha256,
    },
}

/// One step of a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReconcileStep {
    /// NEG-OPEN.
    Open {
        /// Which events are compared.
        filter: Filter,
        /// The first message of negentropy.
        message: Vec<u8>,
    },
    /// NEG-MSG.
    Next {
        /// The next message.
        message: Vec<u8>,
    },
    /// NEG-CLOSE. Not answered.
    Close,
}

/// What happened on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed; due retries, expiries and refreshes run.
    Tick,
    /// The relay sent a challenge. On inbox sockets the runtime tells at once; on publish and
    /// lookup sockets only after the relay answered `auth-required:`.
    Challenged {
        /// By which socket.
        socket: SocketKey,
        /// The challenge (NIP-42).
        challenge: String,
    },
    /// An own relay took the account's AUTH and said what it does not do for it all the same:
    /// nothing new is taken for this key. Before whatever waited for the AUTH.
    Unwelcome {
        /// By which socket, always an inbox.
        socket: SocketKey,
        /// In the relay's words, with their prefix.
        why: String,
    },
    /// Final answer to [`Effect::Publish`].
    Published {
        /// The operation.
        op: OpId,
        /// What became of it.
        outcome: PublishOutcome,
    },
    /// Events of a query, raw and unverified, in the order they came; at most 64 at once.
    Events {
        /// The operation.
        op: OpId,
        /// The events' bytes. Those that were not even JSON are left out and counted at the end.
        events: Vec<Bytes>,
    },
    /// A live query has sent all that was stored.
    CaughtUp {
        /// The operation.
        op: OpId,
    },
    /// Final answer to [`Effect::Query`].
    QueryEnded {
        /// The operation.
        op: OpId,
        /// How it ended.
        end: QueryEnd,
        /// Frames that did not decode to an event.
        garbage: u64,
    },
    /// Answer to a message of a reconciliation.
    Reconciled {
        /// The operation.
        op: OpId,
        /// What the relay said.
        answer: ReconcileAnswer,
    },
    /// Final answer to [`Effect::Describe`].
    Described {
        /// The operation.
        op: OpId,
        /// What the relay says of itself.
        outcome: DescribeOutcome,
    },
    /// Final answer to a blob effect.
    BlobDone {
        /// The operation.
        op: OpId,
        /// What became of it.
        outcome: BlobOutcome,
    },
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// OK true.
    Accepted(OkMessage),
    /// OK false, or AUTH could not be met (then the reason is `auth-required` or `restricted`).
    Refused(OkMessage),
    /// No connection; nothing was sent.
    Unreachable(String),
    /// Sent, but no OK came: it may be there.
    Unknown(String),
    /// The address may not be dialled (link-local, or private and not the user's own).
    Forbidden(String),
}

/// How a query ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryEnd {
    /// EOSE; `complete` is NIP-67's hint.
    Eose {
        /// Whether the relay says that nothing matching is left.
        complete: Option<bool>,
    },
    /// CLOSED by the relay, or AUTH could not be met.
    Closed(OkMessage),
    /// No connection, or it ended before EOSE.
    Unreachable(String),
    /// The address may not be dialled.
    Forbidden(String),
}

/// What a relay says to a message of a reconciliation. Only the first goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReconcileAnswer {
    /// NEG-MSG: raw, from a stranger, of a bounded size.
    Message(Vec<u8>),
    /// NEG-ERR or CLOSED; a NOTICE and nothing else; or AUTH could not be met.
    Refused(OkMessage),
    /// Nothing in time.
    Silent,
    /// The connection ended, now or since the last answer.
    Broken(String),
    /// No connection.
    Unreachable(String),
    /// The address may not be dialled.
    Forbidden(String),
}

/// What became of asking a relay about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribeOutcome {
    /// It says that it knows these NIPs.
    Knows(BTreeSet<u16>),
    /// It answered with something else than such a document, or not in time.
    Nothing,
    /// No connection, or it broke.
    Unreachable,
}

/// What became of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobOutcome {
    /// 2xx on PUT or DELETE, or present on HEAD. `sunset` is what the server granted.
    Done {
        /// The end of life that the server named, Unix seconds.
        sunset: Option<u64>,
    },
    /// 404 or 410.
    Absent,
    /// Another answer: the status and the server's `X-Reason`, cut.
    Refused {
        /// HTTP status.
        status: u16,
        /// For people; untrusted.
        reason: String,
    },
    /// No connection, or it broke before a whole answer.
    Unreachable(String),
    /// The address may not be dialled.
    Forbidden(String),
}
