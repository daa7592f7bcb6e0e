//! Who may do what here, as it was decided at run time: members, bans, invites, and what the
//! management API changed. The configuration is the other half; neither writes into the other.
//!
//! Pure: [`mod@file`] keeps it on disk, [`crate::policy`] asks it, [`crate::enforcement`] carries out
//! what a change means for those who are connected.

pub mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use wire::{EventId, InviteCode, PublicKey, Sha256};

use crate::addresses::Origin;
use crate::policy::Refusal;

pub use file::{RosterError, RosterFile};

/// Entries of one list. A relay of a hundred thousand members has a file of some ten megabytes,
/// which is written anew with each change.
const ENTRIES: usize = 100_000;
/// Invites that are open or were used lately.
const INVITES: usize = 10_000;
/// Bytes of a note.
const NOTE_BYTES: usize = 200;
/// How long it can be said of an invite that it has expired or was used up, seconds.
const REMEMBERED_SECONDS: u64 = 30 * 86_400;

/// The lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roster {
    version: u32,
    name: Option<String>,
    description: Option<String>,
    members: BTreeMap<PublicKey, Entry>,
    banned: BTreeMap<PublicKey, Entry>,
    allowed_events: BTreeMap<EventId, Entry>,
    banned_events: BTreeMap<EventId, Entry>,
    allowed_kinds: BTreeSet<u16>,
    disallowed_kinds: BTreeSet<u16>,
    blocked: BTreeMap<IpAddr, Entry>,
    invites: BTreeMap<Sha256, Invite>,
}

/// Why and since when something is on a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Unix seconds.
    pub since: u64,
    /// For the operator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// An invite, known by its hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Unix seconds.
    pub made_at: u64,
    /// How many more keys may join with it.
    pub uses_left: u32,
    /// From when on it is void, Unix seconds; none: never.
    pub expires_at: Option<u64>,
    /// When the last use was taken, Unix seconds.
    pub used_up_at: Option<u64>,
}

/// How a key came to be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// By this request.
    Now,
    /// Long ago; the invite was not used.
    Before,
}

/// A list that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the list is full")]
pub struct Full;

/// What a change means for those who are connected and for what is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Keys that are banned now and were not before.
    pub banned: Vec<PublicKey>,
    /// Events that are banned now and were not before.
    pub banned_events: Vec<EventId>,
    /// Addresses that are blocked now and were not before.
    pub blocked: Vec<Origin>,
}

impl Roster {
    /// What the file's format is called now.
    pub const VERSION: u32 = 1;

    /// Reads what a file holds. What a newer program wrote is not touched.
    pub fn decode(json: &[u8]) -> Result<Self, RosterError> {
        // A newer format may have fields that this one does not know, so the version comes first.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json).map_err(|_| RosterError::Damaged)?;
        if version > Self::VERSION {
            return Err(RosterError::Newer);
        }
        serde_json::from_slice(json).map_err(|_| RosterError::Damaged)
    }

    /// What a file is to hold.
    pub fn encode(&self) -> Result<Vec<u8>, RosterError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        Ok(bytes)
    }

    /// Whether the key was made a member at run time.
    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.members.contains_key(key)
    }

    /// Whether the key is banned.
    pub fn is_banned(&self, key: &PublicKey) -> bool {
        self.banned.contains_key(key)
    }

    /// Whether the event is kept away.
    pub fn bans_event(&self, id: &EventId) -> bool {
        self.banned_events.contains_key(id)
    }

    /// Whether the event is taken whoever wrote it.
    pub fn allows_event(&self, id: &EventId) -> bool {
        self.allowed_events.contains_key(id)
    }

    /// Whether the kind is taken; `configured` are those of the configuration, none: any.
    pub fn takes_kind(&self, kind: u16, configured: Option<&BTreeSet<u16>>) -> bool {
        let is_configured = configured.is_none_or(|kinds| kinds.contains(&kind));
        !self.disallowed_kinds.contains(&kind)
            && (is_configured || self.allowed_kinds.contains(&kind))
    }

    /// Whether connections from there are refused.
    pub fn is_blocked(&self, origin: &Origin) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&origin.ip())
    }

    /// The name in the place of the configuration's.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The description in the place of the configuration's.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The members.
    pub fn members(&self) -> &BTreeMap<PublicKey, Entry> {
        &self.members
    }

    /// The banned keys.
    pub fn banned(&self) -> &BTreeMap<PublicKey, Entry> {
        &self.banned
    }

    /// The events that are taken whoever wrote them.
    pub fn allowed_events(&self) -> &BTreeMap<EventId, Entry> {
        &self.allowed_events
    }

    /// The events that are kept away.
    pub fn banned_events(&self) -> &BTreeMap<EventId, Entry> {
        &self.banned_events
    }

    /// The kinds that are taken beside the configured ones.
    pub fn allowed_kinds(&self) -> &BTreeSet<u16> {
        &self.allowed_kinds
    }

    /// The kinds that are not taken.
    pub fn disallowed_kinds(&self) -> &BTreeSet<u16> {
        &self.disallowed_kinds
    }

    /// The blocked addresses.
    pub fn blocked(&self) -> &BTreeMap<IpAddr, Entry> {
        &self.blocked
    }

    /// The invites with which somebody may join at `now`.
    pub fn open_invites(&self, now: u64) -> impl Iterator<Item = &Invite> {
        let is_open = move |invite: &&Invite| {
            invite.uses_left > 0 && invite.expires_at.is_none_or(|at| at > now)
        };
        self.invites.values().filter(is_open)
    }

    // Keys. Where no note is given for one that is on the list already, its note stays.

    /// Makes a key a member, and no longer banned.
    pub fn allow<'n>(
        &mut self,
        key: PublicKey,
        note: impl Into<Option<&'n str>>,
        now: u64,
    ) -> Result<(), Full> {
        enter(&mut self.members, key, note, now)?;
        self.banned.remove(&key);
        Ok(())
    }

    /// Takes a member away; whether it was one.
    pub fn unallow(&mut self, key: &PublicKey) -> bool {
        self.members.remove(key).is_some()
    }

    /// Bans a key, and takes it from the members.
    pub fn ban<'n>(
        &mut self,
        key: PublicKey,
        note: impl Into<Option<&'n str>>,
        now: u64,
    ) -> Result<(), Full> {
        enter(&mut self.banned, key, note, now)?;
        self.members.remove(&key);
        Ok(())
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&mut self, key: &PublicKey) -> bool {
        self.banned.remove(key).is_some()
    }

    // Events

    /// Takes an event whoever wrote it.
    pub fn allow_event<'n>(
        &mut self,
        id: EventId,
        note: impl Into<Option<&'n str>>,
        now: u64,
    ) -> Result<(), Full> {
        enter(&mut self.allowed_events, id, note, now)?;
        self.banned_events.remove(&id);
        Ok(())
    }

    /// The rules hold for it again; whether it was an exception.
    pub fn unallow_event(&mut self, id: &EventId) -> bool {
        self.allowed_events.remove(id).is_some()
    }

    /// Keeps an event away.
    pub fn ban_event<'n>(
        &mut self,
        id: EventId,
        note: impl Into<Option<&'n str>>,
        now: u64,
    ) -> Result<(), Full> {
        enter(&mut self.banned_events, id, note, now)?;
        self.allowed_events.remove(&id);
        Ok(())
    }

    /// Lets it come again; whether it was kept away.
    pub fn unban_event(&mut self, id: &EventId) -> bool {
        self.banned_events.remove(id).is_some()
    }

    // Kinds, addresses, texts

    /// Takes a kind, whatever the configuration says.
    pub fn allow_kind(&mut self, kind: u16) {
        self.allowed_kinds.insert(kind);
        self.disallowed_kinds.remove(&kind);
    }

    /// Takes a kind no more, whatever the configuration says.
    pub fn disallow_kind(&mut self, kind: u16) {
        self.disallowed_kinds.insert(kind);
        self.allowed_kinds.remove(&kind);
    }

    /// Takes no connections from there.
    pub fn block<'n>(
        &mut self,
        origin: Origin,
        note: impl Into<Option<&'n str>>,
        now: u64,
    ) -> Result<(), Full> {
        enter(&mut self.blocked, origin.ip(), note, now)
    }

    /// Takes them again; whether they were refused.
    pub fn unblock(&mut self, origin: &Origin) -> bool {
        self.blocked.remove(&origin.ip()).is_some()
    }

    /// Names the relay; empty: as the configuration does.
    pub fn rename(&mut self, name: &str) {
        self.name = Some(cut(name)).filter(|name| !name.is_empty());
    }

    /// Describes the relay; empty: as the configuration does.
    pub fn describe(&mut self, description: &str) {
        let text: String = description.chars().take(NOTE_BYTES * 10).collect();
        self.description = Some(text).filter(|text| !text.is_empty());
    }

    // Invites

    /// Adds an invite for `uses` keys.
    pub fn invite(
        &mut self,
        code: &InviteCode,
        uses: u32,
        expires_at: Option<u64>,
        now: u64,
    ) -> Result<(), Full> {
        self.forget(now);
        if self.invites.len() >= INVITES {
            return Err(Full);
        }
        let invite = Invite {
            made_at: now,
            uses_left: uses,
            expires_at,
            used_up_at: None,
        };
        self.invites.insert(code.hash(), invite);
        Ok(())
    }

    /// Takes an invite back, or all; how many could still be used.
    pub fn revoke(&mut self, code: Option<&InviteCode>) -> usize {
        let taken: Vec<Invite> = match code {
            Some(code) => self.invites.remove(&code.hash()).into_iter().collect(),
            None => std::mem::take(&mut self.invites).into_values().collect(),
        };
        taken.iter().filter(|invite| invite.uses_left > 0).count()
    }

    /// Whether [`Roster::redeem`] would change anything: cheap, for those who guess.
    pub fn may_redeem(&self, code: &InviteCode, key: &PublicKey, now: u64) -> Result<(), Refusal> {
        self.open_invite(code, key, now).map(drop)
    }

    /// A key joins with a code. `is_configured` says that the configuration lists it already.
    pub fn redeem(
        &mut self,
        code: &InviteCode,
        key: PublicKey,
        is_configured: bool,
        now: u64,
    ) -> Result<Joined, Refusal> {
        if self.is_banned(&key) {
            return Err(Refusal::Banned);
        }
        if is_configured || self.is_member(&key) {
            return Ok(Joined::Before);
        }
        let invite = self.open_invite(code, &key, now)?;
        enter(&mut self.members, key, None, now).map_err(|Full| Refusal::RosterFull)?;
        let uses_left = invite.uses_left.saturating_sub(1);
        let used = Invite {
            uses_left,
            used_up_at: (uses_left == 0).then_some(now),
            ..invite
        };
        self.invites.insert(code.hash(), used);
        self.forget(now);
        Ok(Joined::Now)
    }

    fn open_invite(&self, code: &InviteCode, key: &PublicKey, now: u64) -> Result<Invite, Refusal> {
        if self.is_banned(key) {
            return Err(Refusal::Banned);
        }
        let invite = self.invites.get(&code.hash());
        let invite = invite.ok_or(Refusal::UnknownInvite)?;
        if invite.expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::ExpiredInvite);
        }
        match invite.uses_left {
            0 => Err(Refusal::UsedInvite),
            _ => Ok(invite.clone()),
        }
    }

    /// Drops invites that nobody can use and that nobody need be told about any more.
    fn forget(&mut self, now: u64) {
        self.invites.retain(|_, invite| {
            let ends = [invite.used_up_at, invite.expires_at];
            let end = ends.into_iter().flatten().min();
            end.is_none_or(|end| end.saturating_add(REMEMBERED_SECONDS) > now)
        });
    }

    /// What has changed from `before` to this.
    pub fn since(&self, before: &Self) -> Change {
        fn new<K: Copy + Ord, V>(now: &BTreeMap<K, V>, before: &BTreeMap<K, V>) -> Vec<K> {
            let is_new = |key: &&K| !before.contains_key(key);
            now.keys().filter(is_new).copied().collect()
        }
        Change {
            banned: new(&self.banned, &before.banned),
            banned_events: new(&self.banned_events, &before.banned_events),
            blocked: new(&self.blocked, &before.blocked)
                .into_iter()
                .filter_map(Origin::of)
                .collect(),
        }
    }
}

/// Puts a key on a list. Since when it is there stays, and so does its note where none is given.
fn enter<'n, K: Ord>(
    list: &mut BTreeMap<K, Entry>,
    key: K,
    note: impl Into<Option<&'n str>>,
    now: u64,
) -> Result<(), Full> {
    if list.len() >= ENTRIES && !list.contains_key(&key) {
        return Err(Full);
    }
    let known = list.remove(&key);
    let since = known.as_ref().map_or(now, |entry| entry.since);
    let note = note.into().map(cut);
    let note = note.or_else(|| known.map(|entry| entry.note));
    let note = note.unwrap_or_default();
    list.insert(key, Entry { since, note });
    Ok(())
}

fn cut(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > NOTE_BYTES {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn code(number: usize) -> InviteCode {
        InviteCode::parse(&format!("code-{number}")).unwrap()
    }

    #[test]
    fn nothing_is_allowed_and_banned_at_the_same_time() {
        let mut roster = Roster::default();
        let (who, event) = (key(1), EventId::from_bytes([1; 32]));
        for _ in 0..2 {
            roster.allow(who, "", 1).unwrap();
            roster.allow_event(event, "", 1).unwrap();
            roster.allow_kind(7);
            assert!(roster.is_member(&who) && !roster.is_banned(&who));
            assert!(roster.allows_event(&event) && !roster.bans_event(&event));
            assert!(roster.takes_kind(7, Some(&BTreeSet::new())));
            roster.ban(who, "", 1).unwrap();
            roster.ban_event(event, "", 1).unwrap();
            roster.disallow_kind(7);
            assert!(roster.is_banned(&who) && !roster.is_member(&who));
            assert!(roster.bans_event(&event) && !roster.allows_event(&event));
            assert!(!roster.takes_kind(7, None));
        }
    }

    #[test]
    fn who_is_banned_joins_by_no_invite_and_a_member_uses_none() {
        let mut roster = Roster::default();
        roster.invite(&code(1), 1, None, 1).unwrap();
        roster.ban(key(1), "", 1).unwrap();
        for is_configured in [false, true] {
            let joined = roster.redeem(&code(1), key(1), is_configured, 2);
            assert_eq!(joined, Err(Refusal::Banned));
        }
        assert_eq!(
            roster.may_redeem(&code(1), &key(1), 2),
            Err(Refusal::Banned)
        );
        // Listed in the configuration, or a member already.
        assert_eq!(roster.redeem(&code(1), key(2), true, 2), Ok(Joined::Before));
        roster.allow(key(3), "", 1).unwrap();
        assert_eq!(
            roster.redeem(&code(1), key(3), false, 2),
            Ok(Joined::Before)
        );
        assert_eq!(roster.open_invites(2).count(), 1);
        assert_eq!(roster.redeem(&code(1), key(4), false, 2), Ok(Joined::Now));
        assert_eq!(roster.open_invites(2).count(), 0);
    }

    #[test]
    fn lists_are_bounded_and_what_is_on_them_can_be_changed() {
        let mut roster = Roster::default();
        for number in 0..ENTRIES {
            roster.ban(key(number), "", 1).unwrap();
        }
        assert_eq!(roster.ban(key(ENTRIES), "", 1), Err(Full));
        assert!(!roster.is_banned(&key(ENTRIES)));
        roster.ban(key(0), "another note", 2).unwrap();
        let entry = &roster.banned()[&key(0)];
        assert_eq!((entry.since, entry.note.as_str()), (1, "another note"));
        assert!(roster.unban(&key(1)));
        roster.ban(key(ENTRIES), "", 1).unwrap();
    }

    #[test]
    fn a_note_is_cut_between_two_letters() {
        let mut roster = Roster::default();
        roster.allow(key(1), "ä".repeat(1_000).as_str(), 1).unwrap();
        assert_eq!(roster.members()[&key(1)].note, "ä".repeat(NOTE_BYTES / 2));
        roster.rename(&format!("a{}", "ä".repeat(1_000)));
        assert_eq!(roster.name().unwrap().len(), NOTE_BYTES - 1);
        roster.describe(&"ä".repeat(10_000));
        let description = roster.description().unwrap();
        assert_eq!(description, "ä".repeat(NOTE_BYTES * 10));
    }

    #[test]
    fn invites_are_bounded_and_old_ones_forgotten() {
        let mut roster = Roster::default();
        roster.invite(&code(0), 1, Some(10), 1).unwrap();
        let open = Invite {
            made_at: 1,
            uses_left: 1,
            expires_at: Some(1_000_000_000),
            used_up_at: None,
        };
        let others = (1..INVITES).map(|number| (code(number).hash(), open.clone()));
        roster.invites.extend(others);
        assert_eq!(roster.invite(&code(INVITES), 1, None, 1), Err(Full));
        // For a while it can be said why a code is worth nothing.
        let refused = |roster: &Roster, now| roster.may_redeem(&code(0), &key(1), now);
        assert_eq!(refused(&roster, 20), Err(Refusal::ExpiredInvite));
        assert_eq!(roster.invite(&code(INVITES), 1, None, 20), Err(Full));
        let late = 10 + REMEMBERED_SECONDS;
        roster.invite(&code(INVITES), 1, None, late).unwrap();
        assert_eq!(refused(&roster, late), Err(Refusal::UnknownInvite));
        // The same of one that was used up.
        let used = roster.redeem(&code(INVITES), key(1), false, late);
        assert_eq!(used, Ok(Joined::Now));
        let again = |roster: &Roster, now| roster.may_redeem(&code(INVITES), &key(2), now);
        assert_eq!(again(&roster, late + 1), Err(Refusal::UsedInvite));
        roster
            .redeem(&code(1), key(3), false, late + REMEMBERED_SECONDS)
            .unwrap();
        let end = late + REMEMBERED_SECONDS;
        assert_eq!(again(&roster, end), Err(Refusal::UnknownInvite));
    }
}
