//! TLS says nothing that links two connections: no session is ever resumed.

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

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client_core::runtime::dialer::{Connection, DialError, Dialer, Target};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A certificate authority made for this test (ECDSA P-256, a hundred years).
const AUTHORITY: &str = "\
    MIIBiTCCAS+gAwIBAgIUYZkgSycGTvUEag0yndl4E5BRQk0wCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOVGVzdCBh\
    dXRob3JpdHkwIBcNMjYxMTIzMDQwOTU4WhgPMjEyNjEwMzAwNDA5NThaMBkxFzAVBgNVBAMMDlRlc3QgYXV0aG9y\
    aXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2g4UZZSgGtCcyCtM9RBzCSLcNVI5gPwsw6TFwxMKs+MpbaJv\
    ++s6MiEdOLZx16w1r4bZvojEVo0Dpmg7b8mNNqNTMFEwHQYDVR0OBBYEFNVe0CCTMWVxIg1Yw0p1JsNkRjmtMB8G\
    A1UdIwQYMBaAFNVe0CCTMWVxIg1Yw0p1JsNkRjmtMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg\
    Iej1Vnwcfuv2V0uBzmBwwzlJJOcCfFtHeyk9/a3cTAoCIQCEHs/SxiArG0MB/YsyA/zY9iDwAW3JROROhI9mMfYs\
    3g==";

/// Its certificate for `localhost`.
const CERTIFICATE: &str = "\
    MIIBkzCCATqgAwIBAgIUYyybPyPUBic5eCKmv/dUoL4MksgwCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOVGVzdCBh\
    dXRob3JpdHkwIBcNMjYxMTIzMDQwOTU4WhgPMjEyNjEwMzAwNDA5NThaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZ\
    MBMGByqGSM49AgEGCCqGSM49AwEHA0IABHYxIG+rs5Zf/TyckD2iNgOtz06PzzdckRHDn7PaRNAKB7ghom0wiWjk\
    zwEOWvX2UQCB5km19UWtK+OPnjLed2SjYzBhMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAJBgNVHRMEAjAAMB0GA1Ud\
    DgQWBBTDPLrWvR9GY4t1p2TnO36aLkc5bTAfBgNVHSMEGDAWgBTVXtAgkzFlcSINWMNKdSbDZEY5rTAKBggqhkjO\
    PQQDAgNHADBEAiABG/NlrEHyA7PQi1V4ibIa/l9TGFTaQp2gGoQmo5hV/gIgAVwVWJTSxbcYYacQqg1T8L5bQBZK\
    BNfL183piVFfVqs=";

/// The key of that certificate: known to everybody, worth nothing.
const KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZZXwy6qc7MSGrPi0dwBabWIXEWki+HJeqccjr3or\
    hgChRANCAAR2MSBvq7OWX/08nJA9ojYDrc9Oj883XJERw5+z2kTQCge4IaJtMIlo5M8BDlr19lEAgeZJtfVFrSvj\
    j54y3ndk";

fn der(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(der(AUTHORITY))).unwrap();
    roots
}

/// A server that offers tickets and says how each handshake went.
async fn server(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (u16, mpsc::Receiver<HandshakeKind>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(der(CERTIFICATE))],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der(KEY))),
        )
        .unwrap();
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, kinds) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            // Tickets go out with the first bytes.
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            sender.send(kind).await.unwrap();
        }
    });
    (port, kinds)
}

fn target(host: &str, port: u16) -> Target {
    Target {
        host: host.to_owned(),
        port,
        is_secure: true,
        is_own: true,
    }
}

#[tokio::test]
async fn no_connection_resumes_an_earlier_one() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (port, mut kinds) = server(&[version]).await;
        let dialer = Dialer::with_roots(roots(), Duration::from_secs(20)).unwrap();
        for _ in 0..3 {
            let mut connection = dialer.dial(&target("localhost", port)).await.unwrap();
            assert!(matches!(connection, Connection::Tls(_)));
            let mut hello = [0; 5];
            connection.read_exact(&mut hello).await.unwrap();
            assert_eq!(kinds.recv().await, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

fn says(refused: Result<Connection, DialError>, words: &str) -> bool {
    matches!(refused, Err(DialError::Unreachable(why)) if why.contains(words))
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_for_another_name_is_refused() {
    let (port, _kinds) = server(&[&rustls::version::TLS13]).await;
    let web = Dialer::new(Duration::from_secs(20)).unwrap();
    let refused = web.dial(&target("localhost", port)).await;
    assert!(says(refused, "nobody whom clients trust"));
    let dialer = Dialer::with_roots(roots(), Duration::from_secs(20)).unwrap();
    let refused = dialer.dial(&target("127.0.0.1", port)).await;
    assert!(says(refused, "for another name"));
    // Something that answers plainly.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 64]).await;
    });
    let refused = dialer.dial(&target("localhost", port)).await;
    assert!(says(refused, "does not speak TLS"));
}

#[tokio::test]
async fn every_attempt_is_told_to_the_observer() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let dialer = Dialer::new(Duration::from_secs(20))
        .unwrap()
        .observed(Arc::new(move |target: &Target| {
            log.lock().unwrap().push(target.host.clone());
        }));
    let mut forbidden = target("169.254.1.1", 1);
    assert!(dialer.dial(&forbidden).await.is_err());
    forbidden.host = "[fe80::1]".to_owned();
    assert!(dialer.dial(&forbidden).await.is_err());
    assert_eq!(*seen.lock().unwrap(), ["169.254.1.1", "[fe80::1]"]);
}
