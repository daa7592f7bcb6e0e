//! Files through the front door, against the real relay and the real file server.

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

mod client_world;

use std::path::Path;

use client_core::ErrorWord;
use client_core::client::{FileContent, FileSource, FileTarget, SendRequest};
use client_core::view::StatusView;
use client_world::{World, bytes, done, say_file};

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
