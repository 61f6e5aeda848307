//! Values too large to travel inline, spoken by hand: written before they are named, passed on by name, put together
//! from pieces, looked into by operations, and removed when nothing needs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use integration_tests::Proxy;
use integration_tests::wire::{self, WireElf};
use integration_tests::{must, until};
use mycelium_proto::limits::{OPERAND_BYTES_MAX, PAYLOAD_BYTES_MAX};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, OutcomeVerdict, outcome, payload, value_node, write_blob_request};
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::Code;

/// A JSON list of numbers that takes about so many bytes.
fn numbers(bytes: usize) -> Bytes {
    let mut text = String::from("[0");
    let mut number = 1;
    while text.len() < bytes {
        text.push_str(&format!(",{number}"));
        number += 1;
    }
    text.push(']');
    Bytes::from(text)
}

fn blob_literal(blob: &v1::BlobRef) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::Literal(wire::blob_payload(blob.clone()))) }
}

fn list(items: Vec<u32>) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::List(v1::ListNode { items })) }
}

fn operation(name: &str, inputs: Vec<u32>) -> v1::ValueNode {
    let operation = v1::Operation { name: name.to_owned(), inputs, body: None };
    v1::ValueNode { kind: Some(value_node::Kind::Operation(operation)) }
}

fn returned_blob(token: v1::Token, blob: &v1::BlobRef) -> v1::Outcome {
    let outputs =
        vec![v1::NamedOutput { name: "n".to_owned(), payload: Some(wire::blob_payload(blob.clone())) }];
    v1::Outcome {
        ran: None,
        token: Some(token),
        result: Some(outcome::Result::Outputs(v1::Outputs { outputs })),
    }
}

/// The only argument of the next assignment, and its token.
async fn next_argument(elf: &mut WireElf) -> anyhow::Result<(v1::Token, v1::Payload)> {
    let assigned = elf.assigned().await?;
    let [assignment] = assigned.as_slice() else { bail!("expected one assignment: {assigned:?}") };
    let token = assignment.token.clone().context("it has no token")?;
    let [argument] = assignment.arguments.as_slice() else { bail!("expected one argument: {assignment:?}") };
    Ok((token, argument.payload.clone().context("the argument has no value")?))
}

fn blob_in(payload: &v1::Payload) -> anyhow::Result<v1::BlobRef> {
    match &payload.content {
        Some(payload::Content::Blob(blob)) => Ok(blob.clone()),
        other => bail!("expected a blob, and got {other:?}"),
    }
}

async fn start() -> anyhow::Result<(RunningBroker, WireElf)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let hello = wire::hello(wire::declaration("elf", &["x"], &["n"]), 8);
    let elf = WireElf::connect(&broker.url(), hello).await?;
    Ok((broker, elf))
}

#[tokio::test]
async fn a_large_value_flows_by_its_name_through_jobs() -> anyhow::Result<()> {
    let (broker, mut elf) = start().await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let large = numbers(3_000_000);
    let blob = wire::write_blob(&mut blobs, &large).await?;
    let again = futures::stream::iter(wire::blob_messages(blob.clone(), &large));
    ensure!(blobs.write_blob(again).await?.into_inner().existed, "equal bytes are stored once");

    let first = wire::job("elf", &["x"], vec![blob_literal(&blob)]);
    let output = wire::output_of(&first.job_id, "n");
    let both = vec![output.clone(), wire::literal("7"), list(vec![0, 1, 0])];
    let third = v1::JobSpec { arguments: vec![argument(2)], ..wire::job("elf", &[], both) };
    let second = wire::job("elf", &["x"], vec![output]);
    client.submit_jobs(wire::submission(vec![first.clone(), second, third])).await?;

    let (token, value) = next_argument(&mut elf).await?;
    ensure!(blob_in(&value)? == blob, "the literal is passed on by name: {value:?}");
    elf.report(vec![returned_blob(token, &blob)]).await?;
    // The acknowledgement and the assignments come in either order.
    let mut values = Vec::new();
    let mut acknowledged = false;
    while values.len() < 2 || !acknowledged {
        match elf.next().await? {
            v1::connect_response::Kind::OutcomeAcks(_) => acknowledged = true,
            v1::connect_response::Kind::Assign(assign) => {
                let arguments = assign.assignments.into_iter().flat_map(|assignment| assignment.arguments);
                values.extend(arguments.filter_map(|argument| argument.payload));
            }
            other => bail!("unexpected: {other:?}"),
        }
    }
    ensure!(blob_in(&values[0])? == blob, "the output is passed on by name: {:?}", values[0]);
    let spliced = blob_in(&values[1])?;
    let expected = [b"[", large.as_ref(), b",7,", large.as_ref(), b"]"].concat();
    ensure!(spliced == wire::blob_of(&expected), "the list is put together from pieces");
    ensure!(wire::read_blob(&mut blobs, &spliced.digest).await?? == expected);

    let asked = v1::GetOutputsRequest { job_ids: vec![first.job_id], ..v1::GetOutputsRequest::default() };
    let outputs = client.get_outputs(asked).await?.into_inner().jobs;
    ensure!(outputs[0].outputs[0].payload == Some(wire::blob_payload(blob)), "{outputs:?}");
    Ok(broker.stop().await?)
}

fn argument(node: u32) -> v1::Argument {
    v1::Argument { parameter: "x".to_owned(), node }
}

#[tokio::test]
async fn operations_look_into_blobs_up_to_their_limit() -> anyhow::Result<()> {
    let (broker, mut elf) = start().await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let with = |nodes: Vec<v1::ValueNode>| {
        let node = nodes.len() as u32 - 1;
        let job = wire::job("elf", &[], nodes);
        v1::JobSpec { arguments: vec![argument(node)], operations_version: 1, ..job }
    };

    let list_of_numbers = numbers(2 * PAYLOAD_BYTES_MAX);
    let count = serde_json::from_slice::<Vec<u64>>(&list_of_numbers)?.len();
    let small = wire::write_blob(&mut blobs, &list_of_numbers).await?;
    let job = with(vec![blob_literal(&small), operation("length", vec![0])]);
    client.submit_jobs(wire::submission(vec![job])).await?;
    let (_, value) = next_argument(&mut elf).await?;
    ensure!(value == wire::json(count.to_string()), "{value:?}");

    // What comes out is large too: it is a blob, and lists around it are not looked into.
    let nodes = vec![blob_literal(&small), operation("list.reverse", vec![0]), list(vec![1])];
    client.submit_jobs(wire::submission(vec![with(nodes)])).await?;
    let (_, value) = next_argument(&mut elf).await?;
    let bytes = wire::read_blob(&mut blobs, &blob_in(&value)?.digest).await??;
    let [reversed]: [Vec<u64>; 1] = serde_json::from_slice(&bytes)?;
    ensure!(reversed.len() == count && reversed[0] == count as u64 - 1, "{:?}", &reversed[..3]);

    let too_large = numbers(OPERAND_BYTES_MAX + 1);
    let large = wire::write_blob(&mut blobs, &too_large).await?;
    let no_json = wire::write_blob(&mut blobs, &Bytes::from_static(b"[1, 2")).await?;
    for (blob, expected) in
        [(&large, "operations take values of at most 8388608"), (&no_json, "not valid JSON")]
    {
        let job = with(vec![blob_literal(blob), operation("length", vec![0])]);
        let id = job.job_id.clone();
        client.submit_jobs(wire::submission(vec![job])).await?;
        let failure = until("the failure", async || {
            let job = wire::get_job(&client, &id).await?;
            Ok((!job.failure_id.is_empty()).then_some(job.failure_id))
        });
        let asked = v1::GetFailureRequest { failure_id: failure.await?, ..v1::GetFailureRequest::default() };
        let failure = client.get_failure(asked).await?.into_inner();
        let messages: Vec<_> = failure.occurrences.iter().map(|occurrence| &occurrence.message).collect();
        ensure!(messages.iter().any(|message| message.contains(expected)), "{messages:?}");
        let error = failure.failure.and_then(|group| group.failure).context("no failure")?;
        ensure!(error.r#type == "ValueDerivationError", "{error:?}");
    }
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn what_is_not_there_or_not_as_it_was_said_to_be_is_refused() -> anyhow::Result<()> {
    let (broker, mut elf) = start().await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let bytes = numbers(100_000);
    let blob = wire::blob_of(&bytes);
    let missing = v1::FindMissingBlobsRequest {
        digests: vec![blob.digest.clone()],
        ..v1::FindMissingBlobsRequest::default()
    };
    ensure!(blobs.find_missing_blobs(missing.clone()).await?.into_inner().missing == missing.digests);
    let unread = wire::read_blob(&mut blobs, &blob.digest).await?;
    wire::expect_refusal(unread, Code::NotFound, reason::BLOB_NOT_FOUND, &[])?;

    // Named before it is written.
    let submission = wire::submission(vec![wire::job("elf", &["x"], vec![blob_literal(&blob)])]);
    let refused = client.submit_jobs(submission.clone()).await;
    wire::expect_refusal(refused, Code::NotFound, reason::BLOB_NOT_FOUND, &[])?;

    // Other bytes, too few, too many; no header, two headers, no bytes in a chunk, a name of the wrong length.
    let messages = wire::blob_messages(blob.clone(), &bytes);
    let mut changed = bytes.to_vec();
    changed[1_000] ^= 1;
    let other = wire::blob_messages(blob.clone(), &Bytes::from(changed));
    let header = |blob: v1::BlobRef| wire::blob_messages(blob, &Bytes::new());
    let empty = v1::WriteBlobRequest { kind: Some(write_blob_request::Kind::Chunk(Bytes::new())) };
    let nothing = v1::WriteBlobRequest { kind: None };
    let short = v1::BlobRef { digest: blob.digest.slice(1..), ..blob.clone() };
    let cases = vec![
        (other, reason::BLOB_DIFFERS, vec![]),
        (messages[..1].to_vec(), reason::BLOB_DIFFERS, vec![]),
        ([messages.clone(), messages[1..].to_vec()].concat(), reason::BLOB_DIFFERS, vec![]),
        (messages[1..].to_vec(), reason::INVALID_FIELD, vec!["kind"]),
        ([&messages[..1], &messages[..1]].concat(), reason::INVALID_FIELD, vec!["kind"]),
        ([&messages[..1], &[empty]].concat(), reason::INVALID_FIELD, vec!["chunk"]),
        ([&messages[..1], &[nothing]].concat(), reason::INVALID_FIELD, vec!["kind"]),
        (header(short), reason::INVALID_FIELD, vec!["header.blob"]),
        (header(v1::BlobRef { size: u64::MAX, ..blob.clone() }), reason::INVALID_FIELD, vec!["header.blob"]),
        (Vec::new(), reason::INVALID_FIELD, vec!["kind"]),
    ];
    for (messages, reason, fields) in cases {
        let refused = blobs.write_blob(futures::stream::iter(messages)).await;
        wire::expect_refusal(refused, Code::InvalidArgument, reason, &fields)?;
    }
    ensure!(blobs.find_missing_blobs(missing).await?.into_inner().missing.len() == 1, "nothing was kept");

    // An output that was not written fails its attempt; so does one of another size.
    wire::write_blob(&mut blobs, &bytes).await?;
    client.submit_jobs(submission).await?;
    let (token, _) = next_argument(&mut elf).await?;
    let unwritten = wire::blob_of(b"never written");
    elf.report(vec![returned_blob(token, &unwritten)]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Refused]);
    Ok(broker.stop().await?)
}

fn file_of(folder: &Path, blob: &v1::BlobRef) -> PathBuf {
    let name: String = blob.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join("default/blobs").join(&name[..2]).join(&name)
}

/// Whether the file of a blob is there. Asking the broker would keep it.
fn is_kept(folder: &Path, blob: &v1::BlobRef) -> bool {
    file_of(folder, blob).is_file()
}

#[tokio::test]
async fn blobs_go_when_nothing_needs_them_and_not_before() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = || Config { blob_grace: Duration::from_secs(1), ..Config::default() };
    let broker = Broker::open_with(config(), folder.path())?.bind("127.0.0.1:0").await?;
    let hello = wire::hello(wire::declaration("elf", &["x"], &["n"]), 8);
    let mut elf = WireElf::connect(&broker.url(), hello).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let named = wire::write_blob(&mut blobs, &numbers(100_000)).await?;
    let output = wire::write_blob(&mut blobs, &numbers(110_000)).await?;

    // A literal is named by its job; the list around it is made for the attempt.
    let nodes = vec![blob_literal(&named), list(vec![0])];
    let job = v1::JobSpec { arguments: vec![argument(1)], ..wire::job("elf", &[], nodes) };
    client.submit_jobs(wire::submission(vec![job.clone()])).await?;
    let (token, value) = next_argument(&mut elf).await?;
    let made = blob_in(&value)?;
    let unneeded = wire::write_blob(&mut blobs, &numbers(120_000)).await?;
    let gone = async |blob: &v1::BlobRef| {
        let look = async || Ok((!is_kept(folder.path(), blob)).then_some(()));
        until("the removal of a blob", look).await
    };
    gone(&unneeded).await?;
    ensure!(is_kept(folder.path(), &named), "it stands in a job");
    ensure!(is_kept(folder.path(), &made), "an attempt that is under way needs it");

    // Written again, since it may have gone before it was named.
    let written = wire::write_blob(&mut blobs, &numbers(110_000)).await?;
    ensure!(written == output);
    elf.report(vec![returned_blob(token, &output)]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    gone(&made).await?;
    ensure!(is_kept(folder.path(), &named) && is_kept(folder.path(), &output));
    drop(elf);
    must("the broker to stop", broker.stop()).await??;

    // What an earlier process left is looked at too.
    let broker = Broker::open_with(config(), folder.path())?.bind("127.0.0.1:0").await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let orphan = wire::write_blob(&mut blobs, &numbers(130_000)).await?;
    must("the broker to stop", broker.stop()).await??;
    ensure!(is_kept(folder.path(), &orphan));
    let broker = Broker::open_with(config(), folder.path())?.bind("127.0.0.1:0").await?;
    gone(&orphan).await?;
    ensure!(is_kept(folder.path(), &named) && is_kept(folder.path(), &output));
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn of_a_blob_whose_writer_is_cut_off_nothing_stays_and_it_can_be_written_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(broker.address()).await?;
    let bytes = numbers(5_000_000);
    let blob = wire::blob_of(&bytes);
    // All but the last chunk is sent, and the end never comes.
    let mut messages = wire::blob_messages(blob.clone(), &bytes);
    messages.pop();
    let endless = futures::stream::iter(messages).chain(futures::stream::pending());
    let mut through_proxy = wire::blob_client(&proxy.url()).await?;
    let writing = tokio::spawn(async move { through_proxy.write_blob(endless).await });
    let staged = || -> anyhow::Result<usize> {
        let mut bytes = 0;
        for file in std::fs::read_dir(folder.path().join("default/blobs/staging"))? {
            // One that is removed meanwhile counts for nothing.
            bytes += file?.metadata().map_or(0, |metadata| metadata.len() as usize);
        }
        Ok(bytes)
    };
    until("a part of the blob on the disk", async || Ok((staged()? >= bytes.len() / 2).then_some(())))
        .await?;
    proxy.cut();
    let cut = must("the call to end", writing).await??;
    ensure!(cut.is_err(), "it cannot have been written");
    until("the removal of what came", async || Ok((staged()? == 0).then_some(()))).await?;

    let mut blobs = wire::blob_client(&broker.url()).await?;
    let asked = v1::FindMissingBlobsRequest { digests: vec![blob.digest.clone()], ..Default::default() };
    ensure!(
        blobs.find_missing_blobs(asked).await?.into_inner().missing == std::slice::from_ref(&blob.digest)
    );
    ensure!(!is_kept(folder.path(), &blob));
    ensure!(wire::write_blob(&mut blobs, &bytes).await? == blob);
    ensure!(wire::read_blob(&mut blobs, &blob.digest).await?? == bytes);
    ensure!(is_kept(folder.path(), &blob) && staged()? == 0);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_blob_that_was_damaged_is_told_as_missing_and_can_be_written_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let bytes = numbers(500_000);
    let blob = wire::write_blob(&mut wire::blob_client(&broker.url()).await?, &bytes).await?;
    must("the broker to stop", broker.stop()).await??;
    let mut damaged = bytes.to_vec();
    damaged[100_000] ^= 1;
    std::fs::write(file_of(folder.path(), &blob), damaged)?;

    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    for _ in 0..2 {
        let read = wire::read_blob(&mut blobs, &blob.digest).await?;
        wire::expect_refusal(read, Code::DataLoss, reason::BLOB_DAMAGED, &[])?;
    }
    let asked = v1::FindMissingBlobsRequest { digests: vec![blob.digest.clone()], ..Default::default() };
    ensure!(blobs.find_missing_blobs(asked.clone()).await?.into_inner().missing == asked.digests);
    let submission = wire::submission(vec![wire::job("elf", &["x"], vec![blob_literal(&blob)])]);
    let refused = client.submit_jobs(submission.clone()).await;
    wire::expect_refusal(refused, Code::NotFound, reason::BLOB_NOT_FOUND, &[])?;

    ensure!(wire::write_blob(&mut blobs, &bytes).await? == blob);
    ensure!(blobs.find_missing_blobs(asked).await?.into_inner().missing.is_empty());
    client.submit_jobs(submission).await?;
    must("the broker to stop", broker.stop()).await??;
    let broker = Broker::open(folder.path())?.bind("127.0.0.1:0").await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    ensure!(wire::read_blob(&mut blobs, &blob.digest).await?? == bytes);
    Ok(broker.stop().await?)
}
