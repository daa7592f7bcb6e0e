//! What the relay says about itself to programs (NIP-11); for people see [`crate::page`].

use serde_json::{Map, Value, json};
use wire::limits;

use crate::budget::Rate;
use crate::config::{Config, Limits};
use crate::policy::{Rules, Writers};
use crate::settings::InForce;

/// The NIPs that this relay follows, whatever its configuration. Those of clients alone are not
/// for a relay to list (NIP-11).
const SUPPORTED_NIPS: [u16; 15] = [1, 4, 9, 11, 17, 40, 42, 43, 45, 59, 62, 65, 67, 70, 77];

/// What the fields around the content of an event take at least.
const ENVELOPE_BYTES: usize = 512;

/// The NIPs that a relay with this configuration follows.
pub fn supported_nips(config: &Config) -> Vec<u16> {
    let mut nips = SUPPORTED_NIPS.to_vec();
    if config.rules.work.is_some() {
        nips.push(13);
    }
    if !config.admins.is_empty() {
        nips.push(86);
    }
    nips.sort_unstable();
    nips
}

/// The relay information document. Every limit in it is one that is enforced, and every one that
/// an operator can set is in it.
pub fn document(in_force: &InForce) -> Value {
    let InForce { config, roster, .. } = in_force;
    let rules = &config.rules;
    let about = in_force.about();
    let is_restricted = rules.writers != Writers::Anybody
        || rules.kinds.is_some()
        || !roster.disallowed_kinds().is_empty();
    let mut document = json!({
        "name": about.name,
        "description": about.description,
        "contact": about.contact,
        "supported_nips": supported_nips(config),
        // Not in "software": that is for the URL of a home page.
        "version": concat!("sotto-relay ", env!("CARGO_PKG_VERSION")),
        "limitation": {
            "max_message_length": limits::FRAME_BYTES,
            "max_content_length": rules.event_bytes.saturating_sub(ENVELOPE_BYTES),
            "max_event_tags": limits::TAGS,
            "max_subscriptions": config.limits.subscriptions,
            "max_filters": limits::FILTERS,
            "max_limit": config.limits.events_per_filter,
            "default_limit": config.limits.events_per_filter,
            "max_count": config.limits.counted_events,
            "max_reconciled": config.limits.reconciled_events,
            "max_reconciliations": config.limits.reconciliations,
            "max_subid_length": limits::SUBSCRIPTION_ID_CHARS,
            "min_pow_difficulty": rules.work.map_or(0, |work| work.bits),
            "auth_required": false,
            "payment_required": false,
            "restricted_writes": is_restricted,
            "created_at_upper_limit": rules.future,
        },
        "retention": [{ "kinds": [[20_000, 29_999]], "time": 0 }],
    });
    if let Some(Value::Object(limitation)) = document.get_mut("limitation") {
        limitation.extend(own_limits(rules, &config.limits));
    }
    if let Some(fields) = document.as_object_mut() {
        if let Some(pubkey) = &config.about.pubkey {
            fields.insert("pubkey".to_owned(), pubkey.to_hex().into());
        }
        fields.retain(|_, value| value.as_str() != Some(""));
    }
    document
}

/// The limits that NIP-11 has no names for: in bytes, seconds, or how many; those that are not
/// set are left out. What begins with `address_` holds for all connections from one address.
fn own_limits(rules: &Rules, limits: &Limits) -> Map<String, Value> {
    let rate = |rate: Option<Rate>| {
        rate.map(
            |Rate {
                 count,
                 seconds,
                 burst,
             }| { json!({"count": count, "seconds": seconds, "burst": burst}) },
        )
    };
    let own = json!({
        "max_event_bytes": rules.event_bytes,
        "max_wrap_age": rules.wrap_past,
        "max_wraps_per_recipient": rules.wraps_per_recipient,
        "max_wrap_bytes_per_recipient": rules.bytes_per_recipient,
        "max_connections": limits.connections,
        "max_held_bytes": limits.held_bytes,
        "max_events_in_flight": limits.events_in_flight,
        "max_send_queue_bytes": limits.send_queue_bytes,
        "max_filter_bytes": limits.filter_bytes,
        "max_auth_tries": limits.auth_tries,
        "max_join_tries": limits.join_tries,
        "max_reconciled_altogether": limits.reconciled_altogether,
        "reconcile_idle": limits.reconcile_idle.as_secs(),
        "header_timeout": limits.header_timeout.as_secs(),
        "message_timeout": limits.message_timeout.as_secs(),
        "write_timeout": limits.write_timeout.as_secs(),
        "idle_ping": limits.idle_ping.as_secs(),
        "address_connections": limits.connections_per_address,
        "address_events": rate(limits.events_per_address),
        "address_bytes": rate(limits.bytes_per_address),
        "address_auth": rate(limits.auth_per_address),
        "address_wrong_codes": rate(limits.wrong_codes_per_address),
    });
    match own {
        Value::Object(own) => own
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect(),
        _ => Map::new(),
    }
}
