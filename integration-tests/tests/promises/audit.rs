//! An entry says what was done to what, and not only by which call.

use anyhow::{Context as _, ensure};
use integration_tests::until;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::v1;
use uuid::Uuid;

use super::identities::{Doors, token};

#[tokio::test(flavor = "multi_thread")]
async fn entries_say_what_they_are_about_and_are_found_by_their_mycelium() -> anyhow::Result<()> {
    let doors = Doors::open(&token("admin", "roles = [\"admin\", \"serve\"]")).await?;
    let admin = doors.client("admin")?;
    let mut submission = wire::submission(vec![wire::job("ghost", &[], Vec::new())]);
    submission.flow_name = "nightly".to_owned();
    let (flow, job) = (Uuid::from_slice(&submission.flow_id)?, Uuid::from_slice(&submission.jobs[0].job_id)?);
    admin.submit_jobs(submission.clone()).await?;
    let of_elf = v1::pause_target::Kind::Elf("ghost".to_owned());
    let target = Some(v1::PauseTarget { kind: Some(of_elf) });
    let pause = v1::PauseRequest { target, by: "a test".to_owned(), ..v1::PauseRequest::default() };
    admin.pause(pause).await?;
    let jobs = vec![submission.jobs[0].job_id.clone(); 5];
    let scope = v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids: jobs });
    admin.cancel_jobs(v1::CancelJobsRequest { scope: Some(scope), ..Default::default() }).await?;
    let action = wire::id();
    let start = v1::StartActionRequest {
        action_id: action.clone(),
        kind: v1::ActionKind::Delete.into(),
        filter: "flow:nightly".to_owned(),
        by: "a test".to_owned(),
        ..v1::StartActionRequest::default()
    };
    admin.start_action(start).await?;
    let hello = wire::hello(wire::declaration("adder", &[], &["n"]), 1);
    drop(WireElf::connect_by(admin.line(), hello).await?);

    let expected = [
        ("SubmitJobs", format!("flow {flow} `nightly`"), 1),
        ("Pause", "elf ghost".to_owned(), 1),
        ("CancelJobs", format!("job {job}, {job}, {job} and 2 more"), 1),
        ("StartAction", format!("delete `flow:nightly`, action {}", Uuid::from_slice(&action)?), 0),
        ("Connect", "elf adder".to_owned(), 1),
    ];
    let list = async |of_mycelium: &str| {
        let request =
            v1::ListAuditRequest { of_mycelium: of_mycelium.to_owned(), ..v1::ListAuditRequest::default() };
        anyhow::Ok(admin.list_audit(request).await?.entries)
    };
    // The last one is made when its stream has ended.
    let listed = until("all entries", async || {
        let listed = list("").await?;
        Ok((listed.len() == expected.len()).then_some(listed))
    })
    .await?;
    for (call, about, count) in &expected {
        let entry = listed.iter().find(|entry| entry.call == *call).context(*call)?;
        ensure!((&entry.about, entry.result.as_str()) == (about, "OK"), "{entry:?}");
        ensure!(*call == "StartAction" || entry.count == *count, "{entry:?}");
    }
    ensure!(list("default").await? == listed);
    ensure!(list("north").await?.is_empty());
    doors.broker.stop().await?;
    Ok(())
}
