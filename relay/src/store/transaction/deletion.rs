//! Deletion requests (NIP-09): what they take away, and what is remembered of them.

use wire::{Event, EventId, PublicKey, VerifiedEvent, kinds};

use super::{Outcome, Transaction};
use crate::policy::{self, Refusal};
use crate::store::StoreError;
use crate::store::keys::{self, Entry, Hash};
use crate::store::record::Record;

impl Transaction<'_> {
    /// Carries out a deletion request (NIP-09): its author's own events go, and wraps addressed
    /// to its author. What is not here yet is remembered. A request that concerns wraps is kept
    /// as tombstones only; any other is kept and passed on. With `unless_own` the sender may
    /// otherwise not write here: the request counts only where it names something stored that is
    /// theirs, or that they deleted before. After about `budget` rows it is left
    /// [`Outcome::Unfinished`].
    pub fn delete(
        &mut self,
        request: &VerifiedEvent,
        unless_own: Option<Refusal>,
        budget: usize,
    ) -> Result<Outcome, StoreError> {
        let most_rows = self.rows.len().saturating_add(budget);
        let hasher = self.store.hasher();
        if self.is_here(&hasher.id(&request.id()), request)? {
            return Ok(Outcome::Duplicate);
        }
        if let Some(refusal) = self.memory_forbids(request)? {
            return Ok(Outcome::Refused(refusal));
        }
        let deleter = request.pubkey();
        let mut unknown = Vec::new();
        let wrap_kinds = [kinds::WRAP.to_string(), kinds::EPHEMERAL_WRAP.to_string()];
        let is_of_wraps = |kind: &str| wrap_kinds.iter().any(|wrap| wrap == kind);
        let mut concerns_wraps = request.tags().values("k").any(is_of_wraps);
        // A wrap cannot come back after its window; anything else could.
        let window_end = self.rules.wrap_window_end(self.now).unwrap_or(u64::MAX);
        let until_of = |is_wrap: bool| match is_wrap {
            true => window_end,
            false => u64::MAX,
        };
        let until_of_absent =
            until_of(concerns_wraps && request.tags().values("k").all(is_of_wraps));
        let says_wraps = concerns_wraps;
        // Which of its targets were wraps cannot be told any more once they went: neither by its
        // next slice, nor when it is sent again.
        let mark = hasher.id(&request.id());
        let now = self.now;
        let is_on = |until: Option<u64>| until.is_some_and(|until| until > now);
        let is_marked = is_on(self.rows.number(&keys::deletion(&mark))?);
        concerns_wraps |= is_marked;
        let mut has_own = false;
        let mut names_others = false;
        for id in request
            .tags()
            .values("e")
            .filter_map(|id| EventId::from_hex(id).ok())
        {
            let hash = hasher.id(&id);
            let own_kind = match self.find(&hash)? {
                Some((_, target)) if may_delete(&deleter, &target) => Some(target.kind()),
                Some((_, target)) if !policy::is_guarded(target.kind()) => {
                    names_others |= target.pubkey() != deleter;
                    None
                }
                // Of wraps and the like nobody learns whether they are here, on a full disk
                // neither: to whom they are not, they are absent.
                Some(_) => {
                    unknown.push(self.as_absent(&id, &deleter)?);
                    None
                }
                None => {
                    let lost = self.lost_of(&deleter, &hash)?;
                    if lost.is_none() {
                        unknown.push(self.as_absent(&id, &deleter)?);
                    }
                    lost
                }
            };
            // With something of theirs in it the request counts, whatever else it names.
            if let Some(kind) = own_kind {
                has_own = true;
                let is_wrap = kinds::is_wrap(kind);
                concerns_wraps |= is_wrap;
                if is_wrap && !says_wraps {
                    self.remember_until(mark, window_end)?;
                }
                self.remember(&id, &deleter, until_of(is_wrap))?;
                self.erase(&hash)?;
                if self.rows.len() >= most_rows {
                    return Ok(Outcome::Unfinished);
                }
            }
        }
        let mut addresses = Vec::new();
        for address in request.tags().values("a") {
            let Some((kind, author, d)) = address_parts(address) else {
                continue;
            };
            if author == deleter {
                let address = hasher.address(kind, &author, d);
                let current = self.rows.get(&keys::address(&address))?;
                let deleted = self.rows.get(&keys::address_deletion(&address))?;
                has_own |= current.is_some() || deleted.is_some();
                addresses.push((address, current));
            } else {
                names_others = true;
            }
        }
        has_own |= unknown.iter().any(|absent| absent.until.is_some());
        if let (Some(refusal), false) = (unless_own, has_own) {
            return Ok(Outcome::Refused(refusal));
        }
        let names_own = has_own || !unknown.is_empty() || !addresses.is_empty();
        if names_others && !names_own {
            return Ok(Outcome::Refused(Refusal::NotTheirs));
        }
        // The reserve is for taking things away. Anybody can ask for what is not here, without end.
        let mut is_left_out = false;
        for absent in unknown {
            if is_marked && is_on(absent.until) {
                // As long as it takes, which is known from when it was here.
                continue;
            }
            if self.has_room {
                self.remember(&absent.id, &deleter, until_of_absent)?;
            } else {
                is_left_out |= absent.until.is_none();
            }
        }
        for (address, current) in addresses {
            if self.has_room || current.is_some() {
                self.delete_address(&address, current, request.created_at())?;
                if self.rows.len() >= most_rows {
                    return Ok(Outcome::Unfinished);
                }
            } else {
                is_left_out = true;
            }
        }
        if is_left_out {
            // What was here is erased all the same; the sender tries again for the rest.
            return Err(StoreError::DiskFull);
        }
        match concerns_wraps {
            true => Ok(Outcome::CarriedOut),
            false => match self.put(request) {
                // The deletion itself holds; there is only no room to show it to others.
                Err(StoreError::DiskFull) => Ok(Outcome::CarriedOut),
                other => other,
            },
        }
    }

    /// What there is to know of an event that is not here.
    fn as_absent(&self, id: &EventId, deleter: &PublicKey) -> Result<Absent, StoreError> {
        let row = keys::deletion(&self.store.hasher().deletion(id, deleter));
        let until = self.rows.number(&row)?;
        Ok(Absent { id: *id, until })
    }

    fn delete_address(
        &mut self,
        address: &Hash,
        current: Option<Vec<u8>>,
        up_to: u64,
    ) -> Result<(), StoreError> {
        let key = keys::address_deletion(address);
        if self.rows.number(&key)?.is_some_and(|known| known >= up_to) {
            return Ok(());
        }
        let address = *address;
        self.staged
            .push(&Record::AddressDeletion { address, up_to })?;
        self.rows.put(key, up_to.to_be_bytes().to_vec());
        if let Some(current) = current {
            let id: Hash = keys::take(&mut current.as_slice())?;
            if self
                .rows
                .entry(&id)?
                .is_some_and(|entry| entry.created_at <= up_to)
            {
                self.erase(&id)?;
            }
        }
        Ok(())
    }

    /// Remembers that `deleter` wants `id` gone, until a time.
    pub(super) fn remember(
        &mut self,
        id: &EventId,
        deleter: &PublicKey,
        until: u64,
    ) -> Result<(), StoreError> {
        let deletion = self.store.hasher().deletion(id, deleter);
        self.remember_until(deletion, until)
    }

    /// Of a deletion's hash, or a request's: where its own id is remembered so, it took wraps away.
    fn remember_until(&mut self, deletion: Hash, until: u64) -> Result<(), StoreError> {
        let key = keys::deletion(&deletion);
        if self.rows.number(&key)?.is_some_and(|known| known >= until) {
            return Ok(());
        }
        self.staged.push(&Record::Deletion { deletion, until })?;
        self.rows.put(key, until.to_be_bytes().to_vec());
        if until != u64::MAX {
            self.rows
                .put(keys::deletion_end(until, &deletion), Vec::new());
        }
        Ok(())
    }

    /// The kind of an event that does not read back and that `deleter` may delete: the index knows
    /// enough of it to tell.
    fn lost_of(&self, deleter: &PublicKey, id: &Hash) -> Result<Option<u16>, StoreError> {
        let Some(Entry {
            kind,
            created_at,
            recipient,
            ..
        }) = self.rows.entry(id)?
        else {
            return Ok(None);
        };
        let hasher = self.store.hasher();
        let written = keys::at(keys::by_author(&hasher.author(deleter)), created_at, id);
        let is_own = kind != kinds::DELETION && self.rows.get(&written)?.is_some();
        let is_for_them = kind == kinds::WRAP && recipient == hasher.recipient(deleter);
        Ok((is_own || is_for_them).then_some(kind))
    }
}

/// An event that is not here, or not for whoever wants it gone.
struct Absent {
    id: EventId,
    /// Until when it is remembered that they deleted it before.
    until: Option<u64>,
}

/// Whether `deleter` may delete the event: their own (never a deletion, NIP-09), or a wrap
/// addressed to them (NIP-59).
fn may_delete(deleter: &PublicKey, target: &Event) -> bool {
    let is_own = target.pubkey() == *deleter && target.kind() != kinds::DELETION;
    let is_for_them = target.kind() == kinds::WRAP
        && policy::sole_recipient(target.tags()).is_some_and(|key| key == *deleter);
    is_own || is_for_them
}

/// The parts of an `a` tag's value, `kind:pubkey:d`.
fn address_parts(text: &str) -> Option<(u16, PublicKey, &str)> {
    let mut parts = text.splitn(3, ':');
    let kind = parts.next()?.parse().ok()?;
    let author = PublicKey::from_hex(parts.next()?).ok()?;
    Some((kind, author, parts.next().unwrap_or_default()))
}
