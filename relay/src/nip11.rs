//! What the relay says about itself (NIP-11), and the page that a person sees.

use serde_json::{Value, json};
use wire::limits;

use crate::config::Config;
use crate::policy::Writers;
use crate::settings::InForce;

/// The NIPs that this relay follows, whatever its configuration. Those of clients alone are not
/// for a relay to list (NIP-11).
const SUPPORTED_NIPS: [u16; 15] = [1, 4, 9, 11, 17, 40, 42, 43, 45, 59, 62, 65, 67, 70, 77];

/// What the fields around the content of an event take at least.
const ENVELOPE_BYTES: usize = 512;

/// The NIPs that a relay with this configuration follows.
fn supported_nips(config: &Config) -> Vec<u16> {
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

/// The relay information document. Every limit in it is one that is enforced.
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
    if let Some(fields) = document.as_object_mut() {
        if let Some(pubkey) = &config.about.pubkey {
            fields.insert("pubkey".to_owned(), pubkey.to_hex().into());
        }
        fields.retain(|_, value| value.as_str() != Some(""));
    }
    document
}

/// For somebody who opens the URL in a browser.
pub fn page(config: &Config) -> String {
    let name = &config.about.name;
    format!(
        "{name}\n\nThis is a Nostr relay for private messages: connect to it over WebSocket.\n\
         Messages are sealed; each is handed to the key it is addressed to, and to nobody else.\n\
         Its rules and limits: ask this address with \"Accept: application/nostr+json\" (NIP-11).\n"
    )
}
