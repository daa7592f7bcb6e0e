//! What the relay says about itself to programs (NIP-11); for people see [`crate::page`].

use serde_json::{Map, Value, json};

use crate::budget::Rate;
use crate::config::Config;
use crate::policy::{Rules, WorkOf, Writers};
use crate::settings::InForce;
use crate::told::{self, Amount, Kinds};

/// The NIPs that this relay follows, whatever its configuration. Those of clients alone are not
/// for a relay to list (NIP-11).
const SUPPORTED_NIPS: [u16; 15] = [1, 4, 9, 11, 17, 40, 42, 43, 45, 59, 62, 65, 67, 70, 77];

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
/// a client can meet is in it; so is the policy.
pub fn document(in_force: &InForce) -> Value {
    let InForce { config, .. } = in_force;
    let about = in_force.about();
    let mut document = json!({
        "name": about.name,
        "description": about.description,
        "contact": about.contact,
        "supported_nips": supported_nips(config),
        // Not in "software": that is for the URL of a home page.
        "version": concat!("sotto-relay ", env!("CARGO_PKG_VERSION")),
        "limitation": limitation(in_force),
        "policy": policy(in_force),
    });
    if let Some(fields) = document.as_object_mut() {
        if let Some(pubkey) = &config.about.pubkey {
            fields.insert("pubkey".to_owned(), pubkey.to_hex().into());
        }
        fields.retain(|_, value| value.as_str() != Some(""));
    }
    document
}

/// What NIP-11 has names for, and beside it limits of our own: in bytes, seconds, or how many.
/// What begins with `address_` holds for all connections from one address.
fn limitation(in_force: &InForce) -> Map<String, Value> {
    let Rules { writers, work, .. } = &in_force.config.rules;
    let limits = told::limits(&in_force.config);
    let amounts = limits.iter().map(|limit| {
        let most = match limit.most {
            Amount::Count(most) | Amount::Bytes(most) | Amount::Seconds(most) => most.into(),
            Amount::Counts(rate) | Amount::ByteRate(rate) => of_rate(rate),
        };
        (limit.name.to_owned(), most)
    });
    let mut limitation: Map<String, Value> = amounts.collect();
    let is_restricted = *writers != Writers::Anybody || !Kinds::of(in_force).is_every();
    // NIP-11's field is about every event; wraps of senders who are no members are fewer.
    let bits = |of| work.filter(|work| work.of == of).map(|work| work.bits);
    let of_all = bits(WorkOf::Everything).unwrap_or(0);
    if let Some(bits) = bits(WorkOf::AnonymousWraps) {
        limitation.insert("anonymous_wrap_pow_difficulty".to_owned(), bits.into());
    }
    limitation.insert("min_pow_difficulty".to_owned(), of_all.into());
    limitation.insert("auth_required".to_owned(), false.into());
    limitation.insert("payment_required".to_owned(), false.into());
    limitation.insert("restricted_writes".to_owned(), is_restricted.into());
    limitation
}

/// Who may write what, in the words of the configuration: NIP-11 has none for it.
fn policy(in_force: &InForce) -> Map<String, Value> {
    let rules = &in_force.config.rules;
    let mut policy = Map::new();
    let mut tell = |name: &str, what: Value| policy.insert(name.to_owned(), what);
    tell("write", told::word_of_writers(&rules.writers).into());
    match Kinds::of(in_force) {
        Kinds::Only(kinds) => drop(tell("kinds", json!(kinds))),
        Kinds::AllBut(kinds) if kinds.is_empty() => {}
        Kinds::AllBut(kinds) => drop(tell("kinds_refused", json!(kinds))),
    }
    if let Some(work) = rules.work {
        tell("pow_bits", work.bits.into());
        tell("pow_of", told::word_of_work(work.of).into());
    }
    policy
}

fn of_rate(rate: Rate) -> Value {
    let Rate {
        count,
        seconds,
        burst,
    } = rate;
    json!({"count": count, "seconds": seconds, "burst": burst})
}
