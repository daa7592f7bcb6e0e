//! The relay's side of a comparison (NIP-77), honest and otherwise.

use std::collections::{BTreeMap, BTreeSet};

use client_core::engine::io::{OpId, ReconcileAnswer, ReconcileStep};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use wire::{Event, EventId, OkMessage};

/// How a relay answers what compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparing {
    Honestly,
    /// NEG-ERR with this text.
    Refusing(&'static str),
    /// Never.
    Silently,
    /// The connection ends.
    Breaking,
    /// With these bytes, again and again.
    With(Vec<u8>),
    /// Honestly, and names these besides.
    Naming(Vec<EventId>),
}

/// Reconciliations of one relay.
#[derive(Debug, Default)]
pub struct Compared {
    open: BTreeMap<(String, OpId), NegentropyStorageVector>,
    /// Every message that came, in order.
    pub heard: Vec<Vec<u8>>,
}

impl Compared {
    /// Answers one step. `visible` is what REQ would show to the same client.
    pub fn answer(
        &mut self,
        who: &str,
        op: OpId,
        step: &ReconcileStep,
        how: &Comparing,
        visible: &[Event],
    ) -> Option<ReconcileAnswer> {
        let key = (who.to_owned(), op);
        let message = match step {
            ReconcileStep::Open { message, .. } => {
                self.open.insert(key.clone(), storage(how, visible));
                message
            }
            ReconcileStep::Next { message } => message,
            ReconcileStep::Close => {
                self.open.remove(&key);
                return None;
            }
        };
        self.heard.push(message.clone());
        Some(match how {
            Comparing::Refusing(text) => ReconcileAnswer::Refused(OkMessage::parse(text)),
            Comparing::Silently => ReconcileAnswer::Silent,
            Comparing::Breaking => ReconcileAnswer::Broken("it hung up".into()),
            Comparing::With(bytes) => ReconcileAnswer::Message(bytes.clone()),
            Comparing::Honestly | Comparing::Naming(_) => {
                let set = self.open.get(&key).expect("opened before");
                let mut side = Negentropy::borrowed(set, 60_000).unwrap();
                ReconcileAnswer::Message(side.reconcile(message).unwrap())
            }
        })
    }
}

fn storage(how: &Comparing, visible: &[Event]) -> NegentropyStorageVector {
    let mut set: BTreeSet<(u64, EventId)> =
        visible.iter().map(|e| (e.created_at(), e.id())).collect();
    if let Comparing::Naming(ids) = how {
        set.extend(ids.iter().map(|id| (1_800_000_000, *id)));
    }
    let mut storage = NegentropyStorageVector::new();
    for (at, id) in set {
        storage
            .insert(at, Id::from_byte_array(*id.as_bytes()))
            .unwrap();
    }
    storage.seal().unwrap();
    storage
}
