//! Certificates, identities, and where they are needed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use mycelium_server::{Access, AccessFiles, Tls, TlsFiles};

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
#[derive(Debug)]
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

/// A setting that is a text.
fn text<'a>(reader: &Reader<'a>, name: &str) -> Option<&'a str> {
    reader.given.text(name).map(str::trim).filter(|text| !text.is_empty())
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads the settings, and the files that they name.
pub(super) fn read(reader: &mut Reader<'_>) -> Secured {
    let insecure = reader.own("insecure", boolean).unwrap_or(false);
    let before = reader.problems.len();
    let tls = tls(reader);
    let access = access(reader);
    let is_sound = reader.problems.len() == before;
    let has = (tls.is_some(), access.asks());
    let listen = reader.own("listen", |text| {
        let address = read_address(text, "127.0.0.1:7420")?;
        // What is wrong with them is said already.
        if is_sound { allowed(address, has, insecure) } else { Ok(address) }
    });
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
    reader.problems.push(problem);
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
        return Access::unrestricted().with_allowed_hosts(hosts);
    };
    if !hosts.is_empty() {
        problems.push(
            "--allowed-hosts is for brokers without --tokens: with them, no name lets anybody in".to_owned(),
        );
    }
    let is_sound = problems.is_empty();
    reader.problems.extend(problems);
    if !is_sound {
        return Access::unrestricted();
    }
    let mut files = AccessFiles::new(identities);
    files.jwt_keys = keys;
    files.jwt_audience = audience.map(names).unwrap_or_default();
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
