//! Connections with TLS. What is trusted and shown is read from its files for each connection, so that it can be replaced
//! under a program that runs.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
};

use super::credentials::{Authorization, Credentials};

/// A connection with TLS, as the transport takes it.
pub(super) type Connected = TokioIo<TlsStream<TcpStream>>;

/// Makes connections to one host.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Credentials,
    pub(super) authorization: Arc<Authorization>,
}

/// Why a connection cannot be trusted, or is not taken, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Problem(String);

fn problem(text: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Problem(text.to_string()))
}

impl Secure {
    pub(super) async fn connect(self: Arc<Self>) -> io::Result<Connected> {
        self.authorization.read_again();
        let config = self.config()?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_no_name| {
            problem(format!("`{}` is no name that a certificate can be for", self.host))
        })?;
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        connected.map(TokioIo::new).map_err(explained)
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &self.credentials.authorities {
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| {
                    problem(format!(
                        "`{}` has a certificate that can be no authority: {error}",
                        path.display()
                    ))
                })?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(problem)?
            .with_root_certificates(roots);
        let mut config = match &self.credentials.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let shown = key.display();
                let bytes = std::fs::read(key)
                    .map_err(|error| problem(format!("`{shown}` cannot be read: {error}")))?;
                let key = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| problem(format!("`{shown}` has no private key (PEM): {error}")))?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| {
                    problem(format!("`{}` and `{shown}` do not go together: {error}", certificate.display()))
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| problem(format!("`{shown}` cannot be read: {error}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = read.map_err(|error| problem(format!("`{shown}` is no PEM: {error}")))?;
    if all.is_empty() {
        return Err(problem(format!("`{shown}` has no certificate (PEM)")));
    }
    Ok(all)
}

/// Says what went wrong as somebody who has to mend it wants to hear it.
fn explained(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let text = match tls {
        Some(TlsError::InvalidCertificate(invalid)) => match invalid {
            // The other is of an authority that has the name of one that is trusted, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate is of no authority that is trusted here; name the file of its authority in \
                 MYCELIUM_CA"
                    .to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the broker's certificate is for another name: {invalid}")
            }
            other => format!("the broker's certificate cannot be trusted: {other}"),
        },
        Some(TlsError::InvalidMessage(_) | TlsError::AlertReceived(AlertDescription::HandshakeFailure)) => {
            "whoever answers there does not speak TLS with us; if it is a broker without certificates, use http://"
                .to_owned()
        }
        Some(TlsError::AlertReceived(alert)) => format!("the broker does not take our certificate: {alert:?}"),
        Some(other) => format!("TLS cannot be spoken with the broker: {other}"),
        None => return error,
    };
    problem(text)
}
