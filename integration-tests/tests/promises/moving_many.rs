//! A hundred thousand jobs go from the embedded store to ArangoDB and back.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use arangodb_double::Double;
use elf_runtime::{Elf, Mycelium, TaskError, list, machine_elf};
use integration_tests::{Worker, must};
use mycelium_server::Broker;

use super::moving::{PASSWORD, blobs, command, lines, on_database, serve, utf8};

const FLOWS: u64 = 100;
/// Of each flow; each makes five jobs, which are all but one of the flow's.
const GROUPS: u64 = 200;

struct Lab;

#[machine_elf]
impl Lab {
    /// Adds up, and fails from three on.
    async fn task_weigh(&self, numbers: Vec<u64>) -> Result<u64, TaskError> {
        match numbers.len() {
            3.. => Err(TaskError::new("ScaleError", format!("{numbers:?} are too many"))),
            _ => Ok(numbers.iter().sum()),
        }
    }

    /// A text that is too large to travel inline.
    async fn task_print(&self, times: u64) -> String {
        "heavy ".repeat(times as usize)
    }
}

struct NewLab;

#[machine_elf]
impl NewLab {
    /// Adds up, begins at one, and fails from three on.
    async fn task_weigh(&self, numbers: Vec<u64>) -> Result<u64, TaskError> {
        match numbers.len() {
            3.. => Err(TaskError::new("NewScaleError", format!("{numbers:?} are too many"))),
            _ => Ok(1 + numbers.iter().sum::<u64>()),
        }
    }

    /// A text that is too large to travel inline.
    async fn task_print(&self, times: u64) -> String {
        "heavier ".repeat(times as usize)
    }
}

/// Runs the flows of these numbers on an elf.
async fn fill(url: &str, elf: impl Elf, flows: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mycelium = Mycelium::connect(url).await?;
    let worker = Worker::start(mycelium.serve().elf("lab", elf)).await?;
    for number in flows {
        let flow = mycelium.flow(format!("weighing-{number}")).with_label("team", format!("{}", number % 7));
        let lab = Lab::tasks(&flow, "lab");
        for group in 0..GROUPS {
            let sum = lab.task_weigh(list![number, group]);
            let more = lab.task_weigh(list![sum.value(), 4u64]);
            let _twice = lab.task_weigh(list![more.value() * 2u64, sum.value()]);
            let failed = lab.task_weigh(list![1u64, 2u64, group]);
            let _upstream = lab.task_weigh(list![failed.value()]);
        }
        let _printed = lab.task_print(20_000 + number);
        must("the end of a flow", flow.submit().await?.wait()).await??;
    }
    Ok(worker.stop().await?)
}

/// What the command line prints of all jobs, and of some.
async fn shown(url: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut shown = BTreeMap::new();
    let mut ask = async |arguments: &[&str]| -> anyhow::Result<String> {
        let told = command(&[&["--url", url, "--output", "json"], arguments].concat()).await?.good();
        shown.insert(arguments.join(" "), told.clone());
        Ok(told)
    };
    let jobs = ask(&["jobs", "--limit", "200000"]).await?;
    for arguments in [
        &["flows", "--limit", "1000"][..],
        &["failures"],
        &["elves"],
        &["elf", "lab", "--source"],
        &["graph", "--flow", "weighing-3", "--values"],
        &["graph", "--flow", "weighing-98", "--values"],
        &["jobs", "--label", "team=5", "--status", "failed", "--limit", "200000"],
    ] {
        ask(arguments).await?;
    }
    let jobs: serde_json::Value = serde_json::from_str(&jobs)?;
    let jobs = jobs["jobs"].as_array().or(jobs.as_array()).context("no jobs")?;
    ensure!(jobs.len() as u64 == FLOWS * (5 * GROUPS + 1), "{} jobs", jobs.len());
    for job in jobs.iter().step_by(1_999) {
        let id = job["id"].as_str().or(job["job_id"].as_str()).with_context(|| format!("no id: {job}"))?;
        ask(&["job", id]).await?;
        ask(&["job", id, "--attempts"]).await?;
        ask(&["lineage", id]).await?;
    }
    Ok(shown)
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for (what, before) in before {
        let after = after.get(what).with_context(|| format!("{what}: nothing"))?;
        if before != after {
            let differ = before.lines().zip(after.lines()).find(|(before, after)| before != after);
            anyhow::bail!("{what}: {differ:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run by .ci/long"]
async fn a_hundred_thousand_jobs_go_to_arangodb_and_come_back() -> anyhow::Result<()> {
    let (double, temp) = (Double::start(PASSWORD).await?, tempfile::tempdir()?);
    let path = |name: &str| -> anyhow::Result<String> { Ok(utf8(&temp.path().join(name))?.to_owned()) };
    let (data, exported, there, again, back) =
        (path("data")?, path("export")?, path("there")?, path("again")?, path("back")?);
    let store = double.url();

    let broker = Broker::open(Path::new(&data))?.bind("127.0.0.1:0").await?;
    fill(&broker.url(), Lab, 0..FLOWS / 2).await?;
    fill(&broker.url(), NewLab, FLOWS / 2..FLOWS).await?;
    let before = shown(&broker.url()).await?;
    broker.stop().await?;
    let large = blobs(Path::new(&data))?;
    ensure!(large.len() as u64 == FLOWS, "{} blobs", large.len());

    command(&["export", &data, &exported]).await?.good();
    on_database(&["import", &exported, &store, "--data-dir", &there]).await?.good();
    let (mut served, url) = serve(&store, &there).await?;
    compare(&before, &shown(&url).await?)?;
    served.stop().await?;
    ensure!(blobs(Path::new(&there))? == large);

    on_database(&["export", &store, &again, "--data-dir", &there]).await?.good();
    ensure!(lines(Path::new(&again))? == lines(Path::new(&exported))?, "it is exported as it was");
    command(&["import", &again, &back]).await?.good();
    let moved = Broker::open(Path::new(&back))?.bind("127.0.0.1:0").await?;
    compare(&before, &shown(&moved.url()).await?)?;
    moved.stop().await?;
    ensure!(blobs(Path::new(&back))? == large);
    double.assert_known();
    Ok(())
}
