//! `mycelium serve` starts with one line, stops in good order, and refuses a bad start with one clear line.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

#[path = "serve/manager.rs"]
mod manager;
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use elf_runtime::Mycelium;
use nix::sys::signal::Signal;
use support::{Broker, mycelium, run, within};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_broker_says_once_that_it_is_ready_and_stops_on_sigterm_and_sigint() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let broker = Broker::on(&data).await;
        let (address, pid) = (broker.address(), broker.process_id());
        assert!(!address.ends_with(":0"), "the bound port: {address}");
        let expected = format!(
            "mycelium ready: listening on {address}, store embedded in {}, pid {pid}",
            data.display()
        );
        assert_eq!(broker.ready_line, expected);

        let status =
            Mycelium::connect(broker.url()).await.unwrap().get_status(Default::default()).await.unwrap();
        assert_eq!((status.store.as_str(), status.durable, status.process_id), ("embedded", true, pid));
        broker.signal(signal);
        assert_eq!(broker.ended().await, (Some(0), String::new()), "{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let broker = Broker::start(&["--store", "memory", "--drain-grace", "1h"]).await;
    assert!(broker.ready_line.contains(", store memory, pid "), "{}", broker.ready_line);
    // A health watch does not end by itself, so the broker waits for it.
    let mut health = HealthClient::new(Endpoint::from_shared(broker.url()).unwrap().connect().await.unwrap());
    let request =
        HealthCheckRequest { service: mycelium_proto::v1::elf_service_server::SERVICE_NAME.to_owned() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    let status = |message: Option<tonic_health::pb::HealthCheckResponse>| message.unwrap().status();
    assert_eq!(status(within(watch.message()).await.unwrap()), ServingStatus::Serving);
    broker.signal(Signal::SIGTERM);
    assert_eq!(status(within(watch.message()).await.unwrap()), ServingStatus::NotServing);
    broker.signal(Signal::SIGINT);
    assert_eq!(broker.ended().await.0, Some(128 + 2));
}

#[cfg(target_os = "linux")]
/// It has no terminal here, so that nobody can mean by it that the terminal is gone.
#[tokio::test]
async fn a_hang_up_stops_nothing() {
    let broker = Broker::start(&["--store", "memory"]).await;
    broker.signal(Signal::SIGHUP);
    Mycelium::connect(broker.url()).await.unwrap().get_status(Default::default()).await.unwrap();
    broker.signal(Signal::SIGTERM);
    assert_eq!(broker.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_log_of_json_says_in_json_why_the_broker_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"];
    let ended = run(mycelium().args(arguments).arg(&file)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["message"]), (&"ERROR".into(), &"the broker has ended".into()));
    assert!(last["error"].as_str().unwrap().contains("it is not a folder"), "{last}");
}

#[tokio::test]
async fn a_broker_whose_logs_nobody_takes_serves_on() {
    let flags = ["serve", "--listen", "127.0.0.1:0", "--store", "memory", "--log", "trace"];
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for reader_leaves in [false, true] {
        let mut command = mycelium();
        command.args(flags).stderr(if reader_leaves { Stdio::piped() } else { full() });
        let mut broker = Broker::start_command(command).await;
        drop(broker.take_stderr());
        let mycelium = Mycelium::connect(broker.url()).await.unwrap();
        mycelium.get_status(Default::default()).await.unwrap();
        broker.signal(Signal::SIGTERM);
        assert_eq!(broker.ended().await, (Some(0), String::new()), "reader leaves: {reader_leaves}");
    }
}

#[tokio::test]
async fn a_taken_port_is_told_and_no_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(mycelium().current_dir(folder.path()).args(["serve", "--listen", &address])).await;
    let expected =
        format!("error: cannot listen on {address}: the port is taken; choose another with --listen");
    assert_eq!(ended.bad(1), expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[tokio::test]
async fn foreign_folders_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.txt");
    fs::write(&letter, "dear").unwrap();
    for data in [folder.path(), &letter] {
        let ended = run(mycelium().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data)).await;
        let line = ended.bad(1);
        let expected =
            format!("error: {} is not a data folder of this version of mycelium: ", data.display());
        assert!(line.starts_with(&expected), "{line}");
    }
    assert_eq!(fs::read_to_string(&letter).unwrap(), "dear");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[tokio::test]
async fn a_folder_that_would_be_in_a_file_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.txt");
    fs::write(&letter, "dear").unwrap();
    let data = letter.join("x");
    let ended = run(mycelium().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data)).await;
    let (data, letter) = (data.display(), letter.display());
    let line = ended.bad(1);
    assert!(
        line.ends_with(&format!("the data folder {data} cannot be made: {letter} is not a folder")),
        "{line}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unwritable_folder_is_told() {
    // Not even root makes a folder there.
    let ended =
        run(mycelium().args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/mycelium-data"])).await;
    let line = ended.bad(1);
    assert!(line.contains("the data folder /proc/mycelium-data cannot be used"), "{line}");
}

#[tokio::test]
async fn a_folder_in_use_is_told_and_the_broker_that_uses_it_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::on(folder.path()).await;
    let ended =
        run(mycelium().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path())).await;
    let line = ended.bad(1);
    assert!(line.ends_with("is in use by another broker"), "{line}");
    assert_eq!(broker.run(&["jobs"]).await.good(), "no jobs\n");
}

#[tokio::test]
async fn wrong_settings_are_all_told_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = mycelium();
    command
        .args(["serve", "--lease", "soon", "--queue-max", "0", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(&data);
    command.env("MYCELIUM_BATCH_MAX", "many").env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector");
    let line = run(&mut command).await.bad(2);
    for part in [
        "error: invalid settings: ",
        "--lease: `soon`",
        "--queue-max must be",
        "--insecure",
        "MYCELIUM_BATCH_MAX: `many`",
        "OTEL_EXPORTER_OTLP_ENDPOINT: `collector`",
    ] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test]
async fn a_bad_flag_ends_with_the_exit_code_of_misuse() {
    let ended = run(mycelium().args(["serve", "--speed", "high"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.starts_with("error: unexpected argument '--speed' found"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_address_that_others_reach_is_served_only_when_insecure_is_said() {
    let refused = run(mycelium().args(["serve", "--listen", "0.0.0.0:0", "--store", "memory"])).await.bad(2);
    assert!(refused.contains("other machines can reach 0.0.0.0:0"), "{refused}");
    let broker = Broker::start(&["--store", "memory", "--insecure"]).await;
    broker.signal(Signal::SIGTERM);
    assert_eq!(broker.ended().await.0, Some(0));
}

#[tokio::test]
async fn flags_win_over_the_environment_that_over_a_file_and_that_over_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("mycelium.toml");
    fs::write(&file, "lease = \"50s\"\nheartbeat_interval = \"5s\"\nqueue_max = 512\n").unwrap();
    let print = |output: &'static str| {
        let mut command = mycelium();
        command
            .current_dir(folder.path())
            .env("MYCELIUM_CONFIG", &file)
            .env("MYCELIUM_LEASE", "40s")
            .env("MYCELIUM_HEARTBEAT_INTERVAL", "4s");
        command.args(["serve", "--print-config", "--heartbeat-interval", "3s", "--output", output]);
        command
    };
    let config: serde_json::Value = serde_json::from_str(&run(&mut print("json")).await.good()).unwrap();
    let of = |name: &str| config[name].as_str().unwrap().to_owned();
    assert_eq!(
        (of("heartbeat_interval"), of("lease"), of("drain_grace")),
        ("3s".into(), "40s".into(), "10s".into())
    );
    let text = run(&mut print("table")).await.good();
    assert!(text.contains("lease = \"40s\"\n") && text.contains("queue_max = 512\n"), "{text}");
    // What is printed is such a file.
    fs::write(&file, &text).unwrap();
    let mut again = mycelium();
    again.current_dir(folder.path()).args(["serve", "--print-config", "--config"]).arg(&file);
    assert_eq!(run(&mut again).await.good(), text);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was started");
}

#[tokio::test]
async fn the_sample_file_has_every_setting_as_it_is_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let mut command = mycelium();
        command.current_dir(folder.path()).arg("serve").args(arguments);
        command
    };
    let sample = run(&mut serve(&["--sample-config"])).await.good();
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/mycelium.toml");
    assert_eq!(
        fs::read_to_string(packaged).unwrap(),
        sample,
        "write it anew: mycelium serve --sample-config > packaging/mycelium.toml"
    );
    let defaults = run(&mut serve(&["--print-config"])).await.good();
    let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let set: String = sample.lines().filter(is_setting).map(|line| format!("{}\n", &line[1..])).collect();
    assert_eq!(set.lines().count(), defaults.lines().count(), "{set}");
    for text in [&sample, &set] {
        let file = folder.path().join("mycelium.toml");
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(run(&mut serve(&["--print-config", "--config", file])).await.good(), defaults);
    }
}

#[tokio::test]
async fn settings_are_checked_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str]| {
        let mut command = mycelium();
        command.current_dir(folder.path()).args(["serve", "--check-config"]).args(arguments);
        command
    };
    assert_eq!(run(&mut check(&[])).await.good(), "the settings are right\n");
    let json = run(&mut check(&["--output", "json"])).await.good();
    assert_eq!(json.trim(), "{\n  \"valid\": true\n}");
    let wrong = run(&mut check(&["--lease", "soon", "--queue-max", "0"])).await.bad(2);
    assert!(wrong.contains("--lease: `soon`") && wrong.contains("--queue-max must be"), "{wrong}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was started");
}

#[tokio::test]
async fn a_variable_that_is_empty_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let print = || {
        let mut command = mycelium();
        command.current_dir(folder.path()).args(["serve", "--print-config"]);
        command
    };
    let mut with_empty = print();
    for name in ["DATA_DIR", "LISTEN", "STORE", "INSECURE", "LEASE", "QUEUE_MAX", "LOG", "LOG_FORMAT", "URL"]
    {
        with_empty.env(format!("MYCELIUM_{name}"), "");
    }
    assert_eq!(run(&mut with_empty).await.good(), run(&mut print()).await.good());
    let broker = Broker::in_memory().await;
    let empty = run(broker.command(&["jobs", "--url", &broker.url()]).env("MYCELIUM_URL", "")).await;
    assert_eq!(empty.good(), "no jobs\n");
}

#[tokio::test]
async fn a_size_that_no_memory_has_is_refused_before_anything_is_done() {
    let line =
        run(mycelium().args(["serve", "--store", "memory", "--queue-max", "18446744073709551615"])).await;
    assert_eq!(line.bad(2), "error: invalid settings: --queue-max must be between 1 and 1048576");
}
