//! JSON-RPC over a WebSocket. Each message passes the same door as the body of a POST, so that what is no
//! JSON-RPC gets the same answer on both; calls and subscriptions then go to the same methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use jsonrpsee::ConnectionId;
use jsonrpsee::core::middleware::{Batch, BatchEntry, BatchEntryErr, Notification, RpcServiceT};
use jsonrpsee::server::{
    BoundedSubscriptions, MethodCallback, MethodResponse, MethodSink, Methods, RandomIntegerIdProvider,
    StopHandle, SubscriptionState,
};
use jsonrpsee::types::error::{ErrorCode, reject_too_many_subscriptions};
use jsonrpsee::types::{ErrorObject, Id, InvalidRequest, Params, Request};
use jsonrpsee::{Extensions, core::JsonRawValue};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{BODY_BYTES_MAX, RESPONSE_BYTES_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::connections::Caller;
use crate::context::Context;
use crate::envelope::{self, Envelope};
use crate::fault::Fault;
use crate::gate::{Gate, Scanned, refuse};

/// Bytes of one message that are read, at most. One above [`BODY_BYTES_MAX`] is answered, one above this ends the
/// connection: whoever sends it is not let fill the memory to hear why.
pub(crate) const MESSAGE_BYTES_READ_MAX: usize = 2 * BODY_BYTES_MAX;
/// Messages on their way to one WebSocket; beyond it senders wait, which is how a slow reader is noticed.
const BUFFER_MESSAGES: usize = 64;
/// How often a peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a peer may say nothing at all: two pings without an answer, and a little.
const SILENCE_MAX: Duration = Duration::from_secs(70);
/// How long calls under way may go on once the node stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Every WebSocket of a port.
pub(crate) struct Sessions {
    context: Arc<Context>,
    methods: Methods,
    stop: StopHandle,
    opened: AtomicUsize,
}

impl Sessions {
    pub(crate) fn new(context: Arc<Context>, methods: Methods, stop: StopHandle) -> Self {
        Self { context, methods, stop, opened: AtomicUsize::new(0) }
    }

    /// Serves one until either side ends it.
    pub(crate) async fn serve(&self, socket: WebSocket, caller: Caller) {
        let (to_peer, from_peer) = socket.split();
        let (sender, receiver) = mpsc::channel(BUFFER_MESSAGES);
        let limit = u32::try_from(RESPONSE_BYTES_MAX).unwrap_or(u32::MAX);
        let sink = MethodSink::new_with_limit(sender, limit);
        let over = CancellationToken::new();
        let writing = tokio::spawn(write(to_peer, receiver, over.clone()));
        let dispatch = Dispatch {
            methods: self.methods.clone(),
            // Subscriptions are told apart by connection, so no number is given twice.
            connection: ConnectionId(self.opened.fetch_add(1, Ordering::Relaxed)),
            subscriptions: BoundedSubscriptions::new(SUBSCRIPTIONS_PER_CONNECTION_MAX),
            sink: sink.clone(),
        };
        let door = Door { gate: Gate { inner: dispatch, context: Arc::clone(&self.context) }, caller, sink };
        let mut calls = JoinSet::new();
        let stopped = self.read(from_peer, &door, &mut calls).await;
        if stopped {
            // What was asked before the stop is answered; a peer that is gone is owed nothing.
            let _ = timeout(DRAIN, async { while calls.join_next().await.is_some() {} }).await;
        }
        calls.abort_all();
        over.cancel();
        let _ = writing.await;
    }

    /// Reads until the peer is gone (`false`) or the node stops (`true`).
    async fn read(
        &self,
        mut from_peer: SplitStream<WebSocket>,
        door: &Door,
        calls: &mut JoinSet<()>,
    ) -> bool {
        let stop = self.stop.clone().shutdown();
        tokio::pin!(stop);
        loop {
            let message = tokio::select! {
                message = timeout(SILENCE_MAX, from_peer.next()) => message,
                () = door.sink.closed() => return false,
                () = &mut stop => return true,
            };
            while calls.try_join_next().is_some() {}
            match message {
                Ok(Some(Ok(Message::Text(text)))) => door.answer_later(text.as_bytes().to_vec(), calls),
                Ok(Some(Ok(Message::Binary(bytes)))) => door.answer_later(bytes.to_vec(), calls),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Close(_)))) | Ok(None) | Err(_) => return false,
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "a WebSocket ended early");
                    return false;
                }
            }
        }
    }
}

/// Sends what is to be sent, and asks now and then whether the peer is there.
async fn write(
    mut to_peer: SplitSink<WebSocket, Message>,
    mut messages: mpsc::Receiver<Box<JsonRawValue>>,
    over: CancellationToken,
) {
    let mut ping = interval(PING_EVERY);
    ping.reset();
    loop {
        let message = tokio::select! {
            message = messages.recv() => match message {
                Some(json) => Message::Text(String::from(Box::<str>::from(json)).into()),
                None => break,
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
            () = over.cancelled() => break,
        };
        if to_peer.send(message).await.is_err() {
            return;
        }
    }
    messages.close();
    let farewell = async {
        while let Ok(json) = messages.try_recv() {
            to_peer.send(Message::Text(String::from(Box::<str>::from(json)).into())).await?;
        }
        to_peer.send(Message::Close(None)).await
    };
    // A peer that reads nothing is not waited for.
    let _ = timeout(DRAIN, farewell).await;
}

/// What a message of one WebSocket passes.
#[derive(Clone)]
struct Door {
    gate: Gate<Dispatch>,
    caller: Caller,
    sink: MethodSink,
}

impl Door {
    fn answer_later(&self, message: Vec<u8>, calls: &mut JoinSet<()>) {
        let door = self.clone();
        calls.spawn(async move {
            if let Some(response) = door.answer(message).await {
                let is_success = response.is_success();
                let (json, done, _) = response.into_parts();
                if door.sink.send(json).await.is_ok()
                    && let Some(done) = done
                {
                    done.notify(is_success);
                }
            }
        });
    }

    async fn answer(&self, message: Vec<u8>) -> Option<MethodResponse> {
        if message.len() > BODY_BYTES_MAX {
            let reason = format!("a message of {} bytes; at most {BODY_BYTES_MAX} are taken", message.len());
            return Some(refuse(Id::Null, &Fault::InvalidRequest { reason }));
        }
        match envelope::examine(message) {
            Envelope::Call(body) => self.dispatch(&body).await,
            Envelope::Notification => None,
            Envelope::Refuse { id, fault } => {
                if fault == Fault::SecretMaterial {
                    self.gate.context.metrics.secret_refused();
                }
                // What no method is asked for is charged here, once.
                let fault = self.gate.context.charge(self.caller.ip, 1).err().unwrap_or(fault);
                Some(refuse(repeated(&id), &fault))
            }
        }
    }

    fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.caller.clone());
        extensions.insert(Scanned);
        extensions
    }

    /// A body that was examined: one call, or several.
    async fn dispatch(&self, body: &[u8]) -> Option<MethodResponse> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let response = if first == Some(&b'[') {
            let items: Vec<&JsonRawValue> = serde_json::from_slice(body).ok()?;
            let mut batch = Batch::from(items.into_iter().map(|item| self.entry(item.get())).collect());
            *batch.extensions_mut() = self.extensions();
            self.gate.batch(batch).await
        } else {
            match serde_json::from_slice::<Request<'_>>(body) {
                Ok(mut request) => {
                    *request.extensions_mut() = self.extensions();
                    self.gate.call(request).await
                }
                Err(error) => {
                    let reason = format!("not a JSON-RPC request: {error}");
                    refuse(Id::Null, &Fault::InvalidRequest { reason })
                }
            }
        };
        (response.is_method_call() || response.is_batch()).then_some(response)
    }

    fn entry<'a>(&self, item: &'a str) -> Result<BatchEntry<'a>, BatchEntryErr<'a>> {
        if let Ok(mut request) = serde_json::from_str::<Request<'a>>(item) {
            *request.extensions_mut() = self.extensions();
            return Ok(BatchEntry::Call(request));
        }
        if let Ok(note) = serde_json::from_str::<Notification<'a>>(item) {
            return Ok(BatchEntry::Notification(note));
        }
        let id = serde_json::from_str::<InvalidRequest<'a>>(item).map_or(Id::Null, |broken| broken.id);
        Err(BatchEntryErr::new(id, ErrorCode::InvalidRequest.into()))
    }
}

/// An id as the library has it.
fn repeated(id: &Value) -> Id<'_> {
    match id {
        Value::Number(number) => number.as_u64().map_or(Id::Null, Id::Number),
        Value::String(text) => Id::Str(text.as_str().into()),
        _ => Id::Null,
    }
}

/// Calls by name, subscriptions among them: what the library does behind its own WebSockets.
#[derive(Clone)]
struct Dispatch {
    methods: Methods,
    connection: ConnectionId,
    subscriptions: BoundedSubscriptions,
    sink: MethodSink,
}

impl Dispatch {
    async fn run(self, request: Request<'_>) -> MethodResponse {
        let Request { id, method, params, extensions, .. } = request;
        let params = Params::new(params.as_deref().map(JsonRawValue::get));
        let found = self.methods.method_with_name(&method).map(|(_, found)| found.clone());
        match found {
            None => MethodResponse::error(id, ErrorObject::from(ErrorCode::MethodNotFound)),
            Some(MethodCallback::Sync(run)) => run(id, params, RESPONSE_BYTES_MAX, extensions),
            Some(MethodCallback::Async(run)) => {
                let (id, params) = (id.into_owned(), params.into_owned());
                run(id, params, self.connection, RESPONSE_BYTES_MAX, extensions).await
            }
            Some(MethodCallback::Subscription(run)) => {
                let Some(permit) = self.subscriptions.acquire() else {
                    return MethodResponse::error(
                        id,
                        reject_too_many_subscriptions(self.subscriptions.max()),
                    );
                };
                let state = SubscriptionState {
                    conn_id: self.connection,
                    id_provider: &RandomIntegerIdProvider,
                    subscription_permit: permit,
                };
                run(id, params, self.sink, state, extensions).await
            }
            Some(MethodCallback::Unsubscription(run)) => {
                run(id, params, self.connection, RESPONSE_BYTES_MAX, extensions)
            }
        }
    }
}

impl RpcServiceT for Dispatch {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.clone().run(request)
    }

    /// The gate takes batches apart before they come here.
    fn batch<'a>(&self, _: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let refusal = Fault::internal("a batch passed the gate whole");
        std::future::ready(refuse(Id::Null, &refusal))
    }

    fn notification<'a>(&self, _: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        std::future::ready(MethodResponse::notification())
    }
}
