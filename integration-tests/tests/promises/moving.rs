//! A mycelium is exported and imported by the real program, which is killed on its way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use arangodb_double::{Double, ROOT};
use elf_runtime::{Mycelium, TaskError, list, machine_elf};
use integration_tests::{BrokerProcess, Tester, Worker, must, programs, until, wire};
use mycelium_server::Broker;
use mycelium_testing::{Ended, Process, run};
use tempfile::TempDir;
use tokio::process::Command;

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

pub(super) async fn command(arguments: &[&str]) -> anyhow::Result<Ended> {
    run(mycelium_testing::command(programs::mycelium()?).args(arguments)).await
}

pub(super) fn utf8(path: &Path) -> anyhow::Result<&str> {
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
pub(super) fn lines(export: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
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

/// The password of the double of ArangoDB.
pub(super) const PASSWORD: &str = "a password";

fn with_password(arguments: &[&str], password: &str) -> anyhow::Result<Command> {
    let mut command = mycelium_testing::command(programs::mycelium()?);
    command.args(arguments).env("MYCELIUM_STORE_USER", ROOT).env("MYCELIUM_STORE_PASSWORD", password);
    Ok(command)
}

pub(super) async fn on_database(arguments: &[&str]) -> anyhow::Result<Ended> {
    run(&mut with_password(arguments, PASSWORD)?).await
}

/// A broker on a database, and its URL.
pub(super) async fn serve(store: &str, data: &str) -> anyhow::Result<(Process, String)> {
    // Who comes meanwhile sees soon that its lease is renewed.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store-lease", "1s", "--log", "off"];
    let arguments = [&arguments[..], &["--store", store, "--data-dir", data]].concat();
    let (broker, line) = Process::start("a broker", with_password(&arguments, PASSWORD)?).await?;
    let address = line.split("listening on ").nth(1).and_then(|rest| rest.split(',').next());
    Ok((broker, format!("http://{}", address.context("no address")?)))
}

/// Files that are blobs, by their digests.
pub(super) fn blobs(data: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let blobs = lines(&data.join("default/blobs"))?.into_iter();
    let named = blobs.map(|(path, bytes)| Some((path.file_name()?.to_str()?.to_owned(), bytes)));
    named.collect::<Option<_>>().context("a blob without a name")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mycelium_goes_to_arangodb_is_served_there_and_comes_back() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    fill(&broker.url()).await?;
    let before = shown(&broker.url()).await?;
    broker.kill().await?;
    let (double, temp) = (Double::start(PASSWORD).await?, tempfile::tempdir()?);
    let (store, data) = (double.url(), broker.data_folder());
    let path = |name: &str| -> anyhow::Result<String> { Ok(utf8(&temp.path().join(name))?.to_owned()) };
    let (exported, there, again, back) = (path("export")?, path("there")?, path("again")?, path("back")?);
    command(&["export", utf8(&data)?, &exported]).await?.good();

    let import = ["import", &exported, &store, "--data-dir", &there];
    let done = on_database(&import).await?.good();
    ensure!(done.contains(&format!("is in {store}")), "{done}");
    // It was refused at once, so it gave up the lease that it took: who comes next does not wait for its end.
    let refused = on_database(&import).await?.bad(2);
    ensure!(refused.contains("the mycelium is not empty"), "{refused}");
    ensure!(leaseholder(&double)?.is_empty(), "an import that is refused leaves no lease");

    let (mut served, url) = serve(&store, &there).await?;
    let after = shown(&url).await?;
    for (what, before) in &before {
        ensure!(after.get(what) == Some(before), "{what}: {before}\n\nand now\n\n{:?}", after.get(what));
    }
    let large = blobs(&data)?;
    ensure!(large.len() == 1 && blobs(Path::new(&there))? == large, "{:?}", large.keys());
    let mut client = wire::blob_client(&url).await?;
    for (name, bytes) in &large {
        let digest = (0..name.len()).step_by(2).map(|at| u8::from_str_radix(&name[at..at + 2], 16));
        let digest = digest.collect::<Result<Vec<_>, _>>()?.into();
        ensure!(wire::read_blob(&mut client, &digest).await?? == *bytes, "{name}");
    }
    let export = ["export", &store, &again, "--data-dir", &there];
    for arguments in [&export, &import] {
        let in_use = on_database(arguments).await?.bad(2);
        ensure!(in_use.contains("BLUMYC_default") && in_use.contains("in use by another broker"), "{in_use}");
    }
    ensure!(!Path::new(&again).exists());
    served.stop().await?;

    on_database(&export).await?.good();
    ensure!(leaseholder(&double)?.is_empty(), "an export leaves no lease");
    ensure!(lines(Path::new(&again))? == lines(Path::new(&exported))?, "it is exported as it was");
    command(&["import", &again, &back]).await?.good();
    let moved = Broker::open(&back)?.bind("127.0.0.1:0").await?;
    let after = shown(&moved.url()).await?;
    for (what, before) in &before {
        ensure!(after.get(what) == Some(before), "{what}: {before}\n\nand now\n\n{:?}", after.get(what));
    }
    ensure!(blobs(Path::new(&back))? == large);
    moved.stop().await?;
    double.assert_known();
    Ok(())
}

/// Who has the lease of the mycelium `default`; empty if nobody has it.
fn leaseholder(double: &Double) -> anyhow::Result<String> {
    let leases = double.documents("BLUMYC_default", "BrokerLeases").context("no leases")?;
    let lease = leases.iter().find(|lease| lease["_key"] == "owner").context("no lease")?;
    Ok(lease["owner"].as_str().context("no owner")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_right_about_a_database_is_one_line_each() -> anyhow::Result<()> {
    let (double, temp) = (Double::start(PASSWORD).await?, tempfile::tempdir()?);
    let path = |name: &str| -> anyhow::Result<String> { Ok(utf8(&temp.path().join(name))?.to_owned()) };
    let (store, empty, export) = (double.url(), path("empty")?, path("export")?);
    let (data, new) = (path("data")?, path("new")?);
    Broker::open(Path::new(&empty))?;
    command(&["export", &empty, &export]).await?.good();
    let nobody = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    for place in [&nobody, &store] {
        let password = if place == &store { "another" } else { PASSWORD };
        let why = if place == &store { "check user and password" } else { place.as_str() };
        for arguments in [["export", place, &new], ["import", &export, place]] {
            let arguments = [&arguments[..], &["--data-dir", &data]].concat();
            let told = run(&mut with_password(&arguments, password)?).await?.bad(1);
            ensure!(told.contains(why) && !told.contains(password), "{arguments:?}: {told}");
        }
    }
    let none = on_database(&["export", &store, &new, "--data-dir", &data]).await?.bad(1);
    ensure!(none.contains("BLUMYC_default") && none.contains("is not there"), "{none}");
    ensure!(double.documents("BLUMYC_default", "Jobs").is_none() && !Path::new(&data).exists());
    let embedded = on_database(&["import", &export, &store, "--data-dir", &empty]).await?.bad(1);
    ensure!(embedded.contains("mycelia of the embedded store"), "{embedded}");
    ensure!(double.documents("BLUMYC_default", "Jobs").is_none());

    // Another mycelium than `default`, beside which there is an empty one, so that a broker starts.
    let north = ["--data-dir", &data, "--mycelium", "north"];
    on_database(&[&["import", &export, &store], &north[..]].concat()).await?.good();
    serve(&store, &data).await?.0.stop().await?;
    // Without the folder of its large values it would be exported without them.
    let north = ["--data-dir", &new, "--mycelium", "north"];
    let told = on_database(&[&["export", &store, &path("out")?], &north[..]].concat()).await?.bad(1);
    ensure!(told.contains("large values") && told.contains("--data-dir"), "{told}");
    ensure!(!Path::new(&new).exists() && !Path::new(&path("out")?).exists());
    double.assert_known();
    Ok(())
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
        (&["export", "http://root:secret@127.0.0.1:8529", &path("new")?], "MYCELIUM_STORE_PASSWORD_FILE"),
        (&["export", "ftp://127.0.0.1:8529", &path("new")?], "ftp: is neither http nor https"),
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
