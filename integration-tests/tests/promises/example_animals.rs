//! The example `animals` does what its text says, and never leaves a process behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use elf_runtime::Mycelium;
use elf_runtime::v1::{
    Elf, GetGraphRequest, JobEdgeKind, ListElvesRequest, ListFlowsRequest, get_graph_request,
};
use integration_tests::{example, programs, until};
use mycelium_server::Broker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Enough to be busy for longer than it takes to be interrupted.
const LONG: [&str; 2] = ["--animals", "2000"];

/// Minimum, mean and maximum by species, as a report shows them.
type Statistics = BTreeMap<String, [String; 3]>;

/// The rows of the Markdown tables with this many columns, without their headers.
fn table_rows(stdout: &str, columns: usize) -> Vec<Vec<String>> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = stdout.lines().filter(|line| line.starts_with("| ")).map(cells);
    let rows = rows.map(|cells| cells[1..cells.len() - 1].to_vec());
    rows.filter(|cells| cells.len() == columns && cells[0] != "species" && cells[0] != "elf").collect()
}

fn reported(stdout: &str) -> anyhow::Result<Statistics> {
    let rows = table_rows(stdout, 4).into_iter().map(|row| {
        let [species, min, mean, max] = <[String; 4]>::try_from(row).ok().context("four columns")?;
        Ok((species, [min, mean, max]))
    });
    rows.collect()
}

/// The same from the file, and how many rows it has.
fn expected(folder: &Path) -> anyhow::Result<(usize, Statistics)> {
    let text = std::fs::read(folder.join("animals.json"))?;
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&text)?;
    let mut weights: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in &rows {
        let species = row["species"].as_str().context("a species")?;
        weights.entry(species.to_owned()).or_default().push(row["weight"].as_f64().context("a weight")?);
    }
    let jobs: BTreeSet<_> = rows.iter().map(|row| row["job"].as_str()).collect();
    assert_eq!(jobs.len(), rows.len(), "each row comes from a job of its own");
    let statistics = weights.into_iter().map(|(species, weights)| {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let min = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let max = weights.iter().copied().fold(0.0, f64::max);
        (species, [min, mean, max].map(|number| format!("{number:.1}")))
    });
    Ok((rows.len(), statistics.collect()))
}

#[tokio::test]
async fn animals_reports_and_running_it_again_keeps_the_history() -> anyhow::Result<()> {
    // The one that the example finds beside it.
    programs::mycelium()?;
    let folder = tempfile::tempdir()?;
    let mut flow_ids = BTreeSet::new();
    for run in 1..=2 {
        let ended = example::run("animals", folder.path(), &[]).await?;
        assert!(ended.code == Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "", "no progress bar where nobody watches, and nothing to complain about");
        let stdout = &ended.stdout;
        assert!(stdout.contains("\n20 of 20 reports DONE, none failed\n"), "{stdout}");

        let (rows, statistics) = expected(folder.path())?;
        assert_eq!(rows, 100 * run);
        assert!(stdout.contains(&format!("The weights of {rows} animals, in grams\n")), "{stdout}");
        assert_eq!(reported(stdout)?, statistics);

        let summary = table_rows(stdout, 5);
        let jobs: Vec<_> = summary.iter().map(|row| [&row[0], &row[2], &row[3], &row[4]]).collect();
        assert_eq!(
            jobs,
            [
                ["animals creator", "task_pick", "DONE", "100"],
                ["animals data store", "task_save", "DONE", "100"],
                ["max", "task_by_species", "DONE", "20"],
                ["mean", "task_by_species", "DONE", "20"],
                ["min", "task_by_species", "DONE", "20"],
                ["report printer", "task_print", "DONE", "20"],
            ]
        );
        let processes: BTreeSet<u32> = summary.iter().map(|row| row[1].parse()).collect::<Result<_, _>>()?;
        assert_eq!(processes.len(), 6, "{summary:?}");
        assert!(stdout.contains("\n280 jobs in "), "{stdout}");
        for process_id in processes {
            assert!(!example::is_running(process_id), "the process {process_id} is left behind");
        }

        let mycelium = programs::mycelium()?.display().to_string();
        assert!(stdout.contains(&format!("\n  {mycelium} serve --data-dir ./mycelium-data\n")), "{stdout}");
        let graph = format!("\n  {mycelium} graph --flow ");
        let flow_id = stdout.split(&graph).nth(1).and_then(|rest| rest.lines().next()).context("a flow")?;
        assert!(flow_ids.insert(flow_id.to_owned()), "each run is a flow of its own");
        let names = ["animals.json".to_owned(), "mycelium-data".to_owned()];
        assert_eq!(example::names_in(folder.path())?, names.into());
    }
    check_graphs(folder.path(), &flow_ids).await
}

/// Both flows are in the folder, whole, and the edges of their graphs are those of their values.
async fn check_graphs(folder: &Path, flow_ids: &BTreeSet<String>) -> anyhow::Result<()> {
    let broker = Broker::open(folder.join("mycelium-data"))?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let flows = mycelium.list_flows(ListFlowsRequest::default()).await?.flows;
    let mut found = BTreeSet::new();
    for flow in flows {
        found.insert(elf_runtime::FlowId::try_from(&flow.flow_id[..])?.to_string());
        let counts = flow.counts.context("counts")?;
        assert_eq!((counts.done, counts.failed, counts.running), (280, 0, 0));

        let root = Some(get_graph_request::Root::FlowId(flow.flow_id));
        let request = GetGraphRequest { root, page_size: 1_000, ..GetGraphRequest::default() };
        let graph = mycelium.get_graph(request).await?;
        assert_eq!((graph.jobs.len(), graph.next_page_token.as_str()), (280, ""));
        let mut edges: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for edge in &graph.edges {
            assert_eq!(edge.kind(), JobEdgeKind::Value, "{edge:?}");
            *edges.entry((&edge.output, &edge.parameter)).or_default() += 1;
        }
        let expected = [
            (("", "max"), 20),
            (("", "mean"), 20),
            (("", "min"), 20),
            (("", "rows"), 80),
            (("", "rows_before"), 99),
            (("species", "species"), 100),
            (("weight", "weight"), 100),
        ];
        assert_eq!(edges, expected.into());
    }
    assert_eq!(&found, flow_ids);
    drop(mycelium);
    broker.stop().await?;
    Ok(())
}

/// Starts a long run, and waits until its six elves are there. Returns it with the broker's URL, which is in the
/// command line of each of its elves and of no other process.
async fn start_long(folder: &Path) -> anyhow::Result<(example::Running, String)> {
    let (running, line) = example::Running::start("animals", folder, &LONG).await?;
    let url = line.strip_prefix("broker at ").and_then(|rest| rest.split(' ').next());
    let url = format!(" --url {} ", url.with_context(|| format!("no broker in `{line}`"))?);
    until("six elves", || {
        let elves = example::processes_with(&["animals elf ", &url]);
        async { Ok((elves?.len() == 6).then_some(())) }
    })
    .await?;
    Ok((running, url))
}

async fn no_elf_is_left(url: &str) -> anyhow::Result<()> {
    until("the end of all elves", || {
        let elves = example::processes_with(&["animals elf ", url]);
        async { Ok(elves?.is_empty().then_some(())) }
    })
    .await
}

fn send(signal: Signal, process_id: u32) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(process_id)?), signal)?)
}

#[tokio::test]
async fn animals_that_is_interrupted_takes_its_elves_with_it() -> anyhow::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = tempfile::tempdir()?;
        let (running, url) = start_long(folder.path()).await?;
        send(signal, running.pid()?)?;
        let ended = running.end().await?;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.starts_with("animals: told to stop: "), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "the elves left in good order: {ended:?}");
        assert!(example::processes_with(&["animals elf ", &url])?.is_empty(), "they ended before it did");
    }
    Ok(())
}

/// Ctrl-C in a terminal reaches every process in it: the elves leave it to the one that started them.
#[tokio::test]
async fn an_interrupt_of_all_processes_ends_them_in_good_order() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (running, url) = start_long(folder.path()).await?;
    let mycelium = Mycelium::connect(url.trim().trim_start_matches("--url ")).await?;
    until("six elves that are connected", || async {
        let elves = mycelium.list_elves(ListElvesRequest::default()).await?.elves;
        let is_connected = |elf: &Elf| elf.instances.iter().any(|instance| instance.connected);
        Ok((elves.iter().filter(|elf| is_connected(elf)).count() == 6).then_some(()))
    })
    .await?;
    drop(mycelium);
    for elf in example::processes_with(&["animals elf ", &url])? {
        send(Signal::SIGINT, elf)?;
    }
    send(Signal::SIGINT, running.pid()?)?;
    let ended = running.end().await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with("animals: told to stop: "), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    no_elf_is_left(&url).await
}

#[tokio::test]
async fn elves_leave_when_animals_is_killed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (running, url) = start_long(folder.path()).await?;
    send(Signal::SIGKILL, running.pid()?)?;
    no_elf_is_left(&url).await
}

#[tokio::test]
async fn animals_fails_when_one_of_its_elves_dies() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (running, url) = start_long(folder.path()).await?;
    let mean = example::processes_with(&["animals elf ", " --name mean ", &url])?;
    let mean = mean.first().copied().context("the elf `mean`")?;
    send(Signal::SIGKILL, mean)?;
    let ended = running.end().await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("animals: the elf `mean` ended by itself, with signal: 9"), "{ended:?}");
    no_elf_is_left(&url).await
}
