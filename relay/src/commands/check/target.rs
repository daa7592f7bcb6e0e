//! The relay that is checked: where it is, whose word for its certificate counts, and what went
//! wrong on the way to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wire::RelayUrl;

use super::peer::Key;
use crate::commands::Failure;

/// What to do where no connection is made, for whatever reason.
pub const UNREACHABLE: &str =
    "does it run, does the name lead to its machine, and is the port open?";
const LATE: &str = "give it more time (--timeout 60s); if that is in vain, see whether its machine \
                    or disk is overloaded, or something between holds messages back";
const CUT_OFF: &str = "see whether it was restarted just then (its log says so) or a proxy between \
                       ends WebSockets early";
/// Bits of work that are done for one event: some ten seconds of a core.
const MOST_WORK: u8 = 24;

/// The relay, and how it is asked.
pub struct Target {
    pub url: RelayUrl,
    /// How long each step may take.
    pub timeout: Duration,
    trusted: Arc<rustls::ClientConfig>,
    /// Whether a file named the trusted authorities.
    pub is_private: bool,
    /// Whom wraps are addressed to, where not everybody has a mailbox.
    pub member: Option<Key>,
    /// Bits of work that each wrap shows (NIP-13).
    pub work: u8,
}

/// What went wrong.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub detail: String,
    /// What to do, where the trouble tells it better than the check that met it.
    pub fix: Option<&'static str>,
    /// Where the relay closed the connection: whether it said that a message was too big.
    pub closed: Option<Closed>,
}

/// How a relay closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Because a message was too big (RFC 6455, 7.4.1: code 1009).
    TooBig,
    /// For another reason, or for none that it tells.
    Otherwise,
}

impl Trouble {
    pub fn with_fix(detail: impl ToString, fix: &'static str) -> Self {
        Self {
            fix: Some(fix),
            ..detail.to_string().into()
        }
    }

    /// No answer within the time that a step has.
    pub fn late() -> Self {
        Self::with_fix("the relay did not answer in time", LATE)
    }

    /// The relay closed the connection.
    pub fn closed(how: Closed) -> Self {
        Self {
            closed: Some(how),
            ..Self::with_fix("the relay closed the connection", CUT_OFF)
        }
    }
}

impl From<String> for Trouble {
    fn from(detail: String) -> Self {
        Self {
            detail,
            fix: None,
            closed: None,
        }
    }
}

impl From<&str> for Trouble {
    fn from(detail: &str) -> Self {
        detail.to_owned().into()
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Target {
    /// Trusts the authorities of a PEM file, or else those that clients trust.
    pub fn new(
        url: RelayUrl,
        timeout: Duration,
        authorities: Option<&Path>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            url,
            timeout,
            trusted: sotto_relay::tls::client(authorities)?,
            is_private: authorities.is_some(),
            member: None,
            work: 0,
        })
    }

    /// From now on wraps show as much work as is asked for, unless that is too much.
    pub fn do_work(&mut self, asked: u8) -> Result<String, Trouble> {
        if asked > MOST_WORK {
            return Err(Trouble::with_fix(
                format!("{asked} bits of work are asked for; this check does {MOST_WORK} at most"),
                "lower policy.pow_bits while you check: what follows can only be refused",
            ));
        }
        self.work = asked;
        Ok(format!("{asked} bits of work are done for each wrap"))
    }

    /// Whom a wrap is addressed to.
    pub fn recipient(&self) -> Result<Key, Trouble> {
        match self.member {
            Some(member) => Ok(member),
            None => Key::fresh(),
        }
    }

    /// A connection, with TLS where the URL says so.
    pub async fn dial(&self) -> Result<Box<dyn Stream>, Trouble> {
        match self.url.is_secure() {
            false => Ok(Box::new(self.connect().await?)),
            true => Ok(Box::new(self.secure().await?)),
        }
    }

    /// The certificate that the server shows, in DER.
    pub async fn certificate(&self) -> Result<Vec<u8>, Trouble> {
        let stream = self.secure().await?;
        let chain = stream.get_ref().1.peer_certificates();
        let first = chain.and_then(|chain| chain.first());
        first
            .map(|certificate| certificate.to_vec())
            .ok_or_else(|| "the server shows no certificate".into())
    }

    /// The work, or a failure once it takes too long.
    pub async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let done = tokio::time::timeout(self.timeout, work).await;
        done.unwrap_or_else(|_| Err(Trouble::late()))
    }

    fn host(&self) -> String {
        self.url.host().trim_matches(['[', ']']).to_owned()
    }

    async fn connect(&self) -> Result<TcpStream, Trouble> {
        let connected = TcpStream::connect((self.host().as_str(), self.url.port())).await;
        connected.map_err(|error| Trouble::with_fix(format!("{}: {error}", self.url), UNREACHABLE))
    }

    async fn secure(&self) -> Result<TlsStream<TcpStream>, Trouble> {
        let stream = self.connect().await?;
        let name =
            ServerName::try_from(self.host()).map_err(|error| Trouble::from(error.to_string()))?;
        tokio_rustls::TlsConnector::from(self.trusted.clone())
            .connect(name, stream)
            .await
            .map_err(|error| untrusted(&self.url, &error))
    }
}

/// Why there is no TLS connection, and what the operator can do about it.
fn untrusted(url: &RelayUrl, error: &std::io::Error) -> Trouble {
    let inner = error.get_ref();
    let cause = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (why, fix) = match cause {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "its certificate has expired",
                "renew the certificate, then send SIGHUP; with [acme], the log says why it was not renewed",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "its certificate is not valid yet",
                "set the clocks of both machines by NTP, or have the certificate issued anew",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    "its certificate is for another name",
                    "have a certificate issued for the name in the URL ([acme] domains), or use the name that it has",
                )
            }
            CertificateError::UnknownIssuer => (
                "its certificate comes from nobody whom clients trust",
                "use [acme], or [tls] with the whole chain of an authority that clients trust; to check with an authority of your own, name its file with --ca-file",
            ),
            other if other.to_string().contains("CaUsedAsEndEntity") => (
                "its certificate is an authority's, or signed by itself",
                "use [acme], or [tls] with a certificate that an authority has issued for this server",
            ),
            _ => (
                "its certificate is not in order",
                "have it issued anew by an authority that clients trust, as the certificate of a server",
            ),
        },
        Some(rustls::Error::InvalidMessage(_)) => (
            "what answers there does not speak TLS",
            "set [tls] or [acme], or put a proxy with TLS in front; or is it another port?",
        ),
        Some(rustls::Error::AlertReceived(_)) => (
            "it breaks the TLS handshake off",
            "it may have no certificate yet: its log says why none was fetched",
        ),
        _ => (
            "the TLS handshake failed",
            "does a relay or its proxy listen on this port, and does nothing between cut it off?",
        ),
    };
    Trouble::with_fix(format!("{url}: {why} ({error})"), fix)
}
