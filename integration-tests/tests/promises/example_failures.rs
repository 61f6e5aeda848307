//! The example `failures` shows what the broker records, and leaves it where `mycelium failures` finds it.

use std::path::Path;

use elf_runtime::Mycelium;
use elf_runtime::v1::{FailureGroup, ListFailuresRequest};
use integration_tests::example;
use mycelium_server::Broker;

const SOURCE: &str = include_str!("../../../examples/src/bin/failures.rs");
const FILE: &str = "examples/src/bin/failures.rs";

async fn failures_in(folder: &Path) -> anyhow::Result<Vec<FailureGroup>> {
    let broker = Broker::open(folder.join("mycelium-data"))?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let mut failures = mycelium.list_failures(ListFailuresRequest::default()).await?.failures;
    failures.sort_by_key(|group| group.failure.clone().unwrap_or_default().r#type);
    drop(mycelium);
    broker.stop().await?;
    Ok(failures)
}

#[tokio::test]
async fn failures_tells_place_causes_and_dependents_and_equal_ones_are_one() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let question_mark = example::line_of(SOURCE, "Ok(grams_of(&shown)?)")?;
    let division = example::line_of(SOURCE, "grams / guests")?;

    for run in 1..=2 {
        let ended = example::run("failures", folder.path(), &[]).await?;
        assert!(ended.code == Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "", "a panic of a task is no business of the standard error");
        for line in [
            "    ReadingError: the scale shows `125O`, which is no weight".to_owned(),
            "    ReadingError: the scale shows `l250`, which is no weight".to_owned(),
            format!("    at {FILE}:{question_mark}"),
            "    caused by ParseIntError: invalid digit found in string".to_owned(),
            "    Panic: attempt to divide by zero".to_owned(),
            format!("    at {FILE}:{division} failures::Kitchen::task_cut"),
            "4 jobs DONE, 3 FAILED, 5 UPSTREAM_FAILED".to_owned(),
        ] {
            assert!(ended.stdout.contains(&line), "no `{line}` in\n{}", ended.stdout);
        }
        assert!(ended.stdout.lines().all(|line| !line.ends_with(' ')), "{}", ended.stdout);
        let dependents: Vec<_> =
            ended.stdout.lines().filter(|line| line.contains(" UPSTREAM_FAILED  because of ")).collect();
        assert_eq!(dependents.len(), 5, "{dependents:?}");
        assert_eq!(dependents.iter().filter(|line| line.contains("because of task_cut, job ")).count(), 1);
        assert_eq!(example::names_in(folder.path())?, ["mycelium-data".to_owned()].into());

        let failures = failures_in(folder.path()).await?;
        let [panic, reading] = failures.as_slice() else { panic!("two kinds of failures: {failures:?}") };
        assert_eq!((panic.occurrences, reading.occurrences), (run, 2 * run));
        for (group, line) in [(panic, division), (reading, question_mark)] {
            let frames = group.failure.clone().unwrap_or_default().frames;
            assert_eq!((frames[0].file.as_str(), frames[0].line), (FILE, line), "{frames:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn failures_says_that_its_folder_is_in_use() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(folder.path().join("mycelium-data"))?.bind("127.0.0.1:0").await?;
    let ended = example::run("failures", folder.path(), &[]).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is in use by another broker"), "{ended:?}");
    assert!(ended.stderr.contains("--url"), "{ended:?}");

    let ended = example::run("failures", folder.path(), &["--url", &broker.url()]).await?;
    assert!(ended.code == Some(0), "{ended:?}");
    broker.stop().await?;
    Ok(())
}
