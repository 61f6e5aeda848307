//! Nobody gets further than its token goes: by sessions of others, by old versions of the protocol, by what anybody may call, or
//! by what is under way when the token goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail, ensure};
use elf_runtime::Code;
use futures::StreamExt as _;
use integration_tests::wire::{self, WireElf};
use integration_tests::{must, until};
use mycelium_proto::v1::blob_service_client::BlobServiceClient;
use mycelium_proto::v1::connect_response::Kind;
use mycelium_proto::{reason, v1};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::identities::{Doors, denied, refusal, token, write};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_are_not_taken_over() -> anyhow::Result<()> {
    let elf = |name: &str| token(name, &format!("roles = [\"serve\"]\nelves = [{name:?}]"));
    let doors =
        Doors::open(&[elf("victim"), elf("attacker"), token("admin", "roles = [\"admin\"]")].concat())
            .await?;
    let admin = doors.client("admin")?;
    let hello = |name: &str| wire::hello(wire::declaration(name, &[], &["n"]), 1);
    let hello_of_victim = hello("victim");
    let mut victim = WireElf::connect_by(doors.client("victim")?.line(), hello_of_victim.clone()).await?;
    admin.submit_jobs(wire::submission(vec![wire::job("victim", &[], Vec::new())])).await?;
    let held = victim.token().await?;

    // All that can be read of a session is not enough: nor is the version of the protocol in which it was.
    let mut taking = v1::Hello {
        instance_id: hello_of_victim.instance_id.clone(),
        resume_session: victim.welcome.session,
        held: vec![held.clone()],
        ..hello("attacker")
    };
    let mut attacker = WireElf::connect_by(doors.client("attacker")?.line(), taking.clone()).await?;
    ensure!(!attacker.welcome.resumed && attacker.welcome.keep.is_empty(), "{:?}", attacker.welcome);
    attacker.report(vec![wire::returned(&held, &[("n", "666")])]).await?;
    ensure!(attacker.verdicts().await? == [v1::OutcomeVerdict::Stale]);
    (taking.protocol_min, taking.protocol_max) = (1, 1);
    let refused =
        WireElf::connect_by(doors.client("attacker")?.line(), taking).await.err().context("it is in")?;
    let status = refused.downcast_ref::<tonic::Status>().with_context(|| format!("{refused:?}"))?;
    ensure!(status.code() == Code::FailedPrecondition, "{status:?}");
    victim.report(vec![wire::returned(&held, &[("n", "7")])]).await?;
    ensure!(victim.verdicts().await? == [v1::OutcomeVerdict::Recorded], "its own outcome is taken");
    doors.broker.stop().await?;
    Ok(())
}

/// Each of many streams, whatever is going on in it, is told to reconnect before it ends.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_sent_away_is_told_so_first() -> anyhow::Result<()> {
    let doors = Doors::open(&token("elf", "roles = [\"serve\"]")).await?;
    let mut streams = Vec::new();
    for n in 0..40 {
        let hello = wire::hello(wire::declaration(&format!("elf-{n}"), &[], &["n"]), 1);
        streams.push(WireElf::connect_by(doors.client("elf")?.line(), hello).await?);
    }
    write(&doors.file(), "")?;
    for stream in &mut streams {
        let Kind::GoAway(told) = stream.next().await? else { bail!("another message") };
        ensure!(told.message.contains("reconnect"), "{told:?}");
        let status = stream.ended().await?.context("it ended well")?;
        ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    }
    doors.broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_ends_with_the_rights_of_its_caller() -> anyhow::Result<()> {
    let doors = Doors::open(&token("submitter", "roles = [\"submit\"]")).await?;
    let mut blobs = BlobServiceClient::new(doors.client("submitter")?.line());
    let bytes = bytes::Bytes::from(vec![7; 32 * 1024 * 1024]);
    let mut messages = wire::blob_messages(wire::blob_of(&bytes), &bytes);
    messages.pop();
    let (n_messages, n_sent) = (messages.len(), Arc::new(AtomicUsize::new(0)));
    let sent = Arc::clone(&n_sent);
    let begun = futures::stream::iter(messages).inspect(move |_| {
        sent.fetch_add(1, Ordering::Relaxed);
    });
    let begun = begun.chain(futures::stream::pending());
    let upload = tokio::spawn(async move { blobs.write_blob(begun).await });
    // More than the windows of the connection hold: the broker has taken some.
    until("the upload to be under way", || async {
        Ok((n_sent.load(Ordering::Relaxed) == n_messages).then_some(()))
    })
    .await?;
    write(&doors.file(), "")?;
    let status = must("the end of the upload", upload).await??.err().context("it went on")?;
    ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    doors.broker.stop().await?;
    Ok(())
}

/// Health is told to everybody, and however many ask, nobody else is kept out.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_health_takes_no_place_from_others() -> anyhow::Result<()> {
    let config = Config { calls_max: 8, connections_max: 4, ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let request = || HealthCheckRequest { service: String::new() };
    let mut watches = Vec::new();
    for _ in 0..4 {
        let mut health = HealthClient::new(wire::channel(&broker.url()).await?);
        for _ in 0..20 {
            watches.push(health.watch(request()).await?.into_inner());
        }
    }
    // Neither the calls nor the connections are used up.
    let mut client = must("a connection", wire::client(&broker.url())).await??;
    must("an answer", client.get_status(v1::GetStatusRequest::default())).await??;
    // Which are bounded themselves.
    let mut health = HealthClient::new(wire::channel(&broker.url()).await?);
    let refused = must("a refusal", async {
        loop {
            match health.watch(request()).await {
                Ok(watch) => watches.push(watch.into_inner()),
                Err(status) => return status,
            }
        }
    })
    .await?;
    ensure!(
        refused.code() == Code::ResourceExhausted && watches.len() < 400,
        "{}: {refused:?}",
        watches.len()
    );
    must("an answer", client.get_status(v1::GetStatusRequest::default())).await??;
    drop(watches);
    broker.stop().await?;
    Ok(())
}

/// What a page in a browser could send with a certificate that the browser shows by itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_calls_with_what_its_browser_shows() -> anyhow::Result<()> {
    let doors = Doors::open(&token("admin", "roles = [\"admin\"]")).await?;
    let browser = reqwest::Client::builder().http2_prior_knowledge().build()?;
    let url = format!("{}/mycelium.v1.MyceliumService/GetStatus", doors.broker.url());
    let authorization = format!("Bearer {}", super::identities::secret("admin"));
    let call = |content_type: &'static str, origin: Option<&'static str>| {
        let request = browser.post(&url).header("authorization", &authorization).header("te", "trailers");
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        // An empty message.
        request.header("content-type", content_type).body(vec![0; 5]).send()
    };
    let answer = call("application/grpc", None).await?;
    ensure!(answer.status() == 200 && !answer.headers().contains_key("grpc-status"), "{answer:?}");
    let answer = call("application/grpc", Some("https://evil.example")).await?;
    let denied = answer.headers().get("grpc-status").context("it is let in")?;
    ensure!(denied.to_str()?.parse() == Ok(Code::PermissionDenied as i32), "{answer:?}");
    for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let answer = call(simple, None).await?;
        ensure!(answer.status() == 415, "{simple}: {answer:?}");
    }
    doors.broker.stop().await?;
    Ok(())
}

/// Whoever may do little cannot have forgotten what others did.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_calls_displaces_nothing_in_the_audit() -> anyhow::Result<()> {
    let doors = Doors::open(
        &[token("operator", "roles = [\"admin\"]"), token("reader", "roles = [\"read\"]")].concat(),
    )
    .await?;
    let (operator, reader) = (doors.client("operator")?, doors.client("reader")?);
    let pause = v1::PauseRequest {
        target: Some(v1::PauseTarget { kind: Some(v1::pause_target::Kind::Elf("other".to_owned())) }),
        by: "a test".to_owned(),
        ..v1::PauseRequest::default()
    };
    operator.pause(pause.clone()).await?;
    // What only asks is no change.
    let asks = v1::DeleteFlowsRequest { flow_ids: vec![wire::id()], dry_run: true, ..Default::default() };
    operator.delete_flows(asks).await?;
    let mycelium = "\u{1}".repeat(200);
    for _ in 0..3_000 {
        let refused = v1::CancelJobsRequest { mycelium: mycelium.clone(), ..Default::default() };
        ensure!(refusal(reader.cancel_jobs(refused).await)? == denied());
    }
    let listed = until("the entries", || async {
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                v1::ListAuditRequest { page_size: 1_000, page_token, ..v1::ListAuditRequest::default() };
            let page = operator.list_audit(request).await?;
            listed.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok((listed.len() >= 2_000).then_some(listed))
    })
    .await?;
    let mut of_operator = listed.iter().filter(|entry| entry.caller == "operator");
    let kept = of_operator.next().context("it is forgotten")?;
    ensure!((kept.call.as_str(), kept.result.as_str(), kept.count) == ("Pause", "OK", 1), "{kept:?}");
    ensure!(of_operator.next().is_none(), "a dry run is an entry");
    let refused = listed.first().context("no entry")?;
    ensure!(refused.result == reason::NOT_PERMITTED, "{refused:?}");
    doors.broker.stop().await?;
    Ok(())
}
