//! The only place of the client that opens a connection.
//!
//! Every rule about where a socket may lead stands here, after the name was looked up, so that a
//! name which resolves into somebody's home network is no way around it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::RelayUrl;
use wire::relay_url::{Origin, Reach};

use crate::error::{Error, ErrorWord, Result};

/// Where to dial, and what allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address; IPv6 may stand in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub is_secure: bool,
    /// Whether the user's own configuration allows loopback and private networks for it.
    pub is_own: bool,
}

impl Target {
    /// Of a relay.
    pub fn relay(url: &RelayUrl, is_own: bool) -> Self {
        Self {
            host: url.host(),
            port: url.port(),
            is_secure: url.is_secure(),
            is_own,
        }
    }

    /// Of a file server.
    pub fn file_server(origin: &Origin, is_own: bool) -> Self {
        Self {
            host: origin.host(),
            port: origin.port(),
            is_secure: origin.is_secure(),
            is_own,
        }
    }
}

/// Why there is no connection. The texts name no host: the caller knows which it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address may not be dialled, now or later.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It may work another time.
    #[error("{0}")]
    Unreachable(String),
}

/// Told of every attempt, before the name is looked up.
pub type DialObserver = Arc<dyn Fn(&Target) + Send + Sync>;

/// Opens connections. Cheap to clone; clones share the TLS configuration, which remembers
/// nothing from one connection to the next.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    timeout: Duration,
    observer: Option<DialObserver>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialer that trusts the web's root certificates and gives up after `timeout`.
    pub fn new(timeout: Duration) -> Result<Self> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        Self::with_roots(roots, timeout)
    }

    /// A dialer that trusts these root certificates instead, for a network with its own.
    pub fn with_roots(roots: RootCertStore, timeout: Duration) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorWord::Internal, format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session tells the server that two connections are one client's, which is what
        // sockets of different circles and roles must never say.
        tls.resumption = Resumption::disabled();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            timeout,
            observer: None,
        })
    }

    /// The same dialer, telling `observer` of every attempt.
    pub fn observed(mut self, observer: DialObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Connects, TLS included where the target asks for it.
    ///
    /// Addresses are tried in the resolver's order; those that the rules of [`allowed`] refuse
    /// are left out, and if none is left the target is forbidden.
    pub async fn dial(&self, target: &Target) -> std::result::Result<Connection, DialError> {
        if let Some(observer) = &self.observer {
            observer(target);
        }
        match tokio::time::timeout(self.timeout, self.connect(target)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Unreachable("no connection in time".to_owned())),
        }
    }

    async fn connect(&self, target: &Target) -> std::result::Result<Connection, DialError> {
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, target.port)],
            Err(_) => tokio::net::lookup_host((host, target.port))
                .await
                .map_err(|_| DialError::Unreachable("the name does not resolve".to_owned()))?
                .collect(),
        };
        let mut last = DialError::Unreachable("the name has no address".to_owned());
        // One address that swallows packets must not use up the time of the others.
        let tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let patience = self.timeout / tries.clamp(1, 4);
        for address in addresses {
            if let Err(rule) = allowed(address.ip(), target) {
                last = DialError::Forbidden(rule);
                continue;
            }
            match tokio::time::timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.secure(stream, host, target.is_secure).await,
                Ok(Err(error)) => last = DialError::Unreachable(plain_words(&error)),
                Err(_) => last = DialError::Unreachable("no connection in time".to_owned()),
            }
        }
        Err(last)
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        is_secure: bool,
    ) -> std::result::Result<Connection, DialError> {
        // Frames are small and waited for; without this Nagle's delay is paid on each.
        let _ = stream.set_nodelay(true);
        if !is_secure {
            return Ok(Connection::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::Forbidden("the host name is not one TLS can check"))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|error| DialError::Unreachable(tls_words(&error)))?;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

/// Whether an address may be dialled for `target`; otherwise the rule it breaks.
///
/// Link-local, multicast and unspecified addresses never. Loopback and private ranges only where
/// the user's own configuration names a host there. Without TLS nothing farther than that.
pub fn allowed(ip: IpAddr, target: &Target) -> std::result::Result<(), &'static str> {
    match Reach::of_ip(ip) {
        Reach::Forbidden => Err("link-local, multicast and unspecified addresses are not dialled"),
        Reach::Loopback | Reach::Private if target.is_own => Ok(()),
        Reach::Loopback | Reach::Private => {
            Err("a private address is dialled only if you use one there yourself")
        }
        Reach::Public if target.is_secure => Ok(()),
        Reach::Public => Err("outside of private networks only wss and https are dialled"),
    }
}

/// Why there was no TLS, in words for whoever chose the server.
fn tls_words(error: &io::Error) -> String {
    let inner = error.get_ref();
    let why = match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or a clock is wrong"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::UnknownIssuer => {
                "its certificate comes from nobody whom clients trust"
            }
            _ => "its certificate is not in order",
        },
        Some(rustls::Error::InvalidMessage(_)) => "what answers there does not speak TLS",
        _ => return format!("TLS: {}", plain_words(error)),
    };
    format!("TLS: {why}")
}

/// An I/O error in words that say nothing of this machine.
pub(crate) fn plain_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => "the connection broke".to_owned(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "no route to the host".to_owned()
        }
        _ => error.to_string(),
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Connection {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn ReadWrite> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(is_secure: bool, is_own: bool) -> Target {
        Target {
            host: "h".into(),
            port: 1,
            is_secure,
            is_own,
        }
    }

    #[test]
    fn where_a_socket_may_lead() {
        // address, then whether it is dialled: own plain, own TLS, other's plain, other's TLS
        let table = [
            ("127.0.0.1", [true, true, false, false]),
            ("::1", [true, true, false, false]),
            ("::ffff:127.0.0.1", [true, true, false, false]),
            ("10.0.0.1", [true, true, false, false]),
            ("172.16.5.5", [true, true, false, false]),
            ("192.168.1.1", [true, true, false, false]),
            ("100.64.0.1", [true, true, false, false]),
            ("fd12::1", [true, true, false, false]),
            ("9.9.9.9", [false, true, false, true]),
            ("172.32.0.1", [false, true, false, true]),
            ("2620:fe::fe", [false, true, false, true]),
            ("169.254.169.254", [false; 4]),
            ("::ffff:169.254.169.254", [false; 4]),
            ("fe80::1", [false; 4]),
            ("0.0.0.0", [false; 4]),
            ("::", [false; 4]),
            ("255.255.255.255", [false; 4]),
            ("224.0.0.1", [false; 4]),
            ("ff02::1", [false; 4]),
        ];
        for (ip, expected) in table {
            let ip: IpAddr = ip.parse().unwrap();
            let actual = [(false, true), (true, true), (false, false), (true, false)]
                .map(|(secure, own)| allowed(ip, &target(secure, own)).is_ok());
            assert_eq!(actual, expected, "{ip}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_no_way_in() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = Dialer::new(Duration::from_secs(5)).unwrap();
        let mut target = Target {
            host: "localhost".into(),
            port: listener.local_addr().unwrap().port(),
            is_secure: false,
            is_own: false,
        };
        assert!(matches!(
            dialer.dial(&target).await,
            Err(DialError::Forbidden(_))
        ));
        target.is_own = true;
        assert!(dialer.dial(&target).await.is_ok());
    }
}
