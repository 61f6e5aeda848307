//! The example `long_task` does what its text says: it looks itself at which attempt went on from where, and what became of
//! the job that was cancelled.

use integration_tests::example;

#[tokio::test]
async fn long_task_goes_on_from_a_checkpoint_and_is_cancelled() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = example::run("long_task", folder.path(), &[]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "more than 30 % are done, and the process is killed\n\
         attempt 2 went on from a checkpoint, and not from the beginning\n\
         a job that would take far longer is cancelled while it runs\n"
    );
    assert!(example::names_in(folder.path())?.is_empty());
    Ok(())
}
