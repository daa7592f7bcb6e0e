//! TLS in the relay itself: certificate files, and certificates from an authority.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use sotto_relay::acme::Acme;
use sotto_relay::config::{Config, Tls};
use sotto_relay::{Relay, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use wire::ClientFrame;

use crate::files::files;
use crate::operator::Operated;
use crate::support::{PATIENCE, now, person, start};

/// An authority of our own, and where it keeps what it issued.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { issuer, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate for `localhost` over the last one; its bytes.
    pub fn issue(&self) -> CertificateDer<'static> {
        self.issue_for(&["localhost", "127.0.0.1"], |_| {})
    }

    /// The same for other names, or changed otherwise.
    pub fn issue_for(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&certificate, &key)
    }

    /// Writes a certificate that no authority has signed over the last one.
    pub fn sign_itself(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        self.write(&params.self_signed(&key).unwrap(), &key)
    }

    /// The same, of an authority.
    pub fn show_root(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write(&params.self_signed(&key).unwrap(), &key)
    }

    fn write(&self, certificate: &rcgen::Certificate, key: &KeyPair) -> CertificateDer<'static> {
        std::fs::write(self.path("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    pub fn files(&self) -> Tls {
        Tls::Files {
            certificate: self.path("chain.pem"),
            key: self.path("key.pem"),
        }
    }
}

/// A TLS connection that trusts `roots`, or why there is none.
async fn dial(port: u16, roots: &Path) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let config = tls::client(Some(roots)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

async fn shown(port: u16, roots: &Path) -> CertificateDer<'static> {
    let stream = dial(port, roots).await.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

#[tokio::test]
async fn r_tls_1_with_certificate_files_the_relay_speaks_tls() {
    let authority = Authority::new();
    let certificate = authority.issue();
    let mut config = Config::in_memory();
    config.tls = authority.files();
    let relay = start(config).await;
    assert!(relay.url().starts_with("wss://127.0.0.1:"));
    let root = authority.path("root.pem");
    assert_eq!(shown(relay.port(), &root).await, certificate);

    let stream = dial(relay.port(), &root).await.unwrap();
    let url = format!("wss://localhost:{}", relay.port());
    let (mut socket, _) = tokio_tungstenite::client_async(&url, stream).await.unwrap();
    let hello = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let hello: Vec<String> = serde_json::from_str(&hello).unwrap();
    assert_eq!(hello[0], "AUTH");
    // It goes by the names that it has with TLS.
    let tags: [&[&str]; 2] = [&["relay", &url], &["challenge", &hello[1]]];
    let proof = person(1).sign(22242, now(), &tags, "");
    let frame = ClientFrame::auth(proof.json());
    socket.send(Message::text(frame)).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer[2], true, "{answer}");

    // Whoever speaks plainly gets nothing but the end.
    let mut plain = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_tls_2_a_reload_shows_the_new_certificate_and_a_broken_one_changes_nothing() {
    let authority = Authority::new();
    let root = authority.path("root.pem");
    let first = authority.issue();
    let path = |name| authority.path(name).to_str().unwrap().to_owned();
    let text = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"",
        path("chain.pem"),
        path("key.pem")
    );
    let mut program = Operated::start(&text);
    let url = program.url();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    assert!(url.starts_with("wss://"));
    assert_eq!(shown(port, &root).await, first);

    let second = authority.issue();
    assert_eq!(shown(port, &root).await, first);
    program.reload(&text);
    program.logged("the configuration was reloaded");
    assert_eq!(shown(port, &root).await, second);

    // A key of another certificate, and no file at all.
    let other = KeyPair::generate().unwrap();
    std::fs::write(authority.path("key.pem"), other.serialize_pem()).unwrap();
    program.reload(&text);
    program.logged("the configuration was not reloaded");
    assert_eq!(shown(port, &root).await, second);
    std::fs::remove_file(authority.path("chain.pem")).unwrap();
    program.reload(&text);
    let line = program.logged("the configuration was not reloaded");
    assert!(line.contains("chain.pem"), "{line}");
    assert_eq!(shown(port, &root).await, second);

    // TLS cannot be turned off meanwhile.
    authority.issue();
    program.reload("");
    program.logged("takes a restart");
    program.logged("the configuration was reloaded");
    assert_eq!(shown(port, &root).await, second);
}

#[tokio::test]
async fn r_warn_2_a_certificate_that_has_expired_or_soon_will_is_warned_of() {
    let authority = Authority::new();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let hour = Duration::from_secs(3_600);
    let today = epoch + Duration::from_secs(now());
    let until = |end| {
        authority.issue_for(&["localhost"], |params| params.not_after = end);
    };
    let path = |name| authority.path(name).to_str().unwrap().to_owned();
    let text = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"",
        path("chain.pem"),
        path("key.pem")
    );
    until(today - hour);
    let mut program = Operated::start(&text);
    let line = program.logged("has expired");
    assert!(line.contains("sotto.warning/1"), "{line}");
    until(today + 49 * hour);
    program.reload(&text);
    program.logged("expires in 2 days");
    until(today + 30 * 24 * hour);
    program.reload(&text);
    program.stop();
    let said = program
        .log
        .iter()
        .filter(|line| line.contains("certificate"));
    assert_eq!(said.count(), 2, "{:#?}", program.log);
}

#[tokio::test]
async fn r_tls_3_a_handshake_has_as_much_time_as_a_request() {
    let authority = Authority::new();
    authority.issue();
    let mut config = Config::in_memory();
    config.tls = authority.files();
    config.limits.header_timeout = Duration::from_millis(300);
    let relay = start(config).await;
    let mut silent = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    let mut trickling = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    // The beginning of a ClientHello.
    trickling.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut trickling] {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let _ = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }
    // A request that does not come after the handshake neither.
    let mut shaken = dial(relay.port(), &authority.path("root.pem"))
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = shaken.read_to_end(&mut rest);
    let _ = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(relay.metrics().handshakes_failed.get(), 2);
    relay.stop().await.unwrap();
}

/// Pebble, the certificate authority that Let's Encrypt tests clients with. It checks names on
/// one port of this machine.
struct Pebble {
    child: Child,
    directory: String,
    management: u16,
}

impl Pebble {
    /// None where it is not installed.
    async fn start(authority: &Authority, checks: u16, seconds: u64) -> Option<Self> {
        authority.issue();
        let (listen, management) = (free_port().await, free_port().await);
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": authority.path("chain.pem"),
            "privateKey": authority.path("key.pem"),
            "httpPort": 1,
            "tlsPort": checks,
            "certificateValidityPeriod": seconds,
        }});
        let path = authority.path("pebble.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let child = Command::new("pebble")
            .arg("-config")
            .arg(path)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let pebble = Self {
            child,
            directory: format!("https://localhost:{listen}/dir"),
            management,
        };
        while dial(listen, &authority.path("root.pem")).await.is_err()
            || dial(management, &authority.path("root.pem")).await.is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(pebble)
    }

    /// Writes the root of what it issues; it has a new one each time it starts.
    async fn write_root(&self, authority: &Authority, path: &Path) {
        let mut stream = dial(self.management, &authority.path("root.pem"))
            .await
            .unwrap();
        stream
            .write_all(b"GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        // Some servers end without saying so, which is no matter here.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (_, pem) = answer.split_once("\r\n\r\n").unwrap();
        std::fs::write(path, pem).unwrap();
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn from_authority(authority: &Authority, directory: &str, data: &Path) -> Config {
    let mut config = Config::on_disk(data);
    config.tls = Tls::Acme(Acme {
        domains: vec!["localhost".to_owned()],
        contact: "mailto:operator@example.org".to_owned(),
        directory: directory.to_owned(),
        roots: Some(authority.path("root.pem")),
    });
    config
}

/// Waits until the relay shows another certificate than `last` that `roots` vouches for.
async fn next_shown(
    relay: &Relay,
    roots: &Path,
    last: Option<&CertificateDer<'static>>,
) -> CertificateDer<'static> {
    let wait = async {
        loop {
            assert!(!relay.metrics().certificates.get().contains_key("failed"));
            if let Ok(stream) = dial(relay.port(), roots).await {
                let chain = stream.get_ref().1.peer_certificates().unwrap();
                let shown = chain[0].clone().into_owned();
                if Some(&shown) != last {
                    return shown;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap()
}

#[tokio::test]
async fn r_tls_4_a_certificate_is_fetched_renewed_and_kept() {
    let authority = Authority::new();
    let data = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(pebble) = Pebble::start(&authority, port, 6).await else {
        eprintln!("skipped: pebble is not installed");
        return;
    };
    let roots = authority.path("pebble-root.pem");
    pebble.write_root(&authority, &roots).await;
    let config = from_authority(&authority, &pebble.directory, data.path());
    let relay = Relay::start(listener, config.clone()).await.unwrap();
    assert!(relay.url().starts_with("wss://"));
    assert!(
        relay
            .warnings()
            .iter()
            .any(|text| text.contains("no certificate yet"))
    );
    let first = next_shown(&relay, &roots, None).await;
    // It lasts 6 seconds, so the next one comes by itself.
    let second = next_shown(&relay, &roots, Some(&first)).await;
    assert!(relay.metrics().certificates.get()["fetched"] >= 2);
    relay.stop().await.unwrap();

    let kept: Vec<_> = files(&data.path().join("acme"));
    assert!(kept.iter().any(|path| path.ends_with("account.json")));
    assert!(kept.iter().any(|path| path.ends_with("certificate.pem")));
    for path in kept {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }

    // The next start has one at once, whether the authority is there or not.
    drop(pebble);
    let relay = start(config).await;
    let stream = dial(relay.port(), &roots).await;
    if now() < expiry(&second) {
        let stream = stream.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain[0], second);
    }
    relay.stop().await.unwrap();
}

fn expiry(certificate: &CertificateDer<'_>) -> u64 {
    tls::validity_of(certificate).unwrap().until
}

#[tokio::test]
async fn r_tls_4_an_authority_that_is_not_reached_is_no_reason_to_stop() {
    let authority = Authority::new();
    authority.issue();
    let data = tempfile::tempdir().unwrap();
    let config = from_authority(&authority, "https://localhost:1/dir", data.path());
    let relay = start(config).await;
    let failed = async {
        while !relay.metrics().certificates.get().contains_key("failed") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    // No certificate, no handshake; but the relay runs.
    assert!(
        dial(relay.port(), &authority.path("root.pem"))
            .await
            .is_err()
    );
    relay.stop().await.unwrap();
}
