//! Jobs and flows keep their labels, show them, and are found by them.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Flow, Mycelium, Value, args, list, v1};
use integration_tests::{BrokerProcess, Tester, Worker, must, wire};

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> std::collections::BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The jobs with all of these labels, page by page, in the order of their ids.
async fn found<const N: usize>(
    mycelium: &Mycelium,
    wanted: [(&str, &str); N],
    request: v1::ListJobsRequest,
) -> anyhow::Result<Vec<Bytes>> {
    let mut request = v1::ListJobsRequest { labels: labels(wanted), page_size: 2, ..request };
    let mut jobs = Vec::new();
    loop {
        let page = mycelium.list_jobs(request.clone()).await?;
        for job in &page.jobs {
            let has = |(key, value): &(&str, &str)| job.labels.get(*key).is_some_and(|of| of == value);
            ensure!(wanted.iter().all(has), "{job:?} has not {wanted:?}");
        }
        jobs.extend(page.jobs.into_iter().map(|job| job.job_id));
        if page.next_page_token.is_empty() {
            jobs.sort();
            return Ok(jobs);
        }
        request.page_token = page.next_page_token;
    }
}

async fn flows<const N: usize>(
    mycelium: &Mycelium,
    wanted: [(&str, &str); N],
) -> anyhow::Result<Vec<String>> {
    let request = v1::ListFlowsRequest { labels: labels(wanted), ..v1::ListFlowsRequest::default() };
    let page = mycelium.list_flows(request).await?;
    ensure!(page.next_page_token.is_empty());
    Ok(page.flows.into_iter().map(|flow| flow.name).collect())
}

fn record(flow: &Flow, labels: &[(&str, &str)]) -> Bytes {
    let mut job = flow.call("tester", "task_add", args! { numbers: [1], pause_ms: 0 });
    for (key, value) in labels {
        job = job.with_label(*key, *value);
    }
    Bytes::copy_from_slice(job.id().as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_flows_are_found_by_their_labels() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let north = mycelium.flow("north").with_label("site", "north").with_label("team", "apiary");
    let both = record(&north, &[("hive", "7"), ("kind", "count")]);
    let hive = record(&north, &[("hive", "7")]);
    let bare = record(&north, &[]);
    let each = north.for_each(vec![1_u64, 2, 3], |n| {
        let numbers: Value<Vec<u64>> = list![n];
        let arguments = args! { numbers: numbers, pause_ms: 0 };
        north.call("tester", "task_add", arguments).with_label("kind", "each")
    });
    let run = north.submit().await?;
    let south = mycelium.flow("south").with_label("site", "south").with_label("team", "apiary");
    let other = record(&south, &[("hive", "8"), ("kind", "count")]);
    south.submit().await?;

    let any = v1::ListJobsRequest::default();
    for is_restarted in [false, true] {
        let mut hives = vec![both.clone(), hive.clone()];
        hives.sort();
        let mut counts = vec![both.clone(), other.clone()];
        counts.sort();
        ensure!(found(&mycelium, [("hive", "7")], any.clone()).await? == hives);
        ensure!(found(&mycelium, [("kind", "count")], any.clone()).await? == counts);
        ensure!(
            found(&mycelium, [("kind", "count"), ("hive", "7")], any.clone()).await?
                == std::slice::from_ref(&both)
        );
        ensure!(found(&mycelium, [("hive", "")], any.clone()).await?.is_empty());
        ensure!(found(&mycelium, [], any.clone()).await?.contains(&bare));
        if !is_restarted {
            broker.kill().await?;
            broker.restart().await?;
        }
    }
    ensure!(flows(&mycelium, [("team", "apiary")]).await? == ["south", "north"]);
    ensure!(flows(&mycelium, [("team", "apiary"), ("site", "north")]).await? == ["north"]);
    ensure!(flows(&mycelium, [("site", "nort"), ("h", "")]).await?.is_empty());

    // What comes later has no say about the flow.
    let request = v1::SubmitJobsRequest {
        flow_id: Bytes::copy_from_slice(north.id().as_bytes()),
        flow_labels: labels([("site", "west")]),
        seal: true,
        ..v1::SubmitJobsRequest::default()
    };
    wire::client(&broker.url()).await?.submit_jobs(request).await?;
    ensure!(flows(&mycelium, [("site", "west")]).await?.is_empty());

    let worker = Worker::start(mycelium.serve().elf("tester", Tester::default()).concurrency(2)).await?;
    must("the end of the flow", run.wait()).await??;
    worker.stop().await?;
    broker.kill().await?;
    broker.restart().await?;
    let done = v1::ListJobsRequest { statuses: vec![v1::JobStatus::Done.into()], ..any.clone() };
    ensure!(
        found(&mycelium, [("kind", "count"), ("hive", "7")], done.clone()).await?
            == std::slice::from_ref(&both)
    );
    // The job with the list and those of its elements.
    let of_elements = found(&mycelium, [("kind", "each")], done).await?;
    ensure!(of_elements.len() == 4, "{} jobs", of_elements.len());
    ensure!(of_elements.contains(&Bytes::copy_from_slice(each.id().as_bytes())));
    let shown = mycelium.list_flows(v1::ListFlowsRequest::default()).await?.flows;
    let shown = shown.iter().find(|flow| flow.name == "north").context("the flow is listed")?;
    ensure!(shown.labels == labels([("site", "north"), ("team", "apiary")]), "{shown:?}");
    broker.stop().await
}
