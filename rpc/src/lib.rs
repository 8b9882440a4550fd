//! Cairn's interfaces: JSON-RPC over POST and WebSocket, plain GET endpoints, server-sent events, gRPC,
//! Prometheus and a small web page, all over one [`Backend`] trait that the node implements.
//!
//! This crate knows the chain's types and nothing of storage, peers or signature schemes. It is the
//! only place where the API's JSON is written or read.

mod accept;
mod args;
pub mod backend;
mod bind;
mod calls;
pub mod config;
mod connections;
mod context;
mod control_json;
pub mod docs;
mod envelope;
mod events;
pub mod fault;
mod feed;
mod gate;
mod governance_json;
mod grpc;
mod grpc_port;
mod guard;
mod http;
mod identity_backend;
mod identity_json;
mod json;
mod method;
mod methods;
mod metrics;
mod module;
mod page;
mod secret;
mod server;
mod suggest;
mod txjson;
mod websocket;

/// The gRPC messages, client and server, as generated from `proto/cairn.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod proto {
    tonic::include_proto!("cairn.v1");
}

pub use backend::{
    Activity, AnchorLog, Answer, At, Backend, FinalBlock, FinalTx, LogCheckpoint, MempoolInfo, Motions,
    NetInfo, NodeAbout, NodeStatus, ParamsAt, PeerInfo, ReadyCheck, ReceiptForm, RecordFilter, RecordKey,
    RecordPage, StoredBlock, SubmitState, Submitted, Trust, TxLookup, ValidatorsAt, Verdict, VerdictCheck,
};
pub use config::{RpcConfig, ServeError};
pub use fault::{Fault, FaultKind};
pub use identity_backend::{IdentityBackend, PageOf, PageRequest};
pub use metrics::{RpcMetrics, serve_metrics};
pub use server::{Bound, serve};
pub use txjson::read_payload;
