//! Decoders of `wire`: whatever decodes is within the limits, encodes again, and comes back equal.

use bytes::Bytes;
use wire::blob::{BlobUrl, Token, Verb};
use wire::http_auth::WINDOW_SECONDS as HTTP_WINDOW;
use wire::relay_url::Origin;
use wire::rumor::SottoTag;
use wire::{
    ClientFrame, DecodeError, Event, Filter, HttpAuth, InviteCode, Link, NamedRelay, RelayFrame,
    RelayUrl, Rumor, Sha256, VerifiedEvent, limits,
};

/// An event keeps its bytes, and its parts say the same as its bytes.
pub fn event(data: &[u8]) {
    let Ok(event) = Event::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert!(event.json().len() <= limits::EVENT_BYTES * 2);
    assert!(event.tags().len() <= limits::TAGS);
    let again = Event::decode(event.json().clone()).expect("its own bytes decode");
    assert_eq!(again.draft(), event.draft());
    assert_eq!(again.id(), event.id());
    assert_eq!(again.json(), event.json());
    if let Ok(verified) = VerifiedEvent::verify(event.clone()) {
        assert_eq!(verified.draft().id(), event.id());
    }
}

/// A client's frame says the same after it was written and read again.
pub fn client_frame(data: &[u8]) {
    let Ok(frame) = ClientFrame::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let text = match &frame {
        ClientFrame::Event(event) => ClientFrame::event(event.json()),
        ClientFrame::Auth(event) => ClientFrame::auth(event.json()),
        ClientFrame::Req(id, filters) => {
            assert!(filters.len() <= limits::FILTERS);
            ClientFrame::req(id, filters)
        }
        ClientFrame::Close(id) => ClientFrame::close(id),
        ClientFrame::Count(id, filters) => {
            assert!(filters.len() <= limits::FILTERS);
            ClientFrame::count(id, filters)
        }
        ClientFrame::NegOpen(id, filter, message) => {
            assert!(message.len() <= limits::NEGENTROPY_BYTES);
            ClientFrame::neg_open(id, filter, message)
        }
        ClientFrame::NegMsg(id, message) => {
            assert!(message.len() <= limits::NEGENTROPY_BYTES);
            ClientFrame::neg_msg(id, message)
        }
        ClientFrame::NegClose(id) => ClientFrame::neg_close(id),
        _ => return,
    };
    let again = ClientFrame::decode(&Bytes::from(text)).expect("what we write decodes");
    assert_eq!(again, frame);
}

/// A relay's frame says the same after it was written and read again, where we write such frames.
pub fn relay_frame(data: &[u8]) {
    let Ok(frame) = RelayFrame::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let text = match &frame {
        RelayFrame::Event(id, event) => RelayFrame::event(id, event.json()),
        RelayFrame::Ok(id, accepted, message) => {
            assert!(message.text.len() <= limits::RELAY_MESSAGE_BYTES);
            RelayFrame::ok(id, *accepted, &message.text)
        }
        RelayFrame::Eose {
            subscription,
            complete,
        } => RelayFrame::eose(subscription, *complete),
        RelayFrame::Closed(id, message) => RelayFrame::closed(id, &message.text),
        RelayFrame::Count {
            subscription,
            count,
            approximate,
        } => RelayFrame::count(subscription, *count, *approximate),
        RelayFrame::NegMsg(id, message) => {
            assert!(message.len() <= limits::NEGENTROPY_BYTES);
            RelayFrame::neg_msg(id, message)
        }
        RelayFrame::NegErr(id, message) => RelayFrame::neg_err(id, &message.text),
        RelayFrame::Notice(text) => RelayFrame::notice(text),
        RelayFrame::Auth(challenge) => RelayFrame::auth(challenge),
        _ => return,
    };
    let again = RelayFrame::decode(&Bytes::from(text)).expect("what we write decodes");
    assert_eq!(again, frame);
}

/// A line with a filter, then perhaps a line with an event.
pub fn filter(data: &[u8]) {
    let (filter, event) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let Ok(value) = serde_json::from_slice(filter) else {
        return;
    };
    let Ok(filter) = Filter::decode(&value) else {
        return;
    };
    assert!(filter.tags.len() <= limits::FILTER_TAGS);
    let again = Filter::decode(&filter.to_value()).expect("what we write decodes");
    assert_eq!(again, filter);
    if let Ok(event) = Event::decode(Bytes::copy_from_slice(event)) {
        // A filter that is narrowed to what the event is asks for no more than before.
        let narrow = filter.clone().with_ids([event.id()]);
        assert!(!narrow.matches(&event) || filter.matches(&event) || filter.ids.is_some());
        assert!(Filter::default().matches(&event));
    }
}

/// A link that was read says the same after it was written.
pub fn link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(link) = Link::parse(text) else { return };
    assert!(link.relays.len() <= limits::LINK_RELAYS);
    let again = Link::parse(&link.to_string()).expect("what we write decodes");
    assert_eq!(again.pubkey, link.pubkey);
    assert_eq!(again.list_key, link.list_key);
    assert_eq!(again.name, link.name);
    assert_eq!(again.token, link.token);
    assert_eq!(again.relays, link.relays);
}

/// A token that was read is signed, and allows one verb on one blob at one server at most.
pub fn token_header(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(token) = Token::from_header(text) else {
        return;
    };
    assert!(text.len() <= limits::AUTHORIZATION_BYTES);
    let again = Token::from_header(&Token::header(token.event())).expect("what we write decodes");
    assert_eq!(again, token);
    let now = token.event().created_at();
    let named = token.event().tags().value("x");
    let hash = named.and_then(|hex| Sha256::from_hex(hex).ok());
    let hash = hash.unwrap_or(Sha256::from_bytes([0; 32]));
    let server: Vec<String> = token
        .event()
        .tags()
        .values("server")
        .map(str::to_owned)
        .collect();
    let allowed = [Verb::Get, Verb::Upload, Verb::Delete]
        .into_iter()
        .filter(|verb| token.check(*verb, &hash, &server, now).is_ok())
        .count();
    assert!(allowed <= 1);
    assert!(token.check(Verb::Delete, &hash, &[], now).is_err());
    assert!(token.check(Verb::Delete, &hash, &server, u64::MAX).is_err());
}

/// An address as somebody typed or published it: of a relay, with a code or without, of a file
/// server, of a blob. Whatever is read has one spelling, which reads as itself, and fits.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(url) = RelayUrl::parse(text) {
        spelled_once(url.as_str(), &url, RelayUrl::parse);
        assert!(
            url.as_str()
                .starts_with(if url.is_secure() { "wss://" } else { "ws://" })
        );
        assert!(!url.host().is_empty() && url.port() != 0 && !url.path().ends_with('/'));
        let _ = url.reach();
        assert!(Origin::parse(text).is_err());
    }
    if let Ok(origin) = Origin::parse(text) {
        spelled_once(origin.as_str(), &origin, Origin::parse);
        assert!(!origin.host().is_empty() && origin.port() != 0);
        // Keys are derived from it, so it need not be short enough to be read.
        let with_port = origin.with_port();
        assert!(with_port.len() <= limits::URL_BYTES + ":443".len());
        if with_port.len() <= limits::URL_BYTES {
            spelled_once(&with_port, &origin, Origin::parse);
        }
        let _ = origin.reach();
    }
    if let Ok(url) = BlobUrl::parse(text) {
        assert_eq!(BlobUrl::parse(&url.to_string()).as_ref(), Ok(&url));
        spelled_once(url.origin.as_str(), &url.origin, Origin::parse);
    }
    if let Ok(named) = NamedRelay::parse(text) {
        assert_eq!(NamedRelay::parse(&named.expose()).as_ref(), Ok(&named));
    }
    if let Ok(code) = InviteCode::parse(text) {
        assert!(code.expose().len() <= limits::INVITE_CODE_BYTES);
        assert!(code.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(InviteCode::parse(code.expose()).as_ref(), Ok(&code));
    }
}

fn spelled_once<T: PartialEq + std::fmt::Debug>(
    spelling: &str,
    value: &T,
    parse: fn(&str) -> Result<T, DecodeError>,
) {
    assert!(spelling.len() <= limits::URL_BYTES + ":443".len());
    assert_eq!(parse(spelling).as_ref(), Ok(value), "{spelling}");
}

/// A rumor says the same after it was written and read again, and its id is its own.
pub fn rumor(data: &[u8]) {
    let Ok(rumor) = Rumor::decode(data) else {
        return;
    };
    let written = rumor.to_json();
    if written.len() <= limits::EVENT_BYTES {
        assert_eq!(Rumor::decode(written.as_bytes()).as_ref(), Ok(&rumor));
    }
    assert!(rumor.tags().len() <= limits::TAGS);
    if let Some(tag) = rumor.sotto_tag() {
        assert_eq!(SottoTag::from_tag(&tag.to_tag()), Some(tag));
    }
    let _ = rumor.tags().people().count();
}

/// A proof for an HTTP request that was read stands for one request at most.
pub fn http_proof(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(proof) = HttpAuth::from_header(text) else {
        return;
    };
    assert!(text.len() <= limits::AUTHORIZATION_BYTES);
    let now = proof.until().saturating_sub(HTTP_WINDOW);
    let fits = |method: &str, body: &[u8], now| proof.check(method, |_| true, body, now).is_ok();
    let allowed = ["GET", "POST", "PUT"]
        .into_iter()
        .filter(|method| fits(method, b"", now))
        .count();
    assert!(allowed <= 1);
    assert!(!(fits("POST", b"", now) && fits("POST", b"{}", now)));
    assert!(proof.check("POST", |_| false, b"", now).is_err());
    assert!(!fits("POST", b"", now.saturating_add(HTTP_WINDOW + 1)));
}
