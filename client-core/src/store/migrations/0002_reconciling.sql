-- One inbox key on one of our relays: whether the two can compare what they have (NIP-77).
CREATE TABLE sources (
    source     INTEGER PRIMARY KEY,
    inbox      BLOB NOT NULL,
    relay      TEXT NOT NULL,
    -- 1: the relay's description lists NIP-77; 0: it does not, or there is none; NULL: not asked.
    lists      INTEGER,
    -- Not compared, or not asked again, before this second.
    rest_until INTEGER NOT NULL DEFAULT 0,
    -- How many comparisons in a row ended with the connection.
    breaks     INTEGER NOT NULL DEFAULT 0,
    UNIQUE (inbox, relay)
) STRICT;

-- The wraps that a relay has served for an inbox key, as far as it may still have them: our side
-- of the comparison. A row outlives its message, so that what was deleted is not fetched again,
-- and goes when the relay no longer names it or its outer expiry has passed.
CREATE TABLE served_wraps (
    source     INTEGER NOT NULL REFERENCES sources (source) ON DELETE CASCADE,
    wrap_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (source, wrap_id)
) STRICT, WITHOUT ROWID;
