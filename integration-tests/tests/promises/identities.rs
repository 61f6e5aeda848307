//! Who may do what, with tokens: what a token allows, and what becomes of those that expire or are revoked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use elf_runtime::{Code, Error, Job, Mycelium, list};
use integration_tests::wire::{self, WireElf};
use integration_tests::{Tester, Worker, must, until};
use mycelium_proto::{reason, v1};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Access, AccessFiles, Broker, Config, RunningBroker};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The file of identities of a test, and the broker that reads it.
pub(super) struct Doors {
    pub(super) folder: TempDir,
    pub(super) broker: RunningBroker,
}

pub(super) fn token(name: &str, more: &str) -> String {
    let digest: String = Sha256::digest(secret(name)).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{more}\n")
}

/// The secret of the token of that name.
pub(super) fn secret(name: &str) -> String {
    format!("myc_secret-of-{name}")
}

impl Doors {
    pub(super) async fn open(identities: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("tokens.toml");
        std::fs::write(&file, identities)?;
        let config = Config {
            reload_interval: Duration::from_millis(50),
            access_grace: Duration::from_millis(200),
            lease: Duration::from_secs(60),
            ..Config::default()
        };
        let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?;
        let access = Access::from_files(AccessFiles::new(&file))?;
        Ok(Self { broker: broker.with_access(access).bind("127.0.0.1:0").await?, folder })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("tokens.toml")
    }

    /// A client that has the token of that name, and does not repeat what is refused.
    pub(super) fn client(&self, name: &str) -> anyhow::Result<Mycelium> {
        let builder = Mycelium::builder(self.broker.url()).patience(Duration::ZERO).token(secret(name));
        Ok(builder.connect_lazy()?)
    }

    async fn status(&self, name: &str) -> anyhow::Result<Result<(), (Code, String)>> {
        refusal(self.client(name)?.get_status(v1::GetStatusRequest::default()).await)
    }
}

/// How a call was refused, if it was.
pub(super) fn refusal<T>(answer: Result<T, Error>) -> anyhow::Result<Result<(), (Code, String)>> {
    match answer {
        Ok(_) => Ok(Ok(())),
        Err(Error::Refused { code, reason, message, .. }) => {
            ensure!(!message.contains("secret"), "{message}");
            Ok(Err((code, reason)))
        }
        Err(other) => Err(other.into()),
    }
}

pub(super) fn denied() -> Result<(), (Code, String)> {
    Err((Code::PermissionDenied, reason::NOT_PERMITTED.to_owned()))
}

fn stranger() -> Result<(), (Code, String)> {
    Err((Code::Unauthenticated, reason::CREDENTIALS_REFUSED.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_it_is_for() -> anyhow::Result<()> {
    let roles = ["submit", "serve", "read", "operate", "admin"];
    let identities: String = roles.iter().map(|role| token(role, &format!("roles = [\"{role}\"]"))).collect();
    let doors = Doors::open(&identities).await?;
    for role in roles {
        let client = doors.client(role)?;
        let may = |allowed: &[&str]| if allowed.contains(&role) { Ok(()) } else { denied() };
        let status = refusal(client.get_status(v1::GetStatusRequest::default()).await)?;
        ensure!(status == Ok(()), "{role}: {status:?}");
        let submitted =
            refusal(client.submit_jobs(wire::submission(vec![wire::job("adder", &[], Vec::new())])).await)?;
        ensure!(submitted == may(&["submit", "admin"]), "{role}: {submitted:?}");
        let listed = refusal(client.list_jobs(v1::ListJobsRequest::default()).await)?;
        ensure!(listed == may(&["read", "operate", "admin"]), "{role}: {listed:?}");
        let pause = v1::PauseRequest {
            target: Some(v1::PauseTarget { kind: Some(v1::pause_target::Kind::Elf("other".to_owned())) }),
            by: "a test".to_owned(),
            ..v1::PauseRequest::default()
        };
        let paused = refusal(client.pause(pause).await)?;
        ensure!(paused == may(&["operate", "admin"]), "{role}: {paused:?}");
        let made = v1::CreateMyceliumRequest { mycelium: "made".to_owned() };
        let made = refusal(client.create_mycelium(made).await)?;
        // What a broker on a store of its own cannot do is not what is asked here.
        let fixed = Err((Code::FailedPrecondition, reason::MYCELIUM_FIXED.to_owned()));
        ensure!(made == if role == "admin" { fixed } else { denied() }, "{role}: {made:?}");
        let served = client.serve().elf("adder", Tester::default());
        let worker = Worker::start(served).await;
        ensure!(worker.is_ok() == ["serve", "admin"].contains(&role), "{role}: {:?}", worker.err());
        if let Ok(worker) = worker {
            worker.stop().await?;
        }
    }
    doors.broker.stop().await?;
    Ok(())
}

/// Whoever may only read tries every call that changes something, as the contract has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_changes_nothing() -> anyhow::Result<()> {
    let doors = Doors::open(&token("reader", "roles = [\"read\"]")).await?;
    let client = doors.client("reader")?;
    macro_rules! refused {
        ($($call:ident($request:ident)),+ $(,)?) => {$(
            let answer = refusal(client.$call(v1::$request::default()).await)?;
            ensure!(answer == denied(), "{}: {answer:?}", stringify!($call));
        )+};
    }
    refused!(
        submit_jobs(SubmitJobsRequest),
        cancel_jobs(CancelJobsRequest),
        retry_jobs(RetryJobsRequest),
        start_jobs(StartJobsRequest),
        delete_flows(DeleteFlowsRequest),
        delete_jobs(DeleteJobsRequest),
        pin_flows(PinFlowsRequest),
        pause(PauseRequest),
        resume(ResumeRequest),
        drain_instance(DrainInstanceRequest),
        start_action(StartActionRequest),
        create_mycelium(CreateMyceliumRequest),
        delete_mycelium(DeleteMyceliumRequest),
    );
    ensure!(client.list_elves(v1::ListElvesRequest::default()).await.is_ok());
    doors.broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_nothing() -> anyhow::Result<()> {
    let expired = humantime_of(SystemTime::now() - Duration::from_secs(60));
    let expired = token("expired", &format!("roles = [\"admin\"]\nexpires = {expired}"));
    let doors = Doors::open(&format!("{expired}{}", token("good", "roles = [\"read\"]"))).await?;
    let url = doors.broker.url();
    ensure!(doors.status("good").await? == Ok(()));
    ensure!(doors.status("expired").await? == stranger());
    ensure!(doors.status("unknown").await? == stranger());
    let without = Mycelium::builder(&url).patience(Duration::ZERO).connect_lazy()?;
    let nothing = refusal(without.get_status(v1::GetStatusRequest::default()).await)?;
    ensure!(nothing == Err((Code::Unauthenticated, reason::CREDENTIALS_MISSING.to_owned())), "{nothing:?}");

    // What no client of ours sends.
    let channel = tonic::transport::Endpoint::from_shared(url)?.connect().await?;
    let mut raw = v1::mycelium_service_client::MyceliumServiceClient::new(channel.clone());
    let good = format!("Bearer {}", secret("good"));
    for (header, is_taken) in [
        (good.as_bytes(), true),
        (good.replace("Bearer", "bearer").as_bytes(), true),
        (secret("good").as_bytes(), false),
        (good.replace("Bearer", "Basic").as_bytes(), false),
        ("Bearer zwölf".as_bytes(), false),
        (b"", false),
        (format!("Bearer {}", "x".repeat(9_000)).as_bytes(), false),
        (format!("{good} {good}").as_bytes(), false),
        (&good.as_bytes()[..good.len() - 1], false),
        // No JWT is taken where there are no keys, and none without a signature anywhere.
        (b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", false),
    ] {
        let mut request = tonic::Request::new(v1::GetStatusRequest::default());
        let value = http::HeaderValue::from_bytes(header)?;
        request.metadata_mut().as_mut().insert(http::header::AUTHORIZATION, value);
        let answer = raw.get_status(request).await;
        let code = answer.err().map(|status| status.code());
        let expected = (!is_taken).then_some(Code::Unauthenticated);
        ensure!(code == expected, "{}: {code:?}", String::from_utf8_lossy(header));
    }
    // Probes need no token; nobody else sees what there is.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    health.check(tonic_health::pb::HealthCheckRequest { service: String::new() }).await?;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let path = http::uri::PathAndQuery::from_static("/mycelium.v1.MyceliumService/NoSuchCall");
    let codec = tonic_prost::ProstCodec::<v1::GetStatusRequest, v1::GetStatusResponse>::default();
    let answer = grpc.unary(tonic::Request::new(v1::GetStatusRequest::default()), path, codec).await;
    ensure!(answer.err().context("it is taken")?.code() == Code::Unauthenticated, "which calls there are");
    doors.broker.stop().await?;
    Ok(())
}

fn humantime_of(moment: SystemTime) -> String {
    let seconds = prost_types::Timestamp::from(moment).to_string();
    seconds.split('.').next().map(|text| format!("{}Z", text.trim_end_matches('Z'))).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_for_their_mycelia_and_elves() -> anyhow::Result<()> {
    let identities = [
        token("here", "roles = [\"submit\", \"read\"]\nmycelia = [\"default\"]"),
        token("there", "roles = [\"submit\", \"read\", \"serve\"]\nmycelia = [\"team-*\"]"),
        token("one", "roles = [\"serve\", \"submit\"]\nelves = [\"one\", \"two-*\"]"),
    ];
    let doors = Doors::open(&identities.concat()).await?;
    ensure!(doors.status("here").await? == Ok(()));
    ensure!(doors.status("there").await? == denied(), "whether there is such a mycelium or not");
    let elsewhere = v1::ListJobsRequest { mycelium: "team-a".to_owned(), ..v1::ListJobsRequest::default() };
    ensure!(refusal(doors.client("here")?.list_jobs(elsewhere.clone()).await)? == denied());
    ensure!(refusal(doors.client("there")?.list_jobs(elsewhere).await)? == Ok(()));
    let listed = doors.client("there")?.list_mycelia(v1::ListMyceliaRequest::default()).await?;
    ensure!(listed.mycelia.is_empty(), "those that it may not see: {listed:?}");
    let listed = doors.client("here")?.list_mycelia(v1::ListMyceliaRequest::default()).await?;
    ensure!(listed.mycelia.len() == 1, "{listed:?}");

    for (elf, is_allowed) in [("one", true), ("two-b", true), ("three", false), ("two", false)] {
        let worker = Worker::start(doors.client("one")?.serve().elf(elf, Tester::default())).await;
        ensure!(worker.is_ok() == is_allowed, "{elf}: {:?}", worker.err());
        if let Ok(worker) = worker {
            worker.stop().await?;
        }
    }
    // Nor does it submit to others.
    for (elves, is_allowed) in [
        (&["one", "two-b"][..], true),
        (&["three"], false),
        (&["one", "three"], false),
        (&["one", ""], false),
    ] {
        let jobs = elves.iter().map(|elf| wire::job(elf, &[], Vec::new())).collect();
        let submitted = refusal(doors.client("one")?.submit_jobs(wire::submission(jobs)).await)?;
        ensure!(submitted == if is_allowed { Ok(()) } else { denied() }, "{elves:?}: {submitted:?}");
    }
    // One that it may not serve is not let in by one that it may.
    let both = doors.client("one")?.serve().elf("one", Tester::default()).elf("three", Tester::default());
    ensure!(Worker::start(both).await.is_err());
    doors.broker.stop().await?;
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    // As `mycelium token new` does: nobody reads half of it.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}

/// An elf that holds a job goes on with a new token, and one whose token is revoked for good is sent away.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_and_replaced_tokens_lose_no_job() -> anyhow::Result<()> {
    let admin = token("admin", "roles = [\"admin\"]");
    let [old, new] = ["old", "new"].map(|name| token(name, "roles = [\"serve\"]"));
    let doors = Doors::open(&format!("{admin}{old}")).await?;
    let secret_file = doors.folder.path().join("elf.token");
    std::fs::write(&secret_file, secret("old"))?;
    let serving = Mycelium::builder(doors.broker.url()).token_file(&secret_file).connect_lazy()?;
    let worker = Worker::start(serving.serve().elf("adder", Tester::default())).await?;
    let admin_client = doors.client("admin")?;
    let gate = doors.folder.path().join("gate");
    let flow = admin_client.flow("held");
    let held: Job<u64> = Tester::tasks(&flow, "adder").task_pass(7, gate.clone());
    let run = flow.submit().await?;
    let session = || async {
        let request = v1::GetElfRequest { mycelium: String::new(), name: "adder".to_owned() };
        let elf = admin_client.get_elf(request).await?.elf.context("the elf is known")?;
        anyhow::Ok(elf.instances.first().map(|instance| (instance.session, instance.connected)))
    };
    until("the job to run", || async {
        Ok((admin_client.job(held.id()).await?.status() == v1::JobStatus::Running).then_some(()))
    })
    .await?;
    let before = session().await?.context("there is a session")?;

    // Its token is replaced: it is sent away, and comes back with the new one.
    std::fs::write(&secret_file, secret("new"))?;
    write(&doors.file(), &format!("{admin}{new}"))?;
    until("the old token to be refused", || async {
        Ok((doors.status("old").await? == stranger()).then_some(()))
    })
    .await?;
    std::fs::write(&gate, "")?;
    ensure!(must("the result", run.result(&held)).await?? == 7);
    ensure!(admin_client.job(held.id()).await?.attempt == 1, "it was tried again");
    ensure!(session().await?.context("there is a session")?.0 == before.0, "it is another session");

    // Its token is revoked: it is away until there is another.
    write(&doors.file(), &admin)?;
    until("the elf to be away", || async {
        Ok(session().await?.is_none_or(|(_, connected)| !connected).then_some(()))
    })
    .await?;
    write(&doors.file(), &format!("{admin}{new}"))?;
    let flow = admin_client.flow("after");
    let sum: Job<u64> = Tester::tasks(&flow, "adder").task_add(list![1u64, 2], 0);
    let run = flow.submit().await?;
    ensure!(must("the sum", run.result(&sum)).await?? == 3);
    worker.stop().await?;
    doors.broker.stop().await?;
    Ok(())
}

/// What a stream may do is asked again while it is there.
#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_callers_may_no_longer_have_them() -> anyhow::Result<()> {
    let elf = |elves: &str| token("elf", &format!("roles = [\"serve\"]\nelves = [{elves}]"));
    let reader = token("reader", "roles = [\"read\"]");
    let doors = Doors::open(&format!("{}{reader}", elf("\"scale\""))).await?;
    let client = doors.client("reader")?;
    let to_come = v1::WatchJobsRequest { may_come: true, ..wire::watch_flow(&wire::id()) };
    let mut watch = client.raw().watch_jobs(to_come).await?.into_inner();
    let hello = wire::hello(wire::declaration("scale", &[], &["n"]), 1);
    let mut stream = WireElf::connect_by(doors.client("elf")?.line(), hello).await?;
    // Another elf on a stream that is open already.
    stream.set_window("other", 1).await?;
    let fault = stream.fault().await?;
    ensure!(fault.reason == reason::NOT_PERMITTED, "{fault:?}");

    write(&doors.file(), &elf("\"other\""))?;
    let ended = must("the end of the watch", async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    })
    .await?;
    let status = ended.err().context("it ended well")?;
    ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    let v1::connect_response::Kind::GoAway(told) = stream.next().await? else { bail!("no goaway") };
    ensure!(told.message.contains("reconnect"), "{told:?}");
    let status = stream.ended().await?.context("it ended well")?;
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    doors.broker.stop().await?;
    Ok(())
}
