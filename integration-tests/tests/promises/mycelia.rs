//! Many mycelia in one broker: nothing crosses between them, and those that nobody uses cost little.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{FlowId, Mycelium, args, reason, v1};
use integration_tests::{BrokerProcess, Tester, Worker, must, until, wire};
use mycelium_proto::v1::JobStatus;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_server::store::{EmbeddedStore, Log as _};
use tonic::Code;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

async fn create(client: &mut Client, name: &str) -> anyhow::Result<bool> {
    let request = v1::CreateMyceliumRequest { mycelium: name.to_owned() };
    Ok(client.create_mycelium(request).await?.into_inner().created)
}

async fn list(client: &mut Client) -> anyhow::Result<Vec<v1::Mycelium>> {
    let mut request = v1::ListMyceliaRequest { page_size: 300, ..v1::ListMyceliaRequest::default() };
    let mut all = Vec::new();
    loop {
        let page = client.list_mycelia(request.clone()).await?.into_inner();
        ensure!(page.mycelia.len() <= 300);
        all.extend(page.mycelia);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

async fn names(client: &mut Client) -> anyhow::Result<Vec<String>> {
    Ok(list(client).await?.into_iter().map(|one| one.name).collect())
}

async fn delete(client: &mut Client, name: &str, force: bool) -> Result<bool, tonic::Status> {
    let request = v1::DeleteMyceliumRequest { mycelium: name.to_owned(), force };
    Ok(client.delete_mycelium(request).await?.into_inner().deleted)
}

/// The same submission for each mycelium, but for what its job adds.
fn submission(mycelium: &str, flow: &Bytes, job: &Bytes, number: u64) -> v1::SubmitJobsRequest {
    let nodes = vec![wire::literal(format!("[{number}]")), wire::literal("0")];
    let spec = v1::JobSpec {
        job_id: job.clone(),
        task: "task_add".to_owned(),
        ..wire::job("tester", &["numbers", "pause_ms"], nodes)
    };
    v1::SubmitJobsRequest {
        mycelium: mycelium.to_owned(),
        flow_id: flow.clone(),
        flow_name: "the same".to_owned(),
        ..wire::submission(vec![spec])
    }
}

async fn output(client: &mut Client, mycelium: &str, job: &Bytes) -> anyhow::Result<Option<String>> {
    let request = v1::GetOutputsRequest { mycelium: mycelium.to_owned(), job_ids: vec![job.clone()] };
    let found = client.get_outputs(request).await?.into_inner().jobs.remove(0);
    let content = found.outputs.first().and_then(|output| output.payload.as_ref()?.content.clone());
    match content {
        Some(v1::payload::Content::Inline(json)) => Ok(Some(String::from_utf8(json.to_vec())?)),
        Some(other) => anyhow::bail!("the output is {other:?}"),
        None => Ok(None),
    }
}

async fn jobs(client: &mut Client, mycelium: &str) -> anyhow::Result<Vec<v1::Job>> {
    let request = v1::ListJobsRequest { mycelium: mycelium.to_owned(), ..v1::ListJobsRequest::default() };
    Ok(client.list_jobs(request).await?.into_inner().jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_between_two_mycelia() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&["--mycelium-idle=50ms"]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let (flow, job) = (wire::id(), wire::id());
    client.submit_jobs(submission("north", &flow, &job, 1)).await?;
    client.submit_jobs(submission("south", &flow, &job, 2)).await?;
    ensure!(names(&mut client).await? == ["default", "north", "south"]);
    ensure!(jobs(&mut client, "").await?.is_empty(), "`default` has none of it");

    // An elf of one does not run the job of the other, though it has the same name.
    let north = Mycelium::builder(broker.url()).mycelium("north").connect().await?;
    let south = Mycelium::builder(broker.url()).mycelium("south").connect().await?;
    let worker = Worker::start(north.serve().elf("tester", Tester::default())).await?;
    must("the run", north.run(FlowId::from_bytes(flow.as_ref().try_into()?)).wait()).await??;
    ensure!(output(&mut client, "north", &job).await?.as_deref() == Some("1"));
    ensure!(output(&mut client, "south", &job).await?.is_none());
    ensure!(jobs(&mut client, "south").await?[0].status() == JobStatus::Ready);
    worker.stop().await?;
    let request = v1::ListElvesRequest { mycelium: "south".to_owned(), ..v1::ListElvesRequest::default() };
    ensure!(client.list_elves(request).await?.into_inner().elves.is_empty());

    // What is closed, or was when the broker was killed, goes on where it was.
    until("both to be closed", async || {
        let open = list(&mut client.clone()).await?.into_iter().filter(|one| one.open);
        Ok((open.count() == 1).then_some(()))
    })
    .await?;
    for is_restarted in [false, true] {
        ensure!(output(&mut client, "north", &job).await?.as_deref() == Some("1"));
        ensure!(jobs(&mut client, "south").await?.len() == 1);
        if !is_restarted {
            broker.kill().await?;
            broker.restart().await?;
            client = wire::client(&broker.url()).await?;
            ensure!(names(&mut client).await? == ["default", "north", "south"]);
        }
    }
    let worker = Worker::start(south.serve().elf("tester", Tester::default())).await?;
    must("the run", south.run(FlowId::from_bytes(flow.as_ref().try_into()?)).wait()).await??;
    ensure!(output(&mut client, "south", &job).await?.as_deref() == Some("2"));
    ensure!(output(&mut client, "north", &job).await?.as_deref() == Some("1"));

    // Deleting one leaves the other alone.
    let busy = delete(&mut client, "south", false).await;
    wire::expect_refusal(busy, Code::FailedPrecondition, reason::MYCELIUM_IN_USE, &[])?;
    worker.stop().await?;
    ensure!(delete(&mut client, "south", false).await?);
    ensure!(!delete(&mut client, "south", false).await?, "it is gone");
    ensure!(names(&mut client).await? == ["default", "north"]);
    ensure!(output(&mut client, "north", &job).await?.as_deref() == Some("1"));
    let fixed = delete(&mut client, "default", true).await;
    wire::expect_refusal(fixed, Code::FailedPrecondition, reason::MYCELIUM_FIXED, &[])?;
    // One of the same name is another.
    ensure!(create(&mut client, "south").await? && !create(&mut client, "south").await?);
    ensure!(jobs(&mut client, "south").await?.is_empty());
    broker.stop().await
}

/// Submits, and asks again where the mycelium was deleted under the call: then nothing was promised.
async fn submit_until_taken(client: Client, name: &str) -> anyhow::Result<Bytes> {
    let job = wire::id();
    until("a submission to be taken", || {
        let (mut client, submission) = (client.clone(), submission(name, &wire::id(), &job, 1));
        async move {
            match client.submit_jobs(submission).await {
                Ok(_) => Ok(Some(())),
                refused => {
                    wire::expect_refusal(refused, Code::Unavailable, reason::BROKER_STOPPING, &[])?;
                    Ok(None)
                }
            }
        }
    })
    .await?;
    Ok(job)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_and_who_deletes_one_at_once_meet_the_same_one() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    for round in 0..5 {
        let (name, force) = (format!("contended-{round}"), round == 0);
        create(&mut client, &name).await?;
        let deletions = (0..3).map(|_| async {
            match delete(&mut client.clone(), &name, force).await {
                Ok(_) => Ok(()),
                Err(status) if !force && status.code() == Code::FailedPrecondition => Ok(()),
                Err(status) => Err(anyhow::Error::from(status)),
            }
        });
        let makings = (0..3).map(|_| async { create(&mut client.clone(), &name).await });
        let submissions = (0..3).map(|_| submit_until_taken(client.clone(), &name));
        let (_, _, submitted) = tokio::try_join!(
            futures::future::try_join_all(deletions),
            futures::future::try_join_all(makings),
            futures::future::try_join_all(submissions),
        )?;

        // Whatever came first, what is submitted now is there. Without force, nothing went that was not finished.
        let last = submit_until_taken(client.clone(), &name).await?;
        let found = jobs(&mut client, &name).await?;
        for job in [&last].into_iter().chain(submitted.iter().filter(|_| !force)) {
            ensure!(found.iter().any(|found| found.job_id == job), "round {round}: a job is gone");
        }
    }
    // What is told is what is there.
    for round in 5..10 {
        let name = format!("contended-{round}");
        create(&mut client, &name).await?;
        let deletions = (0..3).map(|_| async { Ok(delete(&mut client.clone(), &name, false).await?) });
        let makings = (0..3).map(|_| async { create(&mut client.clone(), &name).await });
        tokio::try_join!(futures::future::try_join_all(deletions), futures::future::try_join_all(makings))?;
    }
    let before = names(&mut client).await?;
    broker.kill().await?;
    broker.restart().await?;
    ensure!(names(&mut wire::client(&broker.url()).await?).await? == before);
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_leaves_unfinished_is_missing_to_the_others() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--unfinished-total-max=2"]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let [first, second, third] = std::array::from_fn(|_| wire::id());
    client.submit_jobs(submission("one", &wire::id(), &first, 1)).await?;
    client.submit_jobs(submission("other", &wire::id(), &second, 1)).await?;
    for full in ["one", "other", "", "new"] {
        let refused = client.submit_jobs(submission(full, &wire::id(), &third, 1)).await;
        wire::expect_refusal(refused, Code::ResourceExhausted, reason::BACKLOG_FULL, &[])?;
    }
    let scope = v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![first] });
    client.cancel_jobs(v1::CancelJobsRequest { mycelium: "one".to_owned(), scope: Some(scope) }).await?;
    client.submit_jobs(submission("other", &wire::id(), &third, 1)).await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_what_is_not_there_makes_nothing() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--auto-create=false"]).await?;
    let mut client = wire::client(&broker.url()).await?;
    ensure!(jobs(&mut client, "nowhere").await?.is_empty());
    let request = v1::GetJobRequest {
        mycelium: "nowhere".to_owned(),
        job_id: wire::id(),
        ..v1::GetJobRequest::default()
    };
    wire::expect_refusal(client.get_job(request).await, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;
    let flow = wire::id();
    let watch =
        v1::WatchJobsRequest { mycelium: "nowhere".to_owned(), until_final: true, ..wire::watch_flow(&flow) };
    let refused = client.watch_jobs(watch.clone()).await;
    wire::expect_refusal(refused, Code::NotFound, reason::FLOW_NOT_FOUND, &[])?;
    for name in ["North", "a.b", "../a", &"n".repeat(49)] {
        let request = v1::ListJobsRequest { mycelium: name.to_owned(), ..v1::ListJobsRequest::default() };
        let answer = client.list_jobs(request).await;
        wire::expect_refusal(answer, Code::InvalidArgument, reason::INVALID_FIELD, &["mycelium"])?;
    }
    // One who waits for a flow to come waits for its mycelium too.
    let mut waiting = client.watch_jobs(v1::WatchJobsRequest { may_come: true, ..watch }).await?.into_inner();
    ensure!(names(&mut client).await? == ["default"]);

    // Nor is it made by what brings something, if the broker makes none by itself.
    let job = wire::id();
    let refused = client.submit_jobs(submission("nowhere", &flow, &job, 1)).await;
    wire::expect_refusal(refused, Code::NotFound, reason::MYCELIUM_NOT_FOUND, &[])?;
    let hello = wire::hello(wire::declaration("tester", &[], &["n"]), 1);
    let elf = v1::Hello { mycelium: "nowhere".to_owned(), ..hello };
    let status = integration_tests::wire::WireElf::connect(&broker.url(), elf).await.err();
    let status = status.context("the elf was welcomed")?.downcast::<tonic::Status>()?;
    ensure!(status.code() == Code::NotFound, "{status:?}");

    ensure!(create(&mut client, "nowhere").await?);
    client.submit_jobs(submission("nowhere", &flow, &job, 1)).await?;
    must("the watch to see the job", async {
        // It may have begun before the job came.
        loop {
            let seen = waiting.message().await?.context("the watch ended")?;
            if seen.changes.iter().any(|change| change.job_id == job) {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_mycelia_of_which_one_is_used_cost_what_their_names_cost() -> anyhow::Result<()> {
    const MYCELIA: usize = 1_000;
    let flags = ["--mycelia-max=1002", "--mycelia-open-max=4", "--mycelium-idle=1s"];
    let broker = BrokerProcess::start(&flags).await?;
    let mut client = wire::client(&broker.url()).await?;
    let descriptors =
        || Ok::<_, anyhow::Error>(std::fs::read_dir(format!("/proc/{}/fd", broker.pid()?))?.count());
    let (before, begun) = (descriptors()?, Instant::now());
    for number in 0..MYCELIA {
        ensure!(create(&mut client, &format!("n{number}")).await?);
    }
    println!("{MYCELIA} mycelia in {:?}", begun.elapsed());
    ensure!(create(&mut client, "one-more").await?);
    let full = client.create_mycelium(v1::CreateMyceliumRequest { mycelium: "too-many".to_owned() }).await;
    wire::expect_refusal(full, Code::ResourceExhausted, reason::MYCELIA_FULL, &[])?;
    ensure!(names(&mut client).await?.len() == MYCELIA + 2);

    let used = Mycelium::builder(broker.url()).mycelium("n7").connect().await?;
    let worker = Worker::start(used.serve().elf("tester", Tester::default())).await?;
    let flow = used.flow("used");
    let job = flow.call("tester", "task_add", args! { numbers: [1, 2], pause_ms: 0 });
    ensure!(must("the sum", flow.submit().await?.result(&job)).await?? == serde_json::json!(3));
    // It is held open by its elf; the others close.
    until("the others to be closed", async || {
        let open = list(&mut client.clone()).await?.into_iter().filter(|one| one.open);
        let open: Vec<String> = open.map(|one| one.name).collect();
        Ok((open == ["default", "n7"]).then_some(()))
    })
    .await?;
    let (descriptors, memory) = (descriptors()?, broker.peak_memory_bytes()?);
    println!("{descriptors} descriptors of {before} before, {} MiB at most", memory >> 20);
    ensure!(descriptors < before + 200, "{descriptors} descriptors, and {before} before");
    ensure!(memory < 512 << 20, "{memory} bytes");
    tokio::time::timeout(Duration::from_secs(30), worker.stop()).await??;
    broker.stop().await
}

/// One that cannot be opened when its broker begins goes on by itself once it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_mycelium_that_is_held_up_goes_on_without_being_asked_for() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&["--mycelium-idle=1s"]).await?;
    let team = Mycelium::builder(broker.url()).mycelium("team").connect().await?;
    let flow = team.flow("later");
    let _later = Tester::tasks(&flow, "tester")
        .task_add(elf_runtime::list![1u64], 0)
        .delay(Duration::from_secs(3_600));
    flow.submit().await?;
    broker.kill().await?;
    let held = EmbeddedStore::open(&broker.data_folder().join("team"))?;
    broker.restart().await?;
    until("it to be missed", async || {
        Ok(broker.log()?.contains("a mycelium cannot be opened").then_some(()))
    })
    .await?;
    let mut client = wire::client(&broker.url()).await?;
    let is_open = async |client: &mut Client| {
        let all = list(client).await?;
        anyhow::Ok(all.iter().any(|one| one.name == "team" && one.open))
    };
    ensure!(!is_open(&mut client).await?);
    held.close().wait()?;
    drop(held);
    until("it to be open", async || Ok(is_open(&mut client.clone()).await?.then_some(()))).await?;
    broker.stop().await
}
