//! Runs the double as a program, for clients in other languages and for brokers that are killed:
//! `cargo run -p arangodb-double --example serve -- --port 8529 --latency-ms 5`.
//!
//! It prints its URL; the password of `root` is `secret`, unless `--password` says another; and it ends with its input.
//! `--each 0.02` gives each fault of a single server that often, `--seed` decides when; `--help` names the rest.

use std::io::{Error, Read as _, Write as _};
use std::str::FromStr;
use std::time::Duration;

use arangodb_double::{Double, Faults, Rates};

const HELP: &str = "\
--port N             of 127.0.0.1; without it any that is free
--password TEXT      of root (secret)
--version TEXT       (3.12.5)
--sharding TEXT      a cluster whose databases are sharded so: single, flexible
--latency-ms N       added to every request
--slow-commit-ms N   between the run of a statement and its commit
--clock-ahead-ms N   of the server's clock
--token-life-s N     how long a login lasts (3600)
--seed N             of the faults by chance
--each P             each fault of a single server by that chance, from 0 to 1
--unavailable P, --proxy-unavailable P, --conflict P, --drop-before P, --drop-after P,
--write-concern P, --cluster-timeout P
                     one of the faults by that chance
--read-only          writes are refused with 1004
--no-license         there is nowhere to ask for the licence
--bare-plans         plans lack their nodes
--open               nobody needs to log in";

fn parsed<T: FromStr>(flag: &str, value: Option<String>) -> Result<T, Error> {
    let parsed = value.and_then(|value| value.parse().ok());
    parsed.ok_or_else(|| Error::other(format!("{flag} wants another value\n{HELP}")))
}

struct Wanted {
    port: u16,
    password: String,
    seed: u64,
    faults: Faults,
}

fn wanted() -> Result<Wanted, Error> {
    let mut wanted = Wanted { port: 0, password: "secret".to_owned(), seed: 1, faults: Faults::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let faults = &mut wanted.faults;
        let milliseconds = |value| parsed(&flag, value).map(Duration::from_millis);
        match flag.as_str() {
            "--port" => wanted.port = parsed(&flag, arguments.next())?,
            "--password" => wanted.password = parsed(&flag, arguments.next())?,
            "--seed" => wanted.seed = parsed(&flag, arguments.next())?,
            "--version" => faults.version = parsed(&flag, arguments.next())?,
            "--sharding" => {
                faults.sharding = Some(parsed(&flag, arguments.next())?);
                "COORDINATOR".clone_into(&mut faults.role);
            }
            "--latency-ms" => faults.latency = milliseconds(arguments.next())?,
            "--slow-commit-ms" => faults.slow_commit = milliseconds(arguments.next())?,
            "--clock-ahead-ms" => faults.clock_ahead_ms = parsed(&flag, arguments.next())?,
            "--token-life-s" => {
                faults.token_life = Duration::from_secs(parsed(&flag, arguments.next())?);
            }
            "--each" => faults.rates = Rates::each(parsed(&flag, arguments.next())?),
            "--unavailable" => faults.rates.unavailable = parsed(&flag, arguments.next())?,
            "--proxy-unavailable" => faults.rates.proxy_unavailable = parsed(&flag, arguments.next())?,
            "--conflict" => faults.rates.conflict = parsed(&flag, arguments.next())?,
            "--drop-before" => faults.rates.drop_before = parsed(&flag, arguments.next())?,
            "--drop-after" => faults.rates.drop_after = parsed(&flag, arguments.next())?,
            "--write-concern" => faults.rates.write_concern = parsed(&flag, arguments.next())?,
            "--cluster-timeout" => faults.rates.cluster_timeout = parsed(&flag, arguments.next())?,
            "--read-only" => faults.read_only = true,
            "--no-license" => faults.license = None,
            "--bare-plans" => faults.plan_without_nodes = true,
            "--open" => faults.authentication = false,
            _ => return Err(Error::other(format!("{flag} is not known\n{HELP}"))),
        }
    }
    Ok(wanted)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Wanted { port, password, seed, faults } = wanted()?;
    let double = Double::start_at(port, &password, faults, seed).await?;
    writeln!(std::io::stdout(), "{}", double.url())?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    ended.map_err(std::io::Error::other)??;
    for unknown in double.unknown() {
        writeln!(std::io::stderr(), "unknown: {unknown}")?;
    }
    Ok(())
}
