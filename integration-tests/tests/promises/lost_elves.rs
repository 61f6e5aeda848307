//! An elf that is gone is not waited for long, and one that is there is never taken for gone, however long it works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Job, Mycelium, list};
use integration_tests::wire::{self, WireElf};
use integration_tests::{
    BrokerProcess, Diary, Direction, ElfOptions, ElfProcess, Event, Proxy, Tester, Worker, must, until,
};
use mycelium_proto::limits::MESSAGE_BYTES_MAX;
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, connect_request, connect_response};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use tempfile::TempDir;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

/// Within which a stream that leads nowhere is healed, and what was lost with it is offered again: 12 s, and one for a
/// machine that is busy with other tests.
const HEALED_WITHIN: Duration = Duration::from_secs(13);

async fn start(config: Config) -> anyhow::Result<(RunningBroker, Client)> {
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    Ok((broker, client))
}

fn hello() -> v1::Hello {
    wire::hello(wire::declaration("scale", &[], &["n"]), 1)
}

async fn submit(client: &mut Client) -> anyhow::Result<Bytes> {
    let request = wire::submission(vec![wire::job("scale", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    Ok(job)
}

/// A worker whose tasks wait at a gate, on a connection that can be cut.
struct Gated {
    proxy: Proxy,
    folder: TempDir,
    worker: Worker,
    mycelium: Mycelium,
}

impl Gated {
    async fn start(broker: &RunningBroker, concurrency: u32) -> anyhow::Result<Self> {
        let proxy = Proxy::start(broker.address()).await?;
        let folder = tempfile::tempdir()?;
        let tester = Tester::with_diary(Diary::open(&folder.path().join("diary"))?);
        let through_proxy = Mycelium::connect(proxy.url()).await?;
        let worker = through_proxy.serve().elf("passer", tester).concurrency(concurrency).window(concurrency);
        let worker = Worker::start(worker).await?;
        Ok(Self { proxy, folder, worker, mycelium: Mycelium::connect(broker.url()).await? })
    }

    /// Submits jobs that run until the gate is open, and waits until they run and the broker knows.
    async fn run_long(&self, jobs: u64) -> anyhow::Result<(elf_runtime::Run, Vec<Job<u64>>)> {
        let flow = self.mycelium.flow("long");
        let tasks = Tester::tasks(&flow, "passer");
        let gate = self.folder.path().join("gate");
        let jobs: Vec<Job<u64>> = (0..jobs).map(|number| tasks.task_pass(number, gate.clone())).collect();
        let run = flow.submit().await?;
        until("the tasks to run", || async { Ok((self.started()?.len() == jobs.len()).then_some(())) })
            .await?;
        // What confirms them is on its way for a second at most.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((run, jobs))
    }

    fn started(&self) -> anyhow::Result<Vec<integration_tests::Entry>> {
        let entries = Diary::read([self.folder.path().join("diary")])?;
        Ok(entries.into_iter().filter(|entry| entry.event == Event::Started).collect())
    }

    /// Opens the gate, and makes sure that each of these jobs has run once.
    async fn ran_once(&self, jobs: &[Job<u64>]) -> anyhow::Result<()> {
        std::fs::write(self.folder.path().join("gate"), "")?;
        for job in jobs {
            let record = until("a long job to end", || async {
                let record = self.mycelium.job(job.id()).await?;
                Ok((record.status() == JobStatus::Done).then_some(record))
            })
            .await?;
            ensure!((record.attempt, record.elves_lost) == (1, 0), "{record:?}");
        }
        let started = Diary::attempts(&self.started()?, Event::Started);
        for job in jobs {
            ensure!(started.get(&job.id()) == Some(&vec![1]), "a job was started as {started:?}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_for_four_seconds_restart_nothing() -> anyhow::Result<()> {
    const AWAY: Duration = Duration::from_secs(4);
    let (broker, _client) = start(Config::default()).await?;
    let elf = Gated::start(&broker, 8).await?;
    let (_run, jobs) = elf.run_long(8).await?;
    let accepted = elf.proxy.accepted();
    elf.proxy.go_away();
    tokio::time::sleep(AWAY).await;
    elf.proxy.come_back();
    until("the worker to come back", || async { Ok((elf.proxy.accepted() > accepted).then_some(())) })
        .await?;
    // Longer than what was left of its lease.
    tokio::time::sleep(Config::default().lease_after_reset - AWAY + Duration::from_secs(1)).await;
    elf.ran_once(&jobs).await?;
    elf.worker.stop().await?;
    Ok(broker.stop().await?)
}

/// One worker alone: what it has not got, or what nobody hears of, is there again within the time.
async fn heals(holes: &[Direction], takes_over: bool) -> anyhow::Result<()> {
    let (broker, _client) = start(Config::default()).await?;
    let elf = Gated::start(&broker, 4).await?;
    let (_run, long) = elf.run_long(2).await?;
    holes.iter().for_each(|direction| elf.proxy.black_hole_of(*direction));
    let flow = elf.mycelium.flow("new");
    let sum: Job<u64> = Tester::tasks(&flow, "passer").task_add(list![1u64, 2], 0);
    let (began, run) = (Instant::now(), flow.submit().await?);
    let other = if takes_over {
        until("the job to be assigned", || async {
            Ok((elf.mycelium.job(sum.id()).await?.attempt == 1).then_some(()))
        })
        .await?;
        let worker = elf.mycelium.serve().elf("passer", Tester::default()).concurrency(4).window(4);
        Some(Worker::start(worker).await?)
    } else {
        None
    };
    let result = must("the new job", run.result(&sum)).await??;
    let took = began.elapsed();
    ensure!(result == 3 && took < HEALED_WITHIN, "it took {took:?}");
    let record = elf.mycelium.job(sum.id()).await?;
    let has_arrived = holes == [Direction::ToBroker];
    ensure!(record.attempt == if has_arrived { 1 } else { 2 }, "{record:?}");
    ensure!(has_arrived || took > Duration::from_secs(5), "it was offered again after {took:?}");
    ensure!(record.elves_lost == 0, "{record:?}");
    elf.ran_once(&long).await?;
    if let Some(other) = other {
        other.stop().await?;
    }
    elf.worker.stop().await?;
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_in_either_direction_is_healed_in_time_and_long_jobs_run_once() -> anyhow::Result<()> {
    use Direction::{ToBroker, ToElves};
    tokio::try_join!(
        async { heals(&[ToElves], false).await.context("to the elf") },
        async { heals(&[ToBroker], false).await.context("to the broker") },
        async { heals(&[ToElves, ToBroker], false).await.context("both") },
        async { heals(&[ToElves], true).await.context("to the elf, and another is there") },
        async { heals(&[ToBroker], true).await.context("to the broker, and another is there") },
        async { heals(&[ToElves, ToBroker], true).await.context("both, and another is there") },
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elf_that_is_killed_is_noticed_at_once_and_a_job_that_kills_costs_seconds() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("victim", 1, 1);
    let mut victim = ElfProcess::start(&broker.url(), &options).await?;
    let flow = mycelium.flow("held");
    let gates = tempfile::tempdir()?;
    let held: Job<u64> = Tester::tasks(&flow, "victim").task_pass(1, gates.path().join("gate"));
    flow.submit().await?;
    until("the job to run", || async { Ok((!Diary::read([victim.diary()])?.is_empty()).then_some(())) })
        .await?;
    let killed_at = Instant::now();
    victim.kill().await?;
    until("the loss to be noticed", || async {
        Ok((mycelium.job(held.id()).await?.elves_lost == 1).then_some(()))
    })
    .await?;
    let took = killed_at.elapsed();
    ensure!(took < Duration::from_secs(2), "it was noticed after {took:?}");

    std::fs::write(gates.path().join("gate"), "")?;
    let flow = mycelium.flow("murder");
    let killer = Tester::tasks(&flow, "victim").task_abort();
    let (began, run) = (Instant::now(), flow.submit().await?);
    let ended = async { anyhow::Ok(must("the end of the flow", run.wait()).await??) };
    let serve = async {
        loop {
            ElfProcess::start(&broker.url(), &options).await?.wait_for_end().await?;
        }
    };
    let counts = tokio::select! {
        counts = ended => counts?,
        failed = serve => return failed,
    };
    ensure!(counts.failed == 1, "{counts:?}");
    let (took, record) = (began.elapsed(), mycelium.job(killer.id()).await?);
    ensure!(took < Duration::from_secs(20), "it took {took:?}: {record:?}");
    broker.stop().await
}

/// Which elves there are that have no runtime of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It says that it confirms, and does.
    Confirms,
    /// It tells with its heartbeats what it has received.
    Beats,
    /// It never tells what it has received.
    Mute,
}

/// Waits until a job is offered to an elf, which beats meanwhile.
async fn offered(elf: &mut WireElf, job: &Bytes) -> anyhow::Result<v1::Token> {
    let offered = async {
        loop {
            match tokio::time::timeout(Duration::from_secs(1), elf.next()).await {
                Ok(Ok(connect_response::Kind::Assign(assign))) => {
                    let token = assign.assignments[0].token.clone().context("no token")?;
                    ensure!(token.job_id == job, "{token:?}");
                    return Ok(token);
                }
                Ok(said) => drop(said?),
                Err(_silent) => drop(elf.say(beat(Vec::new())).await?),
            }
        }
    };
    must("the job to be offered", offered).await?
}

fn beat(held: Vec<v1::Token>) -> connect_request::Kind {
    connect_request::Kind::Heartbeat(v1::Heartbeat { held, late_by: None })
}

#[tokio::test]
async fn what_an_elf_does_not_confirm_is_offered_to_another() -> anyhow::Result<()> {
    async fn lost(kind: Kind, goes_on_beating: bool) -> anyhow::Result<()> {
        let (broker, mut client) = start(Config::default()).await?;
        let first = v1::Hello { confirms: kind == Kind::Confirms, ..hello() };
        let mut elf = WireElf::connect(&broker.url(), first).await?;
        elf.beat(Vec::new()).await?;
        let received = elf.received();
        let (began, job) = (Instant::now(), submit(&mut client).await?);
        ensure!(elf.token().await?.attempt == 1);
        let mut other = WireElf::connect(&broker.url(), hello()).await?;
        let silence = async {
            let mut beats = tokio::time::interval(Duration::from_secs(5));
            loop {
                beats.tick().await;
                if goes_on_beating && elf.say_having_received(received, beat(Vec::new())).await.is_err() {
                    // The broker has ended the stream.
                    std::future::pending().await
                }
            }
        };
        let token = tokio::select! {
            token = offered(&mut other, &job) => token?,
            never = silence => never,
        };
        let took = began.elapsed();
        ensure!(token.attempt == 2 && took < HEALED_WITHIN, "{token:?} after {took:?}");
        ensure!(took > Duration::from_secs(5), "after {took:?}");
        let status = elf.ended().await?.context("the stream ended well")?;
        wire::expect_refusal::<()>(Err(status), tonic::Code::Aborted, reason::STREAM_NOT_READ, &[])?;
        Ok(broker.stop().await?)
    }
    tokio::try_join!(
        async { lost(Kind::Confirms, false).await.context("it confirms, and is silent") },
        async { lost(Kind::Confirms, true).await.context("it confirms, and beats") },
        async { lost(Kind::Beats, false).await.context("it is silent") },
        async { lost(Kind::Beats, true).await.context("it beats") },
    )?;
    Ok(())
}

/// A healthy elf of each kind holds a job for so long, and it is offered to nobody else.
async fn is_left_alone(kind: Kind, for_long: Duration) -> anyhow::Result<()> {
    let (broker, mut client) = start(Config::default()).await?;
    let own = v1::Hello { confirms: kind == Kind::Confirms, ..hello() };
    let mut elf = WireElf::connect(&broker.url(), own).await?;
    let mut other = WireElf::connect(&broker.url(), hello()).await?;
    other.set_window("scale", 0).await?;
    let job = submit(&mut client).await?;
    let token = elf.token().await?;
    other.set_window("scale", 1).await?;
    if kind == Kind::Confirms {
        elf.say_nothing().await?;
    }
    let until = Instant::now() + for_long;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let received = if kind == Kind::Mute { 0 } else { elf.received() };
        elf.say_having_received(received, beat(vec![token.clone()])).await?;
        let answer = elf.next().await?;
        let is_known = matches!(&answer, connect_response::Kind::HeartbeatAck(ack) if ack.unknown.is_empty());
        ensure!(is_known, "{answer:?}");
        let (before, _) = other.beat(Vec::new()).await?;
        ensure!(before.is_empty(), "the job is offered to another: {before:?}");
    }
    elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    let record = wire::get_job(&client, &job).await?;
    ensure!((record.attempt, record.elves_lost) == (1, 0), "{record:?}");
    Ok(broker.stop().await?)
}

/// As [`is_left_alone`], with our runtime.
async fn ours_is_left_alone(for_long: Duration) -> anyhow::Result<()> {
    let (broker, _client) = start(Config::default()).await?;
    let elf = Gated::start(&broker, 2).await?;
    let (_run, jobs) = elf.run_long(2).await?;
    let worker = elf.mycelium.serve().elf("passer", Tester::default()).concurrency(2);
    let other = Worker::start(worker).await?;
    tokio::time::sleep(for_long).await;
    elf.ran_once(&jobs).await?;
    other.stop().await?;
    elf.worker.stop().await?;
    Ok(broker.stop().await?)
}

async fn all_are_left_alone(for_long: Duration) -> anyhow::Result<()> {
    tokio::try_join!(
        async { ours_is_left_alone(for_long).await.context("ours") },
        async { is_left_alone(Kind::Confirms, for_long).await.context("it confirms") },
        async { is_left_alone(Kind::Beats, for_long).await.context("it beats") },
        async { is_left_alone(Kind::Mute, for_long).await.context("it never tells what it has received") },
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_tasks_of_healthy_elves_are_offered_once() -> anyhow::Result<()> {
    Box::pin(all_are_left_alone(Duration::from_secs(20))).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 5 minutes: run by .ci/long"]
async fn tasks_of_five_minutes_of_healthy_elves_are_offered_once() -> anyhow::Result<()> {
    Box::pin(all_are_left_alone(Duration::from_secs(300))).await
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_little_of_the_lease_and_one_that_the_broker_ends_all_of_it()
-> anyhow::Result<()> {
    let after_reset = Duration::from_secs(1);
    let (broker, mut client) = start(Config { lease_after_reset: after_reset, ..Config::default() }).await?;
    let first_hello = hello();
    let mut elf = WireElf::connect(&broker.url(), first_hello.clone()).await?;
    let job = submit(&mut client).await?;
    let token = elf.token().await?;
    // A message that is too large: the broker ends the stream, and the elf has all its lease to come back.
    let large = v1::Outcome {
        token: Some(token.clone()),
        ..wire::returned(&token, &[("n", &"1".repeat(MESSAGE_BYTES_MAX))])
    };
    elf.report(vec![large]).await?;
    let status = elf.ended().await?.context("the stream goes on")?;
    wire::expect_refusal::<()>(Err(status), tonic::Code::InvalidArgument, reason::MESSAGE_TOO_LARGE, &[])?;
    tokio::time::sleep(after_reset * 3).await;
    let resume = v1::Hello { held: vec![token.clone()], ..elf.resume(first_hello) };
    drop(elf);
    let elf = WireElf::connect(&broker.url(), resume).await?;
    ensure!(elf.welcome.resumed && elf.welcome.keep == [token], "{:?}", elf.welcome);

    // Its connection breaks, and it does not come back.
    let mut other = WireElf::connect(&broker.url(), hello()).await?;
    let began = Instant::now();
    drop(elf);
    let again = offered(&mut other, &job).await?;
    let took = began.elapsed();
    ensure!(again.attempt == 2 && took < after_reset * 4, "{again:?} after {took:?}");
    ensure!(wire::get_job(&client, &job).await?.elves_lost == 1);
    Ok(broker.stop().await?)
}
