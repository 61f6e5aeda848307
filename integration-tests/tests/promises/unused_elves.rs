//! With rules of retention, elves go that nobody needs any more, and revisions that nothing refers to.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Elf, Error, Mycelium};
use integration_tests::{Worker, must, orders, until};
use mycelium_proto::{reason, v1};
use mycelium_server::{Broker, Config};

const ELF: &str = "shipper";

/// Revisions of the elf and its task, as task and digest.
type Revisions = BTreeSet<(String, Bytes)>;

async fn kept(mycelium: &Mycelium) -> Result<Revisions, Error> {
    let request = v1::ListRevisionsRequest { elf: ELF.to_owned(), ..v1::ListRevisionsRequest::default() };
    let listed = mycelium.list_revisions(request).await?.revisions;
    Ok(listed.into_iter().map(|revision| (revision.task, revision.revision)).collect())
}

async fn elves(mycelium: &Mycelium) -> Result<Vec<String>, Error> {
    let listed = mycelium.list_elves(v1::ListElvesRequest::default()).await?.elves;
    Ok(listed.into_iter().filter_map(|elf| elf.declaration).map(|declared| declared.name).collect())
}

/// Serves the elf, and has it ship an order of that flow. Returns the revisions that came with it.
async fn shipped(mycelium: &Mycelium, elf: impl Elf, flow: &str) -> anyhow::Result<Revisions> {
    let before = match kept(mycelium).await {
        Err(error) if error.reason() == Some(reason::ELF_NOT_FOUND) => Revisions::new(),
        before => before?,
    };
    let worker = Worker::start(mycelium.serve().elf(ELF, elf)).await?;
    let flow = mycelium.flow(flow);
    let _job = orders::v1::Shipper::tasks(&flow, ELF).task_ship(1);
    must("the end of the flow", flow.submit().await?.wait()).await??;
    worker.stop().await?;
    Ok(kept(mycelium).await?.difference(&before).cloned().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_refers_to_goes_and_nothing_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = Config { retention: "stays:any=forever, done=1s".parse()?, ..Config::default() };
    let broker = Broker::open_with(config, folder.path())?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;

    let first = shipped(&mycelium, orders::v1::Shipper, "stays").await?;
    let second = shipped(&mycelium, orders::v4::Shipper, "passes").await?;
    ensure!(first.len() == 2 && second.len() == 2, "{first:?} {second:?}");
    let (_, of_task) = first.iter().find(|(task, _)| !task.is_empty()).context("no revision of the task")?;
    let serving = Worker::start(mycelium.serve().elf(ELF, orders::v2::Shipper)).await?;
    let served: Revisions = kept(&mycelium).await?.into_iter().filter(|one| !first.contains(one)).collect();
    let served: Revisions = served.difference(&second).cloned().collect();
    // Nobody has jobs of this one.
    let idle = Worker::start(mycelium.serve().elf("idle", orders::v1::Shipper)).await?;
    ensure!(elves(&mycelium).await?.contains(&"idle".to_owned()));
    idle.stop().await?;

    until("the end of what nobody needs", || async {
        let is_gone = second.is_disjoint(&kept(&mycelium).await?);
        Ok((is_gone && elves(&mycelium).await? == [ELF]).then_some(()))
    })
    .await?;
    let request = v1::GetElfRequest { name: "idle".to_owned(), ..v1::GetElfRequest::default() };
    let error = mycelium.get_elf(request).await.err().context("an elf that is gone is shown")?;
    ensure!(error.reason() == Some(reason::ELF_NOT_FOUND), "{error}");
    // What the attempt of a kept job was of, and what is served.
    let request = v1::GetRevisionRequest {
        elf: ELF.to_owned(),
        task: "task_ship".to_owned(),
        revision: of_task.clone(),
        ..v1::GetRevisionRequest::default()
    };
    let source = mycelium.get_revision(request).await?.revision.context("no revision")?.source;
    ensure!(source.contains("by 1"), "{source}");
    ensure!(served.len() == 2 && served.is_subset(&kept(&mycelium).await?), "{served:?}");

    // One that nobody serves stays for its job, with what it declared last.
    serving.stop().await?;
    let last = shipped(&mycelium, orders::v4::Shipper, "passes too").await?;
    until("the end of what is no longer served", || async {
        Ok(served.is_disjoint(&kept(&mycelium).await?).then_some(()))
    })
    .await?;
    let left = kept(&mycelium).await?;
    ensure!(last.is_subset(&left) && left.iter().any(|(_, digest)| digest == of_task), "{left:?}");
    ensure!(elves(&mycelium).await? == [ELF], "an elf went that has a job");
    Ok(broker.stop().await?)
}
