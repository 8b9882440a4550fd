//! What can go wrong with a call, as one enum, and how each case looks on the wire.
//!
//! The numbers are those of the interface description; they stay out of the range that JSON-RPC
//! libraries use for themselves.

use cairn_types::{Address, ChainId, Height, ProofId, TxId};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::config::SUBSCRIPTIONS_PER_CONNECTION_MAX;

/// Why a call has no result. The message says what was wrong and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Fault {
    /// The node is starting, catching up or shutting down.
    #[error("this node is not ready: {reason}")]
    NotReady { reason: String, retry_after_ms: u64 },
    /// No room for another transaction.
    #[error("the pool of pending transactions is full: {reason}")]
    MempoolFull { reason: String, retry_after_ms: u64 },
    /// The caller used up its allowance.
    #[error("too many calls from this address; try again in {retry_after_ms} ms")]
    RateLimited { retry_after_ms: u64 },
    /// The call is not open to this caller.
    #[error("not allowed: {reason}")]
    Unauthorized { reason: String },
    /// Accepted, but not final within the time the caller gave.
    #[error("the transaction was accepted but is not final after {waited_ms} ms; it may still become final")]
    TimeoutNotFinal { tx_id: TxId, proof_ids: Vec<ProofId>, waited_ms: u64 },
    /// A signature does not verify.
    #[error("invalid signature: {reason}")]
    InvalidSignature { reason: String },
    /// `expires_ms` is not after the latest block's time.
    #[error("the transaction expired at {expires_ms} ms; the chain's time is {now_ms} ms")]
    AlreadyExpired { expires_ms: u64, now_ms: u64 },
    /// The sender is not registered, or not admitted.
    #[error("unknown identity {address}: {reason}")]
    UnknownIdentity { address: Address, reason: String },
    /// A key that was retired, or never existed.
    #[error("key {index} of {address} may not sign: {reason}")]
    KeyRevoked { address: Address, index: u16, reason: String },
    /// Fewer (or more) keys signed than the sender's policy requires.
    #[error("{have} keys signed; the sender's policy requires exactly {need}")]
    ThresholdNotMet { have: usize, need: usize },
    /// Signed for another chain.
    #[error("the transaction is for chain {got}; this chain is {expected}")]
    WrongChain { got: ChainId, expected: ChainId },
    /// `expires_ms` is further ahead than the replay window.
    #[error("expires_ms {expires_ms} is too late; at most {latest_ms} is accepted now")]
    ExpiresTooLate { expires_ms: u64, latest_ms: u64 },
    /// Contradicts what the chain or the pool already holds.
    #[error("conflict: {reason}")]
    Conflict { reason: String },
    /// `on_behalf_of` without a delegation in force.
    #[error("{reason}")]
    DelegationMissing { sender: Address, principal: Address, reason: String },
    /// Nothing of that name.
    #[error("{what} not found")]
    NotFound { what: String },
    /// It existed, but this node no longer keeps it.
    #[error("{what} is no longer kept here; the earliest block of this node is {earliest}")]
    Pruned { what: String, earliest: Height },
    /// Beyond the last final block.
    #[error("block {asked} is not final yet; the latest final block is {latest}")]
    FutureHeight { asked: Height, latest: Height },
    /// What was sent as a signature has the length of a secret key.
    #[error(
        "this looks like a private key, not a signature: rotate it. \
         It was wiped here and not logged, but it has crossed the network"
    )]
    SecretMaterial,
    /// A parameter is missing, unknown or malformed.
    #[error("{reason}")]
    InvalidParams { reason: String, hint: Option<String> },
    /// The body is not JSON.
    #[error("the request body is not JSON: {reason}")]
    ParseError { reason: String },
    /// JSON, but no JSON-RPC 2.0 request.
    #[error("{reason}")]
    InvalidRequest { reason: String },
    /// A subscription over a transport that carries none.
    #[error("`{name}` needs a WebSocket; a POST has one answer and then ends")]
    NeedsWebSocket { name: String },
    /// One subscription more than a connection may hold.
    #[error("this connection has {SUBSCRIPTIONS_PER_CONNECTION_MAX} subscriptions already, the most allowed")]
    TooManySubscriptions,
    /// No method of that name.
    #[error("there is no method `{name}`")]
    UnknownMethod { name: String, hint: Option<String> },
    /// The node did not answer within the call's own time and five seconds.
    #[error("the call was given up after {waited_ms} ms")]
    CallTimeout { waited_ms: u64 },
    /// Our own fault. The reason is logged, not told.
    #[error("internal error; the node's log says more under this call's time")]
    Internal { reason: String },
}

const NEEDS_WEBSOCKET_HINT: &str =
    "open ws://<this address>/websocket; without WebSocket, GET /v1/events gives the same events";

/// One entry of the error catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultKind {
    /// The JSON-RPC error code.
    pub code: i32,
    /// The name in `data.kind`.
    pub kind: &'static str,
    /// Whether the same call may succeed later without being changed.
    pub retryable: bool,
    /// What the caller should do.
    pub hint: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $code:literal, $kind:literal, $retry:literal, $hint:literal;)*) => {
        $(
            #[doc = concat!("`", $kind, "`, code ", stringify!($code), ".")]
            pub const $name: FaultKind = FaultKind { code: $code, kind: $kind, retryable: $retry, hint: $hint };
        )*
        /// Every kind, in the order of the documentation.
        pub const FAULT_KINDS: &[FaultKind] = &[$($name),*];
    };
}

catalogue! {
    NOT_READY = -32020, "not_ready", true, "ask again later, or another node; GET /readyz lists what is missing";
    MEMPOOL_FULL = -32021, "mempool_full", true, "submit again later with growing pauses";
    RATE_LIMITED = -32022, "rate_limited", true, "wait retry_after_ms; every item of a batch is charged";
    UNAUTHORIZED = -32023, "unauthorized", false, "administration is only on the node's own socket";
    TIMEOUT_NOT_FINAL = -32024, "timeout_not_final", true, "ask tx_get or proof_get with the ids in data; submitting again is harmless";
    INVALID_SIGNATURE = -32030, "invalid_signature", false, "sign the canonical bytes of the transaction under the tag cairn-tx and this chain's id";
    ALREADY_EXPIRED = -32031, "already_expired", false, "sign again with a later expires_ms, and check the clock";
    UNKNOWN_IDENTITY = -32032, "unknown_identity", false, "register the identity first, or sign with the inline key that the sender address hashes from";
    KEY_REVOKED = -32033, "key_revoked", false, "sign with a key that identity_get lists as active";
    THRESHOLD_NOT_MET = -32034, "threshold_not_met", false, "let exactly as many keys sign as the policy requires";
    WRONG_CHAIN = -32035, "wrong_chain", false, "chain_status gives the chain id to sign for";
    EXPIRES_TOO_LATE = -32036, "expires_too_late", false, "choose expires_ms within the replay window of chain_params";
    CONFLICT = -32037, "conflict", false, "read the current state and decide again";
    DELEGATION_MISSING = -32038, "delegation_missing", false, "the message names what was lacking: the principal grants it, or its owner an agent's mandate; delegation_get and identity_get show what there is";
    NOT_FOUND = -32040, "not_found", false, "check the name; only what is final, or pending on this node, is found here";
    PRUNED = -32041, "pruned", false, "ask a node that keeps the whole history";
    FUTURE_HEIGHT = -32042, "future_height", true, "wait until the chain gets there; `latest` is the last final block";
    SECRET_MATERIAL = -32060, "secret_material_rejected", false, "treat the key as stolen: rotate it, and send signatures only";
    INVALID_PARAMS = -32602, "invalid_params", false, "GET /openrpc.json describes every method";
    PARSE_ERROR = -32700, "parse_error", false, "send one JSON-RPC 2.0 object, or an array of them";
    INVALID_REQUEST = -32600, "invalid_request", false, "for instance {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"chain_status\",\"params\":{}}";
    UNKNOWN_METHOD = -32601, "method_not_found", false, "rpc.discover lists every method";
    CALL_TIMEOUT = -32025, "call_timeout", true, "try again later, or another node";
    TOO_MANY_SUBSCRIPTIONS = -32026, "too_many_subscriptions", true, "end one with its unsubscribe method, or open another connection";
    INTERNAL = -32603, "internal", true, "try again; if it stays, report it with the time of the call";
}

impl Fault {
    /// An invalid parameter, without a hint of its own.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidParams { reason: reason.into(), hint: None }
    }

    /// Our own fault; `reason` goes to the log only.
    pub fn internal(reason: impl ToString) -> Self {
        Self::Internal { reason: reason.to_string() }
    }

    /// Nothing of that name.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// Its entry in the catalogue.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::NotReady { .. } => NOT_READY,
            Self::MempoolFull { .. } => MEMPOOL_FULL,
            Self::RateLimited { .. } => RATE_LIMITED,
            Self::Unauthorized { .. } => UNAUTHORIZED,
            Self::TimeoutNotFinal { .. } => TIMEOUT_NOT_FINAL,
            Self::InvalidSignature { .. } => INVALID_SIGNATURE,
            Self::AlreadyExpired { .. } => ALREADY_EXPIRED,
            Self::UnknownIdentity { .. } => UNKNOWN_IDENTITY,
            Self::KeyRevoked { .. } => KEY_REVOKED,
            Self::ThresholdNotMet { .. } => THRESHOLD_NOT_MET,
            Self::WrongChain { .. } => WRONG_CHAIN,
            Self::ExpiresTooLate { .. } => EXPIRES_TOO_LATE,
            Self::Conflict { .. } => CONFLICT,
            Self::DelegationMissing { .. } => DELEGATION_MISSING,
            Self::NotFound { .. } => NOT_FOUND,
            Self::Pruned { .. } => PRUNED,
            Self::FutureHeight { .. } => FUTURE_HEIGHT,
            Self::SecretMaterial => SECRET_MATERIAL,
            Self::InvalidParams { .. } => INVALID_PARAMS,
            Self::ParseError { .. } => PARSE_ERROR,
            Self::InvalidRequest { .. } | Self::NeedsWebSocket { .. } => INVALID_REQUEST,
            Self::TooManySubscriptions => TOO_MANY_SUBSCRIPTIONS,
            Self::UnknownMethod { .. } => UNKNOWN_METHOD,
            Self::CallTimeout { .. } => CALL_TIMEOUT,
            Self::Internal { .. } => INTERNAL,
        }
    }

    /// `data` of the JSON-RPC error: kind, retryable, hint, and the case's own facts.
    pub fn data(&self) -> Value {
        let kind = self.kind();
        let mut data = match self.facts() {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        data.insert("kind".into(), kind.kind.into());
        data.insert("retryable".into(), kind.retryable.into());
        let hint = match self {
            Self::InvalidParams { hint: Some(hint), .. } | Self::UnknownMethod { hint: Some(hint), .. } => {
                hint
            }
            Self::NeedsWebSocket { .. } => NEEDS_WEBSOCKET_HINT,
            _ => kind.hint,
        };
        data.insert("hint".into(), hint.into());
        Value::Object(data)
    }

    /// The error object of a JSON-RPC answer: `{code, message, data}`.
    pub fn to_json(&self) -> Value {
        json!({ "code": self.kind().code, "message": self.to_string(), "data": self.data() })
    }

    fn facts(&self) -> Value {
        match self {
            Self::NotReady { retry_after_ms, .. }
            | Self::MempoolFull { retry_after_ms, .. }
            | Self::RateLimited { retry_after_ms } => json!({ "retry_after_ms": retry_after_ms }),
            Self::TimeoutNotFinal { tx_id, proof_ids, waited_ms } => json!({
                "tx_id": tx_id.to_string(),
                "proof_id": proof_ids.first().map(ToString::to_string),
                "proof_ids": proof_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "waited_ms": waited_ms,
                "retry_after_ms": 1_000,
            }),
            Self::AlreadyExpired { expires_ms, now_ms } => {
                json!({ "expires_ms": expires_ms, "now_ms": now_ms })
            }
            Self::UnknownIdentity { address, .. } => json!({ "address": address.to_string() }),
            Self::KeyRevoked { address, index, .. } => {
                json!({ "address": address.to_string(), "key_index": index })
            }
            Self::ThresholdNotMet { have, need } => json!({ "have": have, "need": need }),
            Self::WrongChain { got, expected } => {
                json!({ "got": got.to_string(), "expected": expected.to_string() })
            }
            Self::ExpiresTooLate { expires_ms, latest_ms } => {
                json!({ "expires_ms": expires_ms, "latest_ms": latest_ms })
            }
            Self::DelegationMissing { sender, principal, .. } => {
                json!({ "sender": sender.to_string(), "principal": principal.to_string() })
            }
            Self::Pruned { earliest, .. } => json!({ "earliest": earliest.get() }),
            Self::FutureHeight { asked, latest } => {
                json!({ "asked": asked.get(), "latest": latest.get() })
            }
            Self::CallTimeout { waited_ms } => json!({ "waited_ms": waited_ms }),
            _ => Value::Null,
        }
    }
}

impl From<&Fault> for jsonrpsee::types::ErrorObjectOwned {
    fn from(fault: &Fault) -> Self {
        Self::owned(fault.kind().code, fault.to_string(), Some(fault.data()))
    }
}
