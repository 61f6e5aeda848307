//! Certificates of an authority that a test has to itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// A day, in which certificates are measured.
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM texts.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Where such a pair was written to.
#[derive(Debug, Clone)]
pub struct PairFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Pair {
    /// Writes it into a folder, as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> std::io::Result<PairFiles> {
        let files = PairFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, &self.certificate)?;
        std::fs::write(&files.key, &self.key)?;
        Ok(files)
    }
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Writes its certificate into a folder, as `NAME.pem`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> std::io::Result<PathBuf> {
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, &self.pem)?;
        Ok(file)
    }

    /// A certificate for these names and addresses, valid from yesterday for a few days.
    ///
    /// # Errors
    /// If a name cannot be in a certificate.
    pub fn pair(&self, names: &[&str]) -> anyhow::Result<Pair> {
        let now = SystemTime::now();
        self.pair_valid(names, now - DAY, now + 5 * DAY)
    }

    /// The same for a URI, as workloads are named.
    ///
    /// # Errors
    /// If it cannot be in a certificate.
    pub fn pair_uri(&self, uri: &str) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - DAY).into(), (now + 5 * DAY).into());
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        self.signed(&params)
    }

    /// The same, valid for some time.
    ///
    /// # Errors
    /// If a name cannot be in a certificate.
    pub fn pair_valid(&self, names: &[&str], from: SystemTime, to: SystemTime) -> anyhow::Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        (params.not_before, params.not_after) = (from.into(), to.into());
        self.signed(&params)
    }

    fn signed(&self, params: &CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}
