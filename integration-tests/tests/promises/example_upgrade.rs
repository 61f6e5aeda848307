//! The example `upgrade` does what its text says.

use integration_tests::example;

#[tokio::test]
async fn upgrade_ships_every_order_with_a_version_that_takes_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = example::run("upgrade", folder.path(), &[]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [four, five, six, waits, refused, one, two, three] = lines[..] else { panic!("{ended:?}") };
    for (number, line) in (4..).zip([four, five, six]) {
        assert_eq!(line, format!("{number} shipped by version 2, as toys"));
    }
    assert!(waits.starts_with("order 1 is READY: ") && waits.contains("`customs`"), "{waits}");
    assert!(refused.starts_with("order 8 is refused: ") && refused.contains("`customs`"), "{refused}");
    for (number, line) in (1..).zip([one, two, three]) {
        assert_eq!(line, format!("{number} shipped by version 3, as what it is"));
    }
    assert!(example::names_in(folder.path())?.is_empty());
    Ok(())
}
