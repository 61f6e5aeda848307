//! A mycelium is exported and imported by the real program, which is killed on its way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use elf_runtime::{Mycelium, TaskError, list, machine_elf};
use integration_tests::{BrokerProcess, Tester, Worker, must, programs, until};
use mycelium_server::Broker;
use mycelium_testing::{Ended, run};
use tempfile::TempDir;

struct Lab;

#[machine_elf]
impl Lab {
    /// Adds up, and fails from three on.
    async fn task_weigh(&self, numbers: Vec<u64>) -> Result<u64, TaskError> {
        match numbers.len() {
            3.. => Err(TaskError::new("ScaleError", format!("{} are too many", numbers.len()))),
            _ => Ok(numbers.iter().sum()),
        }
    }

    /// A text that is too large to travel inline.
    async fn task_print(&self, times: u64) -> String {
        "heavy ".repeat(times as usize)
    }
}

async fn command(arguments: &[&str]) -> anyhow::Result<Ended> {
    run(mycelium_testing::command(programs::mycelium()?).args(arguments)).await
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Runs jobs of all kinds of endings, and leaves some that nobody runs.
async fn fill(url: &str) -> anyhow::Result<()> {
    let mycelium = Mycelium::connect(url).await?;
    let worker = Worker::start(mycelium.serve().elf("lab", Lab)).await?;
    let flow = mycelium.flow("weighing").with_label("team", "apiary");
    let lab = Lab::tasks(&flow, "lab");
    let sum = lab.task_weigh(list![1u64, 2u64]);
    let more = lab.task_weigh(list![sum.value(), 4u64]);
    let printed = lab.task_print(more.value() * 10_000u64);
    for _ in 0..3 {
        let failed = lab.task_weigh(list![1u64, 2u64, 3u64]);
        let _upstream = lab.task_weigh(list![failed.value()]);
    }
    let run = flow.submit().await?;
    ensure!(run.result(&printed).await?.len() == 420_000);
    must("the end of the flow", run.wait()).await??;
    worker.stop().await?;

    let flow = mycelium.flow("waiting");
    for number in 0..5u64 {
        let _job = Tester::tasks(&flow, "nobody").task_add(list![number], 0u64);
    }
    flow.submit().await?;
    Ok(())
}

/// What the command line prints of a mycelium.
async fn shown(url: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let ask = async |arguments: &[&str]| -> anyhow::Result<String> {
        Ok(command(&[&["--url", url], arguments].concat()).await?.good())
    };
    let json = ["--output", "json"];
    let mut shown = BTreeMap::new();
    for arguments in [
        &["jobs"][..],
        &["flows"],
        &["failures"],
        &["elves"],
        &["elf", "lab", "--source"],
        &["graph", "--flow", "weighing", "--values"],
        &["graph", "--flow", "waiting"],
    ] {
        shown.insert(arguments.join(" "), ask(&[arguments, &json].concat()).await?);
    }
    let jobs: serde_json::Value = serde_json::from_str(&shown["jobs"])?;
    let jobs = jobs["jobs"].as_array().or(jobs.as_array()).context("no jobs")?;
    ensure!(jobs.len() == 3 + 6 + 5, "{} jobs", jobs.len());
    for job in jobs {
        let id = job["id"].as_str().or(job["job_id"].as_str()).with_context(|| format!("no id: {job}"))?;
        shown.insert(format!("job {id}"), ask(&["job", id, "--output", "json"]).await?);
        shown.insert(format!("attempts {id}"), ask(&["job", id, "--attempts", "--output", "json"]).await?);
        shown.insert(format!("lineage {id}"), ask(&["lineage", id, "--format", "json"]).await?);
    }
    Ok(shown)
}

/// The lines of an export, by file, and its blobs.
fn lines(export: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![export.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.starts_with(export.join("manifest"))
                && path.extension().is_none_or(|end| end == "jsonl")
            {
                found.insert(path.strip_prefix(export)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_shown_as_before_and_goes_on() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    fill(&broker.url()).await?;
    let before = shown(&broker.url()).await?;
    let temp = tempfile::tempdir()?;
    let (data, exported, new) = (broker.data_folder(), temp.path().join("export"), temp.path().join("new"));
    let export = ["export", utf8(&data)?, utf8(&exported)?];
    let in_use = command(&export).await?.bad(2);
    ensure!(in_use.contains("in use by another broker"), "{in_use}");
    broker.kill().await?;
    let done = command(&export).await?.good();
    ensure!(done.contains("finished_jobs.jsonl: 9 lines") && done.contains("420002 bytes"), "{done}");

    let import = ["import", utf8(&exported)?, utf8(&new)?];
    command(&import).await?.good();
    let again = temp.path().join("again");
    command(&["export", utf8(&new)?, utf8(&again)?]).await?.good();
    ensure!(lines(&again)? == lines(&exported)?, "what was imported is exported as it was");
    let refused = command(&import).await?.bad(2);
    ensure!(refused.contains("the mycelium is not empty"), "{refused}");

    let moved = Broker::open(&new)?.bind("127.0.0.1:0").await?;
    let after = shown(&moved.url()).await?;
    for (what, before) in &before {
        ensure!(after.get(what) == Some(before), "{what}: {before}\n\nand now\n\n{:?}", after.get(what));
    }
    let in_use = command(&["import", utf8(&exported)?, utf8(&new)?]).await?.bad(2);
    ensure!(in_use.contains("in use by another broker"), "{in_use}");
    // What waited is run, and what comes now is numbered after it.
    let mycelium = Mycelium::connect(moved.url()).await?;
    let worker = Worker::start(mycelium.serve().elf("nobody", Tester::default()).elf("lab", Lab)).await?;
    let flow = mycelium.flow("later");
    let sum = Lab::tasks(&flow, "lab").task_weigh(list![7u64]);
    let run = flow.submit().await?;
    ensure!(run.result(&sum).await? == 7);
    must("the end of what waited", async {
        until("no unfinished job", async || {
            let jobs =
                command(&["--url", &moved.url(), "jobs", "--status", "ready", "--output", "json"]).await?;
            Ok((!jobs.stdout.contains("nobody")).then_some(()))
        })
        .await
    })
    .await??;
    worker.stop().await?;
    Ok(moved.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_right_is_one_line_each() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let path = |name: &str| -> anyhow::Result<String> { Ok(utf8(&temp.path().join(name))?.to_owned()) };
    let (data, empty) = (path("data")?, path("empty")?);
    fs::create_dir(&empty)?;
    fs::write(path("file")?, "")?;
    Broker::open(Path::new(&data))?;
    for (arguments, why) in [
        (&["export", &path("nowhere")?, &path("new")?][..], "it is not there"),
        (&["export", &empty, &path("new")?], "no mycelium is stored in it"),
        (&["export", &data, &path("new")?, "--mycelium", "north"], "it holds no mycelium `north`"),
        (&["export", &data, &path("file")?], "is there already"),
        (&["export", &data, &data], "is there already"),
        (&["export", "http://127.0.0.1:8529", &path("new")?], "a data folder is meant"),
        (&["import", &empty, &path("new")?], "it holds no manifest.json"),
        (&["import", &path("nowhere")?, &path("new")?], "it holds no manifest.json"),
    ] {
        let told = command(arguments).await?.bad(2);
        ensure!(told.contains(why), "{arguments:?}: {told}");
        ensure!(!Path::new(&path("new")?).exists(), "{arguments:?} made something");
    }
    let export = path("export")?;
    command(&["export", &data, &export]).await?.good();
    for (arguments, why) in [
        (["import", &export, &path("new")?, "--mycelium", "No name"], "`No name` is no name"),
        (["import", &export, &path("file")?, "--mycelium", "north"], "it is not a folder"),
        (["import", &export, &export, "--mycelium", "north"], "it holds other things"),
    ] {
        let told = command(&arguments).await?.bad(2);
        ensure!(told.contains(why), "{arguments:?}: {told}");
    }
    // Another mycelium than `default`, beside which there is an empty one.
    command(&["import", &export, &path("new")?, "--mycelium", "north"]).await?.good();
    Broker::open(Path::new(&path("new")?))?;
    Ok(())
}

/// How many jobs wait in the mycelium that is moved while its movers are killed: several batches of an import.
const WAITING: u64 = 6_000;

/// Runs a command, and kills it when `look` finds something. Whether it was killed before its end.
async fn killed<T>(arguments: &[&str], mut look: impl FnMut() -> Option<T>) -> anyhow::Result<bool> {
    let mut command = mycelium_testing::command(programs::mycelium()?);
    let mut child = command.args(arguments).stdout(Stdio::null()).spawn()?;
    tokio::select! {
        ended = child.wait() => {
            ensure!(ended?.success(), "{arguments:?}");
            Ok(false)
        }
        found = until("the moment to kill it", || std::future::ready(Ok(look()))) => {
            found?;
            child.kill().await?;
            Ok(true)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn movers_that_are_killed_go_on_where_they_were() -> anyhow::Result<()> {
    let temp: TempDir = tempfile::tempdir()?;
    let path = |name: &str| temp.path().join(name);
    let (data, exported, new) = (path("data"), path("export"), path("new"));
    let broker = Broker::open(&data)?.bind("127.0.0.1:0").await?;
    let flow = Mycelium::connect(broker.url()).await?.flow("waiting");
    for number in 0..WAITING {
        let _job = Tester::tasks(&flow, "nobody").task_add(list![number], 0u64);
    }
    flow.submit().await?;
    broker.stop().await?;

    let export = ["export", utf8(&data)?, utf8(&exported)?];
    let was_killed = killed(&export, || {
        fs::metadata(exported.join("unfinished_jobs.jsonl")).ok().filter(|file| file.len() > 0)
    });
    ensure!(was_killed.await?, "the export ended before it was killed");
    let unfinished = command(&["import", utf8(&exported)?, utf8(&new)?]).await?.bad(2);
    ensure!(unfinished.contains("it was not finished; run `mycelium export` again"), "{unfinished}");
    command(&export).await?.good();

    // The mark is written with each commit, and twice when it is made. Before the first commit nothing is imported, and what
    // there is is an empty mycelium.
    let mark = || fs::read(new.join("default/mycelium.mark")).ok();
    let import = ["import", utf8(&exported)?, utf8(&new)?];
    let mut times = 0;
    for commits in [3, 0, 1] {
        let (mut last, mut changes) = (mark(), 0);
        let is_killed = killed(&import, || {
            let now = mark();
            changes += usize::from(now != last);
            last = now;
            (changes > commits).then_some(())
        });
        if !is_killed.await? {
            break;
        }
        times += 1;
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", utf8(&new)?];
        let refused = command(&serve).await?;
        ensure!(
            refused.code == Some(1) && refused.stderr.contains("its import was not finished"),
            "{refused:?}"
        );
    }
    ensure!(times > 0, "the import ended before it was killed");
    command(&import).await?;
    let again = path("again");
    command(&["export", utf8(&new)?, utf8(&again)?]).await?.good();
    ensure!(lines(&again)? == lines(&exported)?, "what was imported is exported as it was");
    let broker = Broker::open(&new)?.bind("127.0.0.1:0").await?;
    let status = Mycelium::connect(broker.url()).await?.get_status(Default::default()).await?;
    let unfinished = status.unfinished.context("no counts")?;
    ensure!(unfinished.ready == WAITING, "{unfinished:?}");
    Ok(broker.stop().await?)
}
