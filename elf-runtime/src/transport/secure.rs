//! Connections with TLS. What is trusted and shown is read from its files for each connection, so that it can be replaced
//! under a program that runs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufRead as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, ProtocolVersion, RootCertStore,
};

use super::credentials::{Authorization, Credentials, Unshowable};

/// How long a broker is waited for that says nothing about the certificate that it was shown.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// A connection with TLS, as the transport takes it. The reader holds back at most one byte, and nothing after that.
pub(super) type Connected = TokioIo<BufReader<TlsStream<TcpStream>>>;

/// Makes connections to one host.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Credentials,
    pub(super) authorization: Arc<Authorization>,
    /// Whether a connection was made: what cannot be used from then on may be about to be replaced.
    pub(super) has_connected: AtomicBool,
}

/// Why a connection cannot be trusted, or is not taken, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Problem(String);

fn problem(text: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Problem(text.to_string()))
}

/// What is wrong with a file of certificates or keys.
fn unusable(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, Unshowable(text))
}

impl Secure {
    pub(super) async fn connect(self: Arc<Self>) -> io::Result<Connected> {
        self.authorization.read_again();
        let config = self.config().map_err(|error| match self.has_connected.load(Ordering::Relaxed) {
            true => problem(error),
            false => error,
        })?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_no_name| {
            problem(format!("`{}` is no name that a certificate can be for", self.host))
        })?;
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        let shown = self.credentials.certificate.as_ref().map(|(certificate, _)| certificate.as_path());
        let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let mut stream = BufReader::with_capacity(1, connected.map_err(|error| explained(error, shown))?);
        if let Some(shown) = shown {
            certificate_is_taken(&mut stream).await.map_err(|error| not_taken(error, shown))?;
        }
        self.has_connected.store(true, Ordering::Relaxed);
        Ok(TokioIo::new(stream))
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &self.credentials.authorities {
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| {
                    unusable(format!(
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
                    .map_err(|error| unusable(format!("`{shown}` cannot be read: {error}")))?;
                let key = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| unusable(format!("`{shown}` has no private key (PEM): {error}")))?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| {
                    unusable(format!("`{}` and `{shown}` do not go together: {error}", certificate.display()))
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).map_err(|error| unusable(format!("`{shown}` cannot be read: {error}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = read.map_err(|error| unusable(format!("`{shown}` is no PEM: {error}")))?;
    if all.is_empty() {
        return Err(unusable(format!("`{shown}` has no certificate (PEM)")));
    }
    Ok(all)
}

/// Waits until the broker has taken the certificate that was shown. With TLS 1.3 it looks at it when this side has finished
/// already, and a call that is sent at once meets no more than a connection that ends.
async fn certificate_is_taken(stream: &mut BufReader<TlsStream<TcpStream>>) -> io::Result<()> {
    if stream.get_ref().get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    let taken = poll_fn(|context| {
        let polled = Pin::new(&mut *stream).poll_fill_buf(context).map_ok(<[u8]>::is_empty);
        match polled {
            Poll::Ready(Ok(true)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(false)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Tickets are for those alone whose certificate is taken.
            Poll::Pending if stream.get_ref().get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    // Who neither gives tickets nor speaks first may have taken it all the same.
    tokio::time::timeout(TAKEN_WITHIN, taken).await.unwrap_or(Ok(()))
}

/// Says why a connection ended on which this certificate was shown.
fn not_taken(error: io::Error, shown: &Path) -> io::Error {
    if tls_error(&error).is_some() {
        return explained(error, Some(shown));
    }
    let text = format!(
        "the broker ended the connection when it was shown the client certificate `{}` (MYCELIUM_CLIENT_CERT), and did not \
         say why: {error}",
        shown.display()
    );
    problem(text)
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Says what went wrong as somebody who has to mend it wants to hear it; with the client certificate that was shown.
fn explained(error: io::Error, shown: Option<&Path>) -> io::Error {
    let text = match tls_error(&error) {
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
        Some(TlsError::AlertReceived(alert)) => of_alert(*alert, shown),
        Some(other) => format!("TLS cannot be spoken with the broker: {other}"),
        None => return error,
    };
    problem(text)
}

/// What the broker has said before it ended the connection.
fn of_alert(alert: AlertDescription, shown: Option<&Path>) -> String {
    let why = match alert {
        AlertDescription::UnknownCA => {
            "it is not signed by an authority that the broker trusts (--tls-client-ca)"
        }
        // Mostly it is of an authority that has the name of one that is trusted, and another key.
        AlertDescription::DecryptError => {
            "it is not signed by an authority that the broker trusts (--tls-client-ca), or in a way that it does not take"
        }
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::UnsupportedCertificate => {
            "it is of a kind, or for a purpose, that the broker does not take"
        }
        AlertDescription::AccessDenied => "whoever it names may not connect",
        AlertDescription::BadCertificate => "it is malformed",
        AlertDescription::CertificateUnknown => "the broker does not say what is wrong with it",
        AlertDescription::CertificateRequired => {
            return "the broker wants a client certificate; name its file in MYCELIUM_CLIENT_CERT, and that of its key in \
                    MYCELIUM_CLIENT_KEY"
                .to_owned();
        }
        other => return format!("the broker ended the connection with the TLS alert {other:?}"),
    };
    let Some(shown) = shown else { return format!("the broker does not take who we are: {why}") };
    format!(
        "the broker does not take the client certificate `{}` (MYCELIUM_CLIENT_CERT): {why}",
        shown.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(alert: AlertDescription, shown: Option<&str>) -> String {
        let error = io::Error::new(io::ErrorKind::InvalidData, TlsError::AlertReceived(alert));
        explained(error, shown.map(Path::new)).to_string()
    }

    #[test]
    fn a_client_certificate_that_is_not_taken_is_told_with_the_reason() {
        for (of, part) in [
            (AlertDescription::UnknownCA, "not signed by"),
            (AlertDescription::DecryptError, "not signed by"),
            (AlertDescription::CertificateExpired, "has expired"),
            (AlertDescription::CertificateRevoked, "revoked"),
            (AlertDescription::CertificateUnknown, "does not say"),
        ] {
            let told = alert(of, Some("own.pem"));
            let begins = "the broker does not take the client certificate `own.pem` (MYCELIUM_CLIENT_CERT): ";
            assert!(told.starts_with(begins) && told.contains(part), "{told}");
        }
        assert!(alert(AlertDescription::CertificateRequired, None).contains("MYCELIUM_CLIENT_KEY"));
        let other = alert(AlertDescription::ProtocolVersion, Some("own.pem"));
        assert_eq!(other, "the broker ended the connection with the TLS alert ProtocolVersion");
        let cut = not_taken(io::ErrorKind::ConnectionReset.into(), Path::new("own.pem")).to_string();
        assert!(
            cut.contains("`own.pem` (MYCELIUM_CLIENT_CERT)") && cut.ends_with("connection reset"),
            "{cut}"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_a_mistake_before_the_first_connection_alone() {
        for has_connected in [false, true] {
            let credentials =
                Credentials { authorities: Some("/nonexistent/ca.pem".into()), ..Credentials::default() };
            let secure = Secure {
                host: "localhost".to_owned(),
                port: 1,
                credentials,
                authorization: Arc::new(Authorization::new(None)),
                has_connected: AtomicBool::new(has_connected),
            };
            let error = Arc::new(secure).connect().await.err().unwrap();
            assert!(error.to_string().contains("/nonexistent/ca.pem` cannot be read"), "{error}");
            let is_mistake = error.get_ref().is_some_and(|inner| inner.is::<Unshowable>());
            assert_eq!(is_mistake, !has_connected);
        }
    }
}
