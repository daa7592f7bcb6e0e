//! What an administrator asks for (NIP-86), read from bytes: pure, and before anything is done.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use wire::{EventId, PublicKey};

use crate::addresses::Origin;
use crate::roster::{Full, Roster};

/// A method by its name, and what it is given.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Request {
    method: String,
    #[serde(default)]
    params: Vec<Value>,
}

/// It is no JSON object with `method` and `params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `supportedmethods`.
    Methods,
    /// A list is to be shown.
    Show(List),
    /// The roster is to be changed.
    Change(Change),
}

/// A list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Keys that may not write.
    BannedKeys,
    /// Keys that may write.
    AllowedKeys,
    /// Events that are taken whoever wrote them.
    AllowedEvents,
    /// Events that are kept away.
    BannedEvents,
    /// Kinds that are taken.
    AllowedKinds,
    /// Kinds that are not.
    DisallowedKinds,
    /// Addresses from which nobody may connect.
    BlockedAddresses,
}

/// A change; texts are notes for the operator, unless said otherwise. Without one the note that was
/// there stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bans a key.
    Ban(PublicKey, Option<String>),
    /// Lifts a ban.
    Unban(PublicKey),
    /// Makes a key a member.
    Allow(PublicKey, Option<String>),
    /// Takes a member away.
    Unallow(PublicKey),
    /// Takes an event whoever wrote it.
    AllowEvent(EventId, Option<String>),
    /// The rules hold for it again.
    UnallowEvent(EventId),
    /// Keeps an event away.
    BanEvent(EventId, Option<String>),
    /// Lets it come again.
    UnbanEvent(EventId),
    /// Names the relay so.
    Rename(String),
    /// Describes the relay so.
    Describe(String),
    /// Takes a kind.
    AllowKind(u16),
    /// Takes it no more.
    DisallowKind(u16),
    /// Blocks an address.
    Block(Origin, Option<String>),
    /// Lets it connect again.
    Unblock(Origin),
}

impl Request {
    /// Reads the body of an HTTP request.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(body).map_err(|_| Malformed)
    }

    /// What it asks for; or what is wrong with it, in words.
    pub fn call(&self) -> Result<Call, String> {
        let note = || self.text(1).map(str::to_owned);
        Ok(Call::Change(match self.method.as_str() {
            "supportedmethods" => return Ok(Call::Methods),
            "listbannedpubkeys" => return Ok(Call::Show(List::BannedKeys)),
            "listallowedpubkeys" => return Ok(Call::Show(List::AllowedKeys)),
            "listallowedevents" => return Ok(Call::Show(List::AllowedEvents)),
            "listbannedevents" => return Ok(Call::Show(List::BannedEvents)),
            "listallowedkinds" => return Ok(Call::Show(List::AllowedKinds)),
            "listdisallowedkinds" => return Ok(Call::Show(List::DisallowedKinds)),
            "listblockedips" => return Ok(Call::Show(List::BlockedAddresses)),
            "banpubkey" => Change::Ban(self.key()?, note()),
            "unbanpubkey" => Change::Unban(self.key()?),
            "allowpubkey" => Change::Allow(self.key()?, note()),
            "unallowpubkey" => Change::Unallow(self.key()?),
            "allowevent" => Change::AllowEvent(self.event()?, note()),
            "unallowevent" => Change::UnallowEvent(self.event()?),
            "banevent" => Change::BanEvent(self.event()?, note()),
            "unbanevent" => Change::UnbanEvent(self.event()?),
            "changerelayname" => {
                Change::Rename(self.text(0).ok_or("a name is missing")?.to_owned())
            }
            "changerelaydescription" => {
                Change::Describe(self.text(0).ok_or("a description is missing")?.to_owned())
            }
            "allowkind" => Change::AllowKind(self.kind()?),
            "disallowkind" => Change::DisallowKind(self.kind()?),
            "blockip" => Change::Block(self.origin()?, note()),
            "unblockip" => Change::Unblock(self.origin()?),
            _ => {
                return Err(
                    "this relay has no such method; supportedmethods lists those it has".to_owned(),
                );
            }
        }))
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.params.get(index).and_then(Value::as_str)
    }

    fn key(&self) -> Result<PublicKey, String> {
        let text = self.text(0).unwrap_or_default();
        PublicKey::from_hex(text).map_err(|error| error.to_string())
    }

    fn event(&self) -> Result<EventId, String> {
        let text = self.text(0).unwrap_or_default();
        EventId::from_hex(text).map_err(|error| error.to_string())
    }

    fn kind(&self) -> Result<u16, String> {
        let kind = self.params.first().and_then(Value::as_u64);
        let kind = kind.and_then(|kind| u16::try_from(kind).ok());
        kind.ok_or_else(|| "not a kind: a number from 0 to 65535".to_owned())
    }

    fn origin(&self) -> Result<Origin, String> {
        let ip: Option<IpAddr> = self.text(0).and_then(|text| text.parse().ok());
        let ip = ip.ok_or_else(|| "not an IP address".to_owned())?;
        Origin::of(ip).ok_or_else(|| "this machine itself cannot be blocked".to_owned())
    }
}

impl Change {
    /// Carries it out. Whatever was before, it is then as it was asked for.
    pub fn apply(self, roster: &mut Roster, now: u64) -> Result<(), Full> {
        match self {
            Self::Ban(key, note) => return roster.ban(key, note.as_deref(), now),
            Self::Allow(key, note) => return roster.allow(key, note.as_deref(), now),
            Self::AllowEvent(id, note) => return roster.allow_event(id, note.as_deref(), now),
            Self::BanEvent(id, note) => return roster.ban_event(id, note.as_deref(), now),
            Self::Block(origin, note) => return roster.block(origin, note.as_deref(), now),
            Self::Unban(key) => drop(roster.unban(&key)),
            Self::Unallow(key) => drop(roster.unallow(&key)),
            Self::UnallowEvent(id) => drop(roster.unallow_event(&id)),
            Self::UnbanEvent(id) => drop(roster.unban_event(&id)),
            Self::Unblock(origin) => drop(roster.unblock(&origin)),
            Self::Rename(name) => roster.rename(&name),
            Self::Describe(text) => roster.describe(&text),
            Self::AllowKind(kind) => roster.allow_kind(kind),
            Self::DisallowKind(kind) => roster.disallow_kind(kind),
        }
        Ok(())
    }
}
