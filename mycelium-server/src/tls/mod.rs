//! TLS on the broker's port, with certificates from files that are read again when they change.

mod socket;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::defect;
use crate::watched::{self, FileProblem, Watched};

pub(crate) use self::socket::Socket;

/// What is spoken over TLS: gRPC, and HTTP for browsers.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificates are read from: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificate of the broker, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients that show a certificate. Default: none, and no client is asked for one.
    pub client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    /// A certificate and its key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), client_authorities: None }
    }

    fn all(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let Self { certificate, key, client_authorities } = self.clone();
        [certificate, key].into_iter().chain(client_authorities)
    }
}

/// TLS on the broker's port. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    current: watch::Sender<Arc<ServerConfig>>,
    watched: Mutex<Watched>,
}

/// It shows nothing of keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.inner.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// With certificates from these files. They are read again when they change; what cannot be used then is not taken, and
    /// the last that could be used stays.
    ///
    /// # Errors
    /// If a file cannot be read or is no PEM, the certificate is not valid now, or the key is not its own.
    pub fn from_files(files: TlsFiles) -> Result<Self, FileProblem> {
        // Seen before they are read: a change in between is found by the first look.
        let mut watched = Watched::new(files.all());
        watched.has_changed();
        let config = config(&files)?;
        let inner =
            Inner { files, current: watch::Sender::new(Arc::new(config)), watched: Mutex::new(watched) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What connections are taken with that come now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.inner.current.borrow()))
    }

    /// Reads the files again if they have changed, again and again. Never ends.
    pub(crate) async fn watch(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let tls = self.clone();
            // A defect is in the log, and the next look comes when it is due.
            let _looked = tokio::task::spawn_blocking(move || {
                let _logged = defect::catch("a look at certificates", || tls.look());
            })
            .await;
        }
    }

    /// Takes what is in the files now, if they have changed and can be used. Connections that are there already keep what
    /// they began with.
    fn look(&self) {
        if !self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner).has_changed() {
            return;
        }
        match config(&self.inner.files) {
            Ok(config) => {
                self.inner.current.send_replace(Arc::new(config));
                tracing::info!("read the certificates again; new connections get them");
            }
            // The other file of a pair may be on its way.
            Err(problem) => {
                tracing::warn!(%problem, "the certificates have changed and are not taken; the last ones stay");
            }
        }
    }
}

/// The client's certificate, which its authority was found to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// Its subject alternative names.
    pub(crate) names: Vec<String>,
    pub(crate) expires: SystemTime,
}

impl ClientCertificate {
    /// `None` if it cannot be read.
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
            GeneralName::Rfc822Name(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
            _ => None,
        });
        Some(Self { names: names.collect(), expires: certificate.validity.not_after.to_system_time() })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string())).ok()
}

fn config(files: &TlsFiles) -> Result<ServerConfig, FileProblem> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let problem = |path: &Path, problem: String| FileProblem::one(format!("`{}` {problem}", path.display()));
    let chain = certificates(&files.certificate)?;
    check_validity(&chain[0]).map_err(|why| problem(&files.certificate, why))?;
    let key = PrivateKeyDer::from_pem_slice(&watched::read(&files.key)?)
        .map_err(|error| problem(&files.key, format!("has no private key (PEM): {error}")))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileProblem::one(format!("TLS cannot be set up: {error}")))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| {
                    problem(path, format!("has a certificate that can be no authority: {error}"))
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                // Whether one is needed is asked for each call, and may be answered by a token.
                .allow_unauthenticated()
                .build()
                .map_err(|error| problem(path, format!("cannot be used: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let files = format!("`{}` and `{}`", files.certificate.display(), files.key.display());
        FileProblem::one(format!("{files} do not go together: {error}"))
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// All certificates of a file, of which there is one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    let shown = path.display();
    let bytes = watched::read(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = read.map_err(|error| FileProblem::one(format!("`{shown}` is no PEM: {error}")))?;
    if all.is_empty() {
        return Err(FileProblem::one(format!("`{shown}` has no certificate (PEM)")));
    }
    Ok(all)
}

/// A broker with a certificate that no client takes would seem to be there.
fn check_validity(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let certificate = Certificate::from_der(certificate)
        .map_err(|error| format!("has a certificate that cannot be read: {error}"))?;
    let validity = certificate.tbs_certificate.validity;
    let (begins, ends) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
    let now = SystemTime::now();
    let shown = |moment| humantime::format_rfc3339_seconds(moment);
    if now < begins {
        return Err(format!("has a certificate that is not valid before {}", shown(begins)));
    }
    if now >= ends {
        return Err(format!("has a certificate that expired at {}", shown(ends)));
    }
    Ok(())
}
