//! JSON-RPC over a WebSocket. Each message passes the same door as the body of a POST, so that what is no
//! JSON-RPC gets the same answer on both; calls and subscriptions then go to the same methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use jsonrpsee::ConnectionId;
use jsonrpsee::core::JsonRawValue;
use jsonrpsee::server::{BoundedSubscriptions, MethodResponse, MethodSink, Methods, StopHandle};
use jsonrpsee::types::Id;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{BODY_BYTES_MAX, RESPONSE_BYTES_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::connections::Caller;
use crate::context::Context;
use crate::fault::Fault;
use crate::gate::{Gate, Session, refuse};

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
        let session = Session {
            // Subscriptions are told apart by connection, so no number is given twice.
            connection: ConnectionId(self.opened.fetch_add(1, Ordering::Relaxed)),
            subscriptions: BoundedSubscriptions::new(SUBSCRIPTIONS_PER_CONNECTION_MAX),
            sink: sink.clone(),
        };
        let (context, methods) = (Arc::clone(&self.context), self.methods.clone());
        let gate = Gate { context, methods, caller, session: Some(session) };
        let mut calls = JoinSet::new();
        let stopped = self.read(from_peer, (&gate, &sink), &mut calls).await;
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
        (gate, sink): (&Gate, &MethodSink),
        calls: &mut JoinSet<()>,
    ) -> bool {
        let stop = self.stop.clone().shutdown();
        tokio::pin!(stop);
        loop {
            let message = tokio::select! {
                message = timeout(SILENCE_MAX, from_peer.next()) => message,
                () = sink.closed() => return false,
                () = &mut stop => return true,
            };
            while calls.try_join_next().is_some() {}
            match message {
                Ok(Some(Ok(Message::Text(text)))) => {
                    answer_later(gate, sink, text.as_bytes().to_vec(), calls)
                }
                Ok(Some(Ok(Message::Binary(bytes)))) => answer_later(gate, sink, bytes.to_vec(), calls),
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

/// Answers a message once its answer is there.
fn answer_later(gate: &Gate, sink: &MethodSink, message: Vec<u8>, calls: &mut JoinSet<()>) {
    let (gate, sink) = (gate.clone(), sink.clone());
    calls.spawn(async move {
        if let Some(response) = answer(&gate, message).await {
            let is_success = response.is_success();
            let (json, done, _) = response.into_parts();
            if sink.send(json).await.is_ok()
                && let Some(done) = done
            {
                done.notify(is_success);
            }
        }
    });
}

async fn answer(gate: &Gate, message: Vec<u8>) -> Option<MethodResponse> {
    if message.len() > BODY_BYTES_MAX {
        let reason = format!("a message of {} bytes; at most {BODY_BYTES_MAX} are taken", message.len());
        return Some(refuse(Id::Null, &Fault::InvalidRequest { reason }));
    }
    gate.answer(message).await
}
