//! What each kind of attacker sends. Everything is made before the attack begins, so that half a
//! core goes into the sending.

use anyhow::{Context as _, Result};
use crypto::OneTimeKey;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use wire::{ClientFrame, Event, EventDraft, Tag, kinds, limits};

use super::attackers::frame;
use super::honest::{NOTE, now};

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// An HTTP request of which a byte comes every tenth of a second.
    SlowHeaders,
    /// Twenty subscriptions to all there is, and nothing is ever read.
    SlowReader,
    /// Subscriptions with as many values as fit, opened and closed without end.
    SubscriptionBombs,
    /// Searches through everything that find nothing, and counts of the same.
    FilterBombs,
    /// Reconciliations over all there is, opened without end, with nonsense in between.
    NegentropyBombs,
    /// Messages as large as is allowed, full of structure; and one that is larger.
    OversizeFrames,
    /// Bytes.
    Garbage,
    /// Proofs that prove nothing, each with a true signature to check.
    AuthFloods,
    /// Events whose signatures are wrong.
    ForgedEvents,
    /// Wraps to nobody, each of which is taken.
    Spam,
    /// Twenty subscriptions to everybody's wraps, of strangers who proved a key; and silence.
    WideSubscriptions,
    /// Twenty subscriptions to all notes, and notes.
    Crowds,
    /// Notes with as many tags as an event may have, and deletions of them and of as many others.
    WideEvents,
    /// The page for people, asked for without end, many times before the first answer.
    PageRequests,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::SlowHeaders,
        Self::SlowReader,
        Self::SubscriptionBombs,
        Self::FilterBombs,
        Self::NegentropyBombs,
        Self::OversizeFrames,
        Self::Garbage,
        Self::AuthFloods,
        Self::ForgedEvents,
        Self::Spam,
        Self::WideSubscriptions,
        Self::Crowds,
        Self::WideEvents,
        Self::PageRequests,
    ];

    /// As the table and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowHeaders => "slow-headers",
            Self::SlowReader => "slow-reader",
            Self::SubscriptionBombs => "subscription-bombs",
            Self::FilterBombs => "filter-bombs",
            Self::NegentropyBombs => "negentropy-bombs",
            Self::OversizeFrames => "oversize-frames",
            Self::Garbage => "garbage",
            Self::AuthFloods => "auth-floods",
            Self::ForgedEvents => "forged-events",
            Self::Spam => "spam",
            Self::WideSubscriptions => "wide-subscriptions",
            Self::Crowds => "crowds",
            Self::WideEvents => "wide-events",
            Self::PageRequests => "page-requests",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|attack| attack.name() == name);
        found.with_context(|| format!("no such attack: {name}"))
    }
}

/// Whether the attacker takes what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// And throws it away.
    Everything,
    /// The socket fills up.
    Nothing,
}

/// What is sent, ready made.
pub struct Material {
    attack: Attack,
    url: String,
    /// Frames with their heads, in turn.
    repeated: Vec<Vec<u8>>,
}

/// Of a browser.
const PAGE_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: relay.example\r\nAccept: text/html\r\n\r\n";

/// Signed events for a flood; it starts again from the first.
const EVENTS: usize = 20_000;
/// The same where each is larger.
const WIDE_EVENTS: usize = 2_000;

impl Material {
    /// Makes it.
    pub fn prepare(attack: Attack, url: &str) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(23);
        let texts: Vec<Vec<u8>> = match attack {
            Attack::SlowHeaders | Attack::SlowReader | Attack::WideSubscriptions => Vec::new(),
            Attack::PageRequests => vec![PAGE_REQUEST.repeat(16)],
            Attack::Crowds => {
                let notes = (0..EVENTS).map(|at| {
                    let note = signed(NOTE, Vec::new(), &at.to_string(), &mut rng);
                    ClientFrame::event(note.json()).into_bytes()
                });
                notes.collect()
            }
            Attack::WideEvents => wide_events(&mut rng),
            Attack::SubscriptionBombs => subscription_bombs(),
            Attack::FilterBombs => filter_bombs(),
            Attack::NegentropyBombs => negentropy_bombs(),
            Attack::OversizeFrames => oversize(),
            Attack::Garbage => garbage(&mut rng),
            Attack::AuthFloods => {
                let proofs = (0..EVENTS / 4).map(|_| {
                    let tags = [
                        Tag::new(["relay", url]),
                        Tag::new(["challenge", "of somebody else"]),
                    ];
                    let event = signed(kinds::CLIENT_AUTH, tags.to_vec(), "", &mut rng);
                    ClientFrame::auth(event.json()).into_bytes()
                });
                proofs.collect()
            }
            Attack::ForgedEvents => {
                let honest = signed(NOTE, Vec::new(), "signed", &mut rng);
                let json = String::from_utf8(honest.json().to_vec())?;
                // The id is right, so that the signature has to be looked at.
                let signature = honest.sig().to_hex();
                let forged = (0..1_000).map(|at| {
                    let wrong = format!("{at:08x}{}", signature.get(8..).unwrap_or_default());
                    format!("[\"EVENT\",{}]", json.replace(&signature, &wrong)).into_bytes()
                });
                forged.collect()
            }
            Attack::Spam => {
                let wraps = (0..EVENTS).map(|_| {
                    let to = OneTimeKey::generate(&mut rng).public_key().to_hex();
                    let mut bytes = [0_u8; 750];
                    rng.fill_bytes(&mut bytes);
                    let content: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                    let tags = vec![Tag::new(["p", to.as_str()])];
                    let event = signed(kinds::WRAP, tags, &content, &mut rng);
                    ClientFrame::event(event.json()).into_bytes()
                });
                wraps.collect()
            }
        };
        Ok(Self {
            attack,
            url: url.to_owned(),
            repeated: match attack {
                Attack::PageRequests => texts,
                _ => texts.iter().map(|text| frame(text)).collect(),
            },
        })
    }

    /// The request that comes byte by byte, where that is the attack.
    pub fn trickled_head(&self) -> Option<Vec<u8>> {
        let head = b"GET / HTTP/1.1\r\nHost: relay.example\r\nUser-Agent: ".to_vec();
        (self.attack == Attack::SlowHeaders).then_some(head)
    }

    /// Whether a WebSocket is opened first.
    pub fn has_socket(&self) -> bool {
        self.attack != Attack::PageRequests
    }

    /// Whether it reads.
    pub fn reading(&self) -> Reading {
        match self.attack {
            Attack::SlowReader => Reading::Nothing,
            _ => Reading::Everything,
        }
    }

    /// What a connection says first, without the frame.
    pub fn first(&self, number: usize, challenge: &str) -> Vec<Vec<u8>> {
        match self.attack {
            Attack::SlowReader => twenty(&json!({"kinds": [1]})),
            Attack::Crowds => twenty(&json!({"kinds": [1], "limit": 0})),
            Attack::WideSubscriptions => {
                let mut first = vec![self.proof(number, challenge)];
                first.extend(twenty(&json!({"kinds": [1059], "limit": 0})));
                first
            }
            // Half of them prove a key, so that nothing is out of question for them.
            Attack::SubscriptionBombs | Attack::FilterBombs | Attack::NegentropyBombs
                if number.is_multiple_of(2) =>
            {
                vec![self.proof(number, challenge)]
            }
            _ => Vec::new(),
        }
    }

    /// Of a key of its own.
    fn proof(&self, number: usize, challenge: &str) -> Vec<u8> {
        let mut rng = StdRng::seed_from_u64(u64::try_from(number).unwrap_or(0));
        let tags = vec![
            Tag::new(["relay", self.url.as_str()]),
            Tag::new(["challenge", challenge]),
        ];
        let proof = signed(kinds::CLIENT_AUTH, tags, "", &mut rng);
        ClientFrame::auth(proof.json()).into_bytes()
    }

    /// What it sends on and on, with the frame where there is a socket.
    pub fn next(&self, turn: usize) -> Option<&[u8]> {
        let at = turn.checked_rem(self.repeated.len())?;
        self.repeated.get(at).map(Vec::as_slice)
    }
}

fn signed(kind: u16, tags: Vec<Tag>, content: &str, rng: &mut StdRng) -> Event {
    let key = OneTimeKey::generate(rng);
    signed_by(&key, kind, tags, content, rng)
}

fn signed_by(
    key: &OneTimeKey,
    kind: u16,
    tags: Vec<Tag>,
    content: &str,
    rng: &mut StdRng,
) -> Event {
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at: now(),
        kind,
        tags: tags.into_iter().collect(),
        content: content.to_owned(),
    };
    key.sign(draft, rng)
}

/// Four notes of one author and a deletion of all four, many times.
fn wide_events(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for _ in 0..WIDE_EVENTS / 4 {
        let key = OneTimeKey::generate(rng);
        let mut deleted = Vec::new();
        for _ in 0..4 {
            let values = (0..limits::TAGS - 10).map(|_| format!("{:08x}", rng.next_u32()));
            let tags = values.map(|value| Tag::new(["t".to_owned(), value]));
            let note = signed_by(&key, NOTE, tags.collect(), "", rng);
            deleted.push(Tag::new(["e".to_owned(), note.id().to_hex()]));
            messages.push(ClientFrame::event(note.json()).into_bytes());
        }
        // Nobody has these; each is to be remembered.
        deleted.extend((0..1_000).map(|_| {
            let mut id = [0_u8; 32];
            rng.fill_bytes(&mut id);
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            Tag::new(["e".to_owned(), id])
        }));
        let deletion = signed_by(&key, kinds::DELETION, deleted, "", rng);
        messages.push(ClientFrame::event(deletion.json()).into_bytes());
    }
    messages
}

/// As many subscriptions as a connection may have.
fn twenty(filter: &serde_json::Value) -> Vec<Vec<u8>> {
    (0..20)
        .map(|at| json!(["REQ", at.to_string(), filter]).to_string())
        .map(String::into_bytes)
        .collect()
}

/// Twenty of as many short values as fit into ten filters, then wide ones that match all.
fn subscription_bombs() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for at in 0..20 {
        let filters = (0..limits::FILTERS).map(|filter| {
            let values: Vec<String> = (0..limits::FILTER_VALUES)
                .map(|value| format!("{at}{filter}{value}"))
                .collect();
            json!({"kinds": [1], "#p": values, "limit": 0})
        });
        let mut parts = vec![json!("REQ"), json!(format!("many{at}"))];
        parts.extend(filters);
        messages.push(serde_json::Value::Array(parts));
        let wide = json!({"since": 1, "limit": 0});
        messages.push(json!(["REQ", format!("wide{at}"), wide, wide, wide]));
        messages.push(json!(["REQ", format!("notes{at}"), {"kinds": [1], "limit": 0}]));
        messages.push(json!(["CLOSE", format!("many{at}")]));
    }
    messages
        .iter()
        .map(|m| m.to_string().into_bytes())
        .collect()
}

fn filter_bombs() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for at in 0..20 {
        // Everything has the first tag and nothing the second, and the first has fewer values.
        let absent: Vec<String> = (0..100).map(|n| format!("absent{n}")).collect();
        let search = json!({"kinds": [1], "#t": ["common"], "#x": absent});
        messages.push(json!([
            "REQ",
            format!("search{at}"),
            search,
            search,
            search
        ]));
        messages.push(json!(["COUNT", format!("count{at}"), search]));
        let authors: Vec<String> = (0..500).map(|n| format!("{n:064x}")).collect();
        let kinds: Vec<u16> = (0..500).collect();
        let many = json!({"kinds": kinds, "authors": authors, "#t": ["common"]});
        messages.push(json!(["REQ", format!("many{at}"), many]));
        messages.push(json!(["COUNT", format!("all{at}"), {"kinds": [1]}]));
    }
    messages
        .iter()
        .map(|m| m.to_string().into_bytes())
        .collect()
}

fn negentropy_bombs() -> Vec<Vec<u8>> {
    // Version 1, then one range up to infinity: by a wrong fingerprint, or an empty list of ids.
    let different = format!("61000001{}", "00".repeat(16));
    let all = "6100000200";
    let mut messages = Vec::new();
    for at in 0..4 {
        let name = format!("n{at}");
        messages.push(json!(["NEG-OPEN", name, {"kinds": [1]}, different]));
        messages.push(json!(["NEG-MSG", name, all]));
        messages.push(json!(["NEG-MSG", name, "61ff"]));
        messages.push(json!(["NEG-OPEN", name, {"kinds": [1]}, all]));
    }
    messages
        .iter()
        .map(|m| m.to_string().into_bytes())
        .collect()
}

fn oversize() -> Vec<Vec<u8>> {
    let fill = |start: &str, unit: &str, end: &str| {
        let room = limits::FRAME_BYTES - start.len() - end.len();
        let count = room / unit.len();
        format!("{start}{}{end}", unit.repeat(count)).into_bytes()
    };
    vec![
        fill("[\"REQ\",\"x\",{\"kinds\":[1", ",1", "]}]"),
        fill("[\"EVENT\",{\"tags\":[[]", ",[]", "]}]"),
        fill("[\"EVENT\",{\"content\":\"", "\\u0041", "\"}]"),
        fill("[\"REQ\",\"x\"", ",{\"limit\":0}", "]"),
        fill("[", "{\"a\":[[[[[[[", ""),
        vec![b'x'; limits::FRAME_BYTES + 1],
    ]
}

fn garbage(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for at in 0..60 {
        let mut bytes = vec![0; 10 + at * 20];
        rng.fill_bytes(&mut bytes);
        let text: String = bytes
            .iter()
            .map(|byte| char::from(byte % 95 + 32))
            .collect();
        messages.push(match at % 3 {
            0 => text.into_bytes(),
            1 => format!("[\"{}\",{at}]", text.replace(['"', '\\'], "")).into_bytes(),
            _ => format!("[\"REQ\",\"{at}\",{{\"kinds\":[{at},\"x\"]}}]").into_bytes(),
        });
    }
    messages
}
