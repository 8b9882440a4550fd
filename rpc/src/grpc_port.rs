//! The gRPC port: the service with health and reflection, and the same connection limits as the HTTP port.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::accept::caller_ip;
use crate::config::{BODY_BYTES_MAX, RESPONSE_BYTES_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX, ServeError};
use crate::connections::{ConnectionGuard, Connections};
use crate::context::Context;
use crate::grpc::Service;
use crate::proto::cairn_server::CairnServer;

/// Calls that one connection may have open: its subscriptions, and as many plain calls as a busy client
/// multiplexes.
const CALLS_PER_CONNECTION_MAX: u32 = SUBSCRIPTIONS_PER_CONNECTION_MAX + 248;
/// How often an idle connection is asked whether it still lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// A submission is the largest request; the envelope adds a few bytes.
const REQUEST_BYTES_MAX: usize = BODY_BYTES_MAX;

const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cairn.bin"));

/// Serves until the context's shutdown.
///
/// # Errors
/// When the embedded description does not decode.
pub(crate) async fn serve_grpc(
    listener: TcpListener,
    context: Arc<Context>,
    connections: Arc<Connections>,
    tasks: &TaskTracker,
) -> Result<(), ServeError> {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let wrong = |error: tonic_reflection::server::Error| ServeError::Descriptor(error.to_string());
    let reflection = described().build_v1().map_err(wrong)?;
    // Many tools still ask in the older form only.
    let reflection_alpha = described().build_v1alpha().map_err(wrong)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<CairnServer<Service>>().await;
    let cairn = CairnServer::new(Service { context: context.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let shutdown = context.shutdown.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .add_service(health)
        .add_service(cairn)
        .serve_with_incoming_shutdown(Incoming { listener, connections }, async move {
            shutdown.cancelled().await;
        });
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the gRPC port stopped");
        }
    });
    Ok(())
}

/// Who sent a request. Clones keep the connection counted.
#[derive(Clone, Debug)]
pub(crate) struct GrpcCaller {
    pub(crate) ip: IpAddr,
    _connection: Arc<ConnectionGuard>,
}

/// Accepted connections within the limits. Those beyond them are closed at once.
struct Incoming {
    listener: TcpListener,
    connections: Arc<Connections>,
}

impl Stream for Incoming {
    type Item = io::Result<Counted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (stream, remote) = match self.listener.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok(accepted)) => accepted,
            };
            let ip = caller_ip(remote);
            let Some(guard) = self.connections.admit(ip) else { continue };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let caller = GrpcCaller { ip, _connection: Arc::new(guard) };
            return Poll::Ready(Some(Ok(Counted { stream, caller })));
        }
    }
}

/// A connection that is counted while it lives.
struct Counted {
    stream: TcpStream,
    caller: GrpcCaller,
}

impl Connected for Counted {
    type ConnectInfo = GrpcCaller;

    fn connect_info(&self) -> GrpcCaller {
        self.caller.clone()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
