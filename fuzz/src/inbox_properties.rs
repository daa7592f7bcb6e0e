//! A whole client, without a network: what comes to its inbox from friends and strangers.

use bytes::Bytes;
use client_core::engine::io::{
    DescribeOutcome, Effect, Input, PublishOutcome, QueryEnd, ReconcileAnswer, ReconcileStep,
};
use client_core::engine::{Engine, EngineConfig};
use client_core::store::Store;
use crypto::{AccountKey, OneTimeKey, WrapKind, wrap};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use wire::{
    Event, EventDraft, Link, OkMessage, PublicKey, Reason, RelayUrl, Rumor, Tags, kinds, limits,
};

const NOW: u64 = 1_700_000_000;

/// One thing on each line, its first byte says from whom: a rumor of a friend (`f`), of a stranger
/// (`s`) or of another device of ours (`m`), sealed and wrapped as it should be; a list that the
/// friend signed (`l`); anything else as it is. Whatever comes, the client goes on; what it shows
/// is what somebody wrote, and strangers fill no disk.
pub fn inbox(data: &[u8]) {
    let mut rng = StdRng::seed_from_u64(4);
    let [own, friend, stranger] =
        [1, 2, 3].map(|number| AccountKey::from_secret_bytes(&[number; 32]).expect("a key"));
    let (mut wraps, mut lists) = (Vec::new(), Vec::new());
    for line in data.split(|byte| *byte == b'\n').take(30) {
        let Some((from, rest)) = line.split_first() else {
            continue;
        };
        match from {
            b'f' => wraps.extend(sealed(rest, &friend, &own, &mut rng)),
            b's' => wraps.extend(sealed(rest, &stranger, &own, &mut rng)),
            b'm' => wraps.extend(sealed(rest, &own, &own, &mut rng)),
            b'l' => lists.extend(Rumor::decode(rest).ok().map(|rumor| {
                friend
                    .sign(draft(&rumor, friend.public_key()), &mut rng)
                    .json()
                    .clone()
            })),
            _ => wraps.push(Bytes::copy_from_slice(line)),
        }
    }
    let mut store = Store::in_memory().expect("a store");
    let config = EngineConfig {
        circle: 0,
        circle_name: "personal".into(),
        expire_s: None,
    };
    let relay: RelayUrl = "wss://relay.example".parse().expect("a URL");
    let mut engine = Engine::new(own, config, &mut store, &mut rng).expect("an engine");
    let mut link = Link::new(friend.public_key());
    link.relays.push(relay.clone());
    let added = engine.add_contact(&mut store, &link, Some("friend"), NOW, &mut rng);
    let mut effects = added.expect("a contact").effects;
    let set = engine.set_servers(&mut store, vec![relay], Vec::new(), NOW, &mut rng);
    effects.extend(set.expect("relays").effects);
    effects.extend(
        engine
            .sync(&mut store, NOW, &mut rng)
            .expect("a wish")
            .effects,
    );
    let mut world = World {
        wraps,
        lists,
        steps: 0,
    };
    world.run(&mut engine, &mut store, effects, NOW, &mut rng);
    // Once more: everything is known now. Later: what was to vanish has vanished.
    for now in [NOW + 1, NOW + 40 * 86_400] {
        let before = engine.newest_event(&store).expect("a number");
        let mut effects = engine
            .sync(&mut store, now, &mut rng)
            .expect("a wish")
            .effects;
        effects.extend(
            engine
                .handle(&mut store, Input::Tick, now, &mut rng)
                .expect("a tick"),
        );
        world.run(&mut engine, &mut store, effects, now, &mut rng);
        let after = engine
            .events_after(&store, before, 1_000, now)
            .expect("a list");
        assert!(
            !after
                .iter()
                .any(|event| matches!(event.kind, "message" | "request"))
        );
        shown(&engine, &store, &friend.public_key(), now);
        let requests = shown(&engine, &store, &stranger.public_key(), now);
        assert!(requests <= 20, "a stranger stored {requests} messages");
    }
}

/// What is shown of a conversation is sound; how much it is.
fn shown(engine: &Engine, store: &Store, who: &PublicKey, now: u64) -> usize {
    let messages = engine
        .messages(store, who, 1_000, None, now)
        .expect("messages");
    for message in &messages {
        assert!(message.text.len() <= limits::TEXT_BYTES);
        assert!(message.from == who.to_hex() || message.from == engine.public_key().to_hex());
        assert!(message.expires_at.is_none_or(|at| at > now));
        assert!(message.sent_at <= message.received_at.max(message.sent_at));
        assert!(message.files.len() <= 1);
    }
    messages.len()
}

/// The rumor in the bytes as its author's client would send it.
fn sealed(rumor: &[u8], from: &AccountKey, to: &AccountKey, rng: &mut StdRng) -> Option<Bytes> {
    let author = from.public_key();
    let rumor = Rumor::new(draft(&Rumor::decode(rumor).ok()?, author));
    let conversation = from.conversation_with(&to.public_key()).ok()?;
    let content = conversation.encrypt(rumor.to_json().as_bytes(), rng).ok()?;
    let seal = EventDraft {
        pubkey: author,
        created_at: NOW,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content,
    };
    let seal = from.sign(seal, rng);
    let key = OneTimeKey::generate(rng);
    let wrapped = wrap(
        &key,
        &to.public_key(),
        WrapKind::Stored,
        seal.json(),
        NOW,
        None,
        rng,
    );
    wrapped.ok().map(|event: Event| event.json().clone())
}

fn draft(rumor: &Rumor, pubkey: PublicKey) -> EventDraft {
    EventDraft {
        pubkey,
        created_at: rumor.created_at(),
        kind: rumor.kind(),
        tags: rumor.tags().clone(),
        content: rumor.content().to_owned(),
    }
}

/// One relay that has everything and takes everything.
struct World {
    wraps: Vec<Bytes>,
    lists: Vec<Bytes>,
    steps: usize,
}

impl World {
    fn run(
        &mut self,
        engine: &mut Engine,
        store: &mut Store,
        effects: Vec<Effect>,
        now: u64,
        rng: &mut StdRng,
    ) {
        let mut waiting = effects;
        while let Some(effect) = waiting.pop() {
            self.steps += 1;
            assert!(self.steps < 5_000, "it does not come to rest");
            for input in self.answer(effect) {
                let more = engine.handle(store, input, now, rng);
                waiting.extend(more.expect("no input is our own fault"));
            }
        }
    }

    fn answer(&self, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::Publish { op, .. } => {
                let outcome = PublishOutcome::Accepted(OkMessage::new(Reason::None, ""));
                vec![Input::Published { op, outcome }]
            }
            Effect::Query {
                op, filter, live, ..
            } => {
                let is_inbox = filter
                    .kinds
                    .as_ref()
                    .is_some_and(|kinds| kinds.contains(&kinds::WRAP));
                let events = if is_inbox { &self.wraps } else { &self.lists };
                let mut inputs: Vec<Input> = events
                    .chunks(64)
                    .map(|events| Input::Events {
                        op,
                        events: events.to_vec(),
                    })
                    .collect();
                inputs.push(match live {
                    true => Input::CaughtUp { op },
                    false => Input::QueryEnded {
                        op,
                        end: QueryEnd::Eose {
                            complete: Some(true),
                        },
                        garbage: 0,
                    },
                });
                inputs
            }
            Effect::Describe { op, .. } => {
                let outcome = DescribeOutcome::Nothing;
                vec![Input::Described { op, outcome }]
            }
            Effect::Reconcile {
                op,
                step: ReconcileStep::Open { .. },
                ..
            } => {
                let answer = ReconcileAnswer::Silent;
                vec![Input::Reconciled { op, answer }]
            }
            _ => Vec::new(),
        }
    }
}
