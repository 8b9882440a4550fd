//! What the operator decides about the interfaces, validated once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

/// Largest request body, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest answer, bytes.
pub const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// Calls in one batch. Each is charged to the caller's allowance.
pub const BATCH_ITEMS_MAX: usize = 20;
/// Subscriptions on one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: u32 = 8;
/// Calls being answered at one moment over all connections: bounds memory when thousands wait for finality.
pub const CALLS_IN_FLIGHT_MAX: usize = 8_192;
/// Longest wait for finality that a caller may ask for, ms.
pub const WAIT_MS_MAX: u64 = 30_000;
/// Wait for finality when the caller names none, ms.
pub const WAIT_MS_DEFAULT: u64 = 10_000;
/// Items of one page.
pub const PAGE_ITEMS_MAX: usize = 100;

/// Where the interfaces listen and whom they serve. Fields are named after the keys of `config.toml`
/// under `[rpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// JSON-RPC, health and the web page.
    pub listen: SocketAddr,
    /// gRPC; `None` turns it off.
    pub grpc_listen: Option<SocketAddr>,
    /// Prometheus; `None` turns it off.
    pub metrics_listen: Option<SocketAddr>,
    /// Connections at one moment, per port.
    pub connections_max: usize,
    /// Connections of one IP address at one moment, per port.
    pub connections_per_ip_max: usize,
    /// The same for loopback addresses: local tools open many.
    pub connections_per_loopback_ip_max: usize,
    /// Calls per second and IP address; each item of a batch is one.
    pub calls_per_second: u32,
    /// Calls an address may save up; at least [`BATCH_ITEMS_MAX`].
    pub calls_burst: u32,
    /// Whether loopback callers are not counted.
    pub loopback_unlimited: bool,
    /// Web origins that may POST and open WebSockets beside the node's own page, for instance
    /// `https://app.example`. GET is open to all origins.
    pub allowed_origins: Vec<String>,
    /// `Host` names that are served beside loopback names and the listen address, while listening on loopback.
    pub allowed_hosts: Vec<String>,
    /// How long a subscriber may take to receive one event before it is told where to resume and dropped.
    pub slow_consumer_after: Duration,
    /// Time within which a new connection begins its first request.
    pub first_byte_timeout: Duration,
    /// Time from an answer, or from the first byte, to the end of the next request's head. Longer than clients usually keep
    /// connections: whoever closes first while the other sends makes a request fail for nothing.
    pub idle_timeout: Duration,
    /// Time to receive a whole request.
    pub request_timeout: Duration,
    /// Time to answer, on top of the time the call itself asks for.
    pub answer_timeout: Duration,
}

impl Default for RpcConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: local(26_657),
            grpc_listen: Some(local(26_658)),
            metrics_listen: Some(local(26_660)),
            connections_max: 512,
            connections_per_ip_max: 16,
            connections_per_loopback_ip_max: 512,
            calls_per_second: 1_000,
            calls_burst: 2_000,
            loopback_unlimited: true,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            slow_consumer_after: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(100),
            request_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
        }
    }
}

/// Why the interfaces do not start.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ServeError {
    #[error("cannot listen on {address} (config key {key}): {why}")]
    Bind { address: SocketAddr, key: &'static str, why: String },
    #[error("config key {key}: {why}")]
    Config { key: &'static str, why: String },
    #[error("the gRPC description is broken: {0}")]
    Descriptor(String),
}

impl RpcConfig {
    /// Checks the relations between the values.
    ///
    /// # Errors
    /// The first value that makes no sense, with its key.
    pub fn check(&self) -> Result<(), ServeError> {
        let positive = [
            ("rpc.connections_max", self.connections_max),
            ("rpc.connections_per_ip_max", self.connections_per_ip_max),
            ("rpc.connections_per_loopback_ip_max", self.connections_per_loopback_ip_max),
            ("rpc.calls_per_second", self.calls_per_second as usize),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ServeError::Config { key, why: "0 would serve nobody; expected at least 1".into() });
        }
        if (self.calls_burst as usize) < BATCH_ITEMS_MAX {
            let why = format!(
                "{} is less than one full batch; expected at least {BATCH_ITEMS_MAX}",
                self.calls_burst
            );
            return Err(ServeError::Config { key: "rpc.calls_burst", why });
        }
        if let Some(origin) = self.allowed_origins.iter().find(|origin| !origin.contains("://")) {
            let why = format!("`{origin}` is no origin; expected for instance https://app.example");
            return Err(ServeError::Config { key: "rpc.allowed_origins", why });
        }
        Ok(())
    }
}
