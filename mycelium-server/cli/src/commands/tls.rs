//! `mycelium tls`: certificates for trying things.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::errors::Misuse;
use crate::output::Output;

/// How long before now certificates begin, for clocks that are behind.
const BEFORE: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Makes certificates for trying things.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    SelfSigned(SelfSignedArgs),
}

/// Makes an authority of its own, and a certificate for a broker: `ca.pem`, `server.pem` and `server.key`.
///
/// The key of the authority is kept nowhere, so nobody can make further certificates with it. For anything that is to last,
/// use certificates of an authority that renews them.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {files}.\n\n\
    Example:\n  mycelium tls self-signed --out tls --host broker.lan\n  \
    mycelium serve --listen 0.0.0.0:7420 --tls-cert tls/server.pem --tls-key tls/server.key --tokens tokens.toml\n  \
    MYCELIUM_CA=tls/ca.pem MYCELIUM_URL=https://broker.lan:7420 mycelium jobs")]
struct SelfSignedArgs {
    /// The folder to write into; it is made if it is not there. Files that are there are not replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// By which further names or addresses the broker is reached, beside localhost, 127.0.0.1 and ::1; may be given several
    /// times.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// For how many days.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let Command::SelfSigned(args) = &args.command;
    let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|name| args.out.join(name));
    for file in [&ca, &certificate, &key] {
        if file.exists() {
            return Err(Misuse(format!("`{}` is there already", file.display())).into());
        }
    }
    let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(args.hosts.clone());
    let made = certificates(hosts.collect(), args.days)?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make `{}`", args.out.display()))?;
    write(&ca, &made.authority, 0o644)?;
    write(&certificate, &made.certificate, 0o644)?;
    write(&key, &made.key, 0o600)?;
    let files = [ca, certificate, key].map(|file| file.display().to_string());
    if output.is_json() {
        return Ok(output.json(&json!({ "files": files }))?);
    }
    Ok(output.text(&files.map(|file| format!("{file}\n")).concat())?)
}

/// PEM texts.
struct Made {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates(hosts: Vec<String>, days: u32) -> anyhow::Result<Made> {
    let until = SystemTime::now() + days * DAY;
    let named = |name: &str, mut params: CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (SystemTime::now() - BEFORE).into();
        params.not_after = until.into();
        params
    };
    let mut authority = named("Mycelium, for trying things", CertificateParams::default());
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate().context("cannot make a key")?;
    let authority_pem = authority.self_signed(&authority_key).context("cannot make an authority")?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let params = CertificateParams::new(hosts)
        .map_err(|error| Misuse(format!("--host: one of the names can be in no certificate: {error}")))?;
    let mut params = named("mycelium", params);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = params.signed_by(&key, &issuer).context("cannot make a certificate")?;
    Ok(Made { authority: authority_pem, certificate: certificate.pem(), key: key.serialize_pem() })
}

fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", file.display());
    let mut open = fs::OpenOptions::new();
    let mut written = open.write(true).create_new(true).mode(mode).open(file).with_context(cannot)?;
    written.write_all(text.as_bytes()).with_context(cannot)?;
    written.sync_all().with_context(cannot)
}
