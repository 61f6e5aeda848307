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
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::defect;
use crate::watched::{self, FileProblem, Watched};

pub(crate) use self::socket::Socket;

const HTTP_1_1: &[u8] = b"http/1.1";
/// What is spoken over TLS: gRPC, and to who speaks HTTP/1.1 alone, as much as to say so.
const PROTOCOLS: [&[u8]; 2] = [b"h2", HTTP_1_1];

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
    current: watch::Sender<Arc<Current>>,
    watched: Mutex<Watched>,
}

/// What the files say now.
struct Current {
    /// Rises with each that is taken.
    number: u64,
    config: Arc<ServerConfig>,
    /// Whose certificates are taken. None: nobody's.
    clients: Option<Arc<dyn ClientCertVerifier>>,
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
        let current = Arc::new(Current::read(&files, 0)?);
        let inner = Inner { files, current: watch::Sender::new(current), watched: Mutex::new(watched) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What connections are taken with that come now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.inner.current.borrow().config))
    }

    /// Reads the files again if they have changed, again and again, and calls `taken` when they are taken. Never ends.
    pub(crate) async fn watch(self, every: Duration, taken: impl Fn()) {
        loop {
            tokio::time::sleep(every).await;
            let tls = self.clone();
            // A defect is in the log, and the next look comes when it is due.
            let look = move || defect::catch("a look at certificates", || tls.look());
            if let Ok(Ok(true)) = tokio::task::spawn_blocking(look).await {
                taken();
            }
        }
    }

    /// Takes what is in the files now, if they have changed and can be used. Connections that are there already keep the
    /// certificate they began with. Says whether it was taken.
    fn look(&self) -> bool {
        let mut watched = self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.has_changed() {
            return false;
        }
        let number = self.inner.current.borrow().number + 1;
        match Current::read(&self.inner.files, number) {
            Ok(current) => {
                watched.taken();
                self.inner.current.send_replace(Arc::new(current));
                tracing::info!("read the certificates again; new connections get them");
                true
            }
            // The other file of a pair may be on its way.
            Err(problem) => {
                if watched.refused(&problem) {
                    tracing::warn!(%problem, "the certificates have changed and are not taken; the last ones stay");
                }
                false
            }
        }
    }
}

/// The client's certificate, which its authority was found to have signed.
pub(crate) struct ClientCertificate {
    /// Its subject alternative names.
    pub(crate) names: Vec<String>,
    pub(crate) expires: SystemTime,
    /// With those between it and its authority, and by what they are judged.
    chain: Vec<CertificateDer<'static>>,
    tls: Tls,
    /// What it was judged by when it was last asked, and how.
    judged: Mutex<Option<(u64, bool)>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ClientCertificate {
    /// `None` if it cannot be read.
    fn read(shown: &[CertificateDer<'_>], tls: &Tls) -> Option<Self> {
        let certificate = Certificate::from_der(shown.first()?).ok()?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
            GeneralName::Rfc822Name(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
            _ => None,
        });
        Some(Self {
            names: names.collect(),
            expires: certificate.validity.not_after.to_system_time(),
            chain: shown.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            tls: tls.clone(),
            judged: Mutex::new(None),
        })
    }

    /// Whether its authority is one of those that are taken now.
    pub(crate) fn is_trusted(&self) -> bool {
        let current = Arc::clone(&self.tls.inner.current.borrow());
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        match *judged {
            Some((number, is_trusted)) if number == current.number => is_trusted,
            _ => {
                let is_trusted = current.trusts(&self.chain);
                *judged = Some((current.number, is_trusted));
                is_trusted
            }
        }
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string())).ok()
}

impl Current {
    fn read(files: &TlsFiles, number: u64) -> Result<Self, FileProblem> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let problem =
            |path: &Path, problem: String| FileProblem::one(format!("`{}` {problem}", path.display()));
        let chain = certificates(&files.certificate)?;
        check_validity(&chain[0]).map_err(|why| problem(&files.certificate, why))?;
        let key = PrivateKeyDer::from_pem_slice(&watched::read(&files.key)?)
            .map_err(|error| problem(&files.key, format!("has no private key (PEM): {error}")))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| FileProblem::one(format!("TLS cannot be set up: {error}")))?;
        let clients = match &files.client_authorities {
            None => None,
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
                Some(verifier)
            }
        };
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let files = format!("`{}` and `{}`", files.certificate.display(), files.key.display());
            FileProblem::one(format!("{files} do not go together: {error}"))
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self { number, config: Arc::new(config), clients })
    }

    fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(clients), Some((shown, between))) = (&self.clients, chain.split_first()) else {
            return false;
        };
        clients.verify_client_cert(shown, between, UnixTime::now()).is_ok()
    }
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
