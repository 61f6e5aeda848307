//! Sessions outlive their streams, windows and priorities say who gets what, and one folder has one broker.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Job, Mycelium};
use integration_tests::wire::{self, WireElf};
use integration_tests::{Diary, Event, Proxy, Tester, Worker, must, until};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, connect_response};
use mycelium_server::{Broker, Error, RunningBroker, store};
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

async fn start() -> anyhow::Result<(RunningBroker, Client)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    Ok((broker, client))
}

fn hello(window: u32) -> v1::Hello {
    wire::hello(wire::declaration("scale", &[], &["n"]), window)
}

/// Submits jobs with these priorities, and returns their ids.
async fn submit(client: &mut Client, priorities: &[i32]) -> anyhow::Result<Vec<Bytes>> {
    let job = |priority: &i32| v1::JobSpec { priority: *priority, ..wire::job("scale", &[], Vec::new()) };
    let request = wire::submission(priorities.iter().map(job).collect());
    let ids = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(request).await?;
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_does_not_restart_what_runs() -> anyhow::Result<()> {
    const JOBS: u64 = 12;
    let (broker, _client) = start().await?;
    let proxy = Proxy::start(broker.address()).await?;
    let folder = tempfile::tempdir()?;
    let (diary, gate) = (folder.path().join("diary"), folder.path().join("gate"));
    let through_proxy = Mycelium::connect(proxy.url()).await?;
    let tester = Tester::with_diary(Diary::open(&diary)?);
    let worker = Worker::start(through_proxy.serve().elf("passer", tester).concurrency(4).window(8)).await?;

    let mycelium = Mycelium::connect(broker.url()).await?;
    let flow = mycelium.flow("gated");
    let tasks = Tester::tasks(&flow, "passer");
    let jobs: Vec<Job<u64>> = (0..JOBS).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let run = flow.submit().await?;
    until("the tasks to run", || async { Ok((Diary::read([&diary])?.len() == 4).then_some(())) }).await?;

    let instance = || async {
        let elf = v1::GetElfRequest { mycelium: String::new(), name: "passer".to_owned() };
        let elf = mycelium.get_elf(elf).await?.elf.context("the elf is known")?;
        ensure!(elf.instances.len() == 1, "one instance serves the elf: {:?}", elf.instances);
        Ok(elf.instances[0].clone())
    };
    let before = instance().await?;
    for _ in 0..3 {
        let accepted = proxy.accepted();
        proxy.cut();
        until("the worker to come back", || async {
            let is_back = proxy.accepted() > accepted && instance().await?.connected;
            Ok(is_back.then_some(()))
        })
        .await?;
        let after = instance().await?;
        ensure!(after.session == before.session, "the session goes on: {after:?}");
        ensure!(after.held == before.held && after.held > 0, "it goes on with what it holds: {after:?}");
    }
    std::fs::write(&gate, "")?;
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    let runs = Diary::attempts(&Diary::read([&diary])?, Event::Started);
    for job in &jobs {
        ensure!(runs.get(&job.id()) == Some(&vec![1]), "a job was run as {:?}", runs.get(&job.id()));
        let record = mycelium.job(job.id()).await?;
        ensure!(record.attempt == 1 && record.elves_lost == 0, "{record:?}");
    }
    worker.stop().await?;
    drop(run);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn an_assignment_that_never_arrived_is_offered_again_long_before_the_lease_is_over()
-> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let first_hello = hello(1);
    let mut elf = WireElf::connect(&broker.url(), first_hello.clone()).await?;
    let before = elf.received();
    let job = submit(&mut client, &[0]).await?.remove(0);
    let token = elf.token().await?;
    ensure!(token.attempt == 1 && token.job_id == job, "{token:?}");

    // As long as the elf may not have seen the message, the attempt counts as on its way.
    elf.say_having_received(before, connect_heartbeat(Vec::new())).await?;
    let ack = elf.next().await?;
    ensure!(matches!(&ack, connect_response::Kind::HeartbeatAck(ack) if ack.unknown.is_empty()), "{ack:?}");
    ensure!(wire::get_job(&client, &job).await?.attempt == 1, "it is not given away");

    // It has seen the message, and says that the attempt is not there: the job is offered again at once.
    let began = std::time::Instant::now();
    elf.say(connect_heartbeat(Vec::new())).await?;
    let mut again = None;
    while again.is_none() {
        if let connect_response::Kind::Assign(assign) = elf.next().await? {
            again = assign.assignments[0].token.clone();
        }
    }
    ensure!(again == Some(v1::Token { job_id: job.clone(), attempt: 2 }), "{again:?}");

    // The stream breaks with the second assignment: the elf comes back without it.
    let session = elf.welcome.session;
    let resume = elf.resume(first_hello);
    drop(elf);
    let mut elf = WireElf::connect(&broker.url(), resume).await?;
    ensure!(elf.welcome.resumed && elf.welcome.session == session, "{:?}", elf.welcome);
    let token = elf.token().await?;
    ensure!(token == v1::Token { job_id: job.clone(), attempt: 3 }, "{token:?}");
    ensure!(began.elapsed().as_secs() < 10, "it took {:?}", began.elapsed());
    // An attempt that was given up is worth nothing any more; nor was any elf lost.
    elf.report(vec![wire::returned(&v1::Token { attempt: 2, ..token.clone() }, &[("n", "1")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Stale]);
    elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    let record = wire::get_job(&client, &job).await?;
    ensure!(record.status() == JobStatus::Done && record.elves_lost == 0, "{record:?}");
    Ok(broker.stop().await?)
}

fn connect_heartbeat(held: Vec<v1::Token>) -> v1::connect_request::Kind {
    v1::connect_request::Kind::Heartbeat(v1::Heartbeat { held, late_by: None })
}

#[tokio::test]
async fn a_session_resumes_with_what_it_holds_and_another_process_cannot_take_it() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let first_hello = hello(2);
    let mut elf = WireElf::connect(&broker.url(), first_hello.clone()).await?;
    submit(&mut client, &[0]).await?;
    let token = elf.token().await?;
    let session = elf.welcome.session;

    // Another process that names the session gets one of its own, and nothing to keep.
    let thief = v1::Hello { resume_session: session, held: vec![token.clone()], ..hello(0) };
    let thief = WireElf::connect(&broker.url(), thief).await?;
    ensure!(!thief.welcome.resumed && thief.welcome.session != session, "{:?}", thief.welcome);
    ensure!(thief.welcome.keep.is_empty(), "{:?}", thief.welcome);

    // The process itself goes on with the attempt, and with no other that it names.
    let forged = v1::Token { job_id: wire::id(), attempt: 1 };
    let held = vec![token.clone(), forged];
    let resume = v1::Hello { held, ..elf.resume(first_hello) };
    drop(elf);
    let mut elf = WireElf::connect(&broker.url(), resume).await?;
    ensure!(elf.welcome.resumed && elf.welcome.keep == [token.clone()], "{:?}", elf.welcome);
    elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_window_of_zero_pauses_and_a_smaller_one_takes_nothing_back() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mut elf = WireElf::connect(&broker.url(), hello(2)).await?;
    submit(&mut client, &[0, 0]).await?;
    let held: Vec<v1::Token> = elf.assigned().await?.into_iter().filter_map(|one| one.token).collect();
    ensure!(held.len() == 2, "the window is 2: {held:?}");

    elf.set_window("scale", 0).await?;
    let waiting = submit(&mut client, &[0]).await?.remove(0);
    let (before, unknown) = elf.beat(held.clone()).await?;
    ensure!(
        before.is_empty() && unknown.is_empty(),
        "the window takes back, or gives: {before:?} {unknown:?}"
    );
    elf.report(held.iter().map(|token| wire::returned(token, &[("n", "1")])).collect()).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded; 2]);
    let (before, _) = elf.beat(Vec::new()).await?;
    ensure!(before.is_empty(), "a paused elf is given jobs: {before:?}");
    let explain = v1::ExplainJobRequest { mycelium: String::new(), job_id: waiting.clone() };
    let reason = client.explain_job(explain).await?.into_inner().reason.and_then(|reason| reason.kind);
    let full = v1::NoFreeWindow { instances: 1, ..v1::NoFreeWindow::default() };
    ensure!(reason == Some(v1::wait_reason::Kind::NoFreeWindow(full)), "{reason:?}");

    elf.set_window("scale", 1).await?;
    ensure!(elf.token().await?.job_id == waiting, "a window that opens is filled");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn instances_of_an_elf_share_its_jobs_within_their_windows() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mut first = WireElf::connect(&broker.url(), hello(2)).await?;
    let mut second = WireElf::connect(&broker.url(), hello(2)).await?;
    let jobs = submit(&mut client, &[0; 5]).await?;
    let on_first = first.assigned().await?;
    let on_second = second.assigned().await?;
    ensure!(on_first.len() == 2 && on_second.len() == 2, "{on_first:?} {on_second:?}");
    let mut given: Vec<Bytes> = on_first
        .iter()
        .chain(&on_second)
        .filter_map(|assignment| Some(assignment.token.as_ref()?.job_id.clone()))
        .collect();
    given.sort();
    given.dedup();
    ensure!(
        given.len() == 4 && given.iter().all(|job| jobs.contains(job)),
        "each job has one elf: {given:?}"
    );

    // The fifth goes to whoever has room first.
    let token = on_second[0].token.clone().context("a token")?;
    second.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    let mut fifth = None;
    while fifth.is_none() {
        if let connect_response::Kind::Assign(assign) = second.next().await? {
            fifth = assign.assignments[0].token.clone();
        }
    }
    let fifth = fifth.context("a token")?.job_id;
    ensure!(jobs.contains(&fifth) && !given.contains(&fifth), "the fifth job is the one that was left");
    let held = on_first.iter().filter_map(|one| one.token.clone()).collect();
    let (before, _) = first.beat(held).await?;
    ensure!(before.is_empty(), "the other instance is given more than its window: {before:?}");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn the_highest_priority_goes_first_and_then_the_earliest_submitted() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let early = submit(&mut client, &[0, 5, -1, 5]).await?;
    let late = submit(&mut client, &[0, 7]).await?;
    let mut elf = WireElf::connect(&broker.url(), hello(1)).await?;
    let mut order = Vec::new();
    while order.len() < 6 {
        if let connect_response::Kind::Assign(assign) = elf.next().await? {
            ensure!(assign.assignments.len() == 1, "the window is 1: {assign:?}");
            let token = assign.assignments[0].token.clone().context("a token")?;
            elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
            order.push(token.job_id);
        }
    }
    let expected = [&late[1], &early[1], &early[3], &early[0], &late[0], &early[2]];
    ensure!(order.iter().eq(expected), "another order: {order:?}");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_folder_in_use_is_refused_to_a_second_broker_and_free_after_the_first() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let job = submit(&mut client, &[0]).await?.remove(0);
    match Broker::open(folder.path()) {
        Err(Error::Store(store::Error::InUse { .. })) => {}
        other => anyhow::bail!("a second broker on the folder: {other:?}"),
    }
    ensure!(wire::get_job(&client, &job).await?.status() == JobStatus::Ready, "the first goes on");
    broker.stop().await?;
    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    ensure!(wire::get_job(&client, &job).await?.status() == JobStatus::Ready, "the job is there");
    Ok(broker.stop().await?)
}
