//! What the client remembers.
