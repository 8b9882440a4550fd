//! The gRPC service. Canonical bytes travel as opaque `bytes`; everything else is the same calls as over
//! JSON-RPC, with the same limits.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use cairn_types::state_key::StateSubject;
use cairn_types::{BlockId, Hash, Height, ProofId, ProofKind, SignedTransaction, TxId, decode, encode};
use futures::Stream as FuturesStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::args::BlockRef;
use crate::backend::{AnchorLog, ReceiptForm, RecordKey};
use crate::calls::{self, Wait};
use crate::config::{WAIT_MS_DEFAULT, WAIT_MS_MAX};
use crate::context::Context;
use crate::fault::{Fault, INVALID_PARAMS};
use crate::feed::{Cursor, Event, Feed, Filter, Happened, Stream};
use crate::grpc_port::GrpcCaller;
use crate::methods::{BUNDLE_RECORDS_MAX, bundle_text, consistency_path, receipt_text, state_text};
use crate::proto::cairn_server::Cairn;
use crate::proto::{
    BlockEvent, BlockReference, GetBlockRequest, GetBlockResponse, GetBundleRequest, GetBundleResponse,
    GetConsistencyRequest, GetConsistencyResponse, GetHeaderRequest, GetHeaderResponse, GetProofRequest,
    GetProofResponse, GetReceiptRequest, GetReceiptResponse, GetStateProofRequest, GetStateProofResponse,
    ProofEvent, StatusRequest, StatusResponse, SubmitRequest, SubmitResponse, SubscribeBlocksRequest,
    SubscribeProofsRequest, block_reference, get_proof_request,
};
use crate::{secret, txjson};

/// Events on their way to one reader, and one place kept free for the last word.
const BUFFER_EVENTS: usize = 64;

/// The service.
pub(crate) struct Service {
    pub(crate) context: Arc<Context>,
}

/// A fault as a gRPC status; the JSON-RPC kind and hint follow the message.
fn status(fault: &Fault) -> Status {
    let kind = fault.kind();
    let code = match fault {
        Fault::NotFound { .. } | Fault::UnknownIdentity { .. } => Code::NotFound,
        Fault::Pruned { .. } | Fault::FutureHeight { .. } => Code::OutOfRange,
        Fault::NotReady { .. } => Code::Unavailable,
        Fault::MempoolFull { .. } | Fault::RateLimited { .. } | Fault::TooManySubscriptions => {
            Code::ResourceExhausted
        }
        Fault::TimeoutNotFinal { .. } | Fault::CallTimeout { .. } => Code::DeadlineExceeded,
        Fault::Unauthorized { .. } => Code::PermissionDenied,
        Fault::Conflict { .. } => Code::Aborted,
        Fault::Internal { reason } => {
            tracing::error!(%reason, "a gRPC call failed");
            Code::Internal
        }
        _ => Code::InvalidArgument,
    };
    let data = fault.data();
    let hint = match data.get("hint").and_then(serde_json::Value::as_str) {
        // The general advice names the JSON-RPC description.
        Some(hint) if hint == INVALID_PARAMS.hint => "server reflection describes every message",
        hint => hint.unwrap_or(kind.hint),
    };
    let mut message = format!("{}: {fault} ({hint})", kind.kind);
    if let Fault::TimeoutNotFinal { tx_id, .. } = fault {
        message.push_str(&format!("; tx_id {tx_id}"));
    }
    Status::new(code, message)
}

fn hash(bytes: &[u8], name: &str) -> Result<Hash, Fault> {
    <[u8; 32]>::try_from(bytes)
        .map(Hash)
        .map_err(|_| Fault::invalid(format!("{name} has {} bytes; expected 32", bytes.len())))
}

fn bytes_of(hash: Hash) -> Vec<u8> {
    hash.as_bytes().to_vec()
}

fn block_ref(at: Option<BlockReference>) -> Result<BlockRef, Fault> {
    match at.and_then(|at| at.block) {
        None => Ok(BlockRef::Latest),
        Some(block_reference::Block::Height(height)) => Ok(BlockRef::Height(Height::new(height))),
        Some(block_reference::Block::Id(id)) => Ok(BlockRef::Id(BlockId::new(hash(&id, "id")?))),
    }
}

impl Service {
    /// Charges, then answers within the call's own time and the configured one.
    async fn run<T>(
        &self,
        method: &'static str,
        caller: IpAddr,
        own: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        let started = std::time::Instant::now();
        let allowed = own.saturating_add(self.context.config.answer_timeout);
        let answer = async {
            self.context.charge(caller, 1)?;
            let _place = self.context.enter()?;
            tokio::time::timeout(allowed, work).await.unwrap_or_else(|_| {
                Err(Fault::CallTimeout { waited_ms: u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX) })
            })
        }
        .await;
        let outcome = answer.as_ref().map_or_else(|fault| fault.kind().kind, |_| "ok");
        self.context.metrics.called(method, outcome, started.elapsed());
        answer.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn submitted(&self, request: SubmitRequest, timeout: Duration) -> Result<SubmitResponse, Fault> {
        let tx = txjson::from_bytes(request.transaction_bytes)?;
        let wait = if request.accepted_is_enough { Wait::Accepted } else { Wait::Final(timeout) };
        let outcome = calls::submit(&self.context, tx, wait).await?;
        let (height, time_ms) = outcome.landed.map_or((0, 0), |(height, time_ms)| (height.get(), time_ms));
        Ok(SubmitResponse {
            tx_id: bytes_of(outcome.tx_id.hash()),
            proof_ids: outcome.proof_ids.iter().map(|id| bytes_of(id.hash())).collect(),
            duplicate: outcome.duplicate,
            r#final: outcome.landed.is_some(),
            height,
            time_ms,
            record_bytes: outcome.records.iter().map(cairn_types::Record::to_bytes).collect(),
        })
    }

    async fn proof(&self, request: GetProofRequest) -> Result<GetProofResponse, Fault> {
        use get_proof_request::Key;
        let key = match request.key {
            Some(Key::ProofId(id)) => RecordKey::Proof(ProofId::new(hash(&id, "proof_id")?)),
            Some(Key::Root(root)) => RecordKey::Root(hash(&root, "root")?),
            Some(Key::TxId(id)) => RecordKey::Tx(TxId::new(hash(&id, "tx_id")?)),
            Some(Key::Seq(seq)) => RecordKey::Seq(seq),
            None => return Err(Fault::invalid("name the proof by proof_id, root, tx_id or seq")),
        };
        let records = calls::records(&self.context, key).await?;
        Ok(GetProofResponse { record_bytes: records.iter().map(cairn_types::Record::to_bytes).collect() })
    }

    async fn header(&self, request: GetHeaderRequest) -> Result<GetHeaderResponse, Fault> {
        let header = calls::header(&self.context, block_ref(request.at)?).await?;
        let certificate = match calls::certificate(&self.context, BlockRef::Height(header.height)).await {
            Ok(certificate) => encode(&certificate),
            Err(Fault::NotFound { .. }) => Vec::new(),
            Err(other) => return Err(other),
        };
        Ok(GetHeaderResponse {
            id: bytes_of(header.id().hash()),
            height: header.height.get(),
            header_bytes: encode(&header),
            certificate_bytes: certificate,
        })
    }

    async fn bundle(&self, request: GetBundleRequest) -> Result<GetBundleResponse, Fault> {
        let seqs = request.seqs;
        let ascending = seqs.windows(2).all(|pair| pair.first() < pair.last());
        if !(1..=BUNDLE_RECORDS_MAX).contains(&seqs.len()) || !ascending {
            return Err(Fault::invalid(format!(
                "seqs must be 1 to {BUNDLE_RECORDS_MAX} integers, strictly ascending"
            )));
        }
        let form = if request.checkpoint { ReceiptForm::Checkpoint } else { ReceiptForm::Standalone };
        let at = match request.at {
            Some(at) => Some(calls::locate(&self.context, block_ref(Some(at))?)?),
            None => None,
        };
        let text = bundle_text(&self.context, seqs, form, at).await?;
        let bundle_json = text.ok_or_else(|| Fault::not_found("these records under that header"))?;
        Ok(GetBundleResponse { bundle_json })
    }

    async fn state_proof(&self, request: GetStateProofRequest) -> Result<GetStateProofResponse, Fault> {
        let address = |bytes: &[u8], name| hash(bytes, name).map(cairn_types::Address::new);
        let identity = address(&request.identity, "identity")?;
        let subject = match request.delegate.as_slice() {
            [] => StateSubject::Identity(identity),
            bytes => StateSubject::Delegation { principal: identity, delegate: address(bytes, "delegate")? },
        };
        let form = if request.checkpoint { ReceiptForm::Checkpoint } else { ReceiptForm::Standalone };
        Ok(GetStateProofResponse { document_json: state_text(&self.context, subject, form).await? })
    }

    async fn now(&self) -> Result<StatusResponse, Fault> {
        let status = self.context.backend.status().await?;
        let about = self.context.backend.about();
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(StatusResponse {
            chain: bytes_of(about.chain.hash()),
            chain_name: about.chain_name.clone(),
            height: status.tip.height.get(),
            block_id: bytes_of(status.tip.id().hash()),
            time_ms: status.tip.time_ms,
            epoch: status.epoch.get(),
            view: status.view.get(),
            anchors: status.tip.anchors_size,
            final_age_ms: status.final_age_ms,
            peers: small(status.peers),
            pending: small(status.pending),
            syncing: status.syncing,
            version: about.version.clone(),
        })
    }

    fn feed(&self, filter: Filter, from_cursor: &str) -> Result<Feed, Fault> {
        let cursor = if from_cursor.is_empty() { None } else { Some(Cursor::read(from_cursor)?) };
        Feed::start(self.context.clone(), filter, cursor)
    }

    fn stream<T: Send + 'static>(
        &self,
        feed: Feed,
        encode: fn(Event) -> T,
        caller: Option<GrpcCaller>,
    ) -> Events<T> {
        let (sender, receiver) = mpsc::channel(BUFFER_EVENTS);
        let context = self.context.clone();
        tokio::spawn(async move {
            feed_reader(&context, feed, sender, encode).await;
            drop(caller);
        });
        Events(ReceiverStream::new(receiver))
    }
}

async fn feed_reader<T>(
    context: &Context,
    mut feed: Feed,
    sender: mpsc::Sender<Result<T, Status>>,
    encode: fn(Event) -> T,
) {
    let _counted = context.metrics.subscribed();
    let Ok(last_word) = sender.clone().reserve_owned().await else { return };
    let mut last = feed.origin();
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            () = sender.closed() => return,
        };
        let farewell = match event {
            Ok(event) => {
                let cursor = event.cursor;
                match sender.send_timeout(Ok(encode(event)), context.config.slow_consumer_after).await {
                    Ok(()) => {
                        last = Some(cursor);
                        continue;
                    }
                    Err(mpsc::error::SendTimeoutError::Closed(_)) => return,
                    Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                        context.metrics.subscriber_lagged();
                        let from = last.map_or_else(String::new, |cursor| cursor.to_string());
                        Status::resource_exhausted(format!("lagged: resume with from_cursor \"{from}\""))
                    }
                }
            }
            Err(fault) => status(&fault),
        };
        last_word.send(Err(farewell));
        return;
    }
}

/// A stream of events.
pub(crate) struct Events<T>(ReceiverStream<Result<T, Status>>);

impl<T> FuturesStream for Events<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

fn block_event(event: Event) -> BlockEvent {
    let cursor = event.cursor.to_string();
    match event.what {
        Happened::Block(block) => BlockEvent {
            cursor,
            height: block.header.height.get(),
            id: bytes_of(block.id.hash()),
            header_bytes: encode(&block.header),
            tx_ids: block.transactions.iter().map(|id| bytes_of(id.hash())).collect(),
            record_bytes: block.records.iter().map(cairn_types::Record::to_bytes).collect(),
        },
        Happened::Proof(_) | Happened::Identity(_) => BlockEvent { cursor, ..BlockEvent::default() },
    }
}

fn proof_event(event: Event) -> ProofEvent {
    let cursor = event.cursor.to_string();
    match event.what {
        Happened::Proof(record) => ProofEvent {
            cursor,
            seq: record.seq,
            proof_id: bytes_of(record.proof_id.hash()),
            record_bytes: record.to_bytes(),
        },
        Happened::Block(_) | Happened::Identity(_) => ProofEvent { cursor, ..ProofEvent::default() },
    }
}

/// The caller of a request, put there by the port.
fn caller<T>(request: &Request<T>) -> (IpAddr, Option<GrpcCaller>) {
    let found = request.extensions().get::<GrpcCaller>().cloned();
    (found.as_ref().map_or(IpAddr::from([0, 0, 0, 0]), |caller| caller.ip), found)
}

#[tonic::async_trait]
impl Cairn for Service {
    type SubscribeBlocksStream = Events<BlockEvent>;
    type SubscribeProofsStream = Events<ProofEvent>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let (ip, _) = caller(&request);
        let request = request.into_inner();
        let asked = match u64::from(request.timeout_ms) {
            0 => WAIT_MS_DEFAULT,
            asked => asked.min(WAIT_MS_MAX),
        };
        if secret::is_secret_length(request.transaction_bytes.len()) {
            // No transaction of ours is refused here by accident: below 4,100 bytes with a signature of
            // 3,309 it may be one, so it is only refused when it does not decode.
            if decode::<SignedTransaction>(&request.transaction_bytes).is_err() {
                secret::wipe(request.transaction_bytes);
                self.context.metrics.secret_refused();
                return Err(status(&Fault::SecretMaterial));
            }
        }
        let timeout = Duration::from_millis(asked);
        self.run("grpc.Submit", ip, timeout, self.submitted(request, timeout)).await
    }

    async fn get_proof(
        &self,
        request: Request<GetProofRequest>,
    ) -> Result<Response<GetProofResponse>, Status> {
        let (ip, _) = caller(&request);
        self.run("grpc.GetProof", ip, Duration::ZERO, self.proof(request.into_inner())).await
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let (ip, _) = caller(&request);
        let request = request.into_inner();
        let form = if request.checkpoint { ReceiptForm::Checkpoint } else { ReceiptForm::Standalone };
        let work = async {
            let id = ProofId::new(hash(&request.proof_id, "proof_id")?);
            let receipt_json = receipt_text(&self.context, RecordKey::Proof(id), form).await?;
            Ok(GetReceiptResponse { receipt_json })
        };
        self.run("grpc.GetReceipt", ip, Duration::ZERO, work).await
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<GetBundleResponse>, Status> {
        let (ip, _) = caller(&request);
        self.run("grpc.GetBundle", ip, Duration::ZERO, self.bundle(request.into_inner())).await
    }

    async fn get_consistency(
        &self,
        request: Request<GetConsistencyRequest>,
    ) -> Result<Response<GetConsistencyResponse>, Status> {
        let (ip, _) = caller(&request);
        let GetConsistencyRequest { first, second, sha256 } = request.into_inner();
        let work = async {
            let log = if sha256 { AnchorLog::Sha256 } else { AnchorLog::Anchors };
            let path = consistency_path(&self.context, log, first, second).await?;
            Ok(GetConsistencyResponse { path: path.into_iter().map(bytes_of).collect() })
        };
        self.run("grpc.GetConsistency", ip, Duration::ZERO, work).await
    }

    async fn get_state_proof(
        &self,
        request: Request<GetStateProofRequest>,
    ) -> Result<Response<GetStateProofResponse>, Status> {
        let (ip, _) = caller(&request);
        self.run("grpc.GetStateProof", ip, Duration::ZERO, self.state_proof(request.into_inner())).await
    }

    async fn get_header(
        &self,
        request: Request<GetHeaderRequest>,
    ) -> Result<Response<GetHeaderResponse>, Status> {
        let (ip, _) = caller(&request);
        self.run("grpc.GetHeader", ip, Duration::ZERO, self.header(request.into_inner())).await
    }

    async fn get_block(
        &self,
        request: Request<GetBlockRequest>,
    ) -> Result<Response<GetBlockResponse>, Status> {
        let (ip, _) = caller(&request);
        let work = async {
            let block = calls::block(&self.context, block_ref(request.into_inner().at)?).await?;
            Ok(GetBlockResponse {
                id: bytes_of(block.id().hash()),
                height: block.header().height.get(),
                block_bytes: encode(block.as_ref()),
            })
        };
        self.run("grpc.GetBlock", ip, Duration::ZERO, work).await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (ip, _) = caller(&request);
        self.run("grpc.Status", ip, Duration::ZERO, self.now()).await
    }

    async fn subscribe_blocks(
        &self,
        request: Request<SubscribeBlocksRequest>,
    ) -> Result<Response<Self::SubscribeBlocksStream>, Status> {
        let (ip, connection) = caller(&request);
        let work = async {
            let filter = Filter { stream: Stream::Blocks, sender: None, kind: None };
            let feed = self.feed(filter, &request.into_inner().from_cursor)?;
            Ok(self.stream(feed, block_event, connection))
        };
        self.run("grpc.SubscribeBlocks", ip, Duration::ZERO, work).await
    }

    async fn subscribe_proofs(
        &self,
        request: Request<SubscribeProofsRequest>,
    ) -> Result<Response<Self::SubscribeProofsStream>, Status> {
        let (ip, connection) = caller(&request);
        let work = async {
            let request = request.into_inner();
            let sender = match request.sender.as_slice() {
                [] => None,
                bytes => Some(cairn_types::Address::new(hash(bytes, "sender")?)),
            };
            let kind = match request.kind.as_str() {
                "" => None,
                name => Some(ProofKind::from_name(name).ok_or_else(|| {
                    Fault::invalid(format!("kind is no kind of proof: {} bytes", name.len()))
                })?),
            };
            let feed = self.feed(Filter { stream: Stream::Proofs, sender, kind }, &request.from_cursor)?;
            Ok(self.stream(feed, proof_event, connection))
        };
        self.run("grpc.SubscribeProofs", ip, Duration::ZERO, work).await
    }
}
