//! Connections that are encrypted.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// Where there are a certificate for 127.0.0.1, its key, and the authority that signed it. They are good until 2126.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// The address of a server that encrypts what it says, until the tasks are dropped.
async fn encrypted(double: Double) -> (String, JoinSet<()>) {
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    let double = Arc::new(double);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, double) = (acceptor.clone(), Arc::clone(&double));
            connections.spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    double.serve(stream).await;
                }
            });
        }
    });
    (url, tasks)
}

/// What is told of a server that is asked once.
async fn told(address: &Address) -> Failure {
    let database = Server::new(address).unwrap().system().with_patience(Duration::ZERO);
    version(&database).await.unwrap_err()
}

#[tokio::test]
async fn a_server_is_trusted_if_its_authority_is() {
    let (url, _tasks) = encrypted(Double::start(PASSWORD).await.unwrap()).await;
    let address = Address::parse(&url).unwrap().with_credentials(ROOT, PASSWORD);
    let failure = told(&address).await;
    assert_eq!(failure.kind(), Kind::Certificate, "{failure}");
    assert!(failure.is_certainly_not_executed(), "{failure}");
    assert!(failure.to_string().contains("invalid peer certificate: UnknownIssuer"), "{failure}");
    assert!(failure.to_string().ends_with("the certificate of its authority if it has its own"), "{failure}");
    let server = Server::new(&address.with_ca(file("ca.pem"))).unwrap();
    assert_eq!(version(&server.system()).await.unwrap()["server"], "arango");

    // For another name than the one that it has.
    let other = Address::parse(&url.replace("127.0.0.1", "localhost")).unwrap().with_ca(file("ca.pem"));
    let failure = told(&other).await;
    assert!(failure.to_string().contains("not valid for name \"localhost\""), "{failure}");
}

#[tokio::test]
async fn http_and_https_are_told_apart() {
    let (url, _tasks) = encrypted(Double::start(PASSWORD).await.unwrap()).await;
    let failure = told(&Address::parse(&url.replace("https", "http")).unwrap()).await;
    assert_eq!(failure.kind(), Kind::NotArango, "{failure}");
    assert!(failure.to_string().contains("it may speak https"), "{failure}");

    let plain = Double::start(PASSWORD).await.unwrap();
    let failure = told(&Address::parse(&plain.url().replace("http", "https")).unwrap()).await;
    assert_eq!(failure.kind(), Kind::Certificate, "{failure}");
    assert!(failure.to_string().contains("check that it speaks https"), "{failure}");
}
