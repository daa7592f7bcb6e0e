//! What administrators may do, by the names of NIP-86.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use wire::{EventId, PublicKey};

use crate::addresses::Origin;
use crate::enforcement;
use crate::roster::{Entry, Full, Roster};
use crate::server::Shared;

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

/// Calls a method; its result, or what is wrong, in words.
pub(super) async fn call(
    shared: &Arc<Shared>,
    method: &str,
    params: &[Value],
) -> Result<Value, String> {
    let in_force = shared.settings.get();
    let now = in_force.config.clock.now();
    let writers = &in_force.config.rules.writers;
    let roster = &in_force.roster;
    let note = text(params, 1).unwrap_or_default().to_owned();
    match method {
        "supportedmethods" => Ok(json!(METHODS)),
        "banpubkey" => {
            let key = key(params)?;
            change(shared, move |roster| roster.ban(key, &note, now)).await
        }
        "unbanpubkey" => {
            let key = key(params)?;
            always(shared, move |roster| roster.unban(&key)).await
        }
        "listbannedpubkeys" => Ok(list("pubkey", roster.banned())),
        "allowpubkey" => {
            let key = key(params)?;
            change(shared, move |roster| roster.allow(key, &note, now)).await
        }
        "unallowpubkey" => {
            let key = key(params)?;
            if writers.lists(&key) {
                return Err("the relay's configuration lists this key".to_owned());
            }
            always(shared, move |roster| roster.unallow(&key)).await
        }
        "listallowedpubkeys" => {
            let listed = |reason: &str, key: &PublicKey| json!({"pubkey": key, "reason": reason});
            let configured = writers.listed().into_iter().flatten();
            let mut keys: Vec<Value> = configured.map(|key| listed("configuration", key)).collect();
            keys.extend(
                roster
                    .members()
                    .iter()
                    .map(|(key, entry)| listed(&entry.note, key)),
            );
            Ok(json!(keys))
        }
        "allowevent" => {
            let id = event(params)?;
            change(shared, move |roster| roster.allow_event(id, &note, now)).await
        }
        "unallowevent" => {
            let id = event(params)?;
            always(shared, move |roster| roster.unallow_event(&id)).await
        }
        "listallowedevents" => Ok(list("id", roster.allowed_events())),
        "banevent" => {
            let id = event(params)?;
            change(shared, move |roster| roster.ban_event(id, &note, now)).await
        }
        "unbanevent" => {
            let id = event(params)?;
            always(shared, move |roster| roster.unban_event(&id)).await
        }
        "listbannedevents" => Ok(list("id", roster.banned_events())),
        "changerelayname" => {
            let name = text(params, 0).ok_or("a name is missing")?.to_owned();
            always(shared, move |roster| roster.rename(&name)).await
        }
        "changerelaydescription" => {
            let text = text(params, 0)
                .ok_or("a description is missing")?
                .to_owned();
            always(shared, move |roster| roster.describe(&text)).await
        }
        "allowkind" => {
            let kind = kind(params)?;
            always(shared, move |roster| roster.allow_kind(kind)).await
        }
        "disallowkind" => {
            let kind = kind(params)?;
            always(shared, move |roster| roster.disallow_kind(kind)).await
        }
        "listallowedkinds" => {
            let configured = in_force.config.rules.kinds.as_ref();
            let all = configured.into_iter().flatten();
            let all = all.chain(roster.allowed_kinds()).copied();
            let mut kinds: Vec<u16> = all
                .filter(|kind| roster.takes_kind(*kind, configured))
                .collect();
            kinds.sort_unstable();
            kinds.dedup();
            Ok(json!(kinds))
        }
        "listdisallowedkinds" => Ok(json!(roster.disallowed_kinds())),
        "blockip" => {
            let origin = origin(params)?;
            change(shared, move |roster| roster.block(origin, &note, now)).await
        }
        "unblockip" => {
            let origin = origin(params)?;
            always(shared, move |roster| roster.unblock(&origin)).await
        }
        "listblockedips" => Ok(list("ip", roster.blocked())),
        _ => Err("this relay has no such method; supportedmethods lists those it has".to_owned()),
    }
}

/// Changes the roster: `true`, as NIP-86 wants it, once that is on disk and in force.
async fn change(
    shared: &Arc<Shared>,
    change: impl FnOnce(&mut Roster) -> Result<(), Full> + Send + 'static,
) -> Result<Value, String> {
    match enforcement::change(shared, change).await {
        Ok(Ok(())) => Ok(true.into()),
        Ok(Err(full)) => Err(full.to_string()),
        Err(error) => {
            tracing::error!(%error, "the roster was not changed");
            Err("the relay could not write it down".to_owned())
        }
    }
}

/// A change that cannot find a list full. Whatever it was before, it is now as it was asked for.
async fn always<T>(
    shared: &Arc<Shared>,
    change_it: impl FnOnce(&mut Roster) -> T + Send + 'static,
) -> Result<Value, String> {
    let work = move |roster: &mut Roster| {
        change_it(roster);
        Ok(())
    };
    change(shared, work).await
}

fn list<K: ToString>(name: &str, entries: &BTreeMap<K, Entry>) -> Value {
    let entry = |(key, entry): (&K, &Entry)| json!({name: key.to_string(), "reason": entry.note});
    entries.iter().map(entry).collect()
}

fn text(params: &[Value], index: usize) -> Option<&str> {
    params.get(index).and_then(Value::as_str)
}

fn key(params: &[Value]) -> Result<PublicKey, String> {
    let text = text(params, 0).unwrap_or_default();
    PublicKey::from_hex(text).map_err(|error| error.to_string())
}

fn event(params: &[Value]) -> Result<EventId, String> {
    let text = text(params, 0).unwrap_or_default();
    EventId::from_hex(text).map_err(|error| error.to_string())
}

fn kind(params: &[Value]) -> Result<u16, String> {
    let kind = params.first().and_then(Value::as_u64);
    let kind = kind.and_then(|kind| u16::try_from(kind).ok());
    kind.ok_or_else(|| "not a kind: a number from 0 to 65535".to_owned())
}

fn origin(params: &[Value]) -> Result<Origin, String> {
    let ip: Option<IpAddr> = text(params, 0).and_then(|text| text.parse().ok());
    let ip = ip.ok_or_else(|| "not an IP address".to_owned())?;
    Origin::of(ip).ok_or_else(|| "this machine itself cannot be blocked".to_owned())
}
