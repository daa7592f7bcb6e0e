-- One database per circle. Every table is STRICT: a value of another type is a bug, not a surprise.
-- Times are Unix seconds, keys, ids and hashes raw bytes.

-- Small facts: device id, rollback counter, names of what was last published.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- Our own relays and file servers, in the order in which they were named.
CREATE TABLE servers (
    kind     TEXT NOT NULL CHECK (kind IN ('relay', 'file')),
    url      TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (kind, url)
) STRICT;

-- What is known of our own published lists (10050, 10063): the newest event seen anywhere and
-- the addresses in it, which are the base that changes of several devices are merged against.
CREATE TABLE own_lists (
    kind       INTEGER PRIMARY KEY,
    event_id   BLOB,
    created_at INTEGER NOT NULL DEFAULT 0,
    base       TEXT NOT NULL DEFAULT '[]',
    json       BLOB,
    is_dirty   INTEGER NOT NULL DEFAULT 0,
    was_read   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE contacts (
    pubkey      BLOB PRIMARY KEY,
    alias       TEXT UNIQUE,
    is_added    INTEGER NOT NULL DEFAULT 0,
    is_accepted INTEGER NOT NULL DEFAULT 0,
    is_verified INTEGER NOT NULL DEFAULT 0,
    is_blocked  INTEGER NOT NULL DEFAULT 0,
    as_myself   INTEGER NOT NULL DEFAULT 0,
    is_sotto    INTEGER NOT NULL DEFAULT 0,
    hints       TEXT NOT NULL DEFAULT '[]',
    first_at    INTEGER NOT NULL
) STRICT;

-- Other people's signed lists (10050, 10063): the newest verified event of each.
CREATE TABLE peer_lists (
    pubkey     BLOB NOT NULL,
    kind       INTEGER NOT NULL,
    event_id   BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    urls       TEXT NOT NULL,
    PRIMARY KEY (pubkey, kind)
) STRICT;

-- When a person's lists were last looked up, and when to do it again.
CREATE TABLE lookups (
    pubkey     BLOB PRIMARY KEY,
    looked_at  INTEGER NOT NULL,
    refresh_at INTEGER NOT NULL,
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;

-- A conversation has a random id. NIP-17 finds it by its set of members (`members_hash`).
CREATE TABLE conversations (
    id           BLOB PRIMARY KEY,
    channel      TEXT NOT NULL,
    members_hash BLOB UNIQUE,
    protection   INTEGER NOT NULL DEFAULT 0,
    tip          BLOB,
    expire_s     INTEGER,
    counter      INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE members (
    conversation BLOB NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    pubkey       BLOB NOT NULL,
    role         TEXT NOT NULL DEFAULT 'member',
    PRIMARY KEY (conversation, pubkey)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_key ON members (pubkey);

-- Living messages. A deleted or expired one has no row here.
CREATE TABLE messages (
    seq          INTEGER PRIMARY KEY,
    id           BLOB NOT NULL,
    author       BLOB NOT NULL,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    is_own       INTEGER NOT NULL,
    kind         INTEGER NOT NULL,
    text         TEXT NOT NULL,
    claimed_at   INTEGER NOT NULL,
    shown_at     INTEGER NOT NULL,
    counter      INTEGER NOT NULL DEFAULT 0,
    device       BLOB,
    received_at  INTEGER NOT NULL,
    expires_at   INTEGER,
    reply_to     BLOB,
    protection   INTEGER NOT NULL DEFAULT 0,
    is_unread    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (author, id)
) STRICT;
CREATE INDEX messages_in_order ON messages (conversation, shown_at, counter, id);
CREATE INDEX messages_by_id ON messages (id);
CREATE INDEX messages_unread ON messages (conversation) WHERE is_unread = 1;
CREATE INDEX messages_by_expiry ON messages (expires_at) WHERE expires_at IS NOT NULL;

-- Every rumor ever taken, so that none is taken twice, whatever became of it.
CREATE TABLE known_rumors (
    author BLOB NOT NULL,
    id     BLOB NOT NULL,
    PRIMARY KEY (author, id)
) STRICT, WITHOUT ROWID;

-- Rumors of kinds that we do not know: kept, shown to nobody.
CREATE TABLE kept_rumors (
    author      BLOB NOT NULL,
    id          BLOB NOT NULL,
    kind        INTEGER NOT NULL,
    json        TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    expires_at  INTEGER,
    PRIMARY KEY (author, id)
) STRICT;

-- Deletions by (author, rumor id), whether or not the message ever came. `conversation` is where
-- the author may delete it; `scope` says who is to forget it.
CREATE TABLE deletions (
    author       BLOB NOT NULL,
    id           BLOB NOT NULL,
    conversation BLOB,
    scope        TEXT NOT NULL CHECK (scope IN ('here', 'everyone')),
    notice       BLOB,
    made_at      INTEGER NOT NULL,
    PRIMARY KEY (author, id)
) STRICT;

-- What we sent: one row per outgoing rumor, kept for `message status` after the message is gone.
CREATE TABLE sent (
    id           BLOB PRIMARY KEY,
    kind         INTEGER NOT NULL,
    conversation BLOB NOT NULL,
    sent_at      INTEGER NOT NULL,
    expires_at   INTEGER,
    as_myself    INTEGER NOT NULL DEFAULT 0,
    is_here      INTEGER NOT NULL DEFAULT 1,
    has_deletion INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE recipients (
    message BLOB NOT NULL REFERENCES sent (id) ON DELETE CASCADE,
    pubkey  BLOB NOT NULL,
    refusal TEXT,
    PRIMARY KEY (message, pubkey)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key     TEXT PRIMARY KEY,
    message BLOB NOT NULL
) STRICT;

-- The finished seal of a message for one inbox key: made once, wrapped once per attempt.
CREATE TABLE seals (
    message BLOB NOT NULL,
    inbox   BLOB NOT NULL,
    seal    BLOB NOT NULL,
    PRIMARY KEY (message, inbox)
) STRICT;

-- Events to publish or published. `json` is finished bytes, erased when nobody needs them again.
--   wrap      a message for an inbox key
--   deletion  a one-time key takes a wrap back
--   cleaning  our account deletes wraps addressed to it
--   list      our own 10050 or 10063
--   circles   the circle definitions
CREATE TABLE envelopes (
    event_id   BLOB PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('wrap', 'deletion', 'cleaning', 'list', 'circles')),
    message    BLOB,
    inbox      BLOB NOT NULL,
    attempt    INTEGER NOT NULL DEFAULT 0,
    target     BLOB,
    json       BLOB,
    dated_at   INTEGER NOT NULL,
    expires_at INTEGER,
    is_routed  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX envelopes_by_message ON envelopes (message);
CREATE INDEX envelopes_unrouted ON envelopes (inbox) WHERE is_routed = 0;
CREATE INDEX envelopes_alive ON envelopes (message) WHERE json IS NOT NULL;

-- One event for one relay.
--   queued -> sending (leased) -> accepted | refused | queued again; cancelled, expired
-- `touched` is 1 from the first moment when the relay may have it.
CREATE TABLE outbox (
    row        INTEGER PRIMARY KEY,
    event_id   BLOB NOT NULL REFERENCES envelopes (event_id) ON DELETE CASCADE,
    relay      TEXT NOT NULL,
    is_own     INTEGER NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('publish', 'inbox', 'as_myself')),
    state      TEXT NOT NULL DEFAULT 'queued'
               CHECK (state IN ('queued', 'sending', 'accepted', 'refused', 'cancelled', 'expired', 'given_up')),
    touched    INTEGER NOT NULL DEFAULT 0,
    last       TEXT NOT NULL DEFAULT '',
    detail     TEXT NOT NULL DEFAULT '',
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    UNIQUE (event_id, relay)
) STRICT;
CREATE INDEX outbox_due ON outbox (next_at) WHERE state IN ('queued', 'sending');

-- Files of messages; the keys are in `secrets`.
CREATE TABLE files (
    message    BLOB PRIMARY KEY,
    author     BLOB NOT NULL,
    blob       BLOB NOT NULL,
    cipher_size INTEGER,
    plain_size INTEGER,
    plain_hash BLOB,
    name       TEXT NOT NULL,
    mime       TEXT NOT NULL,
    urls       TEXT NOT NULL
) STRICT;

-- A blob of ours at one file server, and the way it is going.
--   upload -> stored | refused;  remove -> probe -> gone | kept;  never (was not sent)
CREATE TABLE blob_places (
    blob       BLOB NOT NULL,
    origin     TEXT NOT NULL,
    message    BLOB NOT NULL,
    is_own     INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    state      TEXT NOT NULL
               CHECK (state IN ('upload', 'stored', 'refused', 'remove', 'probe', 'gone', 'kept', 'never')),
    touched    INTEGER NOT NULL DEFAULT 0,
    sunset     INTEGER,
    granted    INTEGER,
    last       TEXT NOT NULL DEFAULT '',
    detail     TEXT NOT NULL DEFAULT '',
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (blob, origin)
) STRICT;
CREATE INDEX blob_places_by_message ON blob_places (message);
CREATE INDEX blob_places_due ON blob_places (next_at) WHERE state IN ('upload', 'remove', 'probe');

-- Ciphertext that lies in the spool of this home.
CREATE TABLE spool (
    blob    BLOB PRIMARY KEY,
    message BLOB NOT NULL
) STRICT;

-- Every wrap that came, so that none is opened twice.
CREATE TABLE wraps (
    wrap_id    BLOB PRIMARY KEY,
    inbox      BLOB NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('opened', 'refused', 'pending', 'dropped')),
    reason     TEXT NOT NULL DEFAULT '',
    author     BLOB,
    rumor      BLOB,
    expires_at INTEGER,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX wraps_by_rumor ON wraps (author, rumor);
CREATE INDEX wraps_by_outcome ON wraps (outcome, seen_at);

-- On which of our relays each wrap was seen.
CREATE TABLE wrap_places (
    wrap_id    BLOB NOT NULL REFERENCES wraps (wrap_id) ON DELETE CASCADE,
    relay      TEXT NOT NULL,
    is_deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (wrap_id, relay)
) STRICT, WITHOUT ROWID;

-- Receipts from peers about our messages, and the ones that we owe or gave.
CREATE TABLE receipts (
    rumor  BLOB NOT NULL,
    peer   BLOB NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('delivered', 'read', 'deleted')),
    device BLOB,
    at     INTEGER NOT NULL,
    PRIMARY KEY (rumor, peer, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts_sent (
    rumor  BLOB NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (rumor, status)
) STRICT, WITHOUT ROWID;

-- What happened, in the order in which it happened here. `seq` of a message is its seq here.
CREATE TABLE journal (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    type   TEXT NOT NULL,
    author BLOB,
    rumor  BLOB,
    status TEXT,
    at     INTEGER NOT NULL
) STRICT;

-- Secrets have a table of their own: erased by date, and never part of a backup.
--   deletion  the deletion secret of one of our rumors
--   file      key and nonce of a message's file
--   upload    the key of a blob's claim at one file server (owner: a hash of both)
CREATE TABLE secrets (
    purpose     TEXT NOT NULL,
    owner       BLOB NOT NULL,
    value       BLOB NOT NULL,
    erase_after INTEGER,
    PRIMARY KEY (purpose, owner)
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------------------------------------
-- Room for forward-secret sessions (one MLS group per conversation, one leaf per device).

-- Envelopes that cannot be opened yet, with their bytes.
CREATE TABLE pending_wraps (
    wrap_id     BLOB PRIMARY KEY REFERENCES wraps (wrap_id) ON DELETE CASCADE,
    inbox       BLOB NOT NULL,
    reason      TEXT NOT NULL,
    bytes       BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    expires_at  INTEGER
) STRICT;

CREATE TABLE devices (
    account  BLOB NOT NULL,
    device   BLOB NOT NULL,
    key      BLOB,
    seq      INTEGER NOT NULL DEFAULT 0,
    status   TEXT NOT NULL DEFAULT 'live',
    heard_at INTEGER NOT NULL,
    PRIMARY KEY (account, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_lists (
    account    BLOB NOT NULL,
    seq        INTEGER NOT NULL,
    event_id   BLOB NOT NULL,
    json       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, seq)
) STRICT;

-- Account key and list key as first seen, or as an invite link named them.
CREATE TABLE pins (
    account   BLOB PRIMARY KEY,
    list_key  BLOB NOT NULL,
    pinned_at INTEGER NOT NULL,
    source    TEXT NOT NULL
) STRICT;

-- Only forward: unknown -> plain -> capable -> secure.
CREATE TABLE contact_state (
    account BLOB PRIMARY KEY,
    state   TEXT NOT NULL DEFAULT 'unknown'
            CHECK (state IN ('unknown', 'plain', 'capable', 'secure')),
    since   INTEGER NOT NULL
) STRICT;

CREATE TABLE group_states (
    conversation  BLOB NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    state         BLOB NOT NULL,
    parent        BLOB,
    epoch         INTEGER NOT NULL,
    superseded_at INTEGER,
    blob          BLOB NOT NULL,
    PRIMARY KEY (conversation, state)
) STRICT;

CREATE TABLE heard (
    conversation BLOB NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    account      BLOB NOT NULL,
    device       BLOB NOT NULL,
    epoch        INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (conversation, account, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_packages (
    account    BLOB NOT NULL,
    device     BLOB NOT NULL,
    event_id   BLOB NOT NULL,
    json       BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (account, device)
) STRICT;

CREATE TABLE resend_requests (
    wrap_id  BLOB NOT NULL,
    peer     BLOB NOT NULL,
    count    INTEGER NOT NULL DEFAULT 0,
    asked_at INTEGER NOT NULL,
    PRIMARY KEY (wrap_id, peer)
) STRICT, WITHOUT ROWID;
