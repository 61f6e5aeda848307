//! What an attempt leaves for those that come after it survives the death of its elf and of the broker.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Job, Mycelium, Payload, Run, TaskContext, TaskError, machine_elf};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, must, until};
use mycelium_proto::limits::CHECKPOINT_BYTES_MAX;
use mycelium_proto::v1::{self, CheckpointVerdict, JobStatus, connect_response, outcome};
use mycelium_testing::Worker;

use super::moving::{command, utf8};

const SHORT_LEASE: [&str; 4] = ["--lease", "2s", "--heartbeat-interval", "500ms"];

fn hello() -> v1::Hello {
    v1::Hello { tells_starts: true, ..wire::hello(wire::declaration("keeper", &[], &["n"]), 1) }
}

fn checkpoint(token: &v1::Token, number: u64, payload: v1::Payload) -> v1::Checkpoint {
    v1::Checkpoint { token: Some(token.clone()), number, payload: Some(payload) }
}

/// Sends checkpoints, and returns what became of each: its number, the verdict, and why.
async fn leave(
    elf: &mut WireElf,
    checkpoints: Vec<v1::Checkpoint>,
) -> anyhow::Result<Vec<(u64, CheckpointVerdict, String)>> {
    let mut left = checkpoints.len();
    elf.send(v1::ConnectRequest { checkpoints, ..v1::ConnectRequest::default() }).await?;
    let mut answers = Vec::new();
    while left > 0 {
        match elf.next().await? {
            connect_response::Kind::CheckpointAnswers(answered) => {
                left = left.saturating_sub(answered.answers.len());
                let answered = answered.answers.into_iter();
                answers.extend(answered.map(|answer| (answer.number, answer.verdict(), answer.message)));
            }
            // Of what was reported before.
            connect_response::Kind::OutcomeAcks(_) => {}
            other => anyhow::bail!("answers were expected, and not {other:?}"),
        }
    }
    Ok(answers)
}

async fn submit(broker: &BrokerProcess) -> anyhow::Result<Bytes> {
    let request = wire::submission(vec![wire::job("keeper", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    wire::client(&broker.url()).await?.submit_jobs(request).await?;
    Ok(job)
}

/// The next assignment, which is the only one: its token, and what was left for it, and by which attempt.
async fn assigned(elf: &mut WireElf) -> anyhow::Result<(v1::Token, Option<(u32, v1::Payload)>)> {
    let mut assigned = elf.assigned().await?;
    ensure!(assigned.len() == 1, "{assigned:?}");
    let v1::Assignment { token, last_checkpoint, .. } = assigned.remove(0);
    let last =
        last_checkpoint.map(|last| Ok::<_, anyhow::Error>((last.attempt, last.payload.context("payload")?)));
    Ok((token.context("a token")?, last.transpose()?))
}

#[tokio::test]
async fn the_newest_checkpoint_is_read_by_the_next_attempt_after_elf_and_broker_were_killed()
-> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&SHORT_LEASE).await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let job = submit(&broker).await?;
    let (first, none) = assigned(&mut elf).await?;
    ensure!(none.is_none(), "nobody has left anything: {none:?}");
    let stored = |number| (number, CheckpointVerdict::Stored, String::new());
    ensure!(leave(&mut elf, vec![checkpoint(&first, 1, wire::json("1"))]).await? == [stored(1)]);
    let other = v1::Payload {
        encoding: "text/plain".to_owned(),
        content: Some(v1::payload::Content::Inline(Bytes::from(vec![b'x'; CHECKPOINT_BYTES_MAX]))),
    };
    ensure!(leave(&mut elf, vec![checkpoint(&first, 2, other.clone())]).await? == [stored(2)]);

    // Both die, and nobody says anything more of the attempt.
    broker.kill().await?;
    drop(elf);
    broker.restart().await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let (second, last) = assigned(&mut elf).await?;
    ensure!(second.attempt == 2 && last == Some((1, other.clone())), "{second:?} {last:?}");

    // What was left stays when an attempt leaves nothing, and when the job has failed, for whoever retries it.
    let failed =
        outcome::Result::Failure(v1::Failure { r#type: "Tilted".to_owned(), ..v1::Failure::default() });
    elf.report(vec![v1::Outcome { token: Some(second), result: Some(failed), ..v1::Outcome::default() }])
        .await?;
    let client = wire::client(&broker.url()).await?;
    until_status(&client, &job, JobStatus::Failed).await?;
    broker.kill().await?;
    broker.restart().await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let retry = v1::RetryJobsRequest {
        scope: Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![job.clone()] })),
        ..v1::RetryJobsRequest::default()
    };
    client.retry_jobs(retry).await?;
    let (third, last) = assigned(&mut elf).await?;
    ensure!(third.attempt == 3 && last == Some((1, other)), "{third:?} {last:?}");

    // The last is stored with the outcome, in whatever batch they come; and goes with it.
    let outcome = wire::returned(&third, &[("n", "1")]);
    ensure!(leave(&mut elf, vec![checkpoint(&third, 1, wire::json("3"))]).await? == [stored(1)]);
    elf.report(vec![outcome]).await?;
    until_status(&client, &job, JobStatus::Done).await?;
    let late = leave(&mut elf, vec![checkpoint(&third, 2, wire::json("4"))]).await?;
    ensure!(late == [(2, CheckpointVerdict::Stale, String::new())], "{late:?}");
    drop(elf);
    let export = tempfile::tempdir()?;
    broker.kill().await?;
    let (data, exported) = (broker.data_folder(), export.path().join("all"));
    let done = command(&["export", utf8(&data)?, utf8(&exported)?]).await?.good();
    ensure!(done.contains("checkpoints.jsonl: 0 lines"), "{done}");
    Ok(())
}

async fn until_status(
    client: &v1::mycelium_service_client::MyceliumServiceClient<tonic::transport::Channel>,
    job: &Bytes,
    expected: JobStatus,
) -> anyhow::Result<()> {
    until("another status", || async {
        Ok((wire::get_job(client, job).await?.status() == expected).then_some(()))
    })
    .await
}

#[tokio::test]
async fn only_who_holds_an_attempt_leaves_something_for_the_next() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    submit(&broker).await?;
    let (first, _) = assigned(&mut elf).await?;
    let mut other = WireElf::connect(&broker.url(), hello()).await?;
    let stale = |number| (number, CheckpointVerdict::Stale, String::new());
    ensure!(leave(&mut other, vec![checkpoint(&first, 1, wire::json("1"))]).await? == [stale(1)]);
    let to_come = v1::Token { attempt: 2, ..first.clone() };
    ensure!(leave(&mut elf, vec![checkpoint(&to_come, 2, wire::json("2"))]).await? == [stale(2)]);

    // Its attempt is another's by now.
    let kept = leave(&mut elf, vec![checkpoint(&first, 3, wire::json("3"))]).await?;
    ensure!(kept == [(3, CheckpointVerdict::Stored, String::new())], "{kept:?}");
    let released = outcome::Result::Released(v1::AttemptReleased {});
    let given_back =
        v1::Outcome { token: Some(first.clone()), result: Some(released), ..v1::Outcome::default() };
    elf.set_window("keeper", 0).await?;
    elf.report(vec![given_back]).await?;
    elf.verdicts().await?;
    ensure!(leave(&mut elf, vec![checkpoint(&first, 4, wire::json("4"))]).await? == [stale(4)]);
    let (second, last) = assigned(&mut other).await?;
    ensure!(second.attempt == 2 && last == Some((1, wire::json("3"))), "{second:?} {last:?}");
    broker.stop().await
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_the_reason() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    submit(&broker).await?;
    let (token, _) = assigned(&mut elf).await?;
    let large = wire::json(format!("\"{}\"", "x".repeat(CHECKPOINT_BYTES_MAX)));
    let refused = leave(
        &mut elf,
        vec![
            checkpoint(&token, 1, large),
            checkpoint(&token, 2, wire::blob_payload(wire::blob_of(b"a blob"))),
            v1::Checkpoint { payload: None, ..checkpoint(&token, 3, wire::json("1")) },
            v1::Checkpoint {
                payload: Some(v1::Payload::default()),
                ..checkpoint(&token, 4, wire::json("1"))
            },
        ],
    )
    .await?;
    ensure!(refused.iter().all(|(_, verdict, _)| *verdict == CheckpointVerdict::Refused), "{refused:?}");
    for (number, why) in [(0, "at most 65536 are kept"), (1, "inline"), (2, "payload"), (3, "empty")] {
        ensure!(refused[number].2.contains(why), "{refused:?}");
    }
    let nameless = v1::Checkpoint { token: None, ..checkpoint(&token, 5, wire::json("1")) };
    elf.send(v1::ConnectRequest { checkpoints: vec![nameless], ..v1::ConnectRequest::default() }).await?;
    let fault = elf.fault().await?;
    ensure!(fault.message.contains("checkpoints[0].token"), "{fault:?}");
    broker.stop().await
}

/// Goes on where an earlier attempt was, and fails at every tenth row.
struct Digger;

#[machine_elf]
impl Digger {
    async fn task_dig(&self, context: &TaskContext) -> Result<u32, TaskError> {
        let first = context.last_checkpoint::<u32>()?.unwrap_or(0);
        // Those that wait are told of the one that stands for all.
        let many: Vec<_> = (first..first + 10).map(|row| context.checkpoint(&row)).collect();
        for kept in futures::future::join_all(many).await {
            kept?;
        }
        if first < 20 {
            context.checkpoint(&(first + 10)).await?;
            return Err(TaskError::message(format!("fails at {}", first + 10)));
        }
        Ok(first)
    }

    async fn task_dig_much(&self, context: &TaskContext) -> Result<u32, TaskError> {
        context.checkpoint(&"x".repeat(CHECKPOINT_BYTES_MAX)).await?;
        Ok(1)
    }

    async fn task_dig_bytes(&self, context: &TaskContext) -> Result<u32, TaskError> {
        if let Some(left) = context.last_checkpoint_payload() {
            let error = context.last_checkpoint::<u32>().map(|_| ()).err();
            let error = error.map(|error| error.failure_type().to_owned());
            return Ok(if error.as_deref() == Some("CheckpointError") {
                left.bytes().len() as u32
            } else {
                0
            });
        }
        let bytes = Payload::encoded("application/octet-stream", Bytes::from_static(b"seven b"));
        context.checkpoint_payload(bytes).await?;
        Err(TaskError::message("now"))
    }
}

async fn until_failed(mycelium: &Mycelium, job: &Job<u32>, attempt: u32) -> anyhow::Result<String> {
    until("the job to fail", || async {
        let answer = mycelium.get_job(v1::GetJobRequest {
            job_id: Bytes::copy_from_slice(job.id().as_bytes()),
            ..v1::GetJobRequest::default()
        });
        let answer = answer.await?;
        let job = answer.job.context("the job")?;
        Ok((job.status() == JobStatus::Failed && job.attempt == attempt)
            .then(|| answer.failure.map(|failure| failure.message).unwrap_or_default()))
    })
    .await
}

async fn retry(mycelium: &Mycelium, job: &Job<u32>) -> anyhow::Result<()> {
    let job_ids = vec![Bytes::copy_from_slice(job.id().as_bytes())];
    let request = v1::RetryJobsRequest {
        scope: Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids })),
        ..v1::RetryJobsRequest::default()
    };
    mycelium.retry_jobs(request).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_where_an_earlier_attempt_was() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("digger", Digger)).await?;
    let flow = mycelium.flow("digs");
    let tasks = Digger::tasks(&flow, "digger");
    let (rows, much, bytes) = (tasks.task_dig(), tasks.task_dig_much(), tasks.task_dig_bytes());
    let run: Run = flow.submit().await?;

    ensure!(until_failed(&mycelium, &rows, 1).await?.contains("fails at 10"));
    retry(&mycelium, &rows).await?;
    ensure!(until_failed(&mycelium, &rows, 2).await?.contains("fails at 20"));
    retry(&mycelium, &rows).await?;
    ensure!(must("the rows to end", run.result(&rows)).await?? == 20);

    let refused = until_failed(&mycelium, &much, 1).await?;
    ensure!(refused.contains("takes 65538 bytes, and at most 65536 are kept"), "{refused}");
    until_failed(&mycelium, &bytes, 1).await?;
    retry(&mycelium, &bytes).await?;
    ensure!(must("the bytes to end", run.result(&bytes)).await?? == 7);
    worker.stop().await?;
    broker.stop().await
}
