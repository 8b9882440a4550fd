//! The accept loop of the HTTP port. jsonrpsee's own sets no time limits, so this one does: for the head
//! of each request here, for its body and its answer where they are read and made.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::connections::{Caller, ConnectionGuard, Connections};

/// Pause after a failed accept, for instance when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may go on after shutdown began.
const DRAIN: Duration = Duration::from_secs(3);
/// Bytes of a request's head: far more than any client of ours sends.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// What a caller beyond the limits reads.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
content-length: 71\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
too many connections; reuse one, or ask the operator for a higher limit";

/// How long a caller may say nothing.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// Before its first request.
    pub(crate) first_byte: Duration,
    /// Before the head of any request is whole.
    pub(crate) idle: Duration,
}

/// Accepts and serves until `shutdown`.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    patience: Patience,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ip = caller_ip(remote);
        let Some(guard) = connections.admit(ip) else {
            // A fresh socket's buffer is empty, so this either fits at once or the caller is gone.
            let _ = stream.try_write(FULL);
            continue;
        };
        let connection = Connection { router: router.clone(), ip, guard: Arc::new(guard) };
        tasks.spawn(connection.serve(stream, patience, shutdown.clone()));
    }
}

/// The caller's address, IPv4 also when it came over a dual-stack socket.
pub(crate) fn caller_ip(remote: SocketAddr) -> IpAddr {
    remote.ip().to_canonical()
}

struct Connection {
    router: Router,
    ip: IpAddr,
    guard: Arc<ConnectionGuard>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, patience: Patience, shutdown: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
        // hyper has one timer for waiting and for a head that comes slowly; who connects and says nothing is let go sooner.
        let mut first = [0];
        let spoke = tokio::select! {
            spoke = tokio::time::timeout(patience.first_byte, stream.peek(&mut first)) => matches!(spoke, Ok(Ok(1))),
            () = shutdown.cancelled() => false,
        };
        if !spoke {
            return;
        }
        let Self { router, ip, guard } = self;
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            let caller = Caller { ip, _connection: guard.clone() };
            request.extensions_mut().insert(caller);
            let router = router.clone();
            async move {
                Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
        });
        // HTTP/1 only: its first byte is already under the timer, while telling HTTP/2 apart would wait
        // for a preface without one.
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.idle)
            .max_buf_size(HEAD_BYTES_MAX);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(DRAIN, connection).await {
                    Ok(served) => served,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(error = %error, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_long_it_is() {
        let text = String::from_utf8(FULL.to_vec()).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
