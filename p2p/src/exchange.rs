//! Request and response over one stream each: `u32 big-endian length ‖ bytes`, both ways. Used for repair
//! between validators and for sync between everyone.

use std::collections::HashMap;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::{
    self, Codec, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel,
};

use crate::fault::RequestFault;
use crate::message::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};

/// Room in a response for the protobuf around its blocks, bytes.
const RESPONSE_HEADROOM_BYTES: usize = 64 * 1_024;
/// A buffer grows by what has arrived, from this size on.
const FIRST_BUFFER_BYTES: usize = 16 * 1_024;
/// Requests one connection may have open in each direction; 8 responses are 32 MiB.
const STREAMS_PER_CONNECTION_MAX: usize = 8;
/// Our requests under way, all peers.
const ASKED_MAX: usize = 256;
/// Requests that wait for the node's answer, all peers. More are refused, and asked elsewhere.
const ANSWERING_MAX: usize = 64;

/// How long the node may think about an answer; the asker has given up by then.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Carries opaque requests and responses within their limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BytesCodec;

async fn read_frame<T: AsyncRead + Unpin + Send>(io: &mut T, bytes_max: usize) -> io::Result<Bytes> {
    let mut prefix = [0; 4];
    io.read_exact(&mut prefix).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > bytes_max {
        let why = format!("{length} bytes announced; at most {bytes_max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let filled = bytes.len();
        bytes.resize((2 * filled).max(FIRST_BUFFER_BYTES).min(length), 0);
        let room = bytes.get_mut(filled..).unwrap_or_default();
        io.read_exact(room).await?;
    }
    Ok(bytes.into())
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.close().await
}

impl Codec for BytesCodec {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, REQUEST_BYTES_MAX).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, RESPONSE_BYTES_MAX + RESPONSE_HEADROOM_BYTES).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &response).await
    }
}

/// The behaviour under one protocol name.
pub(crate) fn behaviour(
    protocol: StreamProtocol,
    request_timeout: Duration,
) -> request_response::Behaviour<BytesCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(request_timeout)
        .with_max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    request_response::Behaviour::with_codec(BytesCodec, [(protocol, ProtocolSupport::Full)], config)
}

/// Why a request failed, for the asker.
pub(crate) fn fault(failure: &OutboundFailure) -> RequestFault {
    match failure {
        OutboundFailure::Timeout => RequestFault::Timeout,
        OutboundFailure::DialFailure => RequestFault::NotConnected,
        OutboundFailure::Io(io) if io.kind() == io::ErrorKind::InvalidData => RequestFault::Malformed,
        OutboundFailure::ConnectionClosed
        | OutboundFailure::UnsupportedProtocols
        | OutboundFailure::Io(_) => RequestFault::Refused,
    }
}

type Answer = (ResponseChannel<Bytes>, Option<Bytes>);

/// Requests under way in both directions.
pub(crate) struct Exchange<R> {
    asked: HashMap<OutboundRequestId, R>,
    answering: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl<R> Exchange<R> {
    pub(crate) fn new() -> Self {
        Self { asked: HashMap::new(), answering: FuturesUnordered::new() }
    }

    /// Whether a request of this length may be sent now.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), RequestFault> {
        match bytes {
            _ if bytes > REQUEST_BYTES_MAX => Err(RequestFault::TooLong(bytes)),
            _ if self.asked.len() >= ASKED_MAX => Err(RequestFault::Busy),
            _ => Ok(()),
        }
    }

    /// Remembers who waits for an answer.
    pub(crate) fn asked(&mut self, id: OutboundRequestId, reply: R) {
        self.asked.insert(id, reply);
    }

    /// Who waits for this answer.
    pub(crate) fn take(&mut self, id: OutboundRequestId) -> Option<R> {
        self.asked.remove(&id)
    }

    /// Whether another request can be given to the node.
    pub(crate) fn has_room(&self) -> bool {
        self.answering.len() < ANSWERING_MAX
    }

    /// Waits for the node's answer.
    pub(crate) fn answer<F>(&mut self, channel: ResponseChannel<Bytes>, answer: F)
    where
        F: Future<Output = Option<Bytes>> + Send + 'static,
    {
        let waiting = async move {
            let answer = tokio::time::timeout(ANSWER_TIME_MAX, answer).await.ok().flatten();
            let bytes = answer.filter(|bytes| bytes.len() <= RESPONSE_BYTES_MAX + RESPONSE_HEADROOM_BYTES);
            (channel, bytes)
        };
        self.answering.push(Box::pin(waiting));
    }

    /// The next answer of the node. Never ready while none is awaited.
    pub(crate) async fn next_answer(&mut self) -> Answer {
        futures::future::poll_fn(|cx: &mut Context<'_>| match self.answering.poll_next_unpin(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
