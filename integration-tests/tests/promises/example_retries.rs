//! The example `retries` fetches what is busy at first, and does not try again what would fail again.

use integration_tests::example;

#[tokio::test]
async fn retries_fetches_what_can_be_had_and_gives_up_on_the_rest_at_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = example::run("retries", folder.path(), &[]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    let expected = [
        "fetched `front`, at attempt 3",
        "fetched `slow`, at attempt 3",
        "fetched `stubborn`, at attempt 3",
        "fetched `late`, at attempt 3",
        "not fetched, and tried once: FetchError::NotFound: there is no page `missing`",
        "not fetched, and tried once: Forbidden: this page is for others",
    ];
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), expected);
    assert_eq!(example::names_in(folder.path())?.len(), 0, "it leaves nothing behind");
    Ok(())
}
