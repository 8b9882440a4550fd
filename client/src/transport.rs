//! Calls to one or several nodes, tried again with growing pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use cairn_crypto::KeyPair;
use cairn_receipt::{ReceiptVerifier, Trusted};
use cairn_types::Genesis;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::clock::system_ms;
use crate::fault::{ClientFault, RpcError};
use crate::sender::Sender;

/// Longest a single call may take: the longest wait for finality a node grants, and a margin.
const CALL_PATIENCE: Duration = Duration::from_secs(40);
/// Longest to wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest a webhook may take.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer read: what a node limits itself to.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Characters of an answer that is no JSON which an error repeats.
const ECHO_CHARS_MAX: usize = 200;
/// First pause between tries.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between tries, also when a node asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Tries of one call, at most: some 12 seconds of pauses.
const TRIES_MAX: usize = 7;

/// What the caller trusts.
pub(crate) struct Trust {
    pub(crate) genesis: Genesis,
    pub(crate) verifier: ReceiptVerifier,
}

/// A client of one or several nodes of one chain. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    nodes: Arc<[String]>,
    /// The node that answered last.
    preferred: Arc<AtomicUsize>,
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) sender: Option<Arc<Sender>>,
    pub(crate) now_ms: fn() -> u64,
    tries_max: usize,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the node at `url`, or of several, separated by commas or spaces; a call that one does not
    /// answer goes to the next. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no address, or one is not `http://host:port`.
    pub fn connect(urls: &str) -> Result<Self, ClientFault> {
        let nodes = urls
            .split([',', ' '])
            .map(|url| url.trim().trim_end_matches('/'))
            .filter(|url| !url.is_empty())
            .map(|url| check_url(url).map(|()| url.to_owned()))
            .collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(ClientFault::NoNodes);
        }
        let http = reqwest::Client::builder()
            .timeout(CALL_PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| ClientFault::BadUrl { url: urls.to_owned(), why: plain(&error) })?;
        Ok(Self {
            http,
            nodes: nodes.into(),
            preferred: Arc::default(),
            trust: None,
            sender: None,
            now_ms: system_ms,
            tries_max: TRIES_MAX,
        })
    }

    /// Verifies what nodes answer against this genesis, which the caller has from somewhere it trusts.
    ///
    /// # Errors
    /// When its validators make no set.
    pub fn with_genesis(mut self, genesis: Genesis) -> Result<Self, ClientFault> {
        let trusted =
            Trusted::genesis(&genesis).map_err(|fault| ClientFault::BadGenesis { why: fault.to_string() })?;
        self.trust = Some(Arc::new(Trust { genesis, verifier: ReceiptVerifier::new(trusted) }));
        Ok(self)
    }

    /// Signs as the identity that was never registered and whose address is the hash of this key.
    #[must_use]
    pub fn with_key(self, key: KeyPair) -> Self {
        self.with_sender(Sender::inline(key))
    }

    /// Signs as this sender.
    #[must_use]
    pub fn with_sender(mut self, sender: Sender) -> Self {
        self.sender = Some(Arc::new(sender));
        self
    }

    /// Takes the time from `now_ms` (Unix milliseconds) in place of the system's clock.
    #[must_use]
    pub fn with_clock(mut self, now_ms: fn() -> u64) -> Self {
        self.now_ms = now_ms;
        self
    }

    /// Tries each call at most so often, at least once.
    #[must_use]
    pub fn with_tries(mut self, tries_max: usize) -> Self {
        self.tries_max = tries_max.max(1);
        self
    }

    /// The nodes' addresses.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Calls any method. What may help is tried again, with growing pauses, on the other nodes too.
    ///
    /// # Errors
    /// The last try's fault.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, ClientFault> {
        self.call_somewhere(method, &params).await.map(|(_, value)| value)
    }

    /// The same, with the address of the node that answered.
    pub(crate) async fn call_somewhere(
        &self,
        method: &str,
        params: &Value,
    ) -> Result<(String, Value), ClientFault> {
        let mut tries = self.tries();
        loop {
            let (url, outcome) = self.call_once(method, params).await;
            match outcome {
                Err(fault) if fault.is_retryable() => tries.pause(fault).await?,
                outcome => return outcome.map(|value| (url, value)),
            }
        }
    }

    /// One try, on the preferred node; a fault that another node may not have makes the next one preferred.
    /// Gives the node's address too.
    pub(crate) async fn call_once(
        &self,
        method: &str,
        params: &Value,
    ) -> (String, Result<Value, ClientFault>) {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let url = self.nodes.get(preferred % self.nodes.len().max(1)).cloned().unwrap_or_default();
        let outcome = self.post(&url, method, params).await;
        if outcome.as_ref().is_err_and(ClientFault::is_retryable) {
            self.prefer_next(preferred);
        }
        (url, outcome)
    }

    /// The same from the next node on.
    pub(crate) fn leave(&self, url: &str) {
        let preferred = self.preferred.load(Ordering::Relaxed);
        if self.nodes.get(preferred % self.nodes.len().max(1)).is_some_and(|node| node == url) {
            self.prefer_next(preferred);
        }
    }

    fn prefer_next(&self, from: usize) {
        let next = from.wrapping_add(1) % self.nodes.len().max(1);
        // Another call may have moved on already; then its choice stands.
        let _ = self.preferred.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn tries(&self) -> Tries {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_max_times(self.tries_max.saturating_sub(1))
            .with_jitter()
            .build();
        Tries { pauses }
    }

    async fn post(&self, url: &str, method: &str, params: &Value) -> Result<Value, ClientFault> {
        let unreachable =
            |error: reqwest::Error| ClientFault::Unreachable { url: url.into(), why: plain(&error) };
        let bad = |why: String| ClientFault::BadAnswer { url: url.into(), method: method.into(), why };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut response = self.http.post(url).json(&body).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                return Err(bad(format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let Ok(Value::Object(mut answer)) = serde_json::from_slice(&bytes) else {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(ECHO_CHARS_MAX).collect();
            return Err(if status == StatusCode::OK || status.is_client_error() {
                bad(format!("HTTP {status} without a JSON-RPC object: {}", text.trim()))
            } else {
                ClientFault::Unreachable { url: url.into(), why: format!("HTTP {status}: {}", text.trim()) }
            });
        };
        if let Some(error) = answer.remove("error").filter(|error| !error.is_null()) {
            return Err(ClientFault::Rpc(Box::new(rpc_error(url, error))));
        }
        answer.remove("result").ok_or_else(|| bad("neither `result` nor `error`".into()))
    }
}

/// Posts a JSON object to any plain-HTTP address: a webhook. One try.
///
/// # Errors
/// When the address is none, or does not answer with success.
pub async fn notify(url: &str, body: &Value) -> Result<(), ClientFault> {
    check_url(url)?;
    let unreachable = |why: String| ClientFault::Unreachable { url: url.to_owned(), why };
    let http = reqwest::Client::builder().timeout(NOTIFY_PATIENCE).no_proxy().build();
    let http = http.map_err(|error| unreachable(plain(&error)))?;
    let response = http.post(url).json(body).send().await.map_err(|error| unreachable(plain(&error)))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(unreachable(format!("HTTP {status}"))),
    }
}

/// The pauses that are left for a call.
pub(crate) struct Tries {
    pauses: backon::ExponentialBackoff,
}

impl Tries {
    /// Waits before the next try; gives `fault` back when there is none left.
    pub(crate) async fn pause(&mut self, fault: ClientFault) -> Result<(), ClientFault> {
        let Some(pause) = self.pauses.next() else { return Err(fault) };
        let asked = fault.rpc().and_then(|error| error.retry_after_ms).map(Duration::from_millis);
        let pause = pause.max(asked.unwrap_or_default()).min(PAUSE_MAX);
        tracing::debug!(%fault, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// An error in an answer of this node.
pub(crate) fn rpc_error(url: &str, mut error: Value) -> RpcError {
    let data = error.get_mut("data").map(Value::take).unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    RpcError {
        url: url.to_owned(),
        code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
        message: text(error.get("message")),
        kind: text(data.get("kind")),
        hint: text(data.get("hint")),
        retryable: data.get("retryable").and_then(Value::as_bool).unwrap_or(false),
        retry_after_ms: data.get("retry_after_ms").and_then(Value::as_u64),
        data,
    }
}

fn check_url(url: &str) -> Result<(), ClientFault> {
    let bad = |why: &str| ClientFault::BadUrl { url: url.to_owned(), why: why.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|error| bad(&error.to_string()))?;
    match parsed.scheme() {
        "http" if parsed.has_host() => Ok(()),
        "https" => Err(bad("this client speaks plain HTTP, to a node or a proxy on a network you trust")),
        _ => Err(bad("it does not start with http://")),
    }
}

/// An HTTP error with its causes, which reqwest's own text leaves out.
/// The innermost cause: the layers above it only say that a request failed.
fn plain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        let client = Client::connect("http://127.0.0.1:1/, http://127.0.0.1:2").unwrap();
        assert_eq!(client.nodes(), ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert!(matches!(Client::connect(" , "), Err(ClientFault::NoNodes)));
        for (url, why) in
            [("127.0.0.1:26657", "http://"), ("https://node", "plain HTTP"), ("http://", "empty host")]
        {
            let fault = Client::connect(url).unwrap_err().to_string();
            assert!(fault.contains(why), "{fault}");
        }
    }
}
