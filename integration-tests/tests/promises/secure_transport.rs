//! TLS on the broker's port: who is trusted, what happens to certificates that change, and to peers that speak something
//! else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, Mycelium, list};
use integration_tests::{
    Authority, BrokerProcess, DAY, ElfOptions, ElfProcess, PairFiles, Tester, must, until,
};
use mycelium_server::{Broker, Config, RunningBroker, Tls, TlsFiles};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A broker that looks at its certificates ten times a second.
async fn serve(files: &PairFiles) -> anyhow::Result<RunningBroker> {
    let config = Config { reload_interval: Duration::from_millis(100), ..Config::default() };
    let broker = Broker::with_store(config, std::sync::Arc::new(mycelium_server::store::MemoryStore::new()))?;
    let tls = Tls::from_files(TlsFiles::new(&files.certificate, &files.key))?;
    Ok(broker.with_tls(tls).bind("127.0.0.1:0").await?)
}

async fn connect(url: &str, authorities: Option<&Path>) -> Result<Mycelium, Error> {
    let builder = Mycelium::builder(url).patience(Duration::ZERO);
    let builder = match authorities {
        Some(path) => builder.authorities(path),
        None => builder,
    };
    builder.connect().await
}

/// What a connection that cannot be made came to.
fn why(connected: Result<Mycelium, Error>) -> anyhow::Result<String> {
    match connected {
        Err(Error::Unreachable { source, .. }) => Ok(source.to_string()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_over_tls_and_nobody_is_trusted_who_should_not_be() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let ca = authority.write(dir.path(), "ca")?;
    let broker = serve(&authority.pair(&NAMES)?.write(dir.path(), "server")?).await?;
    ensure!(broker.url().starts_with("https://127.0.0.1:"), "{}", broker.url());
    let mycelium = connect(&broker.url(), Some(&ca)).await?;
    let elf = mycelium_testing::Worker::start(mycelium.serve().elf("adder", Tester::default())).await?;
    let flow = mycelium.flow("over TLS");
    let sum: Job<u64> = Tester::tasks(&flow, "adder").task_add(list![1u64, 2], 0);
    // Beyond what travels inline: by the connection of large values.
    let large: Job<u64> = Tester::tasks(&flow, "adder").task_add(vec![1u64; 100_000], 0);
    let run = flow.submit().await?;
    ensure!(must("the sum", run.result(&sum)).await?? == 3);
    ensure!(must("the large sum", run.result(&large)).await?? == 100_000);

    let unknown = why(connect(&broker.url(), None).await)?;
    ensure!(unknown.contains("MYCELIUM_CA"), "{unknown}");
    let nowhere = connect(&broker.url(), Some(&dir.path().join("nowhere"))).await;
    let Err(nowhere @ Error::InvalidCredentials { .. }) = nowhere else { anyhow::bail!("{nowhere:?}") };
    ensure!(nowhere.to_string().contains("nowhere` cannot be read"), "{nowhere}");
    let other = Authority::new()?.write(dir.path(), "other")?;
    let unknown = why(connect(&broker.url(), Some(&other)).await)?;
    ensure!(unknown.contains("no authority that is trusted"), "{unknown}");
    // Whenever the call comes: after the broker has seen what is spoken too.
    for _ in 0..50 {
        let plain = why(connect(&broker.url().replace("https", "http"), None).await)?;
        ensure!(plain.contains("https://"), "HTTP where TLS is spoken: {plain}");
    }
    elf.stop().await?;
    broker.stop().await?;

    let elsewhere = serve(&authority.pair(&["broker.example"])?.write(dir.path(), "elsewhere")?).await?;
    let wrong = why(connect(&elsewhere.url(), Some(&ca)).await)?;
    ensure!(wrong.contains("for another name"), "{wrong}");
    elsewhere.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_none_is_spoken_and_nonsense_disturb_nobody() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let ca = authority.write(dir.path(), "ca")?;
    let plain = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let told = why(connect(&plain.url().replace("http", "https"), Some(&ca)).await)?;
    ensure!(told.contains("use http://"), "{told}");
    connect(&plain.url(), None).await?;

    let broker = serve(&authority.pair(&NAMES)?.write(dir.path(), "server")?).await?;
    let mycelium = connect(&broker.url(), Some(&ca)).await?;
    // A browser, or a probe, that speaks HTTP/1.1: in clear, and over TLS.
    for (what, url, status, text) in [
        ("in clear where TLS is spoken", broker.url().replace("https", "http"), 400, "use https://"),
        ("over TLS", broker.url(), 505, "it speaks gRPC"),
        ("in clear", plain.url(), 505, "it speaks gRPC"),
    ] {
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(&ca)?)?;
        let browser = reqwest::Client::builder().http1_only().add_root_certificate(trusted).build()?;
        // Its first three letters are not those of HTTP/2, and its first is.
        let answer = must("an answer", browser.post(format!("{url}/")).body("a").send()).await??;
        ensure!(
            answer.version() == reqwest::Version::HTTP_11 && answer.status() == status,
            "{what}: {answer:?}"
        );
        let told = answer.text().await?;
        ensure!(told.contains(text), "{what}: {told}");
    }
    plain.stop().await?;
    // Nonsense that begins as TLS does, and one who says nothing.
    let mut nonsense = TcpStream::connect(broker.address()).await?;
    nonsense.write_all(&[0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9]).await?;
    let _alert = must("the end", nonsense.read_to_end(&mut Vec::new())).await?;
    let _silent = TcpStream::connect(broker.address()).await?;
    mycelium.get_status(elf_runtime::v1::GetStatusRequest::default()).await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_before_anything_is_bound() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let (now, good) = (SystemTime::now(), authority.pair(&NAMES)?);
    let pair = |name: &str, from, to| {
        authority.pair_valid(&NAMES, from, to)?.write(dir.path(), name).context("write")
    };
    let expired = pair("expired", now - 9 * DAY, now - DAY)?;
    let early = pair("early", now + DAY, now + 9 * DAY)?;
    let sound = good.write(dir.path(), "sound")?;
    let other = authority.pair(&NAMES)?.write(dir.path(), "other")?;
    let half = dir.path().join("half.pem");
    std::fs::write(&half, &good.certificate[..good.certificate.len() / 2])?;
    for (certificate, key, problem) in [
        (&expired.certificate, &expired.key, "expired at"),
        (&early.certificate, &early.key, "not valid before"),
        (&sound.certificate, &other.key, "do not go together"),
        (&sound.certificate, &sound.certificate, "has no private key"),
        (&sound.key, &sound.key, "has no certificate"),
        (&half, &sound.key, "half.pem"),
        (&dir.path().join("missing"), &sound.key, "cannot be read"),
    ] {
        let told = Tls::from_files(TlsFiles::new(certificate, key)).err().context("it is taken")?.to_string();
        ensure!(told.contains(problem) && !told.contains('\n'), "{problem}: {told}");
    }
    Ok(())
}

/// Fifty new certificates while jobs run: no call fails, and no session is lost. Half-written ones are not taken.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_and_nothing_is_lost() -> anyhow::Result<()> {
    const RELOADS: usize = 50;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let ca = authority.write(dir.path(), "ca")?;
    let files = authority.pair(&NAMES)?.write(dir.path(), "server")?;
    let flags = [
        format!("--tls-cert={}", files.certificate.display()),
        format!("--tls-key={}", files.key.display()),
        "--reload-interval=20ms".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let broker = BrokerProcess::start(&flags).await?;
    let url = broker.url().replace("http", "https");
    let variables = vec![("MYCELIUM_CA".to_owned(), ca.display().to_string())];
    let options = ElfOptions { variables, ..ElfOptions::new("adder", 4, 16) };
    let elf = ElfProcess::start(&url, &options).await?;
    let mycelium = connect(&url, Some(&ca)).await?;
    let reloads = |log: &str| log.matches("read the certificates again").count();
    for round in 1..=RELOADS {
        let pair = authority.pair(&NAMES)?;
        // The certificate alone does not go with the key that is there.
        std::fs::write(&files.certificate, &pair.certificate)?;
        if round % 10 == 0 {
            until("the half to be seen", || async {
                Ok((broker.log()?.matches("are not taken").count() >= round / 10).then_some(()))
            })
            .await?;
        }
        std::fs::write(&files.key, &pair.key)?;
        let flow = mycelium.flow(format!("round {round}"));
        let sum: Job<u64> = Tester::tasks(&flow, "adder").task_add(list![1u64, 2], 0);
        let run = flow.submit().await?;
        ensure!(must("the sum", run.result(&sum)).await?? == 3);
        until("the certificates to be read", || async {
            Ok((reloads(&broker.log()?) >= round).then_some(()))
        })
        .await?;
        // A new connection gets the new one.
        connect(&url, Some(&ca)).await?;
    }
    let log = elf.log()?;
    ensure!(log.matches("serving").count() == 1 && !log.contains("connecting again"), "{log}");
    elf.stop().await?;
    broker.stop().await
}

/// A certificate may be there before its time, or before the clock of its broker has come to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_valid_yet_is_taken_when_it_is() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (old, new) = (Authority::new()?, Authority::new()?);
    let files = old.pair(&NAMES)?.write(dir.path(), "server")?;
    let broker = serve(&files).await?;
    let [old_ca, new_ca] = [old.write(dir.path(), "old")?, new.write(dir.path(), "new")?];
    let now = SystemTime::now();
    new.pair_valid(&NAMES, now + Duration::from_secs(2), now + DAY)?.write(dir.path(), "server")?;
    ensure!(connect(&broker.url(), Some(&old_ca)).await.is_ok(), "until then the old one is shown");
    until("the new one", || async { Ok(connect(&broker.url(), Some(&new_ca)).await.ok().map(drop)) }).await?;
    broker.stop().await?;
    Ok(())
}
