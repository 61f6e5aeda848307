//! The example `hello` does what its text says.

use elf_runtime::Mycelium;
use elf_runtime::v1::{JobStatus, ListJobsRequest};
use integration_tests::example;
use mycelium_server::Broker;

#[tokio::test]
async fn hello_brings_its_own_broker_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = example::run("hello", folder.path(), &[]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "Hello, mycelium!\n13 letters were printed\n");
    assert_eq!(ended.stderr, "");
    assert!(example::names_in(folder.path())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn hello_takes_a_broker_that_runs() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    let ended = example::run("hello", folder.path(), &["--url", &broker.url()]).await?;
    assert!(ended.code == Some(0), "{ended:?}");

    let mycelium = Mycelium::connect(broker.url()).await?;
    let jobs = mycelium.list_jobs(ListJobsRequest::default()).await?.jobs;
    let mut tasks: Vec<_> = jobs.iter().map(|job| (job.task.as_str(), job.status())).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, [("task_greet", JobStatus::Done), ("task_print", JobStatus::Done)]);
    drop(mycelium);
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn hello_says_that_no_broker_answers() -> anyhow::Result<()> {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let folder = tempfile::tempdir()?;
    let ended = example::run("hello", folder.path(), &["--url", &format!("http://127.0.0.1:{port}")]).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("error: no broker answers at http://127.0.0.1:"), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    Ok(())
}
