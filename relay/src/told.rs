//! What holds here and others are told: every limit that a client can meet, and who may write
//! what. The document for programs ([`crate::nip11`]) and the page for people ([`crate::page`])
//! are made from this, so neither says more than the other.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::limits::{
    FILTER_TAGS, FILTER_VALUE_BYTES, FILTER_VALUES, FILTERS, FRAME_BYTES, NEGENTROPY_BYTES,
    NESTING, SUBSCRIPTION_ID_CHARS, TAG_ELEMENTS, TAGS,
};

use crate::budget::Rate;
use crate::config::Config;
use crate::policy::{AUTH_WINDOW_SECONDS, WorkOf, Writers};
use crate::settings::InForce;

/// What the fields around the content of an event take at least.
const ENVELOPE_BYTES: usize = 512;
/// The first rows of the table are those that people ask for first.
const COMMON: usize = 13;

/// A limit as it is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its name in the document's `limitation`: NIP-11's own where that has one.
    pub name: &'static str,
    /// What it limits, for people.
    pub of: &'static str,
    /// How much.
    pub most: Amount,
    /// Whether people ask for it first.
    pub is_common: bool,
}

/// How much of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// Seconds.
    Seconds(u64),
    /// Things in a time.
    Counts(Rate),
    /// Bytes in a time.
    ByteRate(Rate),
}

/// Every limit; those that are not set are left out.
pub fn limits(config: &Config) -> Vec<Limit> {
    let Config { rules, limits, .. } = config;
    let content = rules.event_bytes.saturating_sub(ENVELOPE_BYTES);
    let table = [
        // What people ask for first.
        ("max_event_bytes", "Largest event", bytes(rules.event_bytes)),
        ("max_message_length", "Largest message", bytes(FRAME_BYTES)),
        (
            "max_wraps_per_recipient",
            "Sealed messages that wait for one recipient",
            rules.wraps_per_recipient.map(Amount::Count),
        ),
        (
            "max_wrap_bytes_per_recipient",
            "Their size together",
            rules.bytes_per_recipient.map(Amount::Bytes),
        ),
        (
            "max_subscriptions",
            "Subscriptions",
            count(limits.subscriptions),
        ),
        ("max_filters", "Filters of a subscription", count(FILTERS)),
        (
            "max_limit",
            "Stored events for one filter",
            count(limits.events_per_filter),
        ),
        (
            "max_count",
            "Events that are counted",
            count(limits.counted_events),
        ),
        (
            "max_reconciled",
            "Events that are reconciled",
            count(limits.reconciled_events),
        ),
        (
            "max_auth_tries",
            "Attempts to prove a key",
            count(limits.auth_tries),
        ),
        (
            "address_connections",
            "Connections from one address",
            count(limits.connections_per_address),
        ),
        (
            "address_events",
            "Events from one address",
            limits.events_per_address.map(Amount::Counts),
        ),
        (
            "address_bytes",
            "Bytes from one address",
            limits.bytes_per_address.map(Amount::ByteRate),
        ),
        // An event.
        (
            "max_content_length",
            "Largest content of an event",
            bytes(content),
        ),
        ("max_event_tags", "Tags of an event", count(TAGS)),
        ("max_tag_elements", "Elements of a tag", count(TAG_ELEMENTS)),
        ("max_nesting", "Nested arrays and objects", count(NESTING)),
        (
            "created_at_upper_limit",
            "How far ahead an event may be dated",
            Some(Amount::Seconds(rules.future)),
        ),
        (
            "max_wrap_age",
            "How old a sealed message may be",
            rules.wrap_past.map(Amount::Seconds),
        ),
        (
            "max_events_in_flight",
            "Events that wait for their answer",
            count(limits.events_in_flight),
        ),
        // A filter, and what is asked with it.
        (
            "default_limit",
            "Stored events where a filter names no limit",
            count(limits.events_per_filter),
        ),
        (
            "max_filter_values",
            "Values of one list in a filter",
            count(FILTER_VALUES),
        ),
        (
            "max_filter_value_bytes",
            "Largest value of a tag in a filter",
            bytes(FILTER_VALUE_BYTES),
        ),
        ("max_filter_tags", "Tags in a filter", count(FILTER_TAGS)),
        (
            "max_filter_bytes",
            "Memory of all filters together",
            bytes(limits.filter_bytes),
        ),
        (
            "max_subid_length",
            "Characters of a subscription's id",
            count(SUBSCRIPTION_ID_CHARS),
        ),
        (
            "max_counts",
            "Counts at the same time",
            count(limits.counts),
        ),
        (
            "max_reconciliations",
            "Reconciliations at the same time",
            count(limits.reconciliations),
        ),
        (
            "max_reconciled_altogether",
            "Events in the reconciliations of everybody together",
            count(limits.reconciled_altogether),
        ),
        (
            "max_negentropy_bytes",
            "Largest message of a reconciliation",
            bytes(NEGENTROPY_BYTES),
        ),
        (
            "reconcile_idle",
            "Silence that ends a reconciliation",
            seconds(limits.reconcile_idle),
        ),
        // A connection.
        (
            "max_connections",
            "Connections altogether",
            count(limits.connections),
        ),
        (
            "max_held_bytes",
            "Memory of all connections together",
            bytes(limits.held_bytes),
        ),
        (
            "max_send_queue_bytes",
            "Bytes that wait to be read",
            bytes(limits.send_queue_bytes),
        ),
        (
            "max_malformed_messages",
            "Malformed messages",
            count(limits.malformed_messages),
        ),
        (
            "max_join_tries",
            "Wrong invite codes",
            count(limits.join_tries),
        ),
        (
            "auth_window",
            "How far the time of a proof may be off",
            Some(Amount::Seconds(AUTH_WINDOW_SECONDS)),
        ),
        (
            "address_auth",
            "Attempts to prove a key from one address",
            limits.auth_per_address.map(Amount::Counts),
        ),
        (
            "address_wrong_codes",
            "Wrong invite codes from one address",
            limits.wrong_codes_per_address.map(Amount::Counts),
        ),
        (
            "header_timeout",
            "Time for the HTTP request",
            seconds(limits.header_timeout),
        ),
        (
            "message_timeout",
            "Time for a message",
            seconds(limits.message_timeout),
        ),
        (
            "write_timeout",
            "Time to take what is sent",
            seconds(limits.write_timeout),
        ),
        (
            "idle_ping",
            "Silence before a ping",
            seconds(limits.idle_ping),
        ),
    ];
    let rows = table.into_iter().enumerate();
    rows.filter_map(|(index, (name, of, most))| {
        Some(Limit {
            name,
            of,
            most: most?,
            is_common: index < COMMON,
        })
    })
    .collect()
}

fn count(count: usize) -> Option<Amount> {
    Some(Amount::Count(as_u64(count)))
}

fn bytes(bytes: usize) -> Option<Amount> {
    Some(Amount::Bytes(as_u64(bytes)))
}

fn seconds(time: Duration) -> Option<Amount> {
    Some(Amount::Seconds(time.as_secs()))
}

/// Which kinds are taken, by the configuration and what was decided at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kinds {
    /// All but these.
    AllBut(BTreeSet<u16>),
    /// These, and beside them deletions and requests to vanish.
    Only(BTreeSet<u16>),
}

impl Kinds {
    /// Those that are in force.
    pub fn of(in_force: &InForce) -> Self {
        let roster = &in_force.roster;
        match &in_force.config.rules.kinds {
            None => Self::AllBut(roster.disallowed_kinds().clone()),
            Some(kinds) => Self::Only(
                kinds
                    .union(roster.allowed_kinds())
                    .filter(|kind| !roster.disallowed_kinds().contains(kind))
                    .copied()
                    .collect(),
            ),
        }
    }

    /// Whether any is.
    pub fn is_every(&self) -> bool {
        matches!(self, Self::AllBut(kinds) if kinds.is_empty())
    }
}

/// The word of the configuration for who may write.
pub fn word_of_writers(writers: &Writers) -> &'static str {
    match writers {
        Writers::Anybody => "open",
        Writers::Members(_) => "members",
        Writers::Recipients(_) => "recipients",
    }
}

/// The word of the configuration for what needs work.
pub fn word_of_work(of: WorkOf) -> &'static str {
    match of {
        WorkOf::AnonymousWraps => "wraps",
        WorkOf::Everything => "everything",
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
