//! `mycelium health`: whether a broker takes jobs, as an exit code, for containers and scripts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::output::{Output, format};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(3);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Says whether a broker takes jobs: exit code 0 if it does, and 1 with the reason if not. It asks the admin listener of the
/// broker (`serve --admin-listen`), changes nothing, and takes 3 seconds at most.
///
/// JSON: `{answer}`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mycelium health --admin 127.0.0.1:7422\n  \
    MYCELIUM_ADMIN_LISTEN=0.0.0.0:7422 mycelium health")]
pub(crate) struct Args {
    /// Where the admin listener is: an address, or a URL. What `serve` listens on at all addresses is asked at this machine's
    /// own.
    #[arg(long, env = "MYCELIUM_ADMIN_LISTEN", value_name = "URL")]
    admin: Option<String>,
    /// The file with the settings of `serve`, for what it says of `admin_listen`.
    #[arg(long, env = "MYCELIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Asks only whether the process turns, as for a broker that is still reading its store.
    #[arg(long)]
    live: bool,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<()> {
    let Args { admin, config, live } = args;
    let admin = match admin {
        Some(admin) => admin,
        None => config.as_deref().map(in_file).transpose()?.flatten().context(
            "it is not known where the broker's admin listener is: name it with --admin, or in MYCELIUM_ADMIN_LISTEN as \
             for mycelium serve",
        )?,
    };
    let place = place_of(&admin)?;
    let path = if live { "/livez" } else { "/readyz" };
    let asked = tokio::time::timeout(WITHIN, ask(&place, path)).await;
    let (status, answer) = asked
        .map_err(|_elapsed| anyhow::anyhow!("no answer within {} s", WITHIN.as_secs()))
        .and_then(|answered| answered)
        .with_context(|| format!("the broker's admin listener at {place} does not answer as it should"))?;
    ensure!(status == StatusCode::OK, "{answer} ({status})");
    if output.is_json() { Ok(output.json(&json!({ "answer": answer }))?) } else { Ok(output.line(&answer)?) }
}

/// What a file with settings says, if it does.
fn in_file(file: &Path) -> anyhow::Result<Option<String>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("`{shown}` cannot be read"))?;
    let table: toml::Table = text.parse().with_context(|| format!("`{shown}` is no TOML"))?;
    let admin = table.get("admin_listen").and_then(|value| value.as_str());
    Ok(admin.filter(|admin| !admin.is_empty()).map(str::to_owned))
}

/// Where to connect: host and port.
fn place_of(admin: &str) -> anyhow::Result<String> {
    if admin.starts_with("https://") {
        bail!("`{admin}`: the admin listener speaks plain HTTP");
    }
    let place = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/');
    if let Ok(address) = place.parse::<SocketAddr>() {
        let ip = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        return Ok(SocketAddr::new(ip, address.port()).to_string());
    }
    let is_named = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ':', '@', ' ']) && port.parse::<u16>().is_ok()
    });
    ensure!(is_named, "`{admin}` is no address of an admin listener, such as 127.0.0.1:7422");
    Ok(place.to_owned())
}

async fn ask(place: &str, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let socket = TcpStream::connect(place).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get(path).header(HOST, place).body(Empty::<Bytes>::new())?;
    let answered = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its answer cannot be read: {error}"))?.to_bytes();
        anyhow::Ok((status, format::one_line(String::from_utf8_lossy(&body).trim_end())))
    };
    // The connection moves what is asked and answered, and ends with the listener's.
    let (answered, _ended) = tokio::join!(answered, connection);
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serve_listens_on_is_asked_where_it_can_be_reached() {
        for (admin, place) in [
            ("127.0.0.1:7422", "127.0.0.1:7422"),
            ("0.0.0.0:7422", "127.0.0.1:7422"),
            ("[::]:7422", "[::1]:7422"),
            ("http://0.0.0.0:7422/", "127.0.0.1:7422"),
            ("http://broker.example:80", "broker.example:80"),
            ("localhost:7422", "localhost:7422"),
        ] {
            assert_eq!(place_of(admin).unwrap(), place, "{admin}");
        }
        for nonsense in
            ["", "7422", ":7422", "broker", "http://a/b:1", "a:b:1", "me@broker:1", "broker:99999", "a b:1"]
        {
            let told = place_of(nonsense).unwrap_err().to_string();
            assert!(told.contains("is no address of an admin listener"), "{told}");
        }
        assert!(place_of("https://127.0.0.1:7422").unwrap_err().to_string().contains("plain HTTP"));
    }
}
