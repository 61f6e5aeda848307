//! The example `branches` does what its text says.

use elf_runtime::Mycelium;
use elf_runtime::v1::{JobStatus, ListJobsRequest};
use integration_tests::example;
use mycelium_server::Broker;

#[tokio::test]
async fn branches_takes_one_branch_and_runs_a_job_for_each_element() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = example::run("branches", folder.path(), &[]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "ant, bee, elephant weigh [1, 1, 5000] kg\n\
         lorry: a lorry with 5002 kg\n\
         bicycle: skipped\n\
         welcome, a lorry with 5002 kg!\n\
         the yard is swept\n\
         8 jobs DONE, 1 SKIPPED\n"
    );
    assert_eq!(ended.stderr, "");
    assert!(example::names_in(folder.path())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_jobs_of_its_elements_are_jobs_like_any_other() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    let ended = example::run("branches", folder.path(), &["--url", &broker.url()]).await?;
    assert!(ended.code == Some(0), "{ended:?}");

    let mycelium = Mycelium::connect(broker.url()).await?;
    let request = ListJobsRequest { task: "task_weigh".to_owned(), ..ListJobsRequest::default() };
    let weigh = mycelium.list_jobs(request).await?.jobs;
    assert!(weigh.iter().all(|job| job.status() == JobStatus::Done), "{weigh:?}");
    // The three of the elements have run; the one that gathers what they returned has not, and knows how many.
    let mut seen: Vec<_> = weigh.iter().map(|job| (job.attempt, job.elements)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, Some(3)), (1, None), (1, None), (1, None)]);
    drop(mycelium);
    broker.stop().await?;
    Ok(())
}
