//! Certificates from an authority (ACME, RFC 8555): fetched when there is none, renewed in time,
//! and kept with the account's key in the data folder, for the owner's eyes alone.
//!
//! A name is proven over the relay's own port (TLS-ALPN-01, RFC 8737): nothing else has to be
//! open, and nothing has to be written anywhere else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::Clock;
use crate::https::Https;
use crate::metrics::Metrics;
use crate::tls::{Certificate, Certificates, TlsError};

/// The longest time between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(3_600);
/// Between a failure and the next attempt at first; twice as long each time. Authorities allow
/// few failures in an hour.
const FIRST_RETRY: Duration = Duration::from_secs(300);
/// Between attempts at most.
const LAST_RETRY: Duration = Duration::from_secs(12 * 3_600);
/// How long one order may take.
const ORDER: Duration = Duration::from_secs(180);

/// From whom to get certificates, and for which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The names.
    pub domains: Vec<String>,
    /// How the authority reaches the operator; empty: not at all.
    pub contact: String,
    /// The URL of the authority's directory.
    pub directory: String,
    /// Whom to trust as the authority's server: a PEM file; none: the public authorities.
    pub roots: Option<PathBuf>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The authority refuses, or is not reached.
    #[error("the certificate authority: {0}")]
    Authority(#[from] instant_acme::Error),
    /// It knows no way to prove the name that the relay knows.
    #[error("the certificate authority offers no TLS-ALPN-01")]
    NoChallenge,
    /// It could not connect to the relay under its name, or saw something else there.
    #[error("the certificate authority could not check a name: is the relay reached on port 443?")]
    NotProven,
    /// It takes too long.
    #[error("the order was not finished in time")]
    Timeout,
    /// A certificate could not be made or read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library that makes certificates refuses.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What is kept could not be read or written.
    #[error("the folder of certificates: {0}")]
    Folder(#[from] std::io::Error),
    /// What is kept is no account.
    #[error("the account's file is damaged: {0}")]
    Account(#[from] serde_json::Error),
}

/// Gets certificates, one after the other.
#[derive(Debug)]
pub struct Renewal {
    acme: Acme,
    folder: PathBuf,
    https: Https,
    certificates: Arc<Certificates>,
}

impl Renewal {
    /// Keeps what it gets under `data`, apart for each authority. Shows at once what is kept and
    /// still good for these names.
    pub fn new(
        acme: Acme,
        data: &Path,
        certificates: Arc<Certificates>,
    ) -> Result<Self, AcmeError> {
        let authority = Sha256::digest(acme.directory.as_bytes());
        let name: String = hex::encode(authority).chars().take(16).collect();
        let folder = data.join("acme").join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let https = Https::new(crate::tls::client(acme.roots.as_deref())?);
        let renewal = Self {
            acme,
            folder,
            https,
            certificates,
        };
        if let Some(kept) = renewal.kept() {
            renewal.certificates.show(kept);
        }
        Ok(renewal)
    }

    /// Renews in time until `stop`.
    pub async fn run(self, clock: Clock, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        loop {
            let now = clock.now();
            let due = self
                .certificates
                .validity()
                .map_or(0, |validity| validity.renew_at().saturating_sub(now));
            let pause = if due > 0 {
                Duration::from_secs(due).min(LOOK)
            } else {
                let ordered = tokio::select! {
                    () = stop.cancelled() => return,
                    ordered = tokio::time::timeout(ORDER, self.order()) => ordered,
                };
                self.certificates.forget_challenges();
                match ordered.unwrap_or(Err(AcmeError::Timeout)) {
                    Ok(certificate) => {
                        tracing::info!("a certificate was fetched");
                        metrics.certificates.add("fetched");
                        self.certificates.show(certificate);
                        retry = FIRST_RETRY;
                        // Never in a circle, whatever the authority hands out.
                        Duration::from_secs(1)
                    }
                    Err(error) => {
                        let next_s = retry.as_secs();
                        tracing::error!(%error, next_s, "no certificate was fetched");
                        metrics.certificates.add("failed");
                        let pause = retry;
                        retry = (retry * 2).min(LAST_RETRY);
                        pause
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A new certificate, kept and ready to be shown.
    async fn order(&self) -> Result<Certificate, AcmeError> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self
            .acme
            .domains
            .iter()
            .cloned()
            .map(Identifier::Dns)
            .collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        self.prove(&mut order).await?;
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patient()).await?;
        let pem = format!("{key}\n{chain}");
        let certificate = Certificate::from_pem(pem.as_bytes())?;
        let names = self.acme.domains.join("\n");
        write_private(&self.folder, "certificate.pem", pem.as_bytes())?;
        write_private(&self.folder, "names", names.as_bytes())?;
        Ok(certificate)
    }

    /// Shows the authority that the names are ours.
    async fn prove(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .ok_or(AcmeError::NoChallenge)?;
            let name = challenge.identifier().to_string();
            let digest = challenge.key_authorization().digest();
            let (answer, key) = challenge_certificate(&name, digest.as_ref())?;
            self.certificates.answer_challenge(&name, answer, key)?;
            challenge.set_ready().await?;
        }
        match order.poll_ready(&patient()).await? {
            OrderStatus::Ready => Ok(()),
            _ => Err(AcmeError::NotProven),
        }
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let client = || Account::builder_with_http(Box::new(self.https.clone()));
        match std::fs::read(self.folder.join("account.json")) {
            Ok(kept) => {
                let kept: AccountCredentials = serde_json::from_slice(&kept)?;
                Ok(client().from_credentials(kept).await?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let contact: Vec<&str> = match self.acme.contact.as_str() {
                    "" => Vec::new(),
                    contact => vec![contact],
                };
                let new = NewAccount {
                    contact: &contact,
                    // The configuration is refused where the operator does not.
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let directory = self.acme.directory.clone();
                let (account, credentials) = client().create(&new, directory, None).await?;
                let credentials = serde_json::to_vec(&credentials)?;
                write_private(&self.folder, "account.json", &credentials)?;
                Ok(account)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was fetched before, if it is for the same names.
    fn kept(&self) -> Option<Certificate> {
        let names = std::fs::read_to_string(self.folder.join("names")).ok()?;
        if names != self.acme.domains.join("\n") {
            return None;
        }
        let pem = std::fs::read(self.folder.join("certificate.pem")).ok()?;
        Certificate::from_pem(&pem).ok()
    }
}

/// How long the authority may think.
fn patient() -> RetryPolicy {
    RetryPolicy::default().timeout(ORDER)
}

/// The certificate that answers a challenge (RFC 8737, section 3).
fn challenge_certificate(
    name: &str,
    digest: &[u8],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    // The constructor insists on the length that SHA-256 has.
    if digest.len() == 32 {
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    }
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((certificate.der().clone(), key))
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    std::fs::File::open(folder)?.sync_all()
}
