//! Blobs kept in a map, with all that can go wrong.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use mycelium_proto::v1::blob_service_server::BlobService;
use mycelium_proto::v1::{self, write_blob_request};
use mycelium_proto::{limits, reason};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

use super::service::{Script, refusal};
use crate::wire::blob_of;

/// What is kept, what was asked, and what goes wrong.
#[derive(Debug, Default)]
pub struct BlobScript {
    /// The blobs by their digests.
    pub kept: HashMap<Bytes, Bytes>,
    /// The digests of the blobs that came whole, one for each time.
    pub written: Vec<Bytes>,
    /// How many reads were begun.
    pub reads: usize,
    /// How many of them were not waited for to their end.
    pub reads_dropped: usize,
    /// How many blobs were asked for in each call.
    pub asked: Vec<usize>,
    /// The refusals of the next writes.
    pub fail_writes: VecDeque<Status>,
    /// The refusals of the next reads.
    pub fail_reads: VecDeque<Status>,
    /// Where the reads began.
    pub offsets: Vec<u64>,
    /// After how many bytes the next reads end, and whether with an error.
    pub cut_reads: VecDeque<(usize, bool)>,
    /// Changes the last byte of what is read.
    pub damage: bool,
    /// Goes on after the end of what is read, for as long as anybody listens.
    pub overrun: bool,
    /// While it is false, reads stop after their first chunk, and writes before they answer.
    pub gate: Option<watch::Receiver<bool>>,
}

impl BlobScript {
    /// Keeps a blob, and returns its name.
    pub fn keep(&mut self, bytes: impl Into<Bytes>) -> v1::BlobRef {
        let bytes = bytes.into();
        let name = blob_of(&bytes);
        self.kept.insert(name.digest.clone(), bytes);
        name
    }
}

async fn pass(gate: Option<watch::Receiver<bool>>) {
    if let Some(mut gate) = gate {
        // A test that is over opens it too.
        gate.wait_for(|is_open| *is_open).await.ok();
    }
}

pub(super) struct BlobCalls(pub(super) Arc<Mutex<Script>>);

impl BlobCalls {
    fn script<T>(&self, change: impl FnOnce(&mut BlobScript) -> T) -> T {
        change(&mut self.0.lock().unwrap().blobs)
    }
}

/// Counts a read that nobody waited for to its end.
struct Reading {
    script: Arc<Mutex<Script>>,
    is_over: bool,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.is_over
            && let Ok(mut script) = self.script.lock()
        {
            script.blobs.reads_dropped += 1;
        }
    }
}

#[tonic::async_trait]
impl BlobService for BlobCalls {
    type ReadBlobStream = BoxStream<'static, Result<v1::ReadBlobResponse, Status>>;

    async fn write_blob(
        &self,
        request: Request<Streaming<v1::WriteBlobRequest>>,
    ) -> Result<Response<v1::WriteBlobResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(v1::WriteBlobRequest { kind: Some(write_blob_request::Kind::Header(header)) }) =
            messages.message().await?
        else {
            panic!("the first message is the header");
        };
        let name = header.blob.unwrap();
        if let Some(status) = self.script(|blobs| blobs.fail_writes.pop_front()) {
            return Err(status);
        }
        if self.script(|blobs| blobs.kept.contains_key(&name.digest)) {
            return Ok(Response::new(v1::WriteBlobResponse { existed: true }));
        }
        let mut bytes = Vec::new();
        while let Some(message) = messages.message().await? {
            let Some(write_blob_request::Kind::Chunk(chunk)) = message.kind else {
                panic!("the header comes once");
            };
            assert!((1..=limits::BLOB_CHUNK_BYTES_MAX).contains(&chunk.len()));
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(blob_of(&bytes), name, "what is sent is what was named");
        pass(self.script(|blobs| blobs.gate.clone())).await;
        self.script(|blobs| {
            blobs.written.push(name.digest.clone());
            blobs.kept.insert(name.digest, bytes.into());
        });
        Ok(Response::new(v1::WriteBlobResponse { existed: false }))
    }

    async fn read_blob(
        &self,
        request: Request<v1::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        let request = request.into_inner();
        assert_eq!(request.length, 0, "to the end");
        let (bytes, cut, damage, overrun, gate) = self.script(|blobs| {
            blobs.reads += 1;
            blobs.offsets.push(request.offset);
            if let Some(status) = blobs.fail_reads.pop_front() {
                return Err(status);
            }
            let missing = || refusal(Code::NotFound, reason::BLOB_NOT_FOUND, None);
            let bytes = blobs.kept.get(&request.digest).cloned().ok_or_else(missing)?;
            let cut = blobs.cut_reads.pop_front();
            Ok((bytes, cut, blobs.damage, blobs.overrun, blobs.gate.clone()))
        })?;
        let mut bytes = bytes.to_vec();
        if damage && let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        bytes.drain(..request.offset as usize);
        let mut end = None;
        if let Some((length, is_error)) = cut {
            bytes.truncate(length);
            end = is_error.then(|| Err(Status::unavailable("cut off")));
        }
        let chunks = bytes.chunks(limits::BLOB_CHUNK_BYTES).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        let mut chunks: Vec<Result<Bytes, Status>> = chunks.chain(end).collect();
        chunks.reverse();
        let reading = Reading { script: Arc::clone(&self.0), is_over: false };
        let stream = futures::stream::unfold(
            (chunks, gate, 0, reading),
            move |(mut chunks, gate, sent, mut reading)| async move {
                if sent > 0 {
                    pass(gate.clone()).await;
                }
                let chunk = match chunks.pop() {
                    Some(chunk) => chunk,
                    None if overrun => Ok(Bytes::from_static(b"and more")),
                    None => {
                        reading.is_over = true;
                        drop(reading);
                        return None;
                    }
                };
                let response = chunk.map(|chunk| v1::ReadBlobResponse { chunk });
                Some((response, (chunks, gate, sent + 1, reading)))
            },
        );
        Ok(Response::new(stream.boxed()))
    }

    async fn find_missing_blobs(
        &self,
        request: Request<v1::FindMissingBlobsRequest>,
    ) -> Result<Response<v1::FindMissingBlobsResponse>, Status> {
        let digests = request.into_inner().digests;
        assert!(digests.len() <= limits::BLOB_DIGESTS_MAX);
        let missing = self.script(|blobs| {
            blobs.asked.push(digests.len());
            digests.into_iter().filter(|digest| !blobs.kept.contains_key(digest)).collect()
        });
        Ok(Response::new(v1::FindMissingBlobsResponse { missing }))
    }
}
