//! Values far larger than what the broker may take of memory pass through it.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, must};
use mycelium_proto::v1::blob_service_client::BlobServiceClient;
use mycelium_proto::v1::{self, connect_response, outcome, payload, value_node, write_blob_request};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;

const MIB: u64 = 1024 * 1024;
/// What the broker's resident memory stays below.
const MEMORY_BYTES_MAX: u64 = 256 * MIB;

/// A JSON text of so many bytes that is made anew wherever it is needed, piece by piece: a string that begins with a
/// letter of one's own.
#[derive(Clone, Copy)]
struct Large {
    letter: u8,
    mib: u64,
}

impl Large {
    fn size(self) -> u64 {
        self.mib * MIB
    }

    fn piece(self, index: u64) -> Bytes {
        let mut piece = format!("{index:08}").repeat(MIB as usize / 8).into_bytes();
        if index == 0 {
            piece[0] = b'"';
            piece[1] = self.letter;
        }
        if index + 1 == self.mib
            && let Some(last) = piece.last_mut()
        {
            *last = b'"';
        }
        Bytes::from(piece)
    }

    fn blob(self) -> v1::BlobRef {
        let mut hasher = Sha256::new();
        (0..self.mib).for_each(|index| hasher.update(self.piece(index)));
        v1::BlobRef { digest: Bytes::copy_from_slice(&hasher.finalize()), size: self.size() }
    }

    async fn write(self, client: &mut BlobServiceClient<Channel>) -> anyhow::Result<v1::BlobRef> {
        let blob = self.blob();
        let header = wire::blob_messages(blob.clone(), &Bytes::new());
        let chunks = (0..self.mib).map(move |index| write_blob_request::Kind::Chunk(self.piece(index)));
        let chunks = chunks.map(|kind| v1::WriteBlobRequest { kind: Some(kind) });
        let written = client.write_blob(futures::stream::iter(header.into_iter().chain(chunks))).await?;
        ensure!(!written.into_inner().existed);
        Ok(blob)
    }
}

/// Reads a blob without keeping it, and gives its digest and size.
async fn read(client: &mut BlobServiceClient<Channel>, digest: &Bytes) -> anyhow::Result<v1::BlobRef> {
    let request = v1::ReadBlobRequest { digest: digest.clone(), ..v1::ReadBlobRequest::default() };
    let mut chunks = client.read_blob(request).await?.into_inner();
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Some(chunk) = must("the next part of a blob", chunks.next()).await? {
        let chunk = chunk?.chunk;
        size += chunk.len() as u64;
        hasher.update(&chunk);
    }
    Ok(v1::BlobRef { digest: Bytes::copy_from_slice(&hasher.finalize()), size })
}

/// The token of the next assignment, and the blob that is its only argument.
async fn next_blob(elf: &mut WireElf) -> anyhow::Result<(v1::Token, v1::BlobRef)> {
    loop {
        let connect_response::Kind::Assign(assign) = elf.next().await? else { continue };
        let assignment = assign.assignments.into_iter().next().context("no assignment")?;
        let token = assignment.token.context("no token")?;
        let argument = assignment.arguments.into_iter().next().and_then(|argument| argument.payload);
        match argument.and_then(|payload| payload.content) {
            Some(payload::Content::Blob(blob)) => return Ok((token, blob)),
            other => bail!("expected a blob, and got {other:?}"),
        }
    }
}

/// The most resident memory that a process has ever had, in bytes.
fn peak_memory_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// From a client to an elf, changed, in a list to the next job, and back.
async fn pass_through(mib: u64) -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let hello = wire::hello(wire::declaration("elf", &["x"], &["n"]), 4);
    let mut elf = WireElf::connect(&broker.url(), hello).await?;

    let sent = Large { letter: b'a', mib }.write(&mut blobs).await?;
    let literal = value_node::Kind::Literal(wire::blob_payload(sent.clone()));
    let first = wire::job("elf", &["x"], vec![v1::ValueNode { kind: Some(literal) }]);
    let list = value_node::Kind::List(v1::ListNode { items: vec![0, 1] });
    let nodes =
        vec![wire::output_of(&first.job_id, "n"), wire::literal("7"), v1::ValueNode { kind: Some(list) }];
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node: 2 }];
    let second = v1::JobSpec { arguments, ..wire::job("elf", &[], nodes) };
    client.submit_jobs(wire::submission(vec![first, second])).await?;

    let (token, given) = next_blob(&mut elf).await?;
    ensure!(given == sent, "it is passed on by name");
    ensure!(read(&mut blobs, &given.digest).await? == sent, "what is read is what was written");
    let changed = Large { letter: b'b', mib };
    let returned = changed.write(&mut blobs).await?;
    let output = v1::NamedOutput { name: "n".to_owned(), payload: Some(wire::blob_payload(returned)) };
    let result = outcome::Result::Outputs(v1::Outputs { outputs: vec![output] });
    elf.report(vec![v1::Outcome { ran: None, token: Some(token), result: Some(result) }]).await?;

    let (_, spliced) = next_blob(&mut elf).await?;
    let mut expected = Sha256::new_with_prefix("[");
    (0..mib).for_each(|index| expected.update(changed.piece(index)));
    expected.update(",7]");
    ensure!(spliced.digest == expected.finalize().as_slice(), "the list is the value and 7");
    ensure!(read(&mut blobs, &spliced.digest).await?.size == changed.size() + 4);

    let peak = peak_memory_bytes(broker.pid()?)?;
    eprintln!("a value of {mib} MiB: the broker took {} MiB at the most", peak / MIB);
    ensure!(peak < MEMORY_BYTES_MAX, "the broker took {peak} bytes of memory");
    drop(elf);
    broker.stop().await
}

#[tokio::test]
async fn a_value_larger_than_the_broker_may_become_passes_through_it() -> anyhow::Result<()> {
    pass_through(300).await
}

#[tokio::test]
#[ignore = "writes 3 GiB: run by .ci/long"]
async fn a_value_of_a_gibibyte_passes_through_a_small_broker() -> anyhow::Result<()> {
    pass_through(1024).await
}
