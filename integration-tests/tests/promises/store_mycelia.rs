//! A data folder has many mycelia: all of them are checked, salvaged and backed up, each by its name.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Mycelium, list};
use integration_tests::{BrokerProcess, Tester, programs, wire};
use mycelium_proto::v1;
use mycelium_server::Broker;
use mycelium_testing::{Ended, run};

/// The mycelia of these tests, and how many jobs each has.
const ALL: [(&str, u64); 3] = [("default", 3), ("north", 5), ("south", 7)];

async fn command(arguments: &[&str]) -> anyhow::Result<Ended> {
    run(mycelium_testing::command(programs::mycelium()?).args(arguments)).await
}

async fn client(url: &str, mycelium: &str) -> anyhow::Result<Mycelium> {
    Ok(Mycelium::builder(url).mycelium(mycelium).connect().await?)
}

async fn fill(broker: &BrokerProcess) -> anyhow::Result<()> {
    for (name, jobs) in ALL {
        let flow = client(&broker.url(), name).await?.flow("waiting");
        for number in 0..jobs {
            let _job = Tester::tasks(&flow, "nobody").task_add(list![number], 0u64);
        }
        flow.submit().await?;
    }
    Ok(())
}

/// Makes sure that a broker on a data folder has these mycelia, and so many jobs in each.
async fn expect(data: &Path, expected: &[(&str, u64)]) -> anyhow::Result<()> {
    let broker = Broker::open(data)?.bind("127.0.0.1:0").await?;
    let listed =
        client(&broker.url(), "default").await?.list_mycelia(v1::ListMyceliaRequest::default()).await?;
    let mut names: Vec<_> = listed.mycelia.into_iter().map(|one| one.name).collect();
    names.sort();
    ensure!(names.iter().eq(expected.iter().map(|(name, _)| name)), "{names:?}");
    for (name, jobs) in expected {
        let status = client(&broker.url(), name).await?.get_status(v1::GetStatusRequest::default()).await?;
        let unfinished = status.unfinished.context("no counts")?;
        ensure!(unfinished.pending + unfinished.ready == *jobs, "{name}: {unfinished:?}");
    }
    Ok(broker.stop().await?)
}

/// Flips a byte within the first record of a journal.
fn damage(data: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let journal = data.join(name).join("store/0.jnl");
    let file = File::options().read(true).write(true).open(&journal)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40)?;
    file.write_all_at(&[!byte[0]], 40)?;
    Ok(journal)
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mycelia_of_a_folder_are_checked_and_salvaged_by_their_names() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    fill(&broker).await?;
    let data = broker.data_folder();
    let folder = utf8(&data)?;
    // Those that are closed are not looked at either, lest the broker cannot open them.
    let in_use = command(&["store", "check", folder]).await?;
    ensure!(in_use.code == Some(2) && in_use.stderr.contains("in use by another broker"), "{in_use:?}");
    broker.kill().await?;

    let healthy = command(&["store", "check", folder]).await?;
    ensure!(healthy.code == Some(0), "{healthy:?}");
    for (name, _) in ALL {
        ensure!(healthy.stdout.lines().any(|line| line.starts_with(&format!("{name}: "))), "{healthy:?}");
    }

    let journal = damage(&data, "north")?;
    // One that cannot be looked at does not keep the others from it.
    fs::create_dir(data.join("copied"))?;
    fs::write(data.join("copied/mycelium.unfinished"), "")?;
    let damaged = command(&["store", "check", folder]).await?;
    ensure!(damaged.code == Some(1), "{damaged:?}");
    for line in [
        format!("north: damaged: the journal {}", journal.display()),
        format!("copied: {}", data.join("copied").display()),
        "default: ".to_owned(),
        "south: ".to_owned(),
    ] {
        ensure!(damaged.stdout.lines().any(|told| told.starts_with(&line)), "no {line}: {damaged:?}");
    }
    let repair = format!("in 1 of 4 mycelia; save the rest with: mycelium store salvage {folder} NEW");
    ensure!(damaged.stderr.contains(&repair), "{damaged:?}");
    for (name, code) in [("north", 1), ("south", 0), ("copied", 2), ("west", 2)] {
        let one = command(&["store", "check", folder, "--mycelium", name]).await?;
        ensure!(one.code == Some(code), "{name}: {one:?}");
    }
    let own_folder = command(&["store", "check", utf8(&data.join("south"))?]).await?;
    ensure!(own_folder.code == Some(0), "{own_folder:?}");
    let json = command(&["store", "check", folder, "--output", "json"]).await?;
    let lines: Vec<serde_json::Value> =
        json.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let told: Vec<_> =
        lines.iter().map(|line| (&line["mycelium"], line["damage"] != serde_json::json!([]))).collect();
    ensure!(told.len() == 4 && told.contains(&(&"north".into(), true)), "{told:?}");
    ensure!(told.iter().filter(|(_, is_damaged)| *is_damaged).count() == 1, "{told:?}");

    let temp = tempfile::tempdir()?;
    let new = temp.path().join("new");
    let salvaged = command(&["store", "salvage", folder, utf8(&new)?]).await?;
    ensure!(salvaged.code == Some(1) && salvaged.stderr.contains("copied: "), "{salvaged:?}");
    ensure!(salvaged.stdout.contains("north: LOST: "), "{salvaged:?}");
    expect(&new, &[("default", 3), ("north", 0), ("south", 7)]).await?;
    let again = command(&["store", "salvage", folder, utf8(&new)?]).await?;
    ensure!(again.code == Some(2), "{again:?}");
    let one = temp.path().join("one");
    let salvaged = command(&["store", "salvage", folder, utf8(&one)?, "--mycelium", "south"]).await?;
    ensure!(salvaged.code == Some(0), "{salvaged:?}");
    expect(&one, &[("default", 7)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mycelia_of_a_broker_are_backed_up() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    fill(&broker).await?;
    let bytes = Bytes::from(vec![b'9'; 300_000]);
    wire::write_blob(&mut wire::blob_client(&broker.url()).await?, &bytes).await?;
    let (temp, url) = (tempfile::tempdir()?, broker.url());
    let all = temp.path().join("all");
    let done = command(&["store", "backup", utf8(&all)?, "--url", &url]).await?;
    ensure!(done.code == Some(0), "{done:?}");
    for (name, blobs) in [("default", "1 blob"), ("north", "0 blobs"), ("south", "0 blobs")] {
        let told = |line: &str| line.starts_with(&format!("{name}: ")) && line.contains(blobs);
        ensure!(done.stdout.lines().any(told), "{name}: {done:?}");
    }
    expect(&all, &ALL).await?;

    let one = temp.path().join("one");
    let done = command(&["store", "backup", utf8(&one)?, "--url", &url, "--mycelium", "north"]).await?;
    ensure!(done.code == Some(0), "{done:?}");
    expect(&one, &[("default", 5)]).await?;

    // Without the one that is copied last nobody takes what there is of the others for all.
    fs::remove_dir_all(all.join("default"))?;
    let Err(refused) = Broker::open(&all) else { anyhow::bail!("a broker opens a part of a copy") };
    ensure!(format!("{refused:?}").contains("no folder `default`"), "{refused:?}");
    broker.stop().await
}
