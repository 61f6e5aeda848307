use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn read(flags: &[&str]) -> Result<Settings, Misuse> {
    let args = ["serve"].iter().chain(flags);
    Settings::read(Cli::try_parse_from(args).expect("flags that clap takes").args, None, Vec::new())
}

#[test]
fn without_flags_everything_is_as_the_library_has_it() {
    let settings = read(&[]).unwrap();
    let expected = Config { scheduler: SchedulerPlace::Runtime, ..Config::default() };
    assert_eq!(settings.config, expected);
    assert_eq!(settings.secured.listen, "127.0.0.1:7420".parse().unwrap());
    assert_eq!(settings.data_dir, PathBuf::from("./mycelium-data"));
    assert_eq!(settings.store, StoreKind::Embedded);
}

#[test]
fn every_setting_has_a_flag() {
    let settings = read(&[
        "--lease=9s",
        "--lease-after-reset=4s",
        "--heartbeat-interval=500ms",
        "--protocol-min=2",
        "--elves-lost-max=3",
        "--run-margin=7s",
        "--unfinished-max=3",
        "--unfinished-total-max=4",
        "--submission-idle-max=4m",
        "--sessions-max=5",
        "--watches-max=6",
        "--queue-max=7",
        "--batch-max=8",
        "--blob-grace=9s",
        "--reload-interval=17ms",
        "--access-grace=18s",
        "--drain-grace=0s",
        "--connections-max=10",
        "--calls-per-connection-max=11",
        "--calls-max=12",
        "--receiving-bytes-max=67108865",
        "--answers-bytes-max=128 MiB",
        "--store-lease=12s",
        "--store-size-alarm=500kB",
        "--retention=done=7d",
        "--mycelia-max=13",
        "--mycelia-open-max=14",
        "--mycelium-idle=15s",
        "--auto-create=false",
    ])
    .unwrap();
    let expected = Config {
        lease: Duration::from_secs(9),
        lease_after_reset: Duration::from_secs(4),
        heartbeat_interval: Duration::from_millis(500),
        protocol_min: 2,
        elves_lost_max: 3,
        run_margin: Duration::from_secs(7),
        unfinished_max: 3,
        unfinished_total_max: 4,
        submission_idle_max: Duration::from_secs(240),
        sessions_max: 5,
        watches_max: 6,
        queue_max: 7,
        batch_max: 8,
        blob_grace: Duration::from_secs(9),
        reload_interval: Duration::from_millis(17),
        access_grace: Duration::from_secs(18),
        drain_grace: Duration::ZERO,
        connections_max: 10,
        calls_per_connection_max: 11,
        calls_max: 12,
        receiving_bytes_max: 67_108_865,
        answers_bytes_max: 128 << 20,
        store_lease: Duration::from_secs(12),
        store_size_alarm: 500_000,
        retention: "done=7d".parse().unwrap(),
        mycelia_max: 13,
        mycelia_open_max: 14,
        mycelium_idle: Duration::from_secs(15),
        auto_create: false,
        scheduler: SchedulerPlace::Runtime,
    };
    assert_eq!(settings.config, expected);
}

/// The settings of a file with this text, and of flags.
fn read_file(text: &str, flags: &[&str]) -> Result<Settings, Misuse> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let config = format!("--config={}", file.path().display());
    let problem = |Misuse(text)| Misuse(text.replace(&file.path().display().to_string(), "FILE"));
    read(&[&[config.as_str()], flags].concat()).map_err(problem)
}

#[test]
fn a_file_is_read_and_flags_win_over_it() {
    let text = "store = \"memory\"\ninsecure = true\nlisten = \"0.0.0.0:1\"\nlease = \"9s\"\nqueue_max = 7\nbatch_max = 8\n";
    let settings = read_file(text, &["--batch-max=9", "--store=embedded"]).unwrap();
    assert_eq!((settings.store, settings.secured.insecure), (StoreKind::Embedded, true));
    let Config { lease, heartbeat_interval, queue_max, batch_max, .. } = settings.config;
    assert_eq!((lease, heartbeat_interval), (Duration::from_secs(9), Duration::from_secs(3)));
    assert_eq!((queue_max, batch_max), (7, 9));
}

#[test]
fn mycelia_are_made_by_themselves_where_only_this_machine_can_name_them() {
    assert!(read(&[]).unwrap().config.auto_create);
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.toml");
    std::fs::write(&tokens, "").unwrap();
    let asks = ["--tokens", tokens.to_str().unwrap()];
    assert!(!read(&asks).unwrap().config.auto_create, "that is for those who may");
    let elsewhere = ["--listen=0.0.0.0:1", "--insecure"];
    assert!(!read(&elsewhere).unwrap().config.auto_create);
    assert!(read(&[&elsewhere[..], &["--auto-create=true"]].concat()).unwrap().config.auto_create);
}

#[test]
fn a_word_that_is_no_level_is_no_filter() {
    for filter in ["debug", "info,audit=off", "off", "mycelium_server::store=debug,warn", ""] {
        assert!(read(&["--log", filter]).is_ok(), "{filter}");
    }
    for (filter, word) in [("loud", "loud"), ("info, degub", "degub"), ("fjall", "fjall")] {
        let told = read(&["--log", filter]).unwrap_err().0;
        assert!(told.contains(&format!("`{word}` is no level")), "{told}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_with_those_of_flags() {
    let text = "lease = \"soon\"\nlaese = \"9s\"\nqueue_max = 0\nbatch_max = 1.5\nstore = \"disk\"\n";
    let problem = read_file(text, &["--calls-max=0"]).unwrap_err().0;
    for part in [
        "lease in `FILE`: `soon` is not a time",
        "`FILE`: there is no setting `laese`",
        "queue_max in `FILE` must be between 1 and 1048576",
        "`FILE`: batch_max is neither a text, a whole number, true nor false",
        "store in `FILE`: ",
        "--calls-max must be at least 1",
    ] {
        assert!(problem.contains(part), "{part} is missing: {problem}");
    }
    let problem = read_file("lease = \"9s\"\nqueue_max 1\n", &["--calls-max=0"]).unwrap_err().0;
    assert!(problem.contains("`FILE` is no TOML: line 2: "), "{problem}");
    assert!(problem.contains("--calls-max must"), "{problem}");
    let problem = read(&["--config=/nonexistent/file"]).unwrap_err().0;
    assert!(problem.contains("--config: `/nonexistent/file` cannot be read: "), "{problem}");
}

#[test]
fn all_problems_are_told_at_once() {
    let flags = ["--lease=soon", "--queue-max=0", "--batch-max=-1", "--listen=0.0.0.0:1", "--log=a=b=c"];
    let problem = read(&flags).unwrap_err().to_string();
    for part in ["`soon`", "--queue-max must be between", "`-1`", "--insecure", "`a=b=c`"] {
        assert!(problem.contains(part), "{part} is missing: {problem}");
    }
    assert!(!problem.contains("heartbeat"), "an unreadable lease is not held against others: {problem}");
}

#[test]
fn relations_are_checked_and_endless_times_refused() {
    let problem = |flags: &[&str]| read(flags).unwrap_err().0;
    assert_eq!(
        problem(&["--lease=9s", "--heartbeat-interval=4s"]),
        "invalid settings: --heartbeat-interval must be at most a third of the lease, and 4s is more than that of 9s"
    );
    assert_eq!(
        problem(&["--heartbeat-interval=20s"]),
        "invalid settings: --heartbeat-interval must be at most a third of the lease, and 20s is more than that of \
         30s, the default of --lease"
    );
    assert_eq!(
        problem(&["--lease=2h"]),
        "invalid settings: --lease must be between 1 s and 1 h",
        "and no consequence of it"
    );
    assert_eq!(problem(&["--protocol-min=3"]), "invalid settings: --protocol-min must be between 1 and 2");
    assert_eq!(problem(&["--lease=0s"]), "invalid settings: --lease must be between 1 s and 1 h");
    assert_eq!(
        problem(&["--heartbeat-interval=0s"]),
        "invalid settings: --heartbeat-interval must not be zero"
    );
    assert!(read(&["--heartbeat-interval=500000000000y"]).unwrap_err().0.contains("--heartbeat-interval"));
}

#[test]
fn formats_and_folders_that_are_none_are_told_with_all_others() {
    let told = read_file("data_dir = \"\"\n", &["--log-format=xml", "--lease=abc"]).unwrap_err().0;
    for part in [
        "data_dir in `FILE`: names no folder",
        "--log-format: `xml` is no format of logs: it is one of `pretty`, `json`",
        "--lease: `abc` is not a time",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_short_lease_shortens_the_heartbeat_that_nobody_asked_for() {
    assert_eq!(read(&["--lease=3s"]).unwrap().config.heartbeat_interval, Duration::from_secs(1));
    assert_eq!(read(&["--lease=1h"]).unwrap().config.heartbeat_interval, Duration::from_secs(5));
}

#[test]
fn sizes_without_measure_are_refused() {
    let problem = read(&["--queue-max=18446744073709551615", "--batch-max=1048577"]).unwrap_err().0;
    for flag in ["--queue-max", "--batch-max"] {
        assert!(problem.contains(&format!("{flag} must be between 1 and 1048576")), "{problem}");
    }
}

#[test]
fn only_this_machine_is_let_in_unless_told_otherwise() {
    assert!(read(&["--listen=localhost:0"]).unwrap().secured.listen.ip().is_loopback());
    assert!(read(&["--listen=[::1]:7420"]).is_ok());
    let refused = read(&["--listen=192.0.2.1:7420"]).unwrap_err().0;
    for part in ["192.0.2.1:7420", "--tls-cert", "--tokens", "--insecure", "-e MYCELIUM_INSECURE=1"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(!refused.contains('\n'), "one line: {refused}");
    assert!(read(&["--listen=192.0.2.1:7420", "--insecure"]).is_ok());
    assert!(read(&["--listen=7420"]).unwrap_err().0.contains("such as 127.0.0.1:7420"));
}

#[test]
fn both_listeners_have_a_place_of_their_own() {
    for (listen, admin, is_possible) in [
        ("127.0.0.1:7420", "127.0.0.1:7420", false),
        ("127.0.0.1:7420", "0.0.0.0:7420", false),
        ("127.0.0.1:7420", "[::]:7420", false),
        ("[::1]:7420", "[::]:7420", false),
        ("[::1]:7420", "0.0.0.0:7420", true),
        ("[::1]:7420", "127.0.0.1:7420", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
    ] {
        let flags = [&*format!("--listen={listen}"), &*format!("--admin-listen={admin}")];
        assert_eq!(read(&flags).is_ok(), is_possible, "{listen} {admin}");
    }
}

#[test]
fn half_of_what_belongs_together_is_refused() {
    for (flags, problem) in [
        (&["--tls-cert=a"][..], "--tls-cert needs its --tls-key"),
        (&["--tls-key=a"], "--tls-key needs its --tls-cert"),
        (&["--tls-client-ca=a"], "--tls-client-ca needs --tls-cert"),
        (&["--tls-client-ca=a"], "--tls-client-ca needs --tokens"),
        (&["--jwt-keys=a", "--jwt-audience=b"], "--jwt-keys needs --tokens"),
        (&["--jwt-keys=a", "--tokens=b"], "--jwt-keys needs --jwt-audience"),
        (&["--jwt-issuer=a"], "--jwt-issuer needs --jwt-keys"),
        (&["--tokens=a", "--allowed-hosts=b"], "--allowed-hosts is for brokers without --tokens"),
        (&["--tokens=/nonexistent/tokens"], "`/nonexistent/tokens` cannot be read"),
        (&["--tls-cert=/nonexistent/a", "--tls-key=b"], "`/nonexistent/a` cannot be read"),
    ] {
        let told = read(flags).unwrap_err().0;
        assert!(told.contains(problem), "{flags:?}: {told}");
    }
}

#[test]
fn a_store_is_a_word_or_the_url_of_a_server() {
    assert_eq!(read(&["--store=memory"]).unwrap().store, StoreKind::Memory);
    let settings = read(&["--store=http://user@db.example.org"]).unwrap();
    assert_eq!(settings.store.to_string(), "http://db.example.org:8529");
    assert!(matches!(&settings.store, StoreKind::Database(address) if address.user() == Some("user")));
    for (text, part) in [
        ("disk", "--store: it is neither `embedded`, `memory`, nor the URL"),
        ("http://user:secret@h", "--store: a password does not belong in an argument"),
        ("ftp://user:secret@h", "--store: "),
        ("http://h/path", "it has a path"),
    ] {
        let refused = read(&["--store", text]).unwrap_err().to_string();
        assert!(refused.contains(part) && !refused.contains("secret"), "{text}: {refused}");
    }
}

#[test]
fn a_password_in_a_file_is_taken_and_never_printed() {
    let settings = read_file("store = \"http://user:secret@h\"\n", &[]).unwrap();
    assert!(matches!(&settings.store, StoreKind::Database(address) if address.has_password()));
    let printed = settings.entries();
    let of = |name| printed.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    assert_eq!(of("store"), json!("http://h:8529"));
    assert!(!format!("{printed:?} {settings:?}").contains("secret"));
}

#[test]
fn the_authorities_of_databases_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let [missing, empty, half, sound] =
        ["missing", "empty", "half", "sound"].map(|name| folder.path().join(name));
    std::fs::write(&empty, "").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    std::fs::write(&half, &pem[..pem.len() / 2]).unwrap();
    std::fs::write(&sound, pem).unwrap();
    let with = |file: &Path| read(&[&format!("--store-ca={}", file.display()), "--store=https://h"]);
    let told = |file: &Path| with(file).unwrap_err().0;
    assert!(told(&missing).contains("missing` cannot be read: No such file"), "{}", told(&missing));
    assert!(told(&empty).contains("empty` has no certificate"), "{}", told(&empty));
    assert!(told(&half).contains("half` is no PEM"), "{}", told(&half));
    assert_eq!(with(&sound).unwrap().store_ca, Some(sound));
}

#[test]
fn problems_of_files_and_of_what_they_are_for_are_told_together() {
    let flags = [
        "--tokens=/nonexistent/t",
        "--jwt-keys=/nonexistent/j",
        "--listen=0.0.0.0:1",
        "--tls-cert=/nonexistent/c",
    ];
    let told = read(&flags).unwrap_err().0;
    for part in [
        "`/nonexistent/t` cannot be read",
        "`/nonexistent/j` cannot be read",
        "`/nonexistent/c` cannot be read",
        "--jwt-keys needs --jwt-audience",
        "--tls-cert needs its --tls-key",
    ] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    assert!(!told.contains("for whom"), "once: {told}");
    assert!(!told.contains("--listen:"), "with them it is let in: {told}");
    let told = read(&flags[..3]).unwrap_err().0;
    assert!(told.contains("--listen: other machines can reach 0.0.0.0:1"), "{told}");
    assert!(told.contains("`/nonexistent/t` cannot be read"), "{told}");
    let told =
        read(&["--jwt-keys=/nonexistent/j", "--insecure=perhaps", "--listen=0.0.0.0:1"]).unwrap_err().0;
    assert!(told.contains("--tokens") && told.contains("`/nonexistent/j` cannot be read"), "{told}");
    assert!(told.contains("`perhaps`") && !told.contains("--listen:"), "{told}");
}

#[test]
fn a_secret_in_the_place_of_something_else_is_not_shown() {
    for flag in [
        "--tokens",
        "--tls-cert",
        "--lease",
        "--receiving-bytes-max",
        "--store-ca",
        "--config",
        "--listen",
        "--insecure",
    ] {
        let told = read(&[&format!("{flag}=myc_0123abcd")]).unwrap_err().0;
        assert!(!told.contains("0123"), "{told}");
    }
    let told = read_file("tokens = \"myc_0123abcd\"\n", &[]).unwrap_err().0;
    assert!(told.contains("tokens in `FILE`: `myc_***` cannot be read"), "{told}");
}
