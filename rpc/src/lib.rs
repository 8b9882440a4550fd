//! Cairn's interfaces: JSON-RPC over POST and WebSocket, plain GET endpoints, server-sent events, gRPC,
//! Prometheus and a small web page, all over one [`Backend`] trait that the node implements.
//!
//! This crate knows the chain's types and nothing of storage, peers or signature schemes. It is the
//! only place where the API's JSON is written or read.

pub mod backend;
mod bind;
pub mod config;
pub mod fault;
mod metrics;
mod server;

pub use backend::{
    Activity, Answer, At, Backend, FinalBlock, FinalTx, MempoolInfo, NetInfo, NodeAbout, NodeStatus,
    ParamsAt, PeerInfo, ReadyCheck, ReceiptForm, RecordFilter, RecordKey, RecordPage, SubmitState, Submitted,
    Trust, TxLookup, ValidatorsAt, Verdict, VerdictCheck,
};
pub use config::{RpcConfig, ServeError};
pub use fault::{Fault, FaultKind};
pub use metrics::{RpcMetrics, serve_metrics};
pub use server::{Bound, serve};
