//! Data folders: nobody else can read them, they are checked, salvaged and backed up, and take their blobs with them.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Flow, Mycelium, Run, list};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, counts, must, programs, until, wire};
use mycelium_proto::v1;
use mycelium_proto::v1::store_service_client::StoreServiceClient;
use mycelium_server::store::{EmbeddedStore, FaultyStore, MemoryStore, embedded};
use mycelium_server::{Broker, Config};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const JOBS: u64 = 3_000;
/// Numbers in the argument of each: enough that the specifications fill a table on the disk.
const NUMBERS: u64 = 400;

async fn mycelium(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(must("the end of a command", Command::new(programs::mycelium()?).args(arguments).output()).await??)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}

fn scattered(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (state ^ (state >> 27)) >> 34
}

async fn submit_large(mycelium: &Mycelium, name: &str, jobs: u64) -> anyhow::Result<Run> {
    let flow = mycelium.flow(name);
    let tasks = Tester::tasks(&flow, "adder");
    for job in 0..jobs {
        let numbers: Vec<u64> = (0..NUMBERS).map(|number| scattered(job * NUMBERS + number)).collect();
        let _job = tasks.task_add(numbers, 0u64);
    }
    Ok(flow.submit().await?)
}

/// The largest file of a table, once there is one.
async fn large_table(data: &Path) -> anyhow::Result<PathBuf> {
    until("a table", async || {
        let mut largest = (1024 * 1024, None);
        for keyspace in fs::read_dir(data.join("default/store/keyspaces"))? {
            let Ok(tables) = fs::read_dir(keyspace?.path().join("tables")) else { continue };
            for table in tables {
                let table = table?;
                let size = table.metadata()?.len();
                if size > largest.0 {
                    largest = (size, Some(table.path()));
                }
            }
        }
        Ok(largest.1)
    })
    .await
}

fn flip_a_byte(path: &Path) -> anyhow::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let place = file.metadata()?.len() / 3;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[!byte[0]], place)?;
    Ok(file.sync_all()?)
}

/// Every path in a folder that somebody else can do something with.
fn open_to_others(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut open = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if fs::metadata(&folder)?.permissions().mode() & 0o077 != 0 {
            open.push(folder.clone());
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
                open.push(path);
            }
        }
    }
    Ok(open)
}

/// A broker that is started with a umask that keeps nothing from anybody.
async fn start_with_open_umask(data: &Path) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" \"$@\""])
        .arg(programs::mycelium()?)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = must("the ready line", lines.next_line()).await??.context("it ended")?;
    let address = line.strip_prefix("mycelium ready: listening on ").and_then(|rest| rest.split(',').next());
    Ok((child, format!("http://{}", address.with_context(|| line.clone())?)))
}

async fn use_a_little(url: &str) -> anyhow::Result<()> {
    let client = Mycelium::connect(url).await?;
    let _run = submit_large(&client, "some", 50).await?;
    let bytes = Bytes::from(vec![b'1'; 200_000]);
    wire::write_blob(&mut wire::blob_client(url).await?, &bytes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_the_data_folder_whatever_the_umask() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let data = temp.path().join("data");
    let (mut broker, url) = start_with_open_umask(&data).await?;
    use_a_little(&url).await?;
    let open = open_to_others(&data)?;
    ensure!(open.is_empty(), "others can use {open:?}");
    broker.kill().await?;

    // As an earlier release left it.
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::set_permissions(&path, Permissions::from_mode(0o644))?;
            }
        }
    }
    let (mut broker, url) = start_with_open_umask(&data).await?;
    use_a_little(&url).await?;
    let open = open_to_others(&data)?;
    ensure!(open.is_empty(), "others can use {open:?}");
    broker.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_a_callers_durable_store_keeps_its_blobs() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let bytes = Bytes::from(vec![b'7'; 300_000]);
    let blob = wire::blob_of(&bytes);
    for is_first in [true, false] {
        let store = Arc::new(EmbeddedStore::open(temp.path())?);
        let broker = Broker::with_store(Config::default(), store)?.bind("127.0.0.1:0").await?;
        let mut client = wire::blob_client(&broker.url()).await?;
        if is_first {
            wire::write_blob(&mut client, &bytes).await?;
        }
        let read = wire::read_blob(&mut client, &blob.digest).await??;
        ensure!(read == bytes, "{} bytes came back", read.len());
        drop(client);
        broker.stop().await?;
    }
    Ok(())
}

#[test]
fn a_durable_store_that_knows_no_folder_for_blobs_is_refused() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let store = Arc::new(FaultyStore::new(Arc::new(EmbeddedStore::open(temp.path())?)));
    store.forget_blobs_folder();
    let Err(error) = Broker::with_store(Config::default(), store) else { anyhow::bail!("it is taken") };
    ensure!(
        matches!(&error, mycelium_server::Error::Store(mycelium_server::store::Error::Refused { .. })),
        "{error:?}"
    );
    ensure!(format!("{error:?}").contains("it is durable and names no folder for blobs"), "{error:?}");
    // One that is gone with the process may keep them in memory.
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    store.forget_blobs_folder();
    Broker::with_store(Config::default(), store)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_folder_is_named_and_what_can_be_read_is_salvaged() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let run = submit_large(&broker.client().await?, "waiting", JOBS).await?;
    let data = broker.data_folder();
    let data = utf8(&data)?;
    let table = large_table(Path::new(data)).await?;

    let in_use = mycelium(&["store", "check", data]).await?;
    ensure!(in_use.status.code() == Some(2), "{in_use:?}");
    ensure!(text(&in_use).contains("in use by another broker"), "{in_use:?}");
    let temp = tempfile::tempdir()?;
    let nothing = mycelium(&["store", "check", utf8(temp.path())?]).await?;
    ensure!(nothing.status.code() == Some(2), "{nothing:?}");
    broker.kill().await?;
    let healthy = mycelium(&["store", "check", data]).await?;
    ensure!(healthy.status.code() == Some(0), "{healthy:?}");
    ensure!(text(&healthy).contains("nothing is damaged"), "{healthy:?}");

    flip_a_byte(&table)?;
    let damaged = mycelium(&["store", "check", data]).await?;
    ensure!(damaged.status.code() == Some(1), "{damaged:?}");
    ensure!(text(&damaged).contains(utf8(&table)?), "{damaged:?}");
    let named = text(&damaged).lines().filter(|line| line.starts_with("job ")).count() as u64;
    ensure!((1..=10).contains(&named), "{damaged:?}");

    let new = temp.path().join("new");
    let salvaged = mycelium(&["store", "salvage", data, utf8(&new)?]).await?;
    ensure!(salvaged.status.success(), "{salvaged:?}");
    let lost: Vec<String> =
        text(&salvaged).lines().filter(|line| line.starts_with("job ")).map(str::to_owned).collect();
    ensure!(lost.len() as u64 == named, "{salvaged:?}");
    let again = mycelium(&["store", "salvage", data, utf8(&new)?]).await?;
    ensure!(again.status.code() == Some(2), "{again:?}");
    let sound = mycelium(&["store", "check", utf8(&new)?]).await?;
    ensure!(sound.status.success(), "{sound:?}");

    // A broker starts on it, and all but the lost ones run.
    let broker = Broker::open(&new)?.bind("127.0.0.1:0").await?;
    let client = Mycelium::connect(broker.url()).await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 4, 256)).await?;
    let ended = must("the end of the flow", client.run(run.flow_id()).wait()).await??;
    ensure!(ended.done == JOBS - named && ended.failed == named, "{ended:?}");
    elf.stop().await?;
    broker.stop().await?;
    Ok(())
}

/// Every file in a folder, with what is in it.
fn contents(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut bytes = fs::read(&path)?;
                // The place that a journal reserves.
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                found.insert(path, bytes);
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_a_damaged_journal_leaves_it_and_what_is_whole_is_salvaged() -> anyhow::Result<()> {
    // Odd, so that the middle of the journal is in the middle of a commit: between two of them would be a sequence
    // number, which is told in other words.
    const FLOWS: u64 = 41;
    let mut broker = BrokerProcess::start(&[]).await?;
    let client = broker.client().await?;
    for number in 0..FLOWS {
        submit_large(&client, &format!("flow-{number}"), 5).await?;
    }
    drop(client);
    broker.kill().await?;
    let data = broker.data_folder();
    let journal = data.join("default/store/0.jnl");
    let before = contents(&data)?;
    let data = utf8(&data)?;
    let healthy = mycelium(&["store", "check", data]).await?;
    ensure!(healthy.status.success(), "{healthy:?}");
    ensure!(contents(Path::new(data))? == before, "the check of a whole folder changed it");

    let written = before.get(&journal).context("no journal")?.len() as u64;
    let file = File::options().read(true).write(true).open(&journal)?;
    let (place, mut byte) = (written / 2, [0]);
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 1], place)?;
    let before = contents(Path::new(data))?;
    let named = format!("the journal {} cannot be read from byte ", journal.display());
    let temp = tempfile::tempdir()?;
    let new = temp.path().join("new");
    let serve: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--data-dir", data];
    for (arguments, code) in [
        (&["store", "check", data] as &[&str], 1),
        (serve, 1),
        (serve, 1),
        (&["store", "salvage", data, utf8(&new)?], 0),
    ] {
        let done = mycelium(arguments).await?;
        ensure!(done.status.code() == Some(code), "{arguments:?}: {done:?}");
        ensure!(text(&done).contains(&named), "{arguments:?}: {done:?}");
        ensure!(contents(Path::new(data))? == before, "{arguments:?} changed the folder");
        match arguments.contains(&"salvage") {
            true => ensure!(text(&done).contains("LOST: 1 commit that had been acknowledged"), "{done:?}"),
            false => ensure!(text(&done).contains(&format!("mycelium store salvage {data}")), "{done:?}"),
        }
    }

    // All but the flow of the one commit that was hit is there, and runs.
    let broker = Broker::open(&new)?.bind("127.0.0.1:0").await?;
    let client = Mycelium::connect(broker.url()).await?;
    let status = client.get_status(v1::GetStatusRequest::default()).await?;
    let unfinished = status.unfinished.context("no counts")?;
    ensure!(unfinished.pending + unfinished.ready == 5 * (FLOWS - 1), "{unfinished:?}");
    drop(client);
    broker.stop().await?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() { copy_folder(&path, &to)? } else { fs::copy(&path, &to).map(|_| ())? }
    }
    Ok(())
}

/// Flows of jobs that come of each other, on their way.
async fn submit_chains(client: &Mycelium) -> anyhow::Result<()> {
    for number in 0..8 {
        let flow = client.flow(format!("chain-{number}"));
        let tasks = Tester::tasks(&flow, "adder");
        let mut last = tasks.task_add(list![1u64], 5u64);
        for _ in 0..12 {
            let beside = tasks.task_add(list![2u64], 5u64);
            last = tasks.task_add(list![last, beside], 5u64);
        }
        flow.submit().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_salvaged_of_a_life_under_way_starts_and_comes_to_its_end() -> anyhow::Result<()> {
    const PLACES: u64 = 3;
    let mut broker = BrokerProcess::start(&[]).await?;
    let client = broker.client().await?;
    let mut elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 4, 8)).await?;
    submit_chains(&client).await?;
    until("half of the jobs", async || Ok((count_jobs(&client).await? < 100).then_some(()))).await?;
    broker.kill().await?;
    elf.kill().await?;
    drop(client);
    let data = broker.data_folder();
    let journal = "default/store/0.jnl";
    let written = contents(&data)?.get(&data.join(journal)).context("no journal")?.len() as u64;
    let config = Config {
        lease: Duration::from_secs(2),
        heartbeat_interval: Duration::from_millis(500),
        ..Config::default()
    };
    let mut lost_in_all = 0;
    for place in (0..PLACES).map(|number| written * (2 * number + 1) / (2 * PLACES)) {
        let temp = tempfile::tempdir()?;
        let (damaged, new) = (temp.path().join("damaged"), temp.path().join("new"));
        copy_folder(&data, &damaged)?;
        let file = File::options().read(true).write(true).open(damaged.join(journal))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, place)?;
        file.write_all_at(&[byte[0] ^ 4], place)?;
        let saved = embedded::salvage(&damaged.join("default"), &new, "default")?;
        ensure!(saved.commits_lost == 1, "byte {place}: {saved:?}");
        lost_in_all += saved.commits_lost;

        let broker = Broker::open_with(config.clone(), &new)?.bind("127.0.0.1:0").await?;
        let client = Mycelium::connect(broker.url()).await?;
        let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 4, 8)).await?;
        let ended = until("the end of all", async || Ok((count_jobs(&client).await? == 0).then_some(())));
        ended.await.with_context(|| format!("byte {place}: {saved:?}"))?;
        elf.stop().await?;
        drop(client);
        broker.stop().await?;
    }
    ensure!(lost_in_all == PLACES);
    Ok(())
}

/// Submits one job after the other, and counts those that are acknowledged.
async fn submit_until(
    client: Mycelium,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let run = client.flow("load").submit().await?;
    while !stop.load(Ordering::SeqCst) {
        let more: Flow = client.flow("load");
        let _job = Tester::tasks(&more, "adder").task_add(list![1u64], 0u64);
        more.submit().await?;
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    drop(run);
    Ok(())
}

async fn count_jobs(client: &Mycelium) -> anyhow::Result<u64> {
    let status = client.get_status(v1::GetStatusRequest::default()).await?;
    let unfinished = status.unfinished.context("no counts")?;
    Ok(unfinished.pending + unfinished.ready + unfinished.running)
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_under_load_open_and_have_all_that_was_acknowledged() -> anyhow::Result<()> {
    const BACKUPS: usize = 15;
    let broker = BrokerProcess::start(&[]).await?;
    let client = broker.client().await?;
    let large = submit_large(&client, "large", 500).await?;
    let bytes = Bytes::from(vec![b'9'; 3_000_000]);
    let blob = wire::blob_of(&bytes);
    wire::write_blob(&mut wire::blob_client(&broker.url()).await?, &bytes).await?;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = tokio::spawn(submit_until(client.clone(), Arc::clone(&stop), Arc::clone(&acknowledged)));

    let temp = tempfile::tempdir()?;
    for number in 0..BACKUPS {
        let folder = temp.path().join(format!("backup-{number}"));
        let before = acknowledged.load(Ordering::SeqCst);
        let done = mycelium(&["store", "backup", utf8(&folder)?, "--url", &broker.url()]).await?;
        ensure!(done.status.success(), "{done:?}");
        ensure!(open_to_others(&folder)?.is_empty(), "others can read the backup");
        let checked = mycelium(&["store", "check", utf8(&folder)?]).await?;
        ensure!(checked.status.success(), "{checked:?}");
        let copy = Broker::open(&folder)?.bind("127.0.0.1:0").await?;
        let of_copy = Mycelium::connect(copy.url()).await?;
        let found = count_jobs(&of_copy).await?;
        ensure!(found >= before + 500, "backup {number} has {found} jobs, and {before} were acknowledged");
        let counts = counts(&of_copy, large.flow_id()).await?;
        ensure!(counts.pending + counts.ready == 500, "{counts:?}");
        let read = wire::read_blob(&mut wire::blob_client(&copy.url()).await?, &blob.digest).await??;
        ensure!(read == bytes);
        drop(of_copy);
        copy.stop().await?;
        let again = mycelium(&["store", "backup", utf8(&folder)?, "--url", &broker.url()]).await?;
        ensure!(again.status.code() == Some(2), "{again:?}");
        ensure!(text(&again).contains("is there already"), "{again:?}");
    }
    stop.store(true, Ordering::SeqCst);
    must("the end of the load", load).await???;
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_broken_off_is_not_opened() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let _run = submit_large(&broker.client().await?, "large", JOBS).await?;
    let temp = tempfile::tempdir()?;
    let mut broken_off = None;
    // One that is done before it is killed is tried again.
    for number in 0..50 {
        let folder = temp.path().join(format!("backup-{number}"));
        let mut backup = Command::new(programs::mycelium()?)
            .args(["store", "backup", utf8(&folder)?, "--url", &broker.url()])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let unfinished = folder.join("default/mycelium.unfinished");
        let format = folder.join("default/mycelium.format");
        until("its beginning", async || Ok((unfinished.exists() || format.exists()).then_some(()))).await?;
        backup.kill().await?;
        if unfinished.exists() {
            broken_off = Some(folder);
            break;
        }
    }
    let folder = broken_off.context("every backup was done before it was killed")?;
    let serve = mycelium(&["serve", "--listen", "127.0.0.1:0", "--data-dir", utf8(&folder)?]).await?;
    ensure!(!serve.status.success(), "{serve:?}");
    ensure!(text(&serve).contains("it is a copy that was not finished"), "{serve:?}");
    let check = mycelium(&["store", "check", utf8(&folder)?]).await?;
    ensure!(check.status.code() == Some(2), "{check:?}");
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_is_not_backed_up() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let channel = tonic::transport::Channel::from_shared(broker.url())?.connect().await?;
    let mut client = StoreServiceClient::new(channel);
    let refused = client.backup(v1::BackupRequest::default()).await;
    let reason = mycelium_proto::reason::BACKUP_NOT_POSSIBLE;
    wire::expect_refusal(refused, tonic::Code::FailedPrecondition, reason, &[])?;
    drop(client);
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_start_on_a_damaged_folder_says_what_to_do() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let data = temp.path().join("data");
    Broker::open(&data)?.bind("127.0.0.1:0").await?.stop().await?;
    fs::write(data.join("default/mycelium.mark"), "")?;
    let data = utf8(&data)?;
    let serve = mycelium(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data]).await?;
    ensure!(serve.status.code() == Some(1), "{serve:?}");
    for part in ["default/mycelium.mark is unreadable", &format!("mycelium store check {data}")] {
        ensure!(text(&serve).contains(part), "{serve:?}");
    }
    let check = mycelium(&["store", "check", data]).await?;
    ensure!(check.status.code() == Some(1), "{check:?}");
    ensure!(text(&check).contains("default/mycelium.mark"), "{check:?}");

    // Nothing is lost with the mark.
    let new = temp.path().join("new");
    let salvaged = mycelium(&["store", "salvage", data, utf8(&new)?]).await?;
    ensure!(salvaged.status.success(), "{salvaged:?}");
    Broker::open(&new)?.bind("127.0.0.1:0").await?.stop().await?;
    Ok(())
}
