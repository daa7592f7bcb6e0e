//! What the relay says about itself (NIP-11), and the page that a person sees.

use serde_json::{Value, json};
use wire::limits;

use crate::config::Config;
use crate::policy::Writers;

/// The NIPs that this relay follows.
pub const SUPPORTED_NIPS: [u16; 14] = [1, 4, 9, 11, 17, 40, 42, 44, 45, 59, 62, 67, 70, 77];

/// What the fields around the content of an event take at least.
const ENVELOPE_BYTES: usize = 512;

/// The relay information document. Every limit in it is one that is enforced.
pub fn document(config: &Config) -> Value {
    let rules = &config.rules;
    let mut document = json!({
        "name": config.about.name,
        "description": config.about.description,
        "contact": config.about.contact,
        "supported_nips": SUPPORTED_NIPS,
        "software": "sotto-relay",
        "version": env!("CARGO_PKG_VERSION"),
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
            "min_pow_difficulty": 0,
            "auth_required": false,
            "payment_required": false,
            "restricted_writes": matches!(rules.writers, Writers::Members(_)),
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
