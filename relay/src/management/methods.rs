//! What administrators may do, by the names of NIP-86.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wire::PublicKey;

use super::request::{Call, Change, List};
use crate::enforcement;
use crate::roster::Entry;
use crate::server::Shared;
use crate::settings::InForce;

/// All but `supportedmethods`. There are no roles here, no icon, and nobody waits for moderation.
const METHODS: [&str; 21] = [
    "banpubkey",
    "unbanpubkey",
    "listbannedpubkeys",
    "allowpubkey",
    "unallowpubkey",
    "listallowedpubkeys",
    "allowevent",
    "unallowevent",
    "listallowedevents",
    "banevent",
    "unbanevent",
    "listbannedevents",
    "changerelayname",
    "changerelaydescription",
    "allowkind",
    "disallowkind",
    "listallowedkinds",
    "listdisallowedkinds",
    "blockip",
    "unblockip",
    "listblockedips",
];

/// Does what is asked for; the result, or why not, in words.
pub(super) async fn call(shared: &Arc<Shared>, call: Call) -> Result<Value, String> {
    let in_force = shared.settings.get();
    match call {
        Call::Methods => Ok(json!(METHODS)),
        Call::Show(list) => Ok(show(list, &in_force)),
        Call::Change(Change::Unallow(key)) if in_force.config.rules.writers.lists(&key) => {
            Err("the relay's configuration lists this key".to_owned())
        }
        Call::Change(change) => carry_out(shared, change, in_force.config.clock.now()).await,
    }
}

fn show(which: List, in_force: &InForce) -> Value {
    let roster = &in_force.roster;
    let rules = &in_force.config.rules;
    match which {
        List::BannedKeys => list("pubkey", roster.banned()),
        List::AllowedKeys => {
            let listed = |reason: &str, key: &PublicKey| json!({"pubkey": key, "reason": reason});
            let configured = rules.writers.listed().into_iter().flatten();
            let configured = configured.map(|key| listed("configuration", key));
            let members = roster.members().iter();
            configured
                .chain(members.map(|(key, entry)| listed(&entry.note, key)))
                .collect()
        }
        List::AllowedEvents => list("id", roster.allowed_events()),
        List::BannedEvents => list("id", roster.banned_events()),
        List::AllowedKinds => {
            let configured = rules.kinds.as_ref();
            let all = configured.into_iter().flatten();
            let all = all.chain(roster.allowed_kinds()).copied();
            let mut kinds: Vec<u16> = all
                .filter(|kind| roster.takes_kind(*kind, configured))
                .collect();
            kinds.sort_unstable();
            kinds.dedup();
            json!(kinds)
        }
        List::DisallowedKinds => json!(roster.disallowed_kinds()),
        List::BlockedAddresses => list("ip", roster.blocked()),
    }
}

fn list<K: ToString>(name: &str, entries: &BTreeMap<K, Entry>) -> Value {
    let entry = |(key, entry): (&K, &Entry)| json!({name: key.to_string(), "reason": entry.note});
    entries.iter().map(entry).collect()
}

/// Changes the roster: `true`, as NIP-86 wants it, once that is on disk and in force.
async fn carry_out(shared: &Arc<Shared>, change: Change, now: u64) -> Result<Value, String> {
    let banned = match &change {
        Change::BanEvent(id, _) => Some(*id),
        _ => None,
    };
    match enforcement::change(shared, move |roster| change.apply(roster, now)).await {
        Ok(Ok(())) => match banned {
            Some(id) if enforcement::is_to_be_erased(shared, &id).await => Err(
                "it is banned, but the relay could not erase it yet; it tries again every second"
                    .to_owned(),
            ),
            _ => Ok(true.into()),
        },
        Ok(Err(full)) => Err(full.to_string()),
        Err(error) => {
            tracing::error!(%error, "the roster was not changed");
            Err("the relay could not write it down".to_owned())
        }
    }
}
