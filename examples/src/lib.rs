//! What the examples share.

use anyhow::Context as _;
use mycelium_server::store::arango::Address;
use mycelium_server::{Broker, Config, RunningBroker};

/// Where a broker keeps large values if the rest is in a database, unless it has a folder anyway.
const DATA_FOLDER: &str = "mycelium-data";

/// Starts the broker that an example brings along, on any port that is free: on the ArangoDB server that `MYCELIUM_STORE`
/// names, or else on this folder, or in memory.
///
/// # Errors
/// If the broker cannot be started.
pub async fn broker(folder: Option<&str>) -> anyhow::Result<RunningBroker> {
    let server = Address::of_environment()?;
    let folder = folder.map(str::to_owned);
    let open = move || match (server, folder) {
        (Some(server), folder) => {
            Broker::open_database(Config::default(), &server, folder.as_deref().unwrap_or(DATA_FOLDER))
        }
        (None, Some(folder)) => Broker::open(folder),
        (None, None) => Broker::in_memory(),
    };
    let broker = tokio::task::spawn_blocking(open).await?;
    let broker = broker.context(
        "cannot start a broker (does one that runs use the same folder or database? then name it with --url)",
    )?;
    Ok(broker.bind("127.0.0.1:0").await?)
}

/// How people start the command line: the one that was built beside the example, or one that has to be built first.
#[must_use]
pub fn mycelium_command() -> String {
    let built = std::env::current_exe().ok().and_then(|program| {
        let beside = program.with_file_name(format!("mycelium{}", std::env::consts::EXE_SUFFIX));
        beside.is_file().then_some(beside)
    });
    match built {
        Some(mycelium) => mycelium.display().to_string(),
        None => "cargo run --release --bin mycelium --".to_owned(),
    }
}
