//! The front door against the real relay and the real file server, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client_core::client::{
    Argon2Params, Client, FileContent, FileSource, FileTarget, Home, InitOptions, NewCircle,
    Outcome, SendRequest, Settings, UnlockWith, WaitLevel,
};
use client_core::view::{MessageView, StatusView};
use client_core::{Error, ErrorWord, Origin, RelayUrl, SecretText};
use sotto_files::FileServer;
use sotto_relay::Relay;
use tokio::net::TcpListener;

/// One relay, one file server, and a folder for homes.
struct World {
    dir: tempfile::TempDir,
    relay: Relay,
    files: FileServer,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = sotto_files::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            ..sotto_files::Config::new(dir.path().join("files"))
        };
        Self {
            relay: relay_on(0).await,
            files: FileServer::start(files).await.unwrap(),
            dir,
        }
    }

    fn relay(&self) -> RelayUrl {
        self.relay.url().parse().unwrap()
    }

    fn files(&self) -> Origin {
        self.files.url().parse().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self, name: &str) -> Person {
        Person {
            home: Home::at(self.path(name)),
            key: UnlockWith::KeyFile(self.path(&format!("{name}.key"))),
        }
    }

    async fn person(&self, name: &str) -> Person {
        let person = self.home(name);
        let outcome = person.init(self.options()).await.unwrap();
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        person
    }

    fn options(&self) -> InitOptions {
        InitOptions {
            relays: vec![self.relay()],
            file_servers: vec![self.files()],
            argon2: Argon2Params::LEAST,
            show_words: true,
            ..InitOptions::default()
        }
    }

    /// Two people who have added each other.
    async fn pair(&self) -> (Person, Person) {
        let (anna, ben) = (self.person("anna").await, self.person("ben").await);
        let (mut a, mut b) = (anna.open(), ben.open());
        let (to_a, to_b) = (
            a.invite().unwrap().to_string(),
            b.invite().unwrap().to_string(),
        );
        a.add_contact(&to_b, Some("ben")).unwrap();
        b.add_contact(&to_a, Some("anna")).unwrap();
        (anna, ben)
    }
}

async fn relay_on(port: u16) -> Relay {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    Relay::start(listener, sotto_relay::Config::in_memory())
        .await
        .unwrap()
}

struct Person {
    home: Home,
    key: UnlockWith,
}

impl Person {
    async fn init(
        &self,
        options: InitOptions,
    ) -> Result<Outcome<client_core::view::AccountView>, Error> {
        self.home.init(self.key.clone(), options, &settings()).await
    }

    fn open(&self) -> Client {
        self.open_circle(None)
    }

    fn open_circle(&self, circle: Option<&str>) -> Client {
        self.home
            .open(self.key.clone(), circle, &settings())
            .unwrap()
    }
}

fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

fn done<T>(outcome: Outcome<T>) -> T {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    outcome.value
}

async fn say(client: &mut Client, to: &str, text: &str) -> String {
    let sent = done(client.send(SendRequest::text(to, text)).await.unwrap());
    assert!(
        matches!(sent.status, "accepted" | "stored"),
        "{}",
        sent.status
    );
    sent.id
}

async fn say_file(client: &mut Client, to: &str, source: FileSource) -> String {
    let request = SendRequest {
        text: None,
        files: vec![source],
        ..SendRequest::text(to, "")
    };
    done(client.send(request).await.unwrap()).id
}

fn bytes(name: &str, content: &[u8]) -> FileSource {
    FileSource {
        content: FileContent::Reader(Box::new(Cursor::new(content.to_vec()))),
        name: Some(name.to_owned()),
    }
}

fn texts(messages: &[MessageView]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.text.as_str())
        .collect()
}

#[tokio::test]
async fn a_text_goes_both_ways_and_is_confirmed() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let id = say(&mut a, "ben", "hello").await;
    assert_eq!(done(b.sync().await.unwrap()).new, 1);
    let messages = b.messages("anna", 50, None).unwrap();
    assert_eq!(texts(&messages), ["hello"]);
    assert_eq!(messages[0].id, id);
    assert!(!messages[0].request);
    say(&mut b, "anna", "hello yourself").await;
    done(a.sync().await.unwrap());
    assert_eq!(
        texts(&a.messages("ben", 50, None).unwrap()),
        ["hello", "hello yourself"]
    );
    match a.status(&id[..8]).await.unwrap() {
        StatusView::Sent(sent) => assert_eq!(sent.status, "delivered"),
        StatusView::Deleted(_) => panic!("it was not deleted"),
    }
    assert!(a.outbox().unwrap().is_empty() && b.outbox().unwrap().is_empty());
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_message_waits_for_somebody_who_is_away() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    {
        let mut a = anna.open();
        say(&mut a, "ben", "one").await;
        say(&mut a, "ben", "two").await;
        a.close().await;
    }
    let mut b = ben.open();
    assert_eq!(done(b.sync().await.unwrap()).new, 2);
    assert_eq!(done(b.sync().await.unwrap()).new, 0);
    assert_eq!(b.inbox().unwrap()[0].unread, 2);
}

#[tokio::test]
async fn waiting_for_delivery_ends_when_the_receipt_comes() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let request = SendRequest {
        wait: WaitLevel::Delivered,
        ..SendRequest::text("ben", "are you there?")
    };
    let reading = async {
        let mut seen = 0;
        b.watch(Some(0), |event| {
            seen += usize::from(event.kind == "message");
            if seen == 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await
        .unwrap();
        // The receipt is in the outbox by now; flushing waits for it to be out.
        done(b.flush().await.unwrap());
    };
    let (sent, ()) = tokio::join!(a.send(request), reading);
    assert_eq!(done(sent.unwrap()).status, "delivered");
}

#[tokio::test]
async fn a_photo_arrives_without_its_metadata_and_else_identical() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let secret = b"GPS 48.8584 N";
    let exif = [b"Exif\0\0MM\0\x2a\0\0\0\x08\0\0\0\0\0\0".as_slice(), secret].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0pixels\xff\xd9";
    let photo = [
        b"\xff\xd8\xff\xe1".as_slice(),
        &length,
        &exif,
        b"\xff\xdb\0\x04\0\x01",
        scan,
    ]
    .concat();
    let clean = [b"\xff\xd8\xff\xdb\0\x04\0\x01".as_slice(), scan].concat();
    std::fs::write(world.path("photo.jpg"), &photo).unwrap();
    let source = FileSource {
        content: FileContent::Path(world.path("photo.jpg")),
        name: None,
    };
    let id = say_file(&mut a, "ben", source).await;
    done(b.sync().await.unwrap());
    let message = b.message(&id).unwrap();
    assert_eq!(message.kind, "file");
    assert_eq!(message.files[0].name, "photo.jpg");
    assert_eq!(message.files[0].mime, "image/jpeg");
    let folder = world.path("downloads");
    std::fs::create_dir(&folder).unwrap();
    for expected in ["photo.jpg", "photo (1).jpg"] {
        let saved = b
            .fetch_file(&id, FileTarget::Folder(folder.clone()))
            .await
            .unwrap();
        assert_eq!(Path::new(&saved[0].path), folder.join(expected));
        assert_eq!(std::fs::read(&saved[0].path).unwrap(), clean);
        assert_eq!(saved[0].size, u64::try_from(clean.len()).unwrap());
        assert_eq!(saved[0].sha256, wire::Sha256::of(&clean).to_hex());
    }
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        2,
        "nothing else"
    );
    let kept = SendRequest {
        text: None,
        keep_metadata: true,
        files: vec![bytes("again.jpg", &photo)],
        ..SendRequest::text("ben", "")
    };
    let id = done(a.send(kept).await.unwrap()).id;
    done(b.sync().await.unwrap());
    let saved = b.fetch_file(&id, FileTarget::Folder(folder)).await.unwrap();
    assert_eq!(std::fs::read(&saved[0].path).unwrap(), photo);
}

#[tokio::test]
async fn files_go_where_they_may_and_nowhere_else() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let content = vec![42; 300_000];
    let evil = "../../\u{1b}]0;x\u{7}evil\u{202e}.txt";
    // The name is cut to its last part by the sender's client; the reader's trusts none of it.
    let id = say_file(&mut a, "ben", bytes(evil, &content)).await;
    done(b.sync().await.unwrap());
    let folder = world.path("inner/folder");
    std::fs::create_dir_all(&folder).unwrap();
    let saved = b
        .fetch_file(&id, FileTarget::Folder(folder.clone()))
        .await
        .unwrap();
    assert_eq!(Path::new(&saved[0].path), folder.join("]0;xevil.txt"));
    let path = world.path("target");
    std::fs::write(&path, "precious").unwrap();
    let to = |force| FileTarget::Path {
        path: world.path("target"),
        force,
    };
    let error = b.fetch_file(&id, to(false)).await.unwrap_err();
    assert_eq!((error.word, error.exit), (ErrorWord::Conflict, 9));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    b.fetch_file(&id, to(true)).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    // A link is replaced, not followed.
    let other = world.path("other");
    std::fs::write(&other, "not yours").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert_eq!(b.fetch_file(&id, to(false)).await.unwrap_err().exit, 9);
    b.fetch_file(&id, to(true)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "not yours");
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(
        b.fetch_file("ffffffff", to(true)).await.unwrap_err().exit,
        7
    );
}

#[tokio::test]
async fn a_stream_of_unknown_length_and_several_files_are_one_sending() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 253) as u8).collect();
    let request = SendRequest {
        files: vec![bytes("large.bin", &large), bytes("empty", b"")],
        ..SendRequest::text("ben", "two files follow")
    };
    let sent = done(a.send(request).await.unwrap());
    assert_eq!(sent.ids.len(), 3);
    assert_eq!(sent.id, sent.ids[0]);
    done(b.sync().await.unwrap());
    let messages = b.messages("anna", 50, None).unwrap();
    let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, ["text", "file", "file"]);
    for (id, content) in [(&sent.ids[1], large.as_slice()), (&sent.ids[2], b"")] {
        let path = world.path(id);
        let target = FileTarget::Path {
            path: path.clone(),
            force: false,
        };
        b.fetch_file(id, target).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content);
    }
    // Nothing is left in either spool.
    for name in ["anna", "ben"] {
        for circle in std::fs::read_dir(world.path(name).join("spool")).unwrap() {
            let left: Vec<_> = std::fs::read_dir(circle.unwrap().path()).unwrap().collect();
            assert!(left.is_empty(), "{name}: {left:?}");
        }
    }
}

#[tokio::test]
async fn a_message_and_its_file_are_deleted_for_both() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let id = say_file(&mut a, "ben", bytes("secret.txt", b"burn this")).await;
    done(b.sync().await.unwrap());
    let deleted = done(a.delete(&id, true).await.unwrap());
    assert!(!deleted.relays.is_empty() && deleted.relays.iter().all(|relay| relay.erased));
    assert_eq!(deleted.file_servers.len(), 1);
    assert!(deleted.file_servers[0].erased, "{:?}", deleted.file_servers);
    assert!(!deleted.peers[0].confirmed);
    assert_eq!(a.message(&id).unwrap_err().exit, 7);
    done(b.sync().await.unwrap());
    assert!(b.messages("anna", 50, None).unwrap().is_empty());
    match a.status(&id).await.unwrap() {
        StatusView::Deleted(deleted) => assert!(deleted.peers[0].confirmed),
        StatusView::Sent(_) => panic!("it was deleted"),
    }
    let target = FileTarget::Folder(world.path("."));
    assert_eq!(b.fetch_file(&id, target).await.unwrap_err().exit, 7);
}

#[tokio::test]
async fn the_same_idempotency_key_sends_once() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = SendRequest {
            files: vec![bytes("f", b"content")],
            idempotency_key: Some("order-66".to_owned()),
            ..SendRequest::text("ben", "once")
        };
        ids.push(done(a.send(request).await.unwrap()).ids);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(done(b.sync().await.unwrap()).new, 2);
}

#[tokio::test]
async fn a_relay_that_is_down_keeps_the_message_in_the_outbox() {
    let mut world = World::new().await;
    let (anna, ben) = world.pair().await;
    let port = world.relay.port();
    let mut a = anna.open();
    // So that the recipient's list is known.
    say(&mut a, "ben", "first").await;
    a.close().await;
    world.relay.stop().await.unwrap();
    let mut a = anna.open();
    let outcome = a.send(SendRequest::text("ben", "second")).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::Unreachable, 3));
    assert_eq!(outcome.value.status, "queued");
    assert_eq!(a.sync().await.unwrap().error.unwrap().exit, 3);
    assert_eq!(a.flush().await.unwrap().error.unwrap().exit, 3);
    a.close().await;
    world.relay = relay_on(port).await;
    let mut a = anna.open();
    // The relay came back empty: the lists are published again before anybody can answer.
    done(a.sync().await.unwrap());
    assert!(a.outbox().unwrap().is_empty());
    let mut b = ben.open();
    done(b.sync().await.unwrap());
    assert_eq!(texts(&b.messages("anna", 9, None).unwrap()), ["second"]);
}

#[tokio::test]
async fn init_without_its_relay_makes_the_account_and_says_so() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let anna = world.home("anna");
    let options = InitOptions {
        relays: vec![format!("ws://127.0.0.1:{port}").parse().unwrap()],
        ..world.options()
    };
    let outcome = anna.init(options.clone()).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::Unreachable, 3));
    assert_eq!(outcome.value.words.unwrap().split(' ').count(), 24);
    assert_eq!(anna.init(options).await.unwrap_err().exit, 9);
    // As soon as there is one, anybody can write.
    let relay = relay_on(port).await;
    let ben = world.home("ben");
    let options = InitOptions {
        relays: vec![relay.url().parse().unwrap()],
        ..world.options()
    };
    done(ben.init(options).await.unwrap());
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    let mut b = ben.open();
    let link = a.invite().unwrap().to_string();
    say(&mut b, &link, "hello").await;
    done(a.sync().await.unwrap());
    let inbox = a.inbox().unwrap();
    assert!(inbox[0].request, "from a stranger");
}

#[tokio::test]
async fn nothing_is_sent_to_somebody_without_an_inbox_list() {
    let world = World::new().await;
    let anna = world.person("anna").await;
    let mut a = anna.open();
    let nobody = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";
    let outcome = a.send(SendRequest::text(nobody, "hello")).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::NoInboxRelays, 10));
    let error = a.send(SendRequest::text("nobody", "x")).await.unwrap_err();
    assert_eq!(error.exit, 7);
    assert_eq!(
        a.export_words().unwrap().expose_secret().split(' ').count(),
        24
    );
    let weak = SecretText::new("123456789012".to_owned());
    assert_eq!(a.export_ncryptsec(weak).unwrap_err().exit, 2);
}

#[tokio::test]
async fn a_second_circle_stays_apart_and_a_restore_finds_both() {
    let world = World::new().await;
    let second = relay_on(0).await;
    let anna = world.person("anna").await;
    let words = anna.open().export_words().unwrap();
    let mut a = anna.open();
    let work = NewCircle {
        name: "work".to_owned(),
        relays: vec![second.url().parse().unwrap()],
        invites: Vec::new(),
        file_servers: vec![world.files()],
        expire_s: Some(3_600),
    };
    let view = done(a.create_circle(work.clone()).await.unwrap());
    assert_eq!((view.index, view.current), (1, false));
    assert_eq!(view.expire_s, Some(3_600));
    // The file server is personal's too.
    assert_eq!(a.take_warnings().len(), 1);
    assert_eq!(a.create_circle(work).await.unwrap_err().exit, 9);
    let account = a.account().unwrap();
    assert_ne!(account.pubkey, view.pubkey);
    let bare = NewCircle {
        name: "bare".to_owned(),
        relays: Vec::new(),
        invites: Vec::new(),
        file_servers: Vec::new(),
        expire_s: None,
    };
    assert_eq!(a.create_circle(bare).await.unwrap_err().exit, 2);

    let mut at_work = anna.open_circle(Some("work"));
    assert_eq!(at_work.account().unwrap().pubkey, view.pubkey);
    let link = at_work.invite().unwrap().to_string();
    let ben = world.person("ben").await;
    let mut b = ben.open();
    say(&mut b, &link, "to work").await;
    assert_eq!(done(a.sync().await.unwrap()).new, 0);
    assert_eq!(done(at_work.sync().await.unwrap()).new, 1);
    assert!(a.inbox().unwrap().is_empty());
    // Opened again, so that circle 0's next traffic carries the definitions.
    a.close().await;
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    a.close().await;

    let other = world.home("other");
    let options = InitOptions {
        restore: Some(words),
        relays: vec![world.relay()],
        ..InitOptions::default()
    };
    let restored = done(other.init(options).await.unwrap());
    assert_eq!(restored.pubkey, account.pubkey);
    assert_eq!(restored.file_servers, account.file_servers);
    let o = other.open();
    let circles = o.circles().unwrap();
    assert_eq!(circles.len(), 2);
    assert_eq!(circles[1].pubkey, view.pubkey);
    assert_eq!(circles[1].relays, [second.url()]);
    let mut at_work = other.open_circle(Some("work"));
    done(at_work.sync().await.unwrap());
    assert_eq!(at_work.inbox().unwrap().len(), 1);
}

#[tokio::test]
async fn relays_and_file_servers_come_and_go() {
    let world = World::new().await;
    let second = relay_on(0).await;
    let (anna, ben) = world.pair().await;
    let mut a = anna.open();
    let url: RelayUrl = second.url().parse().unwrap();
    done(a.add_relay(url.clone()).await.unwrap());
    assert_eq!(a.add_relay(url.clone()).await.unwrap_err().exit, 9);
    assert_eq!(a.relays().unwrap().len(), 2);
    done(a.remove_relay(&world.relay()).await.unwrap());
    assert_eq!(a.remove_relay(&world.relay()).await.unwrap_err().exit, 7);
    done(a.remove_file_server(&world.files()).await.unwrap());
    assert!(a.file_servers().unwrap().is_empty());
    assert_eq!(a.account().unwrap().relays, [url.to_string()]);
    let request = SendRequest {
        files: vec![bytes("f", b"x")],
        ..SendRequest::text("ben", "no place for it")
    };
    let error = a.send(request).await.unwrap_err();
    assert_eq!(error.exit, 9);
    assert!(
        a.messages("ben", 9, None).unwrap().is_empty(),
        "nothing half sent"
    );
    drop(ben);
}

#[tokio::test]
async fn our_own_servers_pass_every_check() {
    let world = World::new().await;
    let anna = world.person("anna").await;
    let mut a = anna.open();
    let view = a.check_relay(&world.relay()).await.unwrap();
    assert!(view.error.is_none(), "{:?}", view.value.checks);
    let names: Vec<_> = view.value.checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "description",
            "connect",
            "takes_wraps",
            "keeps_wraps_private",
            "serves_the_recipient",
            "deletes_wraps"
        ]
    );
    let view = a.check_file_server(&world.files()).await.unwrap();
    assert!(view.error.is_none(), "{:?}", view.value.checks);
    assert_eq!(view.value.checks.len(), 7);
    let nowhere: RelayUrl = "ws://127.0.0.1:1".parse().unwrap();
    let outcome = a.check_relay(&nowhere).await.unwrap();
    assert_eq!(outcome.error.unwrap().exit, 3);
    assert_eq!(outcome.value.ok, Some(false));
    let nowhere: Origin = "http://127.0.0.1:1".parse().unwrap();
    assert_eq!(
        a.check_file_server(&nowhere)
            .await
            .unwrap()
            .error
            .unwrap()
            .exit,
        3
    );
}

#[tokio::test]
async fn a_send_that_is_interrupted_is_finished_by_the_next_command() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    for polls in 0..12 {
        let mut a = anna.open();
        let sending = a.send(SendRequest::text("ben", format!("try {polls}")));
        let mut sending = Box::pin(sending);
        // Polled so many times and then dropped, as by Ctrl-C.
        for _ in 0..polls {
            if futures_util::poll!(&mut sending).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(sending);
        a.close().await;
    }
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    assert!(a.outbox().unwrap().is_empty());
    let mut b = ben.open();
    done(b.sync().await.unwrap());
    let messages = b.messages("anna", 99, None).unwrap();
    let mut wanted: Vec<String> = a
        .messages("ben", 99, None)
        .unwrap()
        .iter()
        .map(|message| message.text.clone())
        .collect();
    let mut got: Vec<String> = messages.iter().map(|m| m.text.clone()).collect();
    wanted.sort();
    got.sort();
    assert_eq!(got, wanted);
    assert!(wanted.len() >= 11);
}

#[tokio::test]
async fn watching_goes_on_when_a_relay_comes_back() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    say(&mut a, "ben", "before").await;
    a.close().await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let watching = b.watch(Some(0), |event| {
        if let Some(message) = event.message {
            sender.send(message.text).unwrap();
        }
        ControlFlow::Continue(())
    });
    let story = async {
        assert_eq!(seen.recv().await.unwrap(), "before");
        let port = world.relay.port();
        world.relay.stop().await.unwrap();
        let _relay = relay_on(port).await;
        let mut a = anna.open();
        say(&mut a, "ben", "after").await;
        a.close().await;
        assert_eq!(seen.recv().await.unwrap(), "after");
    };
    tokio::select! {
        result = watching => panic!("watching ended: {result:?}"),
        () = story => {}
    }
}

#[tokio::test]
async fn a_relay_that_says_nothing_is_in_the_report_of_a_sync() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let world = World::new().await;
    let anna = world.home("anna");
    let short = Settings {
        timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let options = InitOptions {
        relays: vec![url.parse().unwrap()],
        argon2: Argon2Params::LEAST,
        ..InitOptions::default()
    };
    let outcome = anna
        .home
        .init(anna.key.clone(), options, &short)
        .await
        .unwrap();
    assert_eq!(outcome.error.unwrap().exit, 124);
    let mut a = anna.home.open(anna.key.clone(), None, &short).unwrap();
    let outcome = a.sync().await.unwrap();
    assert_eq!(outcome.error.unwrap().exit, 124);
    assert_eq!(outcome.value.relays.len(), 1);
    assert!(!outcome.value.relays[0].ok);
    drop(listener);
}
