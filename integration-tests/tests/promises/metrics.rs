//! What a broker counts is true, bounded, and named as the documentation, the dashboard and the alerts name it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, Mycelium, RetryPolicy, v1};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, Worker, must, until, wire};
use mycelium_proto::reason;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::admin::admin_of;
use super::scrape::{Scrape, scrape};

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

/// Jobs of an elf that return, fail, are tried again and end because of others; and calls that are refused.
async fn run_a_flow(mycelium: &Mycelium, url: &str, elf: &str) -> anyhow::Result<()> {
    let flow = mycelium.flow("counted");
    let (tasks, never) = (Tester::tasks(&flow, elf), PathBuf::from("/nowhere/at/all"));
    let sum = tasks.task_add(elf_runtime::list![1u64, 2], 20);
    let twice: Job<u64> = tasks.task_add(elf_runtime::list![sum.value(), sum.value()], 0);
    let broken: Job<u32> = tasks.task_fail("permanent", never.clone());
    let retry = RetryPolicy::new().attempts(2).first(Duration::from_millis(1)).jitter(0.0);
    let tried: Job<u32> = tasks.task_fail("busy", never).retry(retry);
    let blob = tasks.task_add(elf_runtime::list![1u64], 0).after(&broken);
    let run = flow.submit().await?;
    ensure!(must("a sum", run.result(&twice)).await?? == 6);
    for failed in [&broken, &tried] {
        let ended = must("the end of a job", run.result(failed)).await?;
        ensure!(matches!(ended, Err(Error::JobFailed(_))), "{ended:?}");
    }
    ensure!(must("the end of what waits for it", run.result(&blob)).await?.is_err());
    let unknown = wire::get_job(&wire::client(url).await?, &wire::id()).await;
    ensure!(unknown.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_counted_as_it_went() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let (admin, mycelium) = (admin_of(&broker)?, broker.client().await?);
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 2, 3)).await?;
    run_a_flow(&mycelium, &broker.url(), "adder").await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let bytes = bytes::Bytes::from(vec![7; 100_000]);
    wire::write_blob(&mut blobs, &bytes).await?;
    let found = until("the large value to be seen, and the elf to be idle", async || {
        let found = scrape(admin).await?;
        let is_seen = found.value("mycelium_blobs", &[]) == 1.0;
        Ok((is_seen && found.value("mycelium_elf_held_jobs", &[("elf", "adder")]) == 0.0).then_some(found))
    })
    .await?;

    let of = [("mycelium", "default")];
    found.ensure("mycelium_ready", &[], 1.0)?;
    found.ensure("mycelium_jobs_submitted_total", &of, 5.0)?;
    for (status, jobs) in [
        ("done", 2.0),
        ("failed", 2.0),
        ("upstream_failed", 1.0),
        ("cancelled", 0.0),
        ("expired", 0.0),
        ("skipped", 0.0),
    ] {
        found.ensure("mycelium_jobs_ended_total", &[("mycelium", "default"), ("status", status)], jobs)?;
    }
    for status in ["pending", "ready", "assigned", "running", "unsealed"] {
        found.ensure("mycelium_jobs", &[("mycelium", "default"), ("status", status)], 0.0)?;
    }
    found.ensure("mycelium_attempts_total", &of, 5.0)?;
    found.ensure("mycelium_backoffs_total", &of, 1.0)?;
    found.ensure("mycelium_sessions_opened_total", &of, 1.0)?;
    found.ensure("mycelium_sessions", &of, 1.0)?;
    found.ensure("mycelium_streams", &of, 1.0)?;
    found.ensure("mycelium_store_writable", &of, 1.0)?;
    let elf_is = [("elf", "adder")];
    found.ensure("mycelium_job_queue_seconds_count", &elf_is, 5.0)?;
    found.ensure("mycelium_job_run_seconds_count", &elf_is, 5.0)?;
    let ran = found.value("mycelium_job_run_seconds_sum", &elf_is);
    ensure!((0.02..60.0).contains(&ran), "one of them took 20 ms: {ran}");
    found.ensure("mycelium_elf_sessions", &elf_is, 1.0)?;
    found.ensure("mycelium_elf_window_jobs", &elf_is, 3.0)?;
    found.ensure("mycelium_blob_bytes", &of, 100_000.0)?;
    found.ensure("mycelium_refused_total", &[("reason", reason::JOB_NOT_FOUND)], 1.0)?;
    ensure!(found.value("mycelium_commit_seconds_count", &[]) >= 5.0, "{}", found.text);
    ensure!(found.value("mycelium_commit_jobs_sum", &[]) >= 10.0, "{}", found.text);
    ensure!(found.value("mycelium_store_bytes", &of) > 100_000.0, "{}", found.text);
    ensure!(found.value("mycelium_connections", &[]) >= 2.0, "{}", found.text);
    ensure!(found.value("mycelium_budget_limit_bytes", &[("budget", "receiving")]) >= 64e6, "{}", found.text);

    // What waits for a process shows by its elf, and is timed when that has come.
    elf.stop().await?;
    let flow = mycelium.flow("waits");
    let waits = Tester::tasks(&flow, "adder").task_add(elf_runtime::list![4u64], 0);
    let run = flow.submit().await?;
    let found = until("the job to be seen waiting, and no process", async || {
        let found = scrape(admin).await?;
        let ready = found.value("mycelium_elf_jobs", &[("elf", "adder"), ("status", "ready")]);
        Ok((ready == 1.0 && found.value("mycelium_elf_sessions", &elf_is) == 0.0).then_some(found))
    })
    .await?;
    found.ensure("mycelium_jobs", &[("mycelium", "default"), ("status", "ready")], 1.0)?;
    found.ensure("mycelium_sessions_ended_total", &[("mycelium", "default"), ("how", "goodbye")], 1.0)?;
    let waited_before = found.value("mycelium_job_queue_seconds_sum", &elf_is);
    let mut elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 2, 3)).await?;
    ensure!(must("what has waited", run.result(&waits)).await?? == 4);
    let found = scrape(admin).await?;
    found.ensure("mycelium_job_queue_seconds_count", &elf_is, 6.0)?;
    let waited = found.value("mycelium_job_queue_seconds_sum", &elf_is) - waited_before;
    ensure!(waited > 0.0, "it waited for a process to start, and not for {waited} s");

    // One that is lost is told from one that says goodbye.
    found.ensure("mycelium_sessions_ended_total", &[("mycelium", "default"), ("how", "lost")], 0.0)?;
    elf.kill().await?;
    until("the session to be lost", async || {
        let found = scrape(admin).await?;
        let ended = ["goodbye", "lost"].map(|how| {
            found.value("mycelium_sessions_ended_total", &[("mycelium", "default"), ("how", how)])
        });
        Ok((ended == [1.0, 1.0]).then_some(()))
    })
    .await?;
    broker.stop().await
}

/// What waits in a mycelium that nobody uses goes on waiting, and so it shows.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_closed_mycelium_are_told_of() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0", "--mycelium-idle", "2s"]).await?;
    let admin = admin_of(&broker)?;
    let team = Mycelium::builder(broker.url()).mycelium("team").connect().await?;
    let flow = team.flow("waits");
    let tasks = Tester::tasks(&flow, "ghost");
    let _waits = tasks.task_add(elf_runtime::list![1u64], 0);
    flow.submit().await?;
    drop(team);
    // One that is not to begin yet keeps its mycelium open, and does not count for one that waits.
    let flow = broker.client().await?.flow("later");
    let later = Tester::tasks(&flow, "early").task_add(elf_runtime::list![1u64], 0);
    let _later = later.delay(Duration::from_secs(3_600));
    flow.submit().await?;
    let waits =
        |found: &Scrape, elf, status| found.value("mycelium_elf_jobs", &[("elf", elf), ("status", status)]);
    until("the jobs to be seen", async || {
        let found = scrape(admin).await?;
        Ok((waits(&found, "ghost", "ready") == 1.0 && waits(&found, "early", "delayed") == 1.0).then_some(()))
    })
    .await?;
    let found = until("the mycelium to be closed", async || {
        let found = scrape(admin).await?;
        Ok((found.value("mycelium_mycelia", &[("state", "closed")]) == 1.0).then_some(found))
    })
    .await?;
    ensure!(waits(&found, "ghost", "ready") == 1.0, "{}", found.text);
    ensure!(waits(&found, "early", "ready") == 0.0, "{}", found.text);
    found.ensure("mycelium_elf_sessions", &[("elf", "ghost")], 0.0)?;
    found.ensure("mycelium_jobs", &[("mycelium", "team"), ("status", "ready")], 1.0)?;
    broker.stop().await
}

/// Neither its times nor what it shows wait for somebody to ask for the mycelium; and one without anything in it stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_mycelium_goes_on_when_its_broker_is_back() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let team = Mycelium::builder(broker.url()).mycelium("team").connect().await?;
    let flow = team.flow("waits");
    let tasks = Tester::tasks(&flow, "ghost");
    let _waits = tasks.task_add(elf_runtime::list![1u64], 0);
    let _expires = tasks.task_add(elf_runtime::list![2u64], 0).queue_timeout(Duration::from_secs(4));
    flow.submit().await?;
    let create = v1::CreateMyceliumRequest { mycelium: "empty".to_owned() };
    wire::client(&broker.url()).await?.create_mycelium(create).await?;
    broker.kill().await?;
    broker.restart().await?;
    let admin = admin_of(&broker)?;
    let jobs =
        |found: &Scrape, status| found.value("mycelium_jobs", &[("mycelium", "team"), ("status", status)]);
    let found = until("the job to have expired", async || {
        let found = scrape(admin).await?;
        let of_elf = found.value("mycelium_elf_jobs", &[("elf", "ghost"), ("status", "ready")]);
        Ok((jobs(&found, "ready") == 1.0 && of_elf == 1.0).then_some(found))
    })
    .await?;
    found.ensure("mycelium_jobs_ended_total", &[("mycelium", "team"), ("status", "expired")], 1.0)?;
    found.ensure("mycelium_mycelia", &[("state", "closed")], 1.0)?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_elves_have_names_and_all_others_are_one() -> anyhow::Result<()> {
    const ELVES: usize = 300;
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let (admin, mycelium) = (admin_of(&broker)?, broker.client().await?);
    let names: Vec<String> = (0..ELVES).map(|number| format!("elf-{number}")).collect();
    let mut workers = Vec::new();
    // One process has so many elves at most.
    for names in names.chunks(50) {
        let serve = mycelium.serve().elf(names[0].as_str(), Tester::default());
        let serve = names[1..].iter().fold(serve, |serve, name| serve.elf(name.as_str(), Tester::default()));
        workers.push(Worker::start(serve).await?);
    }
    let flow = mycelium.flow("many");
    let jobs: Vec<Job<u64>> =
        names.iter().map(|name| Tester::tasks(&flow, name).task_add(elf_runtime::list![1u64], 0)).collect();
    let run = flow.submit().await?;
    for job in &jobs {
        ensure!(must("a sum", run.result(job)).await?? == 1);
    }
    let found = scrape(admin).await?;
    for name in
        ["mycelium_job_queue_seconds_count", "mycelium_job_run_seconds_count", "mycelium_elf_sessions"]
    {
        let elves = found.of(name, &[]).collect::<Vec<_>>();
        ensure!(elves.len() == 201 && elves.iter().sum::<f64>() == ELVES as f64, "{name}: {elves:?}");
        found.ensure(name, &[("elf", "other")], 100.0)?;
    }
    ensure!(!found.text.contains(&run.flow_id().to_string()), "no flow has a label");
    for worker in workers {
        worker.stop().await?;
    }
    broker.stop().await
}

/// The words of a text that name metrics of a broker.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("mycelium_")).collect()
}

fn found_promtool() -> Option<PathBuf> {
    let found = std::env::var_os("MYCELIUM_PROMTOOL").map(PathBuf::from);
    if found.is_none() {
        eprintln!("SKIPPED: what promtool says of metrics and alerts; name it in MYCELIUM_PROMTOOL");
    }
    found
}

/// Runs promtool, with this on its standard input.
async fn promtool(promtool: &Path, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(packaging("prometheus")).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes()).await?;
    let output = must("the end of promtool", child.wait_with_output()).await??;
    ensure!(output.status.success() && output.stderr.is_empty(), "promtool {arguments:?}: {output:?}");
    Ok(())
}

/// All that a broker serves that has run a flow and seen how large its store is.
async fn scraped_after_a_flow() -> anyhow::Result<Scrape> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let (admin, mycelium) = (admin_of(&broker)?, broker.client().await?);
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 2, 3)).await?;
    run_a_flow(&mycelium, &broker.url(), "adder").await?;
    let found = until("the size of the store to be seen", async || {
        let found = scrape(admin).await?;
        let is_seen = found.value("mycelium_store_bytes", &[]) > 0.0;
        Ok(is_seen.then_some(found))
    })
    .await?;
    elf.stop().await?;
    broker.stop().await?;
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_metrics_names_those_that_are_served() -> anyhow::Result<()> {
    let found = scraped_after_a_flow().await?;
    let mut served: BTreeSet<String> = found.samples.iter().map(|(name, ..)| name.clone()).collect();
    // What has not happened has no sample.
    served.extend(found.described()?.into_keys());

    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(packaging("grafana/mycelium.json"))?)?;
    let dashboard = dashboard.to_string();
    let alerts = std::fs::read_to_string(packaging("prometheus/alerts.yaml"))?;
    let tests = std::fs::read_to_string(packaging("prometheus/alerts_test.yaml"))?;
    for (what, text, at_least) in
        [("dashboard", &dashboard, 30), ("alerts", &alerts, 14), ("tests", &tests, 14)]
    {
        let named = metrics_in(text);
        ensure!(named.len() >= at_least, "the {what}: only {named:?}");
        let missing: Vec<_> = named.into_iter().filter(|name| !served.contains(*name)).collect();
        ensure!(missing.is_empty(), "the {what} names {missing:?}, which are not served");
    }
    let of = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.to_owned())).collect()
    };
    let (alerts, tested) = (of(&alerts, "- alert: "), of(&tests, "alertname: "));
    ensure!(alerts.len() >= 14 && alerts == tested, "each alert has a test: {alerts:?}, {tested:?}");

    let Some(tool) = found_promtool() else { return Ok(()) };
    promtool(&tool, &["check", "metrics"], &found.text).await?;
    promtool(&tool, &["check", "rules", "alerts.yaml"], "").await?;
    promtool(&tool, &["test", "rules", "alerts_test.yaml"], "").await
}

/// A test of the alerts on what was told minute by minute: which of them have to fire at some of these minutes, and no other.
fn test_of_alerts(minutes: &[Scrape], firing: &[(usize, &[&str])]) -> serde_json::Value {
    let mut series = BTreeMap::from([("up{}".to_owned(), vec!["1".to_owned(); minutes.len()])]);
    for (minute, scrape) in minutes.iter().enumerate() {
        for (name, labels, value) in &scrape.samples {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let values = series.entry(format!("{name}{{{}}}", labels.join(",")));
            values.or_insert_with(|| vec!["_".to_owned(); minutes.len()])[minute] = value.to_string();
        }
    }
    let of_broker = "{job=\"mycelium\",instance=\"broker:7422\",";
    let series: Vec<_> = series
        .into_iter()
        .map(|(name, values)| json!({ "series": name.replacen('{', of_broker, 1), "values": values.join(" ") }))
        .collect();
    let expected = firing.iter().map(|(minute, alerts)| {
        let samples =
            alerts.iter().map(|alert| json!({ "labels": format!("{{alertname={alert:?}}}"), "value": 1 }));
        json!({
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{minute}m"),
            "exp_samples": samples.collect::<Vec<_>>(),
        })
    });
    json!({
        "rule_files": [packaging("prometheus/alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [{ "interval": "1m", "input_series": series, "promql_expr_test": expected.collect::<Vec<_>>() }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_by_what_was_recorded_of_a_run_that_goes_wrong_and_not_before() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let (admin, mycelium) = (admin_of(&broker)?, broker.client().await?);
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 2, 3)).await?;
    let mut minutes = Vec::new();
    for _ in 0..20 {
        let flow = mycelium.flow("healthy");
        let sum = Tester::tasks(&flow, "adder").task_add(elf_runtime::list![1u64], 0);
        ensure!(must("a sum", flow.submit().await?.result(&sum)).await?? == 1);
        minutes.push(scrape(admin).await?);
    }
    for _ in 0..20 {
        let flow = mycelium.flow("broken");
        let broken: Job<u32> =
            Tester::tasks(&flow, "adder").task_fail("permanent", PathBuf::from("/nowhere"));
        let _waits = Tester::tasks(&flow, "nobody").task_add(elf_runtime::list![1u64], 0);
        ensure!(must("the end of a job", flow.submit().await?.result(&broken)).await?.is_err());
        // The scheduler is asked for its elves once a second.
        let found = until("the waiting job to be seen", async || {
            let found = scrape(admin).await?;
            Ok((found.value("mycelium_elf_jobs", &[("elf", "nobody")]) > 0.0).then_some(found))
        });
        minutes.push(found.await?);
    }
    elf.stop().await?;
    broker.stop().await?;

    let Some(tool) = found_promtool() else { return Ok(()) };
    let expected: [(usize, &[&str]); 2] = [(19, &[]), (39, &["MyceliumElfMissing", "MyceliumJobsFail"])];
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recorded.yaml");
    // What is JSON is YAML.
    std::fs::write(&file, serde_json::to_vec(&test_of_alerts(&minutes, &expected))?)?;
    promtool(&tool, &["test", "rules", file.to_str().context("a path")?], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_has_every_metric_as_it_is_served() -> anyhow::Result<()> {
    let found = scraped_after_a_flow().await?;

    let labels = found.labels();
    let rows = found.described()?.into_iter().map(|(name, (kind, help))| {
        let sampled = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let labels = labels.get(&sampled).map(|labels| {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            labels.join(", ")
        });
        let units = [("seconds", "_seconds"), ("bytes", "_bytes")];
        let unit = units.iter().find(|(_, end)| name.trim_end_matches("_total").ends_with(end));
        (name.clone(), kind, unit.map_or("", |(unit, _)| unit), labels, help)
    });
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md"))?;
    let mut documented: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in docs.lines().filter(|line| line.starts_with("| `mycelium_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        documented.insert(cells[0].trim_matches('`'), cells);
    }
    for (name, kind, unit, labels, help) in rows {
        let cells =
            documented.remove(name.as_str()).with_context(|| format!("docs/metrics.md has no {name}"))?;
        // What has not happened shows no labels.
        let labels = labels.unwrap_or_else(|| cells[3].to_owned());
        let expected = [&format!("`{name}`"), kind.as_str(), unit, labels.as_str(), help.as_str()];
        ensure!(cells == expected, "docs/metrics.md has {cells:?}, and the broker {expected:?}");
    }
    ensure!(documented.is_empty(), "docs/metrics.md has what is not served: {documented:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_formats_are_written_as_they_are_asked_for() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let url = format!("http://{}/metrics", admin_of(&broker)?);
    let client = reqwest::Client::new();
    for (accept, content_type, is_open) in [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
            true,
        ),
        ("text/plain", "text/plain; version=0.0.4", false),
        ("*/*", "text/plain; version=0.0.4", false),
    ] {
        let answer = client.get(&url).header("accept", accept).send().await?;
        let told = answer.headers()["content-type"].to_str()?.to_owned();
        ensure!(told.starts_with(content_type), "{accept}: {told}");
        let text = answer.text().await?;
        ensure!(text.ends_with("# EOF\n") == is_open, "{accept}: {text}");
        let counter = if is_open {
            "# TYPE mycelium_attempts counter"
        } else {
            "# TYPE mycelium_attempts_total counter"
        };
        ensure!(text.lines().any(|line| line == counter), "{accept}: {text}");
        ensure!(text.contains("mycelium_build_info{version=\""), "{accept}: {text}");
    }
    broker.stop().await
}
