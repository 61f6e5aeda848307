//! What a broker keeps in ArangoDB is read by a client that knows nothing of brokers: the one in Python, as people use it.
//!
//! It needs Python with `python-arango`; `MYCELIUM_PYTHON` names one that has it, and `python3` is tried without it. Where
//! there is none the test says so, and tests nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;
use arangodb_double::{Access, Double, ROOT};
use elf_runtime::{TaskError, machine_elf};
use integration_tests::{BrokerProcess, Worker, must};
use mycelium_testing::{Ended, run};
use serde_json::{Value, json};
use tokio::process::Command;

const PASSWORD: &str = "a password";
const DATABASE: &str = "BLUMYC_default";
/// Who may read, and nothing else.
const READER: &str = "reader";

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, species: String) -> Result<usize, TaskError> {
        Ok(10 * species.len())
    }

    async fn task_double(&self, weight: usize) -> Result<usize, TaskError> {
        Ok(2 * weight)
    }

    async fn task_break(&self, weight: usize) -> Result<usize, TaskError> {
        Err(TaskError::new("Broken", format!("{weight} is too much")))
    }

    async fn task_print(&self, weight: usize) -> Result<String, TaskError> {
        Ok(weight.to_string())
    }
}

/// An interpreter that has python-arango; `None`, loudly, where there is none.
async fn python() -> Option<PathBuf> {
    let program = PathBuf::from(std::env::var_os("MYCELIUM_PYTHON").unwrap_or_else(|| "python3".into()));
    let mut probe = Command::new(&program);
    probe.args(["-c", "import arango"]).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().await.is_ok_and(|status| status.success()) {
        return Some(program);
    }
    eprintln!(
        "SKIPPED: {} has no python-arango; install it and name the interpreter in MYCELIUM_PYTHON",
        program.display()
    );
    None
}

async fn read(python: &Path, double: &Double, flow: &str, password: &str) -> anyhow::Result<Ended> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_arango.py");
    let mut command = Command::new(python);
    command.arg(script).args([&double.url(), DATABASE, flow]).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("MYCELIUM_STORE_USER", READER).env("MYCELIUM_STORE_PASSWORD", password);
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_arango_reads_what_a_broker_keeps() -> anyhow::Result<()> {
    let Some(python) = python().await else { return Ok(()) };
    let double = Double::start(PASSWORD).await?;
    let login = [("MYCELIUM_STORE_USER", ROOT), ("MYCELIUM_STORE_PASSWORD", PASSWORD)];
    let broker = BrokerProcess::start_with(&["--store", &double.url()], &login).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
    let flow = mycelium.flow("weights");
    let scale = Scale::tasks(&flow, "scale");
    let weight = scale.task_weigh("bee");
    let twice = scale.task_double(weight.value());
    let broken = scale.task_break(twice.value());
    let printed = scale.task_print(broken.value());
    let id = flow.id().to_string();
    let run = flow.submit().await?;
    ensure!(must("the end of the last job", run.result(&printed)).await?.is_err());

    double.add_user(READER, "of the reader");
    double.grant_database(READER, DATABASE, Access::Read);
    double.grant_collection(READER, DATABASE, "*", Access::Read);
    let ended = read(&python, &double, &id, "of the reader").await?;
    ensure!(ended.code == Some(0), "{}", ended.stderr);
    let found: Value = serde_json::from_str(&ended.stdout)?;
    let refused = read(&python, &double, &id, "of another").await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("[HTTP 401]"), "{refused:?}");
    worker.stop().await?;
    broker.stop().await?;
    double.assert_known();

    has_the_shape_of_a_mycelium(&found);
    assert_eq!(found["number of jobs"], 4);
    let failures = found["failures"].as_object().unwrap();
    let (failure, told) = failures.iter().next().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(*told, json!({"type": "Broken", "message": "60 is too much", "occurrences": 1}));
    let jobs = json!({
        "task_weigh": {
            "status": "DONE",
            "results": {"value": 30},
            "leads to": ["task_double", "task_break", "task_print"],
            "failures": [],
        },
        "task_double": {
            "status": "DONE",
            "results": {"value": 60},
            "leads to": ["task_break", "task_print"],
            "failures": [],
        },
        "task_break": {"status": "FAILED", "results": {}, "leads to": ["task_print"], "failures": [failure]},
        "task_print": {"status": "UPSTREAM_FAILED", "results": {}, "leads to": [], "failures": []},
    });
    assert_eq!(found["jobs"], jobs);
    let elf = json!({"name": "scale", "tasks": ["task_weigh", "task_double", "task_break", "task_print"]});
    assert_eq!(found["elves"], json!({"scale": elf}));
    Ok(())
}

/// The collections, graphs and indexes of a mycelium, as the client tells of them.
fn has_the_shape_of_a_mycelium(found: &Value) {
    let collections = json!({
        "BrokerLeases": "document",
        "BrokerLogs": "document",
        "BrokerRecords": "document",
        "Failures": "document",
        "Flows": "document",
        "JobFailures": "edge",
        "JobParameters": "edge",
        "JobResults": "edge",
        "JobToJob": "edge",
        "Jobs": "document",
        "MachineElves": "document",
        "MachineElvesRevisions": "document",
        "ParameterOrigins": "edge",
        "Parameters": "document",
        "Results": "document",
    });
    assert_eq!(found["collections"], collections);
    let parameters = json!([["Jobs"], ["Parameters"]]);
    let graphs = json!({
        "Jobs_graph": {"JobToJob": [["Jobs"], ["Jobs"]]},
        "JobParameters_graph": {"JobParameters": parameters},
        "JobFailures_graph": {"JobFailures": [["Jobs"], ["Failures"]]},
        "Lineage_graph": {
            "JobParameters": parameters,
            "JobResults": [["Jobs"], ["Results"]],
            "ParameterOrigins": [["Parameters"], ["Jobs", "Results"]],
        },
    });
    assert_eq!(found["graphs"], graphs);
    let indexes = &found["indexes"];
    assert_eq!(indexes["primary"]["fields"], json!(["_key"]));
    let flow = json!({"type": "persistent", "fields": ["flow", "fin"], "sparse": false, "unique": false});
    assert_eq!(indexes["flow_fin"], flow);
    let open = json!({"type": "persistent", "fields": ["open", "ord"], "sparse": true, "unique": false});
    assert_eq!(indexes["open_ord"], open);
}
