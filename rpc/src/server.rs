//! Starting the ports.

use std::net::SocketAddr;
use std::sync::Arc;

use jsonrpsee::server::stop_channel;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Patience, accept};
use crate::backend::Backend;
use crate::bind::bind;
use crate::config::{RpcConfig, ServeError};
use crate::connections::Connections;
use crate::context::Context;
use crate::grpc_port::serve_grpc;
use crate::guard::BrowserPolicy;
use crate::http::Shared;
use crate::metrics::{RpcMetrics, serve_metrics};
use crate::module::module;

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
    let address = http.local_addr().unwrap_or(config.listen);
    let grpc = match config.grpc_listen {
        Some(address) => Some(bind(address, "rpc.grpc_listen").await?),
        None => None,
    };
    let grpc_address = grpc.as_ref().and_then(|listener| listener.local_addr().ok());
    let metrics_address = match config.metrics_listen {
        Some(address) => Some(serve_metrics(address, registry, shutdown.clone()).await?),
        None => None,
    };

    let tasks = TaskTracker::new();
    let http_connections = Connections::new("http", &config, metrics.clone());
    let grpc_connections = Connections::new("grpc", &config, metrics.clone());
    let policy = BrowserPolicy::new(&config, address);
    let patience = Patience { first_byte: config.first_byte_timeout, idle: config.idle_timeout };
    let context = Arc::new(Context::new(config, backend, metrics, shutdown.clone()));
    if let Some(listener) = grpc {
        serve_grpc(listener, context.clone(), grpc_connections, &tasks).await?;
    }
    let (stop, handle) = stop_channel();
    let methods = module(context.clone())?.into();
    let router = Shared::new(context, policy, methods, stop, tasks.clone()).router();
    tasks.spawn(accept(http, router, http_connections, patience, shutdown.clone(), tasks.clone()));
    tasks.spawn(async move {
        shutdown.cancelled().await;
        // An error says that every WebSocket is closed already.
        let _ = handle.stop();
    });
    Ok(Bound { http: address, grpc: grpc_address, metrics: metrics_address, tasks })
}
