//! Large values, written and read by hand.

use bytes::Bytes;
use mycelium_proto::limits::{BLOB_CHUNK_BYTES, MESSAGE_BYTES_MAX};
use mycelium_proto::v1::blob_service_client::BlobServiceClient;
use mycelium_proto::v1::{self, payload, write_blob_request};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::Channel;

use super::channel;
use crate::wait::must;

/// The generated client of `BlobService`, on a connection of its own.
///
/// # Errors
/// If nobody answers.
pub async fn blob_client(url: &str) -> anyhow::Result<BlobServiceClient<Channel>> {
    Ok(BlobServiceClient::new(channel(url).await?).max_encoding_message_size(2 * MESSAGE_BYTES_MAX))
}

/// The messages that write a blob of these bytes, in chunks as runtimes send them.
pub fn blob_messages(blob: v1::BlobRef, bytes: &Bytes) -> Vec<v1::WriteBlobRequest> {
    let header = write_blob_request::Kind::Header(v1::WriteBlobHeader {
        blob: Some(blob),
        ..v1::WriteBlobHeader::default()
    });
    let chunks = (0..bytes.len()).step_by(BLOB_CHUNK_BYTES).map(|begin| {
        let end = (begin + BLOB_CHUNK_BYTES).min(bytes.len());
        write_blob_request::Kind::Chunk(bytes.slice(begin..end))
    });
    std::iter::once(header).chain(chunks).map(|kind| v1::WriteBlobRequest { kind: Some(kind) }).collect()
}

/// The name of a blob of these bytes.
pub fn blob_of(bytes: &[u8]) -> v1::BlobRef {
    v1::BlobRef { digest: Bytes::copy_from_slice(&Sha256::digest(bytes)), size: bytes.len() as u64 }
}

/// Writes a blob.
///
/// # Errors
/// If the broker does not take it.
pub async fn write_blob(
    client: &mut BlobServiceClient<Channel>,
    bytes: &Bytes,
) -> anyhow::Result<v1::BlobRef> {
    let blob = blob_of(bytes);
    client.write_blob(futures::stream::iter(blob_messages(blob.clone(), bytes))).await?;
    Ok(blob)
}

/// Reads a blob whole.
///
/// # Errors
/// If the broker does not give it.
pub async fn read_blob(
    client: &mut BlobServiceClient<Channel>,
    digest: &Bytes,
) -> anyhow::Result<Result<Bytes, Status>> {
    let request = v1::ReadBlobRequest { digest: digest.clone(), ..v1::ReadBlobRequest::default() };
    let mut stream = match client.read_blob(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let mut bytes = Vec::new();
    loop {
        match must("the next part of a blob", stream.message()).await? {
            Ok(Some(message)) => bytes.extend_from_slice(&message.chunk),
            Ok(None) => return Ok(Ok(Bytes::from(bytes))),
            Err(status) => return Ok(Err(status)),
        }
    }
}

/// A payload of JSON that is a blob.
pub fn blob_payload(blob: v1::BlobRef) -> v1::Payload {
    v1::Payload { encoding: String::new(), content: Some(payload::Content::Blob(blob)) }
}
