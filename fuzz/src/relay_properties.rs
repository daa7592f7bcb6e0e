//! What strangers and operators hand to the relay, beside frames.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_relay::config::Raw;
use sotto_relay::forwarded::TrustedProxies;
use sotto_relay::json_lines::{self, Line};
use sotto_relay::model::ModelRelay;
use sotto_relay::policy::{self, Law, OwnUrls, Rules, Verdict, Wish};
use sotto_relay::reconcile::EventSet;
use sotto_relay::roster::Roster;
use sotto_relay::settings::Settings;
use sotto_relay::stated::{self, Stated};
use sotto_relay::tls::validity_of;
use sotto_relay::{Config, management, page};
use wire::{
    ClientFrame, Event, EventDraft, EventId, Filter, InviteCode, PublicKey, RelayFrame, Rumor,
    Signature, SubscriptionId, Tag, Tags, VerifiedEvent, kinds, limits,
};

const NOW: u64 = 1_700_000_000;
const CHALLENGE: &str = "challenge";

/// A client's messages of negentropy, each behind two bytes of length, against a set whose size
/// the first byte chooses: an answer or a refusal, never more than a frame takes, and the same
/// whatever was asked before.
pub fn negentropy_query(data: &[u8]) {
    let Some((size, mut rest)) = data.split_first() else {
        return;
    };
    let count = [0, 1, 40, 700][usize::from(*size % 4)];
    let set = || {
        let mut set = EventSet::default();
        set.extend((0..count).map(|n: u64| (NOW + n / 3, id(n))));
        set.seal().expect("a set")
    };
    let mut reconciler = set();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        let answer = reconciler.answer(message);
        if let Ok(answer) = &answer {
            assert!(answer.len() <= limits::NEGENTROPY_BYTES && answer.first() == Some(&0x61));
            assert!((0x60..=0x6f).contains(&message[0]));
        }
        assert_eq!(set().answer(message).ok(), answer.ok());
    }
}

fn id(number: u64) -> EventId {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 8 * 8);
        *byte = u8::try_from(mixed & 0xff)
            .unwrap_or(0)
            .wrapping_add(u8::try_from(at).unwrap_or(0));
    }
    EventId::from_bytes(bytes)
}

/// The bytes as a draft that somebody signs: as AUTH, as a wish to join or leave, as an event.
/// What is believed is what the rules say, and what the relay takes its readers get.
pub fn signed_event(data: &[u8]) {
    let Ok(rumor) = Rumor::decode(data) else {
        return;
    };
    let author = key(1);
    let event = sign(&author, |pubkey| EventDraft {
        pubkey,
        created_at: rumor.created_at(),
        kind: rumor.kind(),
        tags: rumor.tags().clone(),
        content: rumor.content().to_owned(),
    });
    let Ok(event) = Event::decode(event.json().clone()) else {
        return;
    };
    let (rules, roster) = (Rules::default(), Roster::default());
    let own = OwnUrls::new(&[], 7447);
    let law = Law {
        rules: &rules,
        roster: &roster,
        own: &own,
    };
    let tags = event.tags();
    if let Ok(proved) = policy::check_auth(&event, CHALLENGE, NOW, law) {
        assert!(proved == event.pubkey() && event.kind() == kinds::CLIENT_AUTH);
        assert!(event.created_at().abs_diff(NOW) <= 600);
        assert_eq!(tags.value("challenge"), Some(CHALLENGE));
        assert!(tags.value("relay").is_some_and(|url| own.contains(url)));
        assert!(policy::check_auth(&event, "another", NOW, law).is_err());
    }
    if Wish::is_one(&event) {
        let wish = Wish::read(&event, &[event.pubkey()], NOW);
        assert!(Wish::read(&event, &[], NOW).is_err());
        if let Ok(Wish::Join(code)) = &wish {
            assert_eq!(InviteCode::parse(code.expose()).as_ref(), Ok(code));
            assert!(event.kind() == kinds::JOIN && tags.find("-").is_some());
        }
    }
    let auth = [event.pubkey()];
    let verdict = policy::judge(&event, &auth, NOW, law);
    if verdict.is_ok() {
        assert!(event.created_at() <= NOW + limits::WRAP_FUTURE_SECONDS);
        assert!(event.expiration().is_none_or(|at| at > NOW));
        assert!(!matches!(
            event.kind(),
            kinds::SEAL | kinds::TEXT | kinds::FILE | kinds::CLIENT_AUTH
        ));
    }
    if kinds::is_wrap(event.kind()) {
        let named = tags.iter().filter(|tag| tag.name() == "p").count();
        assert!(verdict.is_err() || named == 1);
    }
    carried(event, verdict == Ok(Verdict::Store));
}

/// Hands the event to a whole relay. Where it is stored, whoever may read it finds it, and nobody
/// else does.
fn carried(event: Event, is_stored: bool) {
    let mut relay = ModelRelay::new(&Config::in_memory(), 7447, 1).expect("a relay");
    let challenge = |frames: &[(u64, String)]| match frames {
        [(_, frame)] => frame.split('"').nth(3).unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    // The author, who proves their key; and a stranger.
    let greeting = challenge(&relay.connect(1));
    let proof = sign(&key(1), |pubkey| EventDraft {
        pubkey,
        created_at: NOW,
        kind: kinds::CLIENT_AUTH,
        tags: Tags::from_iter([
            Tag::new(["relay", "ws://127.0.0.1:7447"]),
            Tag::new(["challenge", &greeting]),
        ]),
        content: String::new(),
    });
    relay.handle(1, ClientFrame::Auth(proof), NOW);
    relay.connect(2);
    let answers = relay.handle(1, ClientFrame::Event(event.clone()), NOW);
    let accepted = answers.iter().any(|(_, frame)| {
        let frame = RelayFrame::decode(&Bytes::copy_from_slice(frame.as_bytes()));
        matches!(frame, Ok(RelayFrame::Ok(id, true, _)) if id == event.id())
    });
    assert!(!is_stored || accepted);
    let Ok(name) = SubscriptionId::new("x") else {
        return;
    };
    let filter = Filter::default()
        .with_ids([event.id()])
        .with_kinds([event.kind()]);
    for (client, auth) in [(1, vec![event.pubkey()]), (2, Vec::new())] {
        let frames = relay.handle(
            client,
            ClientFrame::Req(name.clone(), vec![filter.clone()]),
            NOW,
        );
        let is_seen = frames.iter().any(|(to, frame)| {
            *to == client && frame.starts_with("[\"EVENT\"") && frame.contains(&event.id().to_hex())
        });
        assert!(!is_seen || (accepted && policy::may_read(&event, &auth)));
        assert!(is_seen || !is_stored || !policy::may_read(&event, &auth));
    }
}

/// The first line as a draft of a proof (NIP-98), or else a good one is made; the rest as the
/// body of a request to the management API. A proof is good for one body, address and method.
pub fn management_request(data: &[u8]) {
    let at = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (line, body) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let admin = key(1);
    let url = "http://127.0.0.1:7447/";
    let draft = Rumor::decode(line).ok();
    let proof = sign(&admin, |pubkey| match &draft {
        Some(rumor) => EventDraft {
            pubkey,
            created_at: rumor.created_at(),
            kind: rumor.kind(),
            tags: rumor.tags().clone(),
            content: rumor.content().to_owned(),
        },
        None => wire::HttpAuth::draft(pubkey, url, "POST", body, NOW),
    });
    let header = wire::HttpAuth::header(&proof);
    if let Ok(proof) = wire::HttpAuth::from_header(&header) {
        let is_here = |named: &str| named == url;
        if proof.check("POST", is_here, body, NOW).is_ok() {
            assert_eq!(proof.pubkey(), public(&admin));
            assert!(proof.until().abs_diff(NOW + 60) <= 60);
            assert!(proof.check("POST", is_here, b"another body", NOW).is_err());
            assert!(proof.check("GET", is_here, body, NOW).is_err());
            assert!(proof.check("POST", |_| false, body, NOW).is_err());
            assert!(proof.check("POST", is_here, body, NOW + 121).is_err());
        } else {
            assert!(draft.is_some());
        }
    }
    if let Ok(request) = management::Request::decode(body) {
        let mut roster = Roster::default();
        if let Ok(management::Call::Change(change)) = request.call()
            && change.apply(&mut roster, NOW).is_ok()
        {
            roster_is_sound(&roster);
        }
    }
}

/// What `check` reads from a relay that may be anybody's: the bytes as its information document,
/// as a frame and as its certificate. What is tried is bounded, and what people are told of it is
/// short, and plain ASCII.
pub fn relay_check(data: &[u8]) {
    if let Some(stated) = Stated::decode(data) {
        let missing = stated.missing_nips();
        assert!(missing.len() <= 7 && !missing.contains(&0));
        match stated.too_much() {
            Ok(size) => assert!((2_048..=1_048_576).contains(&size)),
            Err(why) => assert!(why.to_string().len() <= 100),
        }
    }
    let words = match RelayFrame::decode(&Bytes::copy_from_slice(data)) {
        Ok(RelayFrame::Ok(_, _, message) | RelayFrame::Closed(_, message)) => message.text,
        Ok(_) => String::new(),
        Err(error) => {
            let told = error.to_string();
            assert_eq!(stated::shown(&told), told);
            told
        }
    };
    let shown = stated::shown(&words);
    assert!(shown.is_ascii() && shown.len() <= 200);
    assert!(!shown.contains(|c: char| c.is_control()));
    if let Err(error) = validity_of(data) {
        assert!(!error.to_string().is_empty());
    }
}

/// The bytes as the file that holds members, bans and invites: read, or refused as damaged or
/// newer. What was read is written the same, and can be changed.
pub fn roster_file(data: &[u8]) {
    let Ok(roster) = Roster::decode(data) else {
        return;
    };
    roster_is_sound(&roster);
    let mut changed = roster.clone();
    let (one, code) = (
        public(&key(1)),
        InviteCode::from_random(&[7; 16]).expect("a code"),
    );
    let _ = changed.invite(&code, 1, None, NOW);
    let joined = changed.redeem(&code, one, false, NOW);
    assert!(joined.is_err() || changed.is_member(&one));
    let _ = changed.ban(one, "why", NOW);
    assert!(!changed.is_member(&one) || !changed.is_banned(&one));
    roster_is_sound(&changed);
    let _ = changed.since(&roster);
}

fn roster_is_sound(roster: &Roster) {
    let written = roster.encode().expect("a roster");
    let again = Roster::decode(&written).expect("what was written is read");
    assert_eq!(again.members(), roster.members());
    assert_eq!(again.banned(), roster.banned());
    assert_eq!(again.blocked(), roster.blocked());
    assert_eq!(again.encode().expect("a roster"), written);
}

/// The text of a configuration: refused with a reason, or within every bound that the rest of the
/// relay counts on.
pub fn relay_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match Raw::parse(text) {
        Ok(raw) => raw.check("data".into()),
        Err(error) => Err(error),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let limits = &config.limits;
    assert!(limits.connections > 0 && limits.subscriptions > 0 && limits.events_per_filter > 0);
    assert!(limits.held_bytes >= 2 * limits.send_queue_bytes);
    assert!(limits.reconciled_altogether >= limits.reconciled_events);
    assert!((1_024..=wire::limits::EVENT_BYTES).contains(&config.rules.event_bytes));
    assert!(
        config
            .rules
            .work
            .is_none_or(|work| (1..=40).contains(&work.bits))
    );
    for url in &config.urls {
        assert_eq!(wire::RelayUrl::parse(url.as_str()).as_ref(), Ok(url));
    }
}

/// The first line names whom to trust, separated by spaces; each further one is a header as a
/// proxy sent it. The client is somebody whom the last trusted proxy named, never who stands
/// before a stranger.
pub fn forwarded(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let trusted = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let trusted: Vec<String> = trusted.split(' ').map(str::to_owned).collect();
    let Ok(proxies) = TrustedProxies::parse(&trusted) else {
        return;
    };
    let mut headers = HeaderMap::new();
    let mut named = Vec::new();
    for line in lines.take(20) {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            continue;
        };
        named.extend(line.split(|byte| *byte == b',').map(<[u8]>::to_vec));
        headers.append("x-forwarded-for", value);
    }
    let peer = IpAddr::from([127, 0, 0, 1]);
    let Ok(client) = proxies.client(&headers, peer) else {
        return;
    };
    assert_eq!(client, client.to_canonical());
    // From the end: proxies that are trusted, and then the client.
    let believed = named.iter().rev().take_while(|hop| {
        let hop = std::str::from_utf8(hop).unwrap_or_default().trim();
        hop.parse().is_ok_and(|ip| proxies.contains(ip)) || hop.contains(['[', ':'])
    });
    assert!(believed.count() <= named.len());
    assert!(!named.is_empty() || client == peer);
    let last = named
        .last()
        .map(|hop| String::from_utf8_lossy(hop).trim().to_owned());
    if let Some(ip) = last.and_then(|hop| hop.parse::<IpAddr>().ok())
        && !proxies.contains(ip)
    {
        assert_eq!(client, ip.to_canonical());
    }
}

/// The page for people: lines for the operator's name, description and contact, then the `Host`
/// header of whoever asks. Whatever is in them, a browser sees text: every tag is one of ours.
pub fn status_page(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut config = Config::in_memory();
    config.about.name = lines.next().unwrap_or_default().to_owned();
    config.about.description = lines.next().unwrap_or_default().to_owned();
    config.about.contact = lines.next().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    if let Some(Ok(host)) = lines.next().map(HeaderValue::from_str) {
        headers.insert("host", host);
    }
    let settings = Settings::new(config, 7447, Arc::default());
    let html = page::page(&settings.get(), &headers);
    const TAGS: [&str; 34] = [
        "!doctype", "a", "body", "caption", "circle", "code", "dd", "details", "dl", "dt",
        "footer", "h1", "h2", "head", "header", "html", "li", "link", "main", "meta", "p", "path",
        "rect", "section", "style", "summary", "svg", "table", "tbody", "td", "th", "title", "tr",
        "ul",
    ];
    for part in html.split('<').skip(1) {
        let name = part.strip_prefix('/').unwrap_or(part);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '!');
        let name = &name[..end.unwrap_or(name.len())];
        assert!(TAGS.contains(&name), "<{name}");
        // No tag has a handler. Every other part, between quotes, is a value and no name.
        let tag = part.split('>').next().unwrap_or_default();
        let mut names = tag.split('"').step_by(2);
        assert!(!names.any(|names| names.contains(" on")), "<{tag}>");
        assert!(tag.matches('"').count() % 2 == 0, "<{tag}>");
    }
}

/// The bytes as a file of events, one on each line, cut into lines: none is longer than an event
/// may be, and nothing is lost but what is too long.
pub fn import_lines(data: &[u8]) {
    // The largest event, without half a megabyte of input: the cap is an argument.
    let most = 40;
    let mut source = data;
    let mut lines = Vec::new();
    while let Some(line) = json_lines::next(&mut source, most).expect("memory can be read") {
        lines.push(line);
    }
    let wanted: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let wanted = match wanted.split_last() {
        Some((&[], others)) => others,
        _ => &wanted,
    };
    assert_eq!(lines.len(), wanted.len());
    for (line, wanted) in lines.iter().zip(wanted) {
        match line {
            Line::TooLong => assert!(wanted.len() > most),
            Line::Text(text) => {
                assert!(text.len() <= most + 2 && wanted.starts_with(text));
                assert!(wanted[text.len()..].iter().all(|byte| *byte == b'\r'));
                let event = Event::decode(Bytes::copy_from_slice(text)).ok();
                let _ = event.and_then(|event| VerifiedEvent::verify(event).ok());
            }
        }
    }
}

fn key(number: u8) -> Keypair {
    let secret = SecretKey::from_slice(&[number; 32]).expect("a key");
    Keypair::from_secret_key(SECP256K1, &secret)
}

fn public(key: &Keypair) -> PublicKey {
    PublicKey::from_bytes(key.x_only_public_key().0.serialize())
}

fn sign(key: &Keypair, draft: impl FnOnce(PublicKey) -> EventDraft) -> Event {
    let draft = draft(public(key));
    let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), key);
    Event::from_signature(draft, Signature::from_bytes(signature.to_byte_array()))
}
