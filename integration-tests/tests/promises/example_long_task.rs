//! The example `long_task` does what its text says.

use elf_runtime::Mycelium;
use elf_runtime::v1::{JobStatus, ListJobsRequest};
use integration_tests::example;
use mycelium_server::Broker;

#[tokio::test]
async fn long_task_goes_on_from_a_checkpoint_and_is_cancelled() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    for arguments in [&[][..], &["--url", &broker.url()]] {
        let ended = example::run("long_task", folder.path(), arguments).await?;
        assert!(ended.code == Some(0), "{ended:?}");
        assert_eq!(
            ended.stdout,
            "more than 30 % are done, and the process is killed\n\
             attempt 2 went on from a checkpoint, and not from the beginning\n\
             a job that would take far longer is cancelled while it runs\n"
        );
    }
    assert!(example::names_in(folder.path())?.is_empty());

    let mycelium = Mycelium::connect(broker.url()).await?;
    let jobs = mycelium.list_jobs(ListJobsRequest::default()).await?.jobs;
    let mut seen: Vec<_> =
        jobs.iter().map(|job| (job.status(), job.attempt, job.progress.is_some())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(JobStatus::Done, 2, false), (JobStatus::Cancelled, 1, false)]);
    drop(mycelium);
    broker.stop().await?;
    Ok(())
}
