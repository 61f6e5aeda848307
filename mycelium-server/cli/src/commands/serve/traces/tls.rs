//! How a collector proves what it is, and the broker to it.

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::variables::of_traces;

/// What the variables ask for: the authorities of `..._CERTIFICATE` alone, or else those that are publicly trusted.
///
/// # Errors
/// Everything that is wrong with the files that they name.
pub(super) fn config(variable: impl Fn(&str) -> Option<String>) -> Result<ClientTlsConfig, Vec<String>> {
    let mut problems = Vec::new();
    let mut read = |name: &str, is_right: &dyn Fn(&[u8]) -> bool, what: &str| {
        let [own, of_all] = of_traces(name);
        let name = if variable(&own).is_some() { own } else { of_all };
        let path = variable(&name)?;
        match std::fs::read(&path) {
            Ok(pem) if is_right(&pem) => return Some((name, pem)),
            Ok(_) => problems.push(format!("{name}: `{path}` has no {what} in PEM")),
            Err(error) => problems.push(format!("{name}: cannot read `{path}`: {error}")),
        }
        // It is there, as far as others depend on it.
        Some((name, Vec::new()))
    };
    let are_certificates = |pem: &[u8]| {
        let mut all = CertificateDer::pem_slice_iter(pem).peekable();
        all.peek().is_some() && all.all(|certificate| certificate.is_ok())
    };
    let authorities = read("CERTIFICATE", &are_certificates, "certificate");
    let own = read("CLIENT_CERTIFICATE", &are_certificates, "certificate");
    let key = read("CLIENT_KEY", &|pem| PrivateKeyDer::from_pem_slice(pem).is_ok(), "key");
    let config = ClientTlsConfig::new();
    let config = match authorities {
        Some((_, pem)) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_enabled_roots(),
    };
    let config = match (own, key) {
        (Some((_, certificate)), Some((_, key))) => config.identity(Identity::from_pem(certificate, key)),
        (None, None) => config,
        (Some((name, _)), None) => {
            problems.push(format!("{name} needs a key beside it: OTEL_EXPORTER_OTLP_CLIENT_KEY"));
            config
        }
        (None, Some((name, _))) => {
            problems
                .push(format!("{name} needs a certificate beside it: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"));
            config
        }
    };
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_told_of_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(at("cert"), made.cert.pem()).unwrap();
        std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(at("nonsense"), "nonsense").unwrap();
        let told = |given: &[(&str, &str)]| {
            let of = |name: &str| given.iter().find(|(of, _)| *of == name).map(|(_, file)| at(file));
            config(of).err().unwrap_or_default()
        };
        let all = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        let (certificate, key) =
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY");
        assert_eq!(told(&[(all, "cert"), (certificate, "cert"), (key, "key")]), [""; 0]);
        // That of traces wins.
        let own = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
        assert_eq!(told(&[(all, "missing"), (own, "cert")]), [""; 0]);
        let wrong = told(&[(all, "missing"), (certificate, "nonsense"), (key, "cert")]);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        for (problem, name) in wrong.iter().zip([all, certificate, key]) {
            assert!(problem.starts_with(&format!("{name}: ")), "{problem}");
        }
        for alone in [(certificate, "cert"), (key, "key")] {
            let told = told(&[alone]);
            assert!(told.len() == 1 && told[0].starts_with(alone.0), "{told:?}");
        }
    }
}
