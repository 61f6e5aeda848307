//! A session is resumed by whoever has its secret, and by nobody else.

use std::path::Path;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, OutcomeVerdict, connect_request};
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::Code;

async fn open(folder: &Path, protocol_min: u32) -> anyhow::Result<RunningBroker> {
    let config = Config { protocol_min, ..Config::default() };
    Ok(Broker::open_with(config, folder)?.bind("127.0.0.1:0").await?)
}

/// The `Hello` of a process that speaks these versions of the protocol.
fn hello(protocol_min: u32, protocol_max: u32) -> v1::Hello {
    let hello = wire::hello(wire::declaration("scale", &[], &["n"]), 1);
    v1::Hello { protocol_min, protocol_max, ..hello }
}

/// Submits a job, and waits until the elf has it.
async fn hand_out(broker: &RunningBroker, elf: &mut WireElf) -> anyhow::Result<v1::Token> {
    let jobs = vec![wire::job("scale", &[], Vec::new())];
    wire::client(&broker.url()).await?.submit_jobs(wire::submission(jobs)).await?;
    elf.token().await
}

#[tokio::test]
async fn who_knows_instance_and_session_takes_nothing_over_and_who_knows_the_secret_goes_on()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = open(folder.path(), 1).await?;
    let own = hello(1, 2);
    let mut elf = WireElf::connect(&broker.url(), own.clone()).await?;
    let (session, secret) = (elf.welcome.session, elf.welcome.session_secret.clone());
    ensure!(elf.welcome.protocol == 2 && secret.len() >= 16, "{:?}", elf.welcome);
    let token = hand_out(&broker, &mut elf).await?;
    elf.beat(vec![token.clone()]).await?;

    // What is public tells neither the secret nor its digest.
    let request = v1::GetElfRequest { mycelium: String::new(), name: "scale".to_owned() };
    let shown = wire::client(&broker.url()).await?.get_elf(request).await?.into_inner();
    let instance = shown.elf.context("the elf is known")?.instances.remove(0);
    ensure!(instance.session == session, "{instance:?}");

    for is_restarted in [false, true] {
        if is_restarted {
            broker.stop().await?;
            broker = open(folder.path(), 1).await?;
        }
        // A stranger with all of that, in either version, with no secret, a wrong one, or a part of it.
        for (version, wrong) in
            [(1, Bytes::new()), (2, Bytes::new()), (2, Bytes::from_static(&[7; 32])), (2, secret.slice(1..))]
        {
            let stranger = v1::Hello {
                instance_id: instance.instance_id.clone(),
                resume_session: session,
                session_secret: wrong,
                held: vec![token.clone()],
                ..hello(version, version)
            };
            let mut stranger = WireElf::connect(&broker.url(), stranger).await?;
            ensure!(!stranger.welcome.resumed && stranger.welcome.keep.is_empty(), "{:?}", stranger.welcome);
            let (before, unknown) = stranger.beat(vec![token.clone()]).await?;
            ensure!(before.is_empty() && unknown == [token.clone()], "{before:?} {unknown:?}");
            stranger.report(vec![wire::returned(&token, &[("n", "666")])]).await?;
            ensure!(stranger.verdicts().await? == [OutcomeVerdict::Stale]);
            stranger.say(connect_request::Kind::Goodbye(v1::Goodbye {})).await?;
            ensure!(stranger.ended().await?.is_none());
        }
        // The process itself goes on with what it runs. The secret is not told again.
        let resume = v1::Hello { held: vec![token.clone()], ..elf.resume(own.clone()) };
        let resumed = WireElf::connect(&broker.url(), resume).await?;
        ensure!(resumed.welcome.resumed && resumed.welcome.keep == [token.clone()], "{:?}", resumed.welcome);
        ensure!(resumed.welcome.session_secret.is_empty(), "{:?}", resumed.welcome);
        if is_restarted {
            let mut elf = resumed;
            elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
            ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
            break;
        }
    }
    broker.stop().await?;
    let files = files_below(folder.path())?;
    ensure!(!files.is_empty() && !files.iter().any(|file| contains(file, &secret)), "the secret is stored");
    Ok(())
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn an_elf_that_speaks_version_1_resumes_as_before_unless_the_broker_asks_for_more() -> anyhow::Result<()>
{
    let folder = tempfile::tempdir()?;
    let broker = open(folder.path(), 1).await?;
    let old = hello(1, 1);
    let mut elf = WireElf::connect(&broker.url(), old.clone()).await?;
    ensure!(elf.welcome.protocol == 1 && elf.welcome.session_secret.is_empty(), "{:?}", elf.welcome);
    let token = hand_out(&broker, &mut elf).await?;
    let resume = v1::Hello { held: vec![token.clone()], ..elf.resume(old.clone()) };
    let elf = WireElf::connect(&broker.url(), resume.clone()).await?;
    ensure!(elf.welcome.resumed && elf.welcome.keep == [token.clone()], "{:?}", elf.welcome);
    broker.stop().await?;

    let broker = open(folder.path(), 2).await?;
    let first = v1::ConnectRequest {
        sequence: 1,
        kind: Some(connect_request::Kind::Hello(resume.clone())),
        ..v1::ConnectRequest::default()
    };
    let answer = wire::open_with(&broker.url(), first).await?;
    let code = Code::FailedPrecondition;
    let refusal = wire::expect_refusal(answer, code, reason::PROTOCOL_VERSION_UNSUPPORTED, &[])?;
    let text = "the elf speaks protocol versions 1 to 1, and this broker speaks 2 to 2";
    ensure!(refusal.message() == text, "{refusal:?}");
    // Nor is a session of version 1 to be had with version 2.
    let newer = v1::Hello { protocol_max: 2, ..resume };
    let elf = WireElf::connect(&broker.url(), newer).await?;
    ensure!(!elf.welcome.resumed && elf.welcome.session_secret.len() >= 16, "{:?}", elf.welcome);
    Ok(broker.stop().await?)
}
