//! Decoders of `wire`: whatever decodes is within the limits, encodes again, and comes back equal.

use bytes::Bytes;
use wire::blob::{Token, Verb};
use wire::{ClientFrame, Event, Filter, Link, RelayFrame, Sha256, VerifiedEvent, limits};

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
    // A host in another script may become too long for a link by being spelled in ASCII.
    let fits = |url: &&wire::RelayUrl| url.as_str().len() <= limits::URL_BYTES;
    assert!(again.relays.iter().eq(link.relays.iter().filter(fits)));
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
