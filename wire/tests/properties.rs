//! Properties of the decoders: whatever arrives, they answer; whatever we write, they read.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
use bytes::Bytes;
use proptest::prelude::*;
use secp256k1::{Keypair, SECP256K1};
use wire::{
    ClientFrame, DecodeError, Event, EventDraft, EventId, Filter, Link, PublicKey, RelayFrame,
    RelayUrl, Rumor, Signature, SubscriptionId, Tag, Tags, VerifiedEvent, VerifyError, limits,
};

fn keypair() -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[3; 32]).unwrap()
}

fn signed(mut draft: EventDraft) -> Event {
    let keypair = keypair();
    draft.pubkey = PublicKey::from_bytes(keypair.x_only_public_key().0.serialize());
    let id = draft.id();
    let sig = SECP256K1.sign_schnorr_with_aux_rand(id.as_bytes(), &keypair, &[0; 32]);
    Event::from_signature(draft, Signature::from_bytes(*sig.as_ref()))
}

fn draft() -> impl Strategy<Value = EventDraft> {
    let tags = prop::collection::vec(prop::collection::vec(any::<String>(), 1..4), 0..5);
    (any::<u64>(), any::<u16>(), tags, any::<String>()).prop_map(
        |(created_at, kind, tags, content)| EventDraft {
            pubkey: PublicKey::from_bytes([0; 32]),
            created_at,
            kind,
            tags: tags.into_iter().map(Tag::new).collect(),
            content,
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let ids = prop::option::of(prop::collection::btree_set(any::<[u8; 32]>(), 0..3));
    let kinds = prop::option::of(prop::collection::btree_set(any::<u16>(), 0..3));
    let tags = prop::collection::btree_map(
        prop::char::range('a', 'z'),
        prop::collection::btree_set("[a-z]{0,5}", 0..3),
        0..3,
    );
    let bound = || prop::option::of(any::<u64>());
    (
        ids,
        kinds,
        tags,
        bound(),
        bound(),
        prop::option::of(0..600_usize),
    )
        .prop_map(|(ids, kinds, tags, since, until, limit)| {
            let filter = Filter {
                ids: ids.map(|set| set.into_iter().map(EventId::from_bytes).collect()),
                kinds: kinds.map(|set| set.into_iter().collect()),
                since,
                until,
                limit,
                ..Filter::default()
            };
            tags.into_iter().fold(filter, |filter, (letter, values)| {
                filter.with_tag(letter, values)
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decoders_answer_whatever_arrives(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = Event::decode(bytes.clone());
        let _ = ClientFrame::decode(&bytes);
        let _ = RelayFrame::decode(&bytes);
        let _ = Rumor::decode(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = Link::parse(text);
            let _ = RelayUrl::parse(text);
            let _ = wire::blob::Token::from_header(text);
            let _ = wire::blob::BlobUrl::parse(text);
        }
    }

    #[test]
    fn decoders_answer_spoiled_frames(draft in draft(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = ClientFrame::event(signed(draft).json()).into_bytes();
        let at = at.index(frame.len());
        frame[at] = byte;
        let frame = Bytes::from(frame);
        if let Ok(ClientFrame::Event(event)) = ClientFrame::decode(&frame) {
            // Either the byte changed nothing, or the signature notices.
            let same = VerifiedEvent::verify(event.clone()).is_ok();
            let original = Event::decode(event.json().clone()).unwrap();
            prop_assert!(!same || original == event);
        }
    }

    #[test]
    fn a_signed_event_survives_the_frame_and_verifies(draft in draft()) {
        let event = signed(draft);
        let frame = Bytes::from(ClientFrame::event(event.json()));
        let Ok(ClientFrame::Event(read)) = ClientFrame::decode(&frame) else {
            return Err(TestCaseError::fail("not an EVENT"));
        };
        prop_assert_eq!(&read, &event);
        prop_assert!(VerifiedEvent::verify(read).is_ok());
    }

    #[test]
    fn a_filter_survives_its_own_encoding(filter in filter()) {
        prop_assert_eq!(Filter::decode(&filter.to_value()).unwrap(), filter);
    }

    #[test]
    fn a_rumor_survives_its_own_encoding(draft in draft()) {
        let rumor = Rumor::new(draft);
        prop_assert_eq!(Rumor::decode(rumor.to_json().as_bytes()).unwrap(), rumor);
    }
}

fn plain() -> EventDraft {
    EventDraft {
        pubkey: PublicKey::from_bytes([0; 32]),
        created_at: 5,
        kind: 1,
        tags: Tags::new(),
        content: "a".into(),
    }
}

#[test]
fn every_changed_part_is_noticed() {
    let event = signed(plain());
    let text = String::from_utf8(event.json().to_vec()).unwrap();
    let spoil = |from: &str, to: &str| {
        let spoiled = text.replacen(from, to, 1);
        assert_ne!(spoiled, text);
        VerifiedEvent::verify(Event::decode(Bytes::from(spoiled)).unwrap()).unwrap_err()
    };
    assert_eq!(
        spoil("\"content\":\"a\"", "\"content\":\"b\""),
        VerifyError::Id
    );
    assert_eq!(
        spoil("\"created_at\":5", "\"created_at\":6"),
        VerifyError::Id
    );
    assert_eq!(spoil("\"kind\":1", "\"kind\":2"), VerifyError::Id);
    assert_eq!(spoil("\"tags\":[]", "\"tags\":[[\"e\"]]"), VerifyError::Id);
    let sig = event.sig().to_hex();
    let other = if sig.starts_with('0') { "1" } else { "0" };
    assert_eq!(
        spoil(&sig, &format!("{other}{}", &sig[1..])),
        VerifyError::Signature
    );
    let forged = Event::from_signature(
        EventDraft {
            pubkey: PublicKey::from_bytes([0xff; 32]),
            ..plain()
        },
        *event.sig(),
    );
    assert_eq!(
        VerifiedEvent::verify(forged).unwrap_err(),
        VerifyError::Signature
    );
}

#[test]
fn a_refused_event_frame_still_names_the_event() {
    let event = signed(plain());
    let text = ClientFrame::event(event.json()).replacen("\"kind\":1", "\"kind\":\"x\"", 1);
    let refused = ClientFrame::decode(&Bytes::from(text)).unwrap_err();
    assert_eq!(refused.event, Some(event.id()));
}

#[test]
fn filters_have_caps() {
    let many: Vec<String> = (0..=limits::FILTER_VALUES).map(|n| n.to_string()).collect();
    let value = serde_json::json!({ "#p": many });
    assert!(matches!(
        Filter::decode(&value),
        Err(DecodeError::TooLarge { .. })
    ));
    let letters = serde_json::json!({ "#a": [], "#b": [], "#c": [], "#d": [] });
    assert!(matches!(
        Filter::decode(&letters),
        Err(DecodeError::TooLarge { .. })
    ));
    let unknown = serde_json::json!({ "search": "x" });
    assert!(Filter::decode(&unknown).is_err());
    assert!(SubscriptionId::new("x".repeat(65)).is_err());
    let id = SubscriptionId::new("s").unwrap();
    let filters = vec![Filter::default(); limits::FILTERS + 1];
    let frame = Bytes::from(ClientFrame::req(&id, &filters));
    assert_eq!(
        ClientFrame::decode(&frame).unwrap_err().subscription,
        Some(id)
    );
}

#[test]
fn a_filter_with_a_key_twice_is_refused_by_every_frame_that_has_one() {
    for frame in [
        r#"["REQ","s",{"kinds":[7],"kinds":[1]}]"#,
        r##"["COUNT","s",{},{"#e":["x"],"limit":1,"#e":["x"]}]"##,
        r#"["NEG-OPEN","s",{"since":1,"\u0073ince":1},"61"]"#,
    ] {
        let refused = ClientFrame::decode(&Bytes::from_static(frame.as_bytes()));
        assert_eq!(
            refused.unwrap_err().error,
            DecodeError::Malformed { what: "filter" },
            "{frame}"
        );
    }
}

#[test]
fn filter_bounds_are_inclusive() {
    let event = signed(plain());
    let filter = |since, until| Filter {
        since,
        until,
        ..Filter::default()
    };
    assert!(filter(Some(5), Some(5)).matches(&event));
    assert!(!filter(Some(6), None).matches(&event));
    assert!(!filter(None, Some(4)).matches(&event));
    assert!(
        !Filter {
            ids: Some([].into_iter().collect()),
            ..Filter::default()
        }
        .matches(&event)
    );
}

#[test]
fn relay_frames_are_read_with_their_hints() {
    let read = |text: &str| RelayFrame::decode(&Bytes::copy_from_slice(text.as_bytes()));
    for (hints, wanted) in [
        (",[\"finish\"]", Some(true)),
        (",[\"more\"]", Some(false)),
        (",[[],\"later\",\"finish\"]", Some(true)),
        (",[\"finish\",\"more\"]", None),
        (",[\"later\"]", None),
        (",[]", None),
        (",\"finish\"", None),
        ("", None),
    ] {
        match read(&format!("[\"EOSE\",\"s\"{hints}]")) {
            Ok(RelayFrame::Eose { complete, .. }) => assert_eq!(complete, wanted, "{hints}"),
            other => panic!("{hints}: {other:?}"),
        }
    }
    let subscription = SubscriptionId::new("s").unwrap();
    for complete in [Some(true), Some(false), None] {
        let frame = RelayFrame::Eose {
            subscription: subscription.clone(),
            complete,
        };
        assert_eq!(read(&RelayFrame::eose(&subscription, complete)), Ok(frame));
    }
    assert!(matches!(
        read("[\"EVENT\",\"s\",{\"id\":1}]"),
        Ok(RelayFrame::BadEvent(..))
    ));
    assert_eq!(read("[\"HELLO\"]"), Err(DecodeError::UnknownFrame));
    let ok = format!(
        "[\"OK\",\"{}\",false,\"rate-limited: slow down\"]",
        "0".repeat(64)
    );
    let Ok(RelayFrame::Ok(_, false, message)) = read(&ok) else {
        panic!("not an OK")
    };
    assert_eq!(message.reason, wire::Reason::RateLimited);
}

#[test]
fn counts_and_reconciliations_survive_their_frames() {
    let id = SubscriptionId::new("s").unwrap();
    let filter = Filter::default().with_kinds([1059]);
    let client = |text: String| ClientFrame::decode(&Bytes::from(text)).unwrap();
    let relay = |text: String| RelayFrame::decode(&Bytes::from(text)).unwrap();
    assert_eq!(
        client(ClientFrame::count(&id, std::slice::from_ref(&filter))),
        ClientFrame::Count(id.clone(), vec![filter.clone()])
    );
    let longest = vec![0xab; limits::NEGENTROPY_BYTES];
    assert_eq!(
        client(ClientFrame::neg_open(&id, &filter, &longest)),
        ClientFrame::NegOpen(id.clone(), filter, longest.clone())
    );
    assert_eq!(
        client(ClientFrame::neg_msg(&id, &[0x61])),
        ClientFrame::NegMsg(id.clone(), vec![0x61])
    );
    assert_eq!(
        client(ClientFrame::neg_close(&id)),
        ClientFrame::NegClose(id.clone())
    );
    for approximate in [false, true] {
        assert_eq!(
            relay(RelayFrame::count(&id, 7, approximate)),
            RelayFrame::Count {
                subscription: id.clone(),
                count: 7,
                approximate
            }
        );
    }
    assert_eq!(
        relay(RelayFrame::neg_msg(&id, &longest)),
        RelayFrame::NegMsg(id.clone(), longest)
    );
    let RelayFrame::NegErr(of, message) =
        relay(RelayFrame::neg_err(&id, "closed: too long without a word"))
    else {
        panic!("no NEG-ERR");
    };
    assert_eq!((of, message.reason), (id, wire::Reason::Closed));
}

#[test]
fn a_bad_reconciliation_is_refused_by_name() {
    let long = "ab".repeat(limits::NEGENTROPY_BYTES + 1);
    for bad in [
        "[\"NEG-OPEN\",\"s\",{},\"6\"]",
        "[\"NEG-OPEN\",\"s\",{},\"\"]",
        "[\"NEG-OPEN\",\"s\",{},\"zz\"]",
        "[\"NEG-OPEN\",\"s\",{},7]",
        "[\"NEG-OPEN\",\"s\",{\"x\":1},\"61\"]",
        "[\"NEG-OPEN\",\"s\",[{}],\"61\"]",
        "[\"NEG-MSG\",\"s\",\"6\\u0031\"]",
        &format!("[\"NEG-MSG\",\"s\",\"{long}\"]"),
    ] {
        let refused = ClientFrame::decode(&Bytes::copy_from_slice(bad.as_bytes())).unwrap_err();
        let id = SubscriptionId::new("s").unwrap();
        assert_eq!(refused.reconciliation, Some(id), "{bad}");
        assert_eq!((refused.event, refused.subscription), (None, None));
    }
    let refused = ClientFrame::decode(&Bytes::from_static(b"[\"COUNT\",\"s\"]")).unwrap_err();
    assert!(refused.subscription.is_some() && refused.reconciliation.is_none());
}
