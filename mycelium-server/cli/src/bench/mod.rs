//! `mycelium bench`: measures a broker, an elf and a client, each in a process of its own, with real fsync, and checks
//! afterwards that everything survived the broker's sudden death.

mod elf;
mod payload;
mod processes;
mod report;
mod verify;
mod workloads;

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, ValueEnum};
use elf_runtime::Mycelium;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use elf::{ElfArgs, serve_elf};
use processes::{BrokerProcess, ElfProcess};
pub(crate) use report::Report;

use crate::errors::Misuse;

/// How long a broker or an elf may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Measures jobs per second, latency, and memory on this machine.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    workload: Workload,
    /// How many jobs (of payload, see --rounds). Default: 100000 for throughput, 1000 for latency and chain, 10000 for fan, 1000000 for backlog.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    jobs: Option<u64>,
    /// Measure this broker instead of starting one in a temporary folder. It is neither killed
    /// nor started again, so that part of the check is left out.
    #[arg(long, value_name = "URL")]
    connect: Option<String>,
    /// The store of the broker that is started, as `mycelium serve` takes it, with the same variables beside it. The jobs
    /// stay in the mycelium `default` of an ArangoDB server.
    #[arg(long, value_name = "STORE", conflicts_with = "connect")]
    store: Option<String>,
    /// How many jobs the elf runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    concurrency: u32,
    /// How many jobs the elf holds at once; at least those that it runs.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    window: u32,
    /// For payload: how many integers the list has. Default: 100000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    elements: Option<u32>,
    /// For payload: how many times it is sent and returned; three times more before the clock starts. Default: 20.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// For throughput: each job takes a value on which an operation is recorded, and which the broker computes.
    #[arg(long)]
    with_operation: bool,
    /// For throughput: each job has rules by which it is tried again, and a run timeout.
    #[arg(long)]
    with_policy: bool,
    /// For backlog: each job begins at a second of its own, an hour from now at the earliest.
    #[arg(long)]
    delayed: bool,
}

/// What payload sends unless it is told otherwise, and how often.
const ELEMENTS_DEFAULT: u32 = 100_000;
const ROUNDS_DEFAULT: u32 = 20;

/// The largest window that a broker allows.
const WINDOW_MAX: i64 = mycelium_proto::limits::WINDOW_MAX as i64;

impl Args {
    /// Checks what the flags say together.
    fn check(&self) -> Result<(), Misuse> {
        let Self { concurrency, window, .. } = self;
        if window < concurrency {
            return Err(Misuse(format!(
                "--window {window} is less than --concurrency {concurrency}: an elf holds what it runs"
            )));
        }
        if self.with_operation && self.workload != Workload::Throughput {
            return Err(Misuse("--with-operation is for throughput".to_owned()));
        }
        if self.with_policy && self.workload != Workload::Throughput {
            return Err(Misuse("--with-policy is for throughput".to_owned()));
        }
        if self.delayed && self.workload != Workload::Backlog {
            return Err(Misuse("--delayed is for backlog".to_owned()));
        }
        if self.workload == Workload::Payload {
            if self.jobs.is_some() {
                return Err(Misuse(
                    "--jobs is not for payload, which takes --elements and --rounds".to_owned(),
                ));
            }
        } else if self.elements.is_some() || self.rounds.is_some() {
            let flag = if self.elements.is_some() { "--elements" } else { "--rounds" };
            return Err(Misuse(format!("{flag} is for payload")));
        }
        if self.workload == Workload::Backlog && self.connect.is_some() {
            return Err(Misuse("backlog starts and kills its own broker: leave out --connect".to_owned()));
        }
        Ok(())
    }
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Independent jobs that return what they are given, as many a second as possible.
    Throughput,
    /// One job at a time, from its submission to its output.
    Latency,
    /// Jobs that each take the output of the one before.
    Chain,
    /// One job, then many that take its output, then one that adds up all of theirs.
    Fan,
    /// A long list of integers, one at a time, to a task and back, as the program that calls it sees it.
    Payload,
    /// Jobs that wait for an elf that is not there: memory per job, and how long a restart takes.
    Backlog,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Chain => "chain",
            Self::Fan => "fan",
            Self::Payload => "payload",
            Self::Backlog => "backlog",
        }
    }

    fn jobs_default(self) -> u64 {
        match self {
            Self::Throughput => 100_000,
            Self::Latency | Self::Chain => 1_000,
            Self::Payload => ROUNDS_DEFAULT.into(),
            Self::Fan => 10_000,
            Self::Backlog => 1_000_000,
        }
    }
}

/// Runs a workload and checks what it left behind. When it is interrupted, nothing is left behind.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    args.check()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // An interrupt ends the processes that are measured as well; that they have ended is then not worth reporting.
        biased;
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to terminate"),
        report = measure(args) => report,
    }
}

async fn measure(args: Args) -> anyhow::Result<Report> {
    let n = args.jobs.unwrap_or_else(|| args.workload.jobs_default());
    let mut broker = match &args.connect {
        Some(url) => BrokerProcess::foreign(url.clone()),
        None => BrokerProcess::start(args.store.clone()).await?,
    };
    let mycelium = Mycelium::connect(broker.url()).await?;
    let status = mycelium.get_status(Default::default()).await?;

    let (mut report, expected) = match args.workload {
        Workload::Backlog => workloads::backlog(&mut broker, &mycelium, n, args.delayed).await?,
        workload => {
            let elf = ElfProcess::start(broker.url(), args.concurrency, args.window).await?;
            let measured = match workload {
                Workload::Throughput => workloads::throughput(&mycelium, n, &args).await,
                Workload::Latency => workloads::latency(&mycelium, n).await,
                Workload::Chain => workloads::chain(&mycelium, n).await,
                Workload::Fan => workloads::fan(&mycelium, n).await,
                Workload::Payload => {
                    let elements = args.elements.unwrap_or(ELEMENTS_DEFAULT);
                    payload::run(&mycelium, elements, args.rounds.unwrap_or(ROUNDS_DEFAULT)).await
                }
                Workload::Backlog => bail!("backlog has no elf"),
            };
            elf.stop().await?;
            measured.with_context(|| format!("the workload {} did not end well", workload.name()))?
        }
    };
    report.durable = status.durable;
    if broker.is_ours() {
        if args.workload != Workload::Backlog {
            broker.kill_and_restart().await?;
        }
        let mycelium = Mycelium::connect(broker.url()).await?;
        verify::outputs(&mycelium, &expected)
            .await
            .context("after the broker was killed and started again")?;
        report.notes.push(
            "broker killed with SIGKILL and started again afterwards: all outputs there and right".to_owned(),
        );
        broker.stop().await?;
    } else {
        verify::outputs(&mycelium, &expected).await?;
        report.notes.push("all outputs there and right; the broker is not ours to kill".to_owned());
    }
    Ok(report)
}
