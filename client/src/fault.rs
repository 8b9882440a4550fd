//! What can go wrong.

use std::io;
use std::path::PathBuf;

use cairn_types::{ProofId, TxId};
use serde_json::Value;
use thiserror::Error;

/// An error that a node answered with.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{message} ({kind}, {code}, from {url}){}", if hint.is_empty() { String::new() } else { format!("; {hint}") })]
pub struct RpcError {
    /// The node.
    pub url: String,
    /// The JSON-RPC error code.
    pub code: i64,
    /// The name of the error, for instance `mempool_full`; empty when the node gave none.
    pub kind: String,
    /// What was wrong and what was expected.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// How long to wait before that, when the node said so.
    pub retry_after_ms: Option<u64>,
    /// All of the error's `data`.
    pub data: Value,
}

/// Why the client has no result.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ClientFault {
    #[error("{0}")]
    Rpc(Box<RpcError>),
    #[error("the chain refuses it, and nothing of it was anchored: {0}")]
    Refused(Box<RpcError>),
    #[error(
        "{fault}; it was not anchored by now, and is set aside in {path}: of use only should an earlier sending have been taken after all"
    )]
    SetAside { path: PathBuf, fault: Box<RpcError> },
    #[error("no node address given; expected at least one, for instance http://127.0.0.1:26657")]
    NoNodes,
    #[error("`{url}` is no node address: {why}; expected for instance http://127.0.0.1:26657")]
    BadUrl { url: String, why: String },
    #[error("{url} does not answer: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} gave an answer to {method} that is not understood: {why}")]
    BadAnswer { url: String, method: String, why: String },
    #[error("the receipt that {url} gave is refused, check `{check}`: {detail}")]
    ReceiptRefused { url: String, check: String, detail: String },
    #[error(
        "the proof {proof_id} (transaction {tx_id}) was accepted and is not final after {waited_ms} ms; it may still become final, and anchoring it again is harmless"
    )]
    NotFinal { proof_id: ProofId, tx_id: TxId, waited_ms: u64 },
    #[error("no genesis was given, so nothing a node says can be verified; give the chain's genesis file")]
    NoGenesis,
    #[error("no key was given to sign with")]
    NoKey,
    #[error("the genesis has no usable validator set: {why}")]
    BadGenesis { why: String },
    #[error("a batch needs at least one item")]
    EmptyBatch,
    #[error("{got} salts for {items} items; expected one each or none")]
    SaltCount { got: usize, items: usize },
    #[error("there is no leaf {index} in a batch of {leaves}")]
    NoLeaf { index: u64, leaves: u64 },
    #[error("the batch has root {got}, what was anchored has {expected}")]
    OtherBatch { got: cairn_types::Hash, expected: cairn_types::Hash },
    #[error("{path} is no pending batch of this client: {why}")]
    BadPending { path: PathBuf, why: String },
    #[error("the pending batch is for chain {got}, the genesis given is of chain {expected}")]
    OtherChain { got: cairn_types::ChainId, expected: cairn_types::ChainId },
    #[error("the pending batch is of sender {got}, the key given is of {expected}")]
    OtherSender { got: cairn_types::Address, expected: cairn_types::Address },
    #[error("the bundle: {0}")]
    Bundle(#[from] cairn_receipt::BundleFault),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness: {why}")]
    NoRandomness { why: String },
}

impl ClientFault {
    /// Whether trying the same again, perhaps on another node, may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rpc(error) | Self::Refused(error) => error.retryable,
            Self::Unreachable { .. } | Self::BadAnswer { .. } | Self::NotFinal { .. } => true,
            _ => false,
        }
    }

    /// The node's error, when it answered with one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc(error) | Self::Refused(error) | Self::SetAside { fault: error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the node said by this that it did not take what it was sent. An answer that never came, or of a call
    /// that was given up or failed inside the node, says nothing.
    pub(crate) fn says_not_taken(&self) -> bool {
        const SAY_NOTHING: [&str; 4] = ["", "timeout_not_final", "call_timeout", "internal"];
        self.rpc().is_some_and(|error| !SAY_NOTHING.contains(&error.kind.as_str()))
    }

    /// The same fault, said of something that no node has taken.
    pub(crate) fn for_good(self) -> Self {
        match self {
            Self::Rpc(error) => Self::Refused(error),
            other => other,
        }
    }

    /// Whether the node answered with the error of this name.
    pub fn is_kind(&self, kind: &str) -> bool {
        self.rpc().is_some_and(|error| error.kind == kind)
    }
}

/// Names the file an I/O error is about.
pub(crate) fn io_fault(path: &std::path::Path) -> impl FnOnce(io::Error) -> ClientFault + '_ {
    |source| ClientFault::Io { path: path.to_owned(), source }
}
