//! TLS in the relay itself: which certificate clients see, from where it comes, and until when
//! it is good.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a certificate authority asks for when it checks a name (RFC 8737).
pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// There is no such file.
    #[error("{0}: there is no such file")]
    Missing(String),
    /// A file could not be read, or holds no certificate or key.
    #[error("{0}: {1}")]
    File(String, String),
    /// The key is not the certificate's, or of a kind that cannot be used.
    #[error("the certificate and the key do not go together: {0}")]
    Mismatch(rustls::Error),
    /// Not a certificate.
    #[error("the certificate is damaged")]
    Certificate,
    /// The library refuses.
    #[error("TLS is not to be had: {0}")]
    Library(#[from] rustls::Error),
}

/// A certificate with its key, ready to be shown.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// When it is good.
    pub validity: Validity,
}

/// When a certificate is good, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

impl Validity {
    /// When to get the next one: after two thirds, so that a third is left for what may fail.
    pub fn renew_at(self) -> u64 {
        let whole = self.until.saturating_sub(self.from);
        self.until.saturating_sub(whole / 3)
    }
}

impl Certificate {
    /// From two PEM files, or one that holds both.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| on_file(certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| on_file(key, &error))?;
        Self::new(chain, key)
    }

    /// From the text of a PEM file that holds the chain and its key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Certificate)?;
        Self::new(chain, key)
    }

    /// From its parts.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let first = chain.first().ok_or(TlsError::Certificate)?;
        let validity = validity_of(first)?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Mismatch)?;
        Ok(Self {
            key: Arc::new(key),
            validity,
        })
    }
}

/// What is wrong with a file, never what is in it.
fn on_file(path: &Path, error: &pem::Error) -> TlsError {
    let path = path.display().to_string();
    match error {
        pem::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            TlsError::Missing(path)
        }
        pem::Error::Io(error) => TlsError::File(path, error.to_string()),
        _ => TlsError::File(path, "no certificate or no key in it, as PEM".to_owned()),
    }
}

/// When a certificate in DER is good.
pub fn validity_of(certificate: &[u8]) -> Result<Validity, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| TlsError::Certificate)?;
    let validity = parsed.validity();
    // Before 1970 is as good as 1970.
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    Ok(Validity {
        from: seconds(validity.not_before.timestamp()),
        until: seconds(validity.not_after.timestamp()),
    })
}

/// The certificates that are shown at the moment; they change while connections come and go.
#[derive(Debug, Default)]
pub struct Certificates {
    current: RwLock<Option<Certificate>>,
    /// By name, for a certificate authority that checks it.
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// From now on clients see this one.
    pub fn show(&self, certificate: Certificate) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(certificate);
    }

    /// When the one that clients see is good; none where there is none yet.
    pub fn validity(&self) -> Option<Validity> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|certificate| certificate.validity)
    }

    /// Shows a certificate authority this certificate for `name`, until it is taken back.
    pub fn answer_challenge(
        &self,
        name: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(key)?;
        // Not compared with the key: the library does not read a certificate whose extension,
        // as it must be here, is critical and unknown to it.
        let answer = CertifiedKey::new(vec![certificate], key);
        self.challenges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_ascii_lowercase(), Arc::new(answer));
        Ok(())
    }

    /// Takes all answers back.
    pub fn forget_challenges(&self) {
        self.challenges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// What a server that shows them needs. Sessions are not resumed: a ticket would tell that
    /// two connections are one client's.
    pub fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec(), ACME_PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // It offers this protocol and no other (RFC 8737, section 3).
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.next() == Some(ACME_PROTOCOL) && protocols.next().is_none() {
            let name = hello.server_name()?.to_ascii_lowercase();
            let challenges = self.challenges.read();
            let challenges = challenges.unwrap_or_else(PoisonError::into_inner);
            return challenges.get(&name).cloned();
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|certificate| certificate.key.clone())
    }
}

/// What a client needs that trusts the public authorities, or those of a PEM file instead.
pub fn client(roots: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        None => trusted
            .roots
            .extend_from_slice(webpki_roots::TLS_SERVER_ROOTS),
        Some(path) => {
            let found = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| on_file(path, &error))?;
            let (added, _) = trusted.add_parsable_certificates(found);
            if added == 0 {
                return Err(on_file(path, &pem::Error::NoItemsFound));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
