//! Files: encrypted before they leave, identical when they arrive.

use std::path::Path;

use e2e::world::{World, is_in_any_file, word};

fn noise(bytes: usize) -> Vec<u8> {
    use rand::{Rng, SeedableRng};
    let mut content = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(99).fill_bytes(&mut content);
    content
}

fn write(folder: &Path, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_arrives_identical_and_the_server_saw_ciphertext() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    let content = noise(300_000);
    let path = write(world.folder(), "report.bin", &content);
    let sent = anna.file("ben", &path).await;
    ben.sync().await;
    let message = &ben.messages("anna")[0];
    assert_eq!(message.kind, "file");
    assert_eq!(message.files[0].name, "report.bin");
    assert_eq!(message.files[0].size, Some(300_000));

    let inbox = world.folder().join("got");
    std::fs::create_dir(&inbox).unwrap();
    let saved = ben.fetch(&sent.id, &inbox).await.unwrap();
    assert_eq!(std::fs::read(inbox.join("report.bin")).unwrap(), content);
    assert_eq!(saved[0].size, 300_000);
    assert!(
        !is_in_any_file(&files.data, &content[1_000..1_064]),
        "the server has plaintext"
    );
    // A second fetch takes another name instead of overwriting.
    ben.fetch(&sent.id, &inbox).await.unwrap();
    assert_eq!(
        std::fs::read(inbox.join("report (1).bin")).unwrap(),
        content
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_file_name_stays_in_the_folder() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    for name in [
        "../../x",
        "/etc/passwd",
        "a\u{1b}[31mb",
        "..",
        "-rf",
        ".profile",
        "a\u{202e}gpj.exe",
    ] {
        let path = write(world.folder(), "plain", name.as_bytes());
        let mut request = e2e::world::file_request("ben", &path);
        request.files[0].name = Some(name.to_owned());
        let sent = anna.send(request).await;
        ben.sync().await;
        let inbox = tempfile::tempdir_in(world.folder()).unwrap();
        let saved = ben.fetch(&sent.id, inbox.path()).await.unwrap();
        let written: Vec<_> = std::fs::read_dir(inbox.path()).unwrap().collect();
        assert_eq!(
            written.len(),
            1,
            "{name:?} was written elsewhere: {saved:?}"
        );
        let written = written[0]
            .as_ref()
            .unwrap()
            .file_name()
            .into_string()
            .unwrap();
        assert!(!written.starts_with(['.', '-']), "{written:?}");
        assert!(
            !written.contains(['\u{1b}', '\u{202e}', '/']),
            "{written:?}"
        );
    }
}

/// A file server that answers every GET with these bytes.
async fn lying_server(body: Vec<u8>) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8_192];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_truncated_blob_is_noticed_and_leaves_no_file() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    let path = write(world.folder(), "plain", &noise(200_000));
    let sent = anna.file("ben", &path).await;
    ben.sync().await;
    let good = std::fs::read(largest_file(&files.data)).unwrap();
    let mut flipped = good.clone();
    flipped[100_000] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    for bad in [
        &flipped[..],
        &longer,
        &good[..good.len() - 1],
        &good[..70_000],
        &[],
    ] {
        let (address, server) = lying_server(bad.to_vec()).await;
        files.tap.lead_to(address);
        let inbox = tempfile::tempdir_in(world.folder()).unwrap();
        let error = ben.fetch(&sent.id, inbox.path()).await.unwrap_err();
        assert_eq!(
            (word(&error), error.exit),
            ("integrity", 11),
            "{} bytes: {error:?}",
            bad.len()
        );
        assert_eq!(
            std::fs::read_dir(inbox.path()).unwrap().count(),
            0,
            "a half file was left"
        );
        server.abort();
    }
}

fn largest_file(folder: &Path) -> std::path::PathBuf {
    let mut best = (0, std::path::PathBuf::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let size = std::fs::metadata(&path).unwrap().len();
                if size > best.0 {
                    best = (size, path);
                }
            }
        }
    }
    best.1
}
