//! What is refused, and what is said of it.

use crate::support::{Broker, mycelium, run};

#[tokio::test]
async fn without_a_broker_every_command_says_how_to_start_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let id = uuid::Uuid::nil().to_string();
    let commands: [&[&str]; 14] = [
        &["jobs"],
        &["job", &id],
        &["graph", "--job", &id],
        &["lineage", &id],
        &["flows"],
        &["elves"],
        &["elf", "scale"],
        &["failures"],
        &["failure", &id],
        &["why", &id],
        &["cancel", &id],
        &["retry", &id],
        &["watch", &id],
        &["watch", "--flow", "x"],
    ];
    for command in commands {
        let line = run(mycelium().args(command).args(["--url", &url])).await.bad(1);
        let expected = format!(
            "error: no broker answers at {url}; start one with `mycelium serve`, or give the URL of one that runs"
        );
        assert_eq!(line, expected, "{command:?}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_told_by_name_and_what_is_no_id_is_refused() {
    let broker = Broker::in_memory().await;
    let id = uuid::Uuid::nil().to_string();
    let unknown: [(&[&str], &str, &str); 11] = [
        (&["job", &id], &id, "see: mycelium jobs"),
        (&["why", &id], &id, "see: mycelium jobs"),
        (&["cancel", &id], &id, "see: mycelium jobs"),
        (&["retry", &id], &id, "see: mycelium jobs"),
        (&["watch", &id], &id, "see: mycelium jobs"),
        (&["graph", "--job", &id], &id, "see: mycelium jobs"),
        (&["lineage", &id], &id, "see: mycelium jobs"),
        (&["jobs", "--flow", "daily"], "daily", "see: mycelium flows"),
        (&["graph", "--flow", &id], &id, "see: mycelium flows"),
        (&["elf", "scale"], "scale", "see: mycelium elves"),
        (&["failure", &id], &id, "see: mycelium failures"),
    ];
    for (command, name, hint) in unknown {
        let line = broker.run(command).await.bad(1);
        assert!(line.starts_with("error: ") && line.contains(name) && line.ends_with(hint), "{line}");
    }
    let line = broker.run(&["jobs", "--mycelium", "Other"]).await.bad(1);
    assert!(line.contains("mycelium: must be 1 to 48 of"), "{line}");
    let by_variable = run(broker.command(&["jobs"]).env("MYCELIUM_NAME", "Other")).await.bad(1);
    assert_eq!(by_variable, line);
    for command in [["job", "bee"], ["failure", "bee"], ["watch", "bee"]] {
        let ended = broker.run(&command).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{command:?}");
        assert!(ended.stderr.starts_with("error: invalid value 'bee'"), "{}", ended.stderr);
        assert!(ended.stderr.contains("`bee` is not an id: expected a UUID"), "{}", ended.stderr);
    }
    let both = ["graph", "--job", &id, "--format", "dot", "--output", "json"];
    assert_eq!(broker.run(&both).await.bad(2), "error: --format and --output json exclude each other");
    let named = broker.run(&["jobs", "--flow", &id]).await.bad(1);
    assert!(!named.contains("named"), "an id is no name: {named}");
    let deep = broker.run(&["graph", "--flow", "daily", "--depth", "4"]).await;
    assert_eq!((deep.code, deep.stdout.as_str()), (Some(2), ""));
    assert!(
        deep.stderr.contains("'--flow <NAME|ID>' cannot be used with '--depth <DEPTH>'"),
        "{}",
        deep.stderr
    );
}

#[tokio::test]
async fn what_is_no_url_of_a_broker_is_a_wrong_command_line() {
    for (url, why) in [
        ("not a url", "it cannot be read as a URL"),
        ("127.0.0.1:7420", "it does not begin with http:// or https://"),
        ("nonsense", "it does not begin with http:// or https://"),
        ("ftp://127.0.0.1:7420", "a broker speaks http:// or https://, not ftp://"),
        ("http://127.0.0.1:99999", "its port is not a number from 1 to 65535"),
    ] {
        let expected = format!(
            "error: `{url}` is not the URL of a broker (one looks like http://127.0.0.1:7420): {why}"
        );
        assert_eq!(run(mycelium().args(["flows", "--url", url])).await.bad(2), expected);
        assert_eq!(run(mycelium().args(["flows"]).env("MYCELIUM_URL", url)).await.bad(2), expected);
    }
}
