//! `mycelium serve`: the broker.
//!
//! Standard output gets exactly one line, when the broker answers:
//!
//! ```text
//! mycelium ready: listening on 127.0.0.1:7420, store embedded in ./mycelium-data, pid 123
//! mycelium ready: listening on 127.0.0.1:7420, store memory, pid 123
//! mycelium ready: listening on 127.0.0.1:7420, store arangodb at http://localhost:8529, pid 123
//! ```
//!
//! The address is the bound one, also where port 0 was asked for. Where there is an admin listener, its address follows that:
//! `listening on 127.0.0.1:7420, admin on 127.0.0.1:7422, store memory, pid 123`. Logs go to standard error. A service manager
//! is told the same, and when the broker stops.

mod given;
mod logging;
mod manager;
mod port;
mod sample;
mod settings;
mod signals;
mod traces;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use mycelium_server::store::MemoryStore;
use mycelium_server::{Admin, Broker, Error, StartError};
use serde_json::json;
use tokio::sync::oneshot;

use self::logging::Limits;
use self::port::{Handed, Port};
pub(crate) use self::settings::{Args, DATA_DIR};
use self::settings::{LogFormat, Settings, StoreKind};
use self::signals::Signals;
use self::traces::Traces;
use crate::errors;
use crate::output::Output;

/// Runs the broker until it is told to stop.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<()> {
    if args.sample_config {
        return match output.is_json() {
            true => Ok(output.json(&json!({ "text": sample::text() }))?),
            false => Ok(output.verbatim(&sample::text())?),
        };
    }
    let (print_config, check_config) = (args.print_config, args.check_config);
    let handed = Handed::take()?;
    let settings = Settings::read(args, handed.as_ref().map(|handed| handed.address), traces::problems())?;
    if print_config {
        return Ok(settings.print(output)?);
    }
    let traces = Traces::of_environment()?;
    if check_config {
        return match output.is_json() {
            true => Ok(output.json(&json!({ "valid": true }))?),
            false => Ok(output.line("the settings are right")?),
        };
    }
    let limits = logging::start(&settings, &traces)?;
    mycelium_server::log_panics();
    match serve(handed, &settings, traces, limits, output).await {
        // Whoever reads the log as JSON reads nothing else there.
        Err(error) if matches!(settings.log_format, LogFormat::Json) => {
            tracing::error!(error = errors::sentence(&error), "the broker has ended");
            Err(errors::Logged.into())
        }
        ended => ended,
    }
}

async fn serve(
    handed: Option<Handed>,
    settings: &Settings,
    traces: Traces,
    limits: Limits,
    output: Output,
) -> anyhow::Result<()> {
    if let Err(error) = mycelium_server::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files and connections stays as it was");
    }
    // What the broker stores is for nobody else on this machine.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    // Who is told to stop before there is a broker stops at once: a container has nobody else to end it.
    let mut signals = Signals::listen().context("cannot wait for signals")?;
    // The port is taken first, so that a second broker leaves the folder alone; but nobody is answered before the
    // store is read.
    let port = Port::take(handed, settings.secured.listen)?;
    // Whoever waits for the broker is answered from now on, and told that it has no store yet.
    let admin = match settings.admin_listen {
        Some(address) => Some(listen_for_admins(address).await?),
        None => None,
    };
    // This may wait for a disk, a database, or the lease of the last broker.
    let opening = settings.clone();
    let opening = tokio::task::spawn_blocking(move || open(&opening));
    let opened = tokio::select! {
        opened = opening => opened.context("the opening of the store was broken off")?,
        // It is left where it is, as by a crash.
        () = signals.before_begun() => return Ok(()),
    };
    let mut broker = opened.map_err(|error| with_help(error, settings))?;
    broker = broker.with_access(settings.secured.access.clone());
    if let Some(tls) = &settings.secured.tls {
        broker = broker.with_tls(tls.clone());
    }
    let admin_address = admin.as_ref().map(Admin::address);
    if let Some(admin) = admin {
        broker = broker.with_admin(admin);
    }
    let listener = port.listen()?;
    let address = listener.local_addr().context("cannot tell the address that is listened on")?;
    let (stop, stopped) = oneshot::channel();
    let mut serving = Box::pin(broker.serve(listener, async { stopped.await.unwrap_or(()) }));
    announce(settings, address, admin_address, output)?;
    tokio::select! {
        // Not dropped by a second signal: that takes its time.
        served = &mut serving => served?,
        never = limits.tell_always() => match never {},
        never = traces.tell_always() => match never {},
        code = signals.twice(stop) => std::process::exit(code),
    }
    limits.tell();
    traces.flush().await;
    tracing::info!("stopped");
    Ok(())
}

async fn listen_for_admins(address: SocketAddr) -> anyhow::Result<Admin> {
    let admin = Admin::bind(address).await.map_err(|error| match error {
        Error::Listen { source, .. } => port::cannot_listen(address, source, "--admin-listen"),
        error => anyhow::Error::new(error),
    })?;
    tracing::info!(address = %admin.address(), "the admin listener answers");
    Ok(admin)
}

fn open(settings: &Settings) -> Result<Broker, Error> {
    let config = settings.config.clone();
    match &settings.store {
        StoreKind::Embedded => Broker::open_with(config, &settings.data_dir),
        StoreKind::Database(server) => Broker::open_database(config, server, &settings.data_dir),
        StoreKind::Memory => {
            tracing::warn!("everything is kept in memory and lost when the broker stops");
            Broker::with_store(config, Arc::new(MemoryStore::new()))
        }
    }
}

/// Says of damage, and of a folder that belongs to somebody else, what can be done.
fn with_help(error: Error, settings: &Settings) -> anyhow::Error {
    let is_damage = match &error {
        Error::Store(error) | Error::Start(StartError::Store(error)) => error.is_damage(),
        Error::Start(StartError::Restore(_)) => true,
        _ => false,
    };
    let error = anyhow::Error::new(error);
    if is_denied(&error) {
        return error.context(format!("the broker cannot start ({})", help_with_owner(&settings.data_dir)));
    }
    if !is_damage {
        return error;
    }
    let help = match &settings.store {
        StoreKind::Database(server) => format!("look the server over with: mycelium store check {server}"),
        StoreKind::Embedded | StoreKind::Memory => {
            let folder = settings.data_dir.display();
            format!(
                "look the folder over with: mycelium store check {folder}; save what can be read with: mycelium store \
                 salvage {folder} NEW"
            )
        }
    };
    error.context(format!("the broker cannot start ({help})"))
}

fn is_denied(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// What makes the data folder one of this process's own. In a container that is mostly a folder of the host that belongs
/// to whoever made it.
fn help_with_owner(folder: &Path) -> String {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let shown = folder.display();
    let make = if folder.exists() { String::new() } else { format!("mkdir -p {shown} && ") };
    format!(
        "it runs as uid {uid}, which may not use {shown}; give it the folder, or what is mounted there, with: {make}chown -R \
         {uid}:{gid} {shown}"
    )
}

fn announce(
    settings: &Settings,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    output: Output,
) -> anyhow::Result<()> {
    let store = match &settings.store {
        StoreKind::Embedded => format!("embedded in {}", settings.data_dir.display()),
        StoreKind::Memory => "memory".to_owned(),
        StoreKind::Database(server) => format!("arangodb at {server}"),
    };
    let pid = std::process::id();
    tracing::info!(%address, store, pid, "ready");
    let admin = admin.map(|admin| format!("admin on {admin}, ")).unwrap_or_default();
    let ready = format!("listening on {address}, {admin}store {store}, pid {pid}");
    manager::ready(&ready);
    // A broker serves on even if whoever started it does not read.
    if let Err(error) = output.line(&format!("mycelium ready: {ready}")) {
        tracing::warn!(%error, "the ready line could not be printed");
    }
    Ok(())
}
