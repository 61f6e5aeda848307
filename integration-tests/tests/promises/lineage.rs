//! What a result came from, what was made of it, and the values on the way are told as they were recorded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, IntoValue, JobId, Mycelium, Output, TaskError, Value, list, machine_elf};
use integration_tests::{Worker, jobs_of, must, until};
use mycelium_proto::v1::{self, JobEdgeKind, JobStatus, job_value};
use mycelium_proto::{limits, reason};
use mycelium_server::{Broker, RunningBroker};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Output)]
struct Measurement {
    species: String,
    weight: i64,
}

struct Scale;

/// Weighs animals.
#[machine_elf]
impl Scale {
    /// Weighs one animal.
    async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
        let weight = i64::try_from(species.len())?;
        Ok(Measurement { species, weight })
    }

    /// The first numbers from 0 on.
    fn task_count(&self, numbers: i64) -> Result<Vec<i64>, TaskError> {
        Ok((0..numbers).collect())
    }

    /// Adds up weights.
    fn task_sum(&self, weights: Vec<i64>) -> Result<i64, TaskError> {
        Ok(weights.iter().sum())
    }
}

async fn start() -> anyhow::Result<(RunningBroker, Mycelium)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    Ok((broker, mycelium))
}

fn id_bytes(job: JobId) -> Bytes {
    Bytes::copy_from_slice(job.as_bytes())
}

/// All pages of a lineage, of this many jobs each, with values.
async fn lineage(
    mycelium: &Mycelium,
    job: JobId,
    output: &str,
    down: bool,
    page_size: u32,
) -> Result<v1::GetLineageResponse, Error> {
    let request = v1::GetLineageRequest {
        job_id: id_bytes(job),
        output: output.to_owned(),
        down,
        page_size,
        include_values: true,
        ..v1::GetLineageRequest::default()
    };
    all_pages(mycelium, request).await
}

async fn all_pages(
    mycelium: &Mycelium,
    mut request: v1::GetLineageRequest,
) -> Result<v1::GetLineageResponse, Error> {
    let mut all = v1::GetLineageResponse::default();
    loop {
        let page = mycelium.get_lineage(request.clone()).await?;
        assert!(page.jobs.len() <= request.page_size as usize, "a page is as long as asked for at most");
        all.jobs.extend(page.jobs);
        all.edges.extend(page.edges);
        all.values.extend(page.values);
        all.truncated |= page.truncated;
        all.jobs_left_out = page.jobs_left_out;
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

fn distances(lineage: &v1::GetLineageResponse) -> BTreeMap<Bytes, u32> {
    let jobs = lineage.jobs.iter();
    let distances: BTreeMap<_, _> = jobs
        .map(|job| (job.job.as_ref().unwrap_or(&v1::Job::default()).job_id.clone(), job.distance))
        .collect();
    assert_eq!(distances.len(), lineage.jobs.len(), "each job once");
    assert!(lineage.jobs.is_sorted_by_key(|job| job.distance), "nearest first");
    distances
}

/// From, output, to.
fn edges(lineage: &v1::GetLineageResponse) -> BTreeSet<(Bytes, String, Bytes)> {
    let edge = |edge: &v1::JobEdge| {
        assert_eq!(edge.kind(), JobEdgeKind::Value, "only values flow in a lineage");
        (edge.from_job_id.clone(), edge.output.clone(), edge.to_job_id.clone())
    };
    let edges: BTreeSet<_> = lineage.edges.iter().map(edge).collect();
    assert_eq!(edges.len(), lineage.edges.len(), "each edge once");
    edges
}

/// The value of the only argument of a job.
fn only(values: &v1::JobValues) -> anyhow::Result<&v1::JobValue> {
    let [value] = values.values.as_slice() else { anyhow::bail!("it has {} values", values.values.len()) };
    Ok(value)
}

fn shown(value: &v1::JobValue) -> Option<&[u8]> {
    match &value.known {
        Some(job_value::Known::Value(preview)) => Some(&preview.begin),
        Some(job_value::Known::Error(_)) | None => None,
    }
}

async fn values_of(mycelium: &Mycelium, job: JobId) -> anyhow::Result<v1::JobValues> {
    let request =
        v1::GetJobRequest { job_id: id_bytes(job), include_values: true, ..v1::GetJobRequest::default() };
    mycelium.get_job(request).await?.values.context("the values that were asked for")
}

#[tokio::test]
async fn a_lineage_follows_values_both_ways_and_nothing_else() -> anyhow::Result<()> {
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("weights");
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let ant = scale.task_weigh(bee.species());
    let sum = scale.task_sum(list![bee.weight() * 2 + 1, ant.weight()]);
    let total = scale.task_sum(list![&sum, bee.weight()]);
    let late = scale.task_weigh("late").after(&total);
    let whole =
        flow.call("archive", "task_keep", elf_runtime::Arguments::new().with("what", bee.value().clone()));
    flow.submit().await?;

    let [b, a, s, t] = [bee.id(), ant.id(), sum.id(), total.id()].map(id_bytes);
    let w = id_bytes(whole.id());
    let edge = |from: &Bytes, output: &str, to: &Bytes| (from.clone(), output.to_owned(), to.clone());
    let into = BTreeSet::from([
        edge(&b, "species", &a),
        edge(&b, "weight", &s),
        edge(&a, "weight", &s),
        edge(&s, "", &t),
        edge(&b, "weight", &t),
    ]);
    // Whatever the size of the pages, together they tell the same.
    for page_size in [1, 2, 3, 1_000] {
        let up = lineage(&mycelium, total.id(), "", false, page_size).await?;
        let expected = BTreeMap::from([(t.clone(), 0), (s.clone(), 1), (b.clone(), 1), (a.clone(), 2)]);
        assert_eq!(distances(&up), expected);
        assert_eq!(edges(&up), into);
        assert_eq!((up.values.len(), up.truncated), (4, false));

        let down = lineage(&mycelium, bee.id(), "", true, page_size).await?;
        let expected =
            BTreeMap::from([(b.clone(), 0), (a.clone(), 1), (s.clone(), 1), (t.clone(), 1), (w.clone(), 1)]);
        assert_eq!(distances(&down), expected);
        assert_eq!(edges(&down), &into | &BTreeSet::from([edge(&b, "", &w)]));

        // Of one output: what takes another is not made of it, but takes part in what is.
        let down = lineage(&mycelium, bee.id(), "weight", true, page_size).await?;
        let expected = BTreeMap::from([(b.clone(), 0), (s.clone(), 1), (t.clone(), 1), (w.clone(), 1)]);
        assert_eq!(distances(&down), expected);
        let expected = BTreeSet::from([
            edge(&b, "weight", &s),
            edge(&s, "", &t),
            edge(&b, "weight", &t),
            edge(&b, "", &w),
        ]);
        assert_eq!(edges(&down), expected);
    }
    let up = lineage(&mycelium, late.id(), "", false, 10).await?;
    assert_eq!((up.jobs.len(), up.edges.len()), (1, 0), "to wait for a job takes nothing from it");

    let unknown = JobId::try_from(&[7_u8; 16][..])?;
    let error = lineage(&mycelium, unknown, "", true, 10).await.err().context("a job that is not known")?;
    assert_eq!(error.reason(), Some(reason::JOB_NOT_FOUND));

    let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
    must("the total", mycelium.run(flow.id()).result(&total)).await??;
    for down in [false, true] {
        lineage(&mycelium, bee.id(), "weight", down, 10).await?;
        let error = lineage(&mycelium, bee.id(), "height", down, 10).await.err().context("no such output")?;
        assert_eq!(error.reason(), Some(reason::INVALID_FIELD));
        assert!(error.to_string().contains("species, weight"), "{error}");
    }
    worker.stop().await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_lineage_leads_through_lists_and_conditions_before_they_are_done_and_after() -> anyhow::Result<()> {
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("numbers");
    let scale = Scale::tasks(&flow, "scale");
    let other = Scale::tasks(&flow, "other scale");
    let numbers = scale.task_count(3);
    // The second elf comes later, so that all elements are there and none has ended.
    let each = flow.for_each(&numbers, |number| other.task_sum(list![number, 1]));
    let sum = scale.task_sum(&each);
    let heavy = scale.task_weigh("heavy").run_if(sum.value().greater_than(5));
    flow.submit().await?;
    let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
    let run = mycelium.run(flow.id());
    must("the numbers", run.result(&numbers)).await??;
    let [n, e, s, h] = [numbers.id(), each.id(), sum.id(), heavy.id()].map(id_bytes);
    let elements: Vec<Bytes> = until("the elements to be there", || async {
        let jobs = jobs_of(&mycelium, flow.id(), &[JobStatus::Ready]).await?;
        let of_other = jobs.into_iter().filter(|job| job.elf == "other scale" && job.job_id != e);
        let elements: Vec<Bytes> = of_other.map(|job| job.job_id).collect();
        Ok((elements.len() == 3).then_some(elements))
    })
    .await?;

    let into = |job: &Bytes, from: &[&Bytes], kind: JobEdgeKind| -> Vec<(Bytes, Bytes, JobEdgeKind)> {
        from.iter().map(|from| ((*from).clone(), job.clone(), kind)).collect()
    };
    let mut all = BTreeSet::new();
    all.extend(into(&e, &[&n], JobEdgeKind::Element));
    for element in &elements {
        all.extend(into(element, &[&n], JobEdgeKind::Element));
        all.extend(into(&e, &[element], JobEdgeKind::Gather));
    }
    all.extend(into(&s, &[&e], JobEdgeKind::Value));
    all.extend(into(&h, &[&s], JobEdgeKind::Condition));
    let told = |lineage: &v1::GetLineageResponse| -> BTreeSet<(Bytes, Bytes, JobEdgeKind)> {
        let edges = lineage.edges.iter();
        edges.map(|edge| (edge.from_job_id.clone(), edge.to_job_id.clone(), edge.kind())).collect()
    };
    let mut up = BTreeMap::from([(h.clone(), 0), (s.clone(), 1), (e.clone(), 2), (n.clone(), 3)]);
    up.extend(elements.iter().map(|element| (element.clone(), 3)));
    let mut down = BTreeMap::from([(n.clone(), 0), (e.clone(), 1), (s.clone(), 2), (h.clone(), 3)]);
    down.extend(elements.iter().map(|element| (element.clone(), 1)));
    let check = async |when: &str| -> anyhow::Result<()> {
        for page_size in [1, 3, 1_000] {
            let found = lineage(&mycelium, heavy.id(), "", false, page_size).await?;
            ensure!(distances(&found) == up, "{when}, up: {found:?}");
            ensure!(told(&found) == all && !found.truncated, "{when}, up: {:?}", found.edges);
            let found = lineage(&mycelium, numbers.id(), "", true, page_size).await?;
            ensure!(distances(&found) == down, "{when}, down: {found:?}");
            ensure!(told(&found) == all && !found.truncated, "{when}, down: {:?}", found.edges);
        }
        Ok(())
    };
    check("before the elements have ended").await?;
    let second = Worker::start(mycelium.serve().elf("other scale", Scale)).await?;
    must("the end of the flow", run.wait()).await??;
    ensure!(run.job_status(heavy.id()).await? == JobStatus::Done, "1 + 2 + 3 is more than 5");
    check("when all is done").await?;
    worker.stop().await?;
    second.stop().await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_elements_of_a_list_are_found_whatever_leads_to_the_list_first() -> anyhow::Result<()> {
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("numbers");
    let scale = Scale::tasks(&flow, "scale");
    let first = scale.task_sum(list![3]);
    // The condition is submitted before the list, and so comes before it among what was made of the first.
    let condition = scale.task_sum(list![&first]);
    let numbers = scale.task_count(&first);
    let each = flow
        .for_each(&numbers, |number| scale.task_sum(list![number, 1]))
        .run_if(condition.value().greater_than(0));
    flow.submit().await?;
    let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
    must("the list", mycelium.run(flow.id()).result(&each)).await??;
    for page_size in [1, 1_000] {
        let found = lineage(&mycelium, first.id(), "", true, page_size).await?;
        let distances = distances(&found);
        let [c, n, e] =
            [condition.id(), numbers.id(), each.id()].map(|id| distances.get(&id_bytes(id)).copied());
        ensure!((c, n, e) == (Some(1), Some(1), Some(2)), "{distances:?}");
        ensure!(distances.len() == 7, "three of them for the elements: {distances:?}");
        let gathers = found.edges.iter().filter(|edge| edge.kind() == JobEdgeKind::Gather).count();
        ensure!(gathers == 3, "{:?}", found.edges);
    }
    worker.stop().await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn values_are_told_once_they_can_be_known() -> anyhow::Result<()> {
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("weights");
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let sum = scale.task_sum(list![bee.weight() * 2 + 1, 4]);
    let broken = scale.task_sum(list![bee.weight().integer_divide(0)]);
    let long = scale.task_weigh("\u{e4}".repeat(limits::VALUE_PREVIEW_BYTES_MAX));
    flow.submit().await?;

    // Before anything has run: what is written in the graph, and where values will come from.
    let of_bee = values_of(&mycelium, bee.id()).await?;
    assert_eq!(shown(only(&of_bee)?), Some(&b"\"bee\""[..]));
    let of_sum = values_of(&mycelium, sum.id()).await?;
    let value = only(&of_sum)?;
    assert_eq!((value.kind(), value.parameter.as_str()), (JobEdgeKind::Value, "weights"));
    assert_eq!((&value.known, value.origin_job_ids.as_slice()), (&None, &[id_bytes(bee.id())][..]));
    let [origin] = of_sum.origins.as_slice() else { anyhow::bail!("{} origins", of_sum.origins.len()) };
    assert_eq!((origin.status(), origin.task.as_str()), (JobStatus::Ready, "task_weigh"));
    assert!(!of_sum.nodes.is_empty());

    let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
    must("the end of the flow", mycelium.run(flow.id()).wait()).await??;

    let of_sum = values_of(&mycelium, sum.id()).await?;
    assert_eq!(shown(only(&of_sum)?), Some(&b"[7,4]"[..]));
    assert_eq!(of_sum.origins[0].status(), JobStatus::Done);
    let of_broken = values_of(&mycelium, broken.id()).await?;
    match &only(&of_broken)?.known {
        Some(job_value::Known::Error(error)) => ensure!(error.contains("integer_divide"), "{error}"),
        other => anyhow::bail!("a value that cannot be computed is told as {other:?}"),
    }
    let of_long = values_of(&mycelium, long.id()).await?;
    let Some(job_value::Known::Value(preview)) = &only(&of_long)?.known else {
        anyhow::bail!("a literal is known")
    };
    assert_eq!(preview.size as usize, 2 + 2 * limits::VALUE_PREVIEW_BYTES_MAX);
    assert_eq!(preview.begin.len(), limits::VALUE_PREVIEW_BYTES_MAX - 1);

    // The graph of a flow tells the same of all its jobs, in their order.
    let request = v1::GetGraphRequest {
        root: Some(v1::get_graph_request::Root::FlowId(Bytes::copy_from_slice(flow.id().as_bytes()))),
        include_values: true,
        ..v1::GetGraphRequest::default()
    };
    let graph = mycelium.get_graph(request).await?;
    assert_eq!(graph.jobs.len(), 4);
    let of_jobs: Vec<&Bytes> = graph.jobs.iter().map(|job| &job.job_id).collect();
    assert_eq!(graph.values.iter().map(|values| &values.job_id).collect::<Vec<_>>(), of_jobs);
    assert!(graph.values.contains(&of_sum) && graph.values.contains(&of_broken));
    worker.stop().await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_has_room_for_values_up_to_its_limit() -> anyhow::Result<()> {
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("long names");
    // About 200 KiB of nodes each: more than 1 MiB together, and small enough to be shown.
    let text = "x".repeat(50 * 1024);
    let texts = || list![text.clone(), text.clone(), text.clone(), text.clone()];
    for _ in 0..40 {
        flow.call("nobody", "task_read", elf_runtime::args! { text: texts() });
    }
    // And one whose nodes are too many to be shown.
    let large = flow.call("nobody", "task_read", elf_runtime::args! { text: texts().concat(texts()) });
    flow.submit().await?;
    let request = v1::GetGraphRequest {
        root: Some(v1::get_graph_request::Root::FlowId(Bytes::copy_from_slice(flow.id().as_bytes()))),
        include_values: true,
        ..v1::GetGraphRequest::default()
    };
    let graph = mycelium.get_graph(request).await?;
    assert_eq!(graph.jobs.len(), 41);
    assert!((4..=6).contains(&graph.values.len()), "{} jobs have their values", graph.values.len());
    for (job, values) in graph.jobs.iter().zip(&graph.values) {
        assert_eq!(job.job_id, values.job_id, "those of the first jobs");
    }
    let of_large = values_of(&mycelium, large.id()).await?;
    assert!(of_large.nodes.is_empty());
    let begin = shown(only(&of_large)?).context("it is known all the same")?;
    assert_eq!(begin.len(), limits::VALUE_PREVIEW_BYTES_MAX);
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_lineage_ends_at_its_limit_and_says_so() -> anyhow::Result<()> {
    const JOBS_MAX: usize = 10_000;
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("fan");
    let scale = Scale::tasks(&flow, "scale");
    let first = scale.task_weigh("bee");
    for _ in 0..JOBS_MAX - 1 {
        scale.task_sum(list![first.weight()]);
    }
    flow.submit().await?;
    let request = |job: JobId, down: bool| v1::GetLineageRequest {
        job_id: id_bytes(job),
        down,
        page_size: 1_000,
        ..v1::GetLineageRequest::default()
    };
    let down = all_pages(&mycelium, request(first.id(), true)).await?;
    assert_eq!((down.jobs.len(), down.truncated), (JOBS_MAX, false), "exactly at the limit");
    assert_eq!(down.jobs_left_out, 0);
    scale.task_sum(list![first.weight()]);
    flow.submit().await?;
    let down = all_pages(&mycelium, request(first.id(), true)).await?;
    assert_eq!((down.jobs.len(), down.truncated), (JOBS_MAX, true));
    assert_eq!(down.jobs_left_out, 1);

    // Upwards: a job that gathers more jobs than that.
    let many: Vec<_> = (0..JOBS_MAX).map(|_| scale.task_weigh("ant").weight().clone()).collect();
    let gathers = scale.task_sum(many);
    flow.submit().await?;
    let up = all_pages(&mycelium, request(gathers.id(), false)).await?;
    assert_eq!((up.jobs.len(), up.truncated), (JOBS_MAX, true));
    assert_eq!(up.jobs_left_out, 1);
    assert_eq!(up.edges.len(), JOBS_MAX, "of the edges none is left out");
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_graph_has_room_for_edges_up_to_its_limit() -> anyhow::Result<()> {
    const BYTES_MAX: usize = 3 * 512 * 1024;
    const NAME_BYTES: usize = 250;
    let (broker, mycelium) = start().await?;
    let flow = mycelium.flow("long names");
    let source = flow.call("nobody", "task_read", elf_runtime::Arguments::new());
    // Each takes 200 outputs of it, whose names take 250 bytes: 55 KiB of edges.
    for _ in 0..200 {
        let outputs: Vec<Value<serde_json::Value>> =
            (0..200).map(|n| source.output(format!("{n:0>width$}", width = NAME_BYTES))).collect();
        flow.call(
            "nobody",
            "task_read",
            elf_runtime::Arguments::new()
                .with("all", IntoValue::<Vec<serde_json::Value>>::into_value(outputs)),
        );
    }
    flow.submit().await?;
    let request = |root, page_token| v1::GetGraphRequest {
        root: Some(root),
        depth: 1,
        page_size: 1_000,
        page_token,
        ..v1::GetGraphRequest::default()
    };
    // Around a job there are no pages: what has no room is left out.
    let around = v1::get_graph_request::Root::JobId(id_bytes(source.id()));
    let graph = mycelium.get_graph(request(around, String::new())).await?;
    ensure!(graph.jobs.len() == 201 && graph.truncated, "{} jobs, {}", graph.jobs.len(), graph.truncated);
    let bytes = graph.edges.len() * NAME_BYTES;
    ensure!((BYTES_MAX / 2..BYTES_MAX).contains(&bytes), "{} edges", graph.edges.len());

    // Of a flow, a page has as many jobs as their edges leave room for, and none is left out.
    let flow_id = Bytes::copy_from_slice(flow.id().as_bytes());
    let (mut jobs, mut edges, mut pages) = (0, 0, 0);
    let mut page_token = String::new();
    loop {
        let root = v1::get_graph_request::Root::FlowId(flow_id.clone());
        let graph = mycelium.get_graph(request(root, page_token)).await?;
        ensure!(graph.edges.len() * NAME_BYTES < BYTES_MAX, "{} edges", graph.edges.len());
        ensure!(!graph.truncated, "edges are left out");
        (jobs, edges, pages) = (jobs + graph.jobs.len(), edges + graph.edges.len(), pages + 1);
        page_token = graph.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!((jobs, edges) == (201, 200 * 200) && pages > 7, "{jobs} jobs, {edges} edges on {pages} pages");
    broker.stop().await?;
    Ok(())
}
