//! Figures about the interfaces, and the port that Prometheus reads all of a node's figures from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::bind::bind;
use crate::config::ServeError;

/// Upper bounds of the latency buckets, seconds: from a cached read to the longest wait for finality.
const LATENCY_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 35.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: &'static str,
}

/// Counters of the interfaces. Labels come from fixed tables, so their number is bounded.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    requests: Family<CallLabels, Counter>,
    duration: Family<MethodLabel, Histogram>,
    connections: Family<PortLabel, Gauge>,
    refused: Family<PortLabel, Counter>,
    subscriptions: Gauge,
    lagged: Counter,
    secrets_refused: Counter,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            connections: Family::default(),
            refused: Family::default(),
            subscriptions: Gauge::default(),
            lagged: Counter::default(),
            secrets_refused: Counter::default(),
        }
    }
}

impl RpcMetrics {
    /// Makes the counters and adds them to `registry` under `cairn_rpc_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let into = registry.sub_registry_with_prefix("cairn_rpc");
        into.register("requests", "Calls answered, by method and outcome", metrics.requests.clone());
        into.register("duration_seconds", "Time to answer a call", metrics.duration.clone());
        into.register("connections", "Open connections, by port", metrics.connections.clone());
        into.register(
            "connections_refused",
            "Connections refused for a limit, by port",
            metrics.refused.clone(),
        );
        into.register("subscriptions", "Open subscriptions and streams", metrics.subscriptions.clone());
        into.register(
            "subscribers_lagged",
            "Subscribers dropped for reading too slowly",
            metrics.lagged.clone(),
        );
        into.register(
            "secrets_refused",
            "Requests refused because they seemed to carry a secret key",
            metrics.secrets_refused.clone(),
        );
        metrics
    }

    pub(crate) fn called(&self, method: &'static str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&CallLabels { method, outcome }).inc();
        self.duration.get_or_create(&MethodLabel { method }).observe(took.as_secs_f64());
    }

    pub(crate) fn connection_opened(&self, port: &'static str) {
        self.connections.get_or_create(&PortLabel { port }).inc();
    }

    pub(crate) fn connection_closed(&self, port: &'static str) {
        self.connections.get_or_create(&PortLabel { port }).dec();
    }

    pub(crate) fn connection_refused(&self, port: &'static str) {
        self.refused.get_or_create(&PortLabel { port }).inc();
    }

    pub(crate) fn secret_refused(&self) {
        self.secrets_refused.inc();
    }

    pub(crate) fn subscriber_lagged(&self) {
        self.lagged.inc();
    }

    /// Counts a subscription until the guard is dropped.
    pub(crate) fn subscribed(&self) -> SubscriptionGuard {
        self.subscriptions.inc();
        SubscriptionGuard(self.subscriptions.clone())
    }
}

/// Counts one open subscription while it lives.
#[derive(Debug)]
pub(crate) struct SubscriptionGuard(Gauge);

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves `registry` in the OpenMetrics text format at `GET /metrics` until `shutdown`; gives the address bound.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_metrics(
    address: SocketAddr,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> Result<SocketAddr, ServeError> {
    let listener = bind(address, "rpc.metrics_listen").await?;
    let bound = listener.local_addr().unwrap_or(address);
    let app = Router::new().route("/metrics", get(scrape)).with_state(registry);
    tokio::spawn(async move {
        let stopped = async move { shutdown.cancelled().await };
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the metrics port stopped");
        }
    });
    Ok(bound)
}

async fn scrape(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            "the metrics could not be written as text\n".to_owned(),
        ),
    }
}
