//! People: adding, naming, trusting, blocking, forgetting.

use wire::{EventId, Link, PublicKey, limits};

use crate::engine::machine::{Engine, Rng, Step, Turn};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{self, ContactRow, ConversationRow, MessageRow, RowState, Store};
use crate::view::ContactView;

fn view(row: &ContactRow) -> ContactView {
    ContactView {
        alias: row.alias.clone(),
        pubkey: row.pubkey.to_hex(),
        npub: wire::link::npub(&row.pubkey),
        verified: row.is_verified,
        blocked: row.is_blocked,
    }
}

fn no_contact() -> Error {
    Error::new(ErrorWord::NotFound, "no such contact")
}

/// Whether a text may name a person: it must not look like a key, or break a terminal's line.
fn check_alias(alias: &str) -> Result<()> {
    let is_fine = !alias.trim().is_empty()
        && alias.trim() == alias
        && alias.len() <= limits::NAME_BYTES
        && !alias.chars().any(char::is_control)
        && !looks_like_key(alias);
    if is_fine {
        return Ok(());
    }
    Err(Error::new(
        ErrorWord::Usage,
        "an alias has 1 to 64 bytes, no control characters, and is no key",
    ))
}

fn looks_like_key(text: &str) -> bool {
    let text = text.strip_prefix("nostr:").unwrap_or(text);
    let is_hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex
        || ["npub1", "nprofile1", "nsec1"]
            .iter()
            .any(|p| text.starts_with(p))
}

impl Engine {
    /// Adds a person, or renames one. A stranger's messages are requests no more, and get their
    /// receipts with the next traffic; nothing is sent by this call.
    ///
    /// Fails with `conflict` where somebody else has the alias, and with `usage` for the own key
    /// or an alias that is none.
    pub fn add_contact(
        &mut self,
        store: &mut Store,
        link: &Link,
        alias: Option<&str>,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<Step<ContactView>> {
        self.turn(store, now, rng, |turn| turn.add_contact(link, alias))
    }

    /// Who is meant: an alias, else `npub`, `nprofile`, hexadecimal or an invite link, whose
    /// relay hints are remembered.
    ///
    /// Fails with `bad_key` where it looks like a key and is none, else with `not_found`.
    pub fn resolve(&self, store: &Store, who: &str, now: u64) -> Result<PublicKey> {
        let connection = store.connection();
        if let Some(contact) = ContactRow::by_alias(connection, who)? {
            return Ok(contact.pubkey);
        }
        match Link::parse(who) {
            Ok(link) => {
                let mut contact = ContactRow::of(connection, &link.pubkey)?;
                let known = contact.clone();
                contact.add_hints(&link.relays);
                contact.is_sotto |= link.is_sotto;
                if contact != known {
                    contact.save(connection, now)?;
                }
                Ok(link.pubkey)
            }
            Err(error) if looks_like_key(who) => {
                Err(Error::new(ErrorWord::BadKey, error.to_string()))
            }
            Err(_) => Err(no_contact().hint("see `sotto contact list`, or give a key or link")),
        }
    }

    /// Everybody who was added or blocked.
    pub fn contacts(&self, store: &Store) -> Result<Vec<ContactView>> {
        let rows = ContactRow::listed(store.connection())?;
        Ok(rows.iter().map(view).collect())
    }

    /// One person; `not_found` where nothing is known of them.
    pub fn contact(&self, store: &Store, who: &PublicKey) -> Result<ContactView> {
        let row = ContactRow::find(store.connection(), who)?.ok_or_else(no_contact)?;
        Ok(view(&row))
    }

    /// Notes that the user compared keys.
    pub fn verify(&mut self, store: &mut Store, who: &PublicKey, now: u64) -> Result<ContactView> {
        change(store, who, now, |row| row.is_verified = true)
    }

    /// Nothing is sent to them and nothing of theirs is kept from now on. Works for strangers
    /// too.
    pub fn block(
        &mut self,
        store: &mut Store,
        who: &PublicKey,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<ContactView> {
        let step = self.turn(store, now, rng, |turn| {
            let mut row = ContactRow::of(turn.tx, who)?;
            row.is_blocked = true;
            row.save(turn.tx, now)?;
            turn.keys.forget(who);
            Ok(view(&row))
        })?;
        Ok(step.value)
    }

    /// The inverse of [`Engine::block`]. What came meanwhile stays dropped.
    pub fn unblock(&mut self, store: &mut Store, who: &PublicKey, now: u64) -> Result<ContactView> {
        change(store, who, now, |row| row.is_blocked = false)
    }

    /// Whether relays may be shown the account key when sending to them.
    pub fn set_as_myself(
        &mut self,
        store: &mut Store,
        who: &PublicKey,
        as_myself: bool,
        now: u64,
    ) -> Result<ContactView> {
        change(store, who, now, |row| row.as_myself = as_myself)
    }

    /// Forgets a person: the contact, and the messages of the conversation with them in this
    /// home. What was not sent yet is not sent.
    pub fn remove_contact(
        &mut self,
        store: &mut Store,
        who: &PublicKey,
        now: u64,
        rng: Rng<'_>,
    ) -> Result<()> {
        let step = self.turn(store, now, rng, |turn| turn.remove_contact(who))?;
        debug_assert!(
            step.effects.is_empty(),
            "forgetting asks nothing of the network"
        );
        Ok(())
    }

    /// A link that carries the key and the inbox relays. With a name or not, it tells that we
    /// speak Sotto.
    pub fn invite(&self, store: &Store, name: Option<String>) -> Result<Link> {
        let mut link = Link::new(self.public_key());
        link.relays = store::own_relays(store.connection())?;
        // A type of ours tells other Sotto clients which file format to use.
        link.name = Some(name.unwrap_or_default());
        link.is_sotto = true;
        Ok(link)
    }

    /// A message's id, from the whole or a unique prefix of at least 8 hexadecimal digits. Ids of
    /// deleted messages count. Fails with `not_found`, or `usage` where several begin so.
    pub fn message_id(&self, store: &Store, prefix: &str) -> Result<EventId> {
        const LEAST: usize = 8;
        let prefix = prefix.to_ascii_lowercase();
        let is_hex = prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || prefix.len() < LEAST || prefix.len() > 64 {
            return Err(Error::new(
                ErrorWord::Usage,
                "a message is named by its id or at least 8 digits of it",
            ));
        }
        let not_found = || Error::new(ErrorWord::NotFound, "no such message");
        let low = EventId::from_hex(&format!("{prefix:0<64}")).map_err(|_| not_found())?;
        let high = EventId::from_hex(&format!("{prefix:f<64}")).map_err(|_| not_found())?;
        let ids = MessageRow::ids_between(store.connection(), &low, &high)?;
        match ids.as_slice() {
            [id] => Ok(*id),
            [] => Err(not_found()),
            _ => Err(
                Error::new(ErrorWord::Usage, "several messages begin with these digits")
                    .hint("give more of them"),
            ),
        }
    }
}

fn change(
    store: &mut Store,
    who: &PublicKey,
    now: u64,
    change: impl FnOnce(&mut ContactRow),
) -> Result<ContactView> {
    store.transaction(|tx| {
        let mut row = ContactRow::find(tx, who)?.ok_or_else(no_contact)?;
        change(&mut row);
        row.save(tx, now)?;
        Ok(view(&row))
    })
}

impl Turn<'_> {
    fn add_contact(&mut self, link: &Link, alias: Option<&str>) -> Result<ContactView> {
        if link.pubkey == self.own() {
            return Err(Error::new(ErrorWord::Usage, "that is your own key"));
        }
        let mut row = ContactRow::of(self.tx, &link.pubkey)?;
        if let Some(alias) = alias {
            check_alias(alias)?;
            let holder = ContactRow::by_alias(self.tx, alias)?;
            if holder.is_some_and(|holder| holder.pubkey != link.pubkey) {
                return Err(Error::new(
                    ErrorWord::Conflict,
                    "another contact has this alias",
                ));
            }
            row.alias = Some(alias.to_owned());
        }
        row.is_added = true;
        row.is_accepted = true;
        row.is_sotto |= link.is_sotto;
        row.add_hints(&link.relays);
        row.save(self.tx, self.now)?;
        if let Some(list_key) = &link.list_key {
            store::pin(self.tx, &link.pubkey, list_key, self.now)?;
        }
        self.owe_delivered(&link.pubkey)?;
        Ok(view(&row))
    }

    fn remove_contact(&mut self, who: &PublicKey) -> Result<()> {
        ContactRow::find(self.tx, who)?.ok_or_else(no_contact)?;
        let both = [self.own(), *who].into();
        if let Some(conversation) = ConversationRow::of_members(self.tx, &both)? {
            for message in MessageRow::in_conversation(self.tx, &conversation.id)? {
                if message.is_own {
                    self.take_back(&message, false, RowState::Cancelled)?;
                }
                self.erase(&message, "delete")?;
            }
        }
        self.keys.forget(who);
        ContactRow::remove(self.tx, who)
    }
}
