//! A node's JSON-RPC and health endpoints, for what a network's owner asks: status, readiness, and calls
//! that are wrong on purpose. The typed client is `cairn-client`.

use std::fmt;
use std::time::Duration;

use cairn_types::ChainId;
use serde_json::{Value, json};

/// Longest a call may take: the longest wait for finality a node accepts, and a margin.
const CALL_PATIENCE: Duration = Duration::from_secs(40);
/// Longest a stream of events stays open.
const STREAM_PATIENCE: Duration = Duration::from_secs(3_600);
/// Where a node streams its final blocks as server-sent events.
pub(crate) const BLOCK_EVENTS: &str = "/v1/events?stream=blocks";
/// Longest a readiness probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// One node's address and a pool of connections to it.
#[derive(Clone, Debug)]
pub struct NodeApi {
    url: String,
    /// The same, read once; `None` when it is no address, which the first call says.
    parsed: Option<reqwest::Url>,
    http: reqwest::Client,
}

/// Why a call has no result.
#[derive(Clone, PartialEq, Debug)]
pub enum CallFault {
    /// The node answered with a JSON-RPC error.
    Refused {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
        /// `data.kind`, empty when there is none.
        kind: String,
        /// All of `data`.
        data: Value,
    },
    /// No JSON-RPC answer came.
    Unreachable(String),
}

impl CallFault {
    /// A short name for counting: the node's kind, or `unreachable`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Refused { kind, .. } if !kind.is_empty() => kind,
            Self::Refused { .. } => "unnamed",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// The JSON-RPC error code, when the node answered.
    pub const fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable(_) => None,
        }
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message, kind, .. } => write!(f, "{message} ({kind}, {code})"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CallFault {}

impl NodeApi {
    /// The node at `url`, for instance `http://127.0.0.1:27002`.
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(CALL_PATIENCE).no_proxy().tcp_nodelay(true).build();
        let url = url.trim_end_matches('/').to_owned();
        Self { parsed: reqwest::Url::parse(&url).ok(), url, http: http.unwrap_or_default() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the node says it is ready.
    ///
    /// # Errors
    /// What it says it lacks, or that it does not answer.
    pub async fn ready(&self) -> Result<(), String> {
        let asked = self.http.get(format!("{}/readyz", self.url)).timeout(PROBE_PATIENCE).send().await;
        let answer = asked.map_err(|error| plain(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        Err(format!("GET /readyz answered {status}: {}", body.trim()))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What the node answered, or that it did not.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CallFault> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.post(body.to_string().into_bytes()).await
    }

    /// The chain the node is on.
    ///
    /// # Errors
    /// When it does not answer, or names none.
    pub async fn chain(&self) -> Result<ChainId, CallFault> {
        let status = self.call("chain_status", json!({})).await?;
        let named = status["chain"].as_str().and_then(ChainId::from_hex);
        named.ok_or_else(|| CallFault::Unreachable(format!("chain_status names no chain: {status}")))
    }

    /// Posts bytes as a JSON-RPC request, whatever they are.
    ///
    /// # Errors
    /// What the node answered, or that it did not.
    pub async fn post(&self, body: Vec<u8>) -> Result<Value, CallFault> {
        let unreachable = |error: reqwest::Error| CallFault::Unreachable(plain(&error));
        let request = match &self.parsed {
            Some(url) => self.http.post(url.clone()),
            None => self.http.post(&self.url),
        };
        let request = request.header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        let mut answer: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let text = String::from_utf8_lossy(&bytes);
            CallFault::Unreachable(format!("HTTP {status} without JSON: {}", text.trim()))
        })?;
        match answer.get_mut("error").map(Value::take) {
            Some(error) if !error.is_null() => Err(refused(&error)),
            _ => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        }
    }

    /// Reads a path by GET.
    ///
    /// # Errors
    /// When no successful answer came.
    pub async fn get(&self, path: &str) -> Result<String, CallFault> {
        let unreachable = |error: reqwest::Error| CallFault::Unreachable(plain(&error));
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.map_err(unreachable)?;
        let answer = answer.error_for_status().map_err(unreachable)?;
        answer.text().await.map_err(unreachable)
    }

    /// Opens the stream of final blocks, after `cursor` when there is one.
    ///
    /// # Errors
    /// When the node does not open it.
    pub(crate) async fn events(&self, cursor: Option<&str>) -> Result<reqwest::Response, CallFault> {
        let unreachable = |error: reqwest::Error| CallFault::Unreachable(plain(&error));
        // Longer than any load run: the stream has no end of its own.
        let mut request = self.http.get(format!("{}{BLOCK_EVENTS}", self.url)).timeout(STREAM_PATIENCE);
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        request.send().await.and_then(reqwest::Response::error_for_status).map_err(unreachable)
    }
}

fn refused(error: &Value) -> CallFault {
    CallFault::Refused {
        code: error["code"].as_i64().unwrap_or_default(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
        kind: error["data"]["kind"].as_str().unwrap_or_default().to_owned(),
        data: error["data"].clone(),
    }
}

/// The last cause says what happened ("connection refused"); the first only repeats the address.
fn plain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
