//! Why bytes from outside were refused.

/// A refusal while decoding. The text names the rule and never quotes the input, which may
/// hold anything, a terminal escape or somebody's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Larger than the limit of `what`, in bytes or items.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// The limit that it broke.
        limit: usize,
    },
    /// More of `what` than the limit.
    #[error("there are more than {limit} {what}")]
    TooMany {
        /// What there was too much of.
        what: &'static str,
        /// The limit that it broke.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// Arrays or objects nested deeper than [`crate::limits::NESTING`].
    #[error("JSON is nested too deeply")]
    TooDeep,
    /// Not JSON, a field missing, twice, or of another type.
    #[error("{what} is not as NIP-01 defines it")]
    Malformed {
        /// The part that was being read.
        what: &'static str,
    },
    /// A filter asks for something that NIP-01 does not know, such as a search.
    #[error("filter contains unknown elements")]
    UnknownFilter,
    /// A frame type that this program does not know.
    #[error("unknown message type")]
    UnknownFrame,
    /// A link, key or address that does not parse.
    #[error("not a valid {what}")]
    Invalid {
        /// What was expected.
        what: &'static str,
    },
}

impl DecodeError {
    pub(crate) fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }

    pub(crate) fn invalid(what: &'static str) -> Self {
        Self::Invalid { what }
    }
}
