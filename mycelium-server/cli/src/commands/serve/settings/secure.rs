//! Certificates, identities, and where they are needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use mycelium_server::{Access, AccessFiles, Tls, TlsFiles};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};

use super::{ANY, Own, Reader, boolean, read_address};

/// The settings of it.
pub(super) const OWN: [Own; 9] = [
    Own {
        name: "tls_cert",
        unit: "FILE",
        default: "",
        help: "The certificate of the broker and those between it and its authority (PEM), with which it speaks TLS. Read again \
               when it changes.",
        choices: ANY,
    },
    Own {
        name: "tls_key",
        unit: "FILE",
        default: "",
        help: "The private key of that certificate (PEM).",
        choices: ANY,
    },
    Own {
        name: "tls_client_ca",
        unit: "FILE",
        default: "",
        help: "The authorities (PEM) of clients that show a certificate; who they are is said in the file of --tokens.",
        choices: ANY,
    },
    Own {
        name: "tokens",
        unit: "FILE",
        default: "",
        help: "The file that says who may do what (TOML: [[token]], [[certificate]] and [[claim]]), read again when it changes. \
               With it, whoever is not named there may do nothing.",
        choices: ANY,
    },
    Own {
        name: "jwt_keys",
        unit: "FILE",
        default: "",
        help: "The public keys (JWKS) with which JSON Web Tokens are checked, read again when they change; what their claims \
               allow is said in the file of --tokens.",
        choices: ANY,
    },
    Own {
        name: "jwt_audience",
        unit: "NAME",
        default: "",
        help: "For whom JSON Web Tokens have to be: what `aud` has to name.",
        choices: ANY,
    },
    Own {
        name: "jwt_issuer",
        unit: "NAME",
        default: "",
        help: "By whom JSON Web Tokens have to be: what `iss` has to be. Without it, whoever has the key.",
        choices: ANY,
    },
    Own {
        name: "allowed_hosts",
        unit: "NAMES",
        default: "",
        help: "By which further names a broker without --tokens may be called, separated by commas. On a loopback address it is \
               called by loopback names only, so that no web page reaches it.",
        choices: ANY,
    },
    Own {
        name: "insecure",
        unit: "BOOL",
        default: "false",
        help: "Listens on an address that other machines can reach, although whoever reaches it may do everything, or can read \
               what others send.",
        choices: ANY,
    },
];

/// How the broker is secured.
#[derive(Debug, Clone)]
pub(in super::super) struct Secured {
    pub(in super::super) listen: SocketAddr,
    pub(in super::super) tls: Option<Tls>,
    pub(in super::super) access: Access,
    pub(super) insecure: bool,
    /// The others as they were given, by name.
    pub(super) shown: BTreeMap<&'static str, String>,
}

/// A setting that is a file, as it was given.
fn file(reader: &Reader<'_>, name: &str) -> Option<PathBuf> {
    reader.given.path(name).filter(|file| !file.as_os_str().is_empty())
}

fn has(reader: &Reader<'_>, name: &str) -> bool {
    file(reader, name).is_some()
}

/// Looks at a file that is of no use yet, so that all that is wrong is told at once.
fn look(reader: &mut Reader<'_>, name: &'static str) {
    let Some(file) = file(reader, name) else { return };
    if let Err(error) = File::open(&file).and_then(|mut file| file.read(&mut [0])) {
        let place = reader.given.place(name);
        reader.problems.push(format!("{place}: `{}` cannot be read: {error}", file.display()));
    }
}

/// The authorities of the servers of databases. They are read again when one is opened.
pub(super) fn store_ca(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let file = file(reader, "store_ca")?;
    let problem = match CertificateDer::pem_file_iter(&file).map(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(Ok(certificates)) if !certificates.is_empty() => return Some(file),
        Ok(Ok(_)) => "has no certificate (PEM)".to_owned(),
        Err(pem::Error::Io(error)) => format!("cannot be read: {error}"),
        Ok(Err(error)) | Err(error) => format!("is no PEM: {error}"),
    };
    reader.problems.push(format!("{}: `{}` {problem}", reader.given.place("store_ca"), file.display()));
    Some(file)
}

/// A setting that is a text.
fn text<'a>(reader: &Reader<'a>, name: &str) -> Option<&'a str> {
    reader.given.text(name).map(str::trim).filter(|text| !text.is_empty())
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads the settings, and the files that they name.
pub(super) fn read(reader: &mut Reader<'_>) -> Secured {
    let insecure = reader.own("insecure", boolean);
    let (tls, access) = (tls(reader), access(reader));
    // Those that cannot be used are told already, and not missing.
    let has = (has(reader, "tls_cert") || has(reader, "tls_key"), has(reader, "tokens"));
    let listen = reader.own("listen", |text| {
        // What cannot be read is not held against another.
        allowed(read_address(text, "127.0.0.1:7420")?, has, insecure.unwrap_or(true))
    });
    let insecure = insecure.unwrap_or(false);
    let shown = OWN.iter().filter_map(|own| {
        let value = reader.given.path(own.name)?;
        Some((own.name, value.to_string_lossy().into_owned()))
    });
    let shown = shown.collect();
    Secured { listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))), tls, access, insecure, shown }
}

fn tls(reader: &mut Reader<'_>) -> Option<Tls> {
    let [certificate, key, authorities] =
        ["tls_cert", "tls_key", "tls_client_ca"].map(|name| file(reader, name));
    let problem = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let mut files = TlsFiles::new(certificate, key);
            files.client_authorities = authorities;
            match Tls::from_files(files) {
                Ok(tls) => return Some(tls),
                Err(problem) => format!("{}: {problem}", reader.given.place("tls_cert")),
            }
        }
        (Some(_), None) => "--tls-cert needs its --tls-key".to_owned(),
        (None, Some(_)) => "--tls-key needs its --tls-cert".to_owned(),
        (None, None) if authorities.is_some() => {
            "--tls-client-ca needs --tls-cert and --tls-key: without TLS nobody shows a certificate"
                .to_owned()
        }
        (None, None) => return None,
    };
    let is_pair = has(reader, "tls_cert") && has(reader, "tls_key");
    reader.problems.push(problem);
    if !is_pair {
        for name in ["tls_cert", "tls_key", "tls_client_ca"] {
            look(reader, name);
        }
    }
    None
}

fn access(reader: &mut Reader<'_>) -> Access {
    let hosts = text(reader, "allowed_hosts").map(names).unwrap_or_default();
    let [identities, keys, client_ca] =
        ["tokens", "jwt_keys", "tls_client_ca"].map(|name| file(reader, name));
    let [audience, issuer] = ["jwt_audience", "jwt_issuer"].map(|name| text(reader, name));
    let given = |name: &str| text(reader, name).is_some();
    let mut problems = Vec::new();
    if keys.is_none() {
        for name in ["jwt_audience", "jwt_issuer"].into_iter().filter(|name| given(name)) {
            problems.push(format!("{} needs --jwt-keys", reader.given.place(name)));
        }
    } else if audience.is_none() {
        problems.push(
            "--jwt-keys needs --jwt-audience: tokens that are for somebody else are not to be taken"
                .to_owned(),
        );
    }
    let Some(identities) = identities else {
        for (name, is_given) in [("jwt_keys", keys.is_some()), ("tls_client_ca", client_ca.is_some())] {
            if is_given {
                problems
                    .push(format!("{} needs --tokens, which says who may do what", reader.given.place(name)));
            }
        }
        reader.problems.extend(problems);
        look(reader, "jwt_keys");
        return Access::unrestricted().with_allowed_hosts(hosts);
    };
    if !hosts.is_empty() {
        problems.push(
            "--allowed-hosts is for brokers without --tokens: with them, no name lets anybody in".to_owned(),
        );
    }
    reader.problems.extend(problems);
    let mut files = AccessFiles::new(identities);
    files.jwt_keys = keys;
    // That it is missing is said already, and the files are looked at all the same.
    files.jwt_audience = audience.map_or_else(|| vec![String::new()], names);
    files.jwt_issuer = issuer.map(str::to_owned);
    Access::from_files(files).unwrap_or_else(|problem| {
        reader.problems.push(format!("{}: {problem}", reader.given.place("tokens")));
        Access::unrestricted()
    })
}

/// Sees to it that nobody is let in by accident.
fn allowed(
    address: SocketAddr,
    (has_tls, has_identities): (bool, bool),
    insecure: bool,
) -> anyhow::Result<SocketAddr> {
    if address.ip().is_loopback() || insecure || (has_tls && has_identities) {
        return Ok(address);
    }
    let danger = match (has_tls, has_identities) {
        (false, true) => "whoever is between can read tokens and values",
        (true, false) => "whoever reaches it may do everything",
        _ => "whoever reaches it may do everything, and whoever is between reads everything",
    };
    bail!(
        "other machines can reach {address}, and {danger}; give it certificates and identities (--tls-cert FILE --tls-key FILE \
         --tokens FILE, or MYCELIUM_TLS_CERT, MYCELIUM_TLS_KEY and MYCELIUM_TOKENS), or a loopback address such as \
         127.0.0.1:7420, or accept that with --insecure (docker run -p 127.0.0.1:7420:7420 -e MYCELIUM_INSECURE=1 IMAGE)"
    )
}
