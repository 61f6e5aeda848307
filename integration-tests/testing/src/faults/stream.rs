//! One stream of an elf, passed on to the broker but for what is to go wrong.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use mycelium_proto::limits::MESSAGE_BYTES_MAX;
use mycelium_proto::v1;
use mycelium_proto::v1::connect_request::Kind;
use mycelium_proto::v1::elf_service_client::ElfServiceClient;
use mycelium_proto::v1::elf_service_server::ElfService;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::order::{Fate, Orders, Until};

/// How many messages wait on either side.
const WAITING_MAX: usize = 64;

/// The streams of elves.
pub(super) struct Streams {
    pub(super) orders: Arc<Orders>,
    pub(super) broker: Channel,
    /// Ends when the test is over.
    pub(super) is_over: watch::Receiver<()>,
    pub(super) died: Arc<Died>,
}

/// The instances that have died and not come back.
#[derive(Debug, Default)]
pub(super) struct Died(Mutex<HashSet<Bytes>>);

impl Died {
    fn add(&self, instance: Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(instance);
    }

    fn take(&self, instance: &Bytes) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(instance)
    }
}

#[tonic::async_trait]
impl ElfService for Streams {
    type ConnectStream = ReceiverStream<Result<v1::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut from_elf = request.into_inner();
        let mut first = from_elf.message().await?.ok_or_else(|| Status::cancelled("nothing was said"))?;
        let instance = self.introduce(&mut first);
        let (to_broker, requests) = mpsc::channel(WAITING_MAX);
        pass(&to_broker, first).await;
        let mut broker = ElfServiceClient::new(self.broker.clone())
            .max_decoding_message_size(2 * MESSAGE_BYTES_MAX)
            .max_encoding_message_size(2 * MESSAGE_BYTES_MAX);
        let from_broker = broker.connect(ReceiverStream::new(requests)).await?.into_inner();
        let (to_elf, responses) = mpsc::channel(WAITING_MAX);
        let stream = Stream {
            orders: Arc::clone(&self.orders),
            died: Arc::clone(&self.died),
            instance,
            received: 0,
            waiting: FuturesUnordered::new(),
        };
        let mut is_over = self.is_over.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stream.run(from_elf, Some(to_broker), from_broker, to_elf) => {}
                // Nothing is ever sent: it is dropped.
                _over = is_over.changed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Streams {
    /// Makes of an instance that has died one that begins anew. Returns its name.
    fn introduce(&self, first: &mut v1::ConnectRequest) -> Bytes {
        let Some(Kind::Hello(hello)) = &mut first.kind else { return Bytes::new() };
        // A session without a secret is over as soon as its instance opens another.
        hello.protocol_max = hello.protocol_max.min(1);
        if self.died.take(&hello.instance_id) {
            hello.resume_session = 0;
            hello.held.clear();
        }
        hello.instance_id.clone()
    }
}

/// Passes a message on. Messages come between those of the elf, so they have no numbers. A broker that has gone shows in what
/// comes from it.
async fn pass(to_broker: &mpsc::Sender<v1::ConnectRequest>, message: v1::ConnectRequest) {
    let _gone = to_broker.send(v1::ConnectRequest { sequence: 0, ..message }).await;
}

/// What becomes of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoesOn,
    /// It breaks, for this reason.
    Breaks(&'static str),
}

struct Stream {
    orders: Arc<Orders>,
    died: Arc<Died>,
    instance: Bytes,
    /// The last number that the elf has said it has received.
    received: u64,
    /// The outcomes that wait.
    waiting: FuturesUnordered<BoxFuture<'static, v1::Outcome>>,
}

impl Stream {
    async fn run(
        mut self,
        mut from_elf: Streaming<v1::ConnectRequest>,
        mut to_broker: Option<mpsc::Sender<v1::ConnectRequest>>,
        mut from_broker: Streaming<v1::ConnectResponse>,
        to_elf: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    ) {
        loop {
            tokio::select! {
                message = from_elf.message(), if to_broker.is_some() => match (message, &to_broker) {
                    (Ok(Some(message)), Some(broker)) => {
                        let (message, next) = self.on_request(message);
                        pass(broker, message).await;
                        if let Next::Breaks(why) = next {
                            let _gone = to_elf.send(Err(Status::unavailable(why))).await;
                            return;
                        }
                    }
                    // It says no more, and listens on.
                    (Ok(_), _) => to_broker = None,
                    (Err(_broken), _) => return,
                },
                message = from_broker.message() => {
                    let message = message.transpose();
                    if let Some(Ok(message)) = &message {
                        self.orders.on_response(message);
                    }
                    let Some(message) = message else { return };
                    let is_last = message.is_err();
                    if to_elf.send(message).await.is_err() || is_last {
                        return;
                    }
                }
                Some(outcome) = self.waiting.next(), if to_broker.is_some() => {
                    let kind = Some(Kind::Outcomes(v1::Outcomes { outcomes: vec![outcome] }));
                    let received = self.received;
                    if let Some(broker) = &to_broker {
                        pass(broker, v1::ConnectRequest { received, kind, ..v1::ConnectRequest::default() }).await;
                    }
                }
            }
        }
    }

    /// What is left of a message, and how the stream goes on.
    fn on_request(&mut self, mut message: v1::ConnectRequest) -> (v1::ConnectRequest, Next) {
        self.received = message.received;
        let mut dies = message.starts.iter().any(|start| self.orders.dies_with(start.token.as_ref()));
        let mut loses = false;
        if let Some(Kind::Outcomes(v1::Outcomes { outcomes })) = &mut message.kind {
            let mut pass = Vec::with_capacity(outcomes.len());
            for outcome in outcomes.drain(..) {
                let fate = self.orders.fate(&outcome);
                if !matches!(fate, Fate::Passes) {
                    // The broker has not heard of one that took no time.
                    message.starts.push(v1::Start { token: outcome.token.clone(), ago: outcome.ran });
                }
                match fate {
                    Fate::Passes => pass.push(outcome),
                    Fate::Lost => loses = true,
                    Fate::Dies => dies = true,
                    Fate::Waits(until) => self.waiting.push(Box::pin(wait(until, outcome))),
                }
            }
            *outcomes = pass;
            if outcomes.is_empty() {
                message.kind = None;
            }
        }
        let next = match (dies, loses) {
            (true, _) => {
                self.died.add(self.instance.clone());
                Next::Breaks("the test lets the elf die")
            }
            (false, true) => Next::Breaks("the test loses an outcome"),
            (false, false) => Next::GoesOn,
        };
        (message, next)
    }
}

/// Gives the outcome when it may go on.
async fn wait(until: Until, outcome: v1::Outcome) -> v1::Outcome {
    match until {
        Until::Moment(moment) => tokio::time::sleep_until(moment).await,
        Until::Released(mut gate) => {
            gate.arrived.send_replace(true);
            // Nothing is ever sent: it is dropped.
            let _released = gate.released.changed().await;
        }
    }
    outcome
}
